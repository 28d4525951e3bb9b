"""What Docker has of this project: images at hand, containers and volumes of our compose project, a stack lifted by hand."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from owlclaw_up.facts.values import ByHand, DockerFacts
from owlclaw_up.host import docker_engines
from owlclaw_up.host.docker import PROJECT, DockerEngine
from owlclaw_up.host.docker_base import Compose, ContainerLook
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Fact, Found, Mode
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings

STACK = "dev.owlclaw.stack"
DATABASE, ENGINE = "owlclaw-db", "hatchet-lite"
_WORKING_DIR, _FILES = "com.docker.compose.project.working_dir", "com.docker.compose.project.config_files"


def compose_project(project: Path) -> str:
    """The compose project of a checkout: its folder's name, and a hash of where it lies, so that two never share one."""
    name = re.sub(r"[^a-z0-9]+", "-", project.name.lower()).strip("-")[:24]
    return "-".join(filter(None, ("owlclaw", name, hashlib.sha256(str(project).encode()).hexdigest()[:8])))


def look_at_docker(host: Host, settings: Settings, ledger: Ledger) -> Fact[DockerFacts]:
    """The engine that answers, and what it has of ours; why not, where none does."""
    kept = ledger.recall("compose")
    known = Compose(tuple(kept["argv"]), kept["version"]) if kept.get("version") else None
    look = docker_engines.look(host.environ, host.processes, known)
    if not isinstance(look, Found):
        return look
    engine = DockerEngine(look.value.address)
    images = {name: engine.image(name) for name in (settings.hatchet_image.value, settings.postgres_image.value)}
    project = str(kept.get("project") or compose_project(ledger.project))
    by_hand = None if kept else _lifted_by_hand(engine, ledger.project, project)
    containers = engine.containers(project)
    if kept.get("adopted"):
        # Every checkout that is lifted by hand has the same name.
        containers = {s: c for s, c in containers.items() if _from_checkout(c, ledger.project)}
    return Found(
        DockerFacts(look.value, images, project, containers, engine.volumes(project), by_hand, engine.published())
    )


@dataclass(frozen=True)
class LogContainer:
    """A container whose log is one of ours.

    Attributes:
        label: which of the logs.
    """

    label: str
    docker: DockerEngine
    name: str


def log_containers(ledger: Ledger) -> list[LogContainer]:
    """The containers that the state names, as far as they are there; their logs stay with Docker."""
    kept = ledger.recall("compose")
    if not kept:
        return []
    docker = DockerEngine(kept["address"])
    there = docker.containers(kept["project"])
    labels = {DATABASE: "postgres", ENGINE: "hatchet"}
    return [LogContainer(label, docker, there[s].name) for s, label in labels.items() if s in there]


def _lifted_by_hand(engine: DockerEngine, root: Path, ours: str) -> ByHand | None:
    """A stack that somebody lifted from the compose files of this very checkout."""
    stacks: dict[str, dict[str, ContainerLook]] = {}
    for container in engine.labelled(STACK):
        name = container.labels.get(PROJECT, "")
        if _from_checkout(container, root) and name != ours:
            stacks.setdefault(name, {})[container.service] = container
    for name, services in stacks.items():
        engine_container = services.get(ENGINE)
        if engine_container is not None:
            mode = Mode.FULL if DATABASE in services else Mode.HATCHET_ONLY
            return ByHand(name, Path(engine_container.labels.get(_FILES, "").split(",")[0]), mode, services)
    return None


def _from_checkout(container: ContainerLook, root: Path) -> bool:
    where = container.labels.get(_WORKING_DIR, "")
    return bool(where) and Path(where).resolve() == (root / "deploy").resolve()
