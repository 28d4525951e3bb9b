"""`owlclaw-up token`: the API token of the environment."""

from __future__ import annotations

from typing import Annotated

import typer

from owlclaw_up.cli.options import Json, NoColor, ProjectDir, Quiet, Timeout, Verbose, end
from owlclaw_up.cli.terminal import Ui, open_project, with_password
from owlclaw_up.model import Listener, Outcome

app = typer.Typer(help="The API token of the environment.", rich_markup_mode=None, no_args_is_help=True)


@app.command("show")
def token_show(
    reveal: Annotated[bool, typer.Option("--reveal", help="Print the token, and nothing else.")] = False,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """What the token says of itself: tenant, addresses, expiry."""
    ui = Ui("token show", as_json, quiet, verbose, no_color)

    def work(listener: Listener) -> Outcome:
        from owlclaw_up import tokens

        outcome = tokens.show(open_project(project_dir), reveal=reveal)
        if reveal and not ui.json:
            print(outcome.data["value"])
        return outcome

    end(ui.run(work))


@app.command("check")
def token_check(
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Whether the token in use is good, and if not, why."""
    ui = Ui("token check", as_json, quiet, verbose, no_color)

    def work(listener: Listener) -> Outcome:
        from owlclaw_up import tokens

        return tokens.check(open_project(project_dir))

    end(ui.run(work))


@app.command("rotate")
def token_rotate(
    keep_old: Annotated[bool, typer.Option("--keep-old", help="Do not revoke the one before it.")] = False,
    timeout: Timeout = None,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """A new token, proved; then the old one is revoked."""
    ui = Ui("token rotate", as_json, quiet, verbose, no_color)

    def work(listener: Listener) -> Outcome:
        from owlclaw_up import tokens

        project = with_password(ui, open_project(project_dir, timeout=timeout))
        return tokens.rotate(project, listener, keep_old=keep_old)

    end(ui.run(work))
