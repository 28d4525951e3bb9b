"""`owlclaw-up prefetch`: a folder for a machine without network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from owlclaw_up.cli.options import Json, NoColor, Offline, ProjectDir, Quiet, Verbose, end
from owlclaw_up.cli.terminal import Ui, open_project
from owlclaw_up.model import Listener, Outcome


def prefetch(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or one that prefetch made.")],
    mode: Annotated[
        str, typer.Option("--mode", metavar="MODE", help="full, hatchet-only, native: only what that mode needs.")
    ] = "all",
    platform: Annotated[
        Optional[str],
        typer.Option("--platform", metavar="PLATFORM", help="linux/amd64, linux/arm64. [default: this machine's]"),
    ] = None,
    offline: Offline = None,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """A folder with all that a machine without network needs.

    Images, engine, wheels, and a manifest with every digest; used there by `up --offline --from DIR`.
    """
    ui = Ui("prefetch", as_json, quiet, verbose, no_color)

    def work(listener: Listener) -> Outcome:
        from owlclaw_up.prefetch import Wish, prefetch

        return prefetch(open_project(project_dir, offline=offline), Wish(directory, mode, platform or ""), listener)

    end(ui.run(work))
