"""What GitHub Actions reads: workflow commands and a table."""

from __future__ import annotations

from owlclaw_up.model import Finding, Outcome
from owlclaw_up.views.github import annotation, step_summary

BAD = Finding("postgres.timezone", "fail", "sessions are in CET, not UTC", "SHOW timezone: CET\n100 %", "owlclaw-up")


def test_an_annotation_is_one_line() -> None:
    assert annotation(BAD) == (
        "::error title=owlclaw-up postgres.timezone::sessions are in CET, not UTC%0ASHOW timezone: CET%0A100 %25%0Aowlclaw-up"
    )
    assert annotation(Finding("env.shadow", "warn", "a, b: c")) == "::warning title=owlclaw-up env.shadow::a, b: c"


def test_a_summary_is_a_table() -> None:
    outcome = Outcome("doctor", "failed", 1, findings=(BAD,), seconds=0.5, data={"checks": 60, "counts": {"fail": 1}})
    text = step_summary(outcome, [BAD, Finding("env.shadow", "warn", "a | b", hint="one\ntwo")])
    assert text.startswith("### owlclaw-up doctor: 60 checks in 0.5 s: 1 failure\n\n| | check | what | what to do |\n")
    assert "| FAILURE | `postgres.timezone` | sessions are in CET, not UTC | owlclaw-up |" in text
    assert "| warning | `env.shadow` | a \\| b | one<br>two |" in text
    assert "| check |" not in step_summary(outcome, [])
