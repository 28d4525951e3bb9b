"""Which engine left a database, which one is refused on it, and when an upgrade may be taken back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.errors import EngineUnusable
from owlclaw_up.host.base import DatabaseLook
from owlclaw_up.model import Action
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import PostgresSpec
from owlclaw_up.steps.upgrade import BeginUpgrade, end_upgrade, is_due, steps, way_back
from owlclaw_up.upgrade_record import (
    DUMPED,
    DUMPING,
    RESTORING,
    SERVING,
    left_by,
    mark_serving,
    open_upgrade,
    refuse_older,
    server_key,
)
from tests.unit.fakes import make_engine, make_engine_spec, make_facts, make_ledger, make_login, make_spec

OLD, NEW = "v0.107.2", "v0.108.0"
EMBEDDED = PostgresSpec("embedded", make_login(), "embedded", 200)
YOURS = PostgresSpec("local", make_login(), "--admin-url", 200, "7400000000000000001")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = make_ledger(tmp_path)
    ledger.prepare()
    ledger.remember("engine", migrated_by=OLD, migrated_on="embedded", migration=1)
    return ledger


def begin(ledger: Ledger, phase: str, **values: Any) -> None:
    dump = ledger.directory / "x.dump"
    dump.touch()
    usual = {"server": "embedded", "before": OLD, "to": NEW, "run": ledger.run, "dump": str(dump), "migration": 1}
    ledger.remember("upgrade", **{**usual, "phase": phase, **values})


def test_what_left_a_database_is_known_for_its_own_server_only(ledger: Ledger) -> None:
    assert left_by(ledger, EMBEDDED) == OLD
    assert left_by(ledger, YOURS) == ""
    assert server_key(YOURS) == YOURS.identity
    ledger.state.data["engine"].pop("migrated_on")
    assert left_by(ledger, YOURS) == OLD, "a state of an earlier version of this tool has no server"


@pytest.mark.parametrize(
    ("version", "seen", "refused"),
    [
        ("v0.104.7", None, True),
        ("v0.104.7", DatabaseLook(True, True, migration=1), True),
        ("v0.104.7", DatabaseLook(True, True), False),
        (OLD, None, False),
        (NEW, None, False),
        ("dev", None, False),
    ],
)
def test_an_older_engine(ledger: Ledger, version: str, seen: DatabaseLook | None, refused: bool) -> None:
    if not refused:
        refuse_older(ledger, EMBEDDED, version, "/x", seen)
        return
    with pytest.raises(EngineUnusable) as raised:
        refuse_older(ledger, EMBEDDED, version, "/x", seen)
    assert (raised.value.code, raised.value.exit_code) == ("engine-downgrade", 3)


@pytest.mark.parametrize(("phase", "refused"), [(DUMPED, False), (RESTORING, False), (SERVING, True)])
def test_back_to_the_engine_of_before_while_nothing_newer_has_served(ledger: Ledger, phase: str, refused: bool) -> None:
    begin(ledger, phase)
    ledger.remember("engine", migrated_by=NEW)
    if refused:
        with pytest.raises(EngineUnusable, match="older") as raised:
            refuse_older(ledger, EMBEDDED, OLD, "/x", None)
        assert "owlclaw-up db restore" in raised.value.hint
    else:
        refuse_older(ledger, EMBEDDED, OLD, "/x", None)


def test_serving_is_on_record_before_an_engine_starts(ledger: Ledger) -> None:
    mark_serving(ledger, EMBEDDED)
    assert open_upgrade(ledger, EMBEDDED) is None
    begin(ledger, DUMPED, run="earlier")
    mark_serving(ledger, EMBEDDED)
    begun = open_upgrade(ledger, EMBEDDED)
    assert begun is not None
    assert (begun.phase, begun.run, left_by(ledger, EMBEDDED)) == (SERVING, ledger.run, NEW)
    assert open_upgrade(ledger, YOURS) is None


@pytest.mark.parametrize(
    ("phase", "values", "back"),
    [
        (DUMPING, {"dump": ""}, True),
        (DUMPED, {}, True),
        (DUMPED, {"run": "earlier"}, False),
        (RESTORING, {}, True),
        (SERVING, {}, True),
        (SERVING, {"run": "earlier"}, False),
        (DUMPED, {"dump": "/gone.dump"}, False),
    ],
)
def test_when_it_may_be_taken_back(ledger: Ledger, phase: str, values: dict[str, Any], back: bool) -> None:
    begin(ledger, phase, **values)
    assert (way_back(make_spec(ledger.project), ledger, "") is not None) is back
    end_upgrade(ledger)
    assert way_back(make_spec(ledger.project), ledger, "") is None


def test_the_step_is_in_the_plan_only_where_versions_differ(ledger: Ledger) -> None:
    spec = make_spec(ledger.project)
    assert not steps(spec, ledger)
    newer = dataclasses.replace(spec, engine=make_engine_spec(binaries=make_engine(version=NEW)))
    assert is_due(newer, ledger)
    (step,) = steps(newer, ledger)
    assert isinstance(step, BeginUpgrade)
    change = step.check(make_facts(ledger.project))
    assert (change.action, change.summary) == (Action.UPDATE, f"from {OLD} to {NEW}")
    begin(ledger, SERVING)
    (step,) = steps(newer, ledger)
    assert "as far as 'serving'" in step.check(make_facts(ledger.project)).reason
