"""The JSON envelope: exactly these keys, whatever happened, and never a secret."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.errors import PortTaken
from owlclaw_up.model import (
    Action,
    Decision,
    Finding,
    Login,
    Mode,
    Outcome,
    Proof,
    Rejected,
    Secret,
    Service,
    Smoke,
    StepReport,
    TokenInfo,
)
from owlclaw_up.views.machine import document, text

KEYS = {
    "schema", "command", "status", "exit_code", "mode", "decision", "steps", "endpoints", "env_file", "project",
    "seconds", "smoke", "findings", "services", "token", "login", "error",
}  # fmt: skip
DECISION = Decision(
    Mode.NATIVE, "auto", "engine v0.107.2 is at hand", (Rejected(Mode.FULL, "Docker is not installed"),), True
)
OK = Outcome(
    "up", "ok", 0, Mode.NATIVE, DECISION,
    steps=(StepReport("database.hatchet", "Database hatchet", Action.CREATE, "done", 0.05049, "role, database"),),
    endpoints={"dashboard": "http://localhost:8888", "grpc": "localhost:17077", "postgres": "postgresql://owlclaw@localhost:5432/owlclaw"},
    env_file=".env", seconds=2.90049,
    smoke=Smoke("quick", "passed", (Proof("run", "passed", 0.0304, "result 42"),)),
    findings=(Finding("env.ignored", "warn", "git does not ignore .env", hint="echo .env >> .gitignore"),),
    services=(Service("postgres", "running", "answers", 5432, 77, "2026-11-23T01:16:11+00:00", "18.6"),),
    token=TokenInfo("t", "http://localhost:8888", "localhost:17077", "2027-11-23T01:16:11+00:00", 365, True, "2026-11-23T01:16:11+00:00", "id"),
    login=Login("admin@example.com", Secret("geheim-login")), project=Path("/home/user/app"),
)  # fmt: skip
DEGRADED = dataclasses.replace(
    OK, status="degraded", mode=Mode.MOCK, decision=dataclasses.replace(DECISION, mode=Mode.MOCK, durable=False),
    token=None, login=None, smoke=Smoke("none", "skipped"),
)  # fmt: skip
FAILED = Outcome(
    "up", "failed", 3, error=PortTaken(8888, "the dashboard", "jupyter (pid 4242)", "dashboard-port"), seconds=0.4
)
PLAN = dataclasses.replace(OK, command="plan", smoke=None, login=None, token=None, services=(), data={"dry_run": True})


@pytest.mark.parametrize("outcome", [OK, DEGRADED, FAILED, Outcome("down", "ok", 0)])
def test_every_document_has_every_key(outcome: Outcome) -> None:
    assert set(document(outcome)) == KEYS


def test_keys_are_only_added() -> None:
    assert set(document(PLAN)) == KEYS | {"dry_run"}


def test_the_document_of_a_success() -> None:
    made = document(OK)
    assert {k: made[k] for k in ("schema", "command", "status", "exit_code", "mode", "env_file", "project", "error")} == {
        "schema": "owlclaw-up/1", "command": "up", "status": "ok", "exit_code": 0, "mode": "native", "env_file": ".env",
        "project": "/home/user/app", "error": None,
    }  # fmt: skip
    assert made["decision"] == {
        "mode": "native", "source": "auto", "why": "engine v0.107.2 is at hand", "durable": True, "hint": "", "moves": [],
        "rejected": [{"mode": "full", "why": "Docker is not installed"}],
    }  # fmt: skip
    assert made["steps"] == [
        {
            "id": "database.hatchet", "title": "Database hatchet", "action": "create", "status": "done",
            "seconds": 0.05, "detail": "role, database", "began": 0.0, "early": None,
        }
    ]  # fmt: skip
    assert made["endpoints"] == dict(OK.endpoints)
    assert made["seconds"] == 2.9
    assert made["smoke"] == {
        "level": "quick", "status": "passed", "kept_since": None,
        "proofs": [{"id": "run", "status": "passed", "seconds": 0.03, "detail": "result 42", "hop": "", "data": {}}],
    }  # fmt: skip
    assert made["findings"] == [
        {
            "id": "env.ignored", "level": "warn", "title": "git does not ignore .env", "detail": "",
            "hint": "echo .env >> .gitignore", "command": "", "why": "", "cause": None, "fix": None,
        }
    ]  # fmt: skip
    assert made["services"] == [
        {
            "id": "postgres", "state": "running", "detail": "answers", "port": 5432, "pid": 77,
            "since": "2026-11-23T01:16:11+00:00", "version": "18.6", "container": None,
        }
    ]  # fmt: skip
    assert made["token"] == {
        "tenant": "t", "server_url": "http://localhost:8888", "grpc_address": "localhost:17077",
        "expires_at": "2027-11-23T01:16:11+00:00", "days_left": 365, "accepted": True,
        "issued_at": "2026-11-23T01:16:11+00:00", "token_id": "id",
    }  # fmt: skip
    assert made["login"] == {"email": "admin@example.com"}


def test_the_document_of_a_degraded_one() -> None:
    made = document(DEGRADED)
    assert (made["status"], made["mode"], made["decision"]["durable"], made["token"]) == (
        "degraded",
        "mock",
        False,
        None,
    )
    assert made["smoke"] == {"level": "none", "status": "skipped", "kept_since": None, "proofs": []}


def test_the_document_of_a_failure() -> None:
    made = document(FAILED)
    assert made["error"] == {
        "code": "port-taken",
        "message": "port 8888, kept for the dashboard, is taken by jupyter (pid 4242)",
        "hint": "stop jupyter (pid 4242), or move with --dashboard-port PORT (then: owlclaw-up)",
        "detail": "",
    }
    assert (made["mode"], made["decision"], made["smoke"], made["project"]) == (None, None, None, None)
    assert (made["steps"], made["endpoints"], made["findings"], made["services"]) == ([], {}, [], [])


@pytest.mark.parametrize("outcome", [OK, DEGRADED, FAILED, PLAN])
def test_the_text_is_one_document_and_one_line_end(outcome: Outcome) -> None:
    shown = text(outcome)
    assert json.loads(shown) == document(outcome)
    assert shown.endswith("}\n")
    assert not shown.endswith("\n\n")


def test_text_of_every_language_stays_readable() -> None:
    assert "数据库" in text(dataclasses.replace(OK, data={"notes": ["数据库"]}))


def test_no_secret_is_in_a_document() -> None:
    assert "geheim" not in text(OK)
    assert "geheim" not in repr(OK)


@pytest.mark.parametrize("data", [{"x": Secret("geheim")}, {"x": [Secret("geheim")]}, {"x": {"y": Secret("geheim")}}])
def test_a_secret_that_strays_into_the_data_is_an_error_and_not_shown(data: dict[str, Any]) -> None:
    with pytest.raises(TypeError) as caught:
        text(dataclasses.replace(OK, data=data))
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("shape", ["{}", "{!s}", "{!r}", "{0:}"])
def test_a_secret_shows_itself_in_no_format(shape: str) -> None:
    secret = Secret("geheim")
    assert "geheim" not in shape.format(secret)
    assert secret.reveal() == "geheim"
    assert secret == Secret("geheim") != Secret("other")
    assert secret != "geheim"
    assert len({secret, Secret("geheim")}) == 1
    assert bool(secret)
    assert not Secret("")
    assert "geheim" not in f"{vars(type(secret))}"
    with pytest.raises(TypeError):
        json.dumps(secret)
