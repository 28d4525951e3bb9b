"""Write docs/reference/faults.md from the registry of checks: `make faults`. A test holds that the page is up to date."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from owlclaw_up.checks import CHECKS
from owlclaw_up.checks.base import Check

PAGE = Path(__file__).parent / "reference" / "faults.md"
_HEAD = """\
# Faults

Every check of `owlclaw-up doctor`: how its fault shows, where it comes from, and what usually mends it. The finding itself says what was
seen here, and the command with its own names and ports. This page is made from the checks: `make faults`.

*fix* means that `owlclaw-up doctor --fix` can do it. A check that another one explains (*after*) is told below that one.
"""
_FAMILIES = {
    "platform": "The machine",
    "docker": "Docker",
    "port": "Ports",
    "postgres": "PostgreSQL",
    "hatchet": "Hatchet's database",
    "container": "Containers",
    "engine": "The engine",
    "env": "The dotenv file",
    "network": "The network",
    "remote": "A server elsewhere",
    "sdk": "hatchet-sdk",
    "token": "Tokens",
    "environment": "The environment",
    "leftovers": "Leftovers",
}


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for family, checks in groupby(CHECKS, key=lambda check: check.family):
        parts.append(f"\n## {_FAMILIES[family]}\n\n| check | symptom | cause | what mends it |\n|---|---|---|---|\n")
        parts += [_row(check) for check in checks]
    return "".join(parts)


def _row(check: Check) -> str:
    more = ", *fix*" if check.fixable else ""
    after = f"<br>*after* {', '.join(f'`{a}`' for a in check.after)}" if check.after else ""
    cells = (f"`{check.id}`{more}<br>{check.title}{after}", check.symptom, check.cause, check.mend)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
