"""Hatchet's embedded engine as mode native: a sidecar that honours its handshake, held by our keeper, on our database.

The stand-in sidecar runs a real engine's binaries where there are some, so that the proof is one on a real engine.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from owlclaw_up.host.sidecars import asset
from owlclaw_up.settings import DEFAULT_SIDECAR_VERSION
from tests.conftest import REAL_ENGINE_DIR, Cli, processes_in
from tests.faults import Patient
from tests.functional import tls
from tests.standin import install, install_sidecar

NewCli = Callable[..., Cli]
KEEPER = "owlclaw_up.sidecar_keeper"


@dataclass
class Stack:
    """An environment on a sidecar. Attributes: `program` is that sidecar, `first` what the first `up` said."""

    cli: Cli
    program: Path
    first: dict[str, Any]

    @property
    def keeper(self) -> psutil.Process:
        return psutil.Process(self.cli.state["data"]["engine"]["pid"])

    @property
    def sidecar(self) -> psutil.Process:
        return psutil.Process(self.cli.state["data"]["sidecar"]["pid"])

    @property
    def token(self) -> str:
        return self.cli.dotenv()["HATCHET_CLIENT_TOKEN"]

    def break_it(self, *faults: str) -> None:
        (self.program.parent / "fault").write_text(" ".join(faults))


def up(cli: Cli, *args: str, code: int = 0, **env: str) -> dict[str, Any]:
    return cli.json("up", "--smoke", "none", *args, code=code, **env)


def actions(document: dict[str, Any]) -> dict[str, str]:
    return {s["id"]: s["action"] for s in document["steps"]}


def wait_gone(*processes: psutil.Process) -> None:
    """The processes end by themselves."""
    alive = psutil.wait_procs(processes, timeout=10)[1]
    assert not alive, alive


def ours(cli: Cli) -> list[psutil.Process]:
    """Everything that runs for a project, but its PostgreSQL."""
    return [p for p in processes_in(cli.root) if "postgres" not in p.name()]


@pytest.fixture(scope="module")
def shared(new_module_cli: NewCli, standin_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    program = install_sidecar(tmp_path_factory.mktemp("sidecar"), Path(REAL_ENGINE_DIR or standin_dir))
    cli = new_module_cli(OWLCLAW_UP_NATIVE_ENGINE="sidecar", HATCHET_CLIENT_EMBEDDED_BINARY_PATH=str(program))
    return Stack(cli, program, cli.json("up", "--require", "durable"))


@pytest.fixture
def stack(shared: Stack) -> Stack:
    """The module's environment as it should be."""
    shared.break_it()
    up(shared.cli)
    return shared


@pytest.fixture
def still(shared: Stack) -> Stack:
    """The module's environment without its engine."""
    for process in ours(shared.cli):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
        wait_gone(process)
    return shared


def test_from_an_empty_folder_to_a_proven_environment(shared: Stack) -> None:
    cli, first = shared.cli, shared.first
    assert (first["status"], first["mode"], first["smoke"]["status"]) == ("ok", "native", "passed")
    assert [p["id"] for p in first["smoke"]["proofs"]] == ["sql", "connect", "register", "run", "durable_sleep", "rest"]
    ports = cli.state["ports"]
    rest, grpc = f"http://localhost:{ports['dashboard']}", f"127.0.0.1:{ports['grpc']}"
    assert (first["endpoints"]["rest"], first["endpoints"]["grpc"]) == (rest, grpc)
    assert "dashboard" not in first["endpoints"] and first["login"] is None
    values = cli.dotenv()
    assert (values["HATCHET_SERVER_URL"], values["HATCHET_CLIENT_HOST_PORT"]) == (rest, grpc)
    assert values["HATCHET_CLIENT_TOKEN"] == values["HATCHET_API_TOKEN"]

    assert set(actions(cli.json("up")).values()) == {"unchanged"}
    # What served last goes on, whether it is named again or not.
    bare = {k: v for k, v in cli.env.items() if k not in ("OWLCLAW_UP_NATIVE_ENGINE", "OWLCLAW_UP_ENGINE_DIR")}
    again = Cli(cli.root, {k: v for k, v in bare.items() if not k.startswith("HATCHET_CLIENT_EMBEDDED")})
    assert set(actions(again.json("plan")).values()) == {"unchanged"}
    status = cli.json("status")
    assert {s["id"]: s["state"] for s in status["services"]} == {"postgres": "running", "hatchet": "running"}
    assert status["token"]["accepted"] and 85 < status["token"]["days_left"] <= 90
    assert Patient(cli).well()
    assert "starts hatchet-embedded" in cli("logs", "hatchet", "--tail", "400").stdout


def test_no_secret_is_on_any_command_line(shared: Stack) -> None:
    lines = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            lines.append(" ".join(process.cmdline()))
    assert [line for line in lines if "-database-url postgresql://hatchet@" in line]
    for secret in shared.cli.secret_texts():
        assert not [line for line in lines if secret in line]
    handed = shared.cli.root / ".owlclaw-up/engine/handshake.json"
    assert handed.stat().st_mode & 0o777 == 0o600
    assert shared.sidecar.ppid() == shared.keeper.pid and shared.keeper.ppid() != os.getpid()
    shared.cli.assert_no_leak()


def test_what_it_cannot_do_is_said(shared: Stack) -> None:
    cli = shared.cli
    refused = {
        "sidecar-dashboard": cli.json("open", code=3),
        "sidecar-engines": cli.json("up", "--engines", "2", code=3),
        "sidecar-rabbitmq": cli.json("up", code=3, OWLCLAW_UP_RABBITMQ_URL="amqp://somebody:pw@localhost:5672/"),
        "export": cli.json("export", "helm", code=3),
    }
    assert {code: refused[code]["error"]["code"] for code in refused} == {code: code for code in refused}
    assert "keys in its database" in refused["export"]["error"]["message"]


def test_a_killed_keeper_takes_the_sidecar_with_it_and_up_mends_it(stack: Stack) -> None:
    cli, token, sidecar = stack.cli, stack.token, stack.sidecar
    stack.keeper.send_signal(signal.SIGKILL)
    # Its standard input is closed, so it ends.
    wait_gone(sidecar)
    service = next(s for s in cli.json("status", code=1)["services"] if s["id"] == "hatchet")
    assert (service["state"], service["pid"]) == ("stopped", None)
    first = Patient(cli).first()
    assert (first.id, first.command) == ("engine.running", "owlclaw-up")
    assert actions(up(cli))["engine.server"] == "create"
    # Its keys are in the database: the token that programs have goes on being good.
    assert stack.token == token and cli("token", "check").code == 0
    assert len([p for p in ours(cli) if KEEPER in p.cmdline()]) == 1


def test_a_killed_sidecar_takes_the_keeper_with_it_and_up_mends_it(stack: Stack) -> None:
    cli, token, keeper = stack.cli, stack.token, stack.keeper
    stack.sidecar.send_signal(signal.SIGKILL)
    wait_gone(keeper)
    assert not (cli.root / ".owlclaw-up/engine/handshake.json").exists()
    assert cli("status").code == 1
    up(cli)
    assert stack.token == token and cli("status").code == 0


def test_a_sidecar_that_outlives_its_keeper_is_named_and_its_last_words_are_read(still: Stack) -> None:
    still.break_it("sidecar.deaf")
    up(still.cli)
    sidecar, keeper = still.sidecar, still.keeper
    keeper.send_signal(signal.SIGKILL)
    wait_gone(keeper)
    found = Patient(still.cli).finding("leftovers.processes")
    assert str(sidecar.pid) in found.title and found.command == "owlclaw-up doctor --fix"
    still.break_it("sidecar.die-after=0")
    wait_gone(sidecar)
    first = Patient(still.cli).first()
    assert first.id == "engine.running" and "panic: runtime error" in first.title


def test_rotation(stack: Stack) -> None:
    cli, before = stack.cli, stack.token
    document = cli.json("token", "rotate")
    assert document["token"]["accepted"] and stack.token != before
    assert cli("token", "check").code == 0


FAILURES: dict[str, tuple[str, dict[str, str], str, str]] = {
    "exits": ("sidecar.exit-at-start", {}, "process-died", "ended before it was ready"),
    "without an API": ("sidecar.no-api", {}, "sidecar-handshake", "answered otherwise"),
    "never ready": ("sidecar.never-ready", {"OWLCLAW_UP_TIMEOUT": "7"}, "timeout", ""),
    "a garbled handshake": (
        "sidecar.garbage-handshake",
        {"OWLCLAW_UP_TIMEOUT": "10"},
        "timeout",
        "",
    ),
    "wrong checksum": ("", {"HATCHET_CLIENT_EMBEDDED_CHECKSUM": "0" * 64}, "sidecar-checksum", "was not started"),
}


@pytest.mark.parametrize(("fault", "env", "code", "words"), FAILURES.values(), ids=FAILURES.keys())
def test_a_start_that_fails_says_why_and_leaves_nothing_running(
    still: Stack, fault: str, env: dict[str, str], code: str, words: str
) -> None:
    cli = still.cli
    still.break_it(*([fault] if fault else []))
    error = up(cli, code=4, **env)["error"]
    assert error["code"] == code and words in error["message"] and error["hint"]
    assert ours(cli) == []
    assert cli("status").code == 1


def test_a_program_that_is_gone_or_cannot_run(still: Stack) -> None:
    cli, native = still.cli, ("--mode", "native")
    gone = still.program.with_name("gone")
    error = up(cli, *native, code=3, OWLCLAW_UP_SIDECAR_BINARY=str(gone))["error"]
    assert error["code"] == "sidecar-missing" and str(gone) in error["message"]
    found = Patient(cli).finding("engine.binaries", env={"OWLCLAW_UP_SIDECAR_BINARY": str(gone)})
    assert found.level == "fail" and str(gone) in found.title
    text = still.program.with_name("text")
    text.write_text("no program")
    assert up(cli, *native, code=3, OWLCLAW_UP_SIDECAR_BINARY=str(text))["error"]["code"] == "sidecar-not-executable"
    text.chmod(0o755)
    assert up(cli, *native, code=4, OWLCLAW_UP_SIDECAR_BINARY=str(text))["error"]["code"] == "sidecar-not-runnable"


def test_two_at_once_then_down_then_nothing_is_left(new_cli: NewCli, shared: Stack) -> None:
    cli = new_cli(
        OWLCLAW_UP_NATIVE_ENGINE="sidecar", OWLCLAW_UP_SIDECAR_BINARY=str(shared.program), OWLCLAW_UP_SMOKE="none"
    )
    both = [cli.start("up", "--json"), cli.start("up", "--json")]
    said = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len([p for p in ours(cli) if KEEPER in p.cmdline()]) == 1
    base = Path(cli.state["data"]["postgres"]["base"])
    cli.json("down")
    assert ours(cli) == [] and not (cli.root / ".owlclaw-up/engine/handshake.json").exists()
    assert cli("status").code == 1
    cli.json("down", "--purge", "--yes")
    assert processes_in(cli.root) == []
    assert not (cli.root / ".owlclaw-up").exists() and not (cli.root / ".env").exists() and not base.exists()


def test_offline_and_without_a_program(new_cli: NewCli) -> None:
    cli = new_cli(OWLCLAW_UP_NATIVE_ENGINE="sidecar")
    error = up(cli, "--mode", "native", "--offline", code=3)["error"]
    assert error["code"] == "sidecar-offline" and "OWLCLAW_UP_SIDECAR_BINARY=FILE" in error["hint"]
    assert asset() in error["hint"] and not (cli.root / ".owlclaw-up").exists()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass
class Releases:
    """GitHub's releases as this machine sees them. Attributes: `folder` of them all; `asked`, of the proxy."""

    folder: Path
    asked: list[str]
    env: dict[str, str]

    def publish(self, program: Path, version: str = DEFAULT_SIDECAR_VERSION, *, checksum: str = "") -> None:
        folder, text = self.folder / version, program.read_bytes()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / asset()).write_bytes(text)
        promised = checksum or hashlib.sha256(text).hexdigest()
        (folder / "checksums.txt").write_text(f"{promised}  {asset()}\n")


@pytest.fixture
def releases(tmp_path: Path) -> Iterator[Releases]:
    """A server with GitHub's name and a certificate for it, behind a proxy that leads to it and nowhere else."""
    root = tmp_path / "web"
    folder = root / "hatchet-dev/hatchet-embedded/releases/download"
    root.mkdir()
    authority = tls.Authority(tmp_path)
    asked: list[str] = []
    handler = functools.partial(_Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, tls.loop() as loop:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        https = loop.terminator(authority.sign("github.com", "DNS:github.com"), server.server_port)
        proxy = loop.proxy(asked, target=https)
        env = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy}", "SSL_CERT_FILE": str(authority.root.file)}
        yield Releases(folder, asked, {**env, "no_proxy": "localhost,127.0.0.1"})
        server.shutdown()


def test_the_program_is_fetched_and_checked_by_hatchet_sdk(
    new_cli: NewCli, releases: Releases, standin_dir: Path, tmp_path: Path
) -> None:
    program = install_sidecar(tmp_path / "sidecar", standin_dir)
    cli = new_cli(OWLCLAW_UP_NATIVE_ENGINE="sidecar", OWLCLAW_UP_MODE="native", **releases.env)
    assert up(cli, code=4)["error"]["code"] == "sidecar-release"
    releases.publish(program, checksum="0" * 64)
    assert up(cli, code=4)["error"]["code"] == "sidecar-checksum"
    releases.publish(program)
    plan = cli.json("plan")
    step = next(s for s in plan["steps"] if s["id"] == "engine.server")
    assert f"{DEFAULT_SIDECAR_VERSION} (fetched from github.com/hatchet-dev/hatchet-embedded" in step["detail"]
    up(cli)
    kept = cli.root.parent / ".hatchet/embedded" / DEFAULT_SIDECAR_VERSION / asset()
    assert kept.is_file() and set(releases.asked) == {"github.com:443"}
    assert cli.state["data"]["engine"]["migrated_by"] == DEFAULT_SIDECAR_VERSION
    assert json.loads((cli.root / ".owlclaw-up/engine/handshake.json").read_text())["pid"]

    # Offline nobody is asked, not even for the checksum.
    cli.json("down")
    releases.asked.clear()
    assert actions(up(cli, "--offline"))["engine.server"] == "create"
    assert releases.asked == []
    kept.write_text(kept.read_text() + "# meddled with\n")
    cli.json("down")
    assert up(cli, "--offline", code=4)["error"]["code"] == "sidecar-checksum"


def test_another_release_is_an_upgrade_and_one_that_fails_is_taken_back(
    new_cli: NewCli, releases: Releases, tmp_path: Path
) -> None:
    old, new = DEFAULT_SIDECAR_VERSION, "v0.111.0"
    programs = {}
    for version in (old, new):
        engine = install(tmp_path / "engines" / version, version=version)
        programs[version] = install_sidecar(tmp_path / "sidecars" / version, engine)
        releases.publish(programs[version], version)
    cli = new_cli(OWLCLAW_UP_NATIVE_ENGINE="sidecar", OWLCLAW_UP_MODE="native", **releases.env)

    def runs() -> str:
        document = cli.json("status")
        assert document["token"]["accepted"]
        version: str = next(s["version"] for s in document["services"] if s["id"] == "hatchet")
        return version

    up(cli)
    token = cli.secrets["token"]
    fault = programs[new].parent / "fault"
    fault.write_text("sidecar.exit-at-start")
    failed = up(cli, code=4, OWLCLAW_UP_SIDECAR_VERSION=new)
    assert failed["error"]["code"] == "engine-upgrade"
    assert failed["error"]["message"].endswith(f"{old} runs again, on its database of before")
    assert (runs(), cli.secrets["token"]) == (old, token)
    # Its successor, named as a file this time: that is no reason not to find the way back.
    named: dict[str, Any] = {"OWLCLAW_UP_SIDECAR_VERSION": new, "OWLCLAW_UP_SIDECAR_BINARY": str(programs[new])}
    up(cli, code=4, **named)
    assert runs() == old
    fault.unlink()
    made = up(cli, **named)
    upgrade = next(s for s in made["steps"] if s["id"] == "engine.upgrade")
    assert (upgrade["status"], upgrade["detail"].startswith(f"from {old} to {new}")) == ("done", True)
    assert (runs(), cli.secrets["token"]) == (new, token)
    # Down, and up again by what it says of itself.
    cli.json("down")
    assert actions(up(cli)).get("engine.upgrade") is None
    assert runs() == new
    refused = up(cli, code=3, OWLCLAW_UP_SIDECAR_VERSION=old)["error"]
    assert refused["code"] == "engine-downgrade" and old in refused["message"]
    # A named one is the way back too.
    newest = "v0.112.0"
    other = install_sidecar(tmp_path / "sidecars" / newest, install(tmp_path / "engines" / newest, version=newest))
    (other.parent / "fault").write_text("sidecar.exit-at-start")
    up(cli, code=4, OWLCLAW_UP_SIDECAR_VERSION=newest, OWLCLAW_UP_SIDECAR_BINARY=str(other))
    assert runs() == new


def test_it_is_among_the_engines_at_hand(shared: Stack, standin_dir: Path) -> None:
    cli = shared.cli
    (row,) = cli.json("engine", "list")["engines"]
    assert (row["directory"], row["usable"], row["sidecar"]) == (str(shared.program), True, True)
    auto = {**cli.env, "OWLCLAW_UP_NATIVE_ENGINE": "auto", "PATH": f"{standin_dir}:{cli.env['PATH']}"}
    del auto["OWLCLAW_UP_ENGINE_DIR"]
    rows = Cli(cli.root, auto).json("engine", "list")["engines"]
    assert [row["sidecar"] for row in rows][:2] == [True, False], "what served last comes first"


def test_github_out_of_reach(new_cli: NewCli) -> None:
    cli = new_cli(OWLCLAW_UP_NATIVE_ENGINE="sidecar", HTTPS_PROXY="http://127.0.0.1:9", no_proxy="localhost,127.0.0.1")
    error = up(cli, "--mode", "native", code=4)["error"]
    assert error["code"] == "sidecar-unreachable" and "OWLCLAW_UP_SIDECAR_BINARY=FILE" in error["hint"]
    # Nobody asked for that mode now: the next one goes around it.
    document = up(cli)
    assert (document["mode"], document["status"]) == ("mock", "degraded")
    assert "GitHub cannot be reached" in document["decision"]["moves"][0]["why"]
