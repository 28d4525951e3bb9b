"""What is inside Hatchet's database: migrations, indexes, engines that share it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from owlclaw_up.checks.base import DOCTOR_FIX, UP, Check, Evidence, Fix, Look, Seen, ok
from owlclaw_up.checks.postgres import OUT
from owlclaw_up.checks.psql import by_psql, password_place
from owlclaw_up.facts.containers import ENGINE
from owlclaw_up.facts.inside import InsideLook
from owlclaw_up.facts.servers import hatchet_login
from owlclaw_up.host.postgres_clients import Client
from owlclaw_up.host.postgres_inspection import HatchetInside, Partition, Session
from owlclaw_up.model import found
from owlclaw_up.receipts import STATE_DIR
from owlclaw_up.spec import HATCHET_DATABASE, TENANT_ID
from owlclaw_up.steps.mending import MendIndex

# Longer than hatchet-migrate holds its lock where nothing is wrong (0.1 s, seen with v0.104.7), or waits for others'.
_LONG = 3.0
# An engine says every 20 seconds that it is alive (seen with v0.104.7); the rest is room.
_HEARTBEAT = 25.0
_SHOWN = 3
_INSIDE = (*OUT, "postgres.role", "postgres.database")


def migration(version: int | None, expected: int | None, engine: str, mend: str) -> Iterator[Seen]:
    """`hatchet.migrations`, for `db status` too.

    Args:
        version: what the database is at; None where it was never migrated.
        expected: where the engine on record left it; None where none is.
        engine: its version.
        mend: the command that runs the engine's migrations.
    """
    if not expected or version == expected:
        return
    detail = f"it is at {version or 'none'}; engine {engine} left it at {expected}"
    if (version or 0) < expected:
        title = f"database {HATCHET_DATABASE} is behind the engine's own migrations"
        yield Seen("fail", title, detail, mend, mend, Fix("run Hatchet's migrations", up=True))
        return
    yield Seen(
        "warn", f"database {HATCHET_DATABASE} is ahead of the engine's own migrations", detail,
        "somebody's newer engine was there: take that one (engine_dir, hatchet_image), or a dump of before: owlclaw-up db restore",
        "owlclaw-up engine list",
    )  # fmt: skip


def _of_hatchet(look: Look) -> Look:
    """A look at the database of an environment with an engine of ours."""

    def whole(evidence: Evidence) -> Iterator[Seen]:
        if evidence.standing and evidence.with_own_engine:
            yield from look(evidence)

    return whole


def _inside(evidence: Evidence) -> HatchetInside | None:
    look = found(evidence.facts.inside)
    return look.hatchet if look else None


def _migrations(evidence: Evidence) -> Iterator[Seen]:
    seen = evidence.facts.our_stack.on_server.databases.get(HATCHET_DATABASE)
    kept = evidence.ledger.recall("engine")
    if seen is None:
        return
    told = list(migration(seen.migration, kept.get("migration"), str(kept.get("migrated_by")), UP))
    yield from told or [ok(f"Hatchet's migrations are at {seen.migration}, as the engine left them")]


def _is_behind(evidence: Evidence) -> bool:
    return any(s.level == "fail" for s in _migrations(evidence))


def _invalid_index(evidence: Evidence) -> Iterator[Seen]:
    inside = _inside(evidence)
    if inside is None:
        return
    names, login = inside.invalid_indexes, hatchet_login(evidence.settings, evidence.ledger)
    if not names or login is None:
        yield ok("every index is valid")
        return
    behind = _is_behind(evidence)
    how = "drop" if behind else "rebuild"
    many = f"{len(names)} indexes" if len(names) > 1 else f"index {names[0]}"
    statement = "DROP INDEX CONCURRENTLY {}" if behind else "REINDEX INDEX CONCURRENTLY {}"
    by_hand = by_psql(evidence, HATCHET_DATABASE, *(statement.format(name) for name in names[:_SHOWN]))
    steps = tuple(MendIndex(login, name, drop=behind) for name in names)
    yield Seen(
        "warn", f"{many} of Hatchet's database {'are' if len(names) > 1 else 'is'} invalid",
        f"pg_index.indisvalid is false: {_listed(names)}", f"{how} it; by hand: {by_hand}", DOCTOR_FIX,
        Fix(f"{how} the invalid indexes of Hatchet's database", steps, up=behind),
    )  # fmt: skip


def _migration_lock(evidence: Evidence) -> Iterator[Seen]:
    look = found(evidence.facts.inside)
    if look is None or look.hatchet is None:
        return
    by_pid = {s.pid: s for s in look.hatchet.sessions}
    seen = []
    for session in look.hatchet.sessions:
        if session.migrates and session.age >= _LONG:
            title = f"{_whose(session, look)} holds the lock of Hatchet's migrations since {_since(session, evidence)}"
            hint = "an engine that starts waits for it up to five minutes; end that session, unless it is at work"
            detail = f"backend pid {session.pid}, role {session.user}: {session.query}"
            seen.append(Seen("fail", title, detail, hint + password_place(evidence), _end(evidence, session)))
        elif session.waits_for and session.idle >= _LONG and not session.of_engine:
            holder = by_pid.get(session.waits_for[0])
            if holder is None or holder.migrates:
                continue
            title = f"{_whose(session, look)} waits for a lock that {_whose(holder, look)} holds since {_since(holder, evidence)}"
            detail = f"backend pid {session.pid}: {session.query}\nfor backend pid {holder.pid}: {holder.query}"
            hint = "end the session that holds it, unless it is at work"
            seen.append(Seen("warn", title, detail, hint + password_place(evidence), _end(evidence, holder)))
    yield from seen or [ok("nobody holds the lock of Hatchet's migrations")]


def _whose(session: Session, look: InsideLook) -> str:
    """Who is at the other end, as far as it is known."""
    client = look.clients.get(session.port)
    if client is not None:
        return f"{client.name} (pid {client.pid})"
    who = session.application or "a session"
    return f"{who} (backend pid {session.pid}{', from ' + session.client if session.client else ''})"


def _since(session: Session, evidence: Evidence) -> str:
    if session.age == float("inf"):
        return "a time that the server does not tell"
    return f"{datetime.fromtimestamp(evidence.now - session.age).astimezone():%H:%M:%S}"


def _end(evidence: Evidence, session: Session) -> str:
    return by_psql(evidence, HATCHET_DATABASE, f"SELECT pg_terminate_backend({session.pid})")


def _two_engines(evidence: Evidence) -> Iterator[Seen]:
    look = found(evidence.facts.inside)
    if look is None or look.hatchet is None:
        return
    sessions = apart = foreign_sessions(look)
    others = foreign_partitions(look.hatchet.partitions, _engine_age(evidence))
    if sessions is None:
        # Ours is in a container: two addresses, and a heartbeat that is not ours. One that ended has left but the latter.
        sessions = tuple(s for s in look.hatchet.sessions if s.of_engine)
        sessions = sessions if others and len({s.client for s in sessions}) > 1 else ()
    elif len(look.hatchet.partitions) < (2 if _engine_age(evidence) is not None else 1):
        # Not an engine: its own tools name their sessions alike.
        sessions = ()
    if not sessions:
        yield ok("one engine works on this database")
        return
    clients = {str(c): c for s in sessions if (c := look.clients.get(s.port)) is not None}
    places = sorted({s.client or "a unix socket" for s in sessions})
    title = f"another engine works on database {HATCHET_DATABASE}: {' and '.join(clients) or 'from ' + _listed(places)}"
    detail = (
        f"{len(sessions)} sessions server..., {'those of ours among them' if apart is None else 'none of them of ours'}; "
        f'{len(look.hatchet.partitions)} rows with a heartbeat of the last minute in "ControllerPartition"'
    )
    client = next(iter(clients.values()), None)
    yield Seen("warn", title, detail, "stop it, or give it another database", _stop(client) if client else "")


def _stop(client: Client) -> str:
    """What stops an engine: `down` in the project that it is of, else a signal."""
    path = Path(client.folder)
    if path.parent.name == STATE_DIR:
        return f"owlclaw-up down --project-dir {shlex.quote(str(path.parent.parent))}"
    return f"kill {client.pid}"


def _engine_age(evidence: Evidence) -> float | None:
    """Seconds since our engine was started; None where it does not run."""
    process = evidence.facts.our_stack.engine_process
    if process is not None and process.started:
        return evidence.now - process.started
    container = evidence.facts.containers.get(ENGINE) if evidence.with_docker else None
    if container is None or not container.running or not container.started_at:
        return None
    started = datetime.fromisoformat(container.started_at[:19] + "+00:00")
    return evidence.now - started.timestamp()


def foreign_sessions(look: InsideLook) -> tuple[Session, ...] | None:
    """Sessions of engines that are not ours; None where ours are not told from them."""
    if look.hatchet is None:
        return ()
    of_engines = [s for s in look.hatchet.sessions if s.of_engine]
    ours = [s for s in of_engines if s.port in look.engine_ports]
    if of_engines and look.engine_ports and not ours:
        return None
    if not look.engine_ports:
        return None
    return tuple(s for s in of_engines if s.port not in look.engine_ports)


def foreign_partitions(partitions: Sequence[Partition], engine_age: float | None) -> tuple[Partition, ...]:
    """Rows of engines other than ours that are alive for certain.

    The row of a dead predecessor of ours counts for a minute, but it has said nothing since ours was started.

    Args:
        engine_age: seconds since ours was started; None where it does not run.
    """
    alive = [p for p in partitions if p.silent < _HEARTBEAT]
    if engine_age is None:
        return ()
    # Ours is the first one that was made since.
    since = sorted((p for p in partitions if p.age <= engine_age + 1), key=lambda p: -p.age)
    ours = since[0].id if since else ""
    return tuple(p for p in alive if p.id != ours and p.silent < engine_age - 1)


def _tenant(evidence: Evidence) -> Iterator[Seen]:
    inside = _inside(evidence)
    if inside is None or inside.tenants is None:
        return
    if any(t.id == TENANT_ID for t in inside.tenants):
        yield ok("our tenant is there")
        return
    named = next((t for t in inside.tenants if t.slug == "default"), None)
    title = f"tenant {TENANT_ID} is not in Hatchet's database"
    if named is not None:
        yield Seen(
            "fail", title, f"the slug `default` is tenant {named.id}'s, so the seed makes no other",
            "that database is another installation's: keep it, and give this project one of its own: docs/how-to/own-postgres.md",
        )  # fmt: skip
        return
    detail = 'no row of that id in "Tenant": no token can be for it'
    container = evidence.facts.containers.get(ENGINE) if evidence.with_docker else None
    if container is not None:
        command = f"docker restart {container.name}"
        yield Seen("fail", title, detail, f"the engine seeds when it starts; then: {UP}", command)
        return
    yield Seen("fail", title, detail, f"{UP} seeds it, and mints a new token", UP, Fix("seed the tenant", up=True))


def _old_data(evidence: Evidence) -> Iterator[Seen]:
    inside = _inside(evidence)
    if inside is None or inside.tenants is None:
        return
    old = [t for t in inside.tenants if t.version == "V0"]
    if not old:
        yield ok("no tenant of before Hatchet 1")
        return
    yield Seen(
        "warn", f"{len(old)} tenant{'s are' if len(old) > 1 else ' is'} of Hatchet 0, whose runs no engine of today does",
        f'"Tenant".version is V0: {_listed([f"{t.slug} ({t.id})" for t in old])}',
        "let those runs end on the engine of then, or give this project another server: docs/how-to/own-postgres.md",
    )  # fmt: skip


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


_PROBES = ("stack", "inside")
CHECKS: tuple[Check, ...] = (
    Check(
        "hatchet.migrations", "Hatchet's database is as the engine's migrations left it",
        '`missing migrations before current version`, `relation "..." does not exist`',
        "an older dump in its place, or a newer engine that was there", "engine and tables must fit", UP,
        _of_hatchet(_migrations), ("stack",), _INSIDE, fixable=True,
    ),
    Check(
        "hatchet.invalid-index", "every index of Hatchet's is valid", "slow queries, or a migration that fails again and again",
        "building it was broken off: a full disk, a kill, a timeout in CREATE INDEX CONCURRENTLY",
        "nobody uses it, everybody maintains it, and its migration may trip over it", DOCTOR_FIX, _of_hatchet(_invalid_index),
        _PROBES, _INSIDE, fixable=True,
    ),
    Check(
        "hatchet.migration-lock", "nobody holds the lock of Hatchet's migrations", "`hatchet-migrate` hangs in `session lock`",
        "a migration that was left alone, or a session that somebody forgot", "no engine comes up until it is gone",
        "SELECT pg_terminate_backend(PID)", _of_hatchet(_migration_lock), _PROBES, _INSIDE,
    ),
    Check(
        "hatchet.two-engines", "one engine works on Hatchet's database", "workers and runs of somebody else in the dashboard",
        "two projects, or an old container, with the same database", "both take each other's work",
        "owlclaw-up down, in one of them", _of_hatchet(_two_engines), _PROBES, _INSIDE,
    ),
    Check(
        "hatchet.tenant", "our tenant is in Hatchet's database", "`violates foreign key constraint \"APIToken_tenantId_fkey\"`",
        "the database was reset, or the seed failed", "every token is for a tenant", UP, _of_hatchet(_tenant), _PROBES,
        (*_INSIDE, "hatchet.migrations"), fixable=True,
    ),
    Check(
        "hatchet.old-data", "no data of Hatchet 0", "old runs do not go on", "a database that an engine of before 1.0 has filled",
        "runs of version 0 are not migrated", "let them end on the old engine", _of_hatchet(_old_data), _PROBES, _INSIDE,
    ),
)  # fmt: skip
