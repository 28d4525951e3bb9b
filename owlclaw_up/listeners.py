"""Listeners to what happens: the log of a project, and two at once."""

from __future__ import annotations

from owlclaw_up.model import Decided, Event, Listener, Note, StepFinished
from owlclaw_up.project import Project
from owlclaw_up.receipts import now_text


def logger(project: Project, command: str) -> Listener:
    """Every finished step as a line of `logs/up.log`."""
    path = project.ledger.logs / "up.log"

    def log(event: Event) -> None:
        if isinstance(event, StepFinished):
            report = event.report
            text = f"{command} {report.id} {report.action.word} {report.status} {report.seconds:.2f}s {report.detail}"
        elif isinstance(event, Decided):
            text = f"{command} decided {event.decision.mode.value}: {event.decision.why}"
        elif isinstance(event, Note):
            text = f"{command} {event.text}"
        else:
            return
        if path.parent.exists():
            project.host.files.append(path, f"{now_text(project.host.clock)} {project.redact(text)}\n")

    return log


def both(one: Listener, other: Listener) -> Listener:
    """A listener that tells two."""

    def listen(event: Event) -> None:
        one(event)
        other(event)

    return listen
