"""The record of the last `up`: of one that ended, one that was interrupted, one that left no folder; never a secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from owlclaw_up.errors import ApplyFailed
from owlclaw_up.last_up import UpRecord
from owlclaw_up.model import (
    Action,
    Decided,
    Decision,
    Mode,
    Outcome,
    StepFinished,
    StepReport,
    StepStarted,
)
from owlclaw_up.project import Project
from owlclaw_up.redaction import Redactor
from owlclaw_up.settings import Settings
from tests.unit.fakes import FakeClock, make_host, make_ledger

DONE = StepReport("database", "Database", Action.CREATE, "done", 0.5, "role, database", 1.25)
EARLY = StepReport("smoke", "Smoke test", Action.RUN, "failed", 3, "password=geheim-1", 2.0, 1.25)
DECIDED = Decided(Decision(Mode.NATIVE, "auto", "", (), True), ())


def a_record(root: Path, *, folder: bool = True) -> tuple[UpRecord, FakeClock, Path]:
    clock = FakeClock()
    project = Project(root, make_host(clock=clock), Settings(), make_ledger(root), Redactor())
    if folder:
        project.ledger.prepare()
    return UpRecord(project, "up"), clock, project.ledger.logs / "last-up.json"


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def test_every_step_with_when_it_began(tmp_path: Path) -> None:
    record, _, path = a_record(tmp_path)
    record.keep(Outcome("up", "ok", 0, Mode.NATIVE, steps=(DONE, EARLY), seconds=5.0004))
    kept = read(path)
    assert [(s["id"], s["began"], s["seconds"], s["early"]) for s in kept["steps"]] == [
        ("database", 1.25, 0.5, None),
        ("smoke", 2.0, 3, 1.25),
    ]
    assert (kept["command"], kept["mode"], kept["seconds"], kept["error"]) == ("up", "native", 5.0, None)
    assert kept["at"] == "2026-09-21T14:13:20+00:00"
    assert path.stat().st_mode & 0o777 == 0o600
    assert "geheim" not in path.read_text()


def test_a_failure_with_its_error_and_no_secret_of_it(tmp_path: Path) -> None:
    record, _, path = a_record(tmp_path)
    record.project.ledger.vault.passwords["owlclaw"] = "geheim-2"
    error = ApplyFailed("postgres-died", 'said "geheim-2"', hint="owlclaw-up logs postgres")
    record.keep(Outcome("up", "failed", 4, error=error))
    assert read(path)["error"] == {
        "code": "postgres-died", "message": 'said "***"', "hint": "owlclaw-up logs postgres",
    }  # fmt: skip


def test_an_interrupted_one_says_what_it_was_at(tmp_path: Path) -> None:
    record, clock, path = a_record(tmp_path)
    record(DECIDED)
    record(StepStarted("database", "Database"))
    record(StepFinished(DONE))
    clock.passed = 2
    record(StepStarted("engine", "Hatchet engine"))
    clock.passed = 5
    record.interrupted()
    kept = read(path)
    assert (kept["exit_code"], kept["error"]["code"], kept["seconds"]) == (130, "interrupted", 5)
    assert [(s["id"], s["status"], s["began"], s["seconds"]) for s in kept["steps"]] == [
        ("database", "done", 1.25, 0.5),
        ("engine", "failed", 2, 3),
    ]


def test_one_that_is_killed_leaves_no_record_of_another(tmp_path: Path) -> None:
    record, _, path = a_record(tmp_path)
    record.keep(Outcome("up", "ok", 0))
    record(DECIDED)
    assert not path.exists()


def test_nothing_is_made_where_nothing_was_left(tmp_path: Path) -> None:
    record, _, _ = a_record(tmp_path, folder=False)
    record(DECIDED)
    record.keep(Outcome("up", "failed", 3))
    assert list(tmp_path.iterdir()) == []
