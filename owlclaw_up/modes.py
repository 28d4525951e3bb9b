"""The registry of modes, the choice between them with its reasons, and the wanted state of the chosen one. Pure.

One place to add a mode: an entry of `MODES` with its obstacle (why it cannot be used here) and its steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from owlclaw_up.errors import (
    DatabaseNotOurs,
    DurableRequired,
    EngineUnusable,
    EnvFileRefused,
    ModeBlocked,
    NoFreePort,
    PortDenied,
    PortTaken,
    PostgresUnusable,
    PreconditionError,
    RolePasswordUnknown,
)
from owlclaw_up.facts import DatabasesLook, Facts, ServerCandidate
from owlclaw_up.host.base import ServerLogin, ServerLook, ServerRefusal
from owlclaw_up.host.embedded import SUPERUSER
from owlclaw_up.host.engines import UNSTAMPED, EngineRefused, version_tuple
from owlclaw_up.model import Absent, Decision, Mode, Obstacle, Rejected, Unknown, found
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings, wanted_databases
from owlclaw_up.spec import (
    ADMIN_EMAIL,
    EMBEDDED_MAX_CONNECTIONS,
    HATCHET_DATABASE,
    TENANT_ID,
    DatabaseSpec,
    EngineBinaries,
    EngineSpec,
    Ports,
    PostgresSpec,
    StackSpec,
)

OLDEST_POSTGRES = 140000
# Hatchet's own migration makes the extension without IF NOT EXISTS: hatchet, migration 20260522014401.
BTREE_GIST_MIGRATION = 20260522014401
# Each engine process opens three pools of max_conns + 10 connections (hatchet, pkg/config/loader).
_POOLS, _POOL_EXTRA, _KEPT_FREE = 3, 10, 20
_GET_ENGINE = "owlclaw-up engine import DIR, or OWLCLAW_UP_ENGINE_DIR=DIR owlclaw-up"
_PUBLIC_PORTS = {"dashboard": "dashboard-port", "grpc": "grpc-port", "postgres": "postgres-port"}
_PURPOSES = {
    "dashboard": "the dashboard",
    "grpc": "gRPC",
    "postgres": "our PostgreSQL",
    "api": "the engine's API",
    "frontend": "the engine's frontend",
    "health": "the engine's health check",
}


@dataclass(frozen=True)
class ModeEntry:
    """A topology: whether its work survives a restart, and what stands against it on a machine."""

    mode: Mode
    durable: bool
    summary: str
    obstacle: Callable[[Facts, Settings], Obstacle | None]


def _postgres_obstacle(facts: Facts, settings: Settings, needs_engine: bool) -> Obstacle | None:
    """No server to use, and none that could be started.

    Of a server that was named, or that holds our databases, `choose_server` says better what is wrong with it.
    """
    if settings.admin_url.value is not None or not isinstance(facts.our_stack.on_server.server, Absent):
        return None
    candidates = found(facts.servers) or ()
    if any(isinstance(c.look, ServerLook) and _fault(c, needs_engine) is None for c in candidates):
        return None
    if found(facts.postgres_binaries):
        return None
    return Obstacle(
        "no PostgreSQL: none answers that could be used, and there are no server binaries to start one",
        "owlclaw-up --admin-url postgresql://postgres:...@localhost:5432/postgres",
    )


def _docker_modes_obstacle(facts: Facts, settings: Settings) -> Obstacle | None:
    docker = facts.docker
    why = docker.why if isinstance(docker, (Absent, Unknown)) else "Docker answers"
    return Obstacle(f"this version of owlclaw-up does not drive Docker yet ({why})", "owlclaw-up --mode native")


def _remote_obstacle(facts: Facts, settings: Settings) -> Obstacle | None:
    return Obstacle("this version of owlclaw-up does not set up a remote cluster yet", "owlclaw-up --mode native")


def _native_obstacle(facts: Facts, settings: Settings) -> Obstacle | None:
    looked = found(facts.engines) or ()
    engine = usable_engine(facts)
    if isinstance(engine, Obstacle):
        return engine
    if engine is None:
        refused = [r for r in looked if isinstance(r, EngineRefused)]
        if refused:
            return Obstacle(refused[0].why, f"{refused[0].hint}; or take another engine: {_GET_ENGINE}")
        why = facts.engines.why if isinstance(facts.engines, (Absent, Unknown)) else "no engine binaries at hand"
        return Obstacle(f"{why} (looked in the PATH and the engine cache)", _GET_ENGINE)
    return _postgres_obstacle(facts, settings, needs_engine=True)


def _mock_obstacle(facts: Facts, settings: Settings) -> Obstacle | None:
    return _postgres_obstacle(facts, settings, needs_engine=False)


MODES: Mapping[Mode, ModeEntry] = {
    entry.mode: entry
    for entry in (
        ModeEntry(
            Mode.HATCHET_ONLY, True, "PostgreSQL of this machine, Hatchet in a container", _docker_modes_obstacle
        ),
        ModeEntry(Mode.FULL, True, "PostgreSQL and Hatchet in containers", _docker_modes_obstacle),
        ModeEntry(Mode.NATIVE, True, "PostgreSQL and Hatchet as processes of this machine", _native_obstacle),
        ModeEntry(Mode.MOCK, False, "PostgreSQL, and tasks run in your own process", _mock_obstacle),
        ModeEntry(Mode.REMOTE, True, "a Hatchet cluster somewhere else", _remote_obstacle),
    )
}
_AUTO_ORDER = (Mode.HATCHET_ONLY, Mode.FULL, Mode.NATIVE, Mode.MOCK)


def usable_engine(facts: Facts) -> EngineBinaries | Obstacle | None:
    """The engine that would be started; an obstacle where it is too old for the installed hatchet-sdk."""
    for engine in found(facts.engines) or ():
        if isinstance(engine, EngineBinaries):
            sdk = found(facts.sdk)
            if sdk and version_tuple(engine.version) < version_tuple(sdk.floor):
                stamped = "was built without a version stamp" if engine.version == UNSTAMPED else "is too old"
                return Obstacle(
                    f"the engine in {engine.directory} ({engine.version}) {stamped}: hatchet-sdk {sdk.version} "
                    f"drives engines from {sdk.floor} on",
                    "take a newer engine, or an older hatchet-sdk: pip install 'hatchet-sdk<1'",
                )
            return engine
    return None


def choose(facts: Facts, settings: Settings, ledger: Ledger) -> Decision:
    """The mode, where the choice came from, and why not the others.

    Raises:
        ModeBlocked, EngineUnusable: a mode that was asked for cannot be used here.
        DurableRequired: only `mock` is left, and a durable mode is required.
    """
    obstacles = {mode: entry.obstacle(facts, settings) for mode, entry in MODES.items()}
    asked = settings.mode
    if asked.value is not None:
        mode, source = asked.value, asked.source
        why = f"asked for by {asked.origin}"
        blocked = obstacles[mode]
        if blocked is not None:
            refused = [r for r in found(facts.engines) or () if isinstance(r, EngineRefused)]
            if mode is Mode.NATIVE and refused and blocked.why == refused[0].why:
                raise EngineUnusable(refused[0].code, blocked.why, hint=blocked.hint)
            if mode is Mode.NATIVE and isinstance(usable_engine(facts), Obstacle):
                raise EngineUnusable("engine-too-old", blocked.why, hint=blocked.hint)
            raise ModeBlocked(mode.value, blocked.why, blocked.hint)
    else:
        kept = Mode(ledger.state.mode) if ledger.state.mode in {m.value for m in Mode} else None
        # A mode that was only the best to be had then is not worth keeping over a durable one now.
        if kept is not None and obstacles[kept] is None and MODES[kept].durable:
            mode, source, why = kept, "state", "the last successful up used it, and nothing stands in its way"
        else:
            open_modes = [m for m in _AUTO_ORDER if obstacles[m] is None]
            if not open_modes:
                blocked = obstacles[Mode.MOCK]
                assert blocked is not None
                raise ModeBlocked(Mode.MOCK.value, blocked.why, blocked.hint)
            mode, source = open_modes[0], "auto"
            why = _why(mode, facts)
    rejected = tuple(Rejected(other, _why_not(other, mode, obstacles[other])) for other in MODES if other is not mode)
    durable = MODES[mode].durable
    native = obstacles[Mode.NATIVE]
    hint = "" if durable else "for a durable mode: owlclaw-up --mode native"
    if not durable and native is not None:
        hint = f"not native: {native.why}; for a durable mode: {native.hint}"
    if settings.require.value == "durable" and not durable:
        against = [(r.mode.value, r.why) for r in rejected if MODES[r.mode].durable]
        raise DurableRequired(against, native.hint if native else _GET_ENGINE)
    return Decision(mode, source, why, rejected, durable, hint)


def _why(mode: Mode, facts: Facts) -> str:
    if mode is Mode.NATIVE:
        engine = usable_engine(facts)
        assert isinstance(engine, EngineBinaries)
        return f"engine {engine.version} is at hand ({engine.source}), and no mode with Docker can be used"
    return "nothing durable can be had here; tasks run in your own process only"


def _why_not(mode: Mode, chosen: Mode, obstacle: Obstacle | None) -> str:
    if obstacle is not None:
        return obstacle.why
    if mode is Mode.MOCK:
        return "a durable mode is possible"
    return f"possible; {chosen.value} was asked for" if chosen is Mode.MOCK else f"{chosen.value} comes first"


def choose_server(facts: Facts, settings: Settings, ledger: Ledger, mode: Mode) -> ServerLook | None:
    """The user's own server to use, or None for an embedded one.

    Raises:
        PostgresUnusable: a server that was asked for, or that holds our databases, cannot be used.
    """
    kept = ledger.recall("postgres")
    candidates = found(facts.servers) or ()
    needs_engine = mode is not Mode.MOCK
    if settings.admin_url.value is not None:
        if not candidates:
            why = facts.servers.why if isinstance(facts.servers, (Absent, Unknown)) else "no answer"
            raise PostgresUnusable(
                "postgres-unreachable",
                f"the PostgreSQL of {settings.admin_url.origin} did not answer: {why}",
                hint="check host and port in the URL",
            )
        return _require(candidates[0], needs_engine)
    if kept.get("kind") == "local":
        server = facts.our_stack.on_server.server
        look = found(server)
        if look is None:
            why = server.why if isinstance(server, (Absent, Unknown)) else ""
            raise PostgresUnusable(
                "postgres-unreachable",
                f"the PostgreSQL that holds our databases ({kept.get('where')}) cannot be used",
                hint="start it, or give its admin login again: owlclaw-up --admin-url postgresql://...",
                detail=why,
            )
        return look
    if kept.get("kind") == "embedded":
        return None
    for candidate in candidates:
        if isinstance(candidate.look, ServerLook) and _fault(candidate, needs_engine) is None:
            return candidate.look
    return None


def _require(candidate: ServerCandidate, needs_engine: bool) -> ServerLook:
    fault = _fault(candidate, needs_engine)
    if fault is not None:
        raise fault
    assert isinstance(candidate.look, ServerLook)
    return candidate.look


def _fault(candidate: ServerCandidate, needs_engine: bool) -> PostgresUnusable | None:
    """What stands against using a server, or None."""
    look, where, source = candidate.look, candidate.login.where, candidate.source
    if isinstance(look, ServerRefusal):
        texts = {
            "malformed": (f"the URL of {source} is no PostgreSQL URL", "postgresql://user:password@host:5432/postgres"),
            "refused": (f"nobody listens at {where} ({source})", "start that server, or correct host and port"),
            "unreachable": (f"{where} ({source}) cannot be reached", "correct host and port, or check the network"),
            "login": (f"{where} answers, and refuses the login of {source}", "correct user and password in the URL"),
            "no-database": (f"{where} has no such database ({source})", "end the URL in /postgres"),
            "not-postgres": (f"what listens at {where} is no PostgreSQL ({source})", "correct host and port"),
            "starting": (
                f"{where} is starting up or shutting down ({source})",
                "wait for that server, then: owlclaw-up",
            ),
            "too-many-connections": (
                f"{where} has no free connections ({source})",
                "close idle sessions there, or raise its max_connections; then: owlclaw-up",
            ),
            "privilege": (f"{where} lets the login of {source} into no database", "use a login with more rights"),
            "offline": (f"{where} ({source}) is another machine, and offline is set", "leave out --offline"),
            "tls": (f"{where} and this client do not agree on TLS ({source})", "add ?sslmode=require or disable"),
        }
        message, hint = texts.get(look.kind, (f"{where} cannot be used ({source})", "see the detail"))
        return PostgresUnusable(f"postgres-{look.kind}", message, hint=hint, detail=look.detail)
    if look.version_num < OLDEST_POSTGRES:
        return PostgresUnusable(
            "postgres-too-old",
            f"{where} runs PostgreSQL {look.version}; Hatchet needs 14 or newer",
            hint="upgrade it, or let owlclaw-up start one of its own: leave out --admin-url",
        )
    if candidate.missing:
        missing = " and ".join(
            n for n, has in (("CREATEDB", look.createdb), ("CREATEROLE", look.createrole)) if not has
        )
        return PostgresUnusable(
            "postgres-privileges",
            f"the login {look.user!r} on {where} lacks {missing}, and something is to be made there",
            hint=f"as a superuser there: ALTER ROLE {look.user} {missing.replace(' and ', ' ')}",
            detail=f"not there yet: {', '.join(candidate.missing)}",
        )
    if needs_engine and "btree_gist" not in look.extensions:
        return PostgresUnusable(
            "postgres-btree-gist",
            f"{where} has no btree_gist, which Hatchet's migrations create",
            hint=f"install its contrib package, on Debian: apt-get install postgresql-contrib (server {look.major})",
        )
    return None


def refused_servers(facts: Facts) -> list[ServerCandidate]:
    """Servers that answer and cannot be used: somebody's, so they are left alone and said."""
    return [
        c
        for c in found(facts.servers) or ()
        if isinstance(c.look, ServerRefusal) and c.look.kind not in ("refused", "malformed")
    ]


def design(
    facts: Facts, decision: Decision, server: ServerLook | None, on_server: DatabasesLook, settings: Settings,
    ledger: Ledger,
) -> StackSpec:  # fmt: skip
    """The wanted state, every value fixed. An existing value wins over a generated one.

    Args:
        server: the user's own server, None for an embedded one.
        on_server: what that server has of our databases and roles.

    Raises:
        PortTaken, PortDenied, NoFreePort: a public port cannot be had.
        RolePasswordUnknown, DatabaseNotOurs, EnvFileRefused, PostgresUnusable: something of the user's is in the way.
    """
    engine = usable_engine(facts) if decision.mode is Mode.NATIVE else None
    check_env_file(facts)
    ports = _ports(facts, settings, ledger, server, wants_engine=engine is not None)
    postgres = _postgres_spec(facts, server, ports, ledger)
    databases = _database_specs(settings, ledger, on_server)
    engine_spec = None
    if isinstance(engine, EngineBinaries):
        _check_btree_gist(on_server, postgres)
        free = postgres.max_connections - _KEPT_FREE
        engine_spec = EngineSpec(
            binaries=engine,
            admin_email=ADMIN_EMAIL,
            admin_password=settings.admin_password.value or ledger.password("dashboard"),
            tenant=TENANT_ID,
            max_conns=max(5, min(50, free // _POOLS - _POOL_EXTRA)),
            rabbitmq=settings.rabbitmq_url.value,
        )
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
    )


def _ports(facts: Facts, settings: Settings, ledger: Ledger, server: ServerLook | None, wants_engine: bool) -> Ports:
    choices = found(facts.ports)
    if choices is None:
        why = facts.ports.why if isinstance(facts.ports, (Absent, Unknown)) else ""
        raise PreconditionError(f"the ports of this machine could not be looked at: {why}", hint="owlclaw-up plan")
    ours: set[str] = set()
    if facts.our_stack.engine_process is not None:
        ours |= {"dashboard", "grpc", "api", "frontend", "health"}
    if facts.our_stack.server_process is not None:
        ours.add("postgres")
    numbers: dict[str, int] = {}
    for purpose, choice in choices.items():
        needed = server is None if purpose == "postgres" else wants_engine
        wanted = choice.wanted
        kept = ledger.state.ports.get(purpose)
        if purpose in ours and wanted.port == kept:
            numbers[purpose] = wanted.port
            continue
        setting = _PUBLIC_PORTS.get(purpose)
        asked = setting is not None and getattr(settings, setting.replace("-", "_")).explicit
        # A public port that is written into tokens and dotenv files never moves silently.
        if needed and setting is not None and (asked or kept == wanted.port):
            if wanted.state == "busy":
                raise PortTaken(wanted.port, _PURPOSES[purpose], str(wanted.owner or "another process"), setting)
            if wanted.state == "denied":
                raise PortDenied(wanted.port, _PURPOSES[purpose], wanted.why, setting)
        if choice.free is None:
            if needed:
                raise NoFreePort(_PURPOSES[purpose], wanted.port, wanted.port + 200)
            numbers[purpose] = wanted.port
            continue
        numbers[purpose] = choice.free
    if server is not None:
        numbers["postgres"] = server.login.port or 5432
    return Ports(**numbers)


def moved_ports(facts: Facts, spec: StackSpec) -> list[str]:
    """What to say of default ports that somebody else has."""
    notes = []
    choices = found(facts.ports) or {}
    ports = dataclasses.asdict(spec.ports)
    for purpose in ("dashboard", "grpc", "postgres"):
        needed = spec.postgres.embedded if purpose == "postgres" else spec.engine is not None
        choice = choices.get(purpose)
        if needed and choice and choice.wanted.port != ports[purpose] and choice.wanted.state != "free":
            taken = (
                f"taken by {choice.wanted.owner or 'another process'}"
                if choice.wanted.state == "busy"
                else f"reserved by the system ({choice.wanted.why})"
            )
            notes.append(
                f"port {choice.wanted.port} is {taken}; {_PURPOSES[purpose]} uses {ports[purpose]}, and keeps it"
            )
    return notes


def _postgres_spec(facts: Facts, server: ServerLook | None, ports: Ports, ledger: Ledger) -> PostgresSpec:
    if server is not None:
        return PostgresSpec(
            "local", server.login, server.source, server.max_connections, server.identity
        )  # fmt: skip
    binaries = found(facts.postgres_binaries)
    admin = ServerLogin("127.0.0.1", ports.postgres, SUPERUSER, ledger.password(SUPERUSER))
    return PostgresSpec(
        "embedded", admin, "embedded", EMBEDDED_MAX_CONNECTIONS, binaries=binaries[0] if binaries else None
    )


def _database_specs(settings: Settings, ledger: Ledger, on_server: DatabasesLook) -> tuple[DatabaseSpec, ...]:
    specs = []
    server = found(on_server.server)
    where = server.login.where if server else "the server"
    for wanted in wanted_databases(settings):
        login = on_server.logins.get(wanted.role)
        if login is not None and login.password is None:
            raise RolePasswordUnknown(wanted.role, wanted.name, where, ledger.secrets_path)
        seen = on_server.databases.get(wanted.name)
        if seen is not None and seen.exists and seen.owner != wanted.role:
            raise DatabaseNotOurs(wanted.name, seen.owner, wanted.role, where)
        password = login.password if login is not None and login.password else ledger.password(wanted.role)
        specs.append(DatabaseSpec(wanted.name, wanted.role, password, wanted.extensions))
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
