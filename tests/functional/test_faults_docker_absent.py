"""The doctor where no Docker engine can be driven, or where it is one that cannot be had here.

Rootless engines, Docker Desktop and engines of long ago answer by `fake_engine`, which says what they say.
"""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.docker.fake_engine import fake_engine
from tests.faults import Patient
from tests.functional.ordinary import ordinary_project

REACHED = (
    "docker.installed", "docker.running", "docker.permission", "docker.context", "docker.version", "docker.compose",
)  # fmt: skip


@pytest.fixture(scope="module")
def patient(new_module_cli: Callable[..., Cli], tmp_path_factory: pytest.TempPathFactory) -> Patient:
    """A project before its first `up`, with a compose at hand that only says its version."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "docker-compose").write_text("#!/bin/sh\necho 2.29.1\n")
    (folder / "docker-compose").chmod(0o755)
    return Patient(new_module_cli(PATH=str(folder), PGHOST="/nonexistent"))


@pytest.fixture
def silent_socket() -> Iterator[Path]:
    """A socket whose owner takes connections and says nothing."""
    folder = Path(tempfile.mkdtemp(prefix="owlclaw-"))
    folder.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        listener.listen(8)
        yield folder / "s"
    shutil.rmtree(folder)


def test_a_mode_that_needs_no_docker_hears_nothing_of_it(patient: Patient) -> None:
    said = {f.id: f.level for f in patient.look(mode="mock").findings}
    assert not {"fail", "warn"} & {level for name, level in said.items() if name.startswith("docker.")}
    # Where nothing better than mock can be had, Docker would be the way out.
    finding = patient.finding("docker.context")
    assert (finding.level, finding.cause) == ("info", "")


def test_docker_host_names_nobody(patient: Patient) -> None:
    finding = patient.first(mode="full")
    assert (finding.id, finding.level) == ("docker.context", "fail")
    assert finding.title == "DOCKER_HOST is unix:///nonexistent.sock, and there is no /nonexistent.sock"
    assert finding.command == "unset DOCKER_HOST"
    assert "start that engine" in finding.hint
    assert patient.finding("environment.mode", mode="full").cause == "docker.context"


def test_docker_host_names_another_machine(patient: Patient) -> None:
    finding = patient.first(mode="hatchet-only", env={"DOCKER_HOST": "tcp://192.0.2.1:2375"})
    assert (finding.id, finding.level, finding.command) == ("docker.context", "fail", "unset DOCKER_HOST")
    assert "another machine (192.0.2.1)" in finding.title


def test_an_engine_that_says_nothing(patient: Patient, silent_socket: Path) -> None:
    finding, *others = patient.look(mode="full", env={"DOCKER_HOST": f"unix://{silent_socket}"}).findings
    assert (finding.id, finding.level) == ("docker.running", "fail")
    assert finding.title.endswith("takes connections, and does not answer")
    assert finding.hint.startswith("restart that engine: ")
    assert {f.id: f.cause for f in others}["environment.mode"] == "docker.running"


def test_a_user_that_may_not_use_it(silent_socket: Path) -> None:
    silent_socket.chmod(0)
    with ordinary_project(DOCKER_HOST=f"unix://{silent_socket}", PGHOST="/nonexistent") as cli:
        document = cli.json("doctor", code=1, OWLCLAW_UP_MODE="full")
    finding = document["findings"][0]
    assert (finding["id"], finding["level"]) == ("docker.permission", "fail")
    assert finding["title"] == f"Docker runs, and this user may not use it: no permission on {silent_socket}"
    assert finding["command"] == "sudo usermod -aG docker $USER; newgrp docker"


def test_an_engine_that_is_too_old(patient: Patient) -> None:
    with fake_engine(version={"Version": "19.03.15", "ApiVersion": "1.40", "MinAPIVersion": "1.12"}) as address:
        finding = patient.first(mode="full", env={"DOCKER_HOST": address})
    assert (finding.id, finding.level) == ("docker.version", "fail")
    assert "Docker 19.03.15 answers" in finding.title and "20.10 or newer is needed" in finding.title
    assert finding.hint


@pytest.mark.parametrize(
    ("says", "fault"), [("exit 1", "compose v2 is missing"), ("echo 1.29.2", "its compose is 1.29.2")]
)
def test_a_compose_that_is_missing_or_too_old(patient: Patient, tmp_path: Path, says: str, fault: str) -> None:
    (tmp_path / "docker-compose").write_text(f"#!/bin/sh\n{says}\n")
    (tmp_path / "docker-compose").chmod(0o755)
    with fake_engine() as address:
        finding = patient.first(mode="full", env={"DOCKER_HOST": address, "PATH": str(tmp_path)})
    assert (finding.id, finding.level) == ("docker.compose", "fail")
    assert fault in finding.title
    assert "compose" in finding.hint


def test_an_engine_that_is_well(patient: Patient) -> None:
    with fake_engine() as address:
        levels = {f.id: f.level for f in patient.look(mode="full", env={"DOCKER_HOST": address}).findings}
    assert {levels[name] for name in REACHED} == {"ok"}
    assert not {"docker.rootless", "docker.file-sharing"} & levels.keys()


def test_a_rootless_engine(patient: Patient) -> None:
    options = ["name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"]
    with fake_engine(info={"SecurityOptions": options}) as address:
        finding = patient.finding("docker.rootless", mode="full", env={"DOCKER_HOST": address})
    assert (finding.level, finding.command) == ("info", "loginctl enable-linger")
    assert "rootless" in finding.title and "login session" in finding.detail


def test_docker_desktop_does_not_share_the_project(patient: Patient) -> None:
    settings = patient.cli.root.parent / ".docker/desktop/settings-store.json"
    settings.parent.mkdir(parents=True)
    with fake_engine(info={"Name": "docker-desktop", "OperatingSystem": "Docker Desktop"}) as address:
        # The home is shared where nothing else is said.
        how = {"DOCKER_HOST": address}
        assert patient.finding("docker.file-sharing", mode="full", env=how).level == "ok"
        settings.write_text(json.dumps({"FilesharingDirectories": ["/srv/elsewhere"]}))
        finding = patient.finding("docker.file-sharing", mode="full", env=how)
        assert (finding.level, finding.command) == ("fail", "")
        assert str(patient.cli.root) in finding.title
        assert "/srv/elsewhere" in finding.detail
        assert "File sharing" in finding.hint and "owlclaw-up --mode hatchet-only" in finding.hint
        # That mode mounts volumes alone.
        assert "docker.file-sharing" not in {f.id for f in patient.look(mode="hatchet-only", env=how).findings}
    settings.unlink()
