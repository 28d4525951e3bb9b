"""Looks at the whole PostgreSQL server: does it let us in, is it one that Hatchet can use, does it take what we write. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from owlclaw_up.checks import databases
from owlclaw_up.checks.base import UP, Evidence, Fix, Look, Seen, of_error, ok
from owlclaw_up.checks.preconditions import check_of
from owlclaw_up.checks.psql import by_psql, password_place
from owlclaw_up.cluster_design import KEPT_FREE, engine_connections
from owlclaw_up.errors import UpError
from owlclaw_up.facts import DatabasesLook
from owlclaw_up.facts.servers import admin_login
from owlclaw_up.host.base import ServerLook, sql_name
from owlclaw_up.host.postgres_inspection import DatabaseInside
from owlclaw_up.model import Absent, Mode, found
from owlclaw_up.server_choice import OLDEST_POSTGRES, kept_fault, of_refusal, refused_servers, server_fault
from owlclaw_up.setting_values import DatabaseSetting
from owlclaw_up.settings import wanted_databases
from owlclaw_up.spec import EngineSpec, NativeEngine

# The newest that Hatchet was seen to run on.
_NEWEST_MAJOR = 18
_OURS = ("embedded", "container")


def inside_of(evidence: Evidence) -> dict[str, DatabaseInside]:
    """The databases that let their owners in, by name."""
    look = found(evidence.facts.inside)
    return {n: d for n, d in look.databases.items() if isinstance(d, DatabaseInside)} if look else {}


def on_server_of(evidence: Evidence) -> DatabasesLook:
    return evidence.facts.our_stack.on_server


def wanted_by(evidence: Evidence) -> tuple[DatabaseSetting, ...]:
    return wanted_databases(evidence.settings)


def _keeps_out(evidence: Evidence) -> UpError | None:
    """What stands against the server that is named, or that holds our databases."""
    candidates = found(evidence.facts.servers) or ()
    if evidence.settings.admin_url.value is not None and candidates:
        named = server_fault(candidates[0], evidence.mode not in (Mode.MOCK, Mode.REMOTE))
        if named is not None:
            return named
    kind, on_server = evidence.ledger.recall("postgres").get("kind"), evidence.facts.our_stack.on_server
    if not evidence.standing or found(on_server.server) is not None:
        return None
    if kind == "local":
        return kept_fault(evidence.facts, evidence.ledger)
    admin = admin_login(evidence.ledger)
    if on_server.refusal is None or admin is None:
        return None
    lost = f"restore {evidence.ledger.secrets_path}, or give the data up: owlclaw-up reset"
    return of_refusal(
        on_server.refusal, admin.where, "owlclaw-up", {"login": lost, "unreachable": "start it anew: owlclaw-up down; owlclaw-up"}
    )  # fmt: skip


def speaks(name: str, rest: Callable[[Evidence, ServerLook], Iterator[Seen]]) -> Look:
    """A look at one kind of fault of the whole server; of a server that lets us in, the rest."""

    def look(evidence: Evidence) -> Iterator[Seen]:
        error = _keeps_out(evidence)
        if error is not None and check_of(error) == name:
            yield of_error(error)
            return
        server = _server(evidence)
        if error is None and server is not None:
            yield from rest(evidence, server)

    return look


def _server(evidence: Evidence) -> ServerLook | None:
    """The server that holds our databases, or would: it lets our admin in."""
    on_server = found(on_server_of(evidence).server)
    if on_server is not None or evidence.standing:
        return on_server
    candidates = found(evidence.facts.servers) or ()
    named = candidates[0].look if candidates and evidence.settings.admin_url.value is not None else None
    return named if isinstance(named, ServerLook) else None


def or_well(title: str, look: Look) -> Look:
    """A look at what stands; one that saw nothing says what is well, where our server was looked at."""

    def whole(evidence: Evidence) -> Iterator[Seen]:
        if not evidence.standing or found(on_server_of(evidence).server) is None:
            return
        seen = list(look(evidence))
        yield from seen or [ok(title)]

    return whole


def locked_out(evidence: Evidence, check: str) -> list[Seen]:
    """Roles of ours that are refused, as far as that is a check's fault."""
    wanted = wanted_by(evidence) if evidence.standing else ()
    errors = [e for d in wanted for e in databases.locked_out(d, on_server_of(evidence))]
    return [of_error(e) for e in errors if check_of(e) == check]


def url(evidence: Evidence, server: ServerLook) -> Iterator[Seen]:
    if evidence.settings.admin_url.value is not None:
        yield ok(f"{evidence.settings.admin_url.origin} is the URL of a PostgreSQL")


def reach(evidence: Evidence) -> Iterator[Seen]:
    kept, stack = evidence.ledger.recall("postgres"), evidence.facts.our_stack
    absent = stack.on_server.server
    if evidence.standing and kept.get("kind") in _OURS and isinstance(absent, Absent):
        process = evidence.ledger.process("postgres")
        what = f"127.0.0.1:{evidence.ours('postgres')}"
        detail = absent.why
        if kept["kind"] == "embedded":
            ended = f"its process (pid {process.pid}) has ended by itself: owlclaw-up logs postgres" if process else ""
            detail = ended or "it was stopped: owlclaw-up down"
        fix = Fix("start PostgreSQL", up=True)
        yield Seen("fail", f"PostgreSQL of this project is not running ({what})", detail, UP, UP, fix)
        return
    yield from speaks("postgres.reach", _same_server)(evidence)


def _same_server(evidence: Evidence, server: ServerLook) -> Iterator[Seen]:
    kept = evidence.ledger.recall("postgres")
    if evidence.standing and kept.get("kind") == "local" and kept.get("identity") not in (None, "", server.identity):
        where = server.login.where
        yield Seen(
            "fail", f"another PostgreSQL answers at {where} than the one that holds our databases",
            f"its system identifier is {server.identity}; that of ours was {kept['identity']}",
            "start the one of before in its place; the next up makes everything anew on this one: owlclaw-up plan",
        )  # fmt: skip
        return
    yield ok(f"PostgreSQL {server.version.partition(' ')[0]} answers at {server.login.where}")


def agreed(evidence: Evidence, server: ServerLook) -> Iterator[Seen]:
    yield ok(f"{server.login.where} and we agree on TLS")


def login(evidence: Evidence) -> Iterator[Seen]:
    seen = list(speaks("postgres.login", lambda e, s: iter([ok(f"{s.login.where} lets {s.user} in")]))(evidence))
    yield from seen
    if any(s.level == "fail" for s in seen) or evidence.settings.admin_url.value is not None:
        return
    # Nobody named these, so they are only said.
    told = set()
    for candidate in refused_servers(evidence.facts):
        fault = server_fault(candidate, needs_engine=False)
        if fault is None or candidate.login.where in told or check_of(fault) == "postgres.reach":
            continue
        told.add(candidate.login.where)
        yield Seen(
            "info", f"{fault.message}: it is left alone", fault.detail.splitlines()[-1] if fault.detail else "",
            "to use it: owlclaw-up --admin-url postgresql://...",
        )  # fmt: skip


def version(evidence: Evidence, server: ServerLook) -> Iterator[Seen]:
    version = server.version.partition(" ")[0]
    if server.version_num < OLDEST_POSTGRES:
        yield Seen("fail", f"PostgreSQL {version} is too old: Hatchet needs 14 or newer", "", "upgrade it")
    elif server.major > _NEWEST_MAJOR:
        title = f"PostgreSQL {version} is newer than what Hatchet was seen to run on ({_NEWEST_MAJOR})"
        yield Seen("info", title, server.login.where, "nothing, as long as it works")
    else:
        yield ok(f"PostgreSQL {version}")


def connections(evidence: Evidence, server: ServerLook) -> Iterator[Seen]:
    seen = locked_out(evidence, "postgres.connections")
    used = max((d.connections for d in inside_of(evidence).values()), default=0)
    seen += databases.crowd(used, server.max_connections) if not seen else ()
    spec = evidence.spec
    if spec is not None and isinstance(spec.engine, EngineSpec) and not (spec.compose and spec.compose.adopted):
        fellows = spec.engine.fellows if isinstance(spec.engine, NativeEngine) else ()
        pools = [spec.engine.max_conns, *(fellow.max_conns for fellow in fellows)]
        needed = sum(engine_connections(pool) for pool in pools)
        if needed + KEPT_FREE > server.max_connections:
            seen.append(
                Seen(
                    "warn",
                    f"max_connections is {server.max_connections}, and Hatchet's engine alone may open {needed}",
                    f"with {KEPT_FREE} for the application and everybody else, {needed + KEPT_FREE} are wanted",
                    "raise it in that server's settings, and start it again",
                    by_psql(evidence, "postgres", "ALTER SYSTEM SET max_connections = 200"),
                )
            )
    yield from seen or [ok(f"{used} of {server.max_connections} connections are in use")]


def btree_gist(evidence: Evidence, server: ServerLook) -> Iterator[Seen]:
    if evidence.with_own_engine and evidence.standing:
        yield from list(databases.btree_gist(on_server_of(evidence))) or [ok("the server has btree_gist")]


def read_only(evidence: Evidence, server: ServerLook) -> Iterator[Seen]:
    if not evidence.standing:
        return
    seen: list[Seen] = []
    for wanted in wanted_by(evidence):
        inside = inside_of(evidence).get(wanted.name)
        if inside is not None and inside.standby and not seen:
            seen.append(
                Seen(
                    "fail",
                    f"{server.login.where} is a standby, which takes no writes",
                    "pg_is_in_recovery() says true",
                    "let our databases be on its primary, or end the recovery",
                    by_psql(evidence, "postgres", "SELECT pg_promote()"),
                )
            )
        elif inside is not None and inside.read_only and not inside.standby:
            command = by_psql(evidence, "postgres", *_writable(inside.read_only, wanted))
            title = f"sessions of {wanted.role} in {wanted.name} are read-only"
            detail = f"default_transaction_read_only is on, by: {inside.read_only}"
            seen.append(Seen("fail", title, detail, "take that back" + password_place(evidence), command))
    yield from seen or [ok("our databases take writes")]


def _writable(source: str, wanted: DatabaseSetting) -> tuple[str, ...]:
    """The statements that take the setting back, by where PostgreSQL says that it comes from."""
    role, name, what = sql_name(wanted.role), sql_name(wanted.name), "default_transaction_read_only"
    statements = {
        "database": f"ALTER DATABASE {name} RESET {what}",
        "user": f"ALTER ROLE {role} RESET {what}",
        "database user": f"ALTER ROLE {role} IN DATABASE {name} RESET {what}",
        "global": f"ALTER ROLE ALL RESET {what}",
    }
    if source in statements:
        return (statements[source],)
    return (f"ALTER SYSTEM SET {what} = off", "SELECT pg_reload_conf()")
