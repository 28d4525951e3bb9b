"""The command `doctor`: look at everything, run every check, fold consequences under their cause; and mend what is safe."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Sequence
from typing import Any

from owlclaw_up.checks import BY_ID, CHECKS
from owlclaw_up.checks.base import PATIENCE, Diagnosis, Evidence, Fix, examine, reworded
from owlclaw_up.checks.preconditions import REST, check_of
from owlclaw_up.environment import arrange, evidence_of, up
from owlclaw_up.errors import APPLY_FAILED, UpError, UsageError
from owlclaw_up.executor import apply
from owlclaw_up.facts import DOCTOR, Facts, gather
from owlclaw_up.host.base import Deadline
from owlclaw_up.host.resources import load_per_core
from owlclaw_up.listeners import both, logger
from owlclaw_up.model import (
    Action,
    Decision,
    Finding,
    Listener,
    Mode,
    Note,
    Outcome,
    PlannedStep,
    StepReport,
    StepStarted,
    silent,
)
from owlclaw_up.planner import plan
from owlclaw_up.project import Project
from owlclaw_up.receipts import Ledger, project_lock
from owlclaw_up.spec import StackSpec
from owlclaw_up.steps import build

# How much longer probes may take where every core is wanted by many.
_MOST_SLACK = 3.0


@dataclasses.dataclass(frozen=True)
class Looked:
    """One look of the doctor's: what there is to say, and what it rests on."""

    evidence: Evidence
    diagnosis: Diagnosis
    seconds: float


def diagnose(
    project: Project, listener: Listener = silent, *, only: Collection[str] = (), strict: bool = False
) -> Outcome:
    """Every check, side by side. Changes nothing.

    Args:
        only: ids of the checks to run; all where empty.
        strict: whether warnings, and what could not be looked at, fail too.
    """
    try:
        looked = look(project, listener, only)
    except UpError as error:
        return of_failure(error, project)
    return outcome_of(project, looked, strict=strict)


def look(project: Project, listener: Listener = silent, only: Collection[str] = ()) -> Looked:
    """Gather the facts that the checks need, and run them.

    Raises:
        UsageError: there is no such check.
    """
    for name in only:
        if name not in BY_ID:
            nearest = difflib.get_close_matches(name, BY_ID, 1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else "docs/reference/faults.md lists every check"
            raise UsageError(f"there is no check {name!r}", hint=hint)
    clock = project.host.clock
    begun = clock.monotonic()
    listener(StepStarted("doctor", "Looking at everything"))
    wanted = [BY_ID[name] for name in only] or CHECKS
    patience: dict[str, float] = {}
    for check in wanted:
        for probe in check.probes:
            patience[probe] = max(patience.get(probe, 0.0), check.patience)
    also = DOCTOR & patience.keys()
    slack = _slack()
    facts = gather(
        project.host, project.settings, project.ledger, also=also,
        patience=lambda name: slack * patience.get(name, PATIENCE),
    )  # fmt: skip
    evidence = _evidence(project, facts)
    stopped_by = check_of(evidence.error) if evidence.error else ""
    diagnosis = examine(CHECKS, evidence, stopped_by=stopped_by, only=only)
    project.learn_secrets()
    findings = tuple(reworded(f, project.redact) for f in diagnosis.findings)
    return Looked(evidence, dataclasses.replace(diagnosis, findings=findings), clock.monotonic() - begun)


def _slack() -> float:
    """Of whom a busy machine makes late, a verdict is not to be had sooner: what hangs is told from what waits for its turn."""
    return min(_MOST_SLACK, max(1.0, load_per_core() / 2))


def _evidence(project: Project, facts: Facts) -> Evidence:
    settings, ledger = project.settings, project.ledger
    kept = Mode(ledger.state.mode) if ledger.state.mode else None
    if kept is not None and not settings.mode.explicit:
        # What stands is looked at as what it is, whatever `auto` would choose now.
        asked = dataclasses.replace(settings.mode, value=kept, source="state", origin="the last successful up")
        settings = dataclasses.replace(settings, mode=asked)
    decision: Decision | None = None
    spec: StackSpec | None = None
    planned: tuple[PlannedStep, ...] = ()
    stopped: UpError | None = None
    try:
        facts, decision, spec = arrange(dataclasses.replace(project, settings=settings), facts)
        planned = plan(build(spec, ledger), facts).planned
    except UpError as error:
        stopped = error
    return evidence_of(dataclasses.replace(project, settings=settings), facts, decision, spec, planned, stopped)


def outcome_of(project: Project, looked: Looked, *, strict: bool = False, data: Any = None) -> Outcome:
    """A look as an outcome: `exit_code` 1 where something fails."""
    found = looked.diagnosis
    failing = found.count("fail") + (found.count("warn", "unknown") if strict else 0)
    evidence = looked.evidence
    decision = evidence.decision
    counts = {level: found.count(level) for level in ("fail", "unknown", "warn", "info", "ok")}
    return Outcome(
        "doctor", "failed" if failing else "ok", 1 if failing else 0, evidence.mode, decision,
        findings=found.findings, seconds=looked.seconds, project=project.root,
        data={
            "checks": len(CHECKS), "counts": counts, "idle": list(found.idle), "strict": strict,
            "probes": {name: round(s, 3) for name, s in sorted(evidence.facts.seconds.items(), key=lambda i: -i[1])},
            **(data or {}),
        },
    )  # fmt: skip


def of_failure(error: UpError, project: Project | None = None) -> Outcome:
    """What there is to say where settings or state cannot even be read; an error of usage stays one."""
    name = check_of(error)
    if name not in BY_ID or (isinstance(error, UsageError) and name == REST):
        return Outcome("doctor", "failed", error.exit_code, error=error, project=project.root if project else None)
    check = BY_ID[name]
    finding = Finding(name, "fail", error.message, error.detail, error.hint, "", check.why)
    root = project.root if project else None
    data = {"checks": len(CHECKS), "counts": {"fail": 1}, "idle": []}
    return Outcome("doctor", "failed", 1, findings=(finding,), project=root, data=data)


def preview(looked: Looked) -> list[dict[str, Any]]:
    """What `mend` would do, JSON-ready: each fix once, with the findings that it mends and the changes that it makes."""
    rows: dict[str, dict[str, Any]] = {}
    for name, fix in looked.diagnosis.fixes:
        row = rows.setdefault(fix.summary, {"summary": fix.summary, "findings": [], "changes": []})
        if name not in row["findings"]:
            row["findings"].append(name)
        steps = plan(fix.steps, looked.evidence.facts).planned
        if fix.up and not fix.settings:
            steps = (*steps, *looked.evidence.planned)
        for step in steps:
            change = {"id": step.id, "action": step.change.action.word, "summary": step.change.summary}
            if step.change.action not in (Action.UNCHANGED, Action.SKIP) and change not in row["changes"]:
                row["changes"].append(change)
    return list(rows.values())


def mend(project: Project, looked: Looked, listener: Listener = silent) -> tuple[list[StepReport], UpError | None]:
    """Apply every fix: their steps first, each once, then one `up` where a fix asks for it.

    Returns:
        What was done, and the error that stopped it.
    """
    fixes: Sequence[Fix] = [fix for _, fix in looked.diagnosis.fixes]
    steps = {step.id: step for fix in fixes for step in fix.steps}
    reports: list[StepReport] = []
    deadline = Deadline(project.settings.timeout.value, project.host.clock)
    told = both(logger(project, "doctor"), listener)
    if steps:
        try:
            with project_lock(project.ledger, "doctor", deadline.left(), lambda text: listener(Note(text))):
                todo = plan(list(steps.values()), looked.evidence.facts)
                reports, _, error = apply(todo, project.host, deadline, told)
        except UpError as failed:
            error = failed
        if error is not None:
            return reports, error
    if any(fix.up for fix in fixes):
        asked = {name: value for fix in fixes for name, value in fix.settings.items()}
        settings = project.settings
        for name, value in asked.items():
            setting = dataclasses.replace(getattr(settings, name), value=value, source="flag", origin="doctor --fix")
            settings = dataclasses.replace(settings, **{name: setting})
        outcome = up(dataclasses.replace(project, settings=settings), listener)
        return [*reports, *outcome.steps], outcome.error
    return reports, None


def explain(project: Project, outcome: Outcome) -> Outcome:
    """A failed `up`, with the causes that the doctor finds and its error does not name yet."""
    if outcome.exit_code not in (1, APPLY_FAILED):
        return outcome
    try:
        found = look(dataclasses.replace(project, ledger=Ledger(project.root, project.host.files, project.host.clock)))
    except UpError:
        return outcome
    said = {finding.id for finding in outcome.findings} | ({check_of(outcome.error)} if outcome.error else set())
    causes = [f for f in found.diagnosis.causes if f.level == "fail" and f.id not in said]
    return dataclasses.replace(outcome, findings=(*outcome.findings, *causes))


def mended(again: Outcome, before: Looked, reports: Sequence[StepReport], error: UpError | None) -> Outcome:
    """The look after `mend`, with what was done."""
    left = {finding.id for finding in again.findings if finding.level in ("fail", "warn", "unknown")}
    fixed = [name for name in dict.fromkeys(name for name, _ in before.diagnosis.fixes) if name not in left]
    return dataclasses.replace(
        again, steps=tuple(reports), error=error, exit_code=error.exit_code if error else again.exit_code,
        status="failed" if error else again.status, data={**again.data, "fixes": preview(before), "fixed": fixed},
    )  # fmt: skip
