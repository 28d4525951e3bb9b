"""`owlclaw-up engine`: native engine binaries in the user's cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from owlclaw_up.cli.options import Json, NoColor, Offline, ProjectDir, Quiet, Verbose, end
from owlclaw_up.cli.terminal import Ui, open_project

app = typer.Typer(help="Native engine binaries in the user's cache.", rich_markup_mode=None, no_args_is_help=True)


@app.command("list")
def engine_list(
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Engines at hand, in the order in which `up` takes them."""
    from owlclaw_up.cli.show import show_engines

    ui = Ui("engine list", as_json, quiet, verbose, no_color)
    end(ui.run(lambda listener: show_engines(ui, open_project(project_dir))))


@app.command("import")
def engine_import(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with the three binaries.")],
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Copy an engine into the user's cache, where every checkout finds it."""
    from owlclaw_up.cli.show import import_engine

    ui = Ui("engine import", as_json, quiet, verbose, no_color)
    end(ui.run(lambda listener: import_engine(ui, open_project(project_dir), directory)))


@app.command("pull")
def engine_pull(
    offline: Offline = None,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Take the engine out of its pinned image, from Docker or the registry, into the user's cache."""
    from owlclaw_up.cli.show import pull_engine

    ui = Ui("engine pull", as_json, quiet, verbose, no_color)
    end(ui.run(lambda listener: pull_engine(ui, open_project(project_dir, offline=offline), listener)))
