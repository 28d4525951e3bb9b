"""The long proof: real workers killed with real signals, the engine restarted, a thousand runs.

One body for the stand-in and, wherever one is on the machine, the real engine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from owlclaw_up.proof.long import LONG_PROOFS, RUNS
from tests.conftest import REAL_ENGINE_DIR, Cli, command_lines

QUICK = ["sql", "connect", "register", "run", "durable_sleep", "rest"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ["standin", *(["real"] if REAL_ENGINE_DIR else [])])
def test_everything_an_application_relies_on_is_shown(
    new_cli: Callable[..., Cli], standin_dir: Path, engine: str
) -> None:
    cli = new_cli(standin_dir if engine == "standin" else REAL_ENGINE_DIR)
    cli.json("up", "--smoke", "none", "--require", "durable")
    before = cli.json("status")["services"]

    shown = cli("smoke", "--full", timeout=200)
    assert shown.code == 0, shown.text
    assert "1000 runs in" in shown.stdout
    assert "p99" in shown.stdout
    # One screen.
    lines = shown.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24

    kept = cli.json("status")["smoke"]
    proofs = {p["id"]: p for p in kept["proofs"]}
    assert (kept["level"], kept["status"]) == ("full", "passed")
    assert set(proofs) == {*QUICK, *LONG_PROOFS}
    assert {p["status"] for p in proofs.values()} == {"passed"}
    assert min(proofs["shared"]["data"]["shares"]) > 0
    assert sum(proofs["shared"]["data"]["shares"]) == 20
    measured = proofs["throughput"]["data"]
    assert sum(span["count"] for span in measured["histogram"]) == measured["runs"] == RUNS
    assert 0 < measured["latency_seconds"]["p50"] <= measured["latency_seconds"]["max"] <= measured["seconds"]
    assert 0 <= proofs["delayed"]["data"]["late_seconds"] < 10

    # The engine is another process on the same ports, and nothing of the proof is left behind.
    after = cli.json("status")["services"]
    engines = [next(s for s in services if s["id"] == "hatchet") for services in (before, after)]
    assert engines[0]["pid"] != engines[1]["pid"]
    assert engines[0]["port"] == engines[1]["port"]
    assert not [line for line in command_lines(cli.root) if "proof" in line]
    # The long proof holds for the quick one.
    again = cli.json("up")
    assert {s["id"]: s["action"] for s in again["steps"]}["smoke"] == "unchanged"
    cli.assert_no_leak()


def test_in_mock_what_needs_an_engine_is_skipped(mock_cli: Cli) -> None:
    done = mock_cli.json("up", "--mode", "mock", "--smoke", "full")
    assert done["smoke"]["level"] == "full"
    statuses = {p["id"]: p["status"] for p in done["smoke"]["proofs"]}
    assert statuses.pop("sql") == statuses.pop("mock_run") == "passed"
    assert set(statuses) == {"durable_sleep", *LONG_PROOFS}
    assert set(statuses.values()) == {"skipped"}


if REAL_ENGINE_DIR:

    @pytest.mark.timeout(600)
    def test_one_engine_after_another_is_killed_and_work_goes_on(new_cli: Callable[..., Cli]) -> None:
        """The stand-in's engines share no work, so only real ones can show it; each takes a minute and more."""
        cli = new_cli(REAL_ENGINE_DIR)
        cli.json("up", "--engines", "2", "--smoke", "none")
        before = {e["number"]: e["pid"] for e in cli.json("status")["engines"]}

        shown = cli("smoke", "--full", timeout=500)
        assert shown.code == 0, shown.text
        assert max(map(len, shown.stdout.splitlines())) <= 80
        document = cli.json("status")
        proof = {p["id"]: p for p in document["smoke"]["proofs"]}["engine_restarted"]
        assert [killed["engine"] for killed in proof["data"]["killed"]] == [2, 1]
        after = {e["number"]: e["pid"] for e in document["engines"]}
        assert not set(before.values()) & set(after.values())
