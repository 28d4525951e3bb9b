"""`can` in real environments: what works, how it was found out, and that its way out of a no is one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from tests.conftest import Cli, kill
from tests.functional.alembic_project import AlembicProject

Rows = dict[str, dict[str, Any]]
IN_PROCESS = {"unit_tests", "client", "mock_run"}
WORK = {"durable_timers", "cron", "delayed", "queue", "shared_work", "e2e_tests"}
EVERY = IN_PROCESS | WORK | {"database", "dashboard", "token"}


def look(cli: Cli) -> Rows:
    document = cli.json("can")
    assert document["status"] == "ok" and document["command"] == "can"
    rows: Rows = {row["id"]: row for row in document["capabilities"]}
    assert set(rows) == EVERY
    for row in rows.values():
        assert row["how"] and bool(row["command"]) is not row["yes"]
    return rows


def yes(rows: Rows) -> set[str]:
    return {name for name, row in rows.items() if row["yes"]}


def quick_python(cli: Cli, script: str = """echo '{"version": "1.0"}'""") -> None:
    """An interpreter of the project's own that answers at once: a test of everything else waits for no import."""
    python = cli.root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_before_anything_was_set_up(mock_cli: Cli) -> None:
    before = everything_in(mock_cli.root.parent)
    rows = look(mock_cli)
    assert everything_in(mock_cli.root.parent) == before, "it only looks"
    assert yes(rows) == IN_PROCESS, rows
    assert rows["client"]["proved"] and rows["mock_run"]["proved"] and not rows["unit_tests"]["proved"]
    assert " s" in rows["mock_run"]["how"]
    assert rows["database"]["command"] == "owlclaw-up"
    # Nothing durable can be had here without an engine.
    assert {rows[name]["command"] for name in WORK} == {"OWLCLAW_UP_ENGINE_DIR=DIR owlclaw-up"}


def test_mock_has_a_database_and_nothing_durable(mock_cli: Cli) -> None:
    quick_python(mock_cli)
    mock_cli.json("up", "--smoke", "none")
    rows = look(mock_cli)
    assert yes(rows) == IN_PROCESS | {"database"}
    assert rows["database"]["proved"]
    assert rows["cron"]["how"] == "no engine runs in mock"
    text = mock_cli("can")
    lines = text.stdout.splitlines()
    assert text.code == 0 and len(lines) <= 24 and max(map(len, lines)) <= 80
    assert lines[0] == "4 of 12 work here now: mock"
    AlembicProject(mock_cli.root).begin()
    mock_cli.env["PYTHONDONTWRITEBYTECODE"] = ""
    before = everything_in(mock_cli.root)
    assert look(mock_cli)["database"]["how"].endswith("; 2 to run: owlclaw-up db migrate")
    assert everything_in(mock_cli.root) == before
    mock_cli.assert_no_leak()


def engine_of(cli: Cli) -> psutil.Process:
    return psutil.Process(cli.state["data"]["engine"]["pid"])


def test_the_table_follows_an_environment_through_its_life(cli: Cli) -> None:
    """Up and proved, the engine killed, the token garbled, PostgreSQL away, down: each no ends by its own command."""
    quick_python(cli)
    rows = look(cli)
    assert {rows[name]["command"] for name in EVERY - IN_PROCESS} == {"owlclaw-up"}

    cli.json("up")
    rows = look(cli)
    # The stand-in brings no dashboard.
    assert yes(rows) == EVERY - {"dashboard"}, rows
    assert "placeholder" in rows["dashboard"]["how"]
    assert rows["e2e_tests"]["proved"] and "by smoke" in rows["e2e_tests"]["how"]
    assert not rows["cron"]["proved"] and "proved by: owlclaw-up smoke --full" in rows["cron"]["how"]
    assert rows["token"]["proved"] and "days left" in rows["token"]["how"]

    kill(engine_of(cli).pid)
    rows = look(cli)
    assert yes(rows) == IN_PROCESS | {"database"}
    assert rows["queue"]["command"] == "owlclaw-up" and "not running" in rows["queue"]["how"]

    cli.json("up", "--smoke", "none")
    rows = look(cli)
    assert yes(rows) == EVERY - {"dashboard"}
    assert not rows["e2e_tests"]["proved"], "what was proved of an engine that is gone proves nothing of this one"

    secrets = cli.root / ".owlclaw-up" / "secrets.json"
    kept = json.loads(secrets.read_text())
    head, claims, _ = kept["token"].split(".")
    for bad, says in ((f"{head}.{claims}.AAAA", "refuses"), ("no token at all", "could be read")):
        secrets.write_text(json.dumps(kept | {"token": bad}))
        rows = look(cli)
        assert yes(rows) == IN_PROCESS | {"database"}
        assert says in rows["token"]["how"] and rows["token"]["command"] == "owlclaw-up"
        assert not yes(rows) & WORK
    secrets.write_text(json.dumps(kept))

    server = psutil.Process(cli.json("status")["services"][0]["pid"])
    server.send_signal(signal.SIGINT)
    server.wait(20)
    rows = look(cli)
    assert rows["database"]["command"] == "owlclaw-up" and "not running" in rows["database"]["how"]
    assert not rows["database"]["yes"]

    cli.json("down")
    rows = look(cli)
    assert yes(rows) == IN_PROCESS
    assert {rows[name]["command"] for name in EVERY - IN_PROCESS} == {"owlclaw-up"}
    cli.assert_no_leak()


def test_a_look_that_crashes_leaves_the_others(mock_cli: Cli) -> None:
    quick_python(mock_cli, f"""[ "$2" = client ] || kill -SEGV $$\nexec {sys.executable} "$@" """)
    rows = look(mock_cli)
    assert yes(rows) == {"client"}
    assert "exit code -11" in rows["mock_run"]["how"] and "pip install hatchet-sdk" in rows["mock_run"]["command"]


def test_an_environment_without_the_packages_is_told_what_it_lacks(mock_cli: Cli) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(mock_cli.root / ".venv")], check=True)
    rows = look(mock_cli)
    assert not yes(rows)
    python = ".venv/bin/python"
    assert rows["mock_run"]["how"] == f"{python} has no hatchet-sdk"
    assert rows["mock_run"]["command"] == f"uv pip install --python {python} hatchet-sdk"
    assert rows["unit_tests"]["command"] == f"uv pip install --python {python} pytest"
    assert rows["client"]["command"].startswith(f"uv pip install --python {python} ")


def test_it_is_a_table_and_no_verdict_but_refuses_what_it_cannot_read(mock_cli: Cli) -> None:
    quick_python(mock_cli)
    assert mock_cli("can", "--quiet").text == ""
    assert mock_cli("can", "--nonsense").code == 2
    state = mock_cli.root / ".owlclaw-up" / "state.json"
    state.parent.mkdir(mode=0o700)
    state.write_text("{")
    damaged = mock_cli.json("can", code=3)
    assert damaged["error"]["code"]
