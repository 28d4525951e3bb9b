"""`owlclaw-up export`: files for places that are bigger than one machine."""

from __future__ import annotations

import sys
from typing import Annotated, Optional

import typer

from owlclaw_up.cli.options import Json, NoColor, ProjectDir, Quiet, Verbose, Yes, end
from owlclaw_up.cli.terminal import Ui, open_project
from owlclaw_up.model import Listener, Outcome

app = typer.Typer(
    help="Files for places that are bigger than one machine.", rich_markup_mode=None, no_args_is_help=True
)


@app.callback()
def group() -> None:
    """A group of one command stays a group."""


@app.command("helm")
def export_helm(
    chart: Annotated[str, typer.Option("--chart", metavar="CHART", help="hatchet-ha or hatchet-stack.")] = "hatchet-ha",
    server_url: Annotated[
        Optional[str],
        typer.Option("--server-url", metavar="URL", help="Where the cluster's dashboard and REST will be."),
    ] = None,
    grpc_address: Annotated[
        Optional[str], typer.Option("--grpc-address", metavar="HOST:PORT", help="Where the cluster's gRPC will be.")
    ] = None,
    output: Annotated[
        Optional[str],
        typer.Option(
            "--output", "-o", metavar="FILE", help="The values, - prints. [default: .owlclaw-up/helm/values.yaml]"
        ),
    ] = None,
    keys: Annotated[
        Optional[str],
        typer.Option("--secret", metavar="FILE", help="The Secret, 0600. [default: .owlclaw-up/helm/secret.yaml]"),
    ] = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Lets --secret - print the keys.")] = False,
    yes: Yes = False,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Values for Hatchet's own charts, with this environment's keys in a Secret beside them."""
    ui = Ui("export helm", as_json, quiet, verbose, no_color)

    def work(listener: Listener) -> Outcome:
        from owlclaw_up.errors import UsageError
        from owlclaw_up.export import HelmWish, export_helm

        if keys == "-" and not reveal:
            raise UsageError("--secret - would print keys and passwords", hint="--secret - --reveal, or a file")
        wish = HelmWish(chart, server_url, grpc_address, output, keys, yes)
        outcome, printed = export_helm(open_project(project_dir), wish)
        if ui.json:
            return _with_texts(outcome, printed)
        for text in printed.values():
            sys.stdout.write(text)
        return outcome

    end(ui.run(work))


def _with_texts(outcome: Outcome, printed: dict[str, str]) -> Outcome:
    import dataclasses

    texts = {f"{name}_text": text for name, text in printed.items()}
    return dataclasses.replace(outcome, data={**outcome.data, **texts})
