"""The command `doctor`: its screen, its document, its exit codes, watching, and what GitHub Actions gets."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest

import owlclaw_up
from owlclaw_up.checks import CHECKS
from tests.conftest import Cli
from tests.faults import SICK
from tests.standin import install

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/reference/doctor.schema.json").read_text())
HEALTHY = 1.5


@pytest.fixture(scope="module")
def standing(new_module_cli: Callable[..., Cli], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    cli = new_module_cli(install(tmp_path_factory.mktemp("engine")))
    cli.json("up", "--smoke", "none")
    yield cli


def fault(cli: Cli, words: str) -> None:
    (Path(cli.env["OWLCLAW_UP_ENGINE_DIR"]) / "fault").write_text(words)


def test_a_healthy_environment(standing: Cli) -> None:
    document = standing.json("doctor")
    jsonschema.validate(document, SCHEMA)
    assert (document["status"], document["mode"], document["checks"]) == ("ok", "native", len(CHECKS))
    assert document["counts"]["fail"] == document["counts"]["warn"] == document["counts"]["unknown"] == 0
    # Measured beside other tests, so with room; `make bench` has the mark.
    assert document["seconds"] <= 3 * HEALTHY
    lines = standing("doctor").stdout.splitlines()
    assert lines[-1].startswith(f"{len(CHECKS)} checks in ") and lines[-1].endswith(": all is well")
    assert "  = environment.begun" in standing("doctor", "--verbose").stdout
    assert standing("doctor", "--quiet").stdout == ""
    assert standing("doctor", "--strict").code == 0


def test_before_the_first_up_nothing_fails(mock_cli: Cli) -> None:
    document = mock_cli.json("doctor")
    jsonschema.validate(document, SCHEMA)
    assert document["mode"] == "mock" and document["counts"]["fail"] == 0
    assert not (mock_cli.root / ".owlclaw-up").exists()
    assert mock_cli("doctor", "--strict").code == 1, "only mock can be had: a warning"


def test_a_sick_one(standing: Cli) -> None:
    """One fault, one cause; what follows stands below it, on one screen."""
    standing.json("down")
    try:
        result = standing("doctor")
        document = standing.json("doctor", code=1)
        jsonschema.validate(document, SCHEMA)
        assert document["seconds"] <= 2 * SICK
        causes = [f for f in document["findings"] if f["level"] == "fail" and not f["cause"]]
        assert [c["id"] for c in causes] == ["postgres.reach"], document["findings"]
        followers = [f["id"] for f in document["findings"] if f["cause"] == "postgres.reach"]
        assert "engine.running" in followers
        lines = result.stdout.splitlines()
        assert result.code == 1 and lines[0].startswith("x FAILURE postgres.reach: ")
        assert "    follows: engine.running: " in result.stdout
        assert "follow from another" in lines[-1] or "follows from another" in lines[-1]
        assert len(lines) <= 24 and max(map(len, lines)) <= 200
        only = standing.json("doctor", "--only", "engine.running", code=1)
        assert {f["id"] for f in only["findings"]} == {"engine.running"}
        again = owlclaw_up.diagnose(standing.root, only=["environment.begun"])
        assert (again.exit_code, [f.level for f in again.findings]) == (0, ["ok"])
    finally:
        standing.json("up", "--smoke", "none")


def test_an_unknown_check_names_the_nearest(mock_cli: Cli) -> None:
    error = mock_cli.json("doctor", "--only", "postgres.timezon", code=2)["error"]
    assert "'postgres.timezone'" in error["hint"]


def test_fix_starts_what_is_stopped(standing: Cli) -> None:
    standing.json("down")
    refused = standing("doctor", "--fix", CI="")
    assert refused.code == 2 and "add --yes" in refused.stderr
    assert "  fix: start" in refused.stderr or "  fix: run" in refused.stderr
    assert standing("status").code == 1, "nothing was done"
    document = standing.json("doctor", "--fix", "--yes")
    jsonschema.validate(document, SCHEMA)
    assert "postgres.reach" in document["fixed"] and document["fixes"][0]["changes"]
    assert document["counts"]["fail"] == document["counts"]["warn"] == 0
    assert standing("status").code == 0
    nothing = standing.json("doctor", "--fix", "--yes")
    assert (nothing["fixes"], nothing["fixed"], nothing["steps"]) == ([], [], [])


def test_watching_redraws_until_it_is_interrupted(standing: Cli) -> None:
    process = standing.start("doctor", "--watch")
    assert process.stdout is not None
    seen: list[str] = []
    deadline = time.monotonic() + 30
    while sum("looking again" in line for line in seen) < 2:
        assert time.monotonic() < deadline
        seen.append(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130
    assert standing.json("doctor", "--watch", code=2)["error"]["code"] == "usage"


def test_github_actions_gets_annotations_and_a_summary(standing: Cli, tmp_path: Path) -> None:
    standing.json("down")
    summary = tmp_path / "summary.md"
    try:
        result = standing("doctor", GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary))
        assert "::error title=owlclaw-up postgres.reach::" in result.stderr
        assert "::error title=owlclaw-up engine.running::" not in result.stderr, "a consequence"
        text = summary.read_text()
        assert text.startswith("### owlclaw-up doctor: ") and "| FAILURE | `postgres.reach` | " in text
        as_json = standing("doctor", "--json", GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary))
        assert json.loads(as_json.stdout)["command"] == "doctor"
    finally:
        standing.json("up", "--smoke", "none")
    assert "::error" not in standing("doctor").stderr, "only there"


def test_an_up_that_fails_ends_with_what_explains_it(standing: Cli) -> None:
    """The engine lets nobody in: the proof says where it broke, the doctor says why."""
    fault(standing, "lite.reject-tokens")
    try:
        document = standing.json("up", "--smoke", "quick", code=None)
        assert document["exit_code"] in (1, 4)
        assert [f for f in document["findings"] if f["id"].startswith("token.") and f["level"] == "fail"]
    finally:
        fault(standing, "")
        standing.json("up", "--smoke", "none")


def test_no_secret_is_told(standing: Cli) -> None:
    standing("doctor", "--verbose")
    standing.json("doctor")
    standing.assert_no_leak()
