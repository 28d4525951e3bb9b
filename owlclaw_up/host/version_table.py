"""What is asked of a database around its migrations: its revisions, its schema, who holds a lock; and the lock of ours."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from owlclaw_up.errors import MigrationBlocked, UpError
from owlclaw_up.host.base import Deadline, ServerLogin
from owlclaw_up.host.postgres import session, translated

# Any number that nobody else takes: owlclaw-up's own, one migration at a time in a database.
LOCK = 6_148_215_871_206_934_017
_POLL = 0.2
# Alembic's table is known by its one column, since an env.py may give it another name or schema.
_TABLES = """
    select quote_ident(n.nspname) || '.' || quote_ident(c.relname)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and left(n.nspname, 3) <> 'pg_'
      and array['version_num'] = (
        select array_agg(a.attname::text) from pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)
    order by (c.relname = 'alembic_version') desc, (n.nspname = any(current_schemas(false))) desc, 1
"""
_OTHERS = "left(n.nspname, 3) <> 'pg_' and n.nspname <> 'information_schema'"
_SCHEMA = f"""
    with own as (
      select c.oid, n.nspname, c.relname, c.relkind from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where {_OTHERS} and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')),
    lines as (
      select concat_ws(' ', o.nspname, o.relname, o.relkind, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull)
      from own o left join pg_attribute a on a.attrelid = o.oid and a.attnum > 0 and not a.attisdropped
      union all
      select concat_ws(' ', t.conrelid::regclass, t.conname, pg_get_constraintdef(t.oid))
      from pg_constraint t join own o on o.oid = t.conrelid
      union all
      select concat_ws(' ', n.nspname, p.proname, md5(p.prosrc)) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where {_OTHERS}
      union all
      select concat_ws(' ', n.nspname, t.typname) from pg_type t join pg_namespace n on n.oid = t.typnamespace
      where {_OTHERS})
    select (select count(*) from own where relkind in ('r', 'p', 'm', 'v', 'S')),
           (select md5(coalesce(string_agg(line, chr(10) order by line), '')) from lines as l(line))
"""
_LITERALS = re.compile(r"(\$\w*\$).*?\1|'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b", re.DOTALL)


@dataclass(frozen=True)
class SchemaLook:
    """What a database holds besides system catalogs and extensions.

    Attributes:
        relations: tables, views and sequences.
        fingerprint: another one where any table, column, constraint, function or type is another one.
    """

    relations: int
    fingerprint: str


@dataclass(frozen=True)
class Blocker:
    """A session that holds a lock that somebody waits for.

    Attributes:
        query: its last statement, without values.
    """

    pid: int
    application: str
    user: str
    state: str
    query: str

    def __str__(self) -> str:
        who = f"{self.application or 'no application name'}, role {self.user}, {self.state or 'state not visible'}"
        return f"session {self.pid} ({who}): {self.query or 'its query is not visible'}"


def without_values(query: str) -> str:
    """A statement on one line, its literals replaced: they may be somebody's data."""
    return " ".join(_LITERALS.sub("?", query).split())[:160]


def current_revisions(login: ServerLogin) -> tuple[str, ...]:
    """The revisions that a database holds; none where it was never migrated."""
    with translated(login, "read the current revision"), session(login) as connection:
        table = connection.execute(_TABLES).fetchone()
        if table is None:
            return ()
        rows = connection.execute(f"select version_num from {table[0]} order by 1".encode()).fetchall()
    return tuple(str(row[0]) for row in rows)


def look_at_schema(login: ServerLogin) -> SchemaLook:
    """How much a database holds, and a fingerprint of it; the version table does not count."""
    with translated(login, "look at the schema"), session(login) as connection:
        row = connection.execute(_SCHEMA.encode()).fetchone()
        assert row is not None
        tables = len(connection.execute(_TABLES).fetchall())
    return SchemaLook(int(row[0]) - tables, str(row[1]))


def forget_revision(login: ServerLogin, revision: str) -> None:
    """Take one revision out of the version table."""
    with translated(login, f"take revision {revision} out"), session(login) as connection:
        table = connection.execute(_TABLES).fetchone()
        if table is not None:
            connection.execute(f"delete from {table[0]} where version_num = %s".encode(), [revision])


def blockers(admin: ServerLogin, application: str) -> tuple[Blocker, ...]:
    """Who holds up the sessions of that name; none where that cannot be seen."""
    try:
        with translated(admin, "look for locks"), session(admin, 2.0) as connection:
            rows = connection.execute(
                """
                select distinct b.pid, b.application_name, b.usename, b.state, b.query
                from pg_stat_activity w, unnest(pg_blocking_pids(w.pid)) p(pid) join pg_stat_activity b on b.pid = p.pid
                where w.application_name = %s order by 1
                """,
                [application],
            ).fetchall()
    except UpError:
        return ()
    return tuple(_blocker(row) for row in rows)


def _blocker(row: tuple[Any, ...]) -> Blocker:
    pid, application, user, state, query = row
    return Blocker(pid, application or "", user or "", state or "", without_values(query or ""))


def end_sessions(login: ServerLogin, application: str) -> None:
    """End the sessions of that name in this database: what they had not committed is undone."""
    with translated(login, "end the migration's sessions"), session(login, 2.0) as connection:
        connection.execute(
            """
            select pg_terminate_backend(pid) from pg_stat_activity
            where application_name = %s and datname = current_database() and pid <> pg_backend_pid()
            """,
            [application],
        )


@contextlib.contextmanager
def migration_lock(
    login: ServerLogin, admin: ServerLogin, deadline: Deadline, waiting: Callable[[str], None]
) -> Iterator[None]:
    """One migration at a time in a database, whoever runs it; a second one waits, saying for whom.

    A lock of the session: it goes with the connection, however that ends.

    Args:
        waiting: called once with a text when there is somebody to wait for.

    Raises:
        MigrationBlocked: the other one did not end in time.
    """
    with translated(login, "take the lock of migrations"), session(login) as connection:
        told = False
        while True:
            row = connection.execute("select pg_try_advisory_lock(%s)", [LOCK]).fetchone()
            if row is not None and row[0]:
                break
            holder = _holder(admin)
            if not told:
                told = True
                waiting(f"waiting for another migration of database {login.database}: {holder}")
            if deadline.over:
                raise MigrationBlocked("", deadline.seconds, holder, login.database)
            deadline.clock.sleep(_POLL)
        # In autocommit, so that no transaction of it is in a migration's way.
        yield


def _holder(admin: ServerLogin) -> Blocker:
    with translated(admin, "look for the lock's holder"), session(admin) as connection:
        row = connection.execute(
            """
            select a.pid, a.application_name, a.usename, a.state, a.query
            from pg_locks l join pg_stat_activity a on a.pid = l.pid
            where l.locktype = 'advisory' and l.granted and (l.classid::bigint << 32) | l.objid::bigint = %s
            """,
            [LOCK],
        ).fetchone()
    return _blocker(row) if row else Blocker(0, "", "", "gone meanwhile", "")
