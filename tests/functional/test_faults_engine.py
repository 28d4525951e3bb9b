"""Faults of the engine, made to happen: each is named by its own check, with its evidence and its command."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest

from owlclaw_up.spec import ADMIN_EMAIL
from tests.conftest import Cli, projects
from tests.faults import SICK, Patient
from tests.functional.tokens import Stack
from tests.ports import free_port
from tests.standin import install
from tests.standin.passwords import hash_password

UP = "owlclaw-up"
DOCUMENTED = "Admin123!!"


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with projects(tmp_path_factory) as make:
        engine = install(tmp_path_factory.mktemp("engine"))
        yield Stack(make(engine), engine)


@pytest.fixture
def stack(healthy: Stack) -> Iterator[Stack]:
    """One environment; switches, binaries, dotenv file and secrets are put back, and an engine that is gone is started."""
    secrets = healthy.cli.root / ".owlclaw-up/secrets.json"
    before = secrets.read_bytes()
    yield healthy
    secrets.write_bytes(before)
    (healthy.engine / "fault").unlink(missing_ok=True)
    install(healthy.engine)
    healthy.env_path.write_bytes(healthy.before)
    if not runs(healthy):
        healthy.cli.json("up", "--smoke", "none")


@pytest.fixture
def patient(stack: Stack) -> Patient:
    return Patient(stack.cli)


def runs(stack: Stack) -> bool:
    pid = stack.cli.state["data"]["engine"]["pid"]
    with contextlib.suppress(psutil.Error):
        return pid is not None and psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED)
    return False


def end(stack: Stack, how: signal.Signals = signal.SIGKILL) -> int:
    """Send the engine a signal, and see that it is gone."""
    process = stack.process("engine")
    process.send_signal(how)
    with contextlib.suppress(psutil.TimeoutExpired):
        process.wait(5)
    return process.pid


def switch(stack: Stack, faults: str) -> None:
    (stack.engine / "fault").write_text(faults)


def followers(patient: Patient, cause: str) -> set[str]:
    assert patient.last is not None
    return {f.id for f in patient.last.findings if f.cause == cause}


def ends_in_time(stack: Stack) -> None:
    """The command as a process: no thread that still waits may keep it. Python's own start is a part of it."""
    ran = stack.cli("doctor")
    assert ran.code in (0, 1)
    assert ran.seconds < 2 * SICK


def test_a_running_engine_is_no_finding(patient: Patient) -> None:
    """That its ports are open to the network is said once, as worth knowing: nobody can change it."""
    assert patient.well(), patient.bad()
    assert patient.last is not None
    by_id = {f.id: f for f in patient.last.findings}
    fine = {"engine.binaries", "engine.running", "engine.database", "engine.health", "engine.api", "engine.grpc",
            "engine.version", "engine.authentication", "engine.password"}  # fmt: skip
    assert {by_id[name].level for name in fine} == {"ok"}
    exposed, ports = by_id["engine.exposed"], patient.cli.state["ports"]
    assert (exposed.level, exposed.command, exposed.fix) == ("info", "", "")
    wanted = ", ".join(str(ports[name]) for name in ("dashboard", "api", "frontend", "health"))
    assert exposed.title == f"the engine listens on every interface of this machine: ports {wanted}"
    assert "firewall" in exposed.hint
    assert "engine.message-queue" in patient.last.data["idle"]


def test_an_engine_that_was_killed(stack: Stack, patient: Patient) -> None:
    """Its last words name the cause where they are known; what every start says is none: its own API is not up yet."""
    log = stack.cli.root / ".owlclaw-up/logs/hatchet.log"

    def said(line: str) -> None:
        with log.open("a") as file:
            file.write(f"{line}\n")

    said("2026/11/26 02:32:36 http: proxy error: dial tcp 127.0.0.1:18884: connect: connection refused")
    pid = end(stack)
    found = patient.first()
    assert (found.id, found.level, found.command, found.fix) == ("engine.running", "fail", UP, "run owlclaw-up")
    assert found.title == f"the engine is not running: process {pid} has ended"
    assert "PostgreSQL" not in found.detail and "somebody killed it" in found.detail
    assert followers(patient, "engine.running") == {"engine.api", "engine.grpc"}
    assert [name for name, how in patient.bad().items() if how.startswith("fail")] == [
        "engine.running", "engine.api", "engine.grpc",
    ]  # fmt: skip

    said("panic: runtime error: invalid memory address or nil pointer dereference")
    found = patient.finding("engine.running")
    assert "has ended: panic: runtime error" in found.title
    assert "nil pointer dereference" in found.detail
    said("ERR could not extend file: no space left on device")
    found = patient.finding("engine.running")
    assert found.title.endswith("has ended: the disk is full")
    assert (found.command, found.hint, found.fix) == ("", "df -h; then: owlclaw-up", "run owlclaw-up")
    after = patient.mend(smoke="none")
    assert "engine.running" in after.data["fixed"] and not after.exit_code, patient.bad()


def test_what_follows_from_postgresql(stack: Stack, patient: Patient) -> None:
    """Stopped, it is the cause, also of an engine that `down` has stopped."""
    stack.process("postgres").send_signal(signal.SIGINT)
    deadline = time.monotonic() + 10
    while (found := patient.finding("engine.database")).level != "fail" or found.cause != "postgres.reach":
        assert time.monotonic() < deadline, patient.bad()
    assert found.title == "the engine cannot reach its database"
    assert patient.first().id == "postgres.reach"
    assert not [name for name in patient.bad() if name.startswith("token.")], "no token is blamed for it"

    stack.cli.json("down")
    found = patient.finding("engine.running")
    assert (found.level, found.command, found.cause) == ("fail", UP, "postgres.reach")
    assert "the engine is not running: owlclaw-up down stopped it at 20" in found.title


def test_an_engine_that_died_at_its_first_start(new_cli: Callable[..., Cli], tmp_path: Path) -> None:
    engine = install(tmp_path / "engine")
    (engine / "fault").write_text("lite.exit-at-start")
    (engine / "fault-text").write_text("keyset.Handle: decryption failed: aead_factory: decryption failed")
    patient = Patient(new_cli(engine))
    patient.cli.json("up", "--smoke", "none", code=4)
    found = patient.finding("engine.running")
    assert found.level == "fail"
    assert found.title.endswith("it ended while it was starting: its keysets do not belong together")
    assert "owlclaw-up reset" in found.hint and "decryption failed" in found.detail


def test_an_engine_that_is_frozen(stack: Stack, patient: Patient) -> None:
    """It keeps its ports and says nothing: the whole of the command ends in time all the same."""
    pid = end(stack, signal.SIGSTOP)
    found = patient.first()
    assert (found.id, found.level, found.command, found.fix) == ("engine.running", "fail", UP, "run owlclaw-up")
    assert found.title == f"the engine is frozen: process {pid} is suspended by a signal"
    assert f"kill -CONT {pid}" in found.hint
    assert {"engine.api", "engine.grpc"} <= followers(patient, "engine.running")
    assert patient.last is not None
    assert patient.last.seconds < SICK
    ends_in_time(stack)
    psutil.Process(pid).send_signal(signal.SIGCONT)
    assert patient.well(), patient.bad()


def test_an_engine_that_is_not_ready(stack: Stack, patient: Patient) -> None:
    switch(stack, "lite.never-ready")
    found = patient.first()
    assert (found.id, found.level, found.command, found.fix) == ("engine.health", "fail", UP, "run owlclaw-up")
    assert found.title == f"the engine is not ready: :{stack.cli.state['ports']['health']}/ready says 503"
    assert "logs hatchet" in found.hint


def test_an_api_that_is_not_up(stack: Stack, patient: Patient) -> None:
    switch(stack, "lite.api-down")
    found = patient.first()
    assert (found.id, found.level, found.command, found.fix) == ("engine.api", "fail", UP, "run owlclaw-up")
    assert (
        found.title == f"the engine's API is not up: its proxy on port {stack.cli.state['ports']['dashboard']} says 502"
    )
    assert str(stack.cli.state["ports"]["api"]) in found.detail


def test_a_page_where_the_api_should_be(stack: Stack, patient: Patient) -> None:
    """The frontend's port says 200 to everything, and so may somebody else's server."""
    stack.put(HATCHET_CLIENT_SERVER_URL=f"http://localhost:{stack.cli.state['ports']['frontend']}")
    found = patient.first()
    assert (found.id, found.level, found.command) == ("engine.api", "fail", UP)
    assert "breaks at REST; the engine is at" in found.title and "a page, no REST API" in found.detail

    stack.env_path.write_bytes(stack.before)
    end(stack)
    with server_on(stack.cli.state["ports"]["dashboard"]):
        found = patient.finding("engine.api")
    assert "is answered by something that is not the engine's API" in found.title
    assert "HTTP 404" in found.detail and "ss -ltnp" in found.hint
    assert (found.level, found.command) == ("fail", "")
    # It is a consequence: the engine would have that port.
    assert found.cause in ("engine.running", "port.dashboard")


@contextlib.contextmanager
def server_on(port: int) -> Iterator[None]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on the screen."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Quiet)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port that takes no connection and refuses none: its queue is full, so that the system drops what comes."""
    with contextlib.ExitStack() as held:
        listening = held.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port: int = listening.getsockname()[1]
        for _ in range(3):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port


def test_where_grpc_is_dialled_nobody_answers(stack: Stack, patient: Patient) -> None:
    stack.put(HATCHET_CLIENT_HOST_PORT=f"localhost:{free_port()}")
    found = patient.first()
    assert (found.id, found.level, found.command, found.fix) == ("engine.grpc", "fail", UP, "run owlclaw-up")
    assert "breaks at gRPC; the engine is at localhost:" in found.title
    assert "onnection refused" in found.detail


def test_black_holes_hold_nobody_up(stack: Stack, patient: Patient) -> None:
    with black_hole() as port:
        stack.put(HATCHET_CLIENT_HOST_PORT=f"localhost:{port}", HATCHET_CLIENT_SERVER_URL=f"http://localhost:{port}")
        found = patient.finding("engine.grpc")
        assert patient.last is not None
        assert patient.last.seconds < SICK
        ends_in_time(stack)
    assert found.level == "fail"


def test_a_database_that_the_engine_alone_cannot_reach(stack: Stack, patient: Patient) -> None:
    """Its role has another password now: we know it, and the engine was started with the one before."""
    path, role = stack.cli.root / ".owlclaw-up/secrets.json", "alter role hatchet password '{}'"
    before = path.read_text()
    kept = json.loads(before)
    old, kept["passwords"]["hatchet"] = kept["passwords"]["hatchet"], "another-password-of-1"
    path.write_text(json.dumps(kept))
    stack.sql(role.format("another-password-of-1"))
    stack.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'hatchet'")
    try:
        found = patient.first()
        assert (found.id, found.level, found.command, found.fix) == ("engine.database", "fail", UP, "run owlclaw-up")
        assert found.title == "the engine cannot reach its database, though we can"
        assert "the login that is kept now" in found.hint
        assert followers(patient, "engine.database") >= {"engine.health"}
        assert not [name for name in patient.bad() if name.startswith("token.")], "no token is blamed for it"
        after = patient.mend(smoke="none")
        assert "engine.database" in after.data["fixed"] and not after.exit_code, patient.bad()
    finally:
        path.write_text(before)
        stack.sql(role.format(old))
        stack.cli.json("up", "--smoke", "none")


def test_an_engine_of_another_version(stack: Stack, patient: Patient) -> None:
    switch(stack, "version=v0.109.0")
    found = patient.finding("engine.version")
    assert (found.level, found.command, found.fix) == ("warn", UP, "")
    assert found.title == "the engine that answers is v0.109.0, and v0.107.2 is on record"
    assert str(stack.cli.state["ports"]["dashboard"]) in found.detail

    switch(stack, "")
    install(stack.engine, version="v0.108.0")
    found = patient.finding("engine.version")
    assert (found.level, found.command) == ("info", UP)
    assert found.title == "the engine runs v0.107.2, and its folder holds v0.108.0"

    install(stack.engine, version="v0.100.0")
    found = patient.first()
    assert (found.id, found.level, found.command) == ("engine.version", "fail", "")
    assert "was migrated by Hatchet v0.107.2, and v0.100.0" in found.title
    assert stack.cli.json("plan", code=3)["error"]["message"] == found.title


def test_binaries_that_cannot_be_used(stack: Stack, patient: Patient) -> None:
    (stack.engine / "hatchet-migrate").chmod(0o644)
    found = patient.first()
    assert (found.id, found.level, found.command) == ("engine.binaries", "fail", "")
    assert found.title == f"{stack.engine / 'hatchet-migrate'} is not executable"
    assert found.hint.startswith(f"chmod +x {stack.engine / 'hatchet-migrate'}")
    assert stack.cli.json("plan", "--mode", "native", code=3)["error"]["message"] == found.title


def test_binaries_that_were_named_before_the_first_up(mock_cli: Cli) -> None:
    """`auto` goes on without them, which nobody who names a folder wants."""
    patient = Patient(mock_cli)
    found = patient.finding("engine.binaries")
    assert found.level == "warn"
    assert found.title == f"{mock_cli.env['OWLCLAW_UP_ENGINE_DIR']} is no folder"
    assert found.hint == f"ls -l {mock_cli.env['OWLCLAW_UP_ENGINE_DIR']}"


def test_a_message_queue_that_does_not_answer(stack: Stack, patient: Patient) -> None:
    port = free_port()
    env = {"OWLCLAW_UP_RABBITMQ_URL": f"amqp://worker:a-secret-of-it@127.0.0.1:{port}/"}
    found = patient.finding("engine.message-queue", env=env)
    assert (found.level, found.command, found.fix) == ("fail", "", "")
    assert found.title == f"RabbitMQ does not answer on 127.0.0.1:{port}"
    assert "rabbitmq_url" in found.hint
    assert "a-secret-of-it" not in f"{patient.last}"
    with socket.create_server(("127.0.0.1", port)):
        assert patient.finding("engine.message-queue", env=env).level == "ok"
    found = patient.finding("engine.message-queue", env={"OWLCLAW_UP_RABBITMQ_URL": "of-another-kind"})
    assert found.title == "rabbitmq_url is no address of RabbitMQ"


def test_an_engine_that_asks_nobody_who_they_are(stack: Stack, patient: Patient) -> None:
    switch(stack, "lite.auth-disabled")
    found = patient.finding("engine.authentication")
    assert (found.level, found.command, found.fix) == ("warn", "", "")
    assert "authDisabled" in found.detail and "hatchet_image" in found.hint
    exposed = patient.finding("engine.exposed")
    assert exposed.level == "warn" and exposed.title.endswith("and it asks nobody for a login")


def test_the_documented_password(stack: Stack, patient: Patient) -> None:
    """It is tried only where nothing says that it is another one; here nothing is known, and it was set in the dashboard."""
    stack.forget_password("dashboard")
    assert patient.well(), patient.bad()
    assert patient.finding("engine.password").title == "it is another one than the documented"
    where = """where "userId" = (select id from "User" where email = %s)"""
    before = stack.sql(f'select hash from "UserPassword" {where}', ADMIN_EMAIL)[0][0]
    stack.sql(f'update "UserPassword" set hash = %s {where}', hash_password(DOCUMENTED), ADMIN_EMAIL)
    try:
        found = patient.finding("engine.password")
        exposed = patient.finding("engine.exposed")
    finally:
        stack.sql(f'update "UserPassword" set hash = %s {where}', before, ADMIN_EMAIL)
    assert (found.level, found.command, found.fix) == ("warn", "", "")
    assert found.title == f"{ADMIN_EMAIL} has the password that Hatchet's documentation gives"
    assert DOCUMENTED not in f"{found}"
    assert "owlclaw-up open" in found.hint
    assert exposed.level == "warn" and "its admin has the documented password" in exposed.title
