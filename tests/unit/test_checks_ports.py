"""Judgements about ports that no listener of a test can bring about: other modes, containers, a Docker that went away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from owlclaw_up.checks.base import Diagnosis, Evidence, examine
from owlclaw_up.checks.ports import CHECKS
from owlclaw_up.facts import DockerFacts, PortChoice
from owlclaw_up.facts.leftovers import LeftoversLook
from owlclaw_up.host.base import PortLook, PortOwner, ProcessId
from owlclaw_up.host.docker_base import Compose, DockerLook
from owlclaw_up.host.running import RunningProgram
from owlclaw_up.model import Absent, Decision, Found, Mode
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import load
from tests.unit.fakes import NOW, PORTS, make_facts, make_ledger

DOCKER = DockerLook("unix:///var/run/docker.sock", "27.0", "the socket", Compose(("docker", "compose"), "2.30"))
TAKER = PortOwner(7, "nginx", "nginx -g daemon off")


def kept(root: Path) -> Ledger:
    ledger = make_ledger(root)
    ledger.state.ports = dict(vars(PORTS))
    ledger.state.mode = "native"
    ledger.vault.token = "t"
    return ledger


def choices(free: int | None = 9000, owner: PortOwner = TAKER, **taken: str) -> Found[dict[str, PortChoice]]:
    """Every port is free, but for those that are named with their state."""
    return Found(
        {
            purpose: PortChoice(
                PortLook(port, taken.get(purpose, "free"), owner if purpose in taken else None, "Permission denied"),
                free if purpose in taken else port,
            )
            for purpose, port in vars(PORTS).items()
        }
    )


def look(root: Path, ledger: Ledger, mode: Mode = Mode.NATIVE, **facts: Any) -> Diagnosis:
    machine = make_facts(root, **{"leftovers": Found(LeftoversLook()), **facts})
    decision = Decision(mode, "auto", "", (), True)
    return examine(CHECKS, Evidence(machine, load(root, {}, {}), ledger, mode, True, decision, None, (), None, NOW))


def bad(diagnosis: Diagnosis) -> dict[str, str]:
    return {f.id: f.level for f in diagnosis.findings if f.level != "ok"}


def test_a_kept_port_that_is_denied_moves(tmp_path: Path) -> None:
    found = look(tmp_path, kept(tmp_path), ports=choices(grpc="denied"))
    assert bad(found) == {"port.grpc": "fail"}
    ((name, fix),) = found.fixes
    assert (name, dict(fix.settings), fix.up) == ("port.grpc", {"grpc_port": 9000}, True)
    assert fix.summary == "move gRPC from port 17077 to 9000; the token and .env follow"


def test_where_no_port_is_free_there_is_nothing_to_move_to(tmp_path: Path) -> None:
    assert look(tmp_path, kept(tmp_path), ports=choices(None, dashboard="busy")).fixes == ()
    # A first up looks for one, and finds none.
    assert bad(look(tmp_path, make_ledger(tmp_path), ports=choices(None, dashboard="busy"))) == {"port.range": "fail"}


def test_a_port_that_a_leftover_has_comes_free_with_it(tmp_path: Path) -> None:
    left = LeftoversLook("", (RunningProgram(ProcessId(7, 1.0), "postgres", tmp_path, ""),))
    found = look(tmp_path, kept(tmp_path), ports=choices(postgres="busy"), leftovers=Found(left))
    assert (bad(found), found.fixes) == ({"port.postgres": "fail"}, ())


def test_a_container_is_named_and_not_the_proxy_before_it(tmp_path: Path) -> None:
    docker = Found(DockerFacts(DOCKER, published={PORTS.dashboard: "grafana"}))
    found = look(tmp_path, kept(tmp_path), ports=choices(dashboard="busy"), docker=docker)
    assert "is taken by container grafana" in found.findings[0].title


def test_without_docker_nobody_knows_which_ports_our_containers_have(tmp_path: Path) -> None:
    busy = choices(dashboard="busy", grpc="busy", postgres="busy")
    found = look(tmp_path, kept(tmp_path), Mode.FULL, ports=busy, docker=Absent("not running"))
    assert found.findings == ()


def test_what_a_mode_does_not_use_may_be_anybodys(tmp_path: Path) -> None:
    busy = choices(dashboard="busy", grpc="busy", api="busy")
    assert bad(look(tmp_path, kept(tmp_path), Mode.MOCK, ports=busy)) == {}
    # In full the inner ports are the container's own.
    inner = choices(api="busy", health="busy")
    assert bad(look(tmp_path, kept(tmp_path), Mode.FULL, ports=inner, docker=Found(DockerFacts(DOCKER)))) == {}
    assert bad(look(tmp_path, kept(tmp_path), Mode.NATIVE, ports=inner)) == {"port.inner": "info"}
