"""Stopping native engines, one by one, and what a killed `up` has left of them."""

from __future__ import annotations

import signal

from owlclaw_up.facts import Facts
from owlclaw_up.facts.place import serves_by_sidecar
from owlclaw_up.facts.stack import engine_home, running_engine
from owlclaw_up.host.base import ProcessId
from owlclaw_up.host.local import processes_in
from owlclaw_up.model import Action, Change, unchanged
from owlclaw_up.receipts import Ledger, now_text
from owlclaw_up.spec import HANDSHAKE, SIDECAR_KEEPER, engine_key
from owlclaw_up.steps.base import Applied, Run

_PROGRAMS = ("hatchet-lite", "hatchet-admin", "hatchet-migrate", SIDECAR_KEEPER)
# A sidecar waits for its engine's work for 30 s: hatchet-embedded, cmd/sidecar/main.go.
_SIDECAR_SECONDS, _SECONDS = 35, 10


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
            how = stop_process(run, self.ledger, process)
        ended = end_leftovers(run, self.ledger, self.number)
        if process is None and not ended and not self.ledger.receipts("process", name=self.key):
            return Applied(Action.UNCHANGED, "is not running")
        self.ledger.remember(self.key, pid=None, started=None, stopped_at=now_text(run.host.clock))
        run.host.files.remove(engine_home(self.ledger, self.number) / HANDSHAKE)
        if self.number > 1:
            # Where another one goes on, it takes this one's share of the work over within a minute, not at once.
            self.ledger.remember("engine", patience=True)
        self.ledger.forget("process", name=self.key)
        return Applied(Action.REMOVE, how)


def stop_process(run: Run, ledger: Ledger, process: ProcessId) -> str:
    """End an engine as it wants to be ended; gives how it ended."""
    return run.host.processes.stop(
        process, signal=signal.SIGTERM, timeout=_SIDECAR_SECONDS if serves_by_sidecar(ledger) else _SECONDS
    )


def end_leftovers(run: Run, ledger: Ledger, number: int = 1) -> int:
    """End what an `up` that was killed has left behind: a migration or a seed that went on without it, a sidecar without its keeper.

    The recorded engine is left alone.
    """
    engine, sidecar = ledger.process(engine_key(number)), ledger.recall("sidecar").get("program")
    alone = (sidecar,) if sidecar and (engine is None or not run.host.processes.alive(engine)) else ()
    ours = processes_in(engine_home(ledger, number), (*_PROGRAMS, *alone))
    left = [p for p in ours if engine is None or p.pid != engine.pid]
    for process in left:
        run.host.processes.stop(process, signal=signal.SIGTERM, timeout=_SECONDS if alone else 5)
    return len(left)


def names(number: int) -> tuple[str, str]:
    """Id and title of the steps of one engine."""
    of = ("", "") if number == 1 else (f".{number}", f" {number}")
    return f"engine.server{of[0]}", f"Hatchet engine{of[1]}"
