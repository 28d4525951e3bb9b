"""Dumps that are kept before something is migrated, and the way back from one."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from pathlib import Path

from owlclaw_up.errors import PostgresUnusable, UpError
from owlclaw_up.facts import Facts
from owlclaw_up.facts.containers import DATABASE
from owlclaw_up.host.base import ServerLogin, ServerLook
from owlclaw_up.host.dumps import ContainerTools, DumpTools, find_tools
from owlclaw_up.host.postgres import in_database
from owlclaw_up.host.swap import aside, copy_settings, is_there, replaced, swap_in
from owlclaw_up.model import Action, Change, unchanged
from owlclaw_up.receipts import Ledger, Receipt
from owlclaw_up.spec import PostgresSpec
from owlclaw_up.steps.base import Applied, Run
from owlclaw_up.steps.compose import container_name

# So many of a database are kept.
KEPT = 5


@dataclass(frozen=True)
class Kept:
    """A dump, and the login to the database that it is of.

    Attributes:
        label: what the database held then, part of the file's name.
    """

    server: PostgresSpec
    login: ServerLogin
    label: str


class KeepDump:
    """Dump a database before it is migrated."""

    id = "database.dump"
    title = "Dump"

    def __init__(self, ledger: Ledger, wanted: Kept, why_not: str = "") -> None:
        self.ledger, self.wanted, self.why_not = ledger, wanted, why_not
        self.path: Path | None = None

    def check(self, facts: Facts) -> Change:
        if self.why_not:
            return unchanged(f"none is made: {self.why_not}")
        return Change(Action.CREATE, f"of database {self.wanted.login.database}, into .owlclaw-up/dumps/")

    def apply(self, run: Run) -> Applied:
        if self.why_not:
            return Applied(Action.UNCHANGED, self.why_not)
        self.path = keep_dump(run, self.ledger, self.wanted)
        return Applied(Action.CREATE, f"{self.path.name}, {-(-self.path.stat().st_size // 1000)} kB")


class RestoreDump:
    """Put a dump in the place of the database that it is of."""

    id = "database.restore"
    title = "Restore"

    def __init__(self, ledger: Ledger, server: PostgresSpec, login: ServerLogin, path: Path) -> None:
        self.ledger, self.server, self.login, self.path = ledger, server, login, path

    def check(self, facts: Facts) -> Change:
        return Change(Action.UPDATE, f"database {self.login.database} from {self.path.name}")

    def apply(self, run: Run) -> Applied:
        restore_dump(run, self.ledger, self.server, self.login, self.path)
        return Applied(Action.UPDATE, f"database {self.login.database} is as in {self.path.name}")


def dumps(ledger: Ledger, database: str) -> list[Receipt]:
    """The dumps of a database that are on record and there, the oldest first."""
    return [r for r in ledger.receipts("dump", database=database) if r.done and Path(r.identity["path"]).exists()]


def tools_for(run: Run, ledger: Ledger, server: PostgresSpec) -> tuple[DumpTools, ServerLook]:
    """Tools that fit a server, and what it is.

    Raises:
        PostgresUnusable: it does not answer.
        DumpUnusable: there are no such tools.
    """
    look = run.host.postgres.look(server.admin, server.source, 5.0)
    if not isinstance(look, ServerLook):
        raise PostgresUnusable(
            f"postgres-{look.kind}", f"PostgreSQL at {server.admin.where} does not answer", hint="owlclaw-up status",
            detail=look.detail,
        )  # fmt: skip
    if server.kind == "container":
        compose = ledger.recall("compose")
        return ContainerTools(run.host.docker(compose["address"]), container_name(compose["project"], DATABASE)), look
    kept = ledger.recall("postgres").get("bin_dir")
    folders = [Path(kept)] if kept else []
    return find_tools(run.host.processes, look.major, folders, run.host.environ.get("PATH", "")), look


def keep_dump(run: Run, ledger: Ledger, wanted: Kept, **about: object) -> Path:
    """Dump a database into the state directory; of each database the last few are kept.

    Args:
        about: more for the receipt.
    """
    tools, look = tools_for(run, ledger, wanted.server)
    folder = ledger.directory / "dumps"
    ledger.prepare()
    run.host.files.make_dir(folder)
    if not ledger.exists:
        ledger.save_secrets()
    time = datetime.datetime.fromtimestamp(run.host.clock.now(), datetime.timezone.utc)
    label = re.sub(r"[^A-Za-z0-9_.-]+", "-", wanted.label)[:60]
    path = folder / f"{wanted.login.database}-{time:%Y%m%dT%H%M%S.%f}"[:-3]
    path = path.with_name(f"{path.name}Z-{label}.dump")
    database = wanted.login.database
    # The owner may not read what others have made in its database.
    login = in_database(wanted.server.admin, database) if look.superuser else wanted.login
    with ledger.creating("dump", path=str(path), database=database, **about):
        tools.dump(login, path, run.deadline, run.say)
    _drop_oldest(run, ledger, database)
    return path


def _drop_oldest(run: Run, ledger: Ledger, database: str) -> None:
    there = {r.identity["path"] for r in dumps(ledger, database)[-KEPT:]}
    # One that an upgrade may still have to go back to is not given up.
    there.add(ledger.recall("upgrade").get("dump"))
    for receipt in ledger.receipts("dump", database=database):
        path = receipt.identity["path"]
        if path not in there:
            run.host.files.remove(Path(path))
            ledger.forget("dump", path=path)


def restore_dump(run: Run, ledger: Ledger, server: PostgresSpec, login: ServerLogin, path: Path) -> None:
    """Restore into a database made aside, with the old one's owner, settings and rights; then have it take the old one's name.

    Args:
        login: the owner role's, to the database.

    Raises:
        UpError: it failed; the old database is as it was.
    """
    admin, database = server.admin, login.database
    tools, look = tools_for(run, ledger, server)
    tools.contents(path)
    where = {"server": server.identity, "where": admin.where}
    for left in (aside(database), replaced(database)):
        # Of a restore that was killed.
        if ledger.receipts("database", name=left):
            run.host.postgres.drop_database(admin, left)
            ledger.forget("database", name=left)
    run.say("into a new database")
    fresh = aside(database)
    with ledger.creating("database", name=fresh, **where):
        run.host.postgres.create_database(admin, fresh, login.user)
    try:
        if is_there(admin, database):
            copy_settings(admin, database, fresh)
        else:
            run.host.postgres.set_timezone(admin, fresh, login.user)
        # Only a superuser may give things to others, and make extensions that are not trusted.
        into = admin if look.superuser else login
        tools.restore(in_database(into, fresh), path, run.deadline, keep_owners=look.superuser, say=run.say)
        run.say("taking the old one's place")
        ledger.intend("database", name=replaced(database), **where)
        swap_in(admin, database, run.host.clock)
    except UpError:
        run.host.postgres.drop_database(admin, fresh)
        for name in (fresh, replaced(database)):
            ledger.forget("database", name=name)
        raise
    run.host.postgres.drop_database(admin, replaced(database))
    for name in (fresh, replaced(database)):
        ledger.forget("database", name=name)
