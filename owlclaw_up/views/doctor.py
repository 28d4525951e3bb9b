"""What the doctor found, as text: the worst cause first, what follows from it below it, and what is well in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from owlclaw_up.model import Finding, Outcome

SYMBOLS = {"fail": "x", "unknown": "?", "warn": "!", "info": "i", "ok": "="}
WORDS = {"fail": "FAILURE", "unknown": "UNKNOWN", "warn": "warning", "info": "note", "ok": "ok"}
_STYLES = {"fail": "bold red", "unknown": "yellow", "warn": "yellow", "info": "", "ok": "green"}
_MORE = {"fail": ("failure", "failures"), "unknown": ("unknown", "unknown"), "warn": ("warning", "warnings")}
_DETAIL_LINES = 3


def show(outcome: Outcome, put: Callable[..., None], *, verbose: bool) -> None:
    """Every cause with its evidence and its way out; what is well only with `verbose`."""
    for finding in outcome.findings:
        if finding.cause:
            put(f"    follows: {finding.id}: {finding.title}", "dim")
        elif finding.level == "ok":
            if verbose:
                put(f"  = {finding.id:<26} {finding.title}", "dim")
        else:
            _cause(finding, put, verbose=verbose)
    for line, style in fixes(outcome.data.get("fixes", ())):
        put(line, style)
    put()
    put(summary(outcome), _STYLES["fail" if outcome.exit_code else "ok"])
    if verbose and outcome.data.get("idle"):
        put(f"does not apply here: {', '.join(outcome.data['idle'])}", "dim")


def _cause(finding: Finding, put: Callable[..., None], *, verbose: bool) -> None:
    if finding.level == "info" and not verbose:
        command = f" -> {finding.command}" if finding.command else ""
        put(f"i note {finding.id}: {finding.title}{command}")
        return
    put(f"{SYMBOLS[finding.level]} {WORDS[finding.level]} {finding.id}: {finding.title}", _STYLES[finding.level])
    details = finding.detail.splitlines()
    for line in details if verbose else details[:_DETAIL_LINES]:
        put(f"    {line}", "dim")
    if finding.why and finding.level != "info":
        put(f"    why it matters: {finding.why}", "dim")
    hints = finding.hint.splitlines()
    for number, line in enumerate(hints):
        put(f"    {'->' if not number else '  '} {line}")
    if finding.command and finding.command not in finding.hint:
        put(f"    -> {finding.command}")
    if finding.fix:
        put(f"    owlclaw-up doctor --fix would {finding.fix}", "dim")


def fixes(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What `--fix` will do, or did."""
    lines = []
    for row in rows:
        lines.append((f"  fix: {row['summary']}  ({', '.join(row['findings'])})", "bold"))
        lines += [(f"       {c['action']:<8} {c['id']}: {c['summary']}", "dim") for c in row["changes"]]
    return lines


def summary(outcome: Outcome) -> str:
    """One line: how many checks, how long, and what came of them."""
    counts = outcome.data.get("counts", {})
    followers = sum(1 for f in outcome.findings if f.cause)
    bad = [
        f"{counts[level]} {one if counts[level] == 1 else many}"
        for level, (one, many) in _MORE.items()
        if counts.get(level)
    ]
    text = f"{outcome.data.get('checks', len(outcome.findings))} checks in {outcome.seconds:.1f} s: "
    text += ", ".join(bad) if bad else "all is well"
    if followers:
        text += f" ({followers} of them follow{'s' if followers == 1 else ''} from another)"
    return text
