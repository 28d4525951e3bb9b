"""The containers of the compose stack: there, running, not in a crash loop, with memory enough, on loopback only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone

from owlclaw_up.checks.base import UP, Check, Evidence, Fix, Seen, ok
from owlclaw_up.facts.containers import DATABASE, ENGINE
from owlclaw_up.host.docker_base import ContainerLook
from owlclaw_up.model import Mode, found
from owlclaw_up.steps.engine_env import OUT_OF_MEMORY, diagnose

# Seconds for which a container that was started again must have run before it counts as back.
_BACK, _LONG_AGO = 30, 3600
_WORDS = 3
# Docker's words for a container that does not run, in ours; it ended where it is none of them.
_HOW = {"paused": ("paused", "docker unpause, or an up, has it go on"), "created": ("made, and was never started", "")}
_ENDS_ONCE = Fix("run owlclaw-up", up=True)


def _expected(evidence: Evidence) -> Mapping[str, ContainerLook | None]:
    """By service, the containers of an environment that stands; empty where it has none, or Docker does not answer."""
    docker = found(evidence.facts.docker)
    if docker is None or not evidence.standing or not evidence.with_docker:
        return {}
    services = (DATABASE, ENGINE) if evidence.mode is Mode.FULL else (ENGINE,)
    return {service: evidence.facts.containers.get(service) for service in services}


def _missing(evidence: Evidence) -> Iterator[Seen]:
    expected, docker = _expected(evidence), found(evidence.facts.docker)
    for service, container in expected.items():
        if container is None and docker is not None:
            volumes = [name for name, of in docker.volumes.items() if service == DATABASE and of == "owlclaw-db-data"]
            kept = f"; its data is in volume {volumes[0]}" if volumes else ""
            yield Seen(
                "fail", f"the container of {service} is gone", f"compose project {docker.project} has none{kept}",
                "have it made again, with the data that is there: owlclaw-up", UP, _ENDS_ONCE,
            )  # fmt: skip
    if expected and None not in expected.values():
        yield ok(f"there: {', '.join(expected)}")


def _stopped(evidence: Evidence) -> Iterator[Seen]:
    containers = [c for c in _expected(evidence).values() if c is not None]
    # A crash loop that Docker gave up, and one that was killed for want of memory, are told by checks of their own.
    stopped = [c for c in containers if not c.active and not c.restarts and not c.oom_killed]
    stopped += [c for c in containers if c.state == "paused"]
    for container in stopped:
        state, how = _HOW.get(container.state, ("stopped", f"it ended {container.how_it_ended}"))
        yield Seen("fail", f"container {container.name} is {state}", how, "", UP, _ENDS_ONCE)
    if containers and not stopped:
        yield ok("none is stopped")


def _seconds_up(container: ContainerLook, now: float) -> float:
    try:
        began = datetime.fromisoformat(container.started_at[:19]).replace(tzinfo=timezone.utc)
    except ValueError:
        return 0.0
    return now - began.timestamp()


def _words(evidence: Evidence, service: str) -> tuple[str, ...]:
    health = found(evidence.facts.docker_health)
    return health.words.get(service, ()) if health else ()


def _restarts(evidence: Evidence) -> Iterator[Seen]:
    containers = [c for c in _expected(evidence).values() if c is not None]
    bad = [c for c in containers if c.restarts and not c.oom_killed]
    for container in bad:
        words = _words(evidence, container.service)
        known = diagnose("\n".join(words))
        last = [next((line for line in reversed(words) if diagnose(line)), "")] if known else words[-_WORDS:]
        times = f"{container.restarts} time{'s' if container.restarts > 1 else ''}"
        loops = not container.running or _seconds_up(container, evidence.now) < _BACK
        cause = f": {known.cause}" if known else ""
        if loops:
            level, title = "fail", f"container {container.name} ends again and again{cause}"
        else:
            level = "warn" if _seconds_up(container, evidence.now) < _LONG_AGO else "info"
            title = f"container {container.name} has ended {times}, and was started again{cause}"
        yield Seen(
            level, title, "\n".join([f"Docker has started it again {times}; it is {container.state}; its last words:", *last]),
            known.hint if known else f"docker logs {container.name}",
            _command(known.hint) if known else f"docker logs {container.name}",
            _ENDS_ONCE if loops and known and _command(known.hint) == UP else None,
        )  # fmt: skip
    if containers and not bad:
        yield ok("none was started again")


def _command(hint: str) -> str:
    """The command that a hint begins with."""
    return hint.partition(" (")[0].partition(";")[0] if hint.startswith(UP) else ""


def _out_of_memory(evidence: Evidence) -> Iterator[Seen]:
    containers = [c for c in _expected(evidence).values() if c is not None]
    killed = [c for c in containers if c.oom_killed]
    for container in killed:
        back = container.running and _seconds_up(container, evidence.now) >= _BACK
        limit = (
            f"it may have {container.memory_limit} MiB"
            if container.memory_limit
            else "nothing limits it but the machine"
        )
        # A limit stays with the container; one that is made anew has none.
        command = f"docker rm -f {container.name} && {UP}" if container.memory_limit else UP
        yield Seen(
            "warn" if back else "fail", f"container {container.name} was killed for want of memory",
            f"{limit}; it is {container.state}" + (f", started again {container.restarts} times" if container.restarts else ""),
            f"take the limit away: {command}" if container.memory_limit else f"{OUT_OF_MEMORY.hint}; then: {command}",
            command, None if container.memory_limit or back else _ENDS_ONCE,
        )  # fmt: skip
    if containers and not killed:
        yield ok("none was killed for want of memory")


def _exposed(evidence: Evidence) -> Iterator[Seen]:
    containers = [c for c in _expected(evidence).values() if c is not None]
    exposed = [c for c in containers if c.exposed]
    kept = evidence.ledger.recall("compose")
    for container in exposed:
        where = ", ".join(f"{port} on {address}" for port, address in container.exposed.items())
        adopted = bool(kept.get("adopted"))
        yield Seen(
            "warn", f"container {container.name} is reachable from other machines: port {where}",
            "its logins are those of a developer's machine", f"publish it on 127.0.0.1 in {kept.get('file')}" if adopted else "",
            f"docker compose -p {kept.get('project')} -f {kept.get('file')} up -d" if adopted else UP,
            None if adopted else _ENDS_ONCE,
        )  # fmt: skip
    shares = next((c for c in containers if c.service == ENGINE and c.network_mode == "host"), None)
    if shares is not None:
        ports = [str(port) for p in ("dashboard", "api", "frontend", "health") if (port := evidence.ours(p))]
        yield Seen(
            "info", f"the engine's ports {', '.join(ports)} listen on every interface of this machine",
            "PostgreSQL lets nobody in from Docker's bridge, so the container shares this machine's network; gRPC stays on "
            "loopback, the dashboard has a password",
            "a firewall; or have PostgreSQL listen on Docker's bridge too: docs/how-to/docker.md",
        )  # fmt: skip
    if containers and not exposed and shares is None:
        yield ok("published on loopback only")


_DOCKER = (
    "docker.installed",
    "docker.running",
    "docker.permission",
    "docker.context",
    "docker.version",
    "docker.compose",
)
_BOTH = ("docker", "docker_health")
# What has an engine end at its start.
_KEEPS_IT_OUT = (
    "docker.images",
    "docker.storage",
    "container.missing",
    "container.stopped",
    "container.out-of-memory",
    "postgres.reach",
    "postgres.from-container",
    "postgres.login",
    "postgres.role",
    "postgres.connections",
    "postgres.timezone",
    "postgres.owner",
    "postgres.btree_gist",
    "postgres.btree_gist-early",
    "hatchet.migrations",
    "hatchet.tenant",
)

CHECKS: tuple[Check, ...] = (
    Check(
        "container.missing", "the containers of the stack are there", "`No such container`; nobody answers on the ports",
        "somebody removed them: docker rm, docker compose down, docker system prune",
        "what ran in them does not run; the data is in volumes", UP, _missing, ("docker",), after=_DOCKER, fixable=True,
    ),
    Check(
        "container.stopped", "the containers of the stack run", "nobody answers on the ports after a reboot or `owlclaw-up down`",
        "they were stopped or paused, or the Docker engine was started anew", "what runs in them answers nobody", UP, _stopped,
        ("docker",), after=_DOCKER, fixable=True,
    ),
    Check(
        "container.out-of-memory", "no container was killed for want of memory", "a container ends with exit code 137",
        "the Docker engine's machine, or the container's own limit, has too little memory",
        "the kernel ends a process in the middle of its work", UP, _out_of_memory, ("docker",), after=_DOCKER, fixable=True,
    ),
    Check(
        "container.restarts", "no container ends again and again", "an engine that seems to start for ever; `Restarting (1)`",
        "it ends at once for a reason that stands in its log, and Docker starts it again, up to five times",
        "it looks as if it were starting, and never serves", "docker logs CONTAINER", _restarts, _BOTH,
        after=(*_DOCKER, *_KEEPS_IT_OUT),
        fixable=True,
    ),
    Check(
        "container.exposed", "containers are published on loopback only", "`0.0.0.0:5432->5432/tcp` in docker ps",
        "a compose file that was edited, or a container that was made by hand in the stack's name",
        "whoever reaches this machine reaches a database and a dashboard with a developer's logins", UP, _exposed,
        ("docker",), after=_DOCKER, fixable=True,
    ),
)  # fmt: skip
