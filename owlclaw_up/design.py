"""The wanted state of the chosen mode: every port, name and password fixed before anything is touched. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from owlclaw_up.cluster_design import fellows, pool_shares, refuse_elsewhere, refuse_sidecars
from owlclaw_up.compose_design import COMPOSE_FILES, adoptable, compose_spec, learn_by_hand, published_ports
from owlclaw_up.errors import (
    DatabaseNotOurs,
    EnvFileRefused,
    NoFreePort,
    PortDenied,
    PortTaken,
    PostgresUnusable,
    PreconditionError,
    RolePasswordUnknown,
)
from owlclaw_up.facts import DatabasesLook, Facts
from owlclaw_up.facts.machine import INNER_PORTS, port_range
from owlclaw_up.host.base import PortLook, ServerLogin, ServerLook
from owlclaw_up.host.embedded import SUPERUSER
from owlclaw_up.model import Absent, Decision, Mode, Unknown, found
from owlclaw_up.modes import MODES, native_engine
from owlclaw_up.receipts import Ledger
from owlclaw_up.remote_design import remote_engine
from owlclaw_up.server_choice import of_role_refusal
from owlclaw_up.setting_values import DatabaseSetting
from owlclaw_up.settings import Settings, wanted_databases
from owlclaw_up.spec import (
    ADMIN_EMAIL,
    CONTAINER_MAX_CONNECTIONS,
    EMBEDDED_MAX_CONNECTIONS,
    HATCHET_DATABASE,
    TENANT_ID,
    ContainerEngine,
    DatabaseSpec,
    EngineBinaries,
    EngineSpec,
    NativeEngine,
    Ports,
    PostgresSpec,
    RemoteEngine,
    Sidecar,
    SidecarEngine,
    StackSpec,
)
from owlclaw_up.upgrade_record import refuse_older

# Hatchet's own migration makes the extension without IF NOT EXISTS: hatchet, migration 20260522014401.
BTREE_GIST_MIGRATION = 20260522014401
PUBLIC_PORTS = {"dashboard": "dashboard-port", "grpc": "grpc-port", "postgres": "postgres-port"}
PURPOSES = {
    "dashboard": "the dashboard",
    "grpc": "gRPC",
    "postgres": "our PostgreSQL",
    "api": "the engine's API",
    "frontend": "the engine's frontend",
    "health": "the engine's health check",
}


def design(
    facts: Facts, decision: Decision, server: ServerLook | None, on_server: DatabasesLook, settings: Settings,
    ledger: Ledger,
) -> StackSpec:  # fmt: skip
    """The wanted state, every value fixed. An existing value wins over a generated one.

    A stack lifted by hand is taken as it is: its ports, its passwords, its own keys.

    Args:
        server: the user's own server, None for an embedded one.
        on_server: what that server has of our databases and roles.

    Raises:
        PortTaken, PortDenied, NoFreePort: a public port cannot be had.
        SidecarRefused: Hatchet's embedded engine cannot do what is asked for.
        RemoteUnusable: in `remote`, the server cannot be used as it is given.
        RolePasswordUnknown, DatabaseNotOurs, EnvFileRefused, PostgresUnusable: something of the user's is in the way.
    """
    refuse_elsewhere(settings, decision.mode)
    check_env_file(facts)
    compose = compose_spec(facts, decision.mode, settings, ledger)
    if compose is not None and compose.adopted:
        learn_by_hand(facts, ledger)
    ports = _ports(facts, settings, ledger, server, decision.mode)
    postgres = _postgres_spec(facts, server, ports, ledger, decision.mode)
    if settings.remote_database_url.value is not None and decision.mode is Mode.REMOTE:
        postgres = dataclasses.replace(postgres, given=True)
    databases = database_specs(wanted_databases(settings), ledger, on_server)
    engine_spec: EngineSpec | RemoteEngine | None = None
    if decision.mode is Mode.REMOTE:
        engine_spec = remote_engine(facts, settings)
    elif MODES[decision.mode].durable:
        _check_btree_gist(on_server, postgres)
        native = native_engine(facts, settings) if compose is None else None
        if isinstance(native, Sidecar):
            refuse_sidecars(settings)
        several = isinstance(native, EngineBinaries)
        shares = pool_shares(facts, settings, ledger, postgres.max_connections, several=several)
        told: dict[str, Any] = {
            "admin_email": ADMIN_EMAIL,
            "admin_password": settings.admin_password.value or ledger.password("dashboard"),
            "tenant": TENANT_ID,
            "max_conns": shares[0],
            "rabbitmq": settings.rabbitmq_url.value,
        }
        if compose is not None:
            engine_spec = ContainerEngine(**told, image=settings.hatchet_image.value)
        else:
            seen = on_server.databases.get(HATCHET_DATABASE)
            assert isinstance(native, (EngineBinaries, Sidecar))
            source = native.source if isinstance(native, Sidecar) else str(native.directory)
            refuse_older(ledger, postgres, native.version, source, seen)
            if isinstance(native, Sidecar):
                engine_spec = SidecarEngine(**told, sidecar=native)
            else:
                engine_spec = NativeEngine(**told, binaries=native, fellows=fellows(facts, shares, ports.postgres))
    return StackSpec(
        project=ledger.project,
        state_dir=ledger.directory,
        mode=decision.mode,
        ports=ports,
        postgres=postgres,
        databases=databases,
        engine=engine_spec,
        env_path=ledger.project / settings.env_file.value,
        env_names=settings.env_names.value,
        server_url_is=settings.hatchet_server_url.value,
        token_lifetime_hours=settings.token_lifetime.value,
        smoke=settings.smoke.value,
        smoke_again=settings.smoke.explicit,
        timeout=settings.timeout.value,
        compose=compose,
    )


def _ports(facts: Facts, settings: Settings, ledger: Ledger, server: ServerLook | None, mode: Mode) -> Ports:
    if found(facts.ports) is None:
        why = facts.ports.why if isinstance(facts.ports, (Absent, Unknown)) else ""
        raise PreconditionError(f"the ports of this machine could not be looked at: {why}", hint="owlclaw-up plan")
    numbers: dict[str, int] = {}
    for purpose, verdict in port_verdicts(facts, settings, ledger, mode, own_server=server is None).items():
        if not isinstance(verdict, int):
            raise verdict
        numbers[purpose] = verdict
    if server is not None:
        numbers["postgres"] = server.login.port or 5432
    return Ports(**numbers)


def port_verdicts(
    facts: Facts, settings: Settings, ledger: Ledger, mode: Mode, *, own_server: bool
) -> dict[str, int | PortTaken | PortDenied | NoFreePort]:
    """The port of each purpose in a mode, or what stands against having one.

    Args:
        own_server: whether PostgreSQL is one of ours.
    """
    choices = found(facts.ports) or {}
    ours: set[str] = set()
    if facts.our_stack.engine_process is not None:
        ours |= {"dashboard", "grpc", *INNER_PORTS}
    if facts.our_stack.server_process is not None:
        ours.add("postgres")
    running = published_ports(facts)
    ours |= {purpose for purpose, port in running.items() if ledger.state.ports.get(purpose) == port}
    docker = found(facts.docker)
    if not ledger.exists and mode in COMPOSE_FILES and docker is not None and docker.by_hand is None:
        # A stack whose state was lost is ours all the same: compose finds it by its project.
        ours |= {purpose for purpose, port in running.items() if choices[purpose].wanted.port == port}
    by_hand = published_ports(facts, stopped=True) if adoptable(facts, mode) else {}
    verdicts: dict[str, int | PortTaken | PortDenied | NoFreePort] = {}
    for purpose, choice in choices.items():
        needed = port_needed(purpose, mode, own_server)
        wanted, kept = choice.wanted, ledger.state.ports.get(purpose)
        setting = PUBLIC_PORTS.get(purpose)
        asked = setting is not None and getattr(settings, setting.replace("-", "_")).explicit
        # A public port that is written into tokens and dotenv files never moves silently.
        written = kept == wanted.port and bool(ledger.vault.token or ledger.state.mode)
        if purpose in by_hand:
            verdicts[purpose] = by_hand[purpose]
        elif purpose in ours and wanted.port in (kept, running.get(purpose)):
            verdicts[purpose] = wanted.port
        elif needed and setting is not None and (asked or written) and wanted.state == "busy":
            verdicts[purpose] = PortTaken(wanted.port, PURPOSES[purpose], _owner(facts, wanted), setting)
        elif needed and setting is not None and (asked or written) and wanted.state == "denied":
            verdicts[purpose] = PortDenied(wanted.port, PURPOSES[purpose], wanted.why, setting)
        elif not needed:
            # Nobody of ours listens there in this mode: what was chosen stays.
            verdicts[purpose] = wanted.port if asked or kept else choice.free or wanted.port
        elif choice.free is None:
            verdicts[purpose] = NoFreePort(PURPOSES[purpose], wanted.port, port_range(wanted.port)[-1])
        else:
            verdicts[purpose] = choice.free
    return verdicts


def _owner(facts: Facts, look: PortLook) -> str:
    """Who has a port, for the reader: a container by its name, not by the proxy that Docker puts before it."""
    docker = found(facts.docker)
    container = docker.published.get(look.port) if docker else None
    return f"container {container}" if container else str(look.owner or "another process")


def why_not_free(facts: Facts, look: PortLook) -> str:
    """What keeps a server of ours from listening on a port."""
    if look.state == "free":
        return "wanted for something else of ours"
    return f"taken by {_owner(facts, look)}" if look.state == "busy" else f"reserved by the system ({look.why})"


def port_needed(purpose: str, mode: Mode, own_server: bool) -> bool:
    """Whether something of ours shall listen on the port of that purpose."""
    if purpose == "postgres":
        return own_server
    if mode is Mode.REMOTE:
        return False
    # A container has inner ports of its own; in `hatchet-only` it may have to share this machine's.
    return MODES[mode].durable and (purpose not in INNER_PORTS or mode is not Mode.FULL)


def moved_ports(facts: Facts, spec: StackSpec) -> list[str]:
    """What to say of default ports that somebody else has."""
    notes = []
    choices = found(facts.ports) or {}
    ports = dataclasses.asdict(spec.ports)
    for purpose in ("dashboard", "grpc", "postgres"):
        choice = choices.get(purpose)
        if (
            port_needed(purpose, spec.mode, spec.postgres.ours)
            and choice
            and choice.wanted.port != ports[purpose]
            and choice.wanted.state != "free"
        ):
            notes.append(
                f"port {choice.wanted.port} is {why_not_free(facts, choice.wanted)}; "
                f"{PURPOSES[purpose]} uses {ports[purpose]}, and keeps it"
            )
    return notes


def _postgres_spec(
    facts: Facts, server: ServerLook | None, ports: Ports, ledger: Ledger, mode: Mode
) -> PostgresSpec:  # fmt: skip
    if server is not None:
        return PostgresSpec(
            "local", server.login, server.source, server.max_connections, server.identity
        )  # fmt: skip
    admin = ServerLogin("127.0.0.1", ports.postgres, SUPERUSER, ledger.password(SUPERUSER))
    if mode is Mode.FULL:
        return PostgresSpec("container", admin, "container", CONTAINER_MAX_CONNECTIONS)
    binaries, docker = found(facts.postgres_binaries), found(facts.docker)
    # One that an earlier version has started allows fewer until it is started anew.
    running = found(facts.our_stack.on_server.server) if facts.our_stack.server_process else None
    bridge = docker.look if mode is Mode.HATCHET_ONLY and docker else None
    most = running.max_connections if running else EMBEDDED_MAX_CONNECTIONS
    return PostgresSpec(
        "embedded", admin, "embedded", most, binaries=binaries[0] if binaries else None,
        bridge=bridge.gateway if bridge else "", bridge_subnet=bridge.subnet if bridge else "",
    )  # fmt: skip


def database_specs(
    wanted_ones: Sequence[DatabaseSetting], ledger: Ledger, on_server: DatabasesLook
) -> tuple[DatabaseSpec, ...]:
    """The databases that are wanted, each with its owner's password: the one that works, else one of ours.

    Raises:
        RolePasswordUnknown, DatabaseNotOurs: a role or a database of that name is somebody else's.
        PostgresUnusable: a role is let in by its password, and not into its database.
    """
    specs = []
    server = found(on_server.server)
    where = server.login.where if server else "the server"
    for wanted in wanted_ones:
        login = on_server.logins.get(wanted.role)
        if login is not None and login.password is None:
            if login.refusal is not None and login.refusal.kind != "login":
                raise of_role_refusal(login.refusal, where, wanted.role, wanted.name)
            words = login.refusal.detail if login.refusal else ""
            raise RolePasswordUnknown(wanted.role, wanted.name, where, ledger.secrets_path, words)
        seen = on_server.databases.get(wanted.name)
        if seen is not None and seen.exists and seen.owner != wanted.role and not wanted.given:
            raise DatabaseNotOurs(wanted.name, seen.owner, wanted.role, where)
        password = login.password if login is not None and login.password else ledger.password(wanted.role)
        specs.append(
            DatabaseSpec(
                wanted.name, wanted.role, password, wanted.extensions, utc=not wanted.given, given=wanted.given
            )
        )
    return tuple(specs)


def _check_btree_gist(on_server: DatabasesLook, postgres: PostgresSpec) -> None:
    """Hatchet creates the extension itself and fails where somebody was there first."""
    seen = on_server.databases.get(HATCHET_DATABASE)
    if seen is None or "btree_gist" not in seen.extensions or (seen.migration or 0) >= BTREE_GIST_MIGRATION:
        return
    raise PostgresUnusable(
        "postgres-btree-gist-exists",
        f"database {HATCHET_DATABASE!r} on {postgres.admin.where} has btree_gist already, and Hatchet's migration fails on that",
        hint=f'if nothing there uses it: psql -d {HATCHET_DATABASE} -c "DROP EXTENSION btree_gist"; then owlclaw-up',
    )


def check_env_file(facts: Facts) -> None:
    """The dotenv file can be edited without harm.

    Raises:
        EnvFileRefused: it is a directory, not UTF-8, read-only, unreadable, or tracked by git.
    """
    dotenv = found(facts.dotenv)
    if dotenv is None:
        why = facts.dotenv.why if isinstance(facts.dotenv, (Absent, Unknown)) else ""
        raise EnvFileRefused(facts.project, why, "ls -la")
    path = dotenv.path
    other = "or use another file: --env-file PATH"
    if dotenv.kind == "directory":
        raise EnvFileRefused(path, "it is a directory", f"move it away, {other}")
    if dotenv.kind == "unreadable":
        raise EnvFileRefused(path, f"it cannot be read: {dotenv.error}", f"ls -l {path}; {other}")
    if dotenv.kind == "missing":
        return
    if dotenv.error:
        raise EnvFileRefused(path, dotenv.error, f"save it as UTF-8, {other}")
    if dotenv.tracked:
        raise EnvFileRefused(
            path, "git tracks it, and secrets would be committed", f"git rm --cached {path.name}; {other}"
        )
    if not dotenv.mode & 0o200:
        raise EnvFileRefused(path, "it is read-only", f"chmod u+w {path}; {other}")
