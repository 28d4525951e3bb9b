"""What is left behind, really left: by a killed command, a lost state, a hand that drops; and what is no leftover at all."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.host.local import start_time
from tests.conftest import Cli, DebianPostgres, processes_in
from tests.faults import Patient

FAMILY = (
    "leftovers.processes",
    "leftovers.containers",
    "leftovers.volumes",
    "leftovers.roles",
    "leftovers.receipts",
    "leftovers.files",
)
# A private file whose writer is killed when everything is written but the name.
KILLED_WRITE = """
import os, signal, sys
from pathlib import Path
from owlclaw_up.host.local import LocalFiles
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
LocalFiles().write_private(Path(sys.argv[1]), b"secret")
"""
# A command that holds the project, until it is told to go on, or killed.
HOLDER = """
import sys
from pathlib import Path
from owlclaw_up.host.base import SystemClock
from owlclaw_up.host.local import LocalFiles
from owlclaw_up.receipts import Ledger, project_lock
with project_lock(Ledger(Path(sys.argv[1]), LocalFiles(), SystemClock()), "up", 5, print):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def standing(new_module_cli: Callable[..., Cli], standin_dir: Path) -> Cli:
    cli = new_module_cli(standin_dir)
    cli.json("up", "--smoke", "none")
    return cli


@pytest.fixture
def patient(standing: Cli) -> Iterator[Patient]:
    """An environment that stands; each test leaves it so."""
    patient = Patient(standing)
    yield patient
    well = patient.well(*FAMILY)
    for left in (standing.root / ".owlclaw-up").glob(".*.tmp"):
        # Of a test that failed: the next one is not to fail of it.
        left.unlink()
    assert well, patient.bad()


@contextlib.contextmanager
def holding(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Another owlclaw-up at work in the project."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child
    finally:
        child.communicate("\n", timeout=30)


def half_write(path: Path) -> Path:
    """What a write that was killed leaves beside the file."""
    ran = subprocess.run([sys.executable, "-c", KILLED_WRITE, str(path)], check=False)
    assert ran.returncode == -signal.SIGKILL
    (left,) = path.parent.glob(f".{path.name}.*.tmp")
    return left


def sql(cli: Cli, query: str) -> None:
    """On the embedded server, as its superuser."""
    import psycopg

    login = {"port": cli.state["ports"]["postgres"], "password": cli.secrets["passwords"]["postgres"]}
    with psycopg.connect(host="127.0.0.1", user="postgres", dbname="postgres", autocommit=True, **login) as connection:
        connection.execute(query.encode())


@contextlib.contextmanager
def state_of(cli: Cli) -> Iterator[dict[str, Any]]:
    """state.json, to be changed; as it was afterwards, but for what an `up` has put on record since."""
    path = cli.root / ".owlclaw-up/state.json"
    state: dict[str, Any] = json.loads(path.read_text())
    yield state
    path.write_text(json.dumps(state))


def test_a_healthy_environment_has_none(patient: Patient) -> None:
    assert patient.well(*FAMILY)
    assert patient.last is not None
    assert patient.last.data["idle"] == ["leftovers.containers", "leftovers.volumes"], "no Docker here"


def test_half_written_files_and_the_note_of_a_killed_command(patient: Patient) -> None:
    root = patient.cli.root
    folder = root / ".owlclaw-up"
    left = [half_write(folder / "secrets.json"), half_write(root / ".env"), half_write(root / ".env.owlclaw-up.bak")]
    foreign = root / ".other.abcdefgh.tmp"
    foreign.write_text("somebody's")
    with holding(root) as child:
        child.kill()
        child.wait()
    finding = patient.finding("leftovers.files")
    assert (finding.level, finding.command) == ("warn", "owlclaw-up doctor --fix")
    told = {line.partition(": ")[0] for line in finding.detail.splitlines()}
    assert told == {str(path) for path in (*left, folder / "lock.holder")}
    assert f"{left[0]}: half-written secrets.json" in finding.detail
    assert f"{folder / 'lock.holder'}: of an owlclaw-up that was killed" in finding.detail
    patient.mend("leftovers.files")
    assert not [path for path in left if path.exists()] and foreign.exists()
    foreign.unlink()


def test_the_command_shows_what_it_would_do_and_asks(patient: Patient) -> None:
    left = half_write(patient.cli.root / ".owlclaw-up/secrets.json")
    only = ("--only", "leftovers.files")
    text = patient.cli("doctor", *only)
    assert text.code == 0
    assert f"! warning leftovers.files: left by a command that was killed: {left.name}" in text.stdout
    assert f"owlclaw-up doctor --fix would remove {left.name}" in text.stdout
    refused = patient.cli("doctor", "--fix", *only, CI="")
    assert refused.code == 2 and "add --yes" in refused.stderr
    assert f"  fix: remove {left.name}  (leftovers.files)" in refused.stderr
    assert f"remove   leftover.file.{left.name}" in refused.stderr
    assert left.exists()
    assert patient.cli.json("doctor", "--fix", *only, code=2, CI="")["error"]["code"] == "confirmation-needed"
    assert left.exists()
    document = patient.cli.json("doctor", "--fix", "--yes", *only)
    assert document["fixed"] == ["leftovers.files"]
    assert [step["action"] for step in document["steps"]] == ["remove"]
    assert not left.exists()


def test_another_one_at_work_is_left_alone(patient: Patient) -> None:
    left = half_write(patient.cli.root / ".owlclaw-up/secrets.json")
    with holding(patient.cli.root):
        patient.look(*FAMILY)
        assert patient.last is not None
        assert set(patient.last.data["idle"]) == set(FAMILY)
    assert not patient.well(*FAMILY)
    left.unlink()


def test_servers_of_a_state_that_was_lost(patient: Patient) -> None:
    """The first line names them; the ports that they have follow; ended gracefully; and the data is not touched."""
    cli = patient.cli
    path = cli.root / ".owlclaw-up/state.json"
    state = cli.state
    base, pids = (
        Path(state["data"]["postgres"]["base"]),
        [state["data"][name]["pid"] for name in ("postgres", "engine")],
    )
    aside = path.rename(path.with_name("kept"))
    try:
        first = patient.first()
        assert (first.id, first.level, first.command) == ("leftovers.processes", "fail", "owlclaw-up doctor --fix")
        assert patient.last is not None
        said = [f for f in patient.last.findings if f.id == "leftovers.processes"]
        assert {f.title.partition(" ")[0] for f in said} == {"hatchet-lite", "postgres"}
        assert all(any(f"(pid {pid})" in f.title for f in said) for pid in pids)
        followers = {f.id for f in patient.last.findings if f.cause == "leftovers.processes"}
        assert {"port.dashboard", "port.grpc", "port.postgres", "leftovers.files"} <= followers
        assert not [f.fix for f in patient.last.findings if f.id.startswith("port.") and f.fix], "it comes free"
        data = patient.finding("leftovers.files", *FAMILY)
        assert str(base) in data.title and data.command == f"rm -r {base}" and not data.fix

        patient.mend("leftovers.processes")
        assert not [pid for pid in pids if start_time(pid)]
        assert not processes_in(cli.root)
        assert (base / "data/PG_VERSION").exists() and not (base / "data/postmaster.pid").exists(), (
            "shut down, not killed"
        )
        assert "leftovers.processes" not in {f.id for f in patient.look(*FAMILY).findings if f.level != "ok"}
    finally:
        aside.rename(path)
        cli.json("up", "--smoke", "none")


def test_a_program_of_somebody_elses_in_our_folder_is_no_leftover(patient: Patient) -> None:
    folder = patient.cli.root / ".owlclaw-up/engine"
    child = subprocess.Popen(["sleep", "60"], cwd=folder)
    reader = subprocess.Popen(["tail", "-f", str(folder / "postgres")], cwd=folder, stderr=subprocess.DEVNULL)
    try:
        assert patient.well(*FAMILY)
    finally:
        for one in (child, reader):
            one.kill()
            one.wait()


def test_a_folder_of_a_server_that_was_never_made(patient: Patient) -> None:
    base = Path(patient.cli.state["data"]["postgres"]["base"])
    left = base.with_name(f"{base.name}-0123abcd")
    left.mkdir()
    (left / "companions").mkdir()
    finding = patient.finding("leftovers.files", *FAMILY)
    assert finding.level == "warn" and f"{left}: a server never made" in finding.detail
    patient.mend("leftovers.files")
    assert not left.exists() and base.exists()


def test_roles_and_databases_that_are_not_on_record(patient: Patient) -> None:
    """An older copy of the state, and a restore that was killed."""
    cli = patient.cli
    with state_of(cli) as state:
        named = [r for r in state["receipts"] if r["identity"].get("name") == "owlclaw"]
        assert {r["kind"] for r in named} == {"role", "database"}
        state["receipts"] = [r for r in state["receipts"] if r not in named]
    sql(cli, "create database hatchet_owlclaw_up_new")
    sql(cli, "create database mine_owlclaw_up_new")
    findings = [f for f in patient.look(*FAMILY).findings if f.id == "leftovers.roles"]
    assert [(f.level, f.command) for f in findings] == [("warn", "owlclaw-up doctor --fix")] * 2
    assert findings[0].title == "database hatchet_owlclaw_up_new is left of a restore of hatchet that was killed"
    assert findings[1].title == "role owlclaw, database owlclaw on our own PostgreSQL are not on record"
    patient.mend("leftovers.roles")
    assert {r["kind"] for r in cli.state["receipts"] if r["identity"].get("name") == "owlclaw"} == {"role", "database"}
    assert patient.well(*FAMILY)
    sql(cli, "drop database mine_owlclaw_up_new")


def test_receipts_of_what_is_gone(patient: Patient) -> None:
    cli = patient.cli
    cli.json("db", "reset-test")
    assert patient.well(*FAMILY)
    sql(cli, "drop database owlclaw_test")
    finding = patient.finding("leftovers.receipts")
    assert (finding.level, finding.command) == ("warn", "owlclaw-up doctor --fix")
    assert finding.title == "on record, and gone: database owlclaw_test"
    patient.mend("leftovers.receipts")
    assert not [r for r in cli.state["receipts"] if r["identity"].get("name") == "owlclaw_test"]


def test_data_that_were_removed_by_hand(mock_cli: Cli) -> None:
    mock_cli.json("up", "--smoke", "none")
    mock_cli.json("down")
    base = Path(mock_cli.state["data"]["postgres"]["base"])
    shutil.rmtree(base)
    patient = Patient(mock_cli)
    finding = patient.finding("leftovers.receipts", *FAMILY)
    assert finding.title == f"on record, and gone: data directory {base}"
    patient.mend("leftovers.receipts")
    assert patient.well(*FAMILY)
    mock_cli.json("up", "--smoke", "none")
    assert (base / "data/PG_VERSION").exists() and patient.well(*FAMILY)


def test_on_a_server_of_the_users_nothing_is_dropped(
    mock_cli: Cli, debian_postgres: Callable[..., DebianPostgres]
) -> None:
    server = debian_postgres()
    server.sql("create role owlclaw login password 'owlclaw'")
    server.sql("create database owlclaw owner owlclaw")
    mock_cli.json("up", "--smoke", "none", "--admin-url", server.url())
    patient = Patient(mock_cli)
    assert patient.well(*FAMILY), "what was there before us is the user's"
    server.sql("create database owlclaw_owlclaw_up_old")
    finding = patient.finding("leftovers.roles", *FAMILY)
    assert (finding.level, finding.fix) == ("info", "")
    assert finding.hint == "if nobody needs it: DROP DATABASE owlclaw_owlclaw_up_old;"
    server.sql("drop database hatchet")
    finding = patient.finding("leftovers.receipts", *FAMILY)
    assert finding.title == "on record, and gone: database hatchet"
    patient.mend("leftovers.receipts")
    assert patient.well(*FAMILY)
