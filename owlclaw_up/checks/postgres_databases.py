"""Looks at our roles and databases on a server that lets us in. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from owlclaw_up.checks import databases
from owlclaw_up.checks.base import UP, Evidence, Fix, Look, Seen, ok
from owlclaw_up.checks.postgres_server import inside_of, locked_out, on_server_of, wanted_by
from owlclaw_up.checks.psql import by_psql, password_place
from owlclaw_up.facts.servers import admin_login
from owlclaw_up.host.base import ServerLook, ServerRefusal, sql_name
from owlclaw_up.host.postgres_inspection import DatabaseInside
from owlclaw_up.model import Secret, found
from owlclaw_up.setting_values import DatabaseSetting
from owlclaw_up.spec import HATCHET_DATABASE
from owlclaw_up.steps.database import extension_check
from owlclaw_up.steps.mending import GivePassword


def privileges(evidence: Evidence, server: ServerLook) -> Iterator[Seen]:
    seen = locked_out(evidence, "postgres.privileges")
    look = found(evidence.facts.inside)
    for wanted in wanted_by(evidence) if look and evidence.standing and not seen else ():
        level = "fail" if wanted.name == HATCHET_DATABASE and evidence.with_own_engine else "warn"
        seen += _rights(evidence, wanted, look.databases.get(wanted.name) if look else None, level)
    yield from seen or [ok("our roles may do what they must")]


def _rights(
    evidence: Evidence, wanted: DatabaseSetting, inside: DatabaseInside | ServerRefusal | None, level: str
) -> Iterator[Seen]:  # fmt: skip
    role, name = sql_name(wanted.role), wanted.name
    if isinstance(inside, ServerRefusal):
        if inside.kind == "privilege":
            command = by_psql(evidence, name, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
            title = f"role {wanted.role} may not read what is in its database {name}"
            yield Seen(level, title, inside.detail, "give it what is there", command)
        return
    if inside is None or wanted.given:
        # Who makes what in a database that was given is its owner's affair.
        return
    missing = []
    if not inside.creates_in_database:
        missing.append((f"schemas in database {name}", f"GRANT CREATE ON DATABASE {sql_name(name)} TO {role}"))
    if not inside.creates_in_public:
        missing.append((f"tables in schema public of {name}", f"GRANT USAGE, CREATE ON SCHEMA public TO {role}"))
    if missing:
        yield Seen(
            level, f"role {wanted.role} may not create {' and '.join(what for what, _ in missing)}",
            f"has_database_privilege and has_schema_privilege, asked as {wanted.role}, say no",
            "give it the right" + password_place(evidence), by_psql(evidence, name, *(how for _, how in missing)),
        )  # fmt: skip


def role(evidence: Evidence) -> Iterator[Seen]:
    for wanted in {d.role: d for d in reversed(wanted_by(evidence))}.values():
        for seen in databases.role(wanted, on_server_of(evidence), UP):
            yield Seen(seen.level, seen.title, seen.detail, seen.hint, seen.command, _password_fix(evidence, wanted))


def _password_fix(evidence: Evidence, wanted: DatabaseSetting) -> Fix | None:
    """For a role that does not exist, `up`; one that we made gets the kept password again; nobody else's is touched."""
    seen = on_server_of(evidence).databases.get(wanted.name)
    if seen is not None and not seen.role_exists:
        return Fix("make what is missing in PostgreSQL", up=True)
    ledger, admin = evidence.ledger, admin_login(evidence.ledger)
    password = ledger.vault.passwords.get(wanted.role)
    if admin is None or password is None or not any(r.done for r in ledger.receipts("role", name=wanted.role)):
        return None
    step = GivePassword(admin, wanted.role, Secret(password))
    return Fix(f"give role {wanted.role}, which owlclaw-up made, the password that is kept", (step,))


def owner(evidence: Evidence) -> Iterator[Seen]:
    for wanted in wanted_by(evidence):
        yield from databases.owner(wanted, on_server_of(evidence))


def database(evidence: Evidence) -> Iterator[Seen]:
    for wanted in wanted_by(evidence):
        for seen in databases.missing(wanted, on_server_of(evidence), UP):
            fix = Fix("make what is missing in PostgreSQL", up=True)
            yield Seen(seen.level, seen.title, seen.detail, seen.hint, seen.command, fix)


def timezone(evidence: Evidence) -> Iterator[Seen]:
    look = found(evidence.facts.inside)
    for wanted in wanted_by(evidence):
        inside = look.databases.get(wanted.name) if look else None
        for seen in databases.timezone(wanted, on_server_of(evidence), inside, UP):
            fix = Fix("set UTC for our roles in our databases", up=True)
            yield Seen(seen.level, seen.title, seen.detail, seen.hint, seen.command, fix)


def encoding(evidence: Evidence) -> Iterator[Seen]:
    on_server = on_server_of(evidence)
    existing = [d for d in wanted_by(evidence) if (seen := on_server.databases.get(d.name)) and seen.exists]
    if existing:
        yield from list(databases.encoding(existing, on_server)) or [ok("our databases are in UTF8")]


def collation(evidence: Evidence) -> Iterator[Seen]:
    for name, inside in inside_of(evidence).items():
        if inside.collation and inside.collation != inside.actual_collation:
            quoted = sql_name(name)
            yield Seen(
                "warn", f"database {name} was made with collation version {inside.collation}, and the system has "
                f"{inside.actual_collation or 'none'} now",
                "pg_database.datcollversion differs from pg_database_collation_actual_version()",
                "build its indexes anew, then say so" + password_place(evidence),
                by_psql(
                    evidence, name, f"REINDEX DATABASE {quoted}", f"ALTER DATABASE {quoted} REFRESH COLLATION VERSION"
                ),
            )  # fmt: skip


def btree_gist_early(evidence: Evidence) -> Iterator[Seen]:
    """Seen before anything is made: it stops `up`, and `examine` puts that error here."""
    seen = on_server_of(evidence).databases.get(HATCHET_DATABASE)
    if evidence.with_own_engine and seen is not None and seen.exists and evidence.error is None:
        yield ok("Hatchet's migrations make btree_gist themselves, or have made it")


def extensions(check: str) -> Look:
    """The look of the check of that id."""

    def look(evidence: Evidence) -> Iterator[Seen]:
        wanted = [d for d in wanted_by(evidence) if any(extension_check(e) == check for e in d.extensions)]
        for name, seen in databases.extensions(wanted, on_server_of(evidence), UP):
            if extension_check(name) == check:
                fix = Fix("make what is missing in PostgreSQL", up=True) if seen.level == "warn" else None
                yield Seen(seen.level, seen.title, seen.detail, seen.hint, seen.command, fix)

    return look
