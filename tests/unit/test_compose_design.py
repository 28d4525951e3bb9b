"""Which compose stack a mode drives, what a stack lifted by hand brings along, and whose ports are whose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.compose_design import (
    COMPOSE_FILES,
    adoptable,
    compose_spec,
    learn_by_hand,
    login_by_hand,
    published_ports,
)
from owlclaw_up.facts import ByHand, DockerFacts, Facts
from owlclaw_up.facts.containers import DATABASE, ENGINE, compose_project
from owlclaw_up.host.docker_base import Compose, ContainerLook, DockerLook
from owlclaw_up.model import Found, Mode
from owlclaw_up.settings import Settings, load
from tests.unit.fakes import make_facts, make_ledger

LOOK = DockerLook(
    "unix:///var/run/docker.sock", "28.0.1", "the system's engine", Compose(("docker", "compose"), "2.26.1")
)
OURS = "owlclaw-app-0123abcd"


def make_container(service: str, **values: Any) -> ContainerLook:
    usual: dict[str, Any] = {
        "id": f"id-{service}", "name": f"x-{service}-1", "service": service, "state": "running", "exit_code": 0,
        "oom_killed": False, "restarts": 0, "started_at": "", "image": "image:1", "environment": {}, "labels": {},
        "ports": {8888: 9001, 7077: 9002} if service == ENGINE else {5432: 9003},
    }  # fmt: skip
    return ContainerLook(**{**usual, **values})


DATABASE_BY_HAND = make_container(
    DATABASE,
    environment={"POSTGRES_PASSWORD": "p", "LITE_HATCHET_PASSWORD": "h", "LITE_OWLCLAW_PASSWORD": "o"},
)
ENGINE_BY_HAND = make_container(ENGINE, environment={"ADMIN_PASSWORD": "Admin123!!"})


def by_hand(project: Path, *containers: ContainerLook, mode: Mode = Mode.FULL) -> ByHand:
    file = project / "deploy" / COMPOSE_FILES[mode]
    return ByHand("owlclaw-lite", file, mode, {c.service: c for c in containers})


def facts_of(project: Path, *containers: ContainerLook, lifted: ByHand | None = None) -> Facts:
    mine = {c.service: c for c in containers}
    return make_facts(project, docker=Found(DockerFacts(LOOK, project=OURS, containers=mine, by_hand=lifted)))


def settings(project: Path, **flags: Any) -> Settings:
    return load(project, {}, flags)


@pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.MOCK, Mode.REMOTE])
def test_a_mode_without_docker_has_none(tmp_path: Path, mode: Mode) -> None:
    assert compose_spec(facts_of(tmp_path), mode, settings(tmp_path), make_ledger(tmp_path)) is None


def test_no_docker_no_stack(tmp_path: Path) -> None:
    assert compose_spec(make_facts(tmp_path), Mode.FULL, settings(tmp_path), make_ledger(tmp_path)) is None


def test_a_stack_of_ours(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    full = compose_spec(facts_of(tmp_path), Mode.FULL, settings(tmp_path, postgres_image="pg:1"), ledger)
    assert full is not None
    assert (full.project, full.adopted) == (OURS, False)
    assert full.file == tmp_path / ".owlclaw-up/deploy/docker-compose.lite.yml"
    assert full.images["postgres"] == "pg:1" and set(full.images) == {"hatchet", "postgres"}
    only = compose_spec(facts_of(tmp_path), Mode.HATCHET_ONLY, settings(tmp_path), ledger)
    assert only is not None
    assert only.file.name == "docker-compose.lite.hatchet-only.yml" and set(only.images) == {"hatchet"}


def test_a_stack_lifted_by_hand_is_adopted_by_its_own_mode(tmp_path: Path) -> None:
    ledger, lifted = make_ledger(tmp_path), by_hand(tmp_path, DATABASE_BY_HAND, ENGINE_BY_HAND)
    facts = facts_of(tmp_path, lifted=lifted)
    spec = compose_spec(facts, Mode.FULL, settings(tmp_path), ledger)
    assert spec is not None
    assert (spec.project, spec.file, spec.adopted) == ("owlclaw-lite", lifted.file, True)
    assert adoptable(facts, Mode.HATCHET_ONLY) is None
    other = compose_spec(facts, Mode.HATCHET_ONLY, settings(tmp_path), ledger)
    assert other is not None
    assert not other.adopted and other.project == OURS


def test_an_adopted_stack_stays_adopted_in_its_mode(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    ledger.keep("compose", project="owlclaw-lite", file="deploy/x.yml", mode="full", adopted=True)
    spec = compose_spec(facts_of(tmp_path), Mode.FULL, settings(tmp_path), ledger)
    assert spec is not None
    assert (spec.project, spec.file, spec.adopted) == ("owlclaw-lite", tmp_path / "deploy/x.yml", True)
    other = compose_spec(facts_of(tmp_path), Mode.HATCHET_ONLY, settings(tmp_path), ledger)
    assert other is not None
    assert not other.adopted


def test_its_passwords_are_taken(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    facts = facts_of(tmp_path, lifted=by_hand(tmp_path, DATABASE_BY_HAND, ENGINE_BY_HAND))
    ledger.password("hatchet")
    learn_by_hand(facts, ledger)
    assert ledger.vault.passwords == {"postgres": "p", "hatchet": "h", "owlclaw": "o", "dashboard": "Admin123!!"}
    login = login_by_hand(facts, Mode.FULL, ledger)
    assert login is not None and login.password is not None
    assert (login.host, login.port, login.user, login.password.reveal()) == ("127.0.0.1", 9003, "postgres", "p")
    assert login_by_hand(facts, Mode.NATIVE, ledger) is None
    assert login_by_hand(facts_of(tmp_path, DATABASE_BY_HAND), Mode.FULL, ledger) is None, "that one is ours"


def test_a_container_without_a_password_teaches_none(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    kept = ledger.password("hatchet").reveal()
    bare = make_container(DATABASE, environment={"LITE_HATCHET_PASSWORD": ""})
    learn_by_hand(facts_of(tmp_path, lifted=by_hand(tmp_path, bare, make_container(ENGINE))), ledger)
    assert ledger.vault.passwords == {"hatchet": kept}


@pytest.mark.parametrize("state", ["running", "paused", "restarting"])
def test_ports_that_a_container_holds(tmp_path: Path, state: str) -> None:
    """One that is paused, or between an end and its next start, holds on to them."""
    facts = facts_of(tmp_path, make_container(ENGINE, state=state), make_container(DATABASE, state=state))
    assert published_ports(facts) == {"dashboard": 9001, "grpc": 9002, "postgres": 9003}


def test_ports_of_a_stopped_container(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, make_container(ENGINE, state="exited"), make_container(DATABASE, state="created"))
    assert published_ports(facts) == {}
    assert published_ports(facts, stopped=True) == {"dashboard": 9001, "grpc": 9002, "postgres": 9003}


def test_ports_of_a_container_on_this_machine_s_network(tmp_path: Path) -> None:
    """It publishes none: they stand in its environment."""
    environment = {
        "LITE_RUNTIME_PORT": "8888", "SERVER_GRPC_PORT": "17077", "SERVER_PORT": "18080", "LITE_FRONTEND_PORT": "18081",
        "SERVER_HEALTHCHECK_PORT": "18733", "ADMIN_PASSWORD": "x",
    }  # fmt: skip
    engine = make_container(ENGINE, ports={}, network_mode="host", environment=environment)
    wanted = {"dashboard": 8888, "grpc": 17077, "api": 18080, "frontend": 18081, "health": 18733}
    assert published_ports(facts_of(tmp_path, engine)) == wanted


def test_checkouts_never_share_a_project() -> None:
    names = [compose_project(Path(p)) for p in ("/a/app", "/b/app", "/a/My App!", "/a/" + "x" * 80, "/a/代码")]
    assert len(set(names)) == len(names)
    for name in names:
        # What compose accepts for a project.
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and name.startswith("owlclaw-")
        assert len(name) <= 50 and not name.endswith("-") and "--" not in name
