"""PostgreSQL: the one file that knows psycopg.

Logins come as `ServerLogin`, errors leave as `ServerRefusal` (when looking) or `errors.ApplyFailed` (when changing),
by SQLSTATE. Passwords travel as SCRAM verifiers in `CREATE ROLE`, so no server log ever holds one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from owlclaw_up.errors import ApplyFailed
from owlclaw_up.host.base import DatabaseLook, EngineTrace, ServerLogin, ServerLook, ServerRefusal, TokenRow, sql_name
from owlclaw_up.model import Secret
from owlclaw_up.redaction import Redactor

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")
_ON_LOOPBACK = {
    "sslmode": "prefer", "gssencmode": "disable", "channel_binding": "prefer", "target_session_attrs": "any",
    "options": "",
}  # fmt: skip
# Rows by which an engine of Hatchet says that it is alive, or that it holds a queue.
_PARTITIONS = ("ControllerPartition", "TenantWorkerPartition", "SchedulerPartition", "Lease")
# Options that only say where libpq finds others.
_LOOKED_UP = {"service", "servicefile", "passfile"}


class PostgresServers:
    """`host.base.Postgres` over psycopg. Connections are short: one per question."""

    def look(self, login: ServerLogin, source: str, timeout: float) -> ServerLook | ServerRefusal:
        try:
            with session(login, timeout) as connection:
                row = connection.execute(
                    """
                    select current_setting('server_version_num')::int, current_setting('server_version'), current_user,
                           r.rolsuper, r.rolcreatedb, r.rolcreaterole, current_setting('timezone'),
                           current_setting('listen_addresses', true), current_setting('max_connections')::int,
                           array(select name::text from pg_available_extensions),
                           case when has_function_privilege('pg_control_system()', 'execute')
                                then (select system_identifier::text from pg_control_system()) end,
                           case when pg_is_in_recovery() then 'standby' else current_setting('transaction_read_only') end
                    from pg_roles r where r.rolname = current_user
                    """
                ).fetchone()
                assert row is not None
                seen = _resolved(login, connection)
        except Exception as error:
            refusal = refusal_of(error, login)
            if refusal is None:
                raise
            return refusal
        return ServerLook(
            seen, source, row[10] or seen.where, row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7] or "", row[8],
            frozenset(row[9]), row[11] == "standby", row[11] == "on",
        )  # fmt: skip

    def login_works(self, login: ServerLogin, timeout: float = 3.0) -> ServerRefusal | None:
        """Whether a role gets an answer to real SQL on its database; None is yes."""
        answer = asked(login, timeout, lambda connection: connection.execute("select 1"))
        return answer if isinstance(answer, ServerRefusal) else None

    def look_at_database(self, admin: ServerLogin, database: str, role: str) -> DatabaseLook:
        with translated(admin, f"look at database {database}"), session(admin) as connection:
            role_exists = _one(connection, "select exists (select from pg_roles where rolname = %s)", role)
            row = connection.execute(
                """
                select pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding),
                       coalesce((select c from unnest(s.setconfig) c where lower(c) like 'timezone=%%' limit 1), '')
                from pg_database d
                left join pg_db_role_setting s
                  on s.setdatabase = d.oid and s.setrole = (select oid from pg_roles where rolname = %s)
                where d.datname = %s
                """,
                [role, database],
            ).fetchone()
        if row is None:
            return DatabaseLook(role_exists, False)
        extensions: frozenset[str] = frozenset()
        migration = None
        inside = in_database(admin, database)
        with translated(inside, f"look into database {database}"), session(inside) as connection:
            extensions = frozenset(r[0] for r in connection.execute("select extname from pg_extension").fetchall())
            migration = _migration(connection)
        timezone = str(row[2]).partition("=")[2]
        return DatabaseLook(role_exists, True, row[0], row[1], timezone, extensions, migration)

    def configuration_files(self, admin: ServerLogin) -> tuple[str, str]:
        """Paths of postgresql.conf and pg_hba.conf on the server; empty where the login may not know them."""
        with translated(admin, "ask for its configuration files"), session(admin) as connection:
            names = ("config_file", "hba_file")
            query = "select setting from pg_settings where name = %s"
            found = [_one(connection, query, name) for name in names]
        return str(found[0] or ""), str(found[1] or "")

    def create_role(self, admin: ServerLogin, role: str, password: Secret) -> None:
        from psycopg import sql

        mend = f"ALTER ROLE {sql_name(admin.user)} CREATEROLE"
        with translated(admin, f"create role {role}", mend), session(admin) as connection:
            connection.execute(
                sql.SQL("create role {} login password {}").format(
                    sql.Identifier(role), sql.Literal(verifier(connection, role, password))
                )
            )

    def has_role(self, admin: ServerLogin, role: str) -> bool:
        """Whether the login may give a database to a role, and act as its owner; a superuser always may."""
        with translated(admin, f"ask who is a member of {role}"), session(admin) as connection:
            # Since 16 a member may be one without the right to inherit, or to become, the role.
            kinds = ["usage", "set"] if connection.info.server_version >= 160000 else ["member"]
            return all(_one(connection, "select pg_has_role(%s, %s)", role, kind) for kind in kinds)

    def join_role(self, admin: ServerLogin, role: str) -> None:
        """Make the login a member of a role."""
        from psycopg import sql

        mend = f"GRANT {role} TO {sql_name(admin.user)}"
        with translated(admin, f"make {admin.user} a member of {role}", mend), session(admin) as connection:
            connection.execute(sql.SQL("grant {} to current_user").format(sql.Identifier(role)))

    def leave_role(self, admin: ServerLogin, role: str) -> None:
        from psycopg import sql

        with translated(admin, f"end {admin.user}'s membership of {role}"), session(admin) as connection:
            connection.execute(sql.SQL("revoke {} from current_user").format(sql.Identifier(role)))

    def create_database(self, admin: ServerLogin, database: str, owner: str) -> None:
        """From template0, so that what somebody put into template1 (an extension, a locale) does not come along."""
        from psycopg import sql

        mend = f"ALTER ROLE {sql_name(admin.user)} CREATEDB"
        with translated(admin, f"create database {database}", mend), session(admin) as connection:
            utf8 = _one(
                connection, "select pg_encoding_to_char(encoding) = 'UTF8' from pg_database where datname = 'template0'"
            )
            locale = sql.SQL("" if utf8 else " lc_collate 'C' lc_ctype 'C'")
            connection.execute(
                sql.SQL("create database {} owner {} template template0 encoding 'UTF8'{}").format(
                    sql.Identifier(database), sql.Identifier(owner), locale
                )
            )

    def clone_database(self, admin: ServerLogin, database: str, template: str, owner: str) -> None:
        """A copy of a database, with UTC, which no copy takes along. Who is connected to the original goes."""
        from psycopg import sql

        with translated(admin, f"create database {database}"), session(admin) as connection:
            name, role = sql.Identifier(database), sql.Identifier(owner)
            connection.execute(
                """
                select pg_terminate_backend(pid) from pg_stat_activity
                where datname = %s and pg_has_role(usesysid, 'member')
                """,
                [template],
            )
            connection.execute(
                sql.SQL("create database {} owner {} template {}").format(name, role, sql.Identifier(template))
            )
            connection.execute(sql.SQL("alter database {} set timezone = 'UTC'").format(name))

    def database_names(self, admin: ServerLogin, prefix: str) -> list[str]:
        """The databases whose names begin so."""
        with translated(admin, "list the databases"), session(admin) as connection:
            query = "select datname from pg_database where starts_with(datname, %s) order by 1"
            return [str(row[0]) for row in connection.execute(query, [prefix]).fetchall()]

    def set_timezone(self, admin: ServerLogin, database: str, role: str) -> None:
        from psycopg import sql

        mend = f"ALTER ROLE {role} IN DATABASE {database} SET timezone = 'UTC'"
        with translated(admin, f"set the timezone of {role} in {database}", mend), session(admin) as connection:
            connection.execute(
                sql.SQL("alter role {} in database {} set timezone = 'UTC'").format(
                    sql.Identifier(role), sql.Identifier(database)
                )
            )

    def create_extension(self, admin: ServerLogin, database: str, extension: str) -> ServerRefusal | None:
        """Create it as the admin; a refusal is returned, since an environment can do without."""
        from psycopg import sql

        create = sql.SQL("create extension if not exists {}").format(sql.Identifier(extension))
        answer = asked(in_database(admin, database), 5.0, lambda connection: connection.execute(create))
        return answer if isinstance(answer, ServerRefusal) else None

    def drop_database(self, admin: ServerLogin, database: str) -> None:
        from psycopg import sql

        mend = f"DROP DATABASE {database} WITH (FORCE)"
        with translated(admin, f"drop database {database}", mend), session(admin) as connection:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(database)))

    def drop_role(self, admin: ServerLogin, role: str) -> None:
        from psycopg import sql

        with translated(admin, f"drop role {role}"), session(admin) as connection:
            connection.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(role)))

    def migration_version(self, login: ServerLogin) -> int | None:
        with translated(login, "read Hatchet's migration version"), session(login) as connection:
            return _migration(connection)

    def tenant_exists(self, login: ServerLogin, tenant: str) -> bool:
        with translated(login, "look for the tenant"), session(login) as connection:
            if _one(connection, """select to_regclass('public."Tenant"') is null"""):
                return False
            return bool(_one(connection, 'select exists (select from "Tenant" where id = %s::uuid)', tenant))

    def token_records(
        self, login: ServerLogin, tenant: str, ids: Sequence[str], timeout: float
    ) -> tuple[bool, Mapping[str, TokenRow]] | ServerRefusal:  # fmt: skip
        """Whether a tenant is on record, and what is of API tokens, by their id; those of which nothing is are left out.

        Args:
            ids: the tokens' claims; one that is no UUID is on no record.
        """
        rows = """
            select id::text, "tenantId"::text, name, revoked, extract(epoch from "expiresAt" at time zone 'UTC')
            from "APIToken" where id::text = any(%s)
        """
        try:
            with session(login, timeout) as connection:
                if _one(connection, """select to_regclass('public."APIToken"') is null"""):
                    return False, {}
                known = _one(connection, 'select exists (select from "Tenant" where id = %s::uuid)', tenant)
                found = connection.execute(rows, [[i.lower() for i in ids]]).fetchall()
        except Exception as error:
            refusal = refusal_of(error, login)
            if refusal is None:
                raise
            return refusal
        by_id = {r[0]: TokenRow(r[0], r[1] or "", r[2] or "", r[3], float(r[4] or 0)) for r in found}
        return bool(known), {i: by_id[i.lower()] for i in ids if i.lower() in by_id}

    def tokens_named(self, login: ServerLogin, name: str) -> list[str]:
        """Ids of the tokens of a name that are not revoked."""
        with translated(login, "look for tokens"), session(login) as connection:
            rows = connection.execute(
                'select id::text from "APIToken" where name = %s and not revoked', [name]
            ).fetchall()
        return [row[0] for row in rows]

    def revoke_token(self, login: ServerLogin, token_id: str) -> bool:
        """Revoke as the engine itself does it: hatchet, pkg/repository/sqlcv1/api_token.sql. Whether it was on record."""
        with translated(login, "revoke the token"), session(login) as connection:
            if _one(connection, """select to_regclass('public."APIToken"') is null"""):
                return False
            done = connection.execute(
                """
                update "APIToken"
                set revoked = true, "expiresAt" = least("expiresAt", now() at time zone 'UTC' - interval '1 second')
                where id::text = lower(%s)
                """,
                [token_id],
            )
        return done.rowcount > 0

    def engine_trace(self, login: ServerLogin) -> EngineTrace:
        with translated(login, "look for other engines"), session(login) as connection:
            if _one(connection, """select to_regclass('public."ControllerPartition"') is null"""):
                return EngineTrace(0, 0)
            rows = sum(_one(connection, f'select count(*) from "{table}"') for table in _PARTITIONS)
            connections = _one(
                connection,
                """
                select count(*) from pg_stat_activity
                where datname = current_database() and application_name like 'server%'
                """,
            )
        return EngineTrace(rows, connections)

    def clear_engine_trace(self, login: ServerLogin) -> int:
        """Delete every partition and lease row. Only when no engine is alive there; the caller has seen to that."""
        deleted = 0
        with (
            translated(login, "clear the dead engine's rows"),
            session(login) as connection,
            connection.transaction(),
        ):
            for table in _PARTITIONS:
                deleted += connection.execute(f'delete from "{table}"').rowcount
        return deleted


def _resolved(login: ServerLogin, connection: psycopg.Connection[Any]) -> ServerLogin:
    """The login as libpq completed it from PG* variables, a service file or .pgpass, so that it works without them."""
    info = connection.info
    password = login.password or (Secret(info.password) if info.password else None)
    options = tuple((k, v) for k, v in login.options if k not in _LOOKED_UP)
    # Of several hosts, the one that answered.
    host = login.host if login.host and "," not in login.host else info.host
    return ServerLogin(host, info.port, info.user, password, info.dbname, options)


def in_database(login: ServerLogin, database: str) -> ServerLogin:
    """The same login, to another database."""
    return ServerLogin(login.host, login.port, login.user, login.password, database, login.options)


@contextlib.contextmanager
def session(login: ServerLogin, timeout: float = 5.0) -> Iterator[psycopg.Connection[Any]]:
    """A connection in autocommit, closed at the end; libpq's own defaults where the login is silent."""
    import psycopg

    given = {
        "host": login.host,
        "port": login.port,
        "user": login.user,
        "password": login.password.reveal() if login.password else None,
        "dbname": login.database,
    }
    options = dict(login.options)
    options.setdefault("application_name", "owlclaw-up")
    # libpq counts whole seconds, and takes 1 for 2.
    options.setdefault("connect_timeout", str(max(2, round(timeout))))
    if login.host:
        # A PGHOSTADDR of the shell would win over the host that is meant here.
        options.setdefault("hostaddr", "")
    if login.host == "127.0.0.1":
        # A shell set up for a server far away must not lock us out of one on loopback.
        for name, value in _ON_LOOPBACK.items():
            options.setdefault(name, value)
    keywords = options | {key: value for key, value in given.items() if value}
    with psycopg.connect("", autocommit=True, prepare_threshold=None, **keywords) as connection:  # type: ignore[arg-type]
        yield connection


def asked(login: ServerLogin, timeout: float, ask: Callable[[psycopg.Connection[Any]], T]) -> T | ServerRefusal:
    """What is asked in a session of its own; a refusal of the server's is a value."""
    try:
        with session(login, timeout) as connection:
            return ask(connection)
    except Exception as error:
        refusal = refusal_of(error, login)
        if refusal is None:
            raise
        return refusal


def verifier(connection: psycopg.Connection[Any], role: str, password: Secret) -> str:
    """What a server keeps of a password, so that the password itself is in no statement."""
    return connection.pgconn.encrypt_password(password.reveal().encode(), role.encode(), b"scram-sha-256").decode()


def _one(connection: psycopg.Connection[Any], query: str, *values: object) -> Any:
    row = connection.execute(query.encode(), values or None).fetchone()
    return row[0] if row else None


def _migration(connection: psycopg.Connection[Any]) -> int | None:
    """Goose keeps its versions there: hatchet, cmd/hatchet-migrate."""
    table = "select to_regclass('public.goose_db_version')"
    if not _one(connection, f"select has_table_privilege(({table})::oid, 'select')"):
        # It is not there, or somebody else's.
        return None
    version = _one(connection, "select max(version_id) from goose_db_version where is_applied")
    return int(version) if version else None


# SQLSTATE class or code -> kind of refusal; the longest match wins.
_KINDS = {
    "28": "login",
    "3D": "no-database",
    "42501": "privilege",
    "53300": "too-many-connections",
    "57P03": "starting",
    "58P01": "not-available",
    "0A000": "not-available",
}
# Words of libpq for failures that carry no SQLSTATE. A host with several addresses fails with the words of every
# attempt, so what a server said comes before what nobody said.
_WORDS = (
    ("password authentication failed", "login"),
    ("no password supplied", "login"),
    ("does not match host name", "tls"),
    ("authentication failed", "login"),
    ("no pg_hba.conf entry", "login"),
    ("is not permitted to log in", "login"),
    ("too many clients", "too-many-connections"),
    ("remaining connection slots", "too-many-connections"),
    ("too many connections", "too-many-connections"),
    ("is starting up", "starting"),
    ("is shutting down", "starting"),
    ("not yet accepting connections", "starting"),
    ("recovery mode", "starting"),
    ("permission denied for database", "privilege"),
    ("role ", "login"),
    ("database ", "no-database"),
    ("received invalid response", "not-postgres"),
    ("expected authentication request", "not-postgres"),
    ("server closed the connection unexpectedly", "not-postgres"),
    ("ssl", "tls"),
    ("could not translate host name", "unreachable"),
    ("failed to resolve host", "unreachable"),
    ("connection refused", "refused"),
    ("no such file or directory", "refused"),
    ("timeout", "unreachable"),
    ("network is unreachable", "unreachable"),
    ("no route to host", "unreachable"),
    ("definition of service", "malformed"),
    ("service file", "malformed"),
    ("invalid", "malformed"),
)


def refusal_of(error: Exception, login: ServerLogin) -> ServerRefusal | None:
    """A psycopg error as a value, its words kept without secrets; None for anything else."""
    import psycopg

    if not isinstance(error, psycopg.Error):
        return None
    words = Redactor([login.password.reveal()] if login.password else [])(str(error).strip())
    state = error.sqlstate or ""
    plain = dict(login.options).get("sslmode") in ("disable", "allow")
    if plain and "no encryption" in words and "SSL encryption" not in words:
        # Its rules may let the same login in over TLS, which was not tried.
        return ServerRefusal("tls", words)
    for length in (5, 2):
        if state[:length] in _KINDS:
            return ServerRefusal(_KINDS[state[:length]], words)
    low = words.lower()
    return ServerRefusal(next((kind for word, kind in _WORDS if word in low), "other"), words)


@contextlib.contextmanager
def translated(login: ServerLogin, what: str, mend: str = "") -> Iterator[None]:
    """Whatever psycopg raises becomes an `ApplyFailed` that says what could not be done.

    Args:
        mend: the statement by which somebody with more rights gives the one that was lacking.
    """
    try:
        yield
    except Exception as error:
        refusal = refusal_of(error, login)
        if refusal is None:
            raise
        more = f"as a superuser there: {mend}" if mend else "use a login with more rights: --admin-url postgresql://..."
        hint = {
            "privilege": more,
            "login": "check the password in --admin-url or OWLCLAW_ADMIN_URL",
            "too-many-connections": "close some connections, or raise max_connections on that server",
        }.get(refusal.kind, "owlclaw-up status")
        raise ApplyFailed(
            f"postgres-{refusal.kind}", f"could not {what} on {login.where}", hint=hint, detail=refusal.detail
        ) from None
