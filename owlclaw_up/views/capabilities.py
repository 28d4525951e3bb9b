"""The table of capabilities as text: one line for each, and below a run of equal ways out, that command. One 80x24 screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from owlclaw_up.model import Outcome

_WIDTH = 79
_INDENT = 7


def show(outcome: Outcome, put: Callable[[str, str], None], *, verbose: bool) -> None:
    """Print the table.

    Args:
        verbose: how it was found out is shown whole, however long.
    """
    rows: Sequence[Mapping[str, Any]] = outcome.data["capabilities"]
    good = sum(row["yes"] for row in rows)
    put(f"{good} of {len(rows)} work here now: {outcome.mode.value if outcome.mode else 'not set up'}", "bold")
    put("", "")
    column = _INDENT + max(len(row["title"]) for row in rows) + 2
    for row, after in zip(rows, [*rows[1:], {"command": ""}], strict=True):
        head = f"  {'yes' if row['yes'] else 'no':<{_INDENT - 2}}{row['title']:<{column - _INDENT}}"
        how = row["how"] if verbose else _cut(row["how"], _WIDTH - column)
        put(head + how, "green" if row["yes"] else "yellow")
        if row["command"] and row["command"] != after["command"]:
            put(f"{'':<{column}}{row['command']}", "dim")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3].rstrip()}..."
