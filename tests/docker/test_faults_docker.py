"""The doctor on real containers and engines: what can be wrong with them is done to them, seen, and mended.

Most faults happen to one stack, and each test leaves it well. What no engine here can be, and what needs none, is in
`tests/functional/test_faults_docker_absent.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.checks import CHECKS
from tests.conftest import Cli, DebianPostgres
from tests.docker.conftest import STANDIN_IMAGE
from tests.docker.registry import Registry, docker
from tests.docker.stacks import (
    DATABASE,
    ENGINE,
    bridge,
    bridge_of_ones_own,
    container_of,
    inspect,
    lift,
    project_of,
    state_of,
    wait_for,
)
from tests.docker.test_find_docker import programs
from tests.docker.test_hatchet_only import admit
from tests.docker.test_stack_faults import Engine
from tests.faults import Patient
from tests.ports import free_port

NewProject = Callable[..., Cli]
NewServer = Callable[..., DebianPostgres]
AS_ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]
ABSENT = "owlclaw-up-test/nobody-has-it:1"
# What is looked at again once it is mended; all checks are looked at while all is well.
OURS = tuple(c.id for c in CHECKS if c.family in ("docker", "container") or c.id == "postgres.from-container")


@pytest.fixture(scope="module")
def patient(docker_module_project: NewProject) -> Patient:
    """A stack of both containers that stands."""
    # What is mended needs no proof each time.
    cli = docker_module_project(OWLCLAW_UP_SMOKE="none")
    lift(cli, "--mode", "full")
    return Patient(cli)


@pytest.fixture(scope="module")
def fresh(docker_module_project: NewProject) -> Patient:
    """A project before its first `up`."""
    return Patient(docker_module_project())


@contextlib.contextmanager
def image_for(architecture: str) -> Iterator[str]:
    """An image of one empty layer that says it is for some architecture; gone at the end."""
    name, layer = f"owlclaw-up-test/for-{architecture}:1", io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w"):
        pass
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = {
        "architecture": architecture, "os": "linux", "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }  # fmt: skip
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {
        "layer.tar": layer.getvalue(), "config.json": json.dumps(config).encode(),
        "manifest.json": json.dumps(manifest).encode(),
    }  # fmt: skip
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for file, data in files.items():
            entry = tarfile.TarInfo(file)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    subprocess.run(["docker", "load", "--quiet"], input=archive.getvalue(), check=True, capture_output=True)
    try:
        yield name
    finally:
        docker("rmi", name)


def causes(patient: Patient) -> dict[str, str]:
    """Of the last look: what follows from what."""
    assert patient.last is not None
    return {f.id: f.cause for f in patient.last.findings if f.cause}


def levels(patient: Patient) -> dict[str, str]:
    """Of the last look: the level of what was found, by id."""
    assert patient.last is not None
    return {f.id: f.level for f in patient.last.findings}


def test_a_stack_that_is_well(patient: Patient) -> None:
    assert patient.well(), patient.bad()
    said = {name: level for name, level in levels(patient).items() if name.startswith(("docker.", "container."))}
    assert set(said.values()) == {"ok"}
    assert {"docker.running", "docker.storage", "container.missing", "container.exposed"} <= said.keys()


class TestContainers:
    def test_gone(self, patient: Patient) -> None:
        docker("rm", "-f", container_of(patient.cli, ENGINE))
        finding = patient.first()
        assert (finding.id, finding.level, finding.command) == ("container.missing", "fail", "owlclaw-up")
        assert finding.title == f"the container of {ENGINE} is gone"
        assert project_of(patient.cli) in finding.detail
        assert causes(patient)["engine.running"] == "container.missing"
        patient.mend()
        assert patient.well(*OURS), patient.bad()

    def test_stopped(self, patient: Patient) -> None:
        name = container_of(patient.cli, DATABASE)
        docker("stop", "-t", "1", name)
        finding = patient.first()
        assert (finding.id, finding.level, finding.command) == ("container.stopped", "fail", "owlclaw-up")
        assert finding.title == f"container {name} is stopped"
        assert finding.detail == "it ended with exit code 0"
        assert set(causes(patient).values()) == {"container.stopped"}
        patient.mend()
        assert patient.well(*OURS), patient.bad()

    def test_paused(self, patient: Patient) -> None:
        name = container_of(patient.cli, ENGINE)
        docker("pause", name)
        finding = patient.finding("container.stopped")
        assert (finding.level, finding.title) == ("fail", f"container {name} is paused")
        docker("unpause", name)
        assert patient.well(*OURS), patient.bad()

    def test_in_a_crash_loop(self, patient: Patient, tmp_path: Path) -> None:
        name = container_of(patient.cli, ENGINE)
        for said, known, command in (
            ("the moon is in the wrong house", "", f"docker logs {name}"),
            ("primary database instance timezone is set to 'Europe/Berlin' but must be 'UTC'",
             ": its database session has timezone Europe/Berlin, not UTC", "owlclaw-up"),
        ):  # fmt: skip
            for file, text in (("fault", "lite.exit-at-start"), ("fault-text", said)):
                (tmp_path / file).write_text(text)
                docker("cp", str(tmp_path / file), f"{name}:/standin/{file}")
            docker("restart", "-t", "1", name)
            wait_for("a start by Docker", lambda: inspect(name)["RestartCount"])
            # While Docker starts it once more, its last words are those of a start like any other.
            finding = patient.finding("container.restarts")
            end = time.monotonic() + 30
            while said not in finding.detail and time.monotonic() < end:
                finding = patient.finding("container.restarts")
            assert (finding.level, finding.title) == ("fail", f"container {name} ends again and again{known}")
            assert said in finding.detail
            assert finding.command == command
            assert "container.stopped" not in patient.bad()
        # A container that is made anew has not what was put into this one.
        docker("rm", "-f", name)
        patient.mend()
        assert patient.well(*OURS), patient.bad()

    def test_killed_for_want_of_memory(self, patient: Patient) -> None:
        name = container_of(patient.cli, ENGINE)
        docker("stop", "-t", "1", name)
        docker("update", "--memory", "12m", "--memory-swap", "12m", name)
        docker("start", name)
        wait_for("a kill for want of memory", lambda: inspect(name)["State"]["OOMKilled"])
        finding = patient.first()
        assert (finding.id, finding.level) == ("container.out-of-memory", "fail")
        assert finding.title == f"container {name} was killed for want of memory"
        assert "it may have 12 MiB" in finding.detail
        assert finding.command == f"docker rm -f {name} && owlclaw-up"
        assert not {"container.stopped", "container.restarts"} & patient.bad().keys()
        docker("rm", "-f", name)
        patient.mend()
        assert patient.well(*OURS), patient.bad()

    def test_open_to_other_machines(self, patient: Patient) -> None:
        name, project = container_of(patient.cli, DATABASE), project_of(patient.cli)
        file = patient.cli.root / ".owlclaw-up/deploy/docker-compose.lite.yml"
        file.write_text(file.read_text().replace("127.0.0.1:$", "$"))
        given = dict(pair.split("=", 1) for pair in inspect(name)["Config"]["Env"])
        port = patient.cli.env["OWLCLAW_UP_POSTGRES_PORT"]
        subprocess.run(
            ["docker", "compose", "-p", project, "-f", str(file), "up", "-d", DATABASE], check=True, capture_output=True,
            env={**os.environ, **{k: v for k, v in given.items() if k.startswith("LITE_")}, "LITE_POSTGRES_PASSWORD":
                 given["POSTGRES_PASSWORD"], "OWLCLAW_UP_POSTGRES_PORT": port,
                 "OWLCLAW_UP_POSTGRES_IMAGE": inspect(name)["Config"]["Image"]},
        )  # fmt: skip
        finding = patient.finding("container.exposed")
        assert (finding.level, finding.command) == ("warn", "owlclaw-up")
        assert finding.title == f"container {name} is reachable from other machines: port {port} on 0.0.0.0"
        patient.mend()
        assert patient.well(*OURS), patient.bad()


class TestEngine:
    """What is wrong with the Docker engine, with its images, or with what is said to it."""

    def test_a_platform_that_is_another_machine_s(self, patient: Patient) -> None:
        finding = patient.first(env={"DOCKER_DEFAULT_PLATFORM": "linux/s390x"})
        assert (finding.id, finding.level) == ("docker.platform", "warn")
        assert finding.command == "unset DOCKER_DEFAULT_PLATFORM"
        assert "linux/s390x" in finding.title

    def test_an_image_that_may_not_be_pulled(self, fresh: Patient) -> None:
        how: dict[str, Any] = {"mode": "full", "offline": "true", "postgres_image": ABSENT}
        finding = fresh.first(**how)
        assert (finding.id, finding.level) == ("docker.images", "fail")
        assert finding.title == f"image {ABSENT} is not on this machine, and offline pulls nothing"
        assert finding.command == f"docker pull {ABSENT}"
        assert causes(fresh)["environment.mode"] == "docker.images"

    def test_an_image_for_another_machine(self, fresh: Patient) -> None:
        with image_for("s390x") as name:
            finding = fresh.first(mode="full", hatchet_image=name)
            assert (finding.id, finding.level) == ("docker.images", "fail")
            assert f"image {name} is for s390x" in finding.title
            assert finding.command.startswith("docker pull --platform linux/") and finding.command.endswith(name)

    def test_a_credential_helper_that_is_not_there(self, patient: Patient) -> None:
        file = patient.cli.root.parent / ".docker/config.json"
        file.parent.mkdir()
        try:
            file.write_text(json.dumps({"credsStore": "of-nobody"}))
            finding = patient.first()
            assert (finding.id, finding.level) == ("docker.login", "warn")
            assert "docker-credential-of-nobody" in finding.title and str(file) in finding.detail
            assert finding.hint == f"take credsStore out of {file}, or install docker-credential-of-nobody"
            # A wanted image that has to come is in the way.
            finding = patient.finding("docker.login", postgres_image=ABSENT)
            assert finding.level == "fail" and ABSENT in finding.detail

            file.write_text(json.dumps({"credHelpers": {"registry.example": "of-nobody"}}))
            assert patient.finding("docker.login").level == "ok"
            assert patient.finding("docker.login", postgres_image="registry.example/pg:1").level == "fail"

            file.write_text(json.dumps({"auths": {"ghcr.io": {"auth": "c2VjcmV0LXdvcmQ6cHc="}}}))
            assert patient.well()
            finding = patient.finding("docker.login", hatchet_image="ghcr.io/nobody/has-it:1")
            assert (finding.level, finding.hint) == ("info", "if the pull is refused: docker logout ghcr.io")
        finally:
            shutil.rmtree(file.parent)

    def test_a_mirror_that_does_not_serve(self, patient: Patient, registry: Registry) -> None:
        place = f"127.0.0.1:{free_port()}"
        how = {"env": {"OWLCLAW_UP_REGISTRY_MIRROR": place}}
        finding = patient.first(**how)
        assert (finding.id, finding.level) == ("docker.mirror", "warn")
        assert finding.title == f"the registry mirror {place} does not serve: nobody listens on {place}"
        assert finding.command == "unset OWLCLAW_UP_REGISTRY_MIRROR"
        assert patient.finding("docker.mirror", postgres_image=ABSENT, **how).level == "fail"
        page = f"127.0.0.1:{patient.cli.env['OWLCLAW_UP_DASHBOARD_PORT']}"
        assert "no image registry" in patient.finding("docker.mirror", registry_mirror=page).title
        assert patient.finding("docker.mirror", registry_mirror=registry.address).level == "ok"

    def test_a_compose_that_went_away(self, patient: Patient, tmp_path: Path) -> None:
        finding = patient.first(env={"PATH": programs(tmp_path / "bin")})
        assert (finding.id, finding.level) == ("docker.compose", "fail")
        assert finding.title.endswith(", and compose v2 is missing")
        assert "docker-compose" in finding.hint


@pytest.fixture(scope="module")
def small_engine(need_docker: None) -> Iterator[Engine]:
    """A second Docker engine, whose data lies on a disk of next to nothing."""
    folder = Path(tempfile.mkdtemp(prefix="owlclaw-engine-"))
    data = folder / "data"
    data.mkdir()
    subprocess.run([*AS_ROOT, "mount", "-t", "tmpfs", "-o", "size=64m", "none", str(data)], check=True)
    try:
        with bridge_of_ones_own() as name:
            engine = Engine(folder, name)
            try:
                engine.start()
                yield engine
            finally:
                engine.stop()
    finally:
        subprocess.run([*AS_ROOT, "umount", str(data)], check=True)
        subprocess.run([*AS_ROOT, "rm", "-rf", str(folder)], check=True)


class TestAnotherEngine:
    def test_one_whose_disk_is_full(self, fresh: Patient, small_engine: Engine) -> None:
        finding = fresh.first(mode="full", env={"DOCKER_HOST": small_engine.address})
        assert (finding.id, finding.level, finding.command) == ("docker.storage", "fail", "docker system df")
        assert "MiB are left on the Docker engine's disk" in finding.title
        assert str(small_engine.folder / "data") in finding.detail and STANDIN_IMAGE in finding.detail

    def test_one_that_has_not_our_containers(self, patient: Patient, small_engine: Engine) -> None:
        kept = patient.cli.state["data"]["compose"]["address"]
        finding = patient.first(env={"DOCKER_HOST": small_engine.address})
        assert (finding.id, finding.level) == ("docker.context", "fail")
        assert kept in finding.detail and small_engine.address in finding.detail
        assert finding.command == f"export DOCKER_HOST={kept}"
        assert causes(patient)["container.missing"] == "docker.context"


class TestNoEngine:
    """The usual sockets are not there: in a mount namespace of the command's own, with nothing in /run."""

    def look(self, cli: Cli, **env: str) -> dict[str, Any]:
        pairs = [f"{k}={v}" for k, v in {**cli.env, "OWLCLAW_UP_MODE": "full", **env}.items() if k != "DOCKER_HOST"]
        command = 'mount -t tmpfs none /run && exec "$0" -m owlclaw_up doctor --json'
        # The command's own PATH may be without all this.
        unshare, shell, mount = (
            str(shutil.which(p, path="/usr/bin:/bin:/usr/sbin")) for p in ("unshare", "sh", "mount")
        )
        ran = subprocess.run(
            [*AS_ROOT, unshare, "--mount", "/usr/bin/env", "-i", *pairs, shell, "-c", command.replace("mount", mount, 1),
             sys.executable],
            cwd=cli.root, text=True, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert ran.returncode == 1, ran.stderr
        document: dict[str, Any] = json.loads(ran.stdout)
        finding: dict[str, Any] = document["findings"][0]
        return finding

    def test_one_that_is_stopped(self, fresh: Patient) -> None:
        finding = self.look(fresh.cli)
        assert (finding["id"], finding["level"]) == ("docker.running", "fail")
        assert finding["title"] == "Docker is installed, and its engine is not running"
        assert finding["command"] == "sudo systemctl start docker"

    def test_none_is_installed(self, fresh: Patient, tmp_path: Path) -> None:
        finding = self.look(fresh.cli, PATH=str(tmp_path))
        assert (finding["id"], finding["level"]) == ("docker.installed", "fail")
        assert finding["title"] == "Docker is not installed"
        assert "sudo apt-get install docker.io docker-compose-v2" in finding["hint"]


def test_a_server_that_lets_the_container_in_no_more(docker_project: NewProject, debian_postgres: NewServer) -> None:
    gateway, subnet = bridge()
    server = debian_postgres(listen_addresses=f"127.0.0.1,{gateway}")
    at_home = "host all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 scram-sha-256\n"
    admit(server, f"{at_home}host hatchet hatchet {subnet} scram-sha-256\n")
    cli = docker_project(OWLCLAW_UP_SMOKE="none")
    lift(cli, "--admin-url", server.url())
    patient = Patient(cli)
    assert patient.well(), patient.bad()
    assert levels(patient)["postgres.from-container"] == "ok"

    admit(server, at_home)
    server.sql("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'hatchet'")
    finding = patient.finding("postgres.from-container")
    assert (finding.level, finding.command) == ("fail", "owlclaw-up")
    assert "host.docker.internal" in finding.title and "and this machine does" in finding.title
    assert "no pg_hba.conf entry" in finding.detail
    assert f"host hatchet hatchet {subnet} scram-sha-256" in finding.hint
    assert state_of(container_of(cli, ENGINE)) in ("running", "restarting")
    # Over this machine's own network, of which the reader is told.
    patient.mend()
    assert patient.well(*OURS), patient.bad()
    assert levels(patient)["container.exposed"] == "info"
