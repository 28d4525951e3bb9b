"""Probes of our own environment, as far as the state says there is one: server, engine, token."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from owlclaw_up.facts.place import EnginePlace, engine_place
from owlclaw_up.facts.servers import admin_login, look_at_databases
from owlclaw_up.facts.values import DatabasesLook, StackLook, TokenLook
from owlclaw_up.host.base import ProcessId
from owlclaw_up.host.local import answers_tcp, processes_in
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Absent, Secret, Unknown
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings
from owlclaw_up.token_claims import decode

# Seconds for the engine: three looks of at most one, and one call; and for one that is reached over a network.
_ENGINE_SECONDS, _ELSEWHERE_SECONDS = 2.5, 8.0
_GRPC_SECONDS = 1.5
# What REST and gRPC of one elsewhere may take of that, one after the other.
_REST_PART, _GRPC_PART = 0.4, 0.55


def look_at_stack(host: Host, settings: Settings, ledger: Ledger, *, brief: bool) -> StackLook:
    """Our server, databases, logins, engine and token, as far as they were set up; server and engine side by side.

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

    thread = threading.Thread(target=engine, daemon=True)
    end = host.clock.monotonic() + (elsewhere if place is not None and place.elsewhere else _ENGINE_SECONDS)
    thread.start()
    process, on_server = _look_at_kept_server(host, settings, ledger, kept)
    thread.join(max(0.0, end - host.clock.monotonic()))
    return StackLook(process, on_server, seen.process, seen.ready, seen.answers, seen.token)


@dataclass
class _EngineSeen:
    """What is known of the engine so far. Attributes: `token` is the one that applications use, the kept one."""

    token: TokenLook | None
    process: ProcessId | None = None
    ready: bool = False
    answers: str = "no answer"


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


def running_engine(host: Host, ledger: Ledger) -> ProcessId | None:
    """The engine that runs: the remembered one, or one whose start was interrupted before it was remembered."""
    process = ledger.process("engine")
    if process is not None and host.processes.alive(process):
        return process
    if any(not r.done for r in ledger.receipts("process", name="engine")):
        return next(iter(processes_in(ledger.directory / "engine", ("hatchet-lite",))), None)
    return None


def look_at_engine(host: Host, ledger: Ledger, elsewhere: float) -> tuple[ProcessId | None, bool, str]:
    """The engine's process where it is one of this machine, whether it is ready, and what it answers.

    Args:
        elsewhere: seconds for each of connecting and reading, of one that is not ours.
    """
    process, ports = None, ledger.state.ports
    place = engine_place(ledger)
    if place is not None and place.elsewhere:
        rest = host.hatchet.rest_tenant(
            place.server_url, place.tenant, Secret(ledger.vault.token), elsewhere, root_ca=place.root_ca
        )  # fmt: skip
        well = rest.state in ("ok", "refused-token")
        return None, well, "ready" if well else f"REST breaks at {rest.hop}: {rest.detail or rest.status}"
    if ledger.recall("engine").get("container") is None:
        process = running_engine(host, ledger)
        if process is None:
            return None, False, "not running"
        ready = host.hatchet.get(ports.get("health", 0), "/ready", 1.0)
        if ready is None or ready[0] != 200:
            return process, False, f"{ports.get('health')}/ready says {ready[0] if ready else 'nothing'}"
    api = host.hatchet.get(ports.get("dashboard", 0), "/api/ready", 1.0)
    if api is None or api[0] != 200 or "html" in api[1]:
        return process, False, f"/api/ready says {api[0] if api else 'nothing'}"
    if not answers_tcp("127.0.0.1", ports.get("grpc", 0)):
        return process, False, f"nobody listens on its gRPC port {ports.get('grpc')}"
    return process, True, "ready"


def _kept_token(ledger: Ledger) -> TokenLook | None:
    claims = decode(ledger.vault.token)
    return TokenLook(Secret(ledger.vault.token), claims, None) if claims else None


def _with_answer(host: Host, place: EnginePlace, token: TokenLook, seconds: float) -> TokenLook:
    """With what the engine says to it; asked only of one that is ready, as any other refuses every token, or is silent."""
    grpc = host.hatchet.grpc_version(place.grpc_address, token.token, seconds, tls=place.tls)
    return dataclasses.replace(token, grpc=grpc)
