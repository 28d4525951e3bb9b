"""What is said of the engine, by facts alone: states that nobody can make happen in a test, and how causes are chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.checks import BY_ID
from owlclaw_up.checks.base import Evidence, Seen
from owlclaw_up.facts import DockerFacts
from owlclaw_up.facts.engine_health import EngineHealth, HttpLook
from owlclaw_up.facts.message_queue import look_at_message_queue
from owlclaw_up.host.base import ProcessId
from owlclaw_up.host.docker_base import Compose, ContainerLook, DockerLook
from owlclaw_up.host.engines import EngineRefused
from owlclaw_up.model import Absent, Found, Mode
from owlclaw_up.settings import load
from tests.unit.fakes import NOW, make_engine, make_facts, make_ledger

PORTS = {"dashboard": 8888, "grpc": 17077, "postgres": 5432, "api": 18080, "frontend": 18081, "health": 18733}
WELL = EngineHealth(
    container=False, process=ProcessId(4711, 1.0), recorded=4711, suspended=False, stopped_at="", ready=HttpLook(200),
    api=HttpLook(200), version="v0.107.2", open_to_all=False, grpc=True, everywhere=("dashboard",), documented_password=False,
    words=(),
)  # fmt: skip
GONE: dict[str, Any] = {"process": None, "ready": HttpLook(0), "api": HttpLook(0), "grpc": False, "version": ""}


def see(
    check: str, root: Path, mode: Mode = Mode.NATIVE, facts: dict[str, Any] | None = None, **health: Any
) -> list[Seen]:
    """What a check sees of an engine that is well, but for what is given."""
    ledger = make_ledger(root)
    ledger.state.mode, ledger.state.ports = mode.value, dict(PORTS)
    ledger.state.data["engine"] = {"version": "v0.107.2", "directory": "/opt/hatchet"}
    seen = make_facts(root, **{"engines": Found((make_engine(),)), **(facts or {})})
    seen = dataclasses.replace(seen, engine_health=Found(dataclasses.replace(WELL, **health)), tokens=Absent("none"))
    evidence = Evidence(seen, load(root, {}, {}), ledger, mode, True, None, None, (), None, NOW)
    return list(BY_ID[check].look(evidence))


@pytest.mark.parametrize(
    "check", ["running", "database", "health", "api", "grpc", "version", "authentication", "password"]
)
def test_a_good_one(tmp_path: Path, check: str) -> None:
    (seen,) = see(f"engine.{check}", tmp_path)
    assert seen.level == "ok"


LAST_WORDS: list[tuple[Sequence[str], str]] = [
    ((), "has ended"),
    # Every start says so, until its own API is up.
    (["http: proxy error: dial tcp 127.0.0.1:18080: connect: connection refused"], "has ended"),
    (["dial error: dial tcp 127.0.0.1:5432: connect: connection refused"], "has ended: PostgreSQL does not answer it"),
    (["fatal error: concurrent map writes", "goroutine 1 [running]:"], "has ended: fatal error: concurrent map writes"),
    # What ended the one before is no reason.
    (["no space left on device", "2026-01-01T00:00:00+00:00 owlclaw-up starts hatchet-lite", "ready"], "has ended"),
    (["\x1b[31mERR\x1b[0m no space left on device"], "has ended: the disk is full"),
]


@pytest.mark.parametrize(("words", "end"), LAST_WORDS)
def test_why_it_ended(tmp_path: Path, words: Sequence[str], end: str) -> None:
    (seen,) = see("engine.running", tmp_path, words=tuple(words), **GONE)
    assert seen.title == f"the engine is not running: process 4711 {end}"
    assert seen.level == "fail"
    assert seen.fix is not None
    assert "\x1b" not in seen.detail


def test_nobody_on_the_grpc_port_of_one_that_runs(tmp_path: Path) -> None:
    """No engine of the tests loses its gRPC port alone: it is opened once, at the start, or the start fails."""
    (seen,) = see("engine.grpc", tmp_path, grpc=False)
    assert (seen.level, seen.title) == ("fail", "nobody listens on port 17077, the engine's gRPC")


def test_grpc_for_everybody(tmp_path: Path) -> None:
    """Nothing of ours has it listen there: it is told 127.0.0.1."""
    (seen,) = see("engine.exposed", tmp_path, everywhere=("dashboard", "grpc"))
    assert seen.level == "warn"
    assert "ports 8888, 17077" in seen.title
    assert seen.title.endswith("and gRPC is plain text")
    (seen,) = see("engine.exposed", tmp_path, everywhere=())
    assert seen.level == "ok"


@pytest.mark.parametrize(
    ("api", "check", "title"),
    [
        (HttpLook(200, "text/html"), "engine.api", "port 8888 is answered by something that is not the engine's API"),
        (HttpLook(502), "engine.api", "the engine's API is not up: its proxy on port 8888 says 502"),
        (HttpLook(500, "application/json", "task queue is not healthy"), "engine.api", ":8888/api/ready says 500"),
        (HttpLook(500, "application/json", "api repository is not healthy"), "engine.database", "the engine cannot reach its database"),
    ],
)  # fmt: skip
def test_what_the_api_says(tmp_path: Path, api: HttpLook, check: str, title: str) -> None:
    said = {name: see(name, tmp_path, api=api) for name in ("engine.api", "engine.database")}
    assert [(name, seen.title) for name, all_of in said.items() for seen in all_of if seen.level == "fail"] == [
        (check, title)
    ]


def test_the_engine_that_served_last_is_gone_and_another_is_at_hand(tmp_path: Path) -> None:
    """It would be taken from the user's own cache, which no test writes into."""
    refused = EngineRefused(Path("/opt/old"), "last run", "engine-missing", "/opt/old is no folder", "ls -l /opt/old")
    (seen,) = see("engine.binaries", tmp_path, facts={"engines": Found((refused, make_engine()))})
    assert (seen.level, seen.title) == ("warn", "/opt/old is no folder")
    assert seen.detail == "the next owlclaw-up takes v0.107.2 from /opt/hatchet (engine cache)"
    assert see("engine.binaries", tmp_path, Mode.FULL, facts={"engines": Found((refused,))}) == []


def container(state: str = "running", network_mode: str = "bridge") -> dict[str, Any]:
    """Facts of a machine whose Docker has the engine's container."""
    look = ContainerLook(
        "id", "app-hatchet-lite-1", "hatchet-lite", state, 0, False, 0, "", "image", {}, {}, {}, network_mode
    )
    docker = DockerLook("unix:///x.sock", "28.0", "DOCKER_HOST", Compose(("docker", "compose"), "2.0"))
    return {"docker": Found(DockerFacts(docker, containers={"hatchet-lite": look}))}


IN_CONTAINER: dict[str, Any] = {"container": True, "process": None, "recorded": None, "ready": None, "everywhere": ()}


def test_an_engine_in_a_container(tmp_path: Path) -> None:
    (seen,) = see("engine.running", tmp_path, Mode.FULL, container(), **IN_CONTAINER)
    assert (seen.level, seen.title) == ("ok", "container app-hatchet-lite-1")
    (seen,) = see("engine.running", tmp_path, Mode.FULL, container("exited"), **IN_CONTAINER)
    assert (seen.level, seen.title) == ("fail", "the engine is not running: container app-hatchet-lite-1 is exited")
    # Its health port is not published, and what it publishes is another check's.
    assert see("engine.health", tmp_path, Mode.FULL, container(), **IN_CONTAINER) == []
    assert see("engine.exposed", tmp_path, Mode.FULL, container(), **IN_CONTAINER) == []


def test_the_documented_password_weighs_by_who_reaches_the_login(tmp_path: Path) -> None:
    known = {**IN_CONTAINER, "documented_password": True}
    (seen,) = see("engine.password", tmp_path, Mode.FULL, container(), **known)
    assert (seen.level, "only from this machine" in seen.detail) == ("info", True)
    (seen,) = see("engine.password", tmp_path, Mode.HATCHET_ONLY, container(network_mode="host"), **known)
    assert seen.level == "warn"


@pytest.mark.parametrize("url", ["amqp://", "rabbit", "amqp://host:notaport/", "http://host/"])
def test_what_is_no_address_of_a_queue(tmp_path: Path, url: str) -> None:
    look = look_at_message_queue(load(tmp_path, {"OWLCLAW_UP_RABBITMQ_URL": url}, {}))
    assert isinstance(look, Found)
    assert (look.value.where, look.value.answers) == ("", False)
