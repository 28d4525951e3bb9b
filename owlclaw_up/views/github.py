"""Findings where GitHub Actions shows them: annotations on stderr, and the step summary that the runner names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from owlclaw_up.model import Finding, Outcome
from owlclaw_up.views.doctor import WORDS, summary

# The runner's own levels: docs.github.com, workflow commands.
_LEVELS = {"fail": "error", "unknown": "warning", "warn": "warning", "info": "notice"}


def tell(outcome: Outcome) -> None:
    """Say every cause that is not well, where the runner reads it; nothing elsewhere."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    causes = [f for f in outcome.findings if not f.cause and f.level in _LEVELS]
    for finding in causes:
        print(annotation(finding), file=sys.stderr, flush=True)
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(step_summary(outcome, causes))


def annotation(finding: Finding) -> str:
    """One workflow command; line ends and per cent signs are escaped as the runner wants them."""
    text = "\n".join(filter(None, (finding.title, finding.detail, finding.hint)))
    title = _escaped(finding.id).replace(":", "%3A").replace(",", "%2C")
    return f"::{_LEVELS[finding.level]} title=owlclaw-up {title}::{_escaped(text)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def step_summary(outcome: Outcome, causes: list[Finding]) -> str:
    """Markdown: one row for each cause."""
    lines = [f"### owlclaw-up doctor: {summary(outcome)}", ""]
    if causes:
        lines += ["| | check | what | what to do |", "|---|---|---|---|"]
        lines += [f"| {WORDS[f.level]} | `{f.id}` | {_cell(f.title)} | {_cell(f.hint)} |" for f in causes]
    return "\n".join(lines) + "\n\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "<br>")
