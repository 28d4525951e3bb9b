"""Of a report: the stack as parts of a drawing, and the versions of everything; from facts that were gathered. Reads only."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence

from owlclaw_up import __version__
from owlclaw_up.facts import Facts
from owlclaw_up.host.engines import EngineRefused
from owlclaw_up.model import Found, Mode, Outcome, Service, found
from owlclaw_up.modes import MODES
from owlclaw_up.project import Project
from owlclaw_up.report_values import Part, Stack, Version
from owlclaw_up.spec import EngineBinaries


def stack(facts: Facts | None, project: Project, status: Outcome) -> Stack:
    """The parts of the environment, and how they reach each other.

    Args:
        facts: None where nothing could be looked at.
        status: what `status` sees.
    """
    kept = project.ledger
    services = {service.id: service for service in status.services}
    docker = found(facts.docker) if facts else None
    in_docker = docker is not None and any(s.container for s in services.values())
    sdk = found(facts.sdk) if facts else None
    mode = status.mode
    durable = mode is not None and MODES[mode].durable
    database, engine = services.get("postgres"), services.get("hatchet")
    kind = {"embedded": "ours, embedded", "container": "ours, in a container", "local": "your own server"}
    kind_of_server = kind.get(str(kept.recall("postgres").get("kind")), "")
    programs = ["tasks run in this process"] if mode is Mode.MOCK else []
    programs += [f"hatchet-sdk {sdk.version}"] if sdk else []
    return Stack(
        Part("Your programs", "", "", tuple(programs)),
        _env_part(facts, project, "missing" if mode is not None else "not written yet"),
        None if mode is not None and not durable else _box("Hatchet engine", engine, status),
        _box("PostgreSQL", database, status, kind_of_server),
        status.endpoints.get("grpc", ""), (status.endpoints.get("dashboard") or status.endpoints.get("rest", "")).removeprefix("http://"),
        f"localhost:{database.port}" if database is not None and database.port else "",
        f"Docker {docker.look.version}: {docker.project}" if docker and in_docker else "",
    )  # fmt: skip


def _box(name: str, service: Service | None, status: Outcome, more: str = "") -> Part:
    if service is None:
        return Part(name, "not set up")
    elsewhere = status.mode is Mode.REMOTE and service.id == "hatchet"
    where = "container" if service.container else "elsewhere" if elsewhere else "process"
    lines = [service.version.partition(" ")[0], more, f"pid {service.pid}" if service.pid else service.container]
    return Part(name, service.state, where, tuple(line for line in lines if line))


def _env_part(facts: Facts | None, project: Project, missing: str) -> Part:
    name = project.settings.env_file.value.name
    look = found(facts.dotenv) if facts else None
    if look is None:
        return Part(name, "unknown")
    if look.kind != "file":
        return Part(name, missing if look.kind == "missing" else look.kind)
    rights = f"{look.mode & 0o777:04o}"
    return Part(name, "unreadable" if look.error else "there", "", (f"{len(look.values)} keys, {rights}",))


def versions(facts: Facts | None, services: Sequence[Service]) -> tuple[Version, ...]:
    """Of everything that takes part, as far as it was seen."""
    rows = [
        Version("owlclaw-up", __version__),
        Version(platform.python_implementation(), platform.python_version(), sys.executable),
        Version("system", _system(), platform.machine()),
    ]
    if facts is None:
        return tuple(rows)
    if machine := found(facts.platform):
        free = f"{machine.memory_mib / 1024:.1f} GiB of memory and {machine.disk_mib / 1024:.1f} GiB of disk are free"
        rows.append(Version("machine", f"{os.cpu_count()} cores", free))
    docker = facts.docker
    if isinstance(docker, Found):
        look = docker.value.look
        rows += [Version("Docker", look.version, look.source), Version("Docker Compose", look.compose.version)]
    else:
        rows.append(Version("Docker", "not used", docker.why))
    rows += [
        Version({"postgres": "PostgreSQL", "hatchet": "Hatchet engine"}.get(s.id, s.id), s.version, s.detail)
        for s in services if s.version
    ]  # fmt: skip
    for engine in found(facts.engines) or ():
        if isinstance(engine, EngineBinaries) and not engine.here:
            rows.append(Version("engine to be fetched", engine.version, engine.source))
        elif isinstance(engine, EngineBinaries):
            rows.append(Version("engine at hand", engine.version, f"{engine.directory} ({engine.source})"))
        else:
            rows.append(Version("engine at hand", "unusable", f"{engine.directory}: {engine.why}"))
    embedded = found(facts.sidecar)
    if embedded is not None and embedded.serves:
        one = embedded.found
        at = ("unusable", one.why) if isinstance(one, EngineRefused) else (one.version, one.source)
        rows.append(Version("embedded engine", *at))
    rows += [
        Version("PostgreSQL at hand", binaries.version, binaries.provider)
        for binaries in found(facts.postgres_binaries) or ()
    ]
    if sdk := found(facts.sdk):
        rows.append(Version("hatchet-sdk", sdk.version, f"drives engines from {sdk.floor} on"))
    return tuple(rows)


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"] + f", kernel {platform.release()}"
    except (OSError, KeyError):
        return platform.platform()
