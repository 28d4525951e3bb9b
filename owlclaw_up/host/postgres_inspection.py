"""A database of ours from within, as its owner role finds it: one connection and few statements each, reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from owlclaw_up.host.base import ServerLogin, ServerRefusal
from owlclaw_up.host.postgres import asked

if TYPE_CHECKING:
    import psycopg

# The session lock that hatchet-migrate takes; what goose uses where nobody says otherwise (seen with v0.104.7).
MIGRATION_LOCK = 4097083626


@dataclass(frozen=True)
class DatabaseInside:
    """What holds for the sessions of an owner role in its database.

    Attributes:
        timezone: of these sessions, whatever PGTZ this command was given; empty where that alone would say.
        standby: the server follows another one, and takes no writes.
        read_only: by what these sessions may not write, as PostgreSQL names a setting's source; empty where they may.
        creates_in_database, creates_in_public: whether the role may make schemas there, and tables in `public`.
        connections: to the whole server, of everybody.
        collation: version of its collation, as it was made; empty where it has none.
        actual_collation: the version that the system has now.
    """

    timezone: str
    standby: bool
    read_only: str
    creates_in_database: bool
    creates_in_public: bool
    connections: int
    collation: str = ""
    actual_collation: str = ""


@dataclass(frozen=True)
class Session:
    """Somebody else's session in a database. Times in seconds; infinite where the server does not tell this role.

    Attributes:
        client: address of the other end, empty for a unix socket.
        port: of the other end.
        age: since it began.
        idle: since its state changed last.
        migrates: it holds the lock of Hatchet's migrations.
        waits_for: pids of those that hold a lock which it waits for.
    """

    pid: int
    user: str
    application: str
    client: str
    port: int
    age: float
    idle: float
    migrates: bool
    waits_for: tuple[int, ...]
    query: str

    @property
    def of_engine(self) -> bool:
        """Hatchet's engine names its sessions so: hatchet, pkg/config/loader."""
        return self.application.startswith("server")


@dataclass(frozen=True)
class Partition:
    """A row by which an engine says that it is alive.

    Attributes:
        age: seconds since it was made.
        silent: seconds since its last heartbeat.
    """

    id: str
    age: float
    silent: float


@dataclass(frozen=True)
class TenantRow:
    id: str
    slug: str
    version: str


@dataclass(frozen=True)
class HatchetInside:
    """What is in Hatchet's database.

    Attributes:
        invalid_indexes: those that nobody builds at this moment, each as it is written in a statement.
        sessions: of everybody else there.
        partitions: of engines that were heard of within the last minute.
        tenants: ours, the one with the slug `default`, and those of before version 1; None where there is no such table.
    """

    invalid_indexes: tuple[str, ...] = ()
    sessions: tuple[Session, ...] = ()
    partitions: tuple[Partition, ...] = ()
    tenants: tuple[TenantRow, ...] | None = None


def look_inside(login: ServerLogin, timeout: float) -> DatabaseInside | ServerRefusal:
    """What holds for the sessions of a role in its database."""
    return asked(login, timeout, _inside)


def look_inside_hatchet(
    login: ServerLogin, tenant: str, timeout: float
) -> tuple[DatabaseInside, HatchetInside] | ServerRefusal:
    """The same, and what is in Hatchet's database.

    Args:
        tenant: id of ours.
    """
    return asked(login, timeout, lambda connection: (_inside(connection), _hatchet(connection, tenant)))


def _inside(connection: psycopg.Connection[Any]) -> DatabaseInside:
    row = connection.execute(
        """
        select coalesce(
                   -- In the order in which a session takes them.
                   (select split_part(c, '=', 2) from pg_db_role_setting s, unnest(s.setconfig) c
                    where s.setdatabase in (0, d.oid) and s.setrole in (0, me.oid) and lower(c) like 'timezone=%'
                    order by s.setrole = 0, s.setdatabase = 0 limit 1),
                   (select case source when 'client' then '' else setting end from pg_settings where name = 'TimeZone')),
               pg_is_in_recovery(),
               (select case setting when 'on' then source else '' end from pg_settings
                where name = 'default_transaction_read_only'),
               has_database_privilege(d.oid, 'create'),
               coalesce((select has_schema_privilege(oid, 'usage') and has_schema_privilege(oid, 'create')
                         from pg_namespace where nspname = 'public'), false),
               (select coalesce(sum(numbackends), 0)::int from pg_stat_database)
        from pg_database d, pg_roles me
        where d.datname = current_database() and me.rolname = current_user
        """
    ).fetchone()
    assert row is not None
    collation: Sequence[Any] = ()
    # Databases have versions of collations since 15.
    if connection.info.server_version >= 150000:
        query = """
            select coalesce(datcollversion, ''), coalesce(pg_database_collation_actual_version(oid), '')
            from pg_database where datname = current_database()
        """
        collation = connection.execute(query).fetchone() or ()
    return DatabaseInside(*(*row, *collation))


def _hatchet(connection: psycopg.Connection[Any], tenant: str) -> HatchetInside:
    # An index of a partitioned table is none of its own, and counts as invalid until every partition has its part of it.
    invalid = connection.execute(
        """
        select i.indexrelid::regclass::text from pg_index i join pg_class c on c.oid = i.indexrelid
        where not i.indisvalid and c.relkind = 'i'
              and not exists (select from pg_stat_progress_create_index p where p.index_relid = i.indexrelid)
        order by 1
        """
    ).fetchall()
    there = connection.execute(
        """select to_regclass('public."ControllerPartition"') is not null, to_regclass('public."Tenant"') is not null"""
    ).fetchone()
    assert there is not None
    partitions: Sequence[tuple[Any, ...]] = ()
    if there[0]:
        # The engine writes in UTC, without saying so.
        partitions = connection.execute(
            """
            select id, extract(epoch from n - "createdAt")::float, extract(epoch from n - "lastHeartbeat")::float
            from "ControllerPartition", (select clock_timestamp() at time zone 'UTC') as t (n)
            where "lastHeartbeat" > n - interval '1 minute' order by "createdAt"
            """
        ).fetchall()
    tenants = None
    if there[1]:
        tenants = connection.execute(
            """
            select id::text, slug, coalesce(to_jsonb(t) ->> 'version', '') from "Tenant" t
            where id::text = %s or slug = 'default' or to_jsonb(t) ->> 'version' = 'V0' order by slug limit 20
            """,
            [tenant],
        ).fetchall()
    return HatchetInside(
        tuple(row[0] for row in invalid),
        _sessions(connection),
        tuple(Partition(*row) for row in partitions),
        None if tenants is None else tuple(TenantRow(*row) for row in tenants),
    )


def _sessions(connection: psycopg.Connection[Any]) -> tuple[Session, ...]:
    """Of sessions of roles that this one is no member of, the server tells pid, role, and what they lock."""
    rows = connection.execute(
        """
        select a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), coalesce(host(a.client_addr), ''),
               coalesce(a.client_port, 0),
               coalesce(extract(epoch from clock_timestamp() - a.backend_start)::float, 'infinity'),
               coalesce(extract(epoch from clock_timestamp() - a.state_change)::float, 'infinity'),
               exists (select from pg_locks l where l.pid = a.pid and l.granted and l.locktype = 'advisory'
                       and l.classid = 0 and l.objid = %s::oid and l.objsubid = 1
                       and l.database = (select oid from pg_database where datname = current_database())),
               case a.wait_event_type when 'Lock' then pg_blocking_pids(a.pid) else '{}' end, coalesce(a.query, '')
        from pg_stat_activity a where a.datname = current_database() and a.pid <> pg_backend_pid() order by a.pid
        """,
        [MIGRATION_LOCK],
    ).fetchall()
    return tuple(Session(*(*row[:8], tuple(row[8]), " ".join(row[9].split())[:80])) for row in rows)
