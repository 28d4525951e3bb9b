"""The commands `db migrate` and `db restore`: look, plan, apply, one `Outcome` each. Prints nothing."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from owlclaw_up.databases import Chosen, choose_for, server_data
from owlclaw_up.errors import DumpUnusable, MigrationsUnusable, PostgresUnusable, RolePasswordUnknown, UpError
from owlclaw_up.executor import apply
from owlclaw_up.host.base import Deadline, ServerLogin
from owlclaw_up.host.dumps import database_of
from owlclaw_up.host.migration_route import Graph
from owlclaw_up.host.migrations import BASELINE_REVISION, Migrations, unknown_text
from owlclaw_up.host.postgres import in_database
from owlclaw_up.host.version_table import current_revisions, look_at_schema, migration_lock
from owlclaw_up.listeners import both, logger
from owlclaw_up.model import Listener, Note, Outcome, StepReport, silent
from owlclaw_up.planner import Plan, plan
from owlclaw_up.project import Project, application, failure, relative
from owlclaw_up.receipts import project_lock
from owlclaw_up.setting_values import DatabaseSetting
from owlclaw_up.settings import wanted_databases
from owlclaw_up.spec import HATCHET_DATABASE, DatabaseSpec
from owlclaw_up.steps.base import Run
from owlclaw_up.steps.dumps import KeepDump, Kept, RestoreDump, dumps, tools_for
from owlclaw_up.steps.migrations import MigrateApplication, Todo

Ask = Callable[[str], bool]


@dataclass(frozen=True)
class _Look:
    """What was seen before anything is run."""

    chosen: Chosen
    todo: Todo
    graph: Graph
    relations: int


def migrate(
    project: Project, listener: Listener = silent, *, to: str = "heads", ask: Ask = lambda question: True,
    dry_run: bool = False, dump: bool = True,
) -> Outcome:  # fmt: skip
    """Bring the application's database to a revision; a dump is kept first where there is something to lose.

    Args:
        to: as `alembic upgrade` and `downgrade` take it; where it lies behind, the way there is a downgrade.
        ask: asked before a downgrade.
        dump: whether a dump is kept.
    """
    clock = project.host.clock
    begun = clock.monotonic()
    try:
        deadline = Deadline(project.settings.timeout.value, clock)
        # Nothing to do, a dry run or a precondition leaves nothing behind.
        look = _look(project, to)
        if dry_run or not look.todo.route.steps:
            planned = _planned(_plan(project, look, dump)[0]) if dry_run else ()
            return _outcome(project, look, planned, clock.monotonic() - begun, dry_run=dry_run)
        if look.todo.route.down and not ask(_question(look)):
            return Outcome("db migrate", "ok", 0, project=project.root, data={"declined": True})
        with _alone(project, look, deadline, listener):
            look = _look(project, to)
            todo, keep = _plan(project, look, dump)
            if look.todo.hand_over:
                listener(Note(f"the baseline's revision gives way to {look.todo.migrations.source}"))
            reports, _, error = apply(todo, project.host, deadline, both(logger(project, "db migrate"), listener))
    except UpError as failed:
        return failure(project, "db migrate", failed, clock.monotonic() - begun)
    outcome = _outcome(project, look, tuple(reports), clock.monotonic() - begun, keep=keep)
    if error is not None:
        return dataclasses.replace(
            failure(project, "db migrate", error, clock.monotonic() - begun), steps=tuple(reports), data=outcome.data
        )
    return outcome


def migration_sql(project: Project, to: str = "heads") -> Outcome:
    """The SQL of the migrations as a script; connects to nothing.

    Args:
        to: a revision, or `FROM:TO`.
    """
    try:
        migrations = Migrations.of(project.settings.alembic_config.value, project.root)
        own = application(project)
        login = ServerLogin("localhost", 5432, own.role, None, own.name)
        text = migrations.sql(login, to, project.settings.env_names.value)
    except UpError as failed:
        return failure(project, "db migrate", failed, 0.0)
    data = {"sql": text, "migrations": {"source": migrations.source}}
    return Outcome("db migrate", "ok", 0, project=project.root, data=data)


def restore(project: Project, listener: Listener, path: Path, ask: Ask) -> Outcome:
    """Put a dump in the place of the database that it is of; the old one is untouched until the dump is restored.

    Args:
        ask: asked before anything is done.
    """
    clock = project.host.clock
    begun = clock.monotonic()
    try:
        deadline = Deadline(project.settings.timeout.value, clock)
        chosen = choose_for(project)
        path = path.absolute()
        own = _database_of(project, chosen, path, deadline)
        login = _login(project, chosen, own)
        if not ask(
            f"Replace database {own.name} on {chosen.look.login.where} by {path.name}? What is in it now is lost."
        ):
            return Outcome("db restore", "ok", 0, project=project.root, data={"declined": True})
        with project_lock(project.ledger, "db restore", deadline.left(), lambda text: listener(Note(text))):
            step = RestoreDump(project.ledger, chosen.server, login, path)
            todo = plan([step], chosen.facts)
            reports, _, error = apply(todo, project.host, deadline, both(logger(project, "db restore"), listener))
            if error is None and own.name == HATCHET_DATABASE:
                _remember_engine_of(project, path)
    except UpError as failed:
        return failure(project, "db restore", failed, clock.monotonic() - begun)
    if error is not None:
        outcome = failure(project, "db restore", error, clock.monotonic() - begun)
        return dataclasses.replace(outcome, steps=tuple(reports))
    data = {"restored": {"database": own.name, "file": str(path), "server": server_data(chosen)}}
    return Outcome(
        "db restore", "ok", 0, steps=tuple(reports), seconds=clock.monotonic() - begun, project=project.root, data=data
    )


def _look(project: Project, to: str) -> _Look:
    """The server, the scripts, the revision, and the way from here to there.

    Raises:
        PostgresUnusable, PostgresMissing, RolePasswordUnknown: the database cannot be used.
        MigrationsUnusable: the scripts cannot be used, or lead nowhere from there.
    """
    settings = project.settings
    migrations = Migrations.of(settings.alembic_config.value, project.root)
    graph = migrations.graph()
    chosen = choose_for(project)
    project.learn_secrets()
    login = _login(project, chosen, application(project))
    if login.password:
        project.redact.add(login.password.reveal())
    current = current_revisions(login)
    hand_over = migrations.config is not None and current == (BASELINE_REVISION,)
    from_here = () if hand_over else current
    strange = graph.unknown(from_here)
    if strange:
        raise MigrationsUnusable(
            "migrations-unknown-revision",
            unknown_text(strange, migrations.source),
            hint="check out the code that has it; or name the project's configuration: alembic_config in owlclaw-up.toml",
        )
    todo = Todo(
        migrations, login, in_database(chosen.look.login, login.database), current, graph.route(from_here, to), hand_over,
        settings.env_names.value,
    )  # fmt: skip
    return _Look(chosen, todo, graph, look_at_schema(login).relations)


def _login(project: Project, chosen: Chosen, own: DatabaseSetting) -> ServerLogin:
    where = chosen.look.login.where
    seen, role = chosen.on_server.databases.get(own.name), chosen.on_server.logins.get(own.role)
    if seen is None or not seen.exists:
        raise PostgresUnusable(
            "postgres-no-database", f"there is no database {own.name!r} on {where}", hint="owlclaw-up db init"
        )
    if role is None or role.password is None:
        raise RolePasswordUnknown(own.role, own.name, where, project.ledger.secrets_path)
    return chosen.server.login(DatabaseSpec(own.name, own.role, role.password))


@contextlib.contextmanager
def _alone(project: Project, look: _Look, deadline: Deadline, listener: Listener) -> Iterator[None]:
    """No other owlclaw-up in this project, and no other migration in this database."""

    def waiting(text: str) -> None:
        listener(Note(text))

    with (
        project_lock(project.ledger, "db migrate", deadline.left(), waiting),
        migration_lock(look.todo.login, look.todo.admin, deadline, waiting),
    ):
        yield


def _plan(project: Project, look: _Look, dump: bool) -> tuple[Plan, KeepDump]:
    todo = look.todo
    why_not = "" if dump else "not wanted"
    if not look.relations:
        why_not = "the schema is empty"
    if not todo.route.steps:
        why_not = "nothing is migrated"
    label = f"from-{'+'.join(todo.current) or 'base'}"
    keep = KeepDump(project.ledger, Kept(look.chosen.server, todo.login, label), why_not)
    return plan([keep, MigrateApplication(project.ledger, todo, lambda: keep.path)], look.chosen.facts), keep


def _question(look: _Look) -> str:
    steps = look.todo.route.steps
    return f"Take back {len(steps)} migrations of database {look.todo.login.database} ({', '.join(steps[:3])}...)?"


def _planned(todo: Plan) -> tuple[StepReport, ...]:
    return tuple(StepReport(p.id, p.title, p.change.action, "skipped", 0.0, p.change.summary) for p in todo.planned)


def _outcome(
    project: Project, look: _Look, reports: tuple[StepReport, ...], seconds: float, *, dry_run: bool = False,
    keep: KeepDump | None = None,
) -> Outcome:  # fmt: skip
    todo = look.todo
    current = todo.current
    if reports and not dry_run:
        with contextlib.suppress(UpError):
            current = current_revisions(todo.login)
    data: dict[str, Any] = {
        "migrations": {
            "source": todo.migrations.source,
            "database": todo.login.database,
            "server": server_data(look.chosen),
            "heads": list(look.graph.heads),
            "from": list(todo.current),
            "current": list(current),
            "direction": "down" if todo.route.down else "up",
            "steps": [{"revision": r, "about": look.graph.about[r]} for r in todo.route.steps],
            "handed_over": todo.hand_over,
            "dump": relative(project, keep.path) if keep and keep.path else None,
        }
    }
    if dry_run:
        data["dry_run"] = True
    return Outcome("db migrate", "ok", 0, steps=reports, seconds=seconds, project=project.root, data=data)


def _database_of(project: Project, chosen: Chosen, path: Path, deadline: Deadline) -> DatabaseSetting:
    """The wanted database that a dump is of."""
    if not path.is_file():
        there = [r.identity["path"] for d in wanted_databases(project.settings) for r in dumps(project.ledger, d.name)]
        raise DumpUnusable(
            "dump-missing", f"{path} is not there",
            hint="kept are: " + (", ".join(relative(project, Path(p)) for p in there) or "none"),
        )  # fmt: skip
    run = Run(project.host, deadline, lambda text: None)
    tools, _ = tools_for(run, project.ledger, chosen.server)
    name = database_of(tools.contents(path))
    own = next((d for d in wanted_databases(project.settings) if d.name == name), None)
    if own is None:
        raise DumpUnusable(
            "dump-of-another", f"{path.name} is a dump of database {name!r}, which is none of this project's",
            hint="pg_restore --list FILE; the setting databases names those of the project",
        )  # fmt: skip
    return own


def _remember_engine_of(project: Project, path: Path) -> None:
    """Hatchet's database is again as the engine of that time left it."""
    receipt = next(iter(project.ledger.receipts("dump", path=str(path))), None)
    kept = receipt.identity if receipt else {}
    project.ledger.state.data.pop("upgrade", None)
    project.ledger.remember("engine", migrated_by=kept.get("engine"), migration=kept.get("migration"))
