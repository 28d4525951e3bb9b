"""What the tests of database faults share: SQL on a project's own server, and a finding's command as a user pastes it."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import psycopg

from owlclaw_up.model import Finding
from tests.conftest import Cli


def connect(cli: Cli, database: str = "postgres", role: str = "postgres", **more: Any) -> psycopg.Connection[Any]:
    """A session on the embedded server of a project."""
    return psycopg.connect(
        host="127.0.0.1", port=cli.state["ports"]["postgres"], user=role, password=cli.secrets["passwords"][role],
        dbname=database, autocommit=True, **more,
    )  # fmt: skip


def sql(cli: Cli, query: str, database: str = "postgres", role: str = "postgres") -> list[tuple[Any, ...]]:
    with connect(cli, database, role) as connection:
        cursor = connection.execute(query.encode())
        return list(cursor.fetchall()) if cursor.description else []


def paste(finding: Finding, password: str) -> None:
    """Run a finding's command in a shell.

    Args:
        password: what psql asks for.
    """
    env = {"PATH": os.environ["PATH"], "PGPASSWORD": password, "LC_ALL": "C"}
    ran = subprocess.run(
        finding.command, shell=True, env=env, cwd="/", text=True, capture_output=True, timeout=30, check=False
    )
    assert ran.returncode == 0, f"{finding.command}: {ran.stderr}"
