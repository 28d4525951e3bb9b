"""The screens of `owlclaw-up db`: sizes a reader takes in, columns that stand in line, and what is next."""

from __future__ import annotations

from typing import Any

import pytest

from owlclaw_up.model import Action, Mode, Outcome, StepReport
from owlclaw_up.views.databases import made, size, standing

SERVER = {
    "where": "db.example.com:5432", "kind": "local", "source": "--admin-url", "version": "16.4 (Debian 16.4-1)",
    "login": "postgres",
}  # fmt: skip


def an_outcome(command: str, database: dict[str, Any], **values: Any) -> Outcome:
    steps = (StepReport("database.owlclaw", "Database owlclaw", values.pop("action", Action.CREATE), "done", 0.1, "x"),)
    data = {
        "database": {"server": SERVER, "secrets_file": ".owlclaw-up/secrets.json", **database},
        **values.pop("data", {}),
    }
    return Outcome(command, "ok", 0, steps=steps, data=data, **values)


def text(lines: Any) -> str:
    return "\n".join(line for line, _ in lines)


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (None, "-"), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (7_861_951, "7.9 MB"), (123_456_789, "123 MB"),
        (5_000_000_000, "5.0 GB"), (2_000_000_000_000_000, "2000 TB"),
    ],
)  # fmt: skip
def test_sizes(number: int | None, shown: str) -> None:
    assert size(number) == shown


def test_what_was_made() -> None:
    databases = [
        {"name": "owlclaw", "owner": "owlclaw", "extensions": ["vector", "pgcrypto"]},
        {"name": "hatchet_archive", "owner": "h", "extensions": []},
    ]
    shown = text(made(an_outcome("db init", {"databases": databases})))
    assert shown.startswith("Ready: PostgreSQL 16.4 at db.example.com:5432, yours (--admin-url)")
    assert "  owlclaw          owlclaw  vector pgcrypto\n  hatchet_archive  h        -\n" in shown
    assert ".owlclaw-up/secrets.json" in shown and "an environment on them" in shown
    again = an_outcome("db init", {"databases": databases}, action=Action.UNCHANGED, mode=Mode.MOCK)
    assert text(made(again)).startswith("Ready, nothing to change: ")
    assert "--purge" not in text(made(again)), "it would take the whole environment away"


def test_what_would_be_made() -> None:
    plan = text(made(an_outcome("db init", {"databases": []}, data={"dry_run": True})))
    assert "  + database.owlclaw       x" in plan and "do it: owlclaw-up db init" in plan
    plan = text(made(an_outcome("db init", {"databases": []}, action=Action.UNCHANGED, data={"dry_run": True})))
    assert "  = database.owlclaw       x" in plan and plan.endswith("Nothing to change")


def test_what_was_not_dropped() -> None:
    assert text(made(Outcome("db reset-test", "ok", 0, data={"declined": True}))) == "Nothing was dropped"


def test_where_they_stand() -> None:
    there = {
        "name": "owlclaw", "exists": True, "owner": "owlclaw", "size": 7_861_951, "encoding": "UTF8", "timezone": "UTC",
        "extensions": {"vector": "missing", "pgcrypto": "there", "pg_trgm": "available"},
    }  # fmt: skip
    gone = {
        "name": "hatchet", "exists": False, "owner": None, "size": None, "encoding": None, "timezone": None,
        "extensions": {},
    }  # fmt: skip
    about = {**SERVER, "tls": True, "timezone": "UTC", "connections": {"used": 7, "max": 100}}
    migrations: dict[str, Any] = {
        "hatchet": {"version": None, "expected": None, "engine": None, "elsewhere": False},
        "alembic": {
            "source": "alembic.ini",
            "heads": ["b2"],
            "current": ["a1"],
            "pending": ["b1", "b2"],
            "problem": "",
        },
    }
    roles = [
        {"name": "owlclaw", "exists": True, "login_works": False},
        {"name": "hatchet", "exists": False, "login_works": False},
    ]
    database = {"server": about, "databases": [gone, there], "roles": roles, "migrations": migrations}
    shown = text(standing(Outcome("db status", "failed", 1, data={"database": database})))
    assert "login postgres, TLS, 7 of 100 connections, UTC" in shown
    assert "  hatchet   -        missing  -         -         -" in shown
    assert "vector (missing), pgcrypto, pg_trgm (available)" in shown
    assert "role owlclaw      password not known" in shown and "role hatchet      missing" in shown
    assert "Hatchet's migrations   none yet" in shown
    assert "Alembic's migrations   a1, 2 pending   (head b2, alembic.ini)" in shown
    migrations["alembic"] = {"source": "baseline", "problem": ""}
    assert "the project has none" in text(standing(Outcome("db status", "ok", 0, data={"database": database})))
    migrations["alembic"] = None
    assert "Alembic" not in text(standing(Outcome("db status", "ok", 0, data={"database": database})))
