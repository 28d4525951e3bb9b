"""Where a Docker engine is looked for, and in which order; which addresses are this machine's."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.host.base import Ran
from owlclaw_up.host.docker_base import Compose
from owlclaw_up.host.docker_engines import _none_answers, candidates, current_context, find_compose, look
from owlclaw_up.model import Unknown
from tests.unit.fakes import FakeProcesses

Contexts = Callable[..., dict[str, str]]


@pytest.fixture
def contexts(tmp_path: Path) -> Contexts:
    """A user whose Docker configuration has contexts; gives that user's environment."""

    def make(current: str | None = None, **addresses: Any) -> dict[str, str]:
        folder = tmp_path / ".docker"
        for number, (name, address) in enumerate(addresses.items()):
            meta = folder / f"contexts/meta/{number:064d}/meta.json"
            meta.parent.mkdir(parents=True)
            document = {"Name": name, "Endpoints": {"docker": {"Host": address}}} if address else {"Name": name}
            meta.write_text(json.dumps(document))
        folder.mkdir(exist_ok=True)
        if current is not None:
            (folder / "config.json").write_text(json.dumps({"auths": {}, "currentContext": current}))
        return {"HOME": str(tmp_path)}

    return make


class TestContext:
    def test_none(self, contexts: Contexts) -> None:
        assert current_context({}) == ("", "")
        assert current_context(contexts()) == ("", "")
        assert current_context(contexts("default")) == ("", "")

    def test_the_current_one(self, contexts: Contexts) -> None:
        environ = contexts("colima", desktop="unix:///d.sock", colima="unix:///c.sock")
        assert current_context(environ) == ("colima", "unix:///c.sock")

    def test_the_environment_comes_first(self, contexts: Contexts) -> None:
        environ = contexts("colima", desktop="unix:///d.sock", colima="unix:///c.sock")
        assert current_context({**environ, "DOCKER_CONTEXT": "desktop"}) == ("desktop", "unix:///d.sock")
        assert current_context({**environ, "DOCKER_CONTEXT": "default"}) == ("", "")

    def test_another_folder(self, contexts: Contexts, tmp_path: Path) -> None:
        contexts("colima", colima="unix:///c.sock")
        environ = {"HOME": "/nonexistent", "DOCKER_CONFIG": str(tmp_path / ".docker")}
        assert current_context(environ) == ("colima", "unix:///c.sock")

    def test_one_that_is_not_there_or_says_no_address(self, contexts: Contexts) -> None:
        environ = contexts("gone", kube=None)
        assert current_context(environ) == ("gone", "")
        assert current_context({**environ, "DOCKER_CONTEXT": "kube"}) == ("kube", "")

    @pytest.mark.parametrize("text", ["", "no JSON", "[]", "null", '"text"'])
    def test_a_damaged_configuration(self, contexts: Contexts, tmp_path: Path, text: str) -> None:
        environ = contexts("colima", colima="unix:///c.sock")
        (tmp_path / ".docker/config.json").write_text(text)
        assert current_context(environ) == ("", "")
        (tmp_path / ".docker/contexts/meta" / f"{0:064d}" / "meta.json").write_text(text)
        assert current_context({**environ, "DOCKER_CONTEXT": "colima"}) == ("colima", "")


class TestCandidates:
    def test_their_order(self, contexts: Contexts, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        environ = {**contexts("mine", mine="unix:///m.sock"), "XDG_RUNTIME_DIR": "/run/user/1000"}
        home = environ["HOME"]
        assert [(each.address, each.source) for each in candidates(environ)] == [
            ("unix:///m.sock", "context mine"),
            ("unix:///var/run/docker.sock", "the system's engine"),
            ("unix:///run/user/1000/docker.sock", "the rootless engine"),
            (f"unix://{home}/.docker/run/docker.sock", "Docker Desktop"),
            (f"unix://{home}/.docker/desktop/docker.sock", "Docker Desktop"),
            (f"unix://{home}/.colima/default/docker.sock", "Colima"),
            (f"unix://{home}/.orbstack/run/docker.sock", "OrbStack"),
            (f"unix://{home}/.rd/docker.sock", "Rancher Desktop"),
            ("unix:///run/user/1000/podman/podman.sock", "Podman"),
            ("unix:///run/podman/podman.sock", "Podman"),
        ]

    def test_windows_has_one(self, contexts: Contexts, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "win32")
        environ = contexts("desktop-linux", **{"desktop-linux": "npipe:////./pipe/dockerDesktopLinuxEngine"})
        assert [each.address for each in candidates(environ)] == [
            "npipe:////./pipe/dockerDesktopLinuxEngine",
            "npipe:////./pipe/docker_engine",
        ]

    @pytest.mark.parametrize("address", ["ssh://me@build.test", "tcp://10.0.0.7:2375", "https://build.test:2376"])
    def test_a_context_of_another_machine_is_none(self, contexts: Contexts, address: str) -> None:
        environ = contexts("far", far=address)
        assert address not in [each.address for each in candidates(environ)]

    @pytest.mark.parametrize("address", ["tcp://127.0.0.1:2375", "tcp://[::1]:2375", "tcp://localhost:2375"])
    def test_a_port_of_this_machine_is_one(self, contexts: Contexts, address: str) -> None:
        assert candidates(contexts("near", near=address))[0].address == address

    @pytest.mark.parametrize(
        ("address", "host"),
        [
            ("tcp://10.0.0.7:2375", "10.0.0.7"),
            ("ssh://me@build.test", "build.test"),
            ("docker:2375", "docker"),
            ("tcp://docker:2375", "docker"),
        ],
    )
    def test_docker_host_on_another_machine_is_named(self, address: str, host: str) -> None:
        looked = look({"DOCKER_HOST": address}, FakeProcesses())
        assert isinstance(looked, Unknown)
        assert f"another machine ({host})" in looked.why
        assert looked.hint == "unset DOCKER_HOST"


class TestCompose:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        for name in ("docker", "docker-compose"):
            (tmp_path / name).touch(0o755)
        return tmp_path

    @pytest.mark.parametrize(
        ("plugin", "alone", "found"),
        [
            ("2.26.1-4", 1, "2.26.1-4"),
            ("v2.40.3", 1, "2.40.3"),
            ("5.0.1", 1, "5.0.1"),
            ("2.3.0", "2.40.3", "2.3.0"),
            (1, "2.29.1", "2.29.1"),
            ("2.2.3", "2.29.1", "2.29.1"),
            (1, 1, "compose v2 is missing"),
            (1, "1.29.2", "its compose is 1.29.2: version 1 is not enough"),
            ("2.2.3", 1, "its compose is 2.2.3: 2.3 or newer is needed"),
            ("Docker Compose version unknown", 1, "compose v2 is missing"),
            ("", "", "compose v2 is missing"),
        ],
    )
    def test_the_first_that_is_new_enough(self, path: Path, plugin: str | int, alone: str | int, found: str) -> None:
        processes = FakeProcesses({str(path / "docker"): plugin, str(path / "docker-compose"): alone})
        compose = find_compose({"PATH": str(path)}, processes)
        assert (compose.version if isinstance(compose, Compose) else compose) == found

    def test_how_it_is_called(self, path: Path) -> None:
        def docker(argv: object) -> Ran:
            return Ran((), 0, "2.26.1\n", "", 0.1)

        processes = FakeProcesses({str(path / "docker"): docker, str(path / "docker-compose"): "2.40.3"})
        assert find_compose({"PATH": str(path)}, processes) == Compose((f"{path}/docker", "compose"), "2.26.1")
        assert processes.calls == [(f"{path}/docker", "compose", "version", "--short")]
        (path / "docker").unlink()
        assert find_compose({"PATH": str(path)}, processes) == Compose((f"{path}/docker-compose",), "2.40.3")

    def test_what_cannot_be_run_is_passed_over(self, path: Path) -> None:
        processes = FakeProcesses({str(path / "docker-compose"): "2.40.3"})
        assert find_compose({"PATH": str(path)}, processes) == Compose((f"{path}/docker-compose",), "2.40.3")


def test_a_context_on_another_machine_is_told_where_nobody_answers_here(contexts: Contexts) -> None:
    fact = _none_answers([], "", {**contexts("far", far="ssh://me@build.example.com"), "PATH": ""})
    assert isinstance(fact, Unknown)
    assert "the current context far is on another one (build.example.com)" in fact.why
    assert fact.hint.startswith("docker context use default")
