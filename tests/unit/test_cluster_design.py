"""A small cluster: how many engines there are, their ports, and how they share the server's connections."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up import logs
from owlclaw_up.cluster_design import share_out
from owlclaw_up.design import design
from owlclaw_up.errors import BadSetting, UpError
from owlclaw_up.facts import DotenvLook, EngineLook, Facts, PortChoice, StackLook
from owlclaw_up.facts.machine import DEFAULT_PORTS, look_at_fellow_ports
from owlclaw_up.facts.stack import known_engines, wanted_engines
from owlclaw_up.host.base import Deadline, EngineTrace, ProcessId, ServerLogin
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Action, Change, Decision, Found, Mode
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings, load
from owlclaw_up.spec import EMBEDDED_MAX_CONNECTIONS, EngineSpec, Fellow, NativeEngine, Ports, StackSpec
from owlclaw_up.steps import build, removals
from owlclaw_up.steps.base import Run
from owlclaw_up.steps.engine import StartEngine
from owlclaw_up.steps.engine_env import IDENTITY, engine_env
from owlclaw_up.steps.engine_stop import StopEngine
from owlclaw_up.steps.ghost import clear_ghost
from owlclaw_up.steps.project import PrepareProject
from owlclaw_up.steps.smoke import Prove
from tests.unit.fakes import (
    FakeProcesses,
    free_port,
    make_engine,
    make_engine_spec,
    make_facts,
    make_host,
    make_ledger,
    make_server,
    make_spec,
)

OTHER_PORTS = {"grpc": 22000, "dashboard": 22001, "api": 22002, "frontend": 22003, "health": 22004}
FELLOW = Fellow(2, Ports(**OTHER_PORTS, postgres=5432), 10)
NATIVE = Decision(Mode.NATIVE, "auto", "it is at hand", (), durable=True)


def settings(project: Path, **flags: Any) -> Settings:
    return load(project, {}, flags)


def machine(project: Path, **values: Any) -> Facts:
    usual = {
        "engines": Found((make_engine(),)),
        "ports": Found({p: PortChoice(free_port(n), n) for p, n in DEFAULT_PORTS.items()}),
        "dotenv": Found(DotenvLook(project / ".env", "missing")),
        "fellow_ports": Found({2: OTHER_PORTS}),
    }
    return make_facts(project, **{**usual, **values})


def two(project: Path) -> StackSpec:
    return dataclasses.replace(make_spec(project), engine=make_engine_spec(fellows=(FELLOW,)))


@pytest.mark.parametrize(
    ("connections", "engines", "running", "shares"),
    [
        (200, 1, {}, [50]),
        (100, 1, {}, [16]),
        (30, 1, {}, [5]),
        # The embedded server has room for eight, so that none ever has to give anything up.
        (EMBEDDED_MAX_CONNECTIONS, 2, {}, [50, 10]),
        (EMBEDDED_MAX_CONNECTIONS, 8, {1: 50}, [50, *[10] * 7]),
        # A server of the user's that has room for two only if they share.
        (200, 2, {1: 50}, [20, 10]),
        (110, 2, {}, [5, 5]),
        # What runs keeps its own, as long as the others get something.
        (200, 3, {1: 20, 2: 20}, [20, 5, 5]),
        (200, 1, {1: 20}, [20]),
        (400, 2, {1: 20, 2: 10}, [20, 10]),
    ],
)
def test_connections_are_shared_out(
    connections: int, engines: int, running: Mapping[int, int], shares: list[int]
) -> None:
    assert share_out(connections, engines, running) == shares
    assert engines == 1 or sum(3 * (share + 10) for share in shares) <= connections - 20


def test_too_few_connections_are_refused_with_the_numbers() -> None:
    with pytest.raises(UpError) as refused:
        share_out(100, 2, {})
    assert (refused.value.code, refused.value.exit_code) == ("postgres-connections", 3)
    assert "2 engines want 110 connections at least (45 each, 20" in refused.value.message
    assert "allows 100" in refused.value.message
    assert "max_connections" in refused.value.hint and "--engines 1" in refused.value.hint


@pytest.mark.parametrize("value", ["0", "9", "-1", "two", True, 2.5, ""])
def test_between_one_and_eight_engines(value: Any, tmp_path: Path) -> None:
    if value in ("", 2.5):
        assert load(tmp_path, {"OWLCLAW_UP_ENGINES": str(value)[:0]}, {}).engines.value == 1
        return
    with pytest.raises(BadSetting):
        settings(tmp_path, engines=value)


def test_the_design_has_them(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    spec = design(machine(tmp_path), NATIVE, None, StackLook().on_server, settings(tmp_path, engines="2"), ledger)
    assert isinstance(spec.engine, NativeEngine)
    assert spec.engine.max_conns == 50
    assert spec.engine.fellows == (FELLOW,)
    assert spec.grpc_address == "localhost:17077", "the first one's address is everybody's"


def test_the_last_number_counts_until_another_is_asked_for(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    assert wanted_engines(settings(tmp_path), ledger) == 1
    ledger.state.data["engines"] = {"count": 3}
    assert wanted_engines(settings(tmp_path), ledger) == 3
    assert wanted_engines(settings(tmp_path, engines="1"), ledger) == 1


def test_another_mode_has_one_engine(tmp_path: Path) -> None:
    mock = Decision(Mode.MOCK, "auto", "nothing else", (), durable=False)
    with pytest.raises(UpError) as refused:
        design(
            machine(tmp_path), mock, None, StackLook().on_server, settings(tmp_path, engines="2"), make_ledger(tmp_path)
        )
    assert refused.value.code == "engines-native"
    assert refused.value.hint == "owlclaw-up --mode native --engines 2"
    kept = make_ledger(tmp_path)
    kept.state.data["engines"] = {"count": 2}
    # Kept from an earlier `up`, it stands in nobody's way.
    assert design(machine(tmp_path), mock, None, StackLook().on_server, settings(tmp_path), kept).engine is None


def test_a_user_s_server_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    server = make_server(max_connections=100)
    with pytest.raises(UpError) as refused:
        design(
            machine(tmp_path),
            NATIVE,
            server,
            StackLook().on_server,
            settings(tmp_path, engines="2"),
            make_ledger(tmp_path),
        )
    assert refused.value.code == "postgres-connections"


def test_no_free_port(tmp_path: Path) -> None:
    facts = machine(tmp_path, fellow_ports=Found({2: {**OTHER_PORTS, "api": 0}}))
    with pytest.raises(UpError) as refused:
        design(facts, NATIVE, None, StackLook().on_server, settings(tmp_path, engines="2"), make_ledger(tmp_path))
    assert refused.value.code == "no-free-port"


def test_ports_are_chosen_once(tmp_path: Path) -> None:
    ledger, wanted = make_ledger(tmp_path), settings(tmp_path, engines="3")
    first = look_at_fellow_ports(make_host(), wanted, ledger)
    every = [port for ports in first.values() for port in ports.values()]
    assert sorted(first) == [2, 3] and len(set(every)) == 10
    assert all(21500 <= port < 32768 for port in every)
    # Kept ones stay where they are, wherever that is; what is asked for elsewhere is nobody else's.
    ledger.state.data["engine.2"] = {"ports": dict(first[2])}
    taken = first[3]["grpc"]
    again = look_at_fellow_ports(make_host(), settings(tmp_path, engines="3", grpc_port=str(taken)), ledger)
    assert again[2] == first[2] and taken not in again[3].values()
    assert look_at_fellow_ports(make_host(), settings(tmp_path), ledger) == {}


def test_a_fellow_has_the_same_identity_and_listens_elsewhere(tmp_path: Path) -> None:
    spec = two(tmp_path)
    assert isinstance(spec.engine, EngineSpec)
    identity = dict.fromkeys(IDENTITY, "key")
    first, second = (engine_env(spec, spec.engine, identity, {}, tmp_path, fellow) for fellow in (None, FELLOW))
    differing = {name: value for name, value in second.items() if first[name] != value}
    assert differing == {
        "DATABASE_MAX_CONNS": "10",
        "SERVER_PORT": "22002",
        "SERVER_GRPC_PORT": "22000",
        "SERVER_INTERNAL_CLIENT_INTERNAL_GRPC_BROADCAST_ADDRESS": "127.0.0.1:22000",
        "SERVER_HEALTHCHECK_PORT": "22004",
        "LITE_RUNTIME_PORT": "22001",
        "LITE_FRONTEND_PORT": "22003",
    }


class TestSteps:
    @pytest.fixture
    def ledger(self, tmp_path: Path) -> Ledger:
        made = make_ledger(tmp_path)
        made.prepare()
        return made

    def check(self, spec: StackSpec, ledger: Ledger, **stack: Any) -> Change:
        facts = make_facts(spec.project, stack=StackLook(**stack))
        return StartEngine(spec, ledger, FELLOW).check(facts)

    def test_each_engine_has_a_step(self, tmp_path: Path, ledger: Ledger) -> None:
        ids = [step.id for step in build(two(tmp_path), ledger)]
        assert ids.count("engine.migrate") == ids.count("engine.seed") == 1
        assert ids[ids.index("engine.server") :][:3] == ["engine.server", "engine.server.2", "token"]

    def test_what_is_not_wanted_any_more_is_stopped(self, tmp_path: Path, ledger: Ledger) -> None:
        for number in (2, 3):
            ledger.remember(f"engine.{number}", pid=70 + number, started=1.0, ports=OTHER_PORTS)
        assert known_engines(ledger) == [1, 2, 3]
        stopped = [step.id for step in build(two(tmp_path), ledger) if type(step).__name__ == "StopEngine"]
        assert stopped == ["engine.server.3"]
        stopped = [step.id for step in removals(ledger, purge=False) if type(step).__name__ == "StopEngine"]
        assert stopped == ["engine.server.3", "engine.server.2", "engine.server"]

    def test_start(self, tmp_path: Path, ledger: Ledger) -> None:
        spec = two(tmp_path)
        change = self.check(spec, ledger)
        assert change.action is Action.CREATE
        assert change.summary == "start v0.107.2, dashboard on 22001, gRPC on 22000"
        up = EngineLook(ProcessId(78, 1.0), True, "ready")
        ledger.remember("engine.2", fingerprint=StartEngine(spec, ledger, FELLOW)._fingerprint(), max_conns=10)
        assert self.check(spec, ledger, fellows={2: up}).action is Action.UNCHANGED
        # The first one's state says nothing of this one.
        assert self.check(spec, ledger, engine_process=ProcessId(77, 1.0), engine_ready=True).action is Action.CREATE
        ledger.remember("engine.2", fingerprint="another", max_conns=50)
        change = self.check(spec, ledger, fellows={2: up})
        assert change.action is Action.UPDATE
        assert "from 50 to 10 connections" in change.reason

    def test_one_that_is_stopped_leaves_the_proof_more_time(self, tmp_path: Path, ledger: Ledger) -> None:
        """The others take its share of the work over within a minute."""
        ledger.remember("engine.2", pid=78, started=1.0)
        host = make_host()
        assert isinstance(host.processes, FakeProcesses)
        host.processes.living.add(78)
        run = Run(host, Deadline(1, ledger.clock), lambda text: None)
        assert StopEngine(ledger, 2).apply(run).action is Action.REMOVE
        assert ledger.recall("engine")["patience"] is True
        assert ledger.process("engine.2") is None and not host.processes.living

    def test_ports_and_number_are_kept(self, tmp_path: Path, ledger: Ledger) -> None:
        ledger.state.ports = dataclasses.asdict(two(tmp_path).ports)
        facts = make_facts(tmp_path)
        ledger.remember("postgres", kind="embedded")
        for role in ("hatchet", "owlclaw"):
            ledger.vault.passwords[role] = f"{role}-password"
        step = PrepareProject(two(tmp_path), ledger)
        assert step.check(facts).summary == ".owlclaw-up/: 2 engines, ports of engine 2"
        step.apply(Run(make_host(), Deadline(1, ledger.clock), lambda text: None))
        assert ledger.recall("engine.2")["ports"] == OTHER_PORTS
        assert step.check(facts).action is Action.UNCHANGED
        assert PrepareProject(make_spec(tmp_path), ledger).check(facts).summary == ".owlclaw-up/: one engine"

    def test_the_proof_rests_on_every_engine(self, tmp_path: Path, ledger: Ledger) -> None:
        before = Prove(two(tmp_path), ledger)._fingerprint("")
        ledger.remember("engine.2", pid=79, started=2.0)
        assert Prove(two(tmp_path), ledger)._fingerprint("") != before
        assert Prove(make_spec(tmp_path), ledger)._fingerprint("") not in (before, "")


class TestGhost:
    """A living engine's rows are never deleted."""

    class Rows:
        cleared = False

        def engine_trace(self, login: ServerLogin) -> EngineTrace:
            return EngineTrace(3, 0)

        def clear_engine_trace(self, login: ServerLogin) -> int:
            self.cleared = True
            return 3

    @pytest.mark.parametrize(("company", "deleted"), [(False, 3), (True, 0)])
    def test_company(self, company: bool, deleted: int, tmp_path: Path) -> None:
        ledger, rows, host = make_ledger(tmp_path), self.Rows(), make_host()
        ledger.prepare()
        run = Run(_with(host, rows), Deadline(1, ledger.clock), lambda text: None)
        assert clear_ghost(run, two(tmp_path), ledger, known=True, company=company) == deleted
        assert rows.cleared is not company
        # The rows of the dead one run out by themselves; the proof is given the time.
        assert ledger.recall("engine")["patience"] is company
        assert not run.findings


def _with(host: Host, rows: Any) -> Host:
    made = Host(host.environ, host.files, FakeProcesses(), host.clock)
    object.__setattr__(made, "postgres", rows)
    return made


def test_logs_name_each_engine(tmp_path: Path) -> None:
    for name in ("hatchet.log", "hatchet-3.log", "hatchet-2.log", "migrate.log", "up.log"):
        (tmp_path / name).write_text("x\n")
    assert [label for label, _ in logs.paths(tmp_path, "hatchet")] == ["hatchet", "hatchet", "hatchet-2", "hatchet-3"]
    assert [label for label, _ in logs.paths(tmp_path, None)] == ["hatchet", "hatchet", "hatchet-2", "hatchet-3", "up"]
