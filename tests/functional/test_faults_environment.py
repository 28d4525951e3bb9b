"""Faults of the environment as a whole, made to happen: each is named, with its evidence and its command."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.faults import Patient
from tests.standin import install


@pytest.fixture
def patient(mock_cli: Cli) -> Patient:
    return Patient(mock_cli)


@pytest.fixture(scope="module")
def standing(new_module_cli: Callable[..., Cli], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patient]:
    """An environment that is up, with an engine whose faults can be switched."""
    cli = new_module_cli(install(tmp_path_factory.mktemp("engine")))
    cli.json("up", "--smoke", "none")
    yield Patient(cli)


def test_before_the_first_up(patient: Patient) -> None:
    """Nothing is wrong with a folder in which nothing was done yet; what an `up` would come to is said."""
    begun = patient.finding("environment.begun")
    assert (begun.level, begun.title, begun.command) == ("info", "nothing was set up here yet", "owlclaw-up")
    mode = patient.finding("environment.mode")
    assert (mode.level, mode.command) == ("warn", "")
    assert "only mock can be had here" in mode.title
    assert "native: " in mode.detail and "owlclaw-up" in mode.hint
    assert not (patient.cli.root / ".owlclaw-up").exists(), "a look leaves nothing"


def test_a_setting_that_nobody_knows(patient: Patient) -> None:
    (patient.cli.root / "owlclaw-up.toml").write_text("dashbord_port = 9000\n")
    found = patient.first()
    assert (found.id, found.level, found.command) == ("environment.settings", "fail", "")
    assert "'dashbord_port'" in found.title and "dashboard_port" in found.hint
    assert patient.cli("doctor").code == 1
    assert patient.first(env={"OWLCLAW_UP_TIMEOUT": "soon"}).id == "environment.settings"
    (patient.cli.root / "owlclaw-up.toml").unlink()
    assert patient.look().exit_code == 0


def test_a_mode_that_cannot_be_had(patient: Patient) -> None:
    patient.cli.env |= {"OWLCLAW_UP_ENGINE_DIR": "", "OWLCLAW_UP_OFFLINE": "true"}
    found = patient.first(mode="native")
    assert (found.id, found.level) == ("environment.mode", "fail")
    assert "mode native cannot be used here: no engine binaries at hand" in found.title
    assert patient.cli.json("up", "--mode", "native", code=3)["error"]["message"] == found.title
    found = patient.first(require="durable")
    assert (found.id, found.level) == ("environment.mode", "fail")
    assert "a durable mode is required" in found.title and "native: " in found.detail


def test_state_that_was_cut_off(standing: Patient) -> None:
    state = standing.cli.root / ".owlclaw-up/state.json"
    whole = state.read_bytes()
    state.write_bytes(whole[: len(whole) // 2])
    try:
        found = standing.first()
        assert (found.id, found.level) == ("environment.state", "fail")
        assert str(state) in found.title and "is damaged" in found.title
        assert f"mv {state.parent} {state.parent}.damaged" in found.hint
        screen = standing.cli("doctor")
        assert screen.code == 1
        assert screen.stdout.splitlines()[0].startswith("x FAILURE environment.state: ")
        assert screen.stdout.splitlines()[-1].endswith(": 1 failure")
    finally:
        state.write_bytes(whole)
    assert standing.well()


def test_an_up_that_was_killed(new_cli: Callable[..., Cli]) -> None:
    cli = new_cli()
    patient = Patient(cli)
    process = cli.start("up", "--smoke", "none")
    deadline = time.monotonic() + 30
    while not (cli.root / ".owlclaw-up/state.json").exists() or not cli.state["receipts"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    at_work = {finding.id: finding.level for finding in patient.look().findings}
    assert "environment.begun" not in at_work and at_work["environment.up"] == "info"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    found = patient.finding("environment.begun")
    assert (found.level, found.title, found.command) == ("warn", "an up has begun here and not ended", "owlclaw-up")
    assert "on record: " in found.detail
    patient.mend("environment.begun")
    assert cli.state["mode"] == "mock"
    assert patient.finding("environment.begun").level == "ok"


def test_a_setting_that_changed(standing: Patient) -> None:
    """It is no fault, and `--fix` has it done."""
    assert standing.finding("environment.drift").level == "ok"
    (standing.cli.root / "owlclaw-up.toml").write_text('hatchet_server_url = "grpc"\n')
    try:
        found = standing.finding("environment.drift")
        assert (found.level, found.command) == ("info", "owlclaw-up")
        assert (
            "the next up would change 1 thing" in found.title and "env_file: .env: HATCHET_SERVER_URL" in found.detail
        )
        standing.mend("environment.drift")
        assert standing.finding("environment.drift").level == "ok"
        assert standing.cli.dotenv()["HATCHET_SERVER_URL"].endswith(standing.cli.env["OWLCLAW_UP_GRPC_PORT"])
    finally:
        (standing.cli.root / "owlclaw-up.toml").unlink()
        standing.cli.json("up", "--smoke", "none")


def test_a_proof_that_failed(standing: Patient) -> None:
    fault = Path(standing.cli.env["OWLCLAW_UP_ENGINE_DIR"]) / "fault"
    fault.write_text("lite.reject-tokens")
    assert standing.cli("smoke").code == 1
    fault.unlink()
    found = standing.finding("environment.proof")
    assert (found.level, found.title, found.command) == ("warn", "the last smoke test failed", "owlclaw-up smoke")
    assert "broke at token" in found.detail
    assert standing.cli("smoke").code == 0
    assert standing.finding("environment.proof").level == "ok"


def test_another_one_at_work(standing: Patient) -> None:
    found = standing.finding("environment.up")
    assert (found.level, found.title) == ("ok", "an up could begin")
    fault = Path(standing.cli.env["OWLCLAW_UP_ENGINE_DIR"]) / "fault"
    fault.write_text("lite.no-dispatch")
    other = standing.cli.start("smoke")
    try:
        deadline = time.monotonic() + 30
        while not (standing.cli.root / ".owlclaw-up/lock.holder").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        found = standing.finding("environment.up")
        assert (found.level, found.command) == ("info", "")
        assert f"another owlclaw-up works in this project: owlclaw-up smoke, pid {other.pid}" in found.title
        assert "an up would wait for it" in found.detail
    finally:
        other.send_signal(signal.SIGINT)
        other.communicate(timeout=30)
        fault.unlink()
