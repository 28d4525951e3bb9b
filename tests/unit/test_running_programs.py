"""Whose a command line is: a program's own, a script's behind its interpreter, and who only names the program."""

from __future__ import annotations

import pytest

from owlclaw_up.host.running import _program

NAMES = ("postgres", "hatchet-lite")
LINES = [
    (["/usr/lib/postgresql/16/bin/postgres", "-D", "/data"], "postgres"),
    (["./hatchet-lite"], "hatchet-lite"),
    (["/bin/sh", "/x/hatchet-lite"], "hatchet-lite"),
    (["/usr/bin/python3.11", "-I", "/x/launch.py", "hatchet-lite", "/x/hatchet-lite"], "hatchet-lite"),
    (["tail", "-f", "/x/hatchet-lite"], "tail"),
    (["sh", "-c", "tail -f /x/hatchet-lite"], ""),
    (["python3", "-c", "postgres"], ""),
    (["postgres: checkpointer "], "postgres: checkpointer "),
    ([], ""),
]


@pytest.mark.parametrize(("words", "name"), LINES, ids=lambda value: str(value)[:40])
def test_the_program_of_a_command_line(words: list[str], name: str) -> None:
    assert _program(words, NAMES) == name
