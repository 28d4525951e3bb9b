"""The plan: every step asked once, in order, and nothing done."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from owlclaw_up.facts import Facts
from owlclaw_up.model import Action, Change, PlannedStep
from owlclaw_up.planner import plan
from owlclaw_up.steps import build, removals
from owlclaw_up.steps.base import Applied, Run
from tests.unit.fakes import make_facts, make_ledger, make_server, make_spec


@dataclass
class AskedStep:
    """A step that remembers with which facts it was asked, and may not be applied."""

    id: str
    action: Action
    asked: list[Facts] = field(default_factory=list)
    title: str = "A step"

    def check(self, facts: Facts) -> Change:
        self.asked.append(facts)
        return Change(self.action, self.id, "a reason", ("a file",))

    def apply(self, run: Run) -> Applied:
        raise AssertionError("planning applies nothing")


def test_every_step_is_asked_once_in_order(tmp_path: Path) -> None:
    facts = make_facts(tmp_path)
    steps = [AskedStep("a", Action.CREATE), AskedStep("b", Action.UNCHANGED)]
    made = plan(steps, facts)
    assert [step for step, _ in made.steps] == steps
    assert made.planned == (
        PlannedStep("a", "A step", Change(Action.CREATE, "a", "a reason", ("a file",))),
        PlannedStep("b", "A step", Change(Action.UNCHANGED, "b", "a reason", ("a file",))),
    )
    assert all(step.asked == [facts] for step in steps)


@pytest.mark.parametrize(
    ("actions", "changes"),
    [
        ([], False),
        ([Action.UNCHANGED, Action.SKIP], False),
        *[([Action.UNCHANGED, action], True) for action in (Action.CREATE, Action.UPDATE, Action.REMOVE, Action.RUN)],
    ],
)
def test_whether_anything_changes(actions: list[Action], changes: bool, tmp_path: Path) -> None:
    steps = [AskedStep(str(n), action) for n, action in enumerate(actions)]
    assert plan(steps, make_facts(tmp_path)).changes_something is changes


def test_the_steps_of_a_native_stack(tmp_path: Path) -> None:
    ids = [step.id for step in build(make_spec(tmp_path), make_ledger(tmp_path))]
    assert ids == [
        "project", "postgres.data", "postgres.server", "database.hatchet", "database.owlclaw", "engine.keys",
        "engine.migrate", "engine.seed", "engine.server", "token", "env_file", "smoke",
    ]  # fmt: skip
    assert len(set(ids)) == len(ids)


def test_the_steps_on_the_user_s_own_server(tmp_path: Path) -> None:
    from owlclaw_up.spec import PostgresSpec

    look = make_server()
    local = PostgresSpec("local", look.login, look.source, look.max_connections, look.identity)
    ids = [step.id for step in build(make_spec(tmp_path, postgres=local), make_ledger(tmp_path))]
    assert "postgres.data" not in ids
    assert "postgres.server" not in ids


def test_mock_stops_an_engine_of_an_earlier_mode(tmp_path: Path) -> None:
    ledger, spec = make_ledger(tmp_path), make_spec(tmp_path, engine=False)
    assert "engine.server" not in [step.id for step in build(spec, ledger)]
    ledger.state.data["engine"] = {"pid": 77, "started": 1.0}
    ids = [step.id for step in build(spec, ledger)]
    assert ids[:2] == ["project", "engine.server"]
    assert "token" not in ids


def test_down_stops_what_runs_and_purge_removes_what_receipts_name(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    ledger.prepare()
    assert [s.id for s in removals(ledger, purge=False)] == ["engine.server", "postgres.server"]
    assert [s.id for s in removals(ledger, purge=True)] == [
        "engine.server", "postgres.server", "env_file", "postgres.data", "project",
    ]  # fmt: skip
    ledger.remember("postgres", kind="local", where="localhost:5432")
    for name in ("hatchet", "owlclaw"):
        ledger.record("role", name=name, server="42", where="localhost:5432")
        ledger.record("database", name=name, server="42", where="localhost:5432")
    assert [s.id for s in removals(ledger, purge=False)] == ["engine.server", "postgres.server"]
    assert [s.id for s in removals(ledger, purge=True)] == [
        "engine.server", "database.hatchet", "database.owlclaw", "role.hatchet", "role.owlclaw", "postgres.server",
        "env_file", "postgres.data", "project",
    ]  # fmt: skip


def test_what_is_in_an_embedded_server_goes_with_its_data(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    ledger.prepare()
    ledger.remember("postgres", kind="embedded")
    ledger.record("database", name="hatchet", server="", where="127.0.0.1:5432")
    assert not [s.id for s in removals(ledger, purge=True) if s.id.startswith(("database", "role"))]
