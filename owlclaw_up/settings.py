"""What the user asked for: default < file < environment < flag, each value with the place it came from.

Stage: before anything is looked at. In: flags, environment, `owlclaw-up.toml` or `[tool.owlclaw-up]`. Out: `Settings`.
Reads those two files and nothing else. One place to add a setting: a field of `Settings`.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from owlclaw_up.errors import BadSetting, ProjectMissing, UnknownSetting
from owlclaw_up.model import Mode, Secret

T = TypeVar("T")
ENV_PREFIX = "OWLCLAW_UP_"
SETTINGS_FILE = "owlclaw-up.toml"

DEFAULT_HATCHET_IMAGE = "ghcr.io/hatchet-dev/hatchet/hatchet-lite:v0.107.2"
DEFAULT_POSTGRES_IMAGE = "pgvector/pgvector:pg16"
# Releases bear the version of the engine that is in them: hatchet-embedded, README.
DEFAULT_SIDECAR_VERSION = "v0.110.5"

# Written in `remote` alone, where there is something to say.
REMOTE_KEYS = (
    "HATCHET_CLIENT_TLS_ROOT_CA_FILE",
    "HATCHET_CLIENT_TLS_SERVER_NAME",
    "HATCHET_CLIENT_TLS_CERT_FILE",
    "HATCHET_CLIENT_TLS_KEY_FILE",
    "PGSSLROOTCERT",
)
# What is written to the dotenv file; `env_names` gives them other names.
ENV_KEYS = (
    "HATCHET_API_TOKEN",
    "HATCHET_SERVER_URL",
    "HATCHET_GRPC_HOST_PORT",
    "HATCHET_GRPC_TLS_STRATEGY",
    "HATCHET_CLIENT_TOKEN",
    "HATCHET_CLIENT_HOST_PORT",
    "HATCHET_CLIENT_SERVER_URL",
    "HATCHET_CLIENT_TLS_STRATEGY",
    "HATCHET_CLIENT_TENANT_ID",
    "DATABASE_URL",
    "OWLCLAW_DATABASE_URL",
    "OWLCLAW_PG_PORT",
    *REMOTE_KEYS,
)

_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LIFETIME = re.compile(r"(?P<number>\d+)\s*(?P<unit>h|d|y)")
_LIFETIME_HOURS = {"h": 1, "d": 24, "y": 8760}
# Go's durations, which hatchet-admin reads, end at some 292 years.
_LONGEST_LIFETIME = 876000
_MOST_ENGINES = 8
_RELEASE = re.compile(r"v\d+\.\d+\.\d+(-[A-Za-z0-9.]+)?")
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Sourced(Generic[T]):
    """A value and where it came from.

    Attributes:
        source: `default`, `file`, `env` or `flag`.
        origin: the exact place, for messages: a variable's name, a file and key, a flag.
    """

    value: T
    source: str = "default"
    origin: str = "default"

    @property
    def explicit(self) -> bool:
        return self.source != "default"


@dataclass(frozen=True)
class DatabaseSetting:
    """A database the user wants: made, owned by `role`, with `extensions` where the server has them.

    As it was given, `role` and `extensions` may be empty; `complete` fills them in.

    Attributes:
        given: it is there, on a server elsewhere, and is used as it is.
    """

    name: str
    role: str
    extensions: tuple[str, ...] = ()
    given: bool = False


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text is wanted")
    return value


def _choice(*allowed: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"one of {', '.join(allowed)} is wanted")
        return str(value)

    return parse


def _mode(value: Any) -> Mode | None:
    if value in (None, "", "auto"):
        return None
    try:
        return Mode(value)
    except ValueError:
        known = ["auto", *(m.value for m in Mode)]
        near = difflib.get_close_matches(str(value), known, 1)
        raise ValueError(
            f"one of {', '.join(known)} is wanted" + (f"; did you mean {near[0]}?" if near else "")
        ) from None


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError("true or false is wanted")


def _seconds(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError("a number of seconds is wanted") from None
    if not 1 <= number <= 86400:
        raise ValueError("between 1 and 86400 seconds are wanted")
    return number


def _port(value: Any) -> int | None:
    try:
        number = int(value if not isinstance(value, bool) else "")
    except (TypeError, ValueError, OverflowError):
        raise ValueError("a port number is wanted") from None
    if not 1 <= number <= 65535:
        raise ValueError("a port between 1 and 65535 is wanted")
    return number


def _engines(value: Any) -> int:
    try:
        number = int(value if not isinstance(value, bool) else "")
    except (TypeError, ValueError, OverflowError):
        raise ValueError("a number of engines is wanted") from None
    if not 1 <= number <= _MOST_ENGINES:
        raise ValueError(f"between 1 and {_MOST_ENGINES} engines are wanted")
    return number


def _path(value: Any) -> Path | None:
    return Path(_text(value)).expanduser() if value else None


def _file(value: Any) -> Path:
    if not _text(value):
        raise ValueError("a path is wanted")
    return Path(value).expanduser()


def _release(value: Any) -> str:
    if value == "latest":
        raise ValueError("a release is wanted: `latest` would have any start upgrade the engine, and its database")
    if not _RELEASE.fullmatch(_text(value)):
        raise ValueError(f"a release such as {DEFAULT_SIDECAR_VERSION} is wanted")
    return str(value)


def _sha256(value: Any) -> str:
    text = _text(value).lower()
    if text and not _SHA256.fullmatch(text):
        raise ValueError("the 64 hexadecimal digits of a SHA-256 are wanted")
    return text


def _secret(value: Any) -> Secret | None:
    return Secret(_text(value)) if value else None


def _url(value: Any) -> str:
    """An address of HTTP as hatchet-sdk wants it: without a path's last slash."""
    if not value:
        return ""
    try:
        parts = urlsplit(_text(value))
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"it is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
        raise ValueError("https://HOST or http://HOST:PORT is wanted")
    return str(value).rstrip("/")


def _address(value: Any) -> str:
    if not value:
        return ""
    host, _, port = _text(value).rpartition(":")
    if not host or "/" in value or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise ValueError("HOST:PORT is wanted")
    return str(value)


def _admin_password(value: Any) -> Secret | None:
    """Hatchet refuses weaker ones at the seed, after everything else was made; so they are refused here."""
    if not value:
        return None
    text = _text(value)
    strong = 8 <= len(text) <= 64 and all(re.search(c, text) for c in ("[A-Z]", "[a-z]", "[0-9]"))
    if not strong:
        raise ValueError("8 to 64 characters with an upper case letter, a lower case letter and a digit are wanted")
    return Secret(text)


def _lifetime(value: Any) -> int:
    match = _LIFETIME.fullmatch(str(value).strip())
    if not match:
        raise ValueError("a lifetime such as 90d, 1y or 720h is wanted")
    hours = int(match["number"]) * _LIFETIME_HOURS[match["unit"]]
    if hours < 1:
        raise ValueError("at least one hour is wanted")
    if hours > _LONGEST_LIFETIME:
        raise ValueError("at most 100 years are wanted")
    return hours


def _databases(value: Any) -> tuple[DatabaseSetting, ...]:
    if isinstance(value, str):
        value = [{"name": name.strip()} for name in value.split(",") if name.strip()]
    if not isinstance(value, list):
        raise ValueError("a list of {name, role, extensions} is wanted")
    made = []
    for entry in value:
        if not isinstance(entry, Mapping) or not set(entry) <= {"name", "role", "extensions"} or "name" not in entry:
            raise ValueError("each entry has a name, and may have a role and extensions")
        name, role = str(entry["name"]), str(entry.get("role", ""))
        listed = entry.get("extensions", ())
        if not isinstance(listed, (list, tuple)):
            raise ValueError(f"the extensions of {name!r} are a list of names")
        extensions = tuple(str(e) for e in listed)
        for word in (name, *([role] if "role" in entry else []), *extensions):
            if not _NAME.fullmatch(word):
                raise ValueError(f"{word!r} is no plain lower-case name")
        made.append(DatabaseSetting(name, role, extensions))
    return tuple(made)


def _env_names(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        pairs = [pair.strip().split("=", 1) for pair in value.split(",") if pair.strip()]
        value = {pair[0]: pair[1] for pair in pairs} if all(len(pair) == 2 for pair in pairs) else None
    if not isinstance(value, Mapping):
        raise ValueError("a table of NAME = OTHER_NAME is wanted")
    for ours, theirs in value.items():
        if ours not in ENV_KEYS:
            close = nearest(str(ours), ENV_KEYS)
            raise ValueError(
                f"{ours!r} is not written to the dotenv file" + (f"; did you mean {close}?" if close else "")
            )
        if not _ENV_NAME.fullmatch(str(theirs)):
            raise ValueError(f"{theirs!r} is no name of an environment variable ({ours})")
    names = {str(k): str(v) for k, v in value.items()}
    if len({names.get(key, key) for key in ENV_KEYS}) < len(ENV_KEYS):
        raise ValueError("two keys would have one name")
    return names


def _option(default: Any, parse: Callable[[Any], Any], about: str) -> Any:
    return field(default_factory=lambda: Sourced(default), metadata={"parse": parse, "about": about})


@dataclass(frozen=True)
class Settings:
    """Every setting of owlclaw-up; docs/reference/settings.md is made from here."""

    mode: Sourced[Mode | None] = _option(None, _mode, "full, hatchet-only, native, mock, remote, or auto")
    require: Sourced[str] = _option("", _choice("", "durable"), "`durable`: fail rather than end in mock")
    smoke: Sourced[str] = _option("quick", _choice("quick", "full", "none"), "how much `up` proves at its end")
    timeout: Sourced[float] = _option(180.0, _seconds, "seconds `up` may take as a whole")
    offline: Sourced[bool] = _option(False, _flag, "contact nothing off this machine")
    env_file: Sourced[Path] = _option(Path(".env"), _file, "the dotenv file that is kept, relative to the project")
    admin_url: Sourced[Secret | None] = _option(None, _secret, "a PostgreSQL login that may make roles and databases")
    engine_dir: Sourced[Path | None] = _option(None, _path, "folder with hatchet-lite, hatchet-admin, hatchet-migrate")
    engines: Sourced[int] = _option(1, _engines, "how many engines run on the one database, in mode native")
    native_engine: Sourced[str] = _option(
        "auto", _choice("auto", "binaries", "sidecar"), "what mode native runs: binaries, sidecar, or auto"
    )
    sidecar_version: Sourced[str] = _option(DEFAULT_SIDECAR_VERSION, _release, "release of Hatchet's embedded engine")
    sidecar_binary: Sourced[Path | None] = _option(None, _path, "that engine's program, where it is here already")
    sidecar_checksum: Sourced[str] = _option("", _sha256, "SHA-256 that the program must have")
    hatchet_image: Sourced[str] = _option(DEFAULT_HATCHET_IMAGE, _text, "image of the Hatchet engine")
    postgres_image: Sourced[str] = _option(DEFAULT_POSTGRES_IMAGE, _text, "image of PostgreSQL")
    registry_mirror: Sourced[str] = _option("", _text, "registry that stands in for docker.io and ghcr.io")
    dashboard_port: Sourced[int | None] = _option(None, _port, "dashboard and REST; 8888 or the next free one")
    grpc_port: Sourced[int | None] = _option(None, _port, "gRPC; 17077 or the next free one")
    postgres_port: Sourced[int | None] = _option(None, _port, "our own PostgreSQL; 5432 or the next free one")
    rabbitmq_url: Sourced[Secret | None] = _option(None, _secret, "RabbitMQ as Hatchet's queue instead of PostgreSQL")
    admin_password: Sourced[Secret | None] = _option(None, _admin_password, "password of the dashboard's admin")
    token_lifetime: Sourced[int] = _option(8760, _lifetime, "how long a new token lives: 90d, 1y, 720h")
    hatchet_server_url: Sourced[str] = _option(
        "rest", _choice("rest", "grpc"), "what HATCHET_SERVER_URL names: the REST address or the gRPC port"
    )
    alembic_config: Sourced[Path | None] = _option(None, _path, "the project's alembic.ini")
    databases: Sourced[tuple[DatabaseSetting, ...]] = _option(
        (), _databases, "more databases: name, role, extensions; also overrides hatchet and owlclaw"
    )
    env_names: Sourced[dict[str, str]] = _option({}, _env_names, "other names for the keys written to .env")
    remote_token: Sourced[Secret | None] = _option(None, _secret, "API token of a Hatchet server elsewhere")
    remote_token_file: Sourced[Path | None] = _option(None, _path, "file that holds that token, and nothing else")
    remote_url: Sourced[str] = _option("", _url, "REST and dashboard of that server; the token says it")
    remote_grpc: Sourced[str] = _option("", _address, "HOST:PORT of its gRPC; the token says it")
    remote_tls: Sourced[str] = _option(
        "", _choice("", "tls", "mtls", "none"), "how gRPC is spoken; `tls` for what is not on loopback"
    )
    remote_ca_file: Sourced[Path | None] = _option(None, _path, "root certificate of that server, as PEM")
    remote_server_name: Sourced[str] = _option("", _text, "name in its certificate, where that is another one")
    remote_cert_file: Sourced[Path | None] = _option(None, _path, "certificate of this client for gRPC, as PEM: `mtls`")
    remote_key_file: Sourced[Path | None] = _option(None, _path, "key of that certificate, as PEM")
    remote_login: Sourced[str] = _option("", _text, "e-mail of a login there that may make a token")
    remote_password: Sourced[Secret | None] = _option(None, _secret, "password of that login")
    remote_tenant: Sourced[str] = _option("", _text, "name or id of that login's tenant, where it has several")
    remote_database_url: Sourced[Secret | None] = _option(
        None, _secret, "the application's database on a server elsewhere, used as it is"
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
    # As hatchet-sdk reads them: hatchet_sdk/config.py, EmbeddedHatchetConfig.
    "HATCHET_CLIENT_EMBEDDED_VERSION": "sidecar_version",
    "HATCHET_CLIENT_EMBEDDED_BINARY_PATH": "sidecar_binary",
    "HATCHET_CLIENT_EMBEDDED_CHECKSUM": "sidecar_checksum",
}


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
        if variable.startswith(ENV_PREFIX):
            name = variable.removeprefix(ENV_PREFIX).lower()
            if name not in KEYS:
                # Compared without the prefix, which makes every name alike.
                near = nearest(name, KEYS)
                raise UnknownSetting(variable, "the environment", ENV_PREFIX + near.upper() if near else None)
            if raw:
                put(name, raw, "env", variable)
    for name, raw in flags.items():
        if raw is not None:
            put(name, raw, "flag", "--" + name.replace("_", "-"))
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


def nearest(name: str, known: tuple[str, ...] | list[str]) -> str | None:
    """The known name most like the given one, if any is."""
    close = difflib.get_close_matches(name, known, 1, 0.5)
    return close[0] if close else None


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
