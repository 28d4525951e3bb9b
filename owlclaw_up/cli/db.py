"""`owlclaw-up db`: databases, roles and extensions, on any PostgreSQL."""

from __future__ import annotations

from typing import Annotated

import typer

from owlclaw_up.cli.options import AdminUrl, Json, NoColor, ProjectDir, Quiet, Timeout, Verbose, end
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
