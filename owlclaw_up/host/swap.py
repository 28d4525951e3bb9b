"""Putting a database in another one's place: made aside with the same owner, settings and rights, then renamed at once.

Until that moment nothing of the old one is touched; afterwards it is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from owlclaw_up.errors import ApplyFailed
from owlclaw_up.host.base import Clock, ServerLogin
from owlclaw_up.host.postgres import session, translated

if TYPE_CHECKING:
    import psycopg

_TRIES = 25
_PAUSE = 0.1
# Their values are lists that are stored quoted: postgresql, src/bin/pg_dump/dumputils.c (variable_is_guc_list_quote).
_LISTS = {"local_preload_libraries", "search_path", "session_preload_libraries", "temp_tablespaces"}


def aside(database: str) -> str:
    """Name of the database that will take another one's place."""
    return f"{database}_owlclaw_up_new"


def replaced(database: str) -> str:
    """Name of the database that gave way, for the moment until it is dropped."""
    return f"{database}_owlclaw_up_old"


def copy_settings(admin: ServerLogin, database: str, other: str) -> None:
    """Give a database what was set and granted on another one by `ALTER ... SET` and `GRANT`."""
    from psycopg import sql

    with translated(admin, f"copy the settings of database {database}"), session(admin) as connection:
        rows = connection.execute(
            """
            select r.rolname, c from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase
            left join pg_roles r on r.oid = s.setrole, unnest(s.setconfig) c where d.datname = %s
            """,
            [database],
        ).fetchall()
        for role, text in rows:
            name, _, value = str(text).partition("=")
            who = (
                sql.SQL("role {} in database {}").format(sql.Identifier(role), sql.Identifier(other)) if role else None
            )
            connection.execute(
                sql.SQL("alter {} set {} = {}").format(
                    who or sql.SQL("database {}").format(sql.Identifier(other)),
                    sql.SQL(".").join(sql.Identifier(part) for part in name.split(".")),
                    sql.SQL(value) if name in _LISTS else sql.Literal(value),
                )
            )
        _copy_rights(connection, database, other)


def _copy_rights(connection: psycopg.Connection[Any], database: str, other: str) -> None:
    from psycopg import sql

    rights = connection.execute(
        """
        select case when a.grantee = 0 then null else pg_get_userbyid(a.grantee) end, a.privilege_type, a.is_grantable
        from pg_database d, aclexplode(d.datacl) a where d.datname = %s and a.grantee <> d.datdba
        """,
        [database],
    ).fetchall()
    row = connection.execute("select datacl is not null from pg_database where datname = %s", [database]).fetchone()
    if row is None or not row[0]:
        return
    name = sql.Identifier(other)
    connection.execute(sql.SQL("revoke all on database {} from public").format(name))
    for grantee, privilege, grantable in rights:
        to = sql.Identifier(grantee) if grantee else sql.SQL("public")
        tail = sql.SQL(" with grant option" if grantable else "")
        connection.execute(sql.SQL("grant {} on database {} to {}{}").format(sql.SQL(privilege), name, to, tail))


def swap_in(admin: ServerLogin, database: str, clock: Clock) -> None:
    """End every session of a database, and have the one made aside take its name. Both renames, or none.

    Raises:
        ApplyFailed: somebody connected anew each time; everything is as it was.
    """
    from psycopg import errors, sql

    old, new = sql.Identifier(replaced(database)), sql.Identifier(aside(database))
    name = sql.Identifier(database)
    with translated(admin, f"put another database in the place of {database}"), session(admin) as connection:
        for _ in range(_TRIES):
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = any(%s) and pid <> pg_backend_pid()",
                [[database, aside(database)]],
            )
            try:
                with connection.transaction():
                    if (
                        connection.execute("select from pg_database where datname = %s", [database]).fetchone()
                        is not None
                    ):
                        connection.execute(sql.SQL("alter database {} rename to {}").format(name, old))
                    connection.execute(sql.SQL("alter database {} rename to {}").format(new, name))
                return
            except errors.ObjectInUse:
                clock.sleep(_PAUSE)
    raise ApplyFailed(
        "restore-in-use", f"database {database} was not given free: somebody connects to it again and again",
        hint="stop what uses it, then run this again",
    )  # fmt: skip


def is_there(admin: ServerLogin, database: str) -> bool:
    """Whether a server has a database of that name."""
    with translated(admin, "list databases"), session(admin) as connection:
        return connection.execute("select from pg_database where datname = %s", [database]).fetchone() is not None
