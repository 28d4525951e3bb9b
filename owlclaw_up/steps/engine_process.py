"""What is common to engines that run as processes of this machine: where they live, and watching one while it starts."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from owlclaw_up.errors import ApplyFailed, ProcessDied, TimedOut
from owlclaw_up.facts.stack import engine_home
from owlclaw_up.host.base import Ran
from owlclaw_up.host.local import exit_status
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import engine_key
from owlclaw_up.steps.base import Run
from owlclaw_up.steps.engine_env import diagnose

STARTING = "owlclaw-up starts"


class EngineProcess:
    """The place of an engine of this machine, and its end.

    Args:
        number: which one of a small cluster; the first is 1.
        program: what it is, for the reader.
    """

    def __init__(self, ledger: Ledger, number: int, program: str) -> None:
        self.ledger, self.number, self.program = ledger, number, program
        self.key = engine_key(number)

    @property
    def home(self) -> Path:
        return engine_home(self.ledger, self.number)

    @property
    def log(self) -> Path:
        """What the running engine says."""
        return self.ledger.logs / (f"hatchet-{self.number}.log" if self.number > 1 else "hatchet.log")

    def watch(self, run: Run) -> tuple[Callable[[], str], Callable[[], None]]:
        """For waits on the running engine: its last words, and a look that raises once it has died."""
        process = self.ledger.process(self.key)
        assert process is not None, "it is started first"

        def lines() -> Sequence[str]:
            return since_last_start(run.host.files.tail(self.log, 400))

        def tail() -> str:
            return last_of(lines())

        def dead() -> None:
            if run.host.processes.alive(process):
                return
            # The last lines may be written a moment after the end.
            known = diagnose("\n".join(lines()[-40:]))
            self.ledger.forget("process", name=self.key)
            self.ledger.remember(self.key, pid=None, started=None)
            raise ProcessDied(
                f"{self.program}, engine {self.number}," if self.number > 1 else self.program,
                exit_status(process) + (f" ({known.cause})" if known else ""),
                hint=known.hint if known else "owlclaw-up logs hatchet",
                log=tail(),
            )

        return tail, dead


def engine_failure(what: str, ran: Ran, limit: float) -> ApplyFailed:
    """The error for a binary that failed, with the cause where its words are known.

    Args:
        limit: seconds that it was given.
    """
    words = f"{ran.stderr}\n{ran.stdout}".strip()
    lines = words.splitlines()
    if ran.exit_code == -signal.SIGKILL and ran.seconds >= limit:
        return TimedOut(f"the end of {what}", limit, lines[-1] if lines else "no word of it", detail=last_of(lines))
    known = diagnose(words)
    code = ran.exit_code
    how = f"with exit code {code}" if code > 0 else f"by signal {signal.Signals(-code).name}"
    return ApplyFailed(
        known.code if known else "engine-failed",
        f"{what} ended {how}" + (f": {known.cause}" if known else ""),
        hint=known.hint if known else "owlclaw-up logs hatchet",
        detail=last_of(lines),
    )


def since_last_start(lines: Sequence[str]) -> Sequence[str]:
    """What the last engine to be started has said: what ended an earlier one would mislead.

    Args:
        lines: the end of its log.
    """
    starts = [number for number, line in enumerate(lines) if f" {STARTING} " in line]
    return lines[starts[-1] + 1 :] if starts else lines


def last_of(lines: Sequence[str]) -> str:
    return "\n".join(lines[-15:])
