"""A command that is forked from a process that has loaded it does what one does that Python loads itself."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.conftest import Cli, loaded


@pytest.mark.parametrize(
    "args",
    [("--help",), ("--version",), ("plan", "--json"), ("status",), ("up", "--mode", "nativ"), ("env", "--export")],
)
def test_it_says_and_leaves_the_same(mock_cli: Cli, args: tuple[str, ...]) -> None:
    results = []
    for fresh in (False, True):
        mock_cli.fresh = fresh
        result = mock_cli(*args)
        results.append((result.code, _without_seconds(result.stdout), result.stderr, sorted(mock_cli.root.iterdir())))
    assert results[0] == results[1]


def _without_seconds(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if '"seconds"' not in line)


def test_it_has_its_own_environment_folder_and_end(mock_cli: Cli) -> None:
    below = mock_cli.root / "below"
    below.mkdir()
    assert not mock_cli.fresh and loaded().can_run(mock_cli.env)
    assert mock_cli.json("status", code=1, cwd=below)["project"] == str(mock_cli.root)
    assert mock_cli.json("plan", code=2, OWLCLAW_UP_MODE="nativ")["error"]["code"] == "bad-setting"
    assert not loaded().can_run({**mock_cli.env, "PYTHONPATH": str(below)})


def test_one_that_takes_too_long_is_killed(mock_cli: Cli) -> None:
    begun = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        mock_cli("logs", "--follow", timeout=0.01)
    assert time.monotonic() - begun < 5
