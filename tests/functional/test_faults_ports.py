"""Faults of ports, each made to happen by a real listener: what the doctor says, what it would do, and that this mends it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from owlclaw_up.environment import up
from owlclaw_up.facts.machine import port_range
from tests.conftest import Cli
from tests.faults import Patient
from tests.functional.ordinary import ordinary_project
from tests.functional.test_ports import DEFAULTS, PUBLIC, bound, owner_of, taken
from tests.ports import free_port

FAMILY = ("port.dashboard", "port.grpc", "port.postgres", "port.inner", "port.range")


@pytest.fixture(scope="module")
def stopped(new_module_cli: Callable[..., Cli], standin_dir: Path) -> Cli:
    """An environment that is down, and whose ports are kept, not asked for."""
    cli = new_module_cli(standin_dir)
    cli.json("up", "--smoke", "none")
    assert Patient(cli).well(*FAMILY), "its own servers have them"
    cli.env = {k: v for k, v in cli.env.items() if not k.endswith("_PORT")}
    cli.json("down")
    return cli


@pytest.fixture
def patient(stopped: Cli) -> Iterator[Patient]:
    yield Patient(stopped)
    stopped.json("down")


def test_a_free_port_is_silent(patient: Patient) -> None:
    assert patient.well(*FAMILY)


@pytest.mark.parametrize("purpose", PUBLIC)
def test_a_kept_port_that_somebody_took(patient: Patient, purpose: str) -> None:
    port = patient.cli.state["ports"][purpose]
    with taken(port) as other:
        finding = patient.first()
        assert (finding.id, finding.level) == (f"port.{purpose}", "fail")
        error = up(patient.project(), dry_run=True).error
        assert (finding.title, finding.hint) == (error.message, error.hint)
        assert f"is taken by {owner_of(port)}" in finding.title and str(other.pid) in finding.title
        assert finding.fix.startswith("move ") and finding.fix.endswith(
            "follow" if purpose != "postgres" else "follows"
        )
    assert patient.well(*FAMILY)


def test_all_of_them_move_and_what_names_them_follows(patient: Patient) -> None:
    before = patient.cli.state["ports"]
    with taken(*(before[purpose] for purpose in PUBLIC)):
        patient.mend(*FAMILY, smoke="none")
        assert patient.well(*FAMILY)
        now = patient.cli.state["ports"]
        assert all(before[purpose] < now[purpose] < before[purpose] + 50 for purpose in PUBLIC)
        assert patient.cli.dotenv()["HATCHET_SERVER_URL"] == f"http://localhost:{now['dashboard']}"
        assert patient.cli.dotenv()["OWLCLAW_PG_PORT"] == str(now["postgres"])
        assert patient.cli.json("status")["token"]["accepted"] is True


def test_none_moves_to_a_port_that_another_one_has(patient: Patient) -> None:
    """Nobody listens on gRPC's port while the environment is down; it is written into the token all the same."""
    path = patient.cli.root / ".owlclaw-up/state.json"
    kept = path.read_bytes()
    state = json.loads(kept)
    first = next(p for p in range(20000, 30000, 7) if not any(bound(p + n) for n in range(3)))
    state["ports"] |= {"dashboard": first, "grpc": first + 1}
    path.write_text(json.dumps(state))
    try:
        with taken(first):
            finding = patient.finding("port.dashboard", *FAMILY)
            assert finding.fix.startswith(f"move the dashboard from port {first} to ")
            assert f" to {first + 1};" not in finding.fix
            assert patient.last is not None
            assert [f.level for f in patient.last.findings if f.id == "port.grpc"] == ["ok"]
    finally:
        path.write_bytes(kept)


def test_a_port_that_the_user_named_is_not_moved(patient: Patient) -> None:
    port = free_port()
    with taken(port):
        finding = patient.finding("port.grpc", *FAMILY, env={"OWLCLAW_UP_GRPC_PORT": str(port)})
        assert (finding.level, finding.fix) == ("fail", "")
        assert "--grpc-port PORT" in finding.hint


def test_one_that_the_system_denies() -> None:
    low = next(port for port in range(1, 1024) if not bound(port))
    with ordinary_project() as cli:
        document = cli.json(
            "doctor", "--only", "port.postgres", "--only", "port.range", code=1, OWLCLAW_UP_POSTGRES_PORT=str(low)
        )
        finding = document["findings"][0]
        assert (finding["id"], finding["level"]) == ("port.postgres", "fail")
        assert f"port {low}" in finding["title"] and "Permission denied" in finding["title"]
        assert "--postgres-port" in finding["hint"] and not finding["fix"]


@pytest.mark.usefixtures("default_ports")
def test_a_default_that_is_taken_before_the_first_up(new_cli: Callable[..., Cli], standin_dir: Path) -> None:
    cli = new_cli(standin_dir)
    cli.env = {k: v for k, v in cli.env.items() if not k.endswith("_PORT")}
    with taken(DEFAULTS["dashboard"]):
        patient = Patient(cli)
        finding = patient.finding("port.dashboard", *FAMILY)
        will = up(patient.project(), dry_run=True).endpoints["dashboard"].rpartition(":")[2]
    assert (finding.level, finding.detail) == ("info", f"the next free one is {will}")
    assert finding.title.startswith(f"port {DEFAULTS['dashboard']} is taken by ")
    assert "--dashboard-port PORT" in finding.hint
    assert not patient.bad()


def test_an_inner_port_moves_without_a_word_and_none_that_is_left_is_a_fault(patient: Patient) -> None:
    with taken(patient.cli.state["ports"]["api"]) as other:
        finding = patient.finding("port.inner", *FAMILY)
        assert finding.level == "info" and f"(pid {other.pid})" in finding.title
        assert not patient.bad()
    # The last ports that there are, so that few have to be taken.
    path = patient.cli.root / ".owlclaw-up/state.json"
    kept = path.read_bytes()
    state = json.loads(kept)
    state["ports"]["api"] = 65533
    path.write_text(json.dumps(state))
    try:
        with taken(*port_range(65533)):
            finding = patient.first()
            assert (finding.id, finding.level) == ("port.range", "fail")
            assert finding.title == "no free port for the engine's API between 65533 and 65535"
            assert finding.hint == "ss -ltnp"
    finally:
        path.write_bytes(kept)
    assert patient.well(*FAMILY)
