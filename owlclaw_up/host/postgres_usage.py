"""How full a PostgreSQL server is: sessions, sizes, whether the way to it is encrypted. One query each, reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from owlclaw_up.host.base import ServerLogin
from owlclaw_up.host.postgres import session, translated


@dataclass(frozen=True)
class ServerUsage:
    """What a server is used for at this moment.

    Attributes:
        connections: sessions, of everybody.
        tls: whether our own session is encrypted.
        sizes: bytes by database; none for one that the login may not enter.
    """

    connections: int = 0
    tls: bool = False
    sizes: Mapping[str, int] = field(default_factory=dict)


def look_at_usage(login: ServerLogin) -> ServerUsage:
    """Ask a server how full it is.

    Raises:
        ApplyFailed: it does not answer any more.
    """
    with translated(login, "ask how full it is"), session(login) as connection:
        used = connection.execute("select sum(numbackends) from pg_stat_database").fetchone()
        tls = connection.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()").fetchone()
        # Only who may connect to a database, or read all statistics, may know its size.
        sizes = connection.execute(
            """
            select datname::text, pg_database_size(oid) from pg_database
            where has_database_privilege(oid, 'connect') or pg_has_role('pg_read_all_stats', 'usage')
            """
        ).fetchall()
    return ServerUsage(int(used[0]) if used else 0, bool(tls and tls[0]), dict(sizes))
