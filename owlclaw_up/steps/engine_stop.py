"""Stopping native engines, one by one, and what a killed `up` has left of them."""

from __future__ import annotations

import signal

from owlclaw_up.facts import Facts
from owlclaw_up.facts.stack import engine_home, running_engine
from owlclaw_up.host.local import processes_in
from owlclaw_up.model import Action, Change, unchanged
from owlclaw_up.receipts import Ledger, now_text
from owlclaw_up.spec import engine_key
from owlclaw_up.steps.base import Applied, Run

_PROGRAMS = ("hatchet-lite", "hatchet-admin", "hatchet-migrate")


class StopEngine:
    """Stop a native engine.

    Args:
        number: which one of a small cluster.
    """

    id = "engine.server"
    title = "Hatchet engine"

    def __init__(self, ledger: Ledger, number: int = 1) -> None:
        self.ledger, self.number, self.key = ledger, number, engine_key(number)
        self.id, self.title = names(number)

    def check(self, facts: Facts) -> Change:
        process = facts.our_stack.engine(self.number).process
        if process is not None:
            return Change(Action.REMOVE, f"stop the engine, pid {process.pid}")
        if self.ledger.receipts("process", name=self.key):
            return Change(Action.REMOVE, "clear up after an engine that has ended")
        if engine_home(self.ledger, self.number).exists():
            return Change(Action.RUN, "nothing of it may run on")
        return unchanged("is not running")

    def apply(self, run: Run) -> Applied:
        process = running_engine(run.host, self.ledger, self.number)
        how = "was not running"
        if process is not None:
            how = run.host.processes.stop(process, signal=signal.SIGTERM, timeout=10)
        ended = end_leftovers(run, self.ledger, self.number)
        if process is None and not ended and not self.ledger.receipts("process", name=self.key):
            return Applied(Action.UNCHANGED, "is not running")
        self.ledger.remember(self.key, pid=None, started=None, stopped_at=now_text(run.host.clock))
        if self.number > 1:
            # Where another one goes on, it takes this one's share of the work over within a minute, not at once.
            self.ledger.remember("engine", patience=True)
        self.ledger.forget("process", name=self.key)
        return Applied(Action.REMOVE, how)


def end_leftovers(run: Run, ledger: Ledger, number: int = 1) -> int:
    """End what an `up` that was killed has left behind: a migration or a seed that went on without it.

    The recorded engine is left alone.
    """
    engine = ledger.process(engine_key(number))
    ours = processes_in(engine_home(ledger, number), _PROGRAMS)
    left = [p for p in ours if engine is None or p.pid != engine.pid]
    for process in left:
        run.host.processes.stop(process, signal=signal.SIGTERM, timeout=5)
    return len(left)


def names(number: int) -> tuple[str, str]:
    """Id and title of the steps of one engine."""
    of = ("", "") if number == 1 else (f".{number}", f" {number}")
    return f"engine.server{of[0]}", f"Hatchet engine{of[1]}"
