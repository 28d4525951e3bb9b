"""Probes of our own environment, as far as the state says there is one: server, engine, token."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from owlclaw_up.facts.place import engine_place
from owlclaw_up.facts.servers import admin_login, look_at_databases
from owlclaw_up.facts.values import DatabasesLook, StackLook, TokenLook
from owlclaw_up.host.base import ProcessId
from owlclaw_up.host.local import answers_tcp, processes_in
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Absent, Mode, Secret, Unknown
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings
from owlclaw_up.token_claims import decode

# Seconds for an engine that is reached over a network.
_ELSEWHERE_SECONDS = 8.0


def look_at_stack(host: Host, settings: Settings, ledger: Ledger) -> StackLook:
    """Our server, databases, logins, engine and token, as far as they were set up; three looks side by side."""
    kept = ledger.recall("postgres")
    if not kept.get("kind"):
        return StackLook()
    parts: dict[str, Any] = {}

    def engine() -> None:
        parts["engine"] = look_at_engine(host, ledger)

    def token() -> None:
        parts["token"] = _look_at_token(host, ledger)

    threads = [threading.Thread(target=look, daemon=True) for look in (engine, token)]
    for thread in threads:
        thread.start()
    process, on_server = _look_at_kept_server(host, settings, ledger, kept)
    elsewhere = ledger.state.mode == Mode.REMOTE.value
    for thread in threads:
        thread.join(_ELSEWHERE_SECONDS if elsewhere else 2.5)
    engine_process, ready, answers = parts.get("engine", (None, False, "no answer"))
    return StackLook(process, on_server, engine_process, ready, answers, cast("TokenLook | None", parts.get("token")))


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


def look_at_engine(host: Host, ledger: Ledger) -> tuple[ProcessId | None, bool, str]:
    """The engine's process where it is one of this machine, whether it is ready, and what it answers."""
    process, ports = None, ledger.state.ports
    place = engine_place(ledger)
    if place is not None and place.elsewhere:
        rest = host.hatchet.rest_tenant(
            place.server_url, place.tenant, Secret(ledger.vault.token), root_ca=place.root_ca
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


def _look_at_token(host: Host, ledger: Ledger) -> TokenLook | None:
    """The token that applications use: the kept one."""
    text = ledger.vault.token
    claims = decode(text)
    if claims is None:
        return None
    grpc = None
    process = ledger.process("engine")
    runs = process is not None and host.processes.alive(process)
    place = engine_place(ledger)
    if place is not None and (place.elsewhere or runs or ledger.recall("engine").get("container")):
        seconds = 5.0 if place.elsewhere else 1.5
        grpc = host.hatchet.grpc_version(place.grpc_address, Secret(text), seconds, tls=place.tls)
    return TokenLook(Secret(text), claims, grpc)
