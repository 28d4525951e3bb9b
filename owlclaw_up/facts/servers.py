"""Probes of PostgreSQL: every server that a login could be had on, and what one has of our databases and roles."""

from __future__ import annotations

import dataclasses
import stat
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from owlclaw_up import dotenv_text
from owlclaw_up.facts.side_by_side import ask
from owlclaw_up.facts.values import DatabasesLook, LoginLook, ServerCandidate
from owlclaw_up.host.base import DatabaseLook, ServerLogin, ServerLook, ServerRefusal, on_this_machine
from owlclaw_up.host.embedded import SUPERUSER
from owlclaw_up.host.machine import Host
from owlclaw_up.host.ports import answers_tcp
from owlclaw_up.host.postgres_url import parse_url
from owlclaw_up.model import Found, Secret, Unknown
from owlclaw_up.receipts import Ledger
from owlclaw_up.setting_values import DatabaseSetting
from owlclaw_up.settings import Settings, wanted_databases
from owlclaw_up.spec import HATCHET_DATABASE, TENANT_ID

UTC_NAMES = frozenset({"UTC", "Etc/UTC"})
_PG_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGPASSWORD", "PGSERVICE", "PGPASSFILE")
_SOCKET_DIRS = (Path("/var/run/postgresql"), Path("/tmp"))


def look_for_servers(host: Host, settings: Settings, ledger: Ledger) -> tuple[ServerCandidate, ...]:
    """Every PostgreSQL that a login could be had on; only the named one where one is named or kept."""
    named = settings.admin_url
    if named.value is not None:
        try:
            login = parse_url(named.value.reveal())
        except ValueError as error:
            return (ServerCandidate(named.origin, ServerLogin(), ServerRefusal("malformed", str(error))),)
        if settings.offline.value and not on_this_machine(login.host):
            return (ServerCandidate(named.origin, login, ServerRefusal("offline", f"{login.host} is another machine")),)
        return (_candidate(host, settings, ledger, named.origin, login, 5.0),)
    kept = ledger.recall("postgres").get("kind")
    if kept in ("local", "embedded"):
        # Chosen already; what else is there is of no interest.
        return ()
    seen: list[ServerCandidate] = []
    for source, login in _usual_logins(host.environ):
        if kept == "container" and on_this_machine(login.host) and login.port == ledger.state.ports.get("postgres"):
            continue
        seen.append(_candidate(host, settings, ledger, source, login, 1.0))
        if isinstance(seen[-1].look, ServerLook):
            break
    return tuple(seen)


def _candidate(
    host: Host, settings: Settings, ledger: Ledger, source: str, login: ServerLogin, timeout: float
) -> ServerCandidate:
    look = host.postgres.look(login, source, timeout)
    if isinstance(look, ServerRefusal) or look.superuser or (look.createdb and look.createrole):
        return ServerCandidate(source, login, look)
    there = look_at_databases(host, settings, ledger, look.login, source)
    missing = []
    for wanted in wanted_databases(settings):
        seen = there.databases.get(wanted.name)
        if seen is None or not seen.role_exists:
            missing.append(f"role {wanted.role}")
        if seen is None or not seen.exists:
            missing.append(f"database {wanted.name}")
        elif seen.role_timezone not in UTC_NAMES and not look.createrole and look.user != wanted.role:
            missing.append(f"timezone UTC of role {wanted.role} in database {wanted.name}")
    return ServerCandidate(source, login, look, tuple(missing))


def _usual_logins(environ: Mapping[str, str]) -> list[tuple[str, ServerLogin]]:
    """What libpq would use, then the usual sockets, then localhost:5432; none where nobody listens."""
    logins: list[tuple[str, ServerLogin]] = []
    database = environ.get("PGDATABASE", "postgres")
    if any(environ.get(name) for name in _PG_VARIABLES):
        # A service's values win over PGHOST and PGPORT, and an address over a name, so libpq is left to them.
        given = {} if environ.get("PGSERVICE") or environ.get("PGHOSTADDR") else environ
        port = given.get("PGPORT", "")
        login = ServerLogin(given.get("PGHOST", ""), int(port) if port.isdigit() else None, database=database)
        logins.append(("PG* variables", login))
    if sys.platform != "win32":
        for folder in _SOCKET_DIRS:
            for path in sorted(folder.glob(".s.PGSQL.*")):
                port = path.suffix.lstrip(".")
                if port.isdigit() and stat.S_ISSOCK(path.stat().st_mode):
                    for user in ("", "postgres"):
                        login = ServerLogin(str(folder), int(port), user, database=database)
                        logins.append((f"unix socket {path}", login))
    if answers_tcp("127.0.0.1", 5432):
        user = environ.get("PGUSER", "postgres")
        logins.append(("localhost:5432", ServerLogin("localhost", 5432, user, database=database)))
    return logins


def admin_login(ledger: Ledger) -> ServerLogin | None:
    """The admin's login to the server that the state names."""
    kept = ledger.recall("postgres")
    if kept.get("kind") in ("embedded", "container"):
        password = ledger.vault.passwords.get(SUPERUSER)
        return ServerLogin("127.0.0.1", ledger.state.ports.get("postgres"), SUPERUSER, Secret(password or ""))
    if ledger.vault.admin_url:
        return parse_url(ledger.vault.admin_url)
    return None


def hatchet_login(settings: Settings, ledger: Ledger) -> ServerLogin | None:
    """The owner's login to Hatchet's database on the server that the state names."""
    admin = admin_login(ledger)
    role = next((d.role for d in wanted_databases(settings) if d.name == HATCHET_DATABASE), "")
    password = ledger.vault.passwords.get(role)
    if admin is None or password is None:
        return None
    return ServerLogin(admin.host, admin.port, role, Secret(password), HATCHET_DATABASE, admin.options)


def look_at_databases(
    host: Host, settings: Settings, ledger: Ledger, admin: ServerLogin, source: str,
    more: Sequence[DatabaseSetting] = (),
) -> DatabasesLook:  # fmt: skip
    """Which of the wanted databases and roles a server has, and which password each role takes.

    A role's password is looked for where it may be known: our own secrets, the dotenv file, and the role's own name,
    which is what deploy/init-db.sql gives it.

    Args:
        more: databases to look at beside the wanted ones.
    """
    look = host.postgres.look(admin, source, 2.0)
    if isinstance(look, ServerRefusal):
        return DatabasesLook(Unknown(look.detail), refusal=look)
    in_dotenv = _dotenv_passwords(host, ledger.project / settings.env_file.value)

    def one(wanted: DatabaseSetting) -> tuple[DatabaseLook, LoginLook | None]:
        seen = host.postgres.look_at_database(admin, wanted.name, wanted.role)
        if not seen.role_exists:
            return seen, None
        own = admin.password.reveal() if admin.password and admin.user == wanted.role else None
        known = (own, ledger.vault.passwords.get(wanted.role), in_dotenv.get(wanted.role), wanted.role)
        database = wanted.name if seen.exists else admin.database
        return seen, _look_at_login(host, admin, wanted.role, database, [text for text in known if text])

    all_of = {wanted.name: wanted for wanted in (*wanted_databases(settings), *more)}
    answers = ask({name: partial(one, wanted) for name, wanted in all_of.items()})
    databases: dict[str, DatabaseLook] = {name: answers[name][0] for name in all_of}
    logins: dict[str, LoginLook] = {}
    for name, wanted in all_of.items():
        if answers[name][1] is not None:
            logins.setdefault(wanted.role, answers[name][1])
    tenant = False
    hatchet = databases.get(HATCHET_DATABASE)
    owner = next((d.role for d in wanted_databases(settings) if d.name == HATCHET_DATABASE), "")
    login = logins.get(owner)
    if hatchet is not None and hatchet.exists and login is not None and login.password:
        # As its owner: an admin that is no superuser reads none of a role's tables.
        inside = ServerLogin(admin.host, admin.port, owner, login.password, HATCHET_DATABASE, admin.options)
        hatchet = dataclasses.replace(hatchet, migration=host.postgres.migration_version(inside))
        databases[HATCHET_DATABASE] = hatchet
        tenant = hatchet.migration is not None and host.postgres.tenant_exists(inside, TENANT_ID)
    return DatabasesLook(Found(look), databases, logins, tenant)


def _look_at_login(
    host: Host, admin: ServerLogin, role: str, database: str, passwords: Sequence[str]
) -> LoginLook:  # fmt: skip
    """The first of some passwords that a role is let in with."""
    refusal = None
    for text in dict.fromkeys(passwords):
        login = ServerLogin(admin.host, admin.port, role, Secret(text), database, admin.options)
        refusal = host.postgres.login_works(login)
        if refusal is None or refusal.kind != "login":
            # Whatever else is in the way, it is not the password.
            return LoginLook(Secret(text) if refusal is None else None, refusal)
    return LoginLook(None, refusal)


def _dotenv_passwords(host: Host, path: Path) -> dict[str, str]:
    """Passwords by role from the database URLs of the dotenv file."""
    passwords = {}
    try:
        values = dotenv_text.values(host.files.read(path) or b"")
    except (OSError, dotenv_text.DotenvError):
        return {}
    for key in ("DATABASE_URL", "OWLCLAW_DATABASE_URL"):
        try:
            login = parse_url(values.get(key, ""))
        except ValueError:
            continue
        if login.user and login.password:
            passwords[login.user] = login.password.reveal()
    return passwords
