"""`owlclaw-up db`: databases, roles and extensions, on any PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from owlclaw_up.cli.options import AdminUrl, Json, NoColor, ProjectDir, Quiet, Timeout, Verbose, Yes, end
from owlclaw_up.cli.terminal import Ui, open_project
from owlclaw_up.model import Listener, Outcome

app = typer.Typer(
    help="Databases, roles and extensions, on any PostgreSQL.", rich_markup_mode=None, no_args_is_help=True
)


@app.command("init")
def db_init(
    admin_url: AdminUrl = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, change nothing.")] = False,
    timeout: Timeout = None,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Make roles, databases and extensions. Run it again: nothing changes."""
    ui = Ui("db init", as_json, quiet, verbose, no_color)

    def work(listener: Listener) -> Outcome:
        from owlclaw_up import databases

        project = open_project(project_dir, admin_url=admin_url, timeout=timeout)
        return databases.init(project, listener, dry_run=dry_run)

    end(ui.run(work))


@app.command("status")
def db_status(
    admin_url: AdminUrl = None,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Server, databases, extensions, migrations. Exit 0 only if nothing is missing or behind."""
    ui = Ui("db status", as_json, quiet, verbose, no_color)

    def work(listener: Listener) -> Outcome:
        from owlclaw_up import database_status

        return database_status.status(open_project(project_dir, admin_url=admin_url))

    end(ui.run(work))


@app.command("reset-test")
def db_reset_test(
    name: Annotated[
        Optional[str], typer.Argument(metavar="NAME", help="Another test database. [default: owlclaw_test]")
    ] = None,
    admin_url: AdminUrl = None,
    yes: Yes = False,
    timeout: Timeout = None,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Make the test database anew, whoever is connected to it."""
    ui = Ui("db reset-test", as_json, quiet, verbose, no_color)

    def work(listener: Listener) -> Outcome:
        from owlclaw_up import databases

        project = open_project(project_dir, admin_url=admin_url, timeout=timeout)
        planned = databases.reset_test(project, name, dry_run=True)
        if planned.error is not None:
            return planned
        (own,) = planned.data["database"]["databases"]
        if own["exists"]:
            where = planned.data["database"]["server"]["where"]
            question = f"Drop database {own['name']} on {where} with all its data, and make it anew?"
            if not ui.confirm(question, "db reset-test", yes=yes):
                return Outcome("db reset-test", "ok", 0, project=project.root, data={"declined": True})
        return databases.reset_test(project, name, listener)

    end(ui.run(work))


@app.command("migrate")
def db_migrate(
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="REV", help="A revision, +N, -N or base; for --sql also FROM:TO. [default: heads]"
        ),
    ] = "heads",
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL, run nothing, connect to nothing.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run, change nothing.")] = False,
    no_dump: Annotated[bool, typer.Option("--no-dump", help="Keep no dump first.")] = False,
    admin_url: AdminUrl = None,
    yes: Yes = False,
    timeout: Timeout = None,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Run the application's migrations. A dump of its database is kept first."""
    ui = Ui("db migrate", as_json, quiet, verbose, no_color)

    def work(listener: Listener) -> Outcome:
        from owlclaw_up import application_migrations as migrations

        project = open_project(project_dir, admin_url=admin_url, timeout=timeout)
        if sql:
            return migrations.migration_sql(project, to)

        def ask(question: str) -> bool:
            return ui.confirm(question, "db migrate", yes=yes)

        return migrations.migrate(project, listener, to=to, ask=ask, dry_run=dry_run, dump=not no_dump)

    end(ui.run(work))


@app.command("restore")
def db_restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A dump, such as those in .owlclaw-up/dumps.")],
    admin_url: AdminUrl = None,
    yes: Yes = False,
    timeout: Timeout = None,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Put a dump in the place of the database that it is of."""
    ui = Ui("db restore", as_json, quiet, verbose, no_color)

    def work(listener: Listener) -> Outcome:
        from owlclaw_up import application_migrations as migrations

        project = open_project(project_dir, admin_url=admin_url, timeout=timeout)
        return migrations.restore(project, listener, file, lambda question: ui.confirm(question, "db restore", yes=yes))

    end(ui.run(work))
