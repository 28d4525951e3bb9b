"""The record of the last `up`: what each step did, when it began and how long it took. Kept beside the logs, for the report."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from owlclaw_up import __version__
from owlclaw_up.errors import Interrupted
from owlclaw_up.model import Action, Decided, Event, Outcome, StepFinished, StepReport, StepStarted
from owlclaw_up.project import Project
from owlclaw_up.receipts import now_text

FILE = "last-up.json"


class UpRecord:
    """Listens to an `up`, and writes down what became of it, also of one that was interrupted.

    The record of the run before is removed once this one begins its steps: an `up` that is killed leaves none, rather
    than one that is not its own.

    Args:
        command: `up` or `reset`.
    """

    def __init__(self, project: Project, command: str) -> None:
        self.project, self.command = project, command
        self._path = project.ledger.logs / FILE
        self._at = now_text(project.host.clock)
        self._begun = project.host.clock.monotonic()
        self._reports: list[StepReport] = []
        self._running: tuple[StepStarted, float] | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Decided):
            self.project.host.files.remove(self._path)
            self._reports.clear()
        elif isinstance(event, StepStarted):
            self._running = event, self._passed
        elif isinstance(event, StepFinished):
            self._running = None
            self._reports.append(event.report)

    @property
    def _passed(self) -> float:
        return self.project.host.clock.monotonic() - self._begun

    def keep(self, outcome: Outcome) -> None:
        """Write what an `up` came to; nothing where there is no folder to write into, or none that can be written."""
        if not self._path.parent.exists():
            return
        error = outcome.error
        document = {
            "version": __version__,
            "command": self.command,
            "at": self._at,
            "status": outcome.status,
            "exit_code": outcome.exit_code,
            "mode": outcome.mode.value if outcome.mode else None,
            "seconds": round(outcome.seconds, 3),
            "steps": [_step(report) for report in outcome.steps],
            "error": None if error is None else {"code": error.code, "message": error.message, "hint": error.hint},
        }
        self.project.learn_secrets()
        text = json.dumps(self.project.redact.within(document), indent=1, ensure_ascii=False)
        with contextlib.suppress(OSError):
            self.project.host.files.write_private(self._path, f"{text}\n".encode("utf-8", "replace"))

    def interrupted(self) -> None:
        """Write what had been done when somebody interrupted it, and what it was at."""
        reports = list(self._reports)
        if self._running is not None:
            event, began = self._running
            what = "interrupted while it was at this"
            reports.append(StepReport(event.id, event.title, Action.RUN, "failed", self._passed - began, what, began))
        error = Interrupted()
        self.keep(
            Outcome(self.command, "failed", error.exit_code, steps=tuple(reports), seconds=self._passed, error=error)
        )


def _step(report: StepReport) -> dict[str, Any]:
    return {
        "id": report.id,
        "title": report.title,
        "action": report.action.word,
        "status": report.status,
        "seconds": round(report.seconds, 3),
        "detail": report.detail,
        "began": round(report.began, 3),
        "early": None if report.early is None else round(report.early, 3),
    }
