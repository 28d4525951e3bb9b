"""Walking a plan: order, the first failure, what comes too late to be a precondition, early steps and their end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from owlclaw_up.errors import ApplyFailed, PreconditionError, UpError
from owlclaw_up.executor import apply
from owlclaw_up.facts import Facts
from owlclaw_up.host.base import Deadline
from owlclaw_up.model import (
    Action,
    Change,
    Event,
    PlannedStep,
    Smoke,
    StepFinished,
    StepProgress,
    StepReport,
    StepStarted,
)
from owlclaw_up.planner import Plan, plan
from owlclaw_up.steps.base import Applied, Run, Step
from tests.unit.fakes import FakeClock, make_facts, make_host


@dataclass
class FakeStep:
    """A step that tells a shared diary what it does.

    Attributes:
        does: what `apply` comes to; an error is raised.
        seconds: how long that takes.
    """

    id: str
    diary: list[str]
    action: Action = Action.CREATE
    does: Action | BaseException = Action.CREATE
    seconds: float = 0.0
    work: Callable[[Run], None] = field(default=lambda run: None)

    @property
    def title(self) -> str:
        return self.id.capitalize()

    def check(self, facts: Facts) -> Change:
        return Change(self.action, f"would {self.id}")

    def apply(self, run: Run) -> Applied:
        self.diary.append(self.id)
        self.work(run)
        run.host.clock.sleep(self.seconds)
        if isinstance(self.does, BaseException):
            raise self.does
        return Applied(self.does, f"did {self.id}")


@dataclass
class FakeEarlyStep(FakeStep):
    """One that begins something slow before its turn."""

    def begin(self, run: Run) -> None:
        self.diary.append(f"begin {self.id}")
        run.closers.append(lambda: self.diary.append(f"close {self.id}"))


@dataclass
class FakeLateStep(FakeStep):
    """One whose answer an earlier step may make void."""

    def outdated(self) -> bool:
        return "token" in self.diary


@dataclass
class Walk:
    reports: list[StepReport]
    run: Run
    error: UpError | None
    events: list[Event]

    @property
    def statuses(self) -> list[str]:
        return [r.status for r in self.reports]


def walk(steps: list[Step], project: Path, clock: FakeClock | None = None) -> Walk:
    events: list[Event] = []
    clock = clock or FakeClock()
    made = plan(steps, make_facts(project))
    reports, run, error = apply(made, make_host(clock=clock), Deadline(60, clock), events.append)
    return Walk(reports, run, error, events)


def test_steps_go_in_their_order_and_tell_what_they_did(tmp_path: Path) -> None:
    diary: list[str] = []
    walked = walk([FakeStep("a", diary, seconds=0.5), FakeStep("b", diary, Action.RUN, Action.UPDATE)], tmp_path)
    assert diary == ["a", "b"]
    assert walked.error is None
    assert walked.reports == [
        StepReport("a", "A", Action.CREATE, "done", 0.5, "did a"),
        StepReport("b", "B", Action.UPDATE, "done", 0.0, "did b", 0.5),
    ]
    assert walked.events == [
        StepStarted("a", "A"), StepFinished(walked.reports[0]), StepStarted("b", "B"), StepFinished(walked.reports[1]),
    ]  # fmt: skip


def test_what_has_nothing_to_do_is_not_asked(tmp_path: Path) -> None:
    diary: list[str] = []
    walked = walk([FakeStep("a", diary, Action.UNCHANGED), FakeStep("b", diary, Action.SKIP)], tmp_path)
    assert diary == []
    assert walked.reports == [
        StepReport("a", "A", Action.UNCHANGED, "done", 0.0, "would a"),
        StepReport("b", "B", Action.SKIP, "skipped", 0.0, "would b"),
    ]
    assert walked.events == [StepFinished(r) for r in walked.reports]


def test_the_first_failure_stops_it(tmp_path: Path) -> None:
    diary: list[str] = []
    error = ApplyFailed("seed-failed", "the seed failed")
    steps: list[Step] = [
        FakeStep("a", diary), FakeStep("b", diary, does=error, seconds=2), FakeStep("c", diary),
        FakeStep("d", diary, Action.UNCHANGED),
    ]  # fmt: skip
    walked = walk(steps, tmp_path)
    assert diary == ["a", "b"]
    assert walked.error is error
    assert walked.statuses == ["done", "failed", "skipped", "skipped"]
    assert walked.reports[1] == StepReport("b", "B", Action.CREATE, "failed", 2.0, "the seed failed")
    assert [r.detail for r in walked.reports[2:]] == ["not reached", "not reached"]
    assert walked.events[-1] == StepFinished(walked.reports[1])


@pytest.mark.parametrize(
    ("before", "exit_code"),
    [
        ([], 3),
        ([Action.UNCHANGED], 3),
        ([Action.SKIP], 3),
        ([Action.RUN], 3),
        ([Action.CREATE], 4),
        ([Action.UPDATE], 4),
        ([Action.REMOVE], 4),
        ([Action.CREATE, Action.UNCHANGED], 4),
    ],
)
def test_a_precondition_after_a_change_is_none_any_more(before: list[Action], exit_code: int, tmp_path: Path) -> None:
    diary: list[str] = []
    steps: list[Step] = [FakeStep(f"s{n}", diary, does=done) for n, done in enumerate(before)]
    walked = walk([*steps, FakeStep("x", diary, does=PreconditionError("in the way"))], tmp_path)
    assert walked.error is not None
    assert (walked.error.exit_code, walked.error.code) == (exit_code, "precondition")
    assert PreconditionError.exit_code == 3, "the class stays as it was"


def test_progress_carries_its_step(tmp_path: Path) -> None:
    walked = walk([FakeStep("a", [], work=lambda run: run.say("12 migrations"))], tmp_path)
    assert walked.events[1] == StepProgress("a", "12 migrations")


def test_what_steps_find_comes_back(tmp_path: Path) -> None:
    def prove(run: Run) -> None:
        run.smoke = Smoke("quick", "passed")

    assert walk([FakeStep("a", [], work=prove)], tmp_path).run.smoke == Smoke("quick", "passed")


def test_early_steps_begin_before_all_and_are_closed_at_the_end(tmp_path: Path) -> None:
    diary: list[str] = []
    walk([FakeStep("a", diary), FakeEarlyStep("b", diary), FakeEarlyStep("c", diary, Action.UNCHANGED)], tmp_path)
    assert diary == ["begin b", "a", "b", "close b"]


def test_reports_say_when_a_step_began_and_what_of_it_began_early(tmp_path: Path) -> None:
    diary: list[str] = []
    clock = FakeClock()
    steps = [
        FakeStep("a", diary, seconds=0.5),
        FakeStep("b", diary, Action.UNCHANGED),
        FakeEarlyStep("c", diary, seconds=2),
    ]
    deadline = Deadline(60, clock)
    clock.sleep(0.25)
    reports, _, _ = apply(plan(steps, make_facts(tmp_path)), make_host(clock=clock), deadline, lambda event: None)
    assert [(r.began, r.seconds, r.early) for r in reports] == [(0.25, 0.5, None), (0.75, 0, None), (0.75, 2, 0.25)]


@pytest.mark.parametrize("end", [ApplyFailed("x", "y"), PreconditionError("z")])
def test_early_steps_are_closed_after_a_failure(end: UpError, tmp_path: Path) -> None:
    diary: list[str] = []
    assert walk([FakeStep("a", diary, does=end), FakeEarlyStep("b", diary)], tmp_path).error is end
    assert diary == ["begin b", "a", "close b"]


@pytest.mark.parametrize("end", [KeyboardInterrupt, RuntimeError])
def test_early_steps_are_closed_whatever_happens(end: type[BaseException], tmp_path: Path) -> None:
    diary: list[str] = []
    with pytest.raises(end):
        walk([FakeStep("a", diary, does=end()), FakeEarlyStep("b", diary)], tmp_path)
    assert diary == ["begin b", "a", "close b"]


def test_an_early_step_that_cannot_begin_leaves_nothing_open(tmp_path: Path) -> None:
    diary: list[str] = []

    class Broken(FakeEarlyStep):
        def begin(self, run: Run) -> None:
            raise PreconditionError("no Python here")

    with pytest.raises(PreconditionError):
        walk([FakeStep("a", diary), FakeEarlyStep("b", diary), Broken("c", diary)], tmp_path)
    assert diary == ["begin b", "close b"]


def test_closers_end_in_the_reverse_order_and_once() -> None:
    diary: list[str] = []
    clock = FakeClock()
    run = Run(make_host(clock=clock), Deadline(1, clock), diary.append)
    run.closers += [lambda: diary.append("folder"), lambda: diary.append("child")]
    run.close()
    run.close()
    assert diary == ["child", "folder"]


def test_an_empty_plan(tmp_path: Path) -> None:
    walked = walk([], tmp_path)
    assert (walked.reports, walked.error, walked.events) == ([], None, [])
    assert Plan(()).planned == ()
    assert PlannedStep("a", "A", Change(Action.RUN, "x")).id == "a"


def test_a_step_whose_ground_has_changed_is_asked_though_nothing_was_planned(tmp_path: Path) -> None:
    diary: list[str] = []
    late = FakeLateStep("env_file", diary, Action.UNCHANGED, Action.UPDATE)
    assert walk([late], tmp_path).reports[0].action is Action.UNCHANGED
    walked = walk([FakeStep("token", diary, Action.RUN), late], tmp_path)
    assert diary == ["token", "env_file"]
    assert walked.reports[1].action is Action.UPDATE
    diary.clear()
    # What was not asked for stays so.
    assert (
        walk([FakeStep("token", diary), FakeLateStep("smoke", diary, Action.SKIP)], tmp_path).statuses[1] == "skipped"
    )
