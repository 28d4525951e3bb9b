"""Roles and databases on one server: missing, somebody else's, set otherwise. Pure; one place for the doctor and for `db status`.

Every function is about one check. `mend` is the command by which whoever asks has databases made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from owlclaw_up.checks.base import Seen
from owlclaw_up.errors import PostgresUnusable
from owlclaw_up.facts import DatabasesLook
from owlclaw_up.facts.servers import UTC_NAMES
from owlclaw_up.host.base import DatabaseLook, ServerLook, ServerRefusal, sql_name
from owlclaw_up.host.postgres_inspection import DatabaseInside
from owlclaw_up.model import found
from owlclaw_up.server_choice import BTREE_GIST_HINT, of_role_refusal
from owlclaw_up.setting_values import DatabaseSetting
from owlclaw_up.spec import HATCHET_DATABASE
from owlclaw_up.steps.database import missing_extension

# Of a hundred connections, from when on it is worth a word.
_CROWDED = 90


def missing(wanted: DatabaseSetting, on_server: DatabasesLook, mend: str) -> Iterator[Seen]:
    """`postgres.database`"""
    seen = on_server.databases.get(wanted.name)
    if seen is not None and not seen.exists:
        yield Seen("fail", f"there is no database {wanted.name}", "", mend, mend)


def owner(wanted: DatabaseSetting, on_server: DatabasesLook) -> Iterator[Seen]:
    """`postgres.owner`, in fewer words than the error that stops `up`."""
    seen = on_server.databases.get(wanted.name)
    if seen is not None and seen.exists and seen.owner != wanted.role and not wanted.given:
        hint = f"ALTER DATABASE {wanted.name} OWNER TO {wanted.role}, or name that owner in `databases`"
        yield Seen("fail", f"database {wanted.name} belongs to {seen.owner}, not to {wanted.role}", "", hint)


def role(wanted: DatabaseSetting, on_server: DatabasesLook, mend: str) -> Iterator[Seen]:
    """`postgres.role`, in fewer words than the error that stops `up`."""
    seen, login = on_server.databases.get(wanted.name), on_server.logins.get(wanted.role)
    if seen is None:
        return
    if not seen.role_exists:
        yield Seen("fail", f"role {wanted.role} does not exist", "", mend, mend)
    elif login is not None and login.password is None and (login.refusal is None or login.refusal.kind == "login"):
        hint = "write it into .owlclaw-up/secrets.json, or name another role in `databases`"
        yield Seen("fail", f"role {wanted.role} has a password that is not known here", "", hint)


def locked_out(wanted: DatabaseSetting, on_server: DatabasesLook) -> Iterator[PostgresUnusable]:
    """What refuses a role that is there, other than its password: one of several checks, by the error's code."""
    login = on_server.logins.get(wanted.role)
    if login is not None and login.password is None and login.refusal is not None and login.refusal.kind != "login":
        yield of_role_refusal(login.refusal, _where(on_server), wanted.role, wanted.name)


def timezone(
    wanted: DatabaseSetting, on_server: DatabasesLook, inside: DatabaseInside | ServerRefusal | None, mend: str
) -> Iterator[Seen]:  # fmt: skip
    """`postgres.timezone`

    Args:
        inside: the database as its owner role finds it.
    """
    seen = on_server.databases.get(wanted.name)
    if seen is None or not seen.exists or wanted.given:
        return
    zone = session_timezone(seen, found(on_server.server), inside)
    if not zone or zone in UTC_NAMES:
        return
    role, name = sql_name(wanted.role), sql_name(wanted.name)
    why = (
        f"ALTER ROLE {role} IN DATABASE {name} SET timezone = ..."
        if seen.role_timezone
        else "the database's or the server's settings"
    )
    hint = mend if mend.endswith("init") else f"{mend} sets UTC for that role in that database"
    level = "fail" if wanted.name == HATCHET_DATABASE else "warn"
    title = f"sessions of {wanted.role} in {wanted.name} are in {zone}, not UTC"
    yield Seen(level, title, f"that comes from {why}", hint, mend)


def session_timezone(
    seen: DatabaseLook, server: ServerLook | None, inside: DatabaseInside | ServerRefusal | None
) -> str:
    """What sessions of the owner get: what they said themselves, else by what is set for the owner or the server."""
    if isinstance(inside, DatabaseInside) and inside.timezone:
        return inside.timezone
    return seen.role_timezone or (server.timezone if server else "")


def extensions(
    wanted: Sequence[DatabaseSetting], on_server: DatabasesLook, mend: str
) -> Iterator[tuple[str, Seen]]:  # fmt: skip
    """`postgres.vector` and `postgres.extension`: each extension that databases lack, and what to say of it."""
    server = found(on_server.server)
    if server is None:
        return
    for name in dict.fromkeys(e for d in wanted for e in d.extensions):
        lacking = [
            d.name for d in wanted
            if name in d.extensions and _exists(on_server, d) and name not in on_server.databases[d.name].extensions
        ]  # fmt: skip
        if not lacking:
            continue
        if name not in server.extensions:
            said = missing_extension(lacking, name, server.major)
            yield name, Seen("info", said.title, said.detail, said.hint)
            continue
        hint = mend
        if not server.superuser:
            hint += f'; where that is refused, as a superuser: psql -d {lacking[0]} -c "CREATE EXTENSION {name}"'
        title = f"extension {name} is not in database {' and '.join(lacking)}"
        yield name, Seen("warn", title, "the server has it", hint, mend)


def btree_gist(on_server: DatabasesLook) -> Iterator[Seen]:
    """`postgres.btree_gist`, of a server that holds Hatchet's database."""
    server, seen = found(on_server.server), on_server.databases.get(HATCHET_DATABASE)
    if server is None or seen is None or "btree_gist" in server.extensions:
        return
    title = f"{server.login.where} has no btree_gist, which Hatchet's migrations create"
    if "btree_gist" in seen.extensions:
        title = f"{server.login.where} has no btree_gist any more, which database {HATCHET_DATABASE} uses"
    yield Seen("warn", title, f"PostgreSQL {server.version}", BTREE_GIST_HINT.format(server.major))


def crowd(used: int, limit: int) -> Iterator[Seen]:
    """`postgres.connections`, as long as there are some.

    Args:
        used: sessions, of everybody.
    """
    if 100 * used >= _CROWDED * limit:
        yield Seen(
            "warn", f"{used} of {limit} connections are in use",
            hint="close sessions, or raise max_connections on that server",
        )  # fmt: skip


def encoding(wanted: Iterable[DatabaseSetting], on_server: DatabasesLook) -> Iterator[Seen]:
    """`postgres.encoding`"""
    for d in wanted:
        seen = on_server.databases.get(d.name)
        if seen is not None and seen.exists and seen.encoding not in ("", "UTF8"):
            yield Seen(
                "warn", f"database {d.name} is in {seen.encoding}, not UTF8", _where(on_server),
                f"dump it, and make it anew: createdb -T template0 -E UTF8 -O {d.role} {d.name}",
            )  # fmt: skip


def _exists(on_server: DatabasesLook, wanted: DatabaseSetting) -> bool:
    seen = on_server.databases.get(wanted.name)
    return seen is not None and seen.exists


def _where(on_server: DatabasesLook) -> str:
    server = found(on_server.server)
    return server.login.where if server else "the server"
