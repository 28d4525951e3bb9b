"""`owlclaw-up`: every command and its options. Parses and calls; the work is in `environment`."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import click
import typer
from typer.models import CommandInfo

from owlclaw_up import __version__
from owlclaw_up.cli import db, engine, export, prefetch, token
from owlclaw_up.cli.options import (
    SHARED_FLAGS,
    SHARED_VALUES,
    AdminUrl,
    DashboardPort,
    EngineDir,
    Engines,
    EnvFile,
    FromDir,
    GrpcPort,
    Json,
    ModeFlag,
    NoColor,
    Offline,
    PostgresPort,
    ProjectDir,
    Quiet,
    Require,
    SmokeLevel,
    Timeout,
    Verbose,
    Yes,
    end,
    text_of,
)
from owlclaw_up.cli.terminal import Ui, open_project, with_password
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
app.add_typer(engine.app, name="engine")
app.add_typer(db.app, name="db")
app.add_typer(token.app, name="token")
app.add_typer(export.app, name="export")


@app.command()
def up(
    mode: ModeFlag = None,
    require: Require = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, change nothing.")] = False,
    admin_url: AdminUrl = None,
    env_file: EnvFile = None,
    smoke: SmokeLevel = None,
    offline: Offline = None,
    from_dir: FromDir = None,
    timeout: Timeout = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start from no snapshot (this version keeps none).")] = False,
    engines: Engines = None,
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
            project_dir, mode=mode, require=require, admin_url=admin_url, env_file=text_of(env_file), smoke=smoke,
            offline=offline, from_dir=text_of(from_dir), timeout=timeout, engines=engines,
            engine_dir=text_of(engine_dir),
            dashboard_port=dashboard_port, grpc_port=grpc_port, postgres_port=postgres_port,
        )  # fmt: skip
        project = with_password(ui, project, yes=yes, for_token=True)
        outcome = environment.up(project, listener, dry_run=dry_run)
        return outcome if dry_run else _explained(project, outcome)

    end(ui.run(work))


def _explained(project: Any, outcome: Outcome) -> Outcome:
    if not outcome.exit_code:
        return outcome
    from owlclaw_up.doctor import explain

    return explain(project, outcome)


@app.command()
def plan(
    mode: ModeFlag = None,
    require: Require = None,
    admin_url: AdminUrl = None,
    env_file: EnvFile = None,
    smoke: SmokeLevel = None,
    offline: Offline = None,
    from_dir: FromDir = None,
    engines: Engines = None,
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
            project_dir, mode=mode, require=require, admin_url=admin_url, env_file=text_of(env_file), smoke=smoke,
            offline=offline, from_dir=text_of(from_dir), engines=engines, engine_dir=text_of(engine_dir), dashboard_port=dashboard_port,
            grpc_port=grpc_port, postgres_port=postgres_port,
        )  # fmt: skip
        return environment.up(project, listener, dry_run=True, command="plan")

    end(ui.run(work))


@app.command()
def doctor(
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what can be taken back; shows first what it will do.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail, too.")] = False,
    only: Annotated[
        Optional[list[str]], typer.Option("--only", metavar="ID", help="This check alone; may be repeated.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again; Ctrl-C ends it.")] = False,
    yes: Yes = False,
    env_file: EnvFile = None,
    admin_url: AdminUrl = None,
    timeout: Timeout = None,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Every check: what is wrong, why, and the command that mends it."""
    from owlclaw_up.cli.doctor import Doctor

    ui = Ui("doctor", as_json, quiet, verbose, no_color)
    flags = {"env_file": text_of(env_file), "admin_url": admin_url, "timeout": timeout}
    end(Doctor(ui, project_dir, flags, tuple(only or ()), strict=strict, yes=yes).run(fix=fix, watch=watch))


@app.command()
def status(
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """What runs, where, since when. Exit 0 only if the environment is up and answers."""
    ui = Ui("status", as_json, quiet, verbose, no_color)

    def work(listener: Listener) -> Outcome:
        from owlclaw_up import environment

        return environment.status(open_project(project_dir))

    end(ui.run(work))


@app.command()
def can(
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """What works here right now. For what does not: what to do."""
    ui = Ui("can", as_json, quiet, verbose, no_color)

    def work(listener: Listener) -> Outcome:
        from owlclaw_up.can import can

        return can(open_project(project_dir), listener)

    end(ui.run(work))


@app.command()
def smoke(
    full: Annotated[
        bool, typer.Option("--full", help="The long proof, about a minute: kills, a restart, cron, a thousand runs.")
    ] = False,
    timeout: Timeout = None,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Prove it: a real worker runs a task and a durable sleep."""
    ui = Ui("smoke", as_json, quiet, verbose, no_color)

    def work(listener: Listener) -> Outcome:
        from owlclaw_up import environment

        return environment.smoke(open_project(project_dir, timeout=timeout), listener, full=full)

    end(ui.run(work))


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
        if purge:
            project = with_password(ui, project, yes=yes)
        return environment.down(project, listener, purge=purge)

    end(ui.run(work))


@app.command()
def reset(
    yes: Yes = False,
    mode: ModeFlag = None,
    admin_url: AdminUrl = None,
    env_file: EnvFile = None,
    smoke: SmokeLevel = None,
    offline: Offline = None,
    from_dir: FromDir = None,
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
            project_dir, mode=mode, admin_url=admin_url, env_file=text_of(env_file), smoke=smoke, timeout=timeout,
            engine_dir=text_of(engine_dir), offline=offline, from_dir=text_of(from_dir),
        )  # fmt: skip
        if not ui.confirm(
            f"Remove everything that owlclaw-up made in {project.root}, and start anew?", "reset", yes=yes
        ):
            return Outcome("down", "ok", 0, project=project.root, data={"declined": True})
        project = with_password(ui, project, yes=yes)
        return _explained(project, environment.reset(project, listener))

    end(ui.run(work))


@app.command()
def report(
    output: Annotated[
        Optional[Path],
        typer.Option(
            "--output", "-o", metavar="PATH", help="[default: owlclaw-up-report.html in the project; - is stdout]"
        ),
    ] = None,
    bundle: Annotated[
        bool, typer.Option("--bundle", help="A zip with the page, logs, state, and what plan, status, doctor say.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is no report.")] = False,
    project_dir: ProjectDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """One page for a bug report or a CI artifact, secrets masked."""
    from owlclaw_up.cli.report import ReportCommand

    ui = Ui("report", as_json, quiet, verbose, no_color)
    end(ReportCommand(ui, project_dir, output, bundle, force).run())


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
    """Logs of PostgreSQL, the engine, and owlclaw-up itself. Secrets are masked."""
    from owlclaw_up.cli.show import show_logs

    ui = Ui("logs", as_json, quiet, verbose, no_color)
    end(ui.run(lambda listener: show_logs(ui, open_project(project_dir), name, follow, since, tail)))


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
    end(ui.run(lambda listener: show_env(ui, open_project(project_dir), export, diff, reveal)))


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
    end(ui.run(lambda listener: show_dashboard(ui, open_project(project_dir), reveal, browser=not no_browser)))


app.command("prefetch")(prefetch.prefetch)


def arrange(argv: Sequence[str], groups: Collection[str]) -> list[str]:
    """Put the command first: shared options may stand before it, and `up` may be left out.

    Args:
        groups: the commands that have commands of their own.
    """
    leading, rest = _shared_options(argv)
    if not rest or rest[0].startswith("-"):
        asks = rest[:1] in (["--help"], ["--version"])
        return list(argv) if asks else ["up", *argv]
    # An unknown word is reported as an unknown command, with the nearest one.
    command, *rest = rest
    if command in groups:
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
    groups = {str(group.name) for group in app.registered_groups}
    names = [*map(_name, app.registered_commands), *groups]
    arranged = arrange(argv, groups)
    try:
        result: Any = _built_for(arranged[0]).main(args=arranged, prog_name="owlclaw-up", standalone_mode=False)
    except typer.Exit as done:
        return int(done.exit_code)
    except typer.Abort:
        return 130
    except click.ClickException as wrong:
        return _usage(wrong, arranged, names, "--json" in argv)
    return int(result or 0)


def _built_for(word: str) -> typer.core.TyperGroup:
    """The command line with the one command that is called, or with all where it is none: to build all takes longer
    than most commands.
    """
    one = copy.copy(app)
    one.registered_commands = [command for command in app.registered_commands if _name(command) == word]
    one.registered_groups = [group for group in app.registered_groups if group.name == word]
    return typer.main.get_group(one if one.registered_commands or one.registered_groups else app)


def _name(command: CommandInfo) -> str:
    return command.name or typer.main.get_command_name(str(getattr(command.callback, "__name__", "")))


def _usage(wrong: Any, arranged: Sequence[str], commands: Sequence[str], as_json: bool) -> int:
    from owlclaw_up.errors import UsageError

    command = arranged[0] if arranged and not arranged[0].startswith("-") else "up"
    asked = f"owlclaw-up {command}" if command in commands else "owlclaw-up"
    error = UsageError(str(wrong.format_message()), hint=f"{asked} --help")
    return Ui(command, as_json, False, False, False).finish(Outcome(command, "failed", error.exit_code, error=error))
