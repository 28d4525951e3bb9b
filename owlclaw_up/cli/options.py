"""The options that several commands have, each written once; and how a command ends."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

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
FromDir = Annotated[
    Optional[Path],
    typer.Option("--from", metavar="DIR", help="A folder made by `prefetch`: what is not here yet comes from there."),
]
Timeout = Annotated[Optional[str], typer.Option("--timeout", metavar="SECONDS", help="For everything. [default: 180]")]
Engines = Annotated[
    Optional[str],
    typer.Option("--engines", metavar="N", help="Engines on the one database, 1 to 8, in mode native. [default: 1]"),
]
EngineDir = Annotated[
    Optional[Path],
    typer.Option("--engine-dir", metavar="DIR", help="Folder with hatchet-lite, hatchet-admin, hatchet-migrate."),
]
DashboardPort = Annotated[Optional[str], typer.Option("--dashboard-port", metavar="PORT", help="[default: 8888]")]
GrpcPort = Annotated[Optional[str], typer.Option("--grpc-port", metavar="PORT", help="[default: 17077]")]
PostgresPort = Annotated[Optional[str], typer.Option("--postgres-port", metavar="PORT", help="[default: 5432]")]

SHARED_FLAGS = frozenset({"--json", "--quiet", "-q", "--verbose", "-v", "--no-color"})
SHARED_VALUES = frozenset({"--project-dir"})


def end(code: int) -> None:
    """Leave a command with its exit code."""
    raise typer.Exit(code)


def text_of(path: Path | None) -> str | None:
    return None if path is None else str(path)
