"""State, secrets and the lock: damage is refused, checkouts share nothing, and everything is done once."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from owlclaw_up.environment import up
from owlclaw_up.host.local import LocalFiles
from owlclaw_up.host.local import processes_in as programs_in
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Action
from owlclaw_up.project import open_project
from tests.conftest import Cli, command_lines, processes_in
from tests.functional.ordinary import ordinary_project
from tests.ports import free_port
from tests.standin import install

OUTSIDE = [Path("/var/lib/owlclaw-up"), Path("/var/tmp/owlclaw-up"), Path("/tmp/owlclaw-up")]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def wait_for(what: str, seen: Callable[[], Any], seconds: float = 60) -> Any:
    """Ask until there is an answer."""
    end = time.monotonic() + seconds
    while True:
        answer = seen()
        if answer:
            return answer
        assert time.monotonic() < end, f"{what} did not happen in {seconds} s"
        time.sleep(0.02)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def read_until(child: subprocess.Popen[str], words: str, seconds: float = 60) -> str:
    """What a running command says on stderr, up to some words."""
    assert child.stderr is not None
    text = ""
    end = time.monotonic() + seconds
    while words not in text:
        assert time.monotonic() < end, f"{words!r} was not said: {text}"
        ready, _, _ = select.select([child.stderr], [], [], 0.2)
        if ready:
            part = os.read(child.stderr.fileno(), 4096).decode()
            assert part, f"it ended without {words!r}: {text}"
            text += part
    return text


def actions(document: dict[str, Any]) -> dict[str, str]:
    return {step["id"]: step["action"] for step in document["steps"]}


def public(ports: dict[str, int]) -> dict[str, int]:
    """The ports that tokens and dotenv files name; the engine's inner ones may move while it is down."""
    return {purpose: ports[purpose] for purpose in ("dashboard", "grpc", "postgres")}


def assert_nothing_left(cli: Cli, state: dict[str, Any], before: set[str]) -> None:
    """No process, no port, no file of an environment that was purged."""
    assert processes_in(cli.root) == []
    base = Path(state["data"]["postgres"]["base"])
    assert processes_in(base) == []
    for purpose in ("dashboard", "grpc", "postgres"):
        assert not listens(state["ports"][purpose])
    assert {p.name for p in cli.root.iterdir()} == before
    assert not base.exists()
    for folder in OUTSIDE:
        assert base.name == "postgres" or not list(folder.glob(f"{base.name}*"))


def test_a_life_in_native(cli: Cli) -> None:
    before = {p.name for p in cli.root.iterdir()}
    assert cli.json("status", code=1)["error"]["code"] == "no-environment"
    nothing = cli.json("down")
    assert (nothing["steps"], nothing["nothing"]) == ([], True)
    assert {p.name for p in cli.root.iterdir()} == before

    first = cli.json("up")
    assert first["smoke"]["status"] == "passed"
    up = cli.json("status")
    assert {s["id"]: s["state"] for s in up["services"]} == {"postgres": "running", "hatchet": "running"}
    assert up["token"]["accepted"] is True
    assert first["endpoints"] == up["endpoints"]
    state, secrets = cli.state, cli.secrets
    check_rights(cli)

    # Everything stands: nothing is done, and nothing is planned.
    second = cli.json("up")
    assert set(actions(second).values()) == {"unchanged"}
    assert (cli.secrets, cli.state["ports"]) == (secrets, state["ports"])
    pids = {s["id"]: s["pid"] for s in up["services"]}
    assert {s["id"]: s["pid"] for s in cli.json("status")["services"]} == pids
    plan = cli.json("plan")
    assert set(actions(plan).values()) == {"unchanged"}
    assert plan["changes"] is False
    assert not [line for line in cli("plan").stdout.splitlines() if line.strip()[:2] in ("+ ", "~ ", "- ", "? ")]

    down = cli.json("down")
    assert actions(down) == {"engine.server": "remove", "postgres.server": "remove"}
    assert cli.json("status", code=1)["error"] is None
    assert processes_in(cli.root) == []
    assert set(actions(cli.json("down")).values()) == {"unchanged"}

    # Ports, passwords, keys and the token are those of the first time.
    again = cli.json("--smoke", "none")
    assert again["endpoints"] == first["endpoints"]
    assert (cli.secrets, public(cli.state["ports"])) == (secrets, public(state["ports"]))
    assert cli.json("status")["status"] == "ok"

    cli.assert_no_leak()
    purged = cli.json("down", "--purge")
    assert set(actions(purged).values()) == {"remove"}
    assert_nothing_left(cli, state, before)
    assert cli.json("down", "--purge")["nothing"] is True


def check_rights(cli: Cli) -> None:
    """Nothing of it is for others' eyes, nor for git's."""
    folder = cli.root / ".owlclaw-up"
    assert mode_of(folder) == mode_of(folder / "logs") == 0o700
    for path in (folder / "secrets.json", folder / "state.json", folder / "lock", *(folder / "logs").iterdir()):
        assert mode_of(path) == 0o600, path
    assert (folder / ".gitignore").read_text() == "*\n"
    seen = subprocess.run(
        ["git", "-C", str(cli.root), "status", "--porcelain", "-uall"], text=True, capture_output=True, check=True
    )
    assert seen.stdout.split() == ["??", ".gitignore"]
    words = " ".join(command_lines(cli.root))
    for secret in cli.secret_texts():
        assert secret not in words


def test_a_life_in_mock(mock_cli: Cli) -> None:
    before = {p.name for p in mock_cli.root.iterdir()}
    assert mock_cli.json("up")["smoke"]["status"] == "passed"
    state, secrets = mock_cli.state, mock_cli.secrets
    assert set(actions(mock_cli.json("up")).values()) == {"unchanged"}
    assert set(actions(mock_cli.json("plan")).values()) == {"unchanged"}
    assert mock_cli.json("status")["status"] == "degraded"
    mock_cli.json("down")
    assert mock_cli.json("status", code=1)["services"][0]["state"] == "stopped"
    mock_cli.json("up", "--smoke", "none")
    assert (mock_cli.secrets, public(mock_cli.state["ports"])) == (secrets, public(state["ports"]))
    mock_cli.assert_no_leak()
    mock_cli.json("down", "--purge")
    assert_nothing_left(mock_cli, state, before)


def test_two_checkouts_share_nothing(new_cli: Callable[..., Cli]) -> None:
    one, other = new_cli(), new_cli()
    for cli in (one, other):
        cli.json("--smoke", "none")
    mine, theirs = one.secrets, other.secrets
    assert not set(mine["passwords"].values()) & set(theirs["passwords"].values())
    assert one.state["ports"]["postgres"] != other.state["ports"]["postgres"]
    assert one.state["data"]["postgres"]["base"] != other.state["data"]["postgres"]["base"]
    assert one.dotenv()["DATABASE_URL"] != other.dotenv()["DATABASE_URL"]
    one.json("down", "--purge")
    assert other.json("status")["services"][0]["state"] == "running"
    assert other.secrets == theirs


NEWER = {"schema": 99, "mode": "native", "ports": {}, "data": {}, "receipts": []}
DAMAGES: list[tuple[str, bytes | None, tuple[str, ...]]] = [
    ("state.json", None, ("damaged", "mv ")),
    ("state.json", b"", ("damaged", "mv ")),
    ("state.json", b"[]\n", ("damaged", "mv ")),
    ("state.json", b'{"schema": 1, "mode": "mock", "ports": {"grpc": "x"}, "data": {}, "receipts": []}', ("damaged",)),
    ("state.json", json.dumps(NEWER).encode(), ("another version", "99", "pip install -U owlclaw-up")),
    ("state.json", b"{}", ("another version", "pip install -U owlclaw-up")),
    ("secrets.json", None, ("damaged", "mv ")),
    ("secrets.json", b'{"passwords": ["x"]}', ("damaged", "mv ")),
    ("secrets.json", b'{"env_originals": {"path": "x"}}', ("damaged", "mv ")),
]


def test_damaged_state_is_refused_and_nothing_is_lost(mock_cli: Cli) -> None:
    mock_cli.json("--smoke", "none")
    folder = mock_cli.root / ".owlclaw-up"
    state, secrets = mock_cli.state, mock_cli.secrets
    written = (mock_cli.root / ".env").read_bytes()
    for number, (name, data, names) in enumerate(DAMAGES):
        path = folder / name
        good = path.read_bytes()
        bad = good[: len(good) // 2] if data is None else data
        path.write_bytes(bad)
        # Every command that would work on it says the same.
        command = (["up"], ["down", "--purge"], ["status"], ["plan"])[number % 4]
        document = mock_cli.json(*command, code=3)
        error = document["error"]
        assert error["code"] == "state-unusable"
        assert str(path) in error["message"]
        for word in names:
            assert word in error["message"] + error["hint"]
        assert path.read_bytes() == bad
        assert (mock_cli.root / ".env").read_bytes() == written
        for secret in secrets["passwords"].values():
            assert secret not in mock_cli.history[-1].text
        path.write_bytes(good)
    assert mock_cli.json("status")["services"][0]["state"] == "running"

    # The way out that the hint names: a new start, with what the old one named left as it is.
    aside = folder.with_name(".owlclaw-up.damaged")
    folder.rename(aside)
    old = Path(state["data"]["postgres"]["base"])
    taken = mock_cli.json("--smoke", "none", code=3)["error"]
    assert taken["code"] == "port-taken"
    assert "postgres (pid " in taken["message"]
    mock_cli.json("--smoke", "none", OWLCLAW_UP_POSTGRES_PORT=str(free_port()))
    assert mock_cli.secrets["passwords"] != secrets["passwords"]
    assert mock_cli.state["data"]["postgres"]["base"] != str(old) or old.is_relative_to(folder)
    mock_cli.json("down", "--purge")
    aside.rename(folder)
    mock_cli.json("down")
    mock_cli.json("--smoke", "none")
    assert mock_cli.state["data"]["postgres"]["base"] == str(old)
    assert (old / "data/PG_VERSION").exists()
    assert mock_cli.dotenv()["DATABASE_URL"].split(":")[2].startswith(secrets["passwords"]["owlclaw"])


def test_the_state_of_another_user_is_theirs() -> None:
    with ordinary_project() as cli:
        folder = cli.root / ".owlclaw-up"
        folder.symlink_to("/usr")
        error = cli.json("--smoke", "none", code=3)["error"]
        assert error["code"] == "state-unusable"
        assert f"{folder} belongs to root" in error["message"]
        assert "run it as root" in error["hint"]
        folder.unlink()
        if os.geteuid() == 0:
            # And the other way round: root would leave files that the user cannot read.
            folder.mkdir()
            cli.own(folder)
            ran = Cli(cli.root, cli.env).json("--smoke", "none", code=3)
            assert ran["error"]["code"] == "state-unusable"
            assert "belongs to nobody, and this is root" in ran["error"]["message"]
            assert "run it as nobody" in ran["error"]["hint"]
            assert list(folder.iterdir()) == []
        assert not (cli.root / ".env").exists()


@pytest.fixture
def hanging(new_cli: Callable[..., Cli], tmp_path: Path) -> Iterator[Cli]:
    """A project whose engine hangs in its migration for as long as its file `fault` is there."""
    engine = install(tmp_path / "engine")
    (engine / "fault").write_text("migrate.hangs")
    yield new_cli(engine)
    shutil.rmtree(engine)


def test_a_second_one_waits_for_the_first(hanging: Cli) -> None:
    first = hanging.start("up", "--smoke", "none")
    try:
        wait_for("the migration", lambda: any("hatchet-migrate" in line for line in command_lines(hanging.root)))
        during = hanging.json("status", code=1)
        assert "has begun and not ended" in during["findings"][0]["title"]

        begun = time.monotonic()
        error = hanging.json("down", "--timeout", "1", code=3)["error"]
        assert time.monotonic() - begun < 20
        assert error["code"] == "lock-held"
        assert f"owlclaw-up up, pid {first.pid}" in error["message"]
        assert "--timeout" in error["hint"]
        error = hanging.json("up", "--timeout", "1", code=3)["error"]
        assert (error["code"], first.poll()) == ("lock-held", None)

        second = hanging.start("up", "--smoke", "none")
        try:
            said = read_until(second, "waiting for another owlclaw-up in this project")
            said += read_until(second, "since") if "since" not in said else ""
            assert f"owlclaw-up up, pid {first.pid}" in said
            (Path(hanging.env["OWLCLAW_UP_ENGINE_DIR"]) / "fault").unlink()
            first.send_signal(signal.SIGTERM)
            assert first.wait(30) == 130
            out, err = second.communicate(timeout=120)
            assert second.returncode == 0, out + err
        finally:
            end(second)
    finally:
        end(first)
    assert hanging.json("status")["status"] == "ok"
    hanging.assert_no_leak()


def test_one_that_waited_for_a_purge_begins_anew(mock_cli: Cli) -> None:
    mock_cli.json("--smoke", "none")
    old = mock_cli.secrets
    purge = mock_cli.start("down", "--purge", "--yes")
    try:
        holder = mock_cli.root / ".owlclaw-up/lock.holder"
        wait_for("the purge", lambda: holder.exists() or purge.poll() is not None)
        purge.send_signal(signal.SIGSTOP)
        assert f"owlclaw-up down, pid {purge.pid}" in holder.read_text()
        waiter = mock_cli.start("up", "--smoke", "none")
        try:
            read_until(waiter, "waiting for another owlclaw-up")
            purge.send_signal(signal.SIGCONT)
            assert purge.wait(60) == 0
            out, err = waiter.communicate(timeout=120)
            assert waiter.returncode == 0, out + err
        finally:
            end(waiter)
    finally:
        end(purge)
    assert not set(mock_cli.secrets["passwords"].values()) & set(old["passwords"].values())
    assert set(actions(mock_cli.json("plan", "--smoke", "none")).values()) <= {"unchanged", "skip"}
    mock_cli.assert_no_leak()


class FirstThenAnother(LocalFiles):
    """Once it was seen that a project is new, another command brings it up."""

    def __init__(self, state: Path, another: Callable[[], object]) -> None:
        self.state, self.another = state, [another]

    def exists(self, path: Path) -> bool:
        there = super().exists(path)
        if path == self.state and not there and self.another:
            self.another.pop()()
        return there


def test_one_that_finds_the_other_half_done_waits_for_it(mock_cli: Cli) -> None:
    """What the other one has started on the ports of the project is no precondition that is not met."""
    environ = mock_cli.env | {"OWLCLAW_UP_SMOKE": "none"}
    state = mock_cli.root / ".owlclaw-up/state.json"
    files = FirstThenAnother(state, lambda: mock_cli.json("--smoke", "none"))
    project = open_project(mock_cli.root, {}, Host(environ=environ, cwd=mock_cli.root, files=files))
    outcome = up(project)
    assert (outcome.error, files.another) == (None, [])
    assert {report.action for report in outcome.steps} <= {Action.UNCHANGED, Action.SKIP}


def test_a_refusal_leaves_what_it_found(mock_cli: Cli) -> None:
    folder = mock_cli.root / ".owlclaw-up"
    with socket.create_server(("127.0.0.1", int(mock_cli.env["OWLCLAW_UP_POSTGRES_PORT"]))):
        for found in ([], ["logs"], ["logs", "backups"]):
            for name in found:
                (folder / name).mkdir(parents=True, exist_ok=True)
            assert mock_cli.json("--smoke", "none", code=3)["error"]["code"] == "port-taken"
            assert folder.exists() == ("backups" in found)


def test_the_state_directory_may_be_on_another_disk(mock_cli: Cli) -> None:
    link, disk = mock_cli.root / ".owlclaw-up", mock_cli.root.parent / "disk"
    disk.mkdir()
    link.symlink_to(disk)
    mock_cli.json("--smoke", "none")
    with subprocess.Popen(["sleep", "60"], cwd=link) as working:
        assert [found.pid for found in programs_in(link, {"sleep"})] == [working.pid]
        working.kill()
    mock_cli.json("down", "--purge", "--yes")
    assert link.is_symlink() and list(disk.iterdir()) == []


def end(child: subprocess.Popen[str]) -> None:
    """End a command of ours, whatever state it is in."""
    if child.poll() is None:
        with contextlib.suppress(psutil.Error):
            psutil.Process(child.pid).resume()
        child.kill()
    child.communicate(timeout=30)


def test_a_state_that_names_gone_data_is_made_anew(mock_cli: Cli) -> None:
    """The data directory was removed behind our back: `up` makes a new one and says so, it does not crash."""
    mock_cli.json("--smoke", "none")
    mock_cli.json("down")
    shutil.rmtree(mock_cli.state["data"]["postgres"]["base"])
    plan = actions(mock_cli.json("plan", "--smoke", "none"))
    assert plan["postgres.data"] == "create"
    made = mock_cli.json("--smoke", "none")
    assert actions(made)["postgres.data"] == "create"
    assert mock_cli.json("status")["services"][0]["state"] == "running"


def test_secrets_that_went_are_said_not_guessed(mock_cli: Cli) -> None:
    """Without `secrets.json` nobody can log in to the server that holds the data: nothing of it is touched."""
    mock_cli.json("--smoke", "none")
    base = Path(mock_cli.state["data"]["postgres"]["base"])
    made = (base / "data/PG_VERSION").stat().st_mtime_ns
    secrets = mock_cli.root / ".owlclaw-up/secrets.json"
    kept = secrets.read_bytes()
    secrets.unlink()
    result = mock_cli("--smoke", "none", "--timeout", "5", "--json")
    assert result.code == 3, result.text
    assert result.json["error"]["code"] == "state-unusable"
    assert "secrets.json" in result.json["error"]["message"]
    assert (base / "data/PG_VERSION").stat().st_mtime_ns == made
    secrets.write_bytes(kept)
    secrets.chmod(0o600)
    assert mock_cli.json("--smoke", "none")["status"] == "degraded"


def test_the_library_gives_the_same_as_the_command(mock_cli: Cli) -> None:
    programs = {
        "o = owlclaw_up.up(sys.argv[1], smoke='none'); s = owlclaw_up.status(sys.argv[1])\n"
        "print(o.status, o.exit_code, s.exit_code, owlclaw_up.plan(sys.argv[1], smoke='none').data['changes'])\n"
        "print(owlclaw_up.up(sys.argv[1], nosuch=1).error.code)\n"
        "print(owlclaw_up.up('/nonexistent').error.code)\n": ["degraded 0 0 False", "usage", "project-missing"],
        "print(owlclaw_up.down(sys.argv[1]).status, owlclaw_up.up(sys.argv[1], smoke='none').status)\n"
        "print(owlclaw_up.down(sys.argv[1], purge=True).status)\n": ["ok degraded", "ok"],
    }
    for program, said in programs.items():
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", f"import owlclaw_up, sys\n{program}", str(mock_cli.root)],
            env=mock_cli.env, cwd="/", text=True, capture_output=True, check=False, timeout=120,
        )  # fmt: skip
        # Nor is it a warning that servers outlive the program.
        assert ran.stderr == ""
        assert ran.stdout.splitlines() == said
