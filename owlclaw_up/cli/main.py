"""`owlclaw-up`: every command and its options. Parses and calls; the work is in `environment`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import click
import typer

from owlclaw_up import __version__
from owlclaw_up.cli.terminal import Ui, open_project
from owlclaw_up.model import Listener, Outcome

app = typer.Typer(
    name="owlclaw-up",
    help="Bring an OwlClaw development environment up with one command, and prove that it works.\n\n"
    "Without a command: up.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=False,
)
engine_app = typer.Typer(
    help="Native engine binaries in the user's cache.", rich_markup_mode=None, no_args_is_help=True
)
app.add_typer(engine_app, name="engine")

# Optional[...] and not X | None: typer evaluates these on Python 3.10 as well.
ProjectDir = Annotated[
    Optional[Path],
    typer.Option(
        "--project-dir", metavar="DIR", help="The project. [default: nearest parent with pyproject.toml or .git]"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also what stays as it is.")]
NoColor = Annotated[bool, typer.Option("--no-color", help="No colours (also: NO_COLOR=1).")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]
ModeFlag = Annotated[
    Optional[str], typer.Option("--mode", metavar="MODE", help="auto, full, hatchet-only, native, mock, remote.")
]
Require = Annotated[Optional[str], typer.Option("--require", metavar="durable", help="Fail rather than end in mock.")]
AdminUrl = Annotated[
    Optional[str],
    typer.Option("--admin-url", metavar="URL", help="A PostgreSQL login that may make roles and databases."),
]
EnvFile = Annotated[Optional[Path], typer.Option("--env-file", metavar="PATH", help="The dotenv file. [default: .env]")]
SmokeLevel = Annotated[Optional[str], typer.Option("--smoke", metavar="LEVEL", help="quick, full, none.")]
Offline = Annotated[Optional[bool], typer.Option("--offline", help="Contact nothing off this machine.")]
Timeout = Annotated[Optional[str], typer.Option("--timeout", metavar="SECONDS", help="For everything. [default: 180]")]
EngineDir = Annotated[
    Optional[Path],
    typer.Option("--engine-dir", metavar="DIR", help="Folder with hatchet-lite, hatchet-admin, hatchet-migrate."),
]
DashboardPort = Annotated[Optional[str], typer.Option("--dashboard-port", metavar="PORT", help="[default: 8888]")]
GrpcPort = Annotated[Optional[str], typer.Option("--grpc-port", metavar="PORT", help="[default: 17077]")]
PostgresPort = Annotated[Optional[str], typer.Option("--postgres-port", metavar="PORT", help="[default: 5432]")]

SHARED_FLAGS = frozenset({"--json", "--quiet", "-q", "--verbose", "-v", "--no-color"})
SHARED_VALUES = frozenset({"--project-dir"})


def _end(code: int) -> None:
    raise typer.Exit(code)


@app.command()
def up(
    mode: ModeFlag = None,
    require: Require = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, change nothing.")] = False,
    admin_url: AdminUrl = None,
    env_file: EnvFile = None,
    smoke: SmokeLevel = None,
    offline: Offline = None,
    timeout: Timeout = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start from no snapshot (this version keeps none).")] = False,
    engine_dir: EngineDir = None,
    dashboard_port: DashboardPort = None,
    grpc_port: GrpcPort = None,
    postgres_port: PostgresPort = None,
    yes: Yes = False,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Look, decide, plan, apply, prove. Run it again: nothing changes."""
    ui = Ui("up", as_json, quiet, verbose, no_color)

    def work(listener: Listener) -> Outcome:
        from owlclaw_up import environment

        project = open_project(
            project_dir, mode=mode, require=require, admin_url=admin_url, env_file=_text(env_file), smoke=smoke,
            offline=offline, timeout=timeout, engine_dir=_text(engine_dir), dashboard_port=dashboard_port,
            grpc_port=grpc_port, postgres_port=postgres_port,
        )  # fmt: skip
        return environment.up(project, listener, dry_run=dry_run)

    _end(ui.run(work))


@app.command()
def plan(
    mode: ModeFlag = None,
    require: Require = None,
    admin_url: AdminUrl = None,
    env_file: EnvFile = None,
    smoke: SmokeLevel = None,
    offline: Offline = None,
    engine_dir: EngineDir = None,
    dashboard_port: DashboardPort = None,
    grpc_port: GrpcPort = None,
    postgres_port: PostgresPort = None,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """What `up` would do and why, changing nothing."""
    ui = Ui("plan", as_json, quiet, verbose, no_color)

    def work(listener: Listener) -> Outcome:
        from owlclaw_up import environment

        project = open_project(
            project_dir, mode=mode, require=require, admin_url=admin_url, env_file=_text(env_file), smoke=smoke,
            offline=offline, engine_dir=_text(engine_dir), dashboard_port=dashboard_port, grpc_port=grpc_port,
            postgres_port=postgres_port,
        )  # fmt: skip
        return environment.up(project, listener, dry_run=True, command="plan")

    _end(ui.run(work))


@app.command()
def status(
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """What runs, where, since when; exit 0 only if the environment is up and answers."""
    ui = Ui("status", as_json, quiet, verbose, no_color)

    def work(listener: Listener) -> Outcome:
        from owlclaw_up import environment

        return environment.status(open_project(project_dir))

    _end(ui.run(work))


@app.command()
def smoke(
    timeout: Timeout = None,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Prove the environment: a real worker runs a task and a durable sleep."""
    ui = Ui("smoke", as_json, quiet, verbose, no_color)

    def work(listener: Listener) -> Outcome:
        from owlclaw_up import environment

        return environment.smoke(open_project(project_dir, timeout=timeout), listener)

    _end(ui.run(work))


@app.command()
def down(
    purge: Annotated[
        bool, typer.Option("--purge", help="Also remove data, databases, roles and keys that owlclaw-up made.")
    ] = False,
    yes: Yes = False,
    timeout: Timeout = None,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Stop what `up` started; data stays."""
    ui = Ui("down", as_json, quiet, verbose, no_color)

    def work(listener: Listener) -> Outcome:
        from owlclaw_up import environment

        project = open_project(project_dir, timeout=timeout)
        if purge and not ui.confirm(f"Remove everything that owlclaw-up made in {project.root}?", "--purge", yes=yes):
            return Outcome("down", "ok", 0, project=project.root, data={"purge": False, "declined": True})
        return environment.down(project, listener, purge=purge)

    _end(ui.run(work))


@app.command()
def reset(
    yes: Yes = False,
    mode: ModeFlag = None,
    admin_url: AdminUrl = None,
    env_file: EnvFile = None,
    smoke: SmokeLevel = None,
    timeout: Timeout = None,
    engine_dir: EngineDir = None,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """`down --purge`, then `up`."""
    ui = Ui("reset", as_json, quiet, verbose, no_color)

    def work(listener: Listener) -> Outcome:
        from owlclaw_up import environment

        project = open_project(
            project_dir, mode=mode, admin_url=admin_url, env_file=_text(env_file), smoke=smoke, timeout=timeout,
            engine_dir=_text(engine_dir),
        )  # fmt: skip
        if not ui.confirm(
            f"Remove everything that owlclaw-up made in {project.root}, and start anew?", "reset", yes=yes
        ):
            return Outcome("down", "ok", 0, project=project.root, data={"declined": True})
        return environment.reset(project, listener)

    _end(ui.run(work))


@app.command()
def logs(
    name: Annotated[
        Optional[str], typer.Argument(metavar="[postgres|hatchet|up]", help="One of them; all if left out.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come; Ctrl-C ends it.")] = False,
    since: Annotated[
        Optional[str], typer.Option("--since", metavar="TIME", help="10m, 2h, or 2026-01-31T12:00:00.")
    ] = None,
    tail: Annotated[
        Optional[int], typer.Option("--tail", metavar="N", help="The last N lines of each. [default: 40]")
    ] = None,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Logs of PostgreSQL, the engine, and owlclaw-up itself; secrets are masked."""
    from owlclaw_up.cli.show import show_logs

    ui = Ui("logs", as_json, quiet, verbose, no_color)
    _end(ui.run(lambda listener: show_logs(ui, open_project(project_dir), name, follow, since, tail)))


@app.command()
def env(
    export: Annotated[bool, typer.Option("--export", help='For a shell: eval "$(owlclaw-up env --export)".')] = False,
    diff: Annotated[bool, typer.Option("--diff", help="What the file has otherwise.")] = False,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show secret values.")] = False,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """The variables of the environment."""
    from owlclaw_up.cli.show import show_env

    ui = Ui("env", as_json, quiet, verbose, no_color)
    _end(ui.run(lambda listener: show_env(ui, open_project(project_dir), export, diff, reveal)))


@app.command("open")
def open_dashboard(
    reveal: Annotated[bool, typer.Option("--reveal", help="Show the password.")] = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print.")] = False,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """The dashboard in a browser; prints URL and login."""
    from owlclaw_up.cli.show import show_dashboard

    ui = Ui("open", as_json, quiet, verbose, no_color)
    _end(ui.run(lambda listener: show_dashboard(ui, open_project(project_dir), reveal, browser=not no_browser)))


@engine_app.command("list")
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
    _end(ui.run(lambda listener: show_engines(ui, open_project(project_dir))))


@engine_app.command("import")
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
    _end(ui.run(lambda listener: import_engine(ui, open_project(project_dir), directory)))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def arrange(argv: Sequence[str], commands: Sequence[str]) -> list[str]:
    """Put the command first: shared options may stand before it, and `up` may be left out."""
    leading, rest = _shared_options(argv)
    if not rest or rest[0].startswith("-"):
        asks = rest[:1] in (["--help"], ["--version"])
        return list(argv) if asks else ["up", *argv]
    # An unknown word is reported as an unknown command, with the nearest one.
    command, *rest = rest
    if command == "engine":
        more, rest = _shared_options(rest)
        leading += more
        if rest and not rest[0].startswith("-"):
            return [command, rest[0], *leading, *rest[1:]]
    return [command, *leading, *rest]


def _shared_options(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The shared options at the beginning, and what comes after them."""
    leading: list[str] = []
    rest = list(words)
    while rest and (rest[0] in SHARED_FLAGS or rest[0].split("=")[0] in SHARED_VALUES):
        count = 2 if rest[0] in SHARED_VALUES else 1
        leading += rest[:count]
        rest = rest[count:]
    return leading, rest


def main(argv: Sequence[str]) -> int:
    """Run the command line; gives the exit code."""
    if list(argv) == ["--version"]:
        print(f"owlclaw-up {__version__}")
        return 0
    command = typer.main.get_command(app)
    names: list[str] = list(command.commands)  # type: ignore[attr-defined]
    arranged = arrange(argv, names)
    try:
        result: Any = command.main(args=arranged, prog_name="owlclaw-up", standalone_mode=False)
    except typer.Exit as done:
        return int(done.exit_code)
    except typer.Abort:
        return 130
    except click.ClickException as wrong:
        return _usage(wrong, arranged, names, "--json" in argv)
    return int(result or 0)


def _usage(wrong: Any, arranged: Sequence[str], commands: Sequence[str], as_json: bool) -> int:
    from owlclaw_up.errors import UsageError

    command = arranged[0] if arranged and not arranged[0].startswith("-") else "up"
    asked = f"owlclaw-up {command}" if command in commands else "owlclaw-up"
    error = UsageError(str(wrong.format_message()), hint=f"{asked} --help")
    return Ui(command, as_json, False, False, False).finish(Outcome(command, "failed", error.exit_code, error=error))


def run() -> None:
    """The entry point of the installed command."""
    sys.exit(main(sys.argv[1:]))
