"""The page of a report: one HTML file that loads nothing and runs nothing. Every text is escaped by the template engine."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from owlclaw_up.model import Finding, Found, Outcome, Unknown
from owlclaw_up.report_values import ReceiptRow, Report
from owlclaw_up.views import report_drawing, report_timeline

if TYPE_CHECKING:
    from collections.abc import Callable

    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
# By this a page of ours is known: it may be replaced, any other file not.
GENERATOR = '<meta name="generator" content="owlclaw-up'
# Level or status -> symbol, word.
MARKS = {
    "ok": ("✓", "well"),
    "passed": ("✓", "passed"),
    "done": ("✓", "done"),
    "warn": ("!", "warning"),
    "fail": ("✕", "failure"),
    "failed": ("✕", "failed"),
    "unknown": ("?", "unknown"),
    "info": ("i", "note"),
    "skipped": ("–", "skipped"),
    "other": ("", ""),
}
VERDICTS = {"ok": "Works", "warn": "Works, with reservations", "fail": "Does not work", "info": "Not set up"}


@dataclass(frozen=True)
class Cause:
    """A finding, with those that follow from it."""

    finding: Finding
    followers: tuple[Finding, ...]


def page(report: Report) -> str:
    """The whole file."""
    return (
        _templates()
        .get_template("report.html")
        .render(
            report=report,
            folder=report.project.rstrip("/").rpartition("/")[2] or report.project,
            marks=MARKS,
            verdict_word=VERDICTS[report.verdict.level],
            causes=_causes(report),
            drawings=_drawings(report),
            waterfall=report_timeline.of_up(report.last_up.value) if isinstance(report.last_up, Found) else None,
            probes=report_timeline.of_probes(report.diagnosis.value.probes)
            if isinstance(report.diagnosis, Found)
            else None,
            of_counts=report_timeline.of_counts,
            receipts=_by_kind(report),
        )
    )


@functools.cache
def _templates() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["moment"] = moment
    environment.tests["found"] = lambda fact: isinstance(fact, Found)
    environment.tests["unknown"] = lambda fact: isinstance(fact, Unknown)
    return environment


def _causes(report: Report) -> tuple[Cause, ...]:
    """The findings that are not well, each with its followers; the first one of an id has them all."""
    if not isinstance(report.diagnosis, Found):
        return ()
    findings = report.diagnosis.value.findings
    causes: list[Cause] = []
    told: set[str] = set()
    for finding in findings:
        if not finding.cause and finding.level != "ok":
            followers = () if finding.id in told else tuple(f for f in findings if f.cause == finding.id)
            causes.append(Cause(finding, followers))
            told.add(finding.id)
    return tuple(causes)


def _drawings(report: Report) -> tuple[report_drawing.Drawing, ...]:
    if not isinstance(report.standing, Found):
        return ()
    stack = report.standing.value.stack
    return report_drawing.wide(stack), report_drawing.narrow(stack)


def _by_kind(report: Report) -> Mapping[str, Sequence[ReceiptRow]]:
    rows: dict[str, list[ReceiptRow]] = {}
    if isinstance(report.receipts, Found):
        for row in report.receipts.value:
            rows.setdefault(row.kind, []).append(row)
    return rows


def moment(text: str) -> str:
    """An ISO time as a reader wants it; a text that is none stays as it is."""
    try:
        return datetime.datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S UTC")
    except ValueError:
        return text


def show(outcome: Outcome, put: Callable[..., None]) -> None:
    """What the command says on the screen; nothing where the page itself went there."""
    data: Mapping[str, Any] = outcome.data
    if data["path"] == "-":
        return
    path, verdict = Path(data["path"]), data["verdict"]
    inside = outcome.project is not None and path.is_relative_to(outcome.project)
    shown = path.relative_to(outcome.project) if inside and outcome.project else path
    put(f"{MARKS[verdict['level']][0]} {VERDICTS[verdict['level']]}: {verdict['title']}")
    if verdict["hint"]:
        put(f"    -> {verdict['hint']}")
    put()
    put(f"Written: {shown}  ({data['bytes'] / 1000:.0f} kB, in {outcome.seconds:.1f} s)", "bold")
    if data["bundle"]:
        put(f"  {', '.join(data['files'])}", "dim")
    put("  secrets are masked; look it through before you pass it on", "dim")
