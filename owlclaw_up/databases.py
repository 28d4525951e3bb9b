"""The commands of `owlclaw-up db` that make databases: look, plan, apply, one `Outcome` each. Prints nothing.

They need a PostgreSQL that answers, and nothing else: no engine, no Docker, no earlier `up`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from owlclaw_up.design import database_specs
from owlclaw_up.environment import both, logger, silent
from owlclaw_up.errors import PostgresMissing, PostgresUnusable, UpError
from owlclaw_up.executor import apply
from owlclaw_up.facts import DatabasesLook, Facts, gather
from owlclaw_up.facts.servers import look_at_databases
from owlclaw_up.host.base import Deadline, ServerLook
from owlclaw_up.model import Absent, Finding, Found, Listener, Mode, Note, Outcome, StepReport, Unknown, found
from owlclaw_up.planner import Plan, plan
from owlclaw_up.project import Project, failure, relative
from owlclaw_up.receipts import project_lock
from owlclaw_up.server_choice import choose_server, refused_servers
from owlclaw_up.settings import DatabaseSetting, wanted_databases
from owlclaw_up.spec import PostgresSpec
from owlclaw_up.steps.base import Step
from owlclaw_up.steps.database import EnsureDatabase
from owlclaw_up.steps.project import KeepLogins


@dataclass(frozen=True)
class Chosen:
    """The server that a command works on, and what it has of our databases."""

    facts: Facts
    look: ServerLook
    server: PostgresSpec
    on_server: DatabasesLook


def choose_for(project: Project) -> Chosen:
    """The server that is named, else the one that this project uses, else the one that libpq would find.

    Raises:
        PostgresUnusable: it is named or kept, and cannot be used.
        PostgresMissing: there is none.
    """
    settings, ledger = project.settings, project.ledger
    facts = gather(project.host, settings, ledger, only=("stack", "servers"))
    kept, on_server = ledger.recall("postgres"), facts.our_stack.on_server
    ours = found(on_server.server)
    if kept.get("kind") in ("embedded", "container") and settings.admin_url.value is None:
        if isinstance(on_server.server, (Absent, Unknown)):
            raise PostgresUnusable(
                "postgres-unreachable",
                f"the PostgreSQL of this project does not answer: {on_server.server.why}",
                hint="owlclaw-up",
            )
        look = on_server.server.value
    else:
        chosen = choose_server(facts, settings, ledger, Mode.MOCK)
        if chosen is None:
            refused = [
                (c.login.where, c.look.detail) for c in refused_servers(facts) if not isinstance(c.look, ServerLook)
            ]
            raise PostgresMissing(refused)
        look = chosen
    if ours is not None and ours.identity == look.identity:
        kind = str(kept["kind"])
    else:
        kind = "local"
        _check_move(project, look)
        on_server = look_at_databases(project.host, settings, ledger, look.login, look.source)
    identity = look.identity if kind == "local" else ""
    server = PostgresSpec(kind, look.login, look.source, look.max_connections, identity)
    stack = dataclasses.replace(facts.our_stack, on_server=on_server)
    return Chosen(dataclasses.replace(facts, stack=Found(stack)), look, server, on_server)


def _check_move(project: Project, look: ServerLook) -> None:
    """What was made on one server is taken back there before another one is used."""
    ledger, settings = project.ledger, project.settings
    kept = ledger.recall("postgres")
    made = ledger.state.mode or ledger.receipts("database") or ledger.receipts("role")
    if not kept.get("kind") or not made or (kept["kind"] == "local" and kept.get("identity") == look.identity):
        return
    raise PostgresUnusable(
        "postgres-other-server",
        f"what owlclaw-up made for this project is on {kept.get('where')}, and {settings.admin_url.origin} names "
        f"{look.login.where}",
        hint="leave out that login, or take back what is there first: owlclaw-up down --purge",
    )


def init(project: Project, listener: Listener = silent, *, dry_run: bool = False) -> Outcome:
    """Make roles, databases and extensions; with `dry_run`, only say which."""

    def steps(chosen: Chosen) -> list[Step]:
        specs = database_specs(project.settings, project.ledger, chosen.on_server)
        return [
            KeepLogins(chosen.server, specs, project.ledger),
            *(EnsureDatabase(chosen.server, project.ledger, spec) for spec in specs),
        ]

    return _change(project, "db init", steps, listener, dry_run=dry_run)


def _change(
    project: Project, command: str, steps: Callable[[Chosen], list[Step]], listener: Listener, *, dry_run: bool = False
) -> Outcome:
    """Choose the server, plan the steps on it, and apply them under the project's lock."""
    clock, ledger = project.host.clock, project.ledger
    begun = clock.monotonic()
    try:
        # A precondition, or a dry run, must leave nothing behind.
        chosen, todo = _prepare(project, steps)
        if dry_run:
            return _outcome(project, command, chosen, _planned(todo), (), clock.monotonic() - begun, dry_run=True)
        deadline = Deadline(project.settings.timeout.value, clock)
        with project_lock(ledger, command, deadline.left(), lambda text: listener(Note(text))):
            if ledger.exists:
                chosen, todo = _prepare(project, steps)
            reports, run, error = apply(todo, project.host, deadline, both(logger(project, command), listener))
            project.learn_secrets()
            if error is None:
                again = look_at_databases(project.host, project.settings, ledger, chosen.look.login, chosen.look.source)
                chosen = dataclasses.replace(chosen, on_server=again)
    except UpError as failed:
        return failure(project, command, failed, clock.monotonic() - begun)
    if error is not None:
        outcome = failure(project, command, error, clock.monotonic() - begun)
        return dataclasses.replace(outcome, steps=tuple(reports), findings=tuple(run.findings))
    return _outcome(project, command, chosen, tuple(reports), tuple(run.findings), clock.monotonic() - begun)


def _prepare(project: Project, steps: Callable[[Chosen], list[Step]]) -> tuple[Chosen, Plan]:
    chosen = choose_for(project)
    todo = plan(steps(chosen), chosen.facts)
    project.learn_secrets()
    return chosen, todo


def _planned(todo: Plan) -> tuple[StepReport, ...]:
    return tuple(StepReport(p.id, p.title, p.change.action, "skipped", 0.0, p.change.summary) for p in todo.planned)


def _outcome(
    project: Project, command: str, chosen: Chosen, reports: tuple[StepReport, ...], findings: tuple[Finding, ...],
    seconds: float, *, dry_run: bool = False,
) -> Outcome:  # fmt: skip
    data: dict[str, Any] = {
        "database": {
            "server": server_data(chosen),
            "databases": [
                {"name": w.name, "owner": w.role, "extensions": sorted(extensions_of(chosen, w))}
                for w in wanted_databases(project.settings)
            ],
            "secrets_file": relative(project, project.ledger.secrets_path),
        }
    }
    if dry_run:
        data["dry_run"] = True
    return Outcome(command, "ok", 0, steps=reports, seconds=seconds, findings=findings, project=project.root, data=data)


def server_data(chosen: Chosen) -> dict[str, Any]:
    """The server as data: where it is, what it is, how it was found."""
    look = chosen.look
    return {
        "where": look.login.where, "kind": chosen.server.kind, "source": look.source, "version": look.version,
        "login": look.user,
    }  # fmt: skip


def extensions_of(chosen: Chosen, wanted: DatabaseSetting) -> frozenset[str]:
    """Of the wanted extensions, those that a database has."""
    seen = chosen.on_server.databases.get(wanted.name)
    return frozenset(wanted.extensions) & (seen.extensions if seen else frozenset())
