"""Which Docker engine and which compose are found, and what is said where there is none: the real command, real sockets."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli
from tests.docker.registry import docker
from tests.functional.ordinary import ordinary_project

Projects = Callable[..., Cli]
START = "sudo systemctl start docker"
VERSION = (
    docker("version", "--format", "{{.Server.Version}}", check=False).stdout.strip() if shutil.which("docker") else ""
)


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder for sockets; their paths may not be long."""
    folder = Path(tempfile.mkdtemp(prefix="owlclaw-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def cli(docker_project: Projects) -> Cli:
    """A project on a machine with Docker, where DOCKER_HOST names no engine."""
    made = docker_project()
    made.env.pop("DOCKER_HOST", None)
    return made


def engine_socket() -> Path:
    """The socket of the engine that these tests use."""
    address = docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}").stdout.strip()
    if not address.startswith("unix://"):
        pytest.skip(f"the Docker engine answers at {address}, which is no socket")
    return Path(address.removeprefix("unix://"))


def listening(path: Path) -> socket.socket:
    """Somebody who takes connections and says nothing."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(8)
    return listener


class _OldEngine(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        said = {"Version": "19.03.15", "ApiVersion": "1.40", "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64"}
        known = self.path.endswith("/version")
        body = json.dumps(said if known else {"message": "page not found"}).encode()
        self.send_response_only(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Of no interest."""


class _Stranger(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(4096)
        self.request.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


@pytest.fixture
def old_engine(sockets: Path) -> Iterator[Path]:
    """The socket of something that answers as Docker 19.03 does."""
    path = sockets / "old.sock"
    with socketserver.ThreadingUnixStreamServer(str(path), _OldEngine) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        yield path
        server.shutdown()
        serving.join()


def put_context(cli: Cli, name: str, address: str, *, current: bool) -> None:
    """A context in the user's Docker configuration, as the docker command writes it."""
    folder = cli.root.parent / ".docker"
    meta = folder / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(
        json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": address, "SkipTLSVerify": False}}})
    )
    if current:
        (folder / "config.json").write_text(json.dumps({"currentContext": name}))


def programs(folder: Path, **scripts: str) -> str:
    """A PATH with nothing but these scripts on it; `docker` is the real one without its compose plugin."""
    folder.mkdir()
    real = shutil.which("docker")
    own = {"docker": f'[ "$1" != compose ] || exit 1\nexec {real} "$@"', **scripts}
    for name, text in own.items():
        (folder / name.replace("_", "-")).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name.replace("_", "-")).chmod(0o755)
    return str(folder)


def compose_program() -> str:
    """Compose as a program of its own: the plugin is one."""
    said = docker("info", "--format", "{{json .ClientInfo.Plugins}}").stdout
    return next(str(plugin["Path"]) for plugin in json.loads(said) if plugin["Name"] == "compose")


def assert_blocked(cli: Cli, why: str, hint: str, seconds: float = 5) -> None:
    """No mode with Docker, in the same words in the plan and in the error of a mode that was asked for."""
    document = cli.json("plan")
    rejected = {each["mode"]: each["why"] for each in document["decision"]["rejected"]}
    assert document["decision"]["mode"] == "mock"
    assert rejected["full"] == rejected["hatchet-only"] == why
    error = cli.json("plan", "--mode", "full", code=3)["error"]
    assert error["code"] == "mode-blocked"
    assert error["message"] == f"mode full cannot be used here: {why}"
    assert hint in error["hint"]
    assert max(result.seconds for result in cli.history) < seconds


class TestNobody:
    def test_a_socket_that_was_left_behind(self, cli: Cli, sockets: Path) -> None:
        path = sockets / "closed.sock"
        listening(path).close()
        cli.env["DOCKER_HOST"] = f"unix://{path}"
        why = f"DOCKER_HOST is unix://{path}, and nobody answers behind {path}"
        assert_blocked(cli, why, f"unset DOCKER_HOST, or start that engine: {START}")

    def test_no_socket(self, cli: Cli, sockets: Path) -> None:
        cli.env["DOCKER_HOST"] = f"unix://{sockets}/none.sock"
        why = f"DOCKER_HOST is unix://{sockets}/none.sock, and there is no {sockets}/none.sock"
        assert_blocked(cli, why, "unset DOCKER_HOST")

    @pytest.mark.parametrize("address", ["tcp://192.0.2.1:2375", "ssh://me@192.0.2.1"])
    def test_another_machine_is_refused_by_name(self, cli: Cli, address: str) -> None:
        cli.env["DOCKER_HOST"] = address
        why = "DOCKER_HOST names an engine on another machine (192.0.2.1), whose ports are not this one's"
        # Nobody is there: to ask would take its time.
        assert_blocked(cli, why, "unset DOCKER_HOST", seconds=5)

    def test_who_says_nothing_is_left_in_time(self, cli: Cli, sockets: Path) -> None:
        path = sockets / "silent.sock"
        with listening(path):
            cli.env["DOCKER_HOST"] = f"unix://{path}"
            why = f"unix://{path} takes connections, and does not answer"
            assert_blocked(cli, why, "restart that engine: sudo systemctl restart docker", seconds=7)

    def test_who_is_no_docker(self, cli: Cli) -> None:
        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Stranger) as server:
            serving = threading.Thread(target=server.serve_forever, args=(0.02,))
            serving.start()
            address = f"tcp://127.0.0.1:{server.server_address[1]}"
            cli.env["DOCKER_HOST"] = address
            why = f"{address} does not answer as Docker does (ConnectionError)"
            assert_blocked(cli, why, f"docker -H {address} version")
            server.shutdown()
            serving.join()
        why = f"DOCKER_HOST is {address}, and nobody answers at {address}"
        assert_blocked(cli, why, "unset DOCKER_HOST")

    def test_no_permission(self, sockets: Path) -> None:
        path = sockets / "theirs.sock"
        with listening(path), ordinary_project(DOCKER_HOST=f"unix://{path}", PGHOST="/nonexistent") as ordinary:
            path.chmod(0)
            why = f"Docker runs, and this user may not use it: no permission on {path}"
            assert_blocked(ordinary, why, "sudo usermod -aG docker $USER")


class TestContext:
    @pytest.mark.parametrize("how", ["current", "named"])
    def test_it_wins_over_the_usual_sockets(self, cli: Cli, old_engine: Path, how: str) -> None:
        put_context(cli, "of-mine", f"unix://{old_engine}", current=how == "current")
        if how == "named":
            put_context(cli, "other", "unix:///nonexistent.sock", current=True)
            cli.env["DOCKER_CONTEXT"] = "of-mine"
        why = "Docker 19.03.15 answers (context of-mine), and is too old: 20.10 or newer is needed"
        assert_blocked(cli, why, "install Docker Engine")

    def test_docker_host_wins_over_it(self, cli: Cli, old_engine: Path) -> None:
        put_context(cli, "of-mine", f"unix://{old_engine}", current=True)
        cli.env["DOCKER_HOST"] = f"unix://{engine_socket()}"
        assert cli.json("plan")["mode"] == "full"

    def test_one_that_does_not_answer_is_passed_over(self, cli: Cli, sockets: Path) -> None:
        listening(sockets / "closed.sock").close()
        put_context(cli, "of-mine", f"unix://{sockets}/closed.sock", current=True)
        usual = cli.root.parent / ".docker/run/docker.sock"
        usual.parent.mkdir()
        usual.symlink_to(engine_socket())
        document = cli.json("plan")
        assert document["mode"] == "full"
        assert document["decision"]["why"].startswith(f"Docker {VERSION} answers")

    def test_the_engine_and_the_compose_that_were_found_are_those_that_work(
        self, cli: Cli, sockets: Path, tmp_path: Path
    ) -> None:
        """A context that leads to the real engine, and compose as a program of its own."""
        (sockets / "mine.sock").symlink_to(engine_socket())
        put_context(cli, "of-mine", f"unix://{sockets}/mine.sock", current=True)
        cli.env["PATH"] = programs(tmp_path / "bin", docker_compose=f'exec {compose_program()} "$@"')
        assert cli.json("up", "--smoke", "none")["mode"] == "full"
        kept = cli.state["data"]["compose"]
        assert kept["address"] == f"unix://{sockets}/mine.sock"
        assert kept["argv"] == [f"{tmp_path}/bin/docker-compose"]
        assert cli.json("down", "--purge", "--yes")["exit_code"] == 0


class TestTooOld:
    def test_an_engine(self, cli: Cli, old_engine: Path) -> None:
        cli.env["DOCKER_HOST"] = f"unix://{old_engine}"
        why = "Docker 19.03.15 answers (DOCKER_HOST), and is too old: 20.10 or newer is needed"
        assert_blocked(cli, why, "sudo apt-get install docker.io docker-compose-v2")

    @pytest.mark.parametrize(
        ("scripts", "why"),
        [
            ({}, "compose v2 is missing"),
            ({"docker_compose": "echo 1.29.2"}, "its compose is 1.29.2: version 1 is not enough"),
            ({"docker_compose": "echo v2.2.3"}, "its compose is 2.2.3: 2.3 or newer is needed"),
            ({"docker_compose": "echo 2.29.1; exit 1"}, "compose v2 is missing"),
        ],
    )
    def test_compose(self, docker_project: Projects, tmp_path: Path, scripts: dict[str, Any], why: str) -> None:
        cli = docker_project(PATH=programs(tmp_path / "bin", **scripts))
        assert_blocked(cli, f"Docker {VERSION} answers, and {why}", "docker-compose-plugin (Docker's own packages)")
