"""What the user asked for: default < file < environment < flag, each value with the place it came from.

Stage: before anything is looked at. In: flags, environment, `owlclaw-up.toml` or `[tool.owlclaw-up]`. Out: `Settings`.
Reads those two files and nothing else. One place to add a setting: a field of `Settings`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from owlclaw_up.errors import BadSetting, ProjectMissing, UnknownSetting
from owlclaw_up.model import Mode, Secret
from owlclaw_up.setting_values import (
    DatabaseSetting,
    Sourced,
    nearest,
    parse_address,
    parse_admin_password,
    parse_choice,
    parse_databases,
    parse_engines,
    parse_env_names,
    parse_file,
    parse_flag,
    parse_lifetime,
    parse_mode,
    parse_path,
    parse_port,
    parse_release,
    parse_seconds,
    parse_secret,
    parse_sha256,
    parse_text,
    parse_url,
)

ENV_PREFIX = "OWLCLAW_UP_"
SETTINGS_FILE = "owlclaw-up.toml"

DEFAULT_HATCHET_IMAGE = "ghcr.io/hatchet-dev/hatchet/hatchet-lite:v0.107.2"
DEFAULT_POSTGRES_IMAGE = "pgvector/pgvector:pg16"
# Releases bear the version of the engine that is in them: hatchet-embedded, README.
DEFAULT_SIDECAR_VERSION = "v0.110.5"


def _option(default: Any, parse: Callable[[Any], Any], about: str) -> Any:
    return field(default_factory=lambda: Sourced(default), metadata={"parse": parse, "about": about})


@dataclass(frozen=True)
class Settings:
    """Every setting of owlclaw-up; docs/reference/settings.md is made from here."""

    mode: Sourced[Mode | None] = _option(None, parse_mode, "full, hatchet-only, native, mock, remote, or auto")
    require: Sourced[str] = _option("", parse_choice("", "durable"), "`durable`: fail rather than end in mock")
    smoke: Sourced[str] = _option("quick", parse_choice("quick", "full", "none"), "how much `up` proves at its end")
    timeout: Sourced[float] = _option(180.0, parse_seconds, "seconds `up` may take as a whole")
    offline: Sourced[bool] = _option(False, parse_flag, "contact nothing off this machine")
    from_dir: Sourced[Path | None] = _option(
        None, parse_path, "folder made by prefetch, which has what is not here yet"
    )
    env_file: Sourced[Path] = _option(Path(".env"), parse_file, "the dotenv file that is kept, relative to the project")
    admin_url: Sourced[Secret | None] = _option(
        None, parse_secret, "a PostgreSQL login that may make roles and databases"
    )
    engine_dir: Sourced[Path | None] = _option(
        None, parse_path, "folder with hatchet-lite, hatchet-admin, hatchet-migrate"
    )
    engines: Sourced[int] = _option(1, parse_engines, "how many engines run on the one database, in mode native")
    native_engine: Sourced[str] = _option(
        "auto", parse_choice("auto", "binaries", "sidecar"), "what mode native runs: binaries, sidecar, or auto"
    )
    sidecar_version: Sourced[str] = _option(
        DEFAULT_SIDECAR_VERSION, parse_release, "release of Hatchet's embedded engine"
    )
    sidecar_binary: Sourced[Path | None] = _option(None, parse_path, "that engine's program, where it is here already")
    sidecar_checksum: Sourced[str] = _option("", parse_sha256, "SHA-256 that the program must have")
    hatchet_image: Sourced[str] = _option(DEFAULT_HATCHET_IMAGE, parse_text, "image of the Hatchet engine")
    postgres_image: Sourced[str] = _option(DEFAULT_POSTGRES_IMAGE, parse_text, "image of PostgreSQL")
    registry_mirror: Sourced[str] = _option("", parse_text, "registry that stands in for docker.io and ghcr.io")
    dashboard_port: Sourced[int | None] = _option(None, parse_port, "dashboard and REST; 8888 or the next free one")
    grpc_port: Sourced[int | None] = _option(None, parse_port, "gRPC; 17077 or the next free one")
    postgres_port: Sourced[int | None] = _option(None, parse_port, "our own PostgreSQL; 5432 or the next free one")
    rabbitmq_url: Sourced[Secret | None] = _option(
        None, parse_secret, "RabbitMQ as Hatchet's queue instead of PostgreSQL"
    )
    admin_password: Sourced[Secret | None] = _option(None, parse_admin_password, "password of the dashboard's admin")
    token_lifetime: Sourced[int] = _option(8760, parse_lifetime, "how long a new token lives: 90d, 1y, 720h")
    hatchet_server_url: Sourced[str] = _option(
        "rest", parse_choice("rest", "grpc"), "what HATCHET_SERVER_URL names: the REST address or the gRPC port"
    )
    alembic_config: Sourced[Path | None] = _option(None, parse_path, "the project's alembic.ini")
    databases: Sourced[tuple[DatabaseSetting, ...]] = _option(
        (), parse_databases, "more databases: name, role, extensions; also overrides hatchet and owlclaw"
    )
    env_names: Sourced[dict[str, str]] = _option({}, parse_env_names, "other names for the keys written to .env")
    remote_token: Sourced[Secret | None] = _option(None, parse_secret, "API token of a Hatchet server elsewhere")
    remote_token_file: Sourced[Path | None] = _option(None, parse_path, "file that holds that token, and nothing else")
    remote_url: Sourced[str] = _option("", parse_url, "REST and dashboard of that server; the token says it")
    remote_grpc: Sourced[str] = _option("", parse_address, "HOST:PORT of its gRPC; the token says it")
    remote_tls: Sourced[str] = _option(
        "", parse_choice("", "tls", "mtls", "none"), "how gRPC is spoken; `tls` for what is not on loopback"
    )
    remote_ca_file: Sourced[Path | None] = _option(None, parse_path, "root certificate of that server, as PEM")
    remote_server_name: Sourced[str] = _option("", parse_text, "name in its certificate, where that is another one")
    remote_cert_file: Sourced[Path | None] = _option(
        None, parse_path, "certificate of this client for gRPC, as PEM: `mtls`"
    )
    remote_key_file: Sourced[Path | None] = _option(None, parse_path, "key of that certificate, as PEM")
    remote_login: Sourced[str] = _option("", parse_text, "e-mail of a login there that may make a token")
    remote_password: Sourced[Secret | None] = _option(None, parse_secret, "password of that login")
    remote_tenant: Sourced[str] = _option("", parse_text, "name or id of that login's tenant, where it has several")
    remote_database_url: Sourced[Secret | None] = _option(
        None, parse_secret, "the application's database on a server elsewhere, used as it is"
    )


DEFAULT_DATABASES = (
    DatabaseSetting("hatchet", "hatchet"),
    DatabaseSetting("owlclaw", "owlclaw", ("vector", "pgcrypto")),
)


TEST_SUFFIX = "_test"


def wanted_databases(settings: Settings) -> tuple[DatabaseSetting, ...]:
    """Hatchet's and OwlClaw's databases, with the user's own entries over and after them.

    In `remote` Hatchet's own is somebody else's.
    """
    every = _every_database(settings)
    if settings.mode.value is not Mode.REMOTE:
        return every
    hatchets, applications = (d.name for d in DEFAULT_DATABASES)
    given = any(d.given for d in every)
    return tuple(d for d in every if d.name != hatchets and (d.given or not given or d.name != applications))


def application_database(settings: Settings) -> DatabaseSetting:
    """The application's database among the wanted ones."""
    wanted = wanted_databases(settings)
    given = next((d for d in wanted if d.given), None)
    return given or next(d for d in wanted if d.name == DEFAULT_DATABASES[1].name)


def _every_database(settings: Settings) -> tuple[DatabaseSetting, ...]:
    wanted = {d.name: d for d in DEFAULT_DATABASES}
    # What overrides a default comes first: other entries may take their role and extensions from it.
    for own in sorted(settings.databases.value, key=lambda d: d.name not in wanted):
        wanted[own.name] = complete(own, tuple(wanted.values()))
    return tuple(wanted.values())


def complete(own: DatabaseSetting, others: Sequence[DatabaseSetting]) -> DatabaseSetting:
    """A database with role and extensions: those of its default, or of the database that it is the test database of.

    `owlclaw_test` belongs to the role of `owlclaw`, and a database of that role has the application's extensions.
    """
    if own.given:
        return own
    of_name = {d.name: d for d in others}
    base = of_name.get(own.name.removesuffix(TEST_SUFFIX))
    role = own.role or (base.role if base and base.name != own.name else own.name)
    alike = of_name.get(own.name) or next((d for d in others if d.role == role and d.extensions), None)
    return DatabaseSetting(own.name, role, own.extensions or (alike.extensions if alike else ()))


KEYS = tuple(f.name for f in fields(Settings))
# Never shown, not even in an error about their form.
SECRETS = frozenset(
    {"admin_url", "rabbitmq_url", "admin_password", "remote_token", "remote_password", "remote_database_url"}
)
ALIASES = {
    "OWLCLAW_ADMIN_URL": "admin_url",
    "OWLCLAW_UP_FROM": "from_dir",
    # As hatchet-sdk reads them: hatchet_sdk/config.py, EmbeddedHatchetConfig.
    "HATCHET_CLIENT_EMBEDDED_VERSION": "sidecar_version",
    "HATCHET_CLIENT_EMBEDDED_BINARY_PATH": "sidecar_binary",
    "HATCHET_CLIENT_EMBEDDED_CHECKSUM": "sidecar_checksum",
}
# Flags that are not their setting's name.
_FLAGS = {"from_dir": "--from"}


def find_project(start: Path, given: Path | None) -> Path:
    """The project directory: the given one, else the nearest parent with pyproject.toml or .git, else the start.

    Raises:
        ProjectMissing: the given path does not exist or is no folder.
    """
    if given is not None:
        path = given.expanduser()
        if not path.exists():
            raise ProjectMissing(path, "does not exist")
        if not path.is_dir():
            raise ProjectMissing(path, "is a file, not a folder")
        return path.resolve()
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / "pyproject.toml").exists() or (folder / ".git").exists():
            return folder
    return start


def load(project: Path, environ: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """Resolve every setting.

    Args:
        project: the project directory.
        environ: the environment.
        flags: command line values by setting name; None means not given.

    Raises:
        UnknownSetting: a key of the file or an `OWLCLAW_UP_*` variable is not known.
        BadSetting: a value cannot be used.
    """
    values: dict[str, Sourced[Any]] = {}
    parsers = {f.name: f.metadata["parse"] for f in fields(Settings)}

    def put(name: str, raw: Any, source: str, origin: str) -> None:
        try:
            values[name] = Sourced(parsers[name](raw), source, origin)
        except (ValueError, RuntimeError) as error:
            # RuntimeError: `~somebody` in a path, and there is no such user.
            shown = "***" if name in SECRETS else str(raw)
            raise BadSetting(name, shown, origin, str(error)) from None

    for where, table in _file_tables(project):
        for name, raw in table.items():
            if name not in KEYS:
                raise UnknownSetting(name, where, nearest(name, KEYS))
            put(name, raw, "file", f"{where}: {name}")
    for variable, name in ALIASES.items():
        if environ.get(variable):
            put(name, environ[variable], "env", variable)
    for variable, raw in sorted(environ.items()):
        if variable.startswith(ENV_PREFIX) and variable not in ALIASES:
            name = variable.removeprefix(ENV_PREFIX).lower()
            if name not in KEYS:
                # Compared without the prefix, which makes every name alike.
                near = nearest(name, KEYS)
                raise UnknownSetting(variable, "the environment", ENV_PREFIX + near.upper() if near else None)
            if raw:
                put(name, raw, "env", variable)
    for name, raw in flags.items():
        if raw is not None:
            put(name, raw, "flag", _FLAGS.get(name, "--" + name.replace("_", "-")))
    settings = Settings(**values)
    _check_ports(settings)
    return settings


def _check_ports(settings: Settings) -> None:
    """Two servers cannot listen on one port, and a port that was asked for never moves silently."""
    seen: dict[int, str] = {}
    for name in ("dashboard_port", "grpc_port", "postgres_port"):
        port = getattr(settings, name)
        if port.value is None:
            continue
        if port.value in seen:
            raise BadSetting(name, str(port.value), port.origin, f"{seen[port.value]} names the same port")
        seen[port.value] = port.origin


def _file_tables(project: Path) -> list[tuple[str, dict[str, Any]]]:
    """The settings tables of the project, weaker first: pyproject.toml, then owlclaw-up.toml."""
    tables = []
    for name in ("pyproject.toml", SETTINGS_FILE):
        path = project / name
        try:
            text = path.read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if name == "pyproject.toml" and "owlclaw-up" not in text:
            continue
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise BadSetting(name, "...", str(path), f"it is not TOML: {error}") from None
        tools = document.get("tool", {})
        table = document if name == SETTINGS_FILE else tools.get("owlclaw-up", {}) if isinstance(tools, dict) else tools
        if not isinstance(table, dict):
            raise BadSetting("tool.owlclaw-up", str(table), str(path), "a table is wanted: [tool.owlclaw-up]")
        if table:
            tables.append((name, table))
    return tables
