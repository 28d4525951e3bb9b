"""Ports that somebody else has: named with their owner, moved once and kept, never taken and never moved silently."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from owlclaw_up.environment import up
from owlclaw_up.errors import PortTaken
from owlclaw_up.host.base import ProcessId
from owlclaw_up.host.embedded import EmbeddedServers
from owlclaw_up.host.local import LocalProcesses
from owlclaw_up.host.machine import Host
from owlclaw_up.host.ports import look_at_port
from owlclaw_up.model import Note, Outcome
from owlclaw_up.project import open_project
from tests.conftest import Cli
from tests.functional.ordinary import ordinary_project
from tests.ports import free_port
from tests.standin import install

pytestmark = pytest.mark.usefixtures("default_ports")
DEFAULTS = {"dashboard": 8888, "grpc": 17077, "postgres": 5432, "api": 18080, "frontend": 18081, "health": 18733}
PUBLIC = ("dashboard", "grpc", "postgres")
LISTEN = """
import socket, sys
held = []
for port in sys.argv[1:]:
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            one = socket.socket(family, socket.SOCK_STREAM)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((address, int(port)))
            one.listen(8)
            held.append(one)
        except OSError:
            pass
print("listening", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def taken(*ports: int) -> Iterator[subprocess.Popen[str]]:
    """A real process of somebody else that listens on ports; what another one has already stays that one's."""
    child = subprocess.Popen(
        [sys.executable, "-c", LISTEN, *map(str, ports)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "listening\n"
        yield child
    finally:
        child.communicate(timeout=30)


def owner_of(port: int) -> str:
    """Who listens on a port, in the words of a message."""
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            if connection.pid is None:
                break
            return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return "another process"


def bound(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def plain(new_cli: Callable[..., Cli], standin_dir: Path) -> Cli:
    """A project that asks for no port."""
    cli = new_cli(standin_dir)
    cli.env = {k: v for k, v in cli.env.items() if not k.endswith("_PORT")}
    return cli


def test_default_ports_of_somebody_else_are_left_alone_and_the_new_ones_kept(plain: Cli) -> None:
    with taken(*DEFAULTS.values()) as other:
        mine = {c.laddr.port for c in psutil.Process(other.pid).net_connections(kind="tcp")}
        owners = {port: owner_of(port) for port in DEFAULTS.values()}
        assert mine & {DEFAULTS[purpose] for purpose in PUBLIC}
        said = plain("plan")
        made = plain.json("--smoke", "none")
        ports = plain.state["ports"]
        for purpose in PUBLIC:
            wanted, chosen = DEFAULTS[purpose], ports[purpose]
            assert wanted < chosen <= wanted + 200
            note = f"port {wanted} is taken by {owners[wanted]}"
            assert any(n.startswith(note) and str(chosen) in n for n in made["notes"]), made["notes"]
            assert note in said.text
        assert not set(ports.values()) & mine
        assert len(set(ports.values())) == len(ports)
        assert other.poll() is None
    assert made["endpoints"]["dashboard"] == f"http://localhost:{ports['dashboard']}"
    assert plain.dotenv()["OWLCLAW_PG_PORT"] == str(ports["postgres"])
    assert plain.json("status")["status"] == "ok"
    token = plain.secrets["token"]

    # The other one has gone: what was chosen stays, since the token and the dotenv file name it.
    plain.json("down")
    again = plain.json("--smoke", "none")
    assert again["notes"] == []
    assert {p: plain.state["ports"][p] for p in PUBLIC} == {p: ports[p] for p in PUBLIC}
    assert plain.secrets["token"] == token
    plain.assert_no_leak()


def test_an_asked_for_port_that_is_taken_is_refused(cli: Cli) -> None:
    for setting, purpose in (("dashboard", "the dashboard"), ("grpc", "gRPC"), ("postgres", "our PostgreSQL")):
        port = int(cli.env[f"OWLCLAW_UP_{setting.upper()}_PORT"])
        with taken(port) as other:
            error = cli.json(code=3)["error"]
            assert error["code"] == "port-taken"
            assert f"port {port}, kept for {purpose}, is taken by {owner_of(port)}" in error["message"]
            assert f"(pid {other.pid})" in error["message"]
            assert f"--{setting}-port PORT" in error["hint"]
            assert f"(pid {other.pid})" in error["hint"]
            assert other.poll() is None
        assert not (cli.root / ".owlclaw-up").exists()
        assert not (cli.root / ".env").exists()
    # Asked for by a flag and by a file as well.
    port = free_port()
    with taken(port):
        assert cli.json("--dashboard-port", str(port), code=3)["error"]["code"] == "port-taken"
        (cli.root / "owlclaw-up.toml").write_text(f"grpc_port = {port}\n")
        del cli.env["OWLCLAW_UP_GRPC_PORT"]
        assert cli.json("plan", code=3)["error"]["code"] == "port-taken"


def test_a_kept_port_that_was_taken_meanwhile_is_refused_with_both_ways_out(plain: Cli) -> None:
    plain.json(
        "--smoke", "none",
        "--dashboard-port", str(free_port()), "--grpc-port", str(free_port()), "--postgres-port", str(free_port()),
    )  # fmt: skip
    ports, token, written = plain.state["ports"], plain.secrets["token"], (plain.root / ".env").read_bytes()
    plain.json("down")
    for purpose in PUBLIC:
        with taken(ports[purpose]) as other:
            error = plain.json("--smoke", "none", code=3)["error"]
            assert error["code"] == "port-taken"
            assert str(ports[purpose]) in error["message"]
            assert f"(pid {other.pid})" in error["message"]
            assert f"stop {owner_of(ports[purpose])}" in error["hint"]
            assert f"--{purpose}-port PORT" in error["hint"]
            assert plain.state["ports"] == ports
            assert (plain.root / ".env").read_bytes() == written

    # One way out: move. The token names the dashboard's address, so it is another one, and the new port is kept.
    moved = free_port()
    with taken(ports["dashboard"]):
        plain.json("--smoke", "none", "--dashboard-port", str(moved))
        assert plain.state["ports"]["dashboard"] == moved
        assert plain.secrets["token"] != token
        assert plain.dotenv()["HATCHET_SERVER_URL"] == f"http://localhost:{moved}"
        assert plain.json("status")["token"]["accepted"] is True
    plain.json("down")
    # The other way out: the other one has stopped.
    plain.json("--smoke", "none")
    assert plain.state["ports"]["dashboard"] == moved
    plain.assert_no_leak()


def test_an_inner_port_that_is_taken_while_the_engine_starts_is_moved(
    new_cli: Callable[..., Cli], tmp_path: Path
) -> None:
    """Between the plan and the start there are seconds, in which another checkout chooses the same ports."""
    engine = install(tmp_path / "engine")
    lite, pidfile, script = engine / "hatchet-lite", tmp_path / "pid", tmp_path / "listen.py"
    script.write_text(LISTEN.replace("sys.stdin.read()", "import time; time.sleep(300)"))
    text = lite.read_text().splitlines()
    # Only the first start, and not the look at the version.
    trick = (
        f'if [ "$#" = 0 ] && [ ! -e {pidfile} ]; then\n'
        f"  {sys.executable} {script} $SERVER_HEALTHCHECK_PORT $SERVER_PORT $LITE_FRONTEND_PORT > {tmp_path}/said &\n"
        f"  echo $! > {pidfile}\n"
        f"  until grep -q listening {tmp_path}/said; do sleep 0.05; done\n"
        "fi"
    )
    lite.write_text("\n".join([text[0], trick, *text[1:]]) + "\n")
    cli = new_cli(engine)
    try:
        made = cli.json("--smoke", "none")
        intruder = psutil.Process(int(pidfile.read_text()))
        held = {c.laddr.port for c in intruder.net_connections(kind="tcp")}
        ports = cli.state["ports"]
        assert len(held) == 3
        assert not held & set(ports.values())
        assert next(s for s in made["steps"] if s["id"] == "engine.server")["status"] == "done"
        assert cli.json("status")["status"] == "ok"
        assert {s["action"] for s in cli.json("plan", "--smoke", "none")["steps"]} == {"unchanged", "skip"}
    finally:
        with contextlib.suppress(psutil.Error, OSError):
            psutil.Process(int(pidfile.read_text())).kill()


class TakesThePort(LocalProcesses):
    """Somebody listens on PostgreSQL's port a moment before PostgreSQL does, and says nothing.

    Args:
        addresses: where; the next start finds the port free again where there are none left.
    """

    def __init__(self, port: int, *addresses: str) -> None:
        self.port, self.addresses = port, addresses
        self.held = contextlib.ExitStack()

    def start(self, argv: Sequence[str], **options: Any) -> ProcessId:
        if Path(argv[0]).name == "postgres":
            for address in self.addresses:
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                self.held.enter_context(socket.create_server((address, self.port), family=family))
            self.addresses = ()
        return super().start(argv, **options)


def test_postgres_moves_on_at_once_from_a_port_that_is_taken_while_it_starts(new_cli: Callable[..., Cli]) -> None:
    """Of several addresses PostgreSQL is content with one, and whoever has another would be asked for ours."""
    cli = new_cli()
    environ = {k: v for k, v in cli.env.items() if not k.endswith("_PORT")} | {"OWLCLAW_UP_SMOKE": "none"}
    notes: list[str] = []

    def brought_up(port: int, *addresses: str) -> Outcome:
        processes = TakesThePort(port, *addresses)
        host = Host(environ=environ, cwd=cli.root, processes=processes)
        with processes.held:
            return up(open_project(cli.root, {}, host), lambda e: notes.append(e.text) if isinstance(e, Note) else None)

    def running() -> bool:
        return (
            EmbeddedServers(LocalProcesses()).running(Path(cli.state["data"]["postgres"]["base"]) / "data") is not None
        )

    planned = up(open_project(cli.root, {}, Host(environ=environ, cwd=cli.root)), dry_run=True)
    port = int(planned.endpoints["postgres"].rpartition(":")[2].partition("/")[0])
    made = brought_up(port, "127.0.0.1")
    chosen = cli.state["ports"]["postgres"]
    assert (made.exit_code, running(), port < chosen <= port + 200) == (0, True, True), made.error
    assert any(f"port {port} of 127.0.0.1 was taken by somebody while PostgreSQL was starting; " in n for n in notes)
    assert f":{chosen}/" in cli.dotenv()["DATABASE_URL"]
    # One that is written down does not move: it is said whose it is now.
    for addresses in (["::1"], ["127.0.0.1", "::1"]) if has_ipv6() else (["127.0.0.1"],):
        cli.json("down")
        refused = brought_up(chosen, *addresses)
        assert isinstance(refused.error, PortTaken), refused.error
        assert (refused.exit_code, running(), cli.state["ports"]["postgres"]) == (4, False, chosen)
        assert f"(pid {os.getpid()})" in refused.error.message
    assert brought_up(chosen).exit_code == 0


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


def test_ports_that_a_mode_does_not_use_stay_as_they_are(new_cli: Callable[..., Cli]) -> None:
    """In mock nobody of ours listens on the engine's ports; who else does is of no interest."""
    cli = new_cli()
    cli.env = {k: v for k, v in cli.env.items() if not k.endswith("_PORT")}
    cli.json("--smoke", "none")
    ports, written = cli.state["ports"], (cli.root / ".env").read_bytes()
    with taken(*(port for purpose, port in ports.items() if purpose != "postgres")):
        assert {s["action"] for s in cli.json("plan", "--smoke", "none")["steps"]} == {"unchanged", "skip"}
        cli.json("--smoke", "none")
        assert cli.state["ports"] == ports
        assert (cli.root / ".env").read_bytes() == written


def test_two_checkouts_on_one_machine_go_out_of_each_others_way(new_cli: Callable[..., Cli], standin_dir: Path) -> None:
    """Neither asks for a port: the second one is told what the first one has, and takes the next."""
    both = []
    for _ in range(2):
        cli = new_cli(standin_dir)
        cli.env = {k: v for k, v in cli.env.items() if not k.endswith("_PORT")}
        both.append(cli)
    first = both[0].json("--smoke", "none")
    second = both[1].json("--smoke", "none")
    one, other = (cli.state["ports"] for cli in both)
    assert not set(one.values()) & set(other.values())
    assert first["endpoints"] != second["endpoints"]
    for purpose in PUBLIC:
        start = f"port {DEFAULTS[purpose]} is taken by "
        assert any(n.startswith(start) and str(other[purpose]) in n for n in second["notes"]), second["notes"]
    for cli in both:
        assert cli.json("status")["status"] == "ok"


def test_looks_at_once_do_not_see_each_other() -> None:
    """Two commands look at the same port, and the port is free: for both."""
    port = free_port()
    with ThreadPoolExecutor(2) as pool:
        looks = [pool.submit(lambda: {look_at_port(port).state for _ in range(3000)}) for _ in range(2)]
    assert [look.result() for look in looks] == [{"free"}] * 2
    with socket.create_server(("127.0.0.1", port)):
        assert look_at_port(port).state == look_at_port(port, everywhere=True).state == "busy"


def test_a_port_that_is_denied_is_told_from_one_that_is_taken() -> None:
    low = next(port for port in range(1, 1024) if not bound(port))
    assert low < int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    with ordinary_project() as cli:
        error = cli.json("--smoke", "none", "--postgres-port", str(low), code=3)["error"]
        assert error["code"] == "port-denied"
        assert f"port {low}" in error["message"]
        assert "Permission denied" in error["message"]
        assert "above 1024" in error["hint"]
        assert "--postgres-port" in error["hint"]
        assert os.listdir(cli.root) == []  # noqa: PTH208


def test_the_owner_of_somebody_elses_port_is_said_as_far_as_one_may_know() -> None:
    """An ordinary user is not told who owns another user's socket; that it is taken is said all the same."""
    with ordinary_project() as cli, taken(int(cli.env["OWLCLAW_UP_POSTGRES_PORT"])) as other:
        error = cli.json("--smoke", "none", code=3)["error"]
        assert error["code"] == "port-taken"
        known = f"(pid {other.pid})" if os.geteuid() != 0 else "another process"
        assert known in error["message"]
