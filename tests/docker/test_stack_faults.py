"""Stacks that are interrupted, robbed of a port, broken in the middle or tampered with: what is said, and the mending."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import Cli
from tests.docker.conftest import POSTGRES_IMAGE, STANDIN_IMAGE, docker_names
from tests.docker.registry import docker
from tests.docker.stacks import (
    DATABASE,
    ENGINE,
    actions,
    ask,
    assert_nothing_left,
    bridge_of_ones_own,
    container_of,
    derived,
    details,
    fails,
    faulty,
    identity,
    inspect,
    lift,
    project_of,
    service,
    state_of,
    wait_for,
)

NewProject = Callable[..., Cli]
OF_PROJECT = "dev.owlclaw.project"


# Commands that are ended on the way


def one_offs(cli: Cli) -> list[str]:
    """Containers beside the stack that an `up` of this project has made: their label ends as its containers' names do."""
    listed = docker("ps", "-aq", "--filter", f"label={OF_PROJECT}").stdout.split()
    return [c for c in listed if compose_project(cli) == _label(c)]


def _label(container: str) -> str:
    seen = docker("inspect", "--format", f'{{{{index .Config.Labels "{OF_PROJECT}"}}}}', container, check=False)
    return seen.stdout.strip()


def compose_project(cli: Cli) -> str:
    from owlclaw_up.facts.containers import compose_project

    return compose_project(cli.root.resolve())


def has_container(cli: Cli, service_name: str) -> bool:
    name = f"{compose_project(cli)}-{service_name}-1"
    return docker("container", "inspect", name, check=False).returncode == 0


def engine_answers(cli: Cli) -> bool:
    """What comes next is the token."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        return bool(cli.state["data"]["engine"]["container"])
    return False


MOMENTS: dict[str, Callable[[Cli], object]] = {
    "keys are made": one_offs,
    "the database has a container": lambda cli: has_container(cli, DATABASE),
    "the engine has a container": lambda cli: has_container(cli, ENGINE),
    "the engine answers": engine_answers,
}


def ended(cli: Cli, moment: str, how: signal.Signals) -> tuple[int, str]:
    """Start `up`, end it at a moment; give exit code and stdout. Whom it has called may still work."""
    holder = cli.root / ".owlclaw-up/lock.holder"
    holder.unlink(missing_ok=True)
    child = cli.start("up", "--smoke", "none", "--json")
    try:
        wait_for(moment, lambda: (holder.exists() and MOMENTS[moment](cli)) or child.poll() is not None, 60)
        child.send_signal(how)
        out, _ = child.communicate(timeout=40)
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()
    return child.returncode, out


def assert_whole(cli: Cli, up: dict[str, Any]) -> None:
    """The end state is the one of an `up` that nobody disturbed."""
    assert (up["status"], up["mode"]) == ("ok", "full")
    assert all(r["done"] for r in cli.state["receipts"])
    receipts = [(r["kind"], json.dumps(r["identity"], sort_keys=True)) for r in cli.state["receipts"]]
    assert len(receipts) == len(set(receipts))
    project = project_of(cli)
    names = docker_names(project)
    assert {k: len(v) for k, v in names.items()} == {"containers": 2, "volumes": 2, "networks": 1}
    assert {state_of(container_of(cli, s)) for s in (DATABASE, ENGINE)} == {"running"}
    assert ask(cli, "select count(*) from \"Tenant\" where slug = 'default'") == "1"
    assert cli.json("status")["token"]["accepted"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed(docker_project: NewProject, moment: str) -> None:
    cli = docker_project()
    project = compose_project(cli)
    assert ended(cli, moment, signal.SIGKILL)[0] == -signal.SIGKILL
    begun = time.monotonic()
    cli.json("down", "--purge", "--yes")
    # A PostgreSQL that initialises itself would hear of a stop after half a minute.
    assert time.monotonic() - begun < 15
    assert one_offs(cli) == []
    assert_nothing_left(cli, project)

    assert ended(cli, moment, signal.SIGKILL)[0] == -signal.SIGKILL
    assert_whole(cli, lift(cli))
    cli.assert_no_leak()
    cli.json("down", "--purge", "--yes")
    assert one_offs(cli) == []
    assert_nothing_left(cli, project)


def test_interrupted(docker_project: NewProject) -> None:
    cli = docker_project()
    for moment in ("keys are made", "the database has a container", "the engine has a container"):
        code, out = ended(cli, moment, signal.SIGINT)
        assert code == 130, out
        document = json.loads(out)
        assert document["error"]["code"] == "interrupted"
        assert "run the same command again" in document["error"]["hint"]
        assert one_offs(cli) == []
        assert not (cli.root / ".env").exists()
    assert_whole(cli, lift(cli))
    cli.assert_no_leak()


# Ports


@contextlib.contextmanager
def listener(port: int) -> Iterator[None]:
    """A process of this machine that has a port."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        yield


@contextlib.contextmanager
def publisher(port: int) -> Iterator[str]:
    """Somebody else's container that has a port; give its name."""
    with container_for(port) as name:
        docker("start", name)
        yield name


@contextlib.contextmanager
def container_for(port: int) -> Iterator[str]:
    """Somebody else's container that has a port once it is started; give its name."""
    name = f"owlclaw-other-{uuid4().hex[:8]}"
    try:
        docker("create", "--init", "--name", name, "-p", f"127.0.0.1:{port}:80", POSTGRES_IMAGE, "sleep", "600")
        yield name
    finally:
        docker("rm", "-f", "-v", name)


@pytest.mark.timeout(240)
def test_ports_that_somebody_else_has(docker_project: NewProject) -> None:
    cli = docker_project()
    dashboard, grpc = (int(cli.env[f"OWLCLAW_UP_{name}_PORT"]) for name in ("DASHBOARD", "GRPC"))

    # Taken once the ports were looked at, before the engine's container has them.
    with container_for(dashboard) as ready:
        for take in (lambda: listener(dashboard), lambda: contextlib.nullcontext(docker("start", ready))):
            child = cli.start("up", "--smoke", "none", "--json")
            wait_for("the first step", (cli.root / ".owlclaw-up/state.json").exists)
            with take():
                out, _ = child.communicate(timeout=100)
            document = json.loads(out)
            assert (child.returncode, document["error"]["code"]) == (4, "port-taken"), out
            assert str(dashboard) in document["error"]["message"]
            assert f"sport = :{dashboard}" in document["error"]["hint"]
            docker("stop", "--time", "0", ready)
            assert_whole(cli, lift(cli))
            project = project_of(cli)
            cli.json("down", "--purge", "--yes")
            assert_nothing_left(cli, project)
    lift(cli)

    # Taken while the stack was down.
    cli.json("down")
    with listener(grpc):
        error = fails(cli, code=3)
        assert error["code"] == "port-taken"
        assert f"port {grpc}" in error["message"] and "python" in error["message"] and "pid" in error["message"]
        assert "--grpc-port" in error["hint"]
    with publisher(grpc) as name:
        error = fails(cli, code=3)
        assert error["code"] == "port-taken"
        assert name in error["message"], error
    assert {state_of(container_of(cli, s)) for s in (DATABASE, ENGINE)} == {"exited"}
    assert_whole(cli, lift(cli))


# Volumes


def test_a_volume_made_with_another_password(docker_project: NewProject) -> None:
    cli = docker_project()
    lift(cli)
    project, volume = project_of(cli), f"{project_of(cli)}_owlclaw-db-data"
    ask(cli, "create table kept ()", "owlclaw")
    # The passwords are lost with it, and the containers run on.
    subprocess.run(["rm", "-rf", str(cli.root / ".owlclaw-up"), str(cli.root / ".env")], check=True)
    error = fails(cli)
    assert error["code"] == "volume-password"
    assert volume in error["message"] and "secrets.json" in error["hint"] and "owlclaw-up reset" in error["hint"]
    assert volume in docker_names(project)["volumes"]
    assert ask(cli, "select to_regclass('kept')", "owlclaw") == "kept"
    assert fails(cli)["code"] == "volume-password"

    fresh = cli.json("reset", "--yes", "--smoke", "none")
    assert_whole(cli, fresh)
    assert ask(cli, "select to_regclass('kept')", "owlclaw") == ""
    cli.assert_no_leak()


def test_a_volume_of_another_major_version(docker_project: NewProject) -> None:
    cli = docker_project()
    lift(cli)
    project, volume = project_of(cli), f"{project_of(cli)}_owlclaw-db-data"
    cli.json("down")

    def become(major: int) -> None:
        write = f"echo {major} >/data/PG_VERSION"
        docker("run", "--rm", "-v", f"{volume}:/data", "--entrypoint", "bash", POSTGRES_IMAGE, "-c", write)

    become(15)
    error = fails(cli)
    assert error["code"] == "volume-major"
    assert "PostgreSQL 15" in error["message"] and "OWLCLAW_UP_POSTGRES_IMAGE" in error["hint"]
    assert "not compatible with this version" in error["detail"]
    assert service(cli, "postgres", code=1)["state"] == "stopped"
    become(17)
    assert_whole(cli, lift(cli))
    become(15)
    docker("stop", container_of(cli, DATABASE))
    assert fails(cli)["code"] == "volume-major"
    cli.json("down", "--purge", "--yes")
    assert_nothing_left(cli, project)


# Engines that end


def seconds_since_first_end(container: str, since: float) -> float:
    """How long ago a container ended for the first time."""
    said = docker(
        "events", "--since", f"{since:.0f}", "--until", f"{time.time():.3f}", "--filter", f"container={container}",
        "--filter", "event=die", "--format", "{{.TimeNano}}",
    )  # fmt: skip
    return time.time() - int(said.stdout.splitlines()[0]) / 1e9


# Docker starts it again after a tenth of a second; who looks then sees no exit code.
ENDED = r"ended (with exit code [12]|and was started again by Docker)"
CRASHES = {
    # First, as long as there is something to migrate.
    "migrate.fails": (
        'ERROR: extension "btree_gist" already exists (SQLSTATE 42710)',
        ("btree-gist-exists", "somebody made btree_gist", "DROP EXTENSION btree_gist"),
    ),
    "lite.exit-at-start": (
        "primary database instance timezone is set to 'Europe/Berlin' but must be 'UTC'",
        ("timezone", "timezone Europe/Berlin", "owlclaw-up (it sets UTC"),
    ),
    "lite.exit-at-start,": ("the moon is in the wrong house", ("container-died", ENDED, "docker logs")),
    "lite.api-down,lite.die-after=0.3": ("", ("container-died", ENDED, "docker logs")),
}


@pytest.mark.timeout(240)
def test_an_engine_that_ends(docker_project: NewProject) -> None:
    cli = docker_project()
    for faults, (text, (code, cause, hint)) in CRASHES.items():
        with faulty(STANDIN_IMAGE, faults, text) as image:
            begun = time.time()
            error = fails(cli, OWLCLAW_UP_HATCHET_IMAGE=image)
            waited = seconds_since_first_end(container_of(cli, ENGINE), begun)
        assert error["code"] == code, error
        assert re.search(cause, error["message"]) and hint in error["hint"]
        assert ENGINE in error["message"]
        assert not text or text in error["detail"]
        assert len(error["detail"].splitlines()) <= 15
        # `up` may take 180 s in all.
        assert waited < 30, "nobody waits for the dead"
        assert cli("status").code == 1
    assert_whole(cli, lift(cli))
    cli.assert_no_leak()


def test_an_engine_that_wants_more_memory_than_there_is(docker_project: NewProject) -> None:
    cli = docker_project()
    child = cli.start("up", "--smoke", "none", "--json")
    wait_for("the engine's container", lambda: has_container(cli, ENGINE))
    name = f"{compose_project(cli)}-{ENGINE}-1"
    docker("update", "--memory", "12m", "--memory-swap", "12m", name)
    out, _ = child.communicate(timeout=100)
    error = json.loads(out)["error"]
    assert (child.returncode, error["code"]) == (4, "out-of-memory"), out
    assert "memory" in error["message"]
    docker("rm", "-f", name)
    assert_whole(cli, lift(cli))


# Tokens


def lose_token(cli: Cli) -> None:
    secrets = cli.secrets
    secrets["token"] = ""
    (cli.root / ".owlclaw-up/secrets.json").write_text(json.dumps(secrets))


SLEEPER = """\
#!/bin/sh
[ "$1" = token ] && exec sleep 60
exec /hatchet-admin.real "$@"
"""


@pytest.mark.timeout(240)
def test_a_token_by_the_other_route(docker_project: NewProject) -> None:
    cli = docker_project()
    with contextlib.ExitStack() as stack:
        failing = stack.enter_context(faulty(STANDIN_IMAGE, "admin.token-fails", "the admin tool is ill"))
        garbage = stack.enter_context(faulty(STANDIN_IMAGE, "admin.garbage-token"))
        recipe = (
            "RUN mv /hatchet-admin /hatchet-admin.real",
            "COPY sleeper /hatchet-admin",
            "RUN chmod 755 /hatchet-admin",
        )
        sleeping = stack.enter_context(derived(STANDIN_IMAGE, *recipe, sleeper=SLEEPER))
        for image, more in ((failing, ()), (garbage, ()), (sleeping, ("--timeout", "16"))):
            up = lift(cli, *more, OWLCLAW_UP_HATCHET_IMAGE=image)
            assert up["status"] == "ok"
            assert "by REST login" in details(up)["token"], details(up)
            assert cli.json("status")["token"]["accepted"]
            lose_token(cli)

        # The dashboard's password is another one by now: no route is left.
        ask(cli, "update \"UserPassword\" set hash = '$2a$10$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'")
        error = fails(cli, OWLCLAW_UP_HATCHET_IMAGE=failing)
        assert "the admin tool is ill" in error["detail"]
        assert "REST" in error["detail"] or "login" in error["detail"]
    cli.assert_no_leak()
    assert_whole(cli, lift(cli))


# A Docker engine that is started anew


class Engine:
    """A Docker engine of the test's own beside the one that runs, with its own data, network and socket."""

    def __init__(self, folder: Path, bridge: str) -> None:
        self.folder, self.bridge = folder, bridge
        self.root = [] if os.geteuid() == 0 else ["sudo", "-n"]
        self.address = f"unix://{folder / 'docker.sock'}"
        self.process: subprocess.Popen[bytes] | None = None
        (folder / "settings").write_text("{}")

    def __call__(self, *words: str) -> str:
        return docker("-H", self.address, *words).stdout.strip()

    def let_through(self, how: str) -> None:
        """Let its containers talk to each other: the engine that runs forbids what it does not know."""
        rule = ["FORWARD", "-i", "br-+", "-o", "br-+", "-j", "ACCEPT"]
        subprocess.run([*self.root, "iptables", "-w", how, *rule], check=how == "-I", capture_output=True)

    def start(self) -> None:
        program = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if program is None:
            pytest.skip("no dockerd of one's own can be started here: .ci/docker")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.root, program, "--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "run"),
                 "--pidfile", str(self.folder / "pid"), "--config-file", str(self.folder / "settings"),
                 "-H", self.address, "--group", str(os.getgid()), f"--bridge={self.bridge}", "--iptables=false"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(
            "an engine", lambda: self._ended() or docker("-H", self.address, "version", check=False).returncode == 0
        )
        assert not self._ended(), (self.folder / "log").read_text()

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def stop(self) -> None:
        if self.process is not None and not self._ended():
            subprocess.run([*self.root, "kill", (self.folder / "pid").read_text().strip()], check=True)
            self.process.wait(60)


@pytest.fixture
def own_engine(need_docker: None) -> Iterator[Engine]:
    # A socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="owlclaw-engine-"))
    with bridge_of_ones_own() as bridge:
        engine = Engine(folder, bridge)
        engine.let_through("-I")
        try:
            engine.start()
            with subprocess.Popen(["docker", "save", POSTGRES_IMAGE, STANDIN_IMAGE], stdout=subprocess.PIPE) as saved:
                subprocess.run(
                    ["docker", "-H", engine.address, "load", "--quiet"], stdin=saved.stdout, check=True,
                    stdout=subprocess.DEVNULL,
                )  # fmt: skip
            yield engine
        finally:
            for container in docker("-H", engine.address, "ps", "-aq", check=False).stdout.split():
                docker("-H", engine.address, "rm", "-f", "-v", container, check=False)
            engine.stop()
            engine.let_through("-D")
            subprocess.run([*engine.root, "rm", "-rf", str(folder)], check=True)


def test_a_docker_engine_that_is_started_anew(docker_project: NewProject, own_engine: Engine) -> None:
    cli = docker_project(DOCKER_HOST=own_engine.address)
    lift(cli)
    token, project = cli.dotenv()["HATCHET_CLIENT_TOKEN"], project_of(cli)
    own_engine.stop()
    assert {s["state"] for s in cli.json("status", code=1)["services"]} == {"stopped"}
    # Without it there is nothing to stop, and nothing may be given up.
    assert cli("down").code == 0
    error = cli.json("down", "--purge", "--yes", code=3)["error"]
    assert "Docker does not answer" in error["message"]
    error = cli.json("up", "--mode", "full", code=3)["error"]
    assert error["code"] == "mode-blocked"

    own_engine.start()
    back = lift(cli)
    assert (back["status"], back["mode"], actions(back)["token"]) == ("ok", "full", "unchanged")
    assert cli.dotenv()["HATCHET_CLIENT_TOKEN"] == token
    assert cli.json("status")["token"]["accepted"]
    cli.json("down", "--purge", "--yes")
    assert own_engine("ps", "-aq") == own_engine("volume", "ls", "-q") == ""
    assert project not in own_engine("network", "ls")


# Hands that meddle


def test_containers_that_somebody_removed_or_stopped(docker_project: NewProject) -> None:
    cli = docker_project()
    lift(cli)
    token = cli.dotenv()["HATCHET_CLIENT_TOKEN"]
    database = identity(container_of(cli, DATABASE))

    def comes_back(*gone: str) -> dict[str, Any]:
        assert cli("status").code == 1
        up = lift(cli)
        assert_whole(cli, up)
        assert cli.dotenv()["HATCHET_CLIENT_TOKEN"] == token
        assert actions(up)["token"] == "unchanged"
        assert actions(up)["postgres.server"] == (
            "unchanged" if DATABASE not in gone else actions(up)["postgres.server"]
        )
        return up

    docker("rm", "-f", container_of(cli, ENGINE))
    assert "leases cleared" in details(comes_back())["engine.server"]
    docker("kill", container_of(cli, ENGINE))
    comes_back()
    docker("pause", container_of(cli, ENGINE))
    comes_back()
    assert identity(container_of(cli, DATABASE)) == database
    docker("stop", container_of(cli, DATABASE))
    comes_back(DATABASE)
    docker("rm", "-f", container_of(cli, DATABASE), container_of(cli, ENGINE))
    comes_back(DATABASE)


def test_a_changed_setting_recreates_what_it_must(docker_project: NewProject) -> None:
    cli = docker_project()
    lift(cli)
    database, engine = (identity(container_of(cli, s)) for s in (DATABASE, ENGINE))
    token = cli.dotenv()["HATCHET_CLIENT_TOKEN"]

    # The queue is the engine's alone.
    url = "amqp://user:secret-word@queue.example:5672/"
    up = lift(cli, OWLCLAW_UP_RABBITMQ_URL=url)
    assert actions(up)["engine.server"] == "update"
    assert identity(container_of(cli, DATABASE)) == database
    moved = identity(container_of(cli, ENGINE))
    assert moved[0] != engine[0]
    environment = inspect(container_of(cli, ENGINE))["Config"]["Env"]
    assert f"SERVER_MSGQUEUE_RABBITMQ_URL={url}" in environment
    assert cli.dotenv()["HATCHET_CLIENT_TOKEN"] == token
    assert set(actions(lift(cli, OWLCLAW_UP_RABBITMQ_URL=url)).values()) - {"skip"} == {"unchanged"}
    for result in cli.history:
        assert "secret-word" not in result.text

    # The dashboard's address stands in every token.
    lift(cli)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    up = lift(cli, "--dashboard-port", str(port))
    assert identity(container_of(cli, DATABASE)) == database
    assert cli.dotenv()["HATCHET_CLIENT_TOKEN"] != token
    assert cli.dotenv()["HATCHET_SERVER_URL"] == f"http://localhost:{port}"
    assert cli.state["ports"]["dashboard"] == port
    cli.env["OWLCLAW_UP_DASHBOARD_PORT"] = str(port)

    # A password is for the seed: nothing that runs changes.
    engine = identity(container_of(cli, ENGINE))
    lift(cli, OWLCLAW_UP_ADMIN_PASSWORD="Another-password-1")
    assert identity(container_of(cli, ENGINE)) == engine
    assert identity(container_of(cli, DATABASE)) == database
    assert_whole(cli, lift(cli))
