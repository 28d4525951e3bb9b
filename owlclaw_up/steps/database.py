"""A database with its owner role, timezone and extensions; and dropping what we made of them."""

from __future__ import annotations

from collections.abc import Sequence

from owlclaw_up.errors import DatabaseNotOurs, PostgresUnusable, RolePasswordUnknown
from owlclaw_up.facts import Facts
from owlclaw_up.facts.servers import UTC_NAMES, admin_login
from owlclaw_up.host.base import ServerLook, ServerRefusal
from owlclaw_up.model import Action, Change, Finding, unchanged
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import DatabaseSpec, PostgresSpec
from owlclaw_up.steps.base import Applied, Run, Step


class EnsureDatabase:
    """Role, database, UTC by `ALTER ROLE ... IN DATABASE`, extensions by the admin login. Never the server's settings."""

    def __init__(self, server: PostgresSpec, ledger: Ledger, wanted: DatabaseSpec) -> None:
        self.server, self.ledger, self.wanted = server, ledger, wanted

    @property
    def id(self) -> str:
        return f"database.{self.wanted.name}"

    @property
    def title(self) -> str:
        return f"Database {self.wanted.name}"

    def check(self, facts: Facts) -> Change:
        look = facts.our_stack.on_server
        seen = look.databases.get(self.wanted.name)
        if self.wanted.given:
            return unchanged(f"used as it is, on {self.server.admin.where}")
        if seen is None:
            if self.ledger.receipts("database", name=self.wanted.name):
                return Change(Action.RUN, "looked at once the server runs")
            return Change(Action.CREATE, self._summary(), touches=self._touches())
        missing = []
        if not seen.role_exists:
            missing.append(f"role {self.wanted.role}")
        if not seen.exists:
            missing.append(f"database {self.wanted.name}")
        elif self.wanted.utc and seen.role_timezone not in UTC_NAMES:
            missing.append("timezone UTC for its role")
        server = look.server.value if hasattr(look.server, "value") else None
        available = server.extensions if isinstance(server, ServerLook) else frozenset()
        missing += [f"extension {e}" for e in self.wanted.extensions if e in available and e not in seen.extensions]
        if not missing:
            return unchanged(f"owned by {self.wanted.role}, UTC{self._extensions_text(seen.extensions)}")
        action = Action.UPDATE if seen.exists else Action.CREATE
        return Change(action, ", ".join(missing), touches=self._touches())

    def apply(self, run: Run) -> Applied:
        postgres, admin, wanted = run.host.postgres, self.server.admin, self.wanted
        seen = postgres.look_at_database(admin, wanted.name, wanted.role)
        made = []
        where = {"server": self.server.identity, "where": admin.where}
        if not seen.role_exists:
            with self.ledger.creating("role", name=wanted.role, **where):
                postgres.create_role(admin, wanted.role, wanted.password)
            made.append("role")
        if not seen.exists:
            if not postgres.has_role(admin, wanted.role):
                self._join(run, new_role=not seen.role_exists)
            with self.ledger.creating("database", name=wanted.name, **where):
                postgres.create_database(admin, wanted.name, wanted.role)
            made.append("database")
        elif seen.owner != wanted.role:
            raise DatabaseNotOurs(wanted.name, seen.owner, wanted.role, admin.where)
        if wanted.utc and seen.role_timezone not in UTC_NAMES:
            postgres.set_timezone(admin, wanted.name, wanted.role)
            made.append("UTC")
        for extension in wanted.extensions:
            if extension not in seen.extensions:
                refusal = postgres.create_extension(admin, wanted.name, extension)
                if refusal is None:
                    made.append(extension)
                else:
                    server = postgres.look(admin, self.server.source, 5.0)
                    major = server.major if isinstance(server, ServerLook) else None
                    run.findings.append(missing_extension([wanted.name], extension, major, refusal))
        refusal = postgres.login_works(self.server.login(wanted))
        if refusal is not None:
            if refusal.kind == "login":
                raise RolePasswordUnknown(wanted.role, wanted.name, admin.where, self.ledger.secrets_path)
            raise PostgresUnusable(
                f"postgres-{refusal.kind}",
                f"role {wanted.role!r} cannot use database {wanted.name!r} on {admin.where}",
                hint="owlclaw-up logs postgres",
                detail=refusal.detail,
            )
        if not made:
            return Applied(Action.UNCHANGED, f"owned by {wanted.role}")
        return Applied(Action.UPDATE if seen.exists else Action.CREATE, ", ".join(made))

    def _join(self, run: Run, *, new_role: bool) -> None:
        """Only a member of a role may give it a database. Of a role of the user's, the membership is taken back later."""
        admin, role = self.server.admin, self.wanted.role
        if new_role or self.ledger.receipts("role", name=role):
            run.host.postgres.join_role(admin, role)
            return
        with self.ledger.creating("membership", name=role, server=self.server.identity, where=admin.where):
            run.host.postgres.join_role(admin, role)

    def _summary(self) -> str:
        return f"database {self.wanted.name} owned by role {self.wanted.role}, UTC{self._extensions_text(None)}"

    def _touches(self) -> tuple[str, ...]:
        return (f"role {self.wanted.role}", f"database {self.wanted.name}")

    def _extensions_text(self, present: frozenset[str] | None) -> str:
        names = [e for e in self.wanted.extensions if present is None or e in present]
        return f", {' and '.join(names)}" if names else ""


def missing_extension(
    databases: Sequence[str], extension: str, major: int | None, refusal: ServerRefusal | None = None
) -> Finding:
    """What to say of an extension that databases lack.

    Args:
        major: the server's version, for the name of the package.
        refusal: why it could not be created; None where the server does not have it.
    """
    install = {
        "vector": f"install pgvector for that server (Debian: apt-get install postgresql-{major or 'NN'}-pgvector)",
        "pgcrypto": "install that server's contrib package (Debian: apt-get install postgresql-contrib)",
    }.get(extension, "install it for that server")
    why = refusal.detail.splitlines()[0] if refusal else "the server does not have it"
    if refusal is not None and refusal.kind == "privilege":
        install = f'as a superuser there: psql -d {databases[0]} -c "CREATE EXTENSION {extension}"'
        # Which right is missing stands in the server's own hint.
        why = " ".join(refusal.detail.split())
    return Finding(
        id=extension_check(extension),
        level="warn",
        title=f"extension {extension} is not in database {' and '.join(databases)}",
        detail=why,
        hint=install,
    )


def extension_check(name: str) -> str:
    """The id of the doctor's check that speaks of an extension."""
    return "postgres.vector" if name == "vector" else "postgres.extension"


class RecreateDatabase(EnsureDatabase):
    """Drop a test database, whoever is connected to it, and make it anew."""

    def check(self, facts: Facts) -> Change:
        seen = facts.our_stack.on_server.databases.get(self.wanted.name)
        if seen is None or not seen.exists:
            return Change(Action.CREATE, self._summary(), touches=self._touches())
        return Change(Action.UPDATE, f"dropped with its data, then {self._summary()}", touches=self._touches())

    def apply(self, run: Run) -> Applied:
        postgres, admin, wanted = run.host.postgres, self.server.admin, self.wanted
        seen = postgres.look_at_database(admin, wanted.name, wanted.role)
        if seen.exists:
            if seen.owner != wanted.role:
                raise DatabaseNotOurs(wanted.name, seen.owner, wanted.role, admin.where)
            if not postgres.has_role(admin, wanted.role):
                self._join(run, new_role=False)
            postgres.drop_database(admin, wanted.name)
            self.ledger.forget("database", name=wanted.name, server=self.server.identity)
        made = super().apply(run)
        return Applied(Action.UPDATE, f"dropped; {made.detail}") if seen.exists else made


class DropDatabase:
    """Drop a database that we made on the user's server."""

    def __init__(self, ledger: Ledger, name: str, identity: str) -> None:
        self.ledger, self.name, self.identity = ledger, name, identity

    @property
    def id(self) -> str:
        return f"database.{self.name}"

    @property
    def title(self) -> str:
        return f"Database {self.name}"

    def check(self, facts: Facts) -> Change:
        return Change(Action.REMOVE, f"drop database {self.name}, which owlclaw-up made")

    def apply(self, run: Run) -> Applied:
        admin = _same_server(run, self.ledger, self.identity)
        run.host.postgres.drop_database(admin.login, self.name)
        self.ledger.forget("database", name=self.name)
        return Applied(Action.REMOVE, "dropped")


class DropRole:
    """Drop a role that we made on the user's server."""

    def __init__(self, ledger: Ledger, name: str, identity: str) -> None:
        self.ledger, self.name, self.identity = ledger, name, identity

    @property
    def id(self) -> str:
        return f"role.{self.name}"

    @property
    def title(self) -> str:
        return f"Role {self.name}"

    def check(self, facts: Facts) -> Change:
        return Change(Action.REMOVE, f"drop role {self.name}, which owlclaw-up made")

    def apply(self, run: Run) -> Applied:
        admin = _same_server(run, self.ledger, self.identity)
        run.host.postgres.drop_role(admin.login, self.name)
        self.ledger.forget("role", name=self.name)
        return Applied(Action.REMOVE, "dropped")


class LeaveRole:
    """End the admin's membership of a role of the user's, which was needed to give it a database."""

    def __init__(self, ledger: Ledger, name: str, identity: str) -> None:
        self.ledger, self.name, self.identity = ledger, name, identity

    @property
    def id(self) -> str:
        return f"membership.{self.name}"

    @property
    def title(self) -> str:
        return f"Membership of {self.name}"

    def check(self, facts: Facts) -> Change:
        return Change(Action.REMOVE, f"take the admin out of role {self.name}, which owlclaw-up put it into")

    def apply(self, run: Run) -> Applied:
        admin = _same_server(run, self.ledger, self.identity)
        run.host.postgres.leave_role(admin.login, self.name)
        self.ledger.forget("membership", name=self.name)
        return Applied(Action.REMOVE, "ended")


def drops(ledger: Ledger) -> list[Step]:
    """Removal steps for everything that we made on a server of the user's, databases first.

    What is in an embedded server goes with its data directory.
    """
    kinds: tuple[tuple[str, type[DropDatabase] | type[LeaveRole] | type[DropRole]], ...] = (
        ("database", DropDatabase),
        ("membership", LeaveRole),
        ("role", DropRole),
    )
    return [
        drop(ledger, r.identity["name"], r.identity["server"])
        for kind, drop in kinds
        for r in ledger.receipts(kind)
        if r.identity["server"]
    ]


def _same_server(run: Run, ledger: Ledger, identity: str) -> ServerLook:
    """The server of the receipt, and no other that listens there now."""
    login = admin_login(ledger)
    look = run.host.postgres.look(login, "state", 5.0) if login else None
    if isinstance(look, ServerLook) and look.identity == identity:
        return look
    why = look.detail if isinstance(look, ServerRefusal) else "another server answers there now, or none is known"
    raise PostgresUnusable(
        "postgres-other-server",
        f"the server that holds what we made ({ledger.recall('postgres').get('where')}) cannot be used, so nothing was dropped",
        hint="start it, then: owlclaw-up down --purge",
        detail=why,
    )
