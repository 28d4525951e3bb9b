"""The application's migrations, as a step; and what a failed one has left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from owlclaw_up.errors import ApplyFailed, UpError
from owlclaw_up.facts import Facts
from owlclaw_up.host.base import ServerLogin
from owlclaw_up.host.migration_route import Route
from owlclaw_up.host.migrations import BASELINE_REVISION, Migrations
from owlclaw_up.host.version_table import current_revisions, forget_revision, look_at_schema
from owlclaw_up.model import Action, Change, unchanged
from owlclaw_up.receipts import Ledger
from owlclaw_up.steps.base import Applied, Run


@dataclass(frozen=True)
class Todo:
    """What is to be run, where.

    Attributes:
        login: the application role's, to its database.
        admin: a login to the same database that sees other sessions.
        current: the revisions that the database holds.
        hand_over: take the baseline's revision out first, since the project has migrations of its own now.
        names: other names for the variables that hold the URL.
    """

    migrations: Migrations
    login: ServerLogin
    admin: ServerLogin
    current: tuple[str, ...]
    route: Route
    hand_over: bool
    names: Mapping[str, str]


def revisions_text(revisions: tuple[str, ...]) -> str:
    """Revisions, for the reader."""
    return ", ".join(revisions) or "no revision"


class MigrateApplication:
    """Run the application's migrations as the application's role."""

    id = "database.migrate"
    title = "Migrations"

    def __init__(self, ledger: Ledger, todo: Todo, dump: Callable[[], Path | None]) -> None:
        self.ledger, self.todo, self.dump = ledger, todo, dump

    def check(self, facts: Facts) -> Change:
        route = self.todo.route
        if not route.steps:
            return unchanged(f"at {revisions_text(self.todo.current)}, of {self.todo.migrations.source}")
        word = "back over" if route.down else "run"
        return Change(
            Action.UPDATE, f"{word} {len(route.steps)} of {self.todo.migrations.source}: {_some(route.steps)}"
        )

    def apply(self, run: Run) -> Applied:
        todo = self.todo
        if not todo.route.steps:
            return Applied(Action.UNCHANGED, f"at {revisions_text(todo.current)}")
        if todo.hand_over:
            run.say("handed over from the baseline")
            forget_revision(todo.login, BASELINE_REVISION)
        before, schema = current_revisions(todo.login), look_at_schema(todo.login)
        log = self.ledger.logs / "alembic.log"
        self.ledger.prepare()
        try:
            todo.migrations.run(todo.login, todo.admin, todo.route, todo.names, run.deadline, log, run.say)
        except ApplyFailed as error:
            self._tell_what_is_left(error, before, schema.fingerprint)
            raise
        after = current_revisions(todo.login)
        return Applied(Action.UPDATE, f"{len(todo.route.steps)} run, at {revisions_text(after)}")

    def _tell_what_is_left(self, error: UpError, before: tuple[str, ...], fingerprint: str) -> None:
        """Say where the database is now, as it says itself, and how to get it back."""
        try:
            now, same = current_revisions(self.todo.login), look_at_schema(self.todo.login).fingerprint == fingerprint
        except UpError as away:
            error.message += f"; where the database is now could not be read ({away.message})"
            return
        if now != before:
            error.message += f"; the database is at {revisions_text(now)}"
        elif same:
            error.message += f"; the database is at {revisions_text(now)} as before, its schema unchanged"
        else:
            error.message += (
                f"; the database says {revisions_text(now)} as before, but parts of the failed migration are in it"
            )
        path = self.dump()
        if path is not None:
            error.hint += f"\nthe way back: owlclaw-up db restore {path}"


def _some(steps: tuple[str, ...]) -> str:
    shown = ", ".join(steps[:4])
    return shown if len(steps) <= 4 else f"{shown}, ..."
