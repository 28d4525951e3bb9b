"""The command `db status`: server, databases, roles, extensions and migrations, as one table. Reads only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from owlclaw_up.databases import Chosen, choose_for, server_data, unavailable
from owlclaw_up.errors import UpError
from owlclaw_up.facts.servers import UTC_NAMES
from owlclaw_up.host.base import DatabaseLook
from owlclaw_up.host.migrations import BASELINE, MigrationsLook, look_at_migrations
from owlclaw_up.host.postgres_usage import ServerUsage, look_at_usage
from owlclaw_up.model import Finding, Mode, Outcome
from owlclaw_up.project import Project, application, failure
from owlclaw_up.settings import DatabaseSetting
from owlclaw_up.spec import HATCHET_DATABASE, DatabaseSpec

_INIT = "owlclaw-up db init"
# Of a hundred connections, from when on it is worth a word.
_CROWDED = 90


def status(project: Project) -> Outcome:
    """Where the databases stand; `exit_code` 1 where something is missing or behind, 3 where there is no server."""
    begun = project.host.clock.monotonic()
    try:
        chosen = choose_for(project, to_look=True)
        usage = look_at_usage(chosen.look.login)
    except UpError as error:
        return failure(project, "db status", error, project.host.clock.monotonic() - begun)
    alembic = _look_at_alembic(project, chosen)
    findings = (*_findings(project, chosen, usage), *_of_alembic(alembic))
    bad = any(f.level == "fail" for f in findings)
    data = {
        "server": {
            **server_data(chosen),
            "tls": usage.tls,
            "timezone": chosen.look.timezone,
            "connections": {"used": usage.connections, "max": chosen.look.max_connections},
        },
        "databases": [_database(chosen, usage, d) for d in chosen.known],
        "roles": [_role(chosen, role) for role in dict.fromkeys(d.role for d in chosen.known)],
        "migrations": {
            "hatchet": _hatchet(project, chosen),
            "alembic": dataclasses.asdict(alembic) if alembic else None,
        },
    }
    mode = project.ledger.state.mode
    return Outcome(
        "db status", "failed" if bad else "ok", 1 if bad else 0, Mode(mode) if mode else None, findings=findings,
        project=project.root,
        seconds=project.host.clock.monotonic() - begun, data={"database": data},
    )  # fmt: skip


def _database(chosen: Chosen, usage: ServerUsage, wanted: DatabaseSetting) -> dict[str, Any]:
    seen = chosen.on_server.databases[wanted.name]
    names = dict.fromkeys((*wanted.extensions, *(["btree_gist"] if wanted.name == HATCHET_DATABASE else [])))
    return {
        "name": wanted.name,
        "exists": seen.exists,
        "owner": seen.owner or None,
        "wanted_owner": wanted.role,
        "size": usage.sizes.get(wanted.name),
        "encoding": seen.encoding or None,
        "timezone": _timezone(chosen, seen) if seen.exists else None,
        "extensions": {name: _extension(chosen, seen, name) for name in names} if seen.exists else {},
    }


def _timezone(chosen: Chosen, seen: DatabaseLook) -> str:
    """What the owner's sessions get: its own in that database, else the server's."""
    return seen.role_timezone or chosen.look.timezone


def _extension(chosen: Chosen, seen: DatabaseLook, name: str) -> str:
    return "there" if name in seen.extensions else "available" if name in chosen.look.extensions else "missing"


def _role(chosen: Chosen, role: str) -> dict[str, Any]:
    exists = any(chosen.on_server.databases[d.name].role_exists for d in chosen.known if d.role == role)
    login = chosen.on_server.logins.get(role)
    return {"name": role, "exists": exists, "login_works": bool(login and login.password)}


def _hatchet(project: Project, chosen: Chosen) -> dict[str, Any]:
    """The version of Hatchet's migrations there, and the one that the engine of this project left."""
    seen = chosen.on_server.databases.get(HATCHET_DATABASE)
    if seen is None:
        # In `remote` it is somebody else's.
        return {"version": None, "expected": None, "engine": None}
    kept = project.ledger.recall("engine")
    return {
        "version": seen.migration,
        "expected": kept.get("migration"),
        "engine": kept.get("migrated_by"),
    }


def _look_at_alembic(project: Project, chosen: Chosen) -> MigrationsLook | None:
    """The application's migrations; None where its database cannot be looked into."""
    own = application(project)
    seen, role = chosen.on_server.databases[own.name], chosen.on_server.logins.get(own.role)
    if not seen.exists or role is None or role.password is None:
        return None
    login = chosen.server.login(DatabaseSpec(own.name, own.role, role.password))
    return look_at_migrations(project.settings.alembic_config.value, project.root, login)


def _of_alembic(look: MigrationsLook | None) -> Iterator[Finding]:
    if look is None:
        return
    if look.problem:
        yield Finding(
            "migrations.alembic", "fail", "where the application's migrations stand is not known", look.problem
        )
    # The baseline makes nothing: a project without migrations is not behind.
    elif look.pending and look.source != BASELINE.name:
        many = f"{len(look.pending)} migrations are" if len(look.pending) > 1 else "one migration is"
        yield Finding(
            "migrations.alembic", "fail", f"{many} pending on the application's database",
            f"it is at {', '.join(look.current) or 'none'}, {look.source} at {', '.join(look.heads)}",
            "owlclaw-up db migrate", "owlclaw-up db migrate",
        )  # fmt: skip


def _findings(project: Project, chosen: Chosen, usage: ServerUsage) -> Iterator[Finding]:
    look = chosen.look
    if 100 * usage.connections >= _CROWDED * look.max_connections:
        yield Finding(
            "database.connections", "warn", f"{usage.connections} of {look.max_connections} connections are in use",
            hint="close sessions, or raise max_connections on that server",
        )  # fmt: skip
    for wanted in chosen.known:
        yield from _findings_of(chosen, wanted)
    existing = [d for d in chosen.known if chosen.on_server.databases[d.name].exists]
    yield from (dataclasses.replace(f, level="fail") for f in unavailable(chosen, existing))
    hatchet = _hatchet(project, chosen)
    if hatchet["expected"] and (hatchet["version"] or 0) < hatchet["expected"]:
        yield Finding(
            "migrations.hatchet", "fail", f"database {HATCHET_DATABASE} is behind the engine's own migrations",
            f"it is at {hatchet['version'] or 'none'}; engine {hatchet['engine']} left it at {hatchet['expected']}",
            "owlclaw-up", "owlclaw-up",
        )  # fmt: skip


def _findings_of(chosen: Chosen, wanted: DatabaseSetting) -> Iterator[Finding]:
    seen, look, name = chosen.on_server.databases[wanted.name], chosen.look, wanted.name
    if not seen.exists:
        yield Finding(f"database.{name}", "fail", f"there is no database {name}", hint=_INIT, command=_INIT)
        return
    if seen.owner != wanted.role and not wanted.given:
        yield Finding(
            f"database.{name}.owner", "fail", f"database {name} belongs to {seen.owner}, not to {wanted.role}",
            hint=f"ALTER DATABASE {name} OWNER TO {wanted.role}, or name that owner in `databases`",
        )  # fmt: skip
    login = chosen.on_server.logins.get(wanted.role)
    if login is None or not login.password:
        why = "does not exist" if login is None else "has a password that is not known here"
        yield Finding(f"role.{wanted.role}", "fail", f"role {wanted.role} {why}", hint=_INIT, command=_INIT)
    if seen.role_timezone not in UTC_NAMES and not wanted.given:
        zone = _timezone(chosen, seen)
        yield Finding(
            f"database.{name}.timezone", "fail", f"sessions of {wanted.role} in {name} are in {zone}, not UTC",
            hint=_INIT, command=_INIT,
        )  # fmt: skip
    for extension in wanted.extensions:
        if extension in look.extensions and extension not in seen.extensions:
            yield Finding(
                f"postgres.extension.{extension}", "fail", f"extension {extension} is not in database {name}",
                "the server has it", _INIT, _INIT,
            )  # fmt: skip
    if name == HATCHET_DATABASE and "btree_gist" not in look.extensions:
        yield Finding(
            "postgres.btree_gist", "warn", "Hatchet's migrations need btree_gist, and the server does not have it",
            hint="install its contrib package (Debian: apt-get install postgresql-contrib)",
        )  # fmt: skip
