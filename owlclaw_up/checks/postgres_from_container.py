"""Whether the engine's container reaches a PostgreSQL of this machine: `postgres.from-container`, for the mode hatchet-only."""

from __future__ import annotations

import re
from collections.abc import Iterator

from owlclaw_up.checks.base import UP, Check, Evidence, Fix, Seen, ok
from owlclaw_up.facts.containers import ENGINE
from owlclaw_up.host.base import ServerLook, on_this_machine
from owlclaw_up.host.docker_base import ContainerLook, DockerLook
from owlclaw_up.host.postgres_url import parse_url
from owlclaw_up.model import Mode, found
from owlclaw_up.spec import HATCHET_DATABASE
from owlclaw_up.steps.compose_env import GATEWAY_NAME
from owlclaw_up.steps.reach import LET_IN

# What an engine that found no way to its server says last, by Go's and PostgreSQL's words.
_NO_WAY = re.compile(
    r"dial (?:tcp|error)|connection refused|no such host|i/o timeout|no pg_hba\.conf entry", re.IGNORECASE
)
# Of a command that could not be run inside at all.
_NOT_RUN = (126, 127)


def _from_container(evidence: Evidence) -> Iterator[Seen]:
    docker, server = found(evidence.facts.docker), found(evidence.facts.our_stack.on_server.server)
    container = evidence.facts.containers.get(ENGINE)
    if not evidence.standing or evidence.mode is not Mode.HATCHET_ONLY or docker is None or container is None:
        return
    if server is None:
        # Nobody reaches it, from wherever.
        return
    words = _refusal(evidence, container)
    if not words:
        if container.running:
            yield ok("the engine's container reaches PostgreSQL")
        return
    where = _where(container)
    yield Seen(
        "fail", f"the engine's container does not reach PostgreSQL at {where}, and this machine does",
        f"{words}\nthe server's listen_addresses: {server.listen_addresses}",
        f"look for another way: {UP}; or have the server let Docker's bridge in:" + _lines(evidence, server, docker.look, where),
        UP, Fix("look for another way from the container to PostgreSQL", up=True),
    )  # fmt: skip


def _refusal(evidence: Evidence, container: ContainerLook) -> str:
    """Why the container does not reach the server, in the words of one of the two; empty where it does."""
    health = found(evidence.facts.docker_health)
    if health is None:
        return ""
    asked = health.from_inside
    if asked is not None:
        words = asked.stderr.strip()
        if asked.exit_code in (0, *_NOT_RUN) or LET_IN.search(words):
            return ""
        return words.splitlines()[-1] if words else f"psql inside: no answer within {asked.seconds:.0f} s"
    if not container.restarts or evidence.facts.our_stack.engine_ready:
        # What a container that was stopped said earlier is old.
        return ""
    return next((line.strip() for line in reversed(health.words.get(ENGINE, ())) if _NO_WAY.search(line)), "")


def _where(container: ContainerLook) -> str:
    try:
        return parse_url(container.environment.get("DATABASE_URL", "")).where
    except ValueError:
        return GATEWAY_NAME


def _lines(evidence: Evidence, server: ServerLook, docker: DockerLook, where: str) -> str:
    """The lines of the server's own files that let the container in."""
    role = evidence.spec.database(HATCHET_DATABASE).role if evidence.spec else "hatchet"
    lines = [f"pg_hba.conf      host hatchet {role} {docker.subnet or '172.17.0.0/16'} scram-sha-256"]
    listens = {address.strip() for address in server.listen_addresses.split(",")}
    by_bridge = where.startswith(GATEWAY_NAME) and on_this_machine(server.login.host)
    if by_bridge and not listens & {"*", "0.0.0.0", docker.gateway}:
        lines.insert(0, f"postgresql.conf  listen_addresses = 'localhost, {docker.gateway or '172.17.0.1'}'")
    return "".join(f"\n{line}" for line in lines)


FROM_CONTAINER = Check(
    "postgres.from-container", "the engine's container reaches PostgreSQL",
    "the engine's log says `dial error ... connection refused`, `no such host` or `no pg_hba.conf entry`",
    "PostgreSQL listens on loopback only, its pg_hba.conf or a firewall keeps Docker's bridge out, or that was changed since",
    "in a container localhost is the container itself, so the engine comes from outside",
    UP, _from_container, ("stack", "docker", "docker_health"),
    after=("postgres.reach", "docker.running", "container.missing", "container.stopped"), fixable=True,
)  # fmt: skip
