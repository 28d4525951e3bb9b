"""The command `db status`: server, databases, roles, extensions and migrations, as one table. Reads only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from owlclaw_up.checks import databases
from owlclaw_up.checks.base import Seen, of_error
from owlclaw_up.checks.hatchet_database import migration
from owlclaw_up.checks.preconditions import check_of
from owlclaw_up.databases import Chosen, choose_for, server_data
from owlclaw_up.errors import UpError
from owlclaw_up.host.base import DatabaseLook, ServerRefusal
from owlclaw_up.host.migrations import BASELINE, MigrationsLook, look_at_migrations
from owlclaw_up.host.postgres_inspection import DatabaseInside, look_inside
from owlclaw_up.host.postgres_usage import ServerUsage, look_at_usage
from owlclaw_up.model import Finding, Mode, Outcome
from owlclaw_up.project import Project, application, failure
from owlclaw_up.setting_values import DatabaseSetting
from owlclaw_up.spec import HATCHET_DATABASE, DatabaseSpec
from owlclaw_up.steps.database import extension_check

_INIT = "owlclaw-up db init"
Inside = dict[str, DatabaseInside | ServerRefusal]


def status(project: Project) -> Outcome:
    """Where the databases stand; `exit_code` 1 where something is missing or behind, 3 where there is no server."""
    begun = project.host.clock.monotonic()
    try:
        chosen = choose_for(project, to_look=True)
        usage = look_at_usage(chosen.look.login)
    except UpError as error:
        return failure(project, "db status", error, project.host.clock.monotonic() - begun)
    alembic = _look_at_alembic(project, chosen)
    inside = _look_inside(chosen)
    findings = (*_findings(project, chosen, usage, inside), *_of_alembic(alembic))
    bad = any(f.level == "fail" for f in findings)
    data = {
        "server": {
            **server_data(chosen),
            "tls": usage.tls,
            "timezone": chosen.look.timezone,
            "connections": {"used": usage.connections, "max": chosen.look.max_connections},
        },
        "databases": [_database(chosen, usage, d, inside.get(d.name)) for d in chosen.known],
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


def _look_inside(chosen: Chosen) -> Inside:
    """The databases as their owners find them; none of a role that lets us not in."""
    inside: Inside = {}
    for wanted in chosen.known:
        login = chosen.on_server.logins.get(wanted.role)
        if login is not None and login.password is not None and chosen.on_server.databases[wanted.name].exists:
            spec = DatabaseSpec(wanted.name, wanted.role, login.password)
            inside[wanted.name] = look_inside(chosen.server.login(spec), 3.0)
    return inside


def _database(
    chosen: Chosen, usage: ServerUsage, wanted: DatabaseSetting, inside: DatabaseInside | ServerRefusal | None
) -> dict[str, Any]:
    seen = chosen.on_server.databases[wanted.name]
    names = dict.fromkeys((*wanted.extensions, *(["btree_gist"] if wanted.name == HATCHET_DATABASE else [])))
    return {
        "name": wanted.name,
        "exists": seen.exists,
        "owner": seen.owner or None,
        "wanted_owner": wanted.role,
        "size": usage.sizes.get(wanted.name),
        "encoding": seen.encoding or None,
        "timezone": databases.session_timezone(seen, chosen.look, inside) if seen.exists else None,
        "extensions": {name: _extension(chosen, seen, name) for name in names} if seen.exists else {},
    }


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
        return {"version": None, "expected": None, "engine": None, "elsewhere": True}
    kept = project.ledger.recall("engine")
    return {
        "version": seen.migration,
        "expected": kept.get("migration"),
        "engine": kept.get("migrated_by"),
        "elsewhere": False,
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


def _findings(project: Project, chosen: Chosen, usage: ServerUsage, inside: Inside) -> Iterator[Finding]:
    """What the doctor would say of these databases, in its words; here all that is missing or behind fails."""
    on_server = chosen.on_server
    yield from _said("postgres.connections", databases.crowd(usage.connections, chosen.look.max_connections))
    for wanted in chosen.known:
        yield from _said("postgres.database", databases.missing(wanted, on_server, _INIT))
        if not on_server.databases[wanted.name].exists:
            continue
        yield from _said("postgres.owner", databases.owner(wanted, on_server))
        yield from _said("postgres.role", databases.role(wanted, on_server, _INIT))
        yield from (f for e in databases.locked_out(wanted, on_server) for f in _said(check_of(e), [of_error(e)]))
        timezone = databases.timezone(wanted, on_server, inside.get(wanted.name), _INIT)
        yield from _said("postgres.timezone", timezone, failing=True)
    for name, seen in databases.extensions(chosen.known, on_server, _INIT):
        yield from _said(extension_check(name), [seen], failing=True)
    yield from _said("postgres.encoding", databases.encoding(chosen.known, on_server))
    yield from _said("postgres.btree_gist", databases.btree_gist(on_server))
    hatchet = _hatchet(project, chosen)
    told = migration(hatchet["version"], hatchet["expected"], str(hatchet["engine"]), "owlclaw-up")
    yield from _said("hatchet.migrations", told)


def _said(check: str, seen: Iterable[Seen], *, failing: bool = False) -> Iterator[Finding]:
    for s in seen:
        yield Finding(check, "fail" if failing else s.level, s.title, s.detail, s.hint or s.command, s.command)
