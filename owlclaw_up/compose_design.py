"""The compose stack of a mode with Docker: project, file, images, and what a stack lifted by hand brings along. Pure."""

from __future__ import annotations

from owlclaw_up.bundle_choice import bundled_images
from owlclaw_up.facts import ByHand, Facts
from owlclaw_up.facts.containers import DATABASE, ENGINE
from owlclaw_up.host.base import ServerLogin
from owlclaw_up.host.embedded import SUPERUSER
from owlclaw_up.model import Mode, found
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings
from owlclaw_up.spec import ComposeSpec

COMPOSE_FILES = {Mode.FULL: "docker-compose.lite.yml", Mode.HATCHET_ONLY: "docker-compose.lite.hatchet-only.yml"}
# Ports inside the containers: the compose files have them.
_INSIDE = {ENGINE: {8888: "dashboard", 7077: "grpc"}, DATABASE: {5432: "postgres"}}
_PASSWORDS = {
    DATABASE: {
        "POSTGRES_PASSWORD": SUPERUSER,
        "LITE_HATCHET_PASSWORD": "hatchet",
        "LITE_OWLCLAW_PASSWORD": "owlclaw",
    },
    ENGINE: {"ADMIN_PASSWORD": "dashboard"},
}


def compose_spec(facts: Facts, mode: Mode, settings: Settings, ledger: Ledger) -> ComposeSpec | None:
    """The compose stack that a mode drives; None for a mode without Docker."""
    docker = found(facts.docker)
    if docker is None or mode not in COMPOSE_FILES:
        return None
    kept = ledger.recall("compose")
    images = {"hatchet": settings.hatchet_image.value}
    if mode is Mode.FULL:
        images["postgres"] = settings.postgres_image.value
    by_hand = adoptable(facts, mode)
    adopted = by_hand is not None or (bool(kept.get("adopted")) and kept.get("mode") == mode.value)
    if by_hand is not None:
        project, file = by_hand.project, by_hand.file
    elif adopted:
        project, file = kept["project"], ledger.project / kept["file"]
    else:
        project, file = docker.project, ledger.directory / "deploy" / COMPOSE_FILES[mode]
    return ComposeSpec(
        docker.look, project, file, images, settings.registry_mirror.value, settings.offline.value, adopted,
        bundled_images(facts, *images.values()),
    )  # fmt: skip


def adoptable(facts: Facts, mode: Mode) -> ByHand | None:
    """The stack lifted by hand from this checkout that is this mode's."""
    docker = found(facts.docker)
    by_hand = docker.by_hand if docker else None
    return by_hand if by_hand is not None and by_hand.mode is mode else None


def published_ports(facts: Facts, *, stopped: bool = False) -> dict[str, int]:
    """Ports of this machine that our containers have, by purpose.

    Args:
        stopped: also of those that do not run now.
    """
    ports: dict[str, int] = {}
    for service, container in facts.containers.items():
        if container.active or stopped:
            inside = _INSIDE.get(service, {})
            ports |= {inside[i]: published for i, published in container.ports.items() if i in inside}
            if service == ENGINE and container.network_mode == "host":
                names = {"LITE_RUNTIME_PORT": "dashboard", "SERVER_GRPC_PORT": "grpc", "SERVER_PORT": "api"}
                names |= {"LITE_FRONTEND_PORT": "frontend", "SERVER_HEALTHCHECK_PORT": "health"}
                there = container.environment
                ports |= {purpose: int(there[n]) for n, purpose in names.items() if there.get(n, "").isdigit()}
    return ports


def login_by_hand(facts: Facts, mode: Mode, ledger: Ledger) -> ServerLogin | None:
    """The admin's login to the PostgreSQL of a stack lifted by hand, where that one is to be adopted and runs."""
    port = published_ports(facts).get("postgres")
    if adoptable(facts, mode) is None or port is None:
        return None
    learn_by_hand(facts, ledger)
    return ServerLogin("127.0.0.1", port, SUPERUSER, ledger.password(SUPERUSER))


def learn_by_hand(facts: Facts, ledger: Ledger) -> None:
    """Take the passwords that a stack lifted by hand was given; they are saved with everything else."""
    for service, names in _PASSWORDS.items():
        container = facts.containers.get(service)
        for variable, role in names.items():
            if container is not None and container.environment.get(variable):
                ledger.vault.passwords[role] = container.environment[variable]
