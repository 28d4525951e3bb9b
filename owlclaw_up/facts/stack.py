"""Probes of our own environment, as far as the state says there is one: server, engine, token."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from owlclaw_up.facts.place import EnginePlace, engine_place, serves_by_sidecar
from owlclaw_up.facts.servers import admin_login, look_at_databases
from owlclaw_up.facts.values import DatabasesLook, EngineLook, StackLook, TokenLook
from owlclaw_up.host.base import ProcessId
from owlclaw_up.host.local import processes_in
from owlclaw_up.host.machine import Host
from owlclaw_up.host.ports import answers_tcp
from owlclaw_up.model import Absent, Secret, Unknown
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings
from owlclaw_up.spec import SIDECAR_KEEPER, engine_key
from owlclaw_up.token_claims import decode

# Seconds for the engine: three looks of at most one, and one call; and for one that is reached over a network.
_ENGINE_SECONDS, _ELSEWHERE_SECONDS = 2.5, 8.0
_GRPC_SECONDS = 1.5
# What REST and gRPC of one elsewhere may take of that, one after the other.
_REST_PART, _GRPC_PART = 0.4, 0.55
_SILENT = EngineLook(None, False, "no answer")
# What an engine's process is, by its command line.
_SERVERS = ("hatchet-lite", SIDECAR_KEEPER)


def look_at_stack(host: Host, settings: Settings, ledger: Ledger, *, brief: bool) -> StackLook:
    """Our server, databases, logins, engines and token, as far as they were set up; server and engines side by side.

    Args:
        brief: wait no longer for an engine elsewhere than for one of ours.
    """
    kept = ledger.recall("postgres")
    if not kept.get("kind"):
        return StackLook()
    seen, place = _EngineSeen(_kept_token(ledger)), engine_place(ledger)
    elsewhere = _ENGINE_SECONDS if brief else _ELSEWHERE_SECONDS

    def engine() -> None:
        seen.process, seen.ready, seen.answers = look_at_engine(host, ledger, _REST_PART * elsewhere)
        if seen.ready and seen.token is not None and place is not None:
            patience = _GRPC_PART * elsewhere if place.elsewhere else _GRPC_SECONDS
            seen.token = _with_answer(host, place, seen.token, patience)

    def fellow(number: int) -> None:
        seen.fellows[number] = _look_at_fellow(host, ledger, number)

    looks: list[Callable[[], None]] = [engine, *(partial(fellow, number) for number in known_engines(ledger)[1:])]
    threads = [threading.Thread(target=look, daemon=True) for look in looks]
    end = host.clock.monotonic() + (elsewhere if place is not None and place.elsewhere else _ENGINE_SECONDS)
    for thread in threads:
        thread.start()
    process, on_server = _look_at_kept_server(host, settings, ledger, kept)
    for thread in threads:
        thread.join(max(0.0, end - host.clock.monotonic()))
    fellows = {number: seen.fellows.get(number, _SILENT) for number in known_engines(ledger)[1:]}
    return StackLook(process, on_server, seen.process, seen.ready, seen.answers, seen.token, fellows)


@dataclass
class _EngineSeen:
    """What is known of the engine so far. Attributes: `token` is the one that applications use, the kept one."""

    token: TokenLook | None
    process: ProcessId | None = None
    ready: bool = False
    answers: str = "no answer"
    fellows: dict[int, EngineLook] = field(default_factory=dict)


def _look_at_kept_server(
    host: Host, settings: Settings, ledger: Ledger, kept: Mapping[str, Any]
) -> tuple[ProcessId | None, DatabasesLook]:
    process = None
    if kept["kind"] == "embedded":
        running = host.embedded.running(Path(kept["base"]) / "data") if kept.get("base") else None
        if running is None:
            return None, DatabasesLook(Absent("our PostgreSQL is not running"))
        process = running[0]
    admin = admin_login(ledger)
    if admin is None:
        return process, DatabasesLook(Unknown("the admin login is not known any more"))
    if kept["kind"] == "container" and not answers_tcp("127.0.0.1", admin.port or 0):
        return None, DatabasesLook(Absent("the container of our PostgreSQL is not running"))
    return process, look_at_databases(host, settings, ledger, admin, "state")


def engine_home(ledger: Ledger, number: int = 1) -> Path:
    """The working directory of an engine: what runs there is ours."""
    return ledger.directory / engine_key(number).replace(".", "-")


def known_engines(ledger: Ledger) -> list[int]:
    """Numbers of the native engines of which anything is on record; the first is always among them."""
    others = [key.partition(".")[2] for key in ledger.state.data if key.startswith("engine.")]
    return [1, *sorted(int(number) for number in others)]


def wanted_engines(settings: Settings, ledger: Ledger) -> int:
    """How many engines there shall be: as the settings say, else as many as the last `up` was asked for."""
    return settings.engines.value if settings.engines.explicit else int(ledger.recall("engines").get("count", 1))


def running_engine(host: Host, ledger: Ledger, number: int = 1) -> ProcessId | None:
    """The engine that runs: the remembered one, or one whose start was interrupted before it was remembered."""
    key = engine_key(number)
    process = ledger.process(key)
    if process is not None and host.processes.alive(process):
        return process
    if any(not r.done for r in ledger.receipts("process", name=key)):
        return next(iter(processes_in(engine_home(ledger, number), _SERVERS)), None)
    return None


def look_at_engine(host: Host, ledger: Ledger, elsewhere: float) -> tuple[ProcessId | None, bool, str]:
    """The engine's process where it is one of this machine, whether it is ready, and what it answers.

    Args:
        elsewhere: seconds for each of connecting and reading, of one that is not ours.
    """
    place = engine_place(ledger)
    if place is not None and place.elsewhere:
        rest = host.hatchet.rest_tenant(
            place.server_url, place.tenant, Secret(ledger.vault.token), elsewhere, root_ca=place.root_ca
        )  # fmt: skip
        well = rest.state in ("ok", "refused-token")
        return None, well, "ready" if well else f"REST breaks at {rest.hop}: {rest.detail or rest.status}"
    if ledger.recall("engine").get("container") is None:
        # A sidecar has no port for its health alone: hatchet-embedded, embed.go.
        silent = serves_by_sidecar(ledger)
        look = _look_at_process(host, running_engine(host, ledger), ledger.state.ports, silent=silent)
        return look.process, look.ready, look.answers
    return None, *_answers(host, ledger.state.ports)


def _look_at_fellow(host: Host, ledger: Ledger, number: int) -> EngineLook:
    """One of the engines beside the first."""
    ports: Mapping[str, int] = ledger.recall(engine_key(number)).get("ports", {})
    return _look_at_process(host, running_engine(host, ledger, number), ports)


def _look_at_process(
    host: Host, process: ProcessId | None, ports: Mapping[str, int], *, silent: bool = False
) -> EngineLook:  # fmt: skip
    """One native engine.

    Args:
        silent: whether it has no port for its health.
    """
    if process is None:
        return EngineLook(None, False, "not running")
    if silent:
        return EngineLook(process, *_answers(host, ports))
    health = host.hatchet.get(ports.get("health", 0), "/ready", 1.0)
    if health is None or health[0] != 200:
        return EngineLook(process, False, f"{ports.get('health')}/ready says {health[0] if health else 'nothing'}")
    return EngineLook(process, *_answers(host, ports))


def _answers(host: Host, ports: Mapping[str, int]) -> tuple[bool, str]:
    """Whether an engine serves REST and gRPC, and what it says otherwise."""
    api = host.hatchet.get(ports.get("dashboard", 0), "/api/ready", 1.0)
    if api is None or api[0] != 200 or "html" in api[1]:
        return False, f"/api/ready says {api[0] if api else 'nothing'}"
    if not answers_tcp("127.0.0.1", ports.get("grpc", 0)):
        return False, f"nobody listens on its gRPC port {ports.get('grpc')}"
    return True, "ready"


def _kept_token(ledger: Ledger) -> TokenLook | None:
    claims = decode(ledger.vault.token)
    return TokenLook(Secret(ledger.vault.token), claims, None) if claims else None


def _with_answer(host: Host, place: EnginePlace, token: TokenLook, seconds: float) -> TokenLook:
    """With what the engine says to it; asked only of one that is ready, as any other refuses every token, or is silent."""
    grpc = host.hatchet.grpc_version(place.grpc_address, token.token, seconds, tls=place.tls)
    return dataclasses.replace(token, grpc=grpc)
