"""Probe of our databases from within, each as its own owner role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from owlclaw_up.facts.servers import admin_login
from owlclaw_up.facts.stack import running_engine
from owlclaw_up.host.base import ServerLogin, ServerRefusal, on_this_machine
from owlclaw_up.host.machine import Host
from owlclaw_up.host.postgres_clients import Client, clients_at, ports_of
from owlclaw_up.host.postgres_inspection import DatabaseInside, HatchetInside, look_inside, look_inside_hatchet
from owlclaw_up.model import Absent, Fact, Found, Secret
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings, wanted_databases
from owlclaw_up.spec import HATCHET_DATABASE, TENANT_ID

# Seconds for one connection; libpq takes no less.
_TIMEOUT = 2.0
# Nobody answers there, so that the next database need not be asked.
_AWAY = ("refused", "unreachable", "not-postgres", "starting", "malformed", "offline")


@dataclass(frozen=True)
class InsideLook:
    """Our databases from within.

    Attributes:
        databases: by name; none of one whose role's password is not kept.
        hatchet: what is in Hatchet's.
        engine_ports: the near ends of our own engine's connections, where it is a process of this machine.
        clients: processes of this machine by the port from which they have a session in Hatchet's database; only of
            sessions that are worth a question.
    """

    databases: Mapping[str, DatabaseInside | ServerRefusal] = field(default_factory=dict)
    hatchet: HatchetInside | None = None
    engine_ports: frozenset[int] = frozenset()
    clients: Mapping[int, Client] = field(default_factory=dict)


def look_at_inside(host: Host, settings: Settings, ledger: Ledger) -> Fact[InsideLook]:
    """One connection to each wanted database, as far as the state knows its server and its role's password."""
    admin = admin_login(ledger)
    if admin is None:
        return Absent("nothing was set up here yet")
    databases: dict[str, DatabaseInside | ServerRefusal] = {}
    hatchet: HatchetInside | None = None
    engine = running_engine(host, ledger)
    # Looked at before and after: its pools open and close connections all the time.
    ports = ports_of(engine) if engine else frozenset()
    for wanted in wanted_databases(settings):
        password = ledger.vault.passwords.get(wanted.role)
        if password is None:
            continue
        login = ServerLogin(admin.host, admin.port, wanted.role, Secret(password), wanted.name, admin.options)
        if wanted.name == HATCHET_DATABASE:
            both = look_inside_hatchet(login, TENANT_ID, _TIMEOUT)
            seen: DatabaseInside | ServerRefusal
            seen, hatchet = (both, None) if isinstance(both, ServerRefusal) else both
        else:
            seen = look_inside(login, _TIMEOUT)
        databases[wanted.name] = seen
        if isinstance(seen, ServerRefusal) and seen.kind in _AWAY:
            break
    if hatchet is None:
        return Found(InsideLook(databases))
    ports |= ports_of(engine) if engine else frozenset()
    strange = {
        s.port for s in hatchet.sessions
        if on_this_machine(s.client) and (s.migrates or s.waits_for or (s.of_engine and s.port not in ports))
    }  # fmt: skip
    return Found(InsideLook(databases, hatchet, ports, clients_at(strange)))
