"""Judgements about leftovers: what silences them, and whose things they are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.checks.base import Evidence, examine
from owlclaw_up.checks.leftovers import CHECKS
from owlclaw_up.facts import ByHand, DockerFacts
from owlclaw_up.facts.leftovers import LeftFile, LeftoversLook
from owlclaw_up.host.base import ProcessId
from owlclaw_up.host.docker_base import Compose, ContainerLook, DockerLook
from owlclaw_up.host.running import RunningProgram
from owlclaw_up.model import Absent, Decision, Found, Mode
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import load
from tests.unit.fakes import NOW, make_facts, make_ledger

ADDRESS = "unix:///var/run/docker.sock"
DOCKER = DockerLook(ADDRESS, "27.0", "the socket", Compose(("docker", "compose"), "2.30"))
PROJECT = "owlclaw-app-0123abcd"
FULL = Decision(Mode.FULL, "auto", "", (), True)


def container(name: str) -> ContainerLook:
    return ContainerLook("id", name, name, "running", 0, False, 0, "", "image", {}, {}, {})


def docker(**values: Any) -> Found[DockerFacts]:
    there = {"owlclaw-db": container(f"{PROJECT}-owlclaw-db-1")}
    usual = {
        "look": DOCKER,
        "project": PROJECT,
        "containers": there,
        "volumes": {f"{PROJECT}_owlclaw-db-data": "owlclaw-db-data"},
    }
    return Found(DockerFacts(**{**usual, **values}))


@dataclass(frozen=True)
class Look:
    """A maker of looks at one project: what is wrong, by id, with its level."""

    ledger: Ledger

    def __call__(
        self, left: LeftoversLook | None = None, decision: Decision | None = FULL, **facts: Any
    ) -> dict[str, str]:
        root = self.ledger.project
        machine = make_facts(root, leftovers=Found(left or LeftoversLook()), **facts)
        settings = load(root, {}, {})
        evidence = Evidence(machine, settings, self.ledger, Mode.FULL, True, decision, None, (), None, NOW)
        return {f.id: f.level for f in examine(CHECKS, evidence).findings if f.level != "ok"}


@pytest.fixture
def seen(tmp_path: Path) -> Look:
    return Look(make_ledger(tmp_path))


def everything(tmp_path: Path) -> LeftoversLook:
    program = RunningProgram(ProcessId(7, 1.0), "postgres", tmp_path, "postgres -D data")
    return LeftoversLook("", (program,), (LeftFile(tmp_path / "x", "half-written x"),), ((tmp_path / "base", True),))


def keep(ledger: Ledger, **compose: Any) -> None:
    ledger.keep("compose", project=PROJECT, address=ADDRESS, **compose)


def test_what_is_told_without_a_state(seen: Look, tmp_path: Path) -> None:
    assert seen(everything(tmp_path), docker=docker()) == {
        "leftovers.processes": "warn",
        "leftovers.containers": "fail",
        "leftovers.volumes": "fail",
        "leftovers.files": "warn",
    }
    # What somebody else has put into our project is theirs.
    more = docker(containers={"redis": container(f"{PROJECT}-redis-1")}, volumes={})
    assert seen(docker=more) == {}
    # Another mode makes nothing of that data.
    other = dataclasses.replace(FULL, mode=Mode.NATIVE)
    assert seen(docker=docker(), decision=other) == {"leftovers.containers": "warn", "leftovers.volumes": "warn"}


@pytest.mark.parametrize("silencer", ["at work", "adopted", "by hand"])
def test_what_silences_them_all(silencer: str, seen: Look, tmp_path: Path) -> None:
    left, there = everything(tmp_path), docker()
    if silencer == "at work":
        left = dataclasses.replace(left, at_work="owlclaw-up up, pid 7")
    elif silencer == "adopted":
        keep(seen.ledger, adopted=True)
    else:
        there = docker(by_hand=ByHand("deploy", tmp_path / "compose.yml", Mode.FULL, {}))
    assert seen(left, docker=there) == {}


def test_what_is_on_record_is_no_leftover(seen: Look) -> None:
    ledger = seen.ledger
    ledger.prepare()
    keep(ledger, adopted=False)
    ledger.record("volume", name=f"{PROJECT}_owlclaw-db-data", project=PROJECT)
    assert seen(docker=docker()) == {}
    # Gone, where the same engine says so; and unknown where another one answers, or none.
    assert seen(docker=docker(volumes={})) == {"leftovers.receipts": "warn"}
    elsewhere = dataclasses.replace(DOCKER, address="tcp://far:2375")
    assert seen(docker=docker(look=elsewhere, volumes={})) == {}
    assert seen(docker=Absent("not running")) == {}


def test_a_process_that_no_up_would_start_again(seen: Look) -> None:
    ledger = seen.ledger
    ledger.prepare()
    ledger.record("process", name="engine")
    assert seen() == {"leftovers.receipts": "warn"}, "in full, the engine is a container"
    ledger.keep("postgres", kind="embedded", base="/gone")
    ledger.record("process", name="postgres")
    ledger.forget("process", name="engine")
    assert seen() == {}, "up starts it again"
    ledger.intend("cluster", base="/never/made")
    assert seen() == {}, "what was only begun is up's to go on with"
    ledger.record("cluster", base="/gone")
    assert seen() == {"leftovers.receipts": "warn"}


def test_a_server_that_up_takes_over_is_none(seen: Look, tmp_path: Path) -> None:
    ledger = seen.ledger
    base = tmp_path / "base"
    ledger.keep("postgres", kind="embedded", base=str(base), pid=8, started=1.0)
    server = RunningProgram(ProcessId(7, 1.0), "postgres", base / "data", "postgres -D data")
    engine = RunningProgram(ProcessId(9, 1.0), "hatchet-lite", tmp_path / ".owlclaw-up/engine", "hatchet-lite")
    assert seen(LeftoversLook("", (server,), bases=((base, True),))) == {}, "an interrupted up started it"
    assert seen(LeftoversLook("", (server, engine), bases=((base, True),))) == {"leftovers.processes": "warn"}
