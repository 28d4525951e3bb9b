"""How an upgrade of the engine ends: for good, or taken back, once everything else of an `up` was tried. Prints nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from owlclaw_up.errors import ApplyFailed, UpError
from owlclaw_up.executor import apply
from owlclaw_up.facts import Facts
from owlclaw_up.host.base import Deadline
from owlclaw_up.model import Finding, Listener, StepReport
from owlclaw_up.planner import plan
from owlclaw_up.project import Project
from owlclaw_up.spec import EngineSpec, StackSpec
from owlclaw_up.steps.upgrade import TakeBack, end_upgrade, way_back
from owlclaw_up.upgrade_record import DUMPING, SERVING, OpenUpgrade, open_upgrade


@dataclass(frozen=True)
class Settled:
    """What became of an upgrade.

    Attributes:
        error: the one to show, in the place of the one that stopped the steps.
    """

    error: UpError | None
    reports: list[StepReport] = field(default_factory=list)
    findings: tuple[Finding, ...] = ()


def settle(
    project: Project, spec: StackSpec, facts: Facts, token: str, error: UpError | None, *, disproved: bool,
    listener: Listener,
) -> Settled:  # fmt: skip
    """End an upgrade that was proved; take one back that was not.

    Args:
        token: the API token of before.
        error: what stopped the steps, if anything did.
        disproved: whether the smoke test failed.
        listener: of steps; the log among it.
    """
    begun = open_upgrade(project.ledger, spec.postgres)
    if begun is None or not isinstance(spec.engine, EngineSpec):
        return Settled(error)
    if error is None and not disproved:
        end_upgrade(project.ledger)
        return Settled(None)
    step = way_back(spec, project.ledger, token)
    if step is None:
        return Settled(error, findings=(_by_hand(begun),) if begun.phase == SERVING else ())
    deadline = Deadline(project.settings.timeout.value, project.host.clock)
    reports, run, second = apply(plan([step], facts), project.host, deadline, listener)
    return _taken_back(step, begun, error, second, reports, tuple(run.findings))


def _taken_back(
    step: TakeBack, begun: OpenUpgrade, error: UpError | None, second: UpError | None, reports: list[StepReport],
    findings: tuple[Finding, ...],
) -> Settled:  # fmt: skip
    why = error.message if error else "its proof failed"
    if second is not None:
        second.detail = f"the upgrade: {why}\n{second.detail}".strip()
        return Settled(second, reports, findings)
    what = reports[0].detail
    if error is None:
        found = Finding(
            "engine.upgrade", "fail", f"the upgrade to {begun.to} is taken back: {what}",
            "the proof of the new engine failed, as shown above", "owlclaw-up logs hatchet; then: owlclaw-up",
        )  # fmt: skip
        return Settled(None, reports, (*findings, found))
    if begun.phase == DUMPING:
        # Nothing was migrated: the error stands for itself.
        return Settled(error, reports, findings)
    failed = ApplyFailed(
        "engine-upgrade", f"the engine was not upgraded from {begun.before} to {begun.to}: {why}; {what}", hint=error.hint,
        detail=error.detail,
    )  # fmt: skip
    return Settled(failed, reports, findings)


def _by_hand(begun: OpenUpgrade) -> Finding:
    return Finding(
        "engine.upgrade", "fail", f"the upgrade from {begun.before} to {begun.to} was not taken back",
        "it was interrupted once, and the new engine may have served since: what it did would be lost",
        f"mend it and run owlclaw-up again; or give that up: owlclaw-up db restore {begun.dump}",
    )  # fmt: skip
