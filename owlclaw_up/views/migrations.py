"""What `db migrate` and `db restore` came to, as lines of text with their styles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from owlclaw_up.model import Outcome

_SHOWN = 14


def show(outcome: Outcome, put: Callable[[str, str], None]) -> None:
    """The end of the screen."""
    for text, style in _lines(outcome):
        put(text, style)


def _lines(outcome: Outcome) -> Iterator[tuple[str, str]]:
    data = outcome.data
    if "sql" in data:
        yield data["sql"].rstrip("\n"), ""
        return
    if data.get("declined"):
        yield "Nothing was changed", "bold"
        return
    if "restored" in data:
        yield f"Restored: database {data['restored']['database']} is as in {data['restored']['file']}", "bold green"
        return
    seen: Mapping[str, Any] = data["migrations"]
    at, steps = ", ".join(seen["current"]) or "no revision", seen["steps"]
    where = f"database {seen['database']} on {seen['server']['where']}"
    if not steps:
        yield f"Nothing to migrate: {where} is at {at}, of {seen['source']}", "bold green"
        return
    if data.get("dry_run"):
        yield f"{where[0].upper()}{where[1:]} is at {at}; {seen['source']} has {len(steps)} to run", "bold"
        for step in steps[:_SHOWN]:
            yield f"  {'-' if seen['direction'] == 'down' else '+'} {step['revision']:<24} {step['about']}", ""
        if len(steps) > _SHOWN:
            yield f"  and {len(steps) - _SHOWN} more", "dim"
        for report in outcome.steps[:1]:
            yield f"  dump first: {report.detail}", "dim"
        yield "do it: owlclaw-up db migrate", "dim"
        return
    word = "taken back" if seen["direction"] == "down" else "run"
    yield f"Migrated: {where} is at {at} ({len(steps)} {word}, {seen['source']})", "bold green"
    if seen["handed_over"]:
        yield "  the baseline's revision gave way to the project's own", ""
    if seen["dump"]:
        yield f"  as it was before: owlclaw-up db restore {seen['dump']}", "dim"
