"""Walk a Plan: the only caller of `Step.apply`. Tells what happens as events, and stops at the first failure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from owlclaw_up.errors import APPLY_FAILED, PRECONDITION, UpError
from owlclaw_up.host.base import Deadline
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Action, Listener, StepFinished, StepProgress, StepReport, StepStarted
from owlclaw_up.planner import Plan
from owlclaw_up.steps.base import EarlyStep, LateStep, Run, Step


def apply(
    plan: Plan, host: Host, deadline: Deadline, listener: Listener
) -> tuple[list[StepReport], Run, UpError | None]:
    """Apply every step that has something to do.

    Args:
        deadline: shared by every wait of every step; set when the command began.

    Returns:
        A report per step, what the steps found on their way, and the error that stopped it.
    """
    run = Run(host, deadline, lambda text: None, listener)
    early: dict[str, float] = {}
    try:
        for step, planned in plan.steps:
            if isinstance(step, EarlyStep) and planned.change.action not in (Action.UNCHANGED, Action.SKIP):
                early[step.id] = deadline.passed
                step.begin(run)
        reports, error = _walk(plan, run, listener, early)
    finally:
        run.close()
    return reports, run, error


def _walk(
    plan: Plan, run: Run, listener: Listener, early: Mapping[str, float]
) -> tuple[list[StepReport], UpError | None]:  # fmt: skip
    reports: list[StepReport] = []
    error: UpError | None = None
    changed = False
    for step, planned in plan.steps:
        change = planned.change
        if error is not None:
            reports.append(StepReport(step.id, step.title, Action.SKIP, "skipped", 0.0, "not reached"))
            continue
        if change.action is Action.SKIP or (change.action is Action.UNCHANGED and not _outdated(step)):
            status = "done" if change.action is Action.UNCHANGED else "skipped"
            report = StepReport(step.id, step.title, change.action, status, 0.0, change.summary, run.deadline.passed)
            reports.append(report)
            listener(StepFinished(report))
            continue
        listener(StepStarted(step.id, step.title))
        run.say = partial(_progress, listener, step.id)
        began = run.deadline.passed
        action: Action
        try:
            applied = step.apply(run)
        except UpError as failure:
            error = failure
            if changed and failure.exit_code == PRECONDITION:
                # Found too late to say that nothing was changed.
                error.exit_code = APPLY_FAILED
            action, status, detail = change.action, "failed", failure.message
        else:
            action, status, detail = applied.action, "done", applied.detail
            changed = changed or action not in (Action.UNCHANGED, Action.SKIP, Action.RUN)
        seconds = run.deadline.passed - began
        report = StepReport(step.id, step.title, action, status, seconds, detail, began, early.get(step.id))
        reports.append(report)
        listener(StepFinished(report))
    return reports, error


def _outdated(step: Step) -> bool:
    return isinstance(step, LateStep) and step.outdated()


def _progress(listener: Listener, step: str, text: str) -> None:
    listener(StepProgress(step, text))
