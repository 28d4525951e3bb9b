"""How checks are run: crashes, broken probes, consequences under their cause, the order of what is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from owlclaw_up.checks.base import Check, Diagnosis, Evidence, Fix, Seen, examine, ok
from owlclaw_up.errors import PortTaken, RemoteUnusable
from owlclaw_up.settings import load
from tests.unit.fakes import NOW, make_facts, make_ledger


def make_evidence(root: Path, **values: Any) -> Evidence:
    usual: dict[str, Any] = {
        "facts": make_facts(root), "settings": load(root, {}, {}), "ledger": make_ledger(root), "mode": None,
        "standing": False, "decision": None, "spec": None, "planned": (), "error": None, "now": NOW,
    }  # fmt: skip
    return Evidence(**{**usual, **values})


def check(name: str, *seen: Seen, after: tuple[str, ...] = (), probes: tuple[str, ...] = ()) -> Check:
    return Check(name, f"title of {name}", "symptom", "cause", "why", "mend", lambda _: seen, probes, after)


def run(root: Path, *checks: Check, **how: Any) -> Diagnosis:
    evidence = {name: how.pop(name) for name in ("facts", "error") if name in how}
    return examine(checks, make_evidence(root, **evidence), **how)


BAD, ODD = Seen("fail", "broken", "what was seen", command="owlclaw-up"), Seen("warn", "odd")


def told(diagnosis: Diagnosis) -> list[tuple[str, str, str]]:
    return [(f.id, f.level, f.cause) for f in diagnosis.findings]


def test_worst_first_and_what_is_well_last(tmp_path: Path) -> None:
    found = run(tmp_path, check("a.a", ok("fine")), check("a.b", ODD), check("a.c", BAD), check("a.d"))
    assert told(found) == [("a.c", "fail", ""), ("a.b", "warn", ""), ("a.a", "ok", "")]
    assert found.idle == ("a.d",)
    first = found.findings[0]
    assert (first.title, first.detail, first.hint, first.command, first.why) == (
        "broken", "what was seen", "owlclaw-up", "owlclaw-up", "why",
    )  # fmt: skip
    assert found.findings[-1].why == ""


def test_consequences_stand_under_their_cause(tmp_path: Path) -> None:
    """Through a check that is well, and through one that does not apply; never under another consequence."""
    found = run(
        tmp_path,
        check("token.bad", BAD, after=("engine.running",)),
        check("engine.running", BAD, after=("engine.port",)),
        check("engine.port", after=("postgres.reach",)),
        check("postgres.reach", BAD),
        check("env.odd", ODD, after=("token.bad",)),
        check("other.thing", BAD),
        check("other.fine", ok("fine"), after=("other.thing",)),
    )
    assert told(found) == [
        ("postgres.reach", "fail", ""),
        ("token.bad", "fail", "postgres.reach"),
        ("engine.running", "fail", "postgres.reach"),
        ("env.odd", "warn", "postgres.reach"),
        ("other.thing", "fail", ""),
        ("other.fine", "ok", ""),
    ]
    assert [f.id for f in found.causes] == ["postgres.reach", "other.thing", "other.fine"]


def test_a_warning_explains_nothing(tmp_path: Path) -> None:
    found = run(tmp_path, check("a.a", ODD), check("a.b", BAD, after=("a.a",)))
    assert told(found) == [("a.b", "fail", ""), ("a.a", "warn", "")]


def test_checks_that_wait_for_each_other_are_both_told(tmp_path: Path) -> None:
    found = run(tmp_path, check("a.a", BAD, after=("a.b",)), check("a.b", BAD, after=("a.a",)))
    assert told(found) == [("a.a", "fail", ""), ("a.b", "fail", "")]


def test_a_check_that_crashes_is_a_finding(tmp_path: Path) -> None:
    def crash(evidence: Evidence) -> Iterator[Seen]:
        yield ok("so far")
        raise ZeroDivisionError("by nothing")

    broken = Check("a.crash", "title", "symptom", "cause", "why", "mend", crash)
    found = run(tmp_path, broken, check("a.fine", ok("fine")))
    assert told(found) == [("a.crash", "unknown", ""), ("a.fine", "ok", "")]
    assert "ZeroDivisionError: by nothing" in found.findings[0].detail


def test_a_broken_probe_is_one_finding_with_followers(tmp_path: Path) -> None:
    facts = make_facts(tmp_path, broken={"docker": "no answer within 3.0 s"})
    found = run(
        tmp_path, check("a.a", ok("fine")), check("b.a", BAD, probes=("docker",)), check("b.b", BAD, probes=("docker",)),
        facts=facts,
    )  # fmt: skip
    assert told(found) == [("b.a", "unknown", ""), ("b.b", "unknown", "b.a"), ("a.a", "ok", "")]
    assert "docker: no answer within 3.0 s" in found.findings[0].detail


def test_what_stops_up_speaks_in_its_own_words(tmp_path: Path) -> None:
    error = PortTaken(8888, "the dashboard", "nginx (pid 7)", "dashboard-port")
    fix = Fix("take port 8889", up=True, settings={"dashboard_port": 8889})
    found = run(
        tmp_path, check("port.dashboard", Seen("fail", "taken", fix=fix), Seen("info", "also")), check("a.a", ok("fine")),
        error=error, stopped_by="port.dashboard",
    )  # fmt: skip
    assert [(f.title, f.level, f.fix) for f in found.findings] == [
        (error.message, "fail", "take port 8889"), ("also", "info", ""), ("fine", "ok", ""),
    ]  # fmt: skip
    assert found.findings[0].hint == error.hint
    assert found.fixes == (("port.dashboard", fix),)


def test_only_what_was_asked_for(tmp_path: Path) -> None:
    found = run(tmp_path, check("a.a", BAD), check("a.b", BAD, after=("a.a",)), only=["a.b"])
    assert told(found) == [("a.b", "fail", "")]


def test_nothing_is_to_be_mended_by_an_up_that_a_server_elsewhere_would_stop(tmp_path: Path) -> None:
    error = RemoteUnusable("remote-token-refused", "it refuses the token", hint="make a new one")
    by_up, by_step = Fix("run owlclaw-up", up=True), Fix("set the rights of .env to 0600")
    looks = [
        check("a.a", Seen("fail", "stopped", command="owlclaw-up", fix=by_up)),
        check("a.b", Seen("warn", "open", fix=by_step)),
    ]
    assert [fix for _, fix in run(tmp_path, *looks).fixes] == [by_up, by_step]
    found = run(tmp_path, *looks, error=error)
    assert [fix for _, fix in found.fixes] == [by_step]
    assert (found.findings[0].fix, found.findings[0].hint) == ("", "once the server elsewhere can be used: owlclaw-up")
