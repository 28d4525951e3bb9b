"""What mends a database of ours: an index that is none, a role's password."""

from __future__ import annotations

from owlclaw_up.host.base import ServerLogin
from owlclaw_up.host.postgres import session, translated, verifier
from owlclaw_up.model import Secret


def rebuild_index(login: ServerLogin, name: str) -> None:
    """Build an invalid index anew, beside whoever works with its table.

    Args:
        login: of the table's owner.
        name: as it is written in a statement.

    Raises:
        ApplyFailed: the rows do not allow it, or the login may not.
    """
    _of_index(login, "reindex index concurrently", name)


def drop_index(login: ServerLogin, name: str) -> None:
    """Drop an index; arguments and errors as of `rebuild_index`."""
    _of_index(login, "drop index concurrently", name)


def _of_index(login: ServerLogin, what: str, name: str) -> None:
    with translated(login, f"{what.partition(' ')[0]} {name}"), session(login) as connection:
        connection.execute(f"{what} {name}".encode())


def set_password(admin: ServerLogin, role: str, password: Secret) -> None:
    """Have a role take a password.

    Raises:
        ApplyFailed: the admin may not.
    """
    from psycopg import sql

    mend = f"ALTER ROLE {role} PASSWORD '...'"
    with translated(admin, f"give role {role} its password", mend), session(admin) as connection:
        connection.execute(
            sql.SQL("alter role {} password {}").format(
                sql.Identifier(role), sql.Literal(verifier(connection, role, password))
            )
        )
