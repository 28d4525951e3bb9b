"""The command's place on the line: shared options may stand before it, and `up` may be left out."""

from __future__ import annotations

import pytest

from owlclaw_up.cli.main import arrange
from owlclaw_up.cli.options import SHARED_FLAGS, SHARED_VALUES

COMMANDS = ("up", "plan", "status", "smoke", "down", "reset", "logs", "env", "open", "engine", "db", "token", "export")
GROUPS = ("engine", "db", "token", "export")

CASES: list[tuple[str, str]] = [
    ("", "up"),
    ("up", "up"),
    ("status", "status"),
    ("--json", "up --json"),
    ("--mode mock", "up --mode mock"),
    ("--json --mode mock", "up --json --mode mock"),
    ("--dry-run", "up --dry-run"),
    ("--json status", "status --json"),
    ("-q -v --no-color down --purge", "down -q -v --no-color --purge"),
    ("--project-dir /x plan --mode native", "plan --project-dir /x --mode native"),
    ("--project-dir=/x plan", "plan --project-dir=/x"),
    ("--project-dir status status", "status --project-dir status"),
    ("--project-dir /x", "up --project-dir /x"),
    ("--project-dir", "up --project-dir"),
    ("status --json", "status --json"),
    ("logs --tail 3 hatchet", "logs --tail 3 hatchet"),
    ("engine list", "engine list"),
    ("engine list --json", "engine list --json"),
    ("--json engine list", "engine list --json"),
    ("--project-dir /x --json engine import /y", "engine import --project-dir /x --json /y"),
    ("engine --json list", "engine list --json"),
    ("-v engine --project-dir /x import /y", "engine import -v --project-dir /x /y"),
    ("db init --admin-url postgresql://h", "db init --admin-url postgresql://h"),
    ("--json db init", "db init --json"),
    ("--json token show --reveal", "token show --json --reveal"),
    ("engine", "engine"),
    ("engine --help", "engine --help"),
    ("--help", "--help"),
    ("--version", "--version"),
    ("status --help", "status --help"),
    ("up --help", "up --help"),
    ("stauts", "stauts"),
    ("--json stauts --x", "stauts --json --x"),
]


@pytest.mark.parametrize(("given", "arranged"), CASES)
def test_arrange(given: str, arranged: str) -> None:
    assert arrange(given.split(), GROUPS) == arranged.split()


def test_a_value_with_blanks_stays_one_word() -> None:
    assert arrange(["--project-dir", "/my project", "status"], GROUPS) == ["status", "--project-dir", "/my project"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_shared_option_may_stand_before_every_command(command: str) -> None:
    words = ["list"] if command in GROUPS else []
    leading = [*sorted(SHARED_FLAGS), *(word for name in sorted(SHARED_VALUES) for word in (name, "/x"))]
    assert arrange([*leading, command, *words], GROUPS) == [command, *words, *leading]
