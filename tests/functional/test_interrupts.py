"""Ctrl-C, SIGTERM and SIGKILL at many moments: told as promised, nobody orphaned, and the same end after another `up`."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import Cli, processes_in
from tests.standin import install

# Before a program does its work it kills the command that started it, once, where the file `crash` says so.
CRASH = """\
moment={moment}
if [ -e {file} ] && [ "$(cat {file})" = "$moment" ]; then
  rm {file}
  kill -9 $PPID
fi
"""
MOMENTS = {
    "hatchet-migrate": '"migrate$#"',
    "hatchet-admin": '"$1"',
    "hatchet-lite": '"lite$#"',
}


def wait_for(what: str, seen: Callable[[], Any], seconds: float = 60) -> Any:
    """Ask until there is an answer."""
    end = time.monotonic() + seconds
    while True:
        answer = seen()
        if answer:
            return answer
        assert time.monotonic() < end, f"{what} did not happen in {seconds} s"
        time.sleep(0.01)


def runs(program: str, *places: Path, word: str = "") -> list[int]:
    """Processes of a program in some folders, with a certain word in their command line."""
    found = set()
    for place in places:
        for process in processes_in(place):
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                # A look at its version is no run of it.
                if "--version" in words or (word and word not in words):
                    continue
                if program in [Path(w).name for w in words]:
                    found.add(process.pid)
    return sorted(found)


def session_of(pid: int) -> list[psutil.Process]:
    """Who is left of a command's own session; servers have sessions of their own."""
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                left.append(process)
    return left


def lives(process: psutil.Process) -> bool:
    """Whether a process goes on, and is no server's own child."""
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE and not _of_server(process)
    return False


def _of_server(process: psutil.Process) -> bool:
    return process.name() == "postgres" or any("hatchet-lite" in word for word in process.cmdline())


def base_of(cli: Cli) -> Path:
    """The folder of the embedded server, empty path's folder where none was chosen."""
    with contextlib.suppress(OSError, KeyError):
        return Path(cli.state["data"]["postgres"]["base"])
    return cli.root / ".owlclaw-up/postgres"


def servers(cli: Cli) -> dict[str, list[int]]:
    """Every server of a project, by its kind."""
    # Its backends call themselves otherwise, and initdb's own are single or bootstrapping.
    return {
        "postgres": runs("postgres", base_of(cli), cli.root, word="-D"),
        "hatchet": runs("hatchet-lite", cli.root),
    }


def interrupted(cli: Cli, moment: Callable[[], Any], how: Callable[[subprocess.Popen[str]], None], *args: str) -> None:
    """Start `up --json`, interrupt it at a moment, and hold it to what is promised of an interrupt."""
    child = cli.start("up", "--json", *args)
    try:
        wait_for("the moment", lambda: moment() or child.poll() is not None)
        assert child.poll() is None, child.communicate()
        family = {p.pid: p for p in psutil.Process(child.pid).children(recursive=True)}
        how(child)
        out, err = child.communicate(timeout=30)
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()
    assert child.returncode == 130, out + err
    document = json.loads(out)
    assert (document["schema"], document["status"], document["exit_code"]) == ("owlclaw-up/1", "failed", 130)
    assert document["error"]["code"] == "interrupted"
    assert "run the same command again" in document["error"]["hint"]
    assert "Traceback" not in err, err
    left = servers(cli)
    assert len(left["postgres"]) <= 1
    assert len(left["hatchet"]) <= 1
    # Whoever is no server has ended with the command, wherever its session: a worker would take the next one's tasks.
    for pid in left["postgres"] + left["hatchet"]:
        family.pop(pid, None)
    wait_for("the end of every child", lambda: not session_of(child.pid) and not any(map(lives, family.values())), 5)


def ctrl_c(child: subprocess.Popen[str]) -> None:
    """As a terminal does it: to the whole group."""
    os.killpg(child.pid, signal.SIGINT)


def assert_whole(cli: Cli) -> None:
    """`up` comes to the end it would have come to; one server of each kind; a purge leaves nothing."""
    done = cli.json("up")
    assert done["smoke"]["status"] == "passed"
    assert {kind: len(pids) for kind, pids in servers(cli).items()} == {"postgres": 1, "hatchet": 1}
    assert cli.json("status")["token"]["accepted"] is True
    assert {s["action"] for s in cli.json("plan")["steps"]} == {"unchanged"}
    assert all(receipt["done"] for receipt in cli.state["receipts"])
    cli.assert_no_leak()
    assert_purged(cli)


def assert_purged(cli: Cli) -> None:
    base, ports = base_of(cli), cli.state["ports"] if (cli.root / ".owlclaw-up/state.json").exists() else {}
    cli.json("down", "--purge")
    assert processes_in(cli.root) == []
    assert processes_in(base) == []
    assert not base.exists()
    assert sorted(p.name for p in cli.root.iterdir()) == [".git", ".gitignore"]
    for purpose in ("dashboard", "grpc", "postgres"):
        with socket.socket() as probe:
            probe.settimeout(1)
            assert purpose not in ports or probe.connect_ex(("127.0.0.1", ports[purpose])) != 0


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A stand-in of the test's own: with faults, and with moments at which it kills the command."""
    folder = install(tmp_path / "engine")
    for name, moment in MOMENTS.items():
        first, *rest = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text(first + CRASH.format(moment=moment, file=tmp_path / "crash") + "".join(rest))
    return folder


def test_ctrl_c_at_every_stage(new_cli: Callable[..., Cli], engine: Path) -> None:
    cli = new_cli(engine)
    fault = engine / "fault"

    # While the data directory is made.
    interrupted(cli, lambda: runs("initdb", base_of(cli)), ctrl_c)
    assert cli.json("status", code=1)["error"]["code"] == "no-environment"

    # In the middle of a migration that says nothing any more.
    fault.write_text("migrate.hangs")
    log = cli.root / ".owlclaw-up/logs/migrate.log"
    interrupted(cli, lambda: log.exists() and "v0_6_0" in log.read_text(), ctrl_c)
    assert runs("hatchet-migrate", cli.root) == []

    # While the engine is waited for; only the command itself is told, as `kill -INT` does.
    fault.write_text("lite.never-ready")
    interrupted(
        cli, lambda: cli.state["data"].get("engine", {}).get("pid"), lambda child: child.send_signal(signal.SIGINT)
    )

    # While a worker proves it: what stands keeps standing, and the next one adopts it.
    fault.write_text("lite.no-dispatch")
    log = cli.root / ".owlclaw-up/logs/smoke.log"
    interrupted(cli, lambda: log.exists() and '"register"' in log.read_text(), ctrl_c)
    standing = servers(cli)
    assert {kind: len(pids) for kind, pids in standing.items()} == {"postgres": 1, "hatchet": 1}

    fault.unlink()
    assert_whole(cli)


def test_sigterm_is_an_interrupt_too(new_cli: Callable[..., Cli], engine: Path) -> None:
    cli = new_cli(engine)
    (engine / "fault").write_text("migrate.hangs")
    log = cli.root / ".owlclaw-up/logs/migrate.log"
    interrupted(
        cli,
        lambda: log.exists() and "v0_6_0" in log.read_text(),
        lambda child: child.terminate(),
        "--smoke", "none",
    )  # fmt: skip
    assert runs("hatchet-migrate", cli.root) == []
    # A reader is told in words.
    child = cli.start("up", "--smoke", "none")
    wait_for("the migration", lambda: runs("hatchet-migrate", cli.root))
    child.terminate()
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "interrupted" in err
    assert "run the same command again" in err
    # A purge of what was half made leaves nothing.
    assert_purged(cli)


def killed(cli: Cli, *args: str) -> subprocess.Popen[str]:
    """Start `up`, which will be killed; gives it once it has ended."""
    child = cli.start("up", *args)
    # Orphans keep its pipes open, so they are not read to their end.
    child.wait(60)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    child.stderr.close()
    assert child.returncode == -signal.SIGKILL
    return child


def test_killed_in_the_middle_of_every_step(new_cli: Callable[..., Cli], engine: Path, tmp_path: Path) -> None:
    """Each time the program that was just started lives on as an orphan; the next `up` adopts or replaces it."""
    cli = new_cli(engine)
    sessions = []
    for moment in ("keyset", "migrate0", "seed", "lite0", "token"):
        (tmp_path / "crash").write_text(moment)
        sessions.append(killed(cli).pid)
        assert not (tmp_path / "crash").exists()
        assert cli.json("status", code=1)["status"] == "failed"
        assert len(servers(cli)["postgres"]) == 1
        assert len(servers(cli)["hatchet"]) <= 1
    # The one that was killed at `lite` left an engine that nobody recorded, and the last `up` found it.
    assert_whole(cli)
    wait_for("the end of every orphan", lambda: not any(session_of(session) for session in sessions), 20)


def test_an_unrecorded_engine_and_a_hung_migration_go_with_a_purge(
    new_cli: Callable[..., Cli], engine: Path, tmp_path: Path
) -> None:
    cli = new_cli(engine)
    (engine / "fault").write_text("migrate.hangs")
    (tmp_path / "crash").write_text("migrate0")
    killed(cli, "--smoke", "none")
    assert len(wait_for("the orphan", lambda: runs("hatchet-migrate", cli.root))) == 1
    assert_purged(cli)

    (engine / "fault").unlink()
    (tmp_path / "crash").write_text("lite0")
    killed(cli, "--smoke", "none")
    assert len(wait_for("the orphan", lambda: runs("hatchet-lite", cli.root))) == 1
    assert_purged(cli)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_at_any_moment(cli: Cli, seed: int) -> None:
    """Three times in a row, each time a little later or earlier; then everything is as if nothing had happened."""
    chance = random.Random(seed)
    for _ in range(3):
        child = cli.start("up", "--smoke", "none")
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(chance.uniform(0.3, 4.5))
        child.kill()
        # It may have come to its good end before; to no other.
        assert child.wait(10) in (0, -signal.SIGKILL)
        for stream in (child.stdout, child.stderr):
            assert stream is not None
            stream.close()
        assert len(servers(cli)["postgres"]) <= 1
    done = cli.json("up", "--smoke", "none")
    assert done["status"] == "ok"
    assert {kind: len(pids) for kind, pids in servers(cli).items()} == {"postgres": 1, "hatchet": 1}
    assert cli.json("status")["token"]["accepted"] is True
    cli.assert_no_leak()
    assert_purged(cli)


def test_killed_while_the_data_directory_is_made(mock_cli: Cli) -> None:
    """The orphaned initdb goes on behind everybody's back; the next `up` ends it and begins again."""
    child = mock_cli.start("up", "--smoke", "none")
    wait_for("initdb", lambda: runs("initdb", base_of(mock_cli)))
    child.kill()
    child.wait(10)
    for stream in (child.stdout, child.stderr):
        assert stream is not None
        stream.close()
    assert mock_cli.json("--smoke", "none")["status"] == "degraded"
    assert len(servers(mock_cli)["postgres"]) == 1
    assert runs("initdb", base_of(mock_cli)) == []
    mock_cli.assert_no_leak()
    assert_purged(mock_cli)


def test_a_purge_that_was_killed_is_finished_by_the_next(mock_cli: Cli) -> None:
    mock_cli.json("--smoke", "none")
    base = base_of(mock_cli)
    child = mock_cli.start("down", "--purge", "--yes")
    wait_for("the server's end", lambda: not servers(mock_cli)["postgres"])
    child.kill()
    child.communicate(timeout=10)
    mock_cli.json("down", "--purge")
    assert not base.exists()
    assert sorted(p.name for p in mock_cli.root.iterdir()) == [".git", ".gitignore"]
    assert mock_cli.json("down", "--purge")["nothing"] is True


def test_ctrl_c_while_the_command_is_being_loaded(mock_cli: Cli, tmp_path: Path) -> None:
    """The library of the command line is where the time goes; one that is interrupted stands in for it."""
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    ran = mock_cli("status", PYTHONPATH=str(tmp_path))
    assert (ran.code, ran.text) == (130, "")
