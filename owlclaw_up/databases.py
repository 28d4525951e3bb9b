"""The commands of `owlclaw-up db` that make databases: look, plan, apply, one `Outcome` each. Prints nothing.

They need a PostgreSQL that answers, and nothing else: no engine, no Docker, no earlier `up`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from owlclaw_up.design import database_specs
from owlclaw_up.errors import NotATestDatabase, PostgresMissing, PostgresUnusable, UpError
from owlclaw_up.executor import apply
from owlclaw_up.facts import DatabasesLook, Facts, gather
from owlclaw_up.facts.servers import look_at_databases
from owlclaw_up.host.base import Deadline, ServerLook, sql_name
from owlclaw_up.listeners import both, logger
from owlclaw_up.model import Absent, Finding, Found, Listener, Mode, Note, Outcome, StepReport, Unknown, found, silent
from owlclaw_up.planner import Plan, plan
from owlclaw_up.project import Project, application, failure, relative
from owlclaw_up.receipts import project_lock
from owlclaw_up.server_choice import choose_server, refused_servers
from owlclaw_up.setting_values import DatabaseSetting
from owlclaw_up.settings import DEFAULT_DATABASES, TEST_SUFFIX, complete, wanted_databases
from owlclaw_up.spec import HATCHET_DATABASE, PostgresSpec
from owlclaw_up.steps.base import Step
from owlclaw_up.steps.database import EnsureDatabase, RecreateDatabase, missing_extension
from owlclaw_up.steps.project import KeepLogins


@dataclass(frozen=True)
class Chosen:
    """The server that a command works on, and what it has of our databases.

    Attributes:
        known: the databases that are wanted, and those that we made on that server without being asked by a setting.
    """

    facts: Facts
    look: ServerLook
    server: PostgresSpec
    on_server: DatabasesLook
    known: tuple[DatabaseSetting, ...]


def choose_for(project: Project, also: Sequence[str] = (), *, to_look: bool = False) -> Chosen:
    """The server that is named, else the one that this project uses, else the one that libpq would find.

    Args:
        also: names of databases to know beside the wanted ones.
        to_look: nothing is to be made there, so that fewer rights will do.

    Raises:
        PostgresUnusable: it is named or kept, and cannot be used.
        PostgresMissing: there is none.
    """
    settings, ledger = project.settings, project.ledger
    facts = gather(project.host, settings, ledger, only=("stack", "servers"))
    on_server = facts.our_stack.on_server
    kept, ours = ledger.recall("postgres"), found(on_server.server)
    kind = str(kept.get("kind", ""))
    if kind in ("embedded", "container") and settings.admin_url.value is None:
        if isinstance(on_server.server, (Absent, Unknown)):
            raise PostgresUnusable(
                "postgres-unreachable",
                f"the PostgreSQL of this project does not answer: {on_server.server.why}",
                hint="owlclaw-up",
            )
        look = on_server.server.value
    else:
        look = _users_server(project, facts, to_look)
    # Where the kept login is refused by now, the state still knows which server it was.
    if look.identity != (ours.identity if ours else kept.get("identity")):
        kind = "local"
        if not to_look:
            _check_move(project, look)
    identity = look.identity if kind == "local" else ""
    known = _known(project, identity, also)
    if look is not ours or len(known) > len(on_server.databases):
        on_server = _look_at(project, look, known)
    server = PostgresSpec(kind, look.login, look.source, look.max_connections, identity)
    stack = dataclasses.replace(facts.our_stack, on_server=on_server)
    return Chosen(dataclasses.replace(facts, stack=Found(stack)), look, server, on_server, known)


def _users_server(project: Project, facts: Facts, to_look: bool) -> ServerLook:
    candidates = found(facts.servers) or ()
    if to_look:
        for candidate in candidates:
            if isinstance(candidate.look, ServerLook):
                return candidate.look
    chosen = choose_server(facts, project.settings, project.ledger, Mode.MOCK)
    if chosen is None:
        raise PostgresMissing(
            [(c.login.where, c.look.detail) for c in refused_servers(facts) if not isinstance(c.look, ServerLook)]
        )
    return chosen


def _check_move(project: Project, look: ServerLook) -> None:
    """What was made on one server is taken back there before another one is used."""
    ledger, settings = project.ledger, project.settings
    kept = ledger.recall("postgres")
    made = ledger.state.mode or ledger.receipts("database") or ledger.receipts("role")
    if not kept.get("kind") or not made:
        return
    raise PostgresUnusable(
        "postgres-other-server",
        f"what owlclaw-up made for this project is on {kept.get('where')}, and {settings.admin_url.origin} names "
        f"{look.login.where}",
        hint="leave out that login, or take back what is there first: owlclaw-up down --purge",
    )


def _known(project: Project, identity: str, also: Sequence[str]) -> tuple[DatabaseSetting, ...]:
    wanted = wanted_databases(project.settings)
    names = [r.identity["name"] for r in project.ledger.receipts("database", server=identity)]
    more = [n for n in dict.fromkeys((*names, *also)) if n not in {d.name for d in wanted}]
    return (*wanted, *(complete(DatabaseSetting(name, ""), wanted) for name in more))


def _look_at(project: Project, look: ServerLook, known: Sequence[DatabaseSetting]) -> DatabasesLook:
    more = known[len(wanted_databases(project.settings)) :]
    return look_at_databases(project.host, project.settings, project.ledger, look.login, look.source, more)


def init(project: Project, listener: Listener = silent, *, dry_run: bool = False) -> Outcome:
    """Make roles, databases and extensions; with `dry_run`, only say which."""

    def steps(chosen: Chosen) -> list[Step]:
        specs = database_specs(wanted_databases(project.settings), project.ledger, chosen.on_server)
        return [
            KeepLogins(chosen.server, specs, project.ledger),
            *(EnsureDatabase(chosen.server, project.ledger, spec) for spec in specs),
        ]

    return _change(project, "db init", steps, listener, dry_run=dry_run)


def reset_test(
    project: Project, name: str | None = None, listener: Listener = silent, *, dry_run: bool = False
) -> Outcome:
    """Drop the test database and make it anew; with `dry_run`, only say what would be done.

    Args:
        name: of the database; by default the application's name with `_test` at its end.
    """
    own = name or _test_database(project)

    def steps(chosen: Chosen) -> list[Step]:
        if not chosen.look.createdb and not chosen.look.superuser:
            # Found out after the drop it would be too late.
            user = chosen.look.user
            raise PostgresUnusable(
                "postgres-privileges",
                f"the login {user!r} on {chosen.look.login.where} lacks CREATEDB, so it could not make {own} anew",
                hint=f"as a superuser there: ALTER ROLE {sql_name(user)} CREATEDB",
            )
        (spec,) = database_specs([d for d in chosen.known if d.name == own], project.ledger, chosen.on_server)
        return [
            KeepLogins(chosen.server, [spec], project.ledger),
            RecreateDatabase(chosen.server, project.ledger, spec),
        ]

    try:
        _check_droppable(project, own)
    except UpError as error:
        return failure(project, "db reset-test", error, 0.0)
    return _change(project, "db reset-test", steps, listener, dry_run=dry_run, also=(own,))


def _test_database(project: Project) -> str:
    """The name of the application's test database."""
    return application(project).name + TEST_SUFFIX


def _check_droppable(project: Project, name: str) -> None:
    """Only a test database may be dropped: one of the settings by its name, or one that we made.

    Raises:
        NotATestDatabase: it is none.
    """
    own_words = f"owlclaw-up db reset-test {_test_database(project)}"
    if name in {d.name for d in DEFAULT_DATABASES}:
        owner = "Hatchet's" if name == HATCHET_DATABASE else "the application's"
        raise NotATestDatabase(name, f"it is {owner} own", f"everything anew: owlclaw-up reset; or: {own_words}")
    if name == _test_database(project) or project.ledger.receipts("database", name=name):
        return
    if name not in {d.name for d in project.settings.databases.value}:
        raise NotATestDatabase(
            name,
            "owlclaw-up did not make it, and the setting `databases` does not name it",
            f"name it in owlclaw-up.toml, or: {own_words}",
        )
    if not name.endswith(TEST_SUFFIX):
        raise NotATestDatabase(
            name, f"owlclaw-up did not make it, and its name does not end in {TEST_SUFFIX}", own_words
        )


def _change(
    project: Project, command: str, steps: Callable[[Chosen], list[Step]], listener: Listener, *, dry_run: bool,
    also: Sequence[str] = (),
) -> Outcome:  # fmt: skip
    """Choose the server, plan the steps on it, and apply them under the project's lock."""
    clock, ledger = project.host.clock, project.ledger
    begun = clock.monotonic()

    def prepare() -> tuple[Chosen, Plan]:
        chosen = choose_for(project, also)
        todo = plan(steps(chosen), chosen.facts)
        project.learn_secrets()
        return chosen, todo

    try:
        if dry_run:
            chosen, todo = prepare()
            return _outcome(project, command, chosen, _planned(todo), clock.monotonic() - begun, dry_run=True)
        # A precondition must leave nothing behind, so a new project is looked at before its folder is made.
        first = None if ledger.exists else prepare()
        deadline = Deadline(project.settings.timeout.value, clock)
        waited: list[str] = []

        def waiting(text: str) -> None:
            waited.append(text)
            listener(Note(text))

        with project_lock(ledger, command, deadline.left(), waiting):
            chosen, todo = first if first is not None and not waited and not ledger.exists else prepare()
            reports, run, error = apply(todo, project.host, deadline, both(logger(project, command), listener))
            project.learn_secrets()
            if error is None:
                chosen = dataclasses.replace(chosen, on_server=_look_at(project, chosen.look, chosen.known))
    except UpError as failed:
        return failure(project, command, failed, clock.monotonic() - begun)
    findings = tuple(run.findings)
    if error is not None:
        outcome = failure(project, command, error, clock.monotonic() - begun)
        return dataclasses.replace(outcome, steps=tuple(reports), findings=findings)
    return _outcome(project, command, chosen, tuple(reports), clock.monotonic() - begun, findings)


def _planned(todo: Plan) -> tuple[StepReport, ...]:
    return tuple(StepReport(p.id, p.title, p.change.action, "skipped", 0.0, p.change.summary) for p in todo.planned)


def _outcome(
    project: Project, command: str, chosen: Chosen, reports: tuple[StepReport, ...], seconds: float,
    findings: tuple[Finding, ...] = (), *, dry_run: bool = False,
) -> Outcome:  # fmt: skip
    """What was made, or would be. Said each time: the extensions that the server does not have."""
    touched = [d for d in chosen.known if any(r.id == f"database.{d.name}" for r in reports)]
    missing = tuple(unavailable(chosen, touched))
    # The same extension, said of each database for itself.
    said = tuple(m.title.partition(" in database ")[0] for m in missing)
    findings = (*(f for f in findings if not f.title.startswith(said)), *missing)
    data: dict[str, Any] = {
        "database": {
            "server": server_data(chosen),
            "databases": [_database_data(chosen, d) for d in touched],
            "secrets_file": relative(project, project.ledger.secrets_path),
        },
    }
    if dry_run:
        data["dry_run"] = True
    mode = project.ledger.state.mode
    return Outcome(
        command, "ok", 0, Mode(mode) if mode else None, steps=reports, seconds=seconds, findings=findings,
        project=project.root, data=data,
    )  # fmt: skip


def server_data(chosen: Chosen) -> dict[str, Any]:
    """The server as data: where it is, what it is, how it was found."""
    look = chosen.look
    return {
        "where": look.login.where, "kind": chosen.server.kind, "source": look.source, "version": look.version,
        "login": look.user,
    }  # fmt: skip


def unavailable(chosen: Chosen, databases: Sequence[DatabaseSetting]) -> Iterator[Finding]:
    """The extensions that databases want and the server does not have, each with the databases that lack it."""
    for extension in dict.fromkeys(e for d in databases for e in d.extensions):
        lacking = [
            d.name
            for d in databases
            if extension in d.extensions and extension not in chosen.on_server.databases[d.name].extensions
        ]
        if lacking and extension not in chosen.look.extensions:
            yield missing_extension(lacking, extension, chosen.look.major)


def _database_data(chosen: Chosen, wanted: DatabaseSetting) -> dict[str, Any]:
    seen = chosen.on_server.databases[wanted.name]
    extensions = [e for e in wanted.extensions if e in seen.extensions]
    return {"name": wanted.name, "owner": wanted.role, "exists": seen.exists, "extensions": extensions}
