"""Steps + facts -> Plan. Pure: what is printed by a dry run and walked by the executor is the same value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from owlclaw_up.facts import Facts
from owlclaw_up.model import Action, PlannedStep
from owlclaw_up.steps.base import Step


@dataclass(frozen=True)
class Plan:
    """Steps in their order, each with its change."""

    steps: tuple[tuple[Step, PlannedStep], ...]

    @property
    def planned(self) -> tuple[PlannedStep, ...]:
        return tuple(planned for _, planned in self.steps)

    @property
    def changes_something(self) -> bool:
        return any(p.change.action not in (Action.UNCHANGED, Action.SKIP) for p in self.planned)


def plan(steps: Sequence[Step], facts: Facts) -> Plan:
    """Ask every step what it would do."""
    return Plan(tuple((step, PlannedStep(step.id, step.title, step.check(facts))) for step in steps))
