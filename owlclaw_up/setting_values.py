"""What a setting's value may be: its text parsed, or why it cannot be used. One place to add a kind of value.

Each parser takes a text of a flag or a variable, or a value of TOML, and raises `ValueError` with what is wanted instead.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from owlclaw_up.model import Mode, Secret

T = TypeVar("T")
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


def parse_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text is wanted")
    return value


def parse_choice(*allowed: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"one of {', '.join(allowed)} is wanted")
        return str(value)

    return parse


def parse_mode(value: Any) -> Mode | None:
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


def parse_flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError("true or false is wanted")


def parse_seconds(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError("a number of seconds is wanted") from None
    if not 1 <= number <= 86400:
        raise ValueError("between 1 and 86400 seconds are wanted")
    return number


def parse_port(value: Any) -> int | None:
    try:
        number = int(value if not isinstance(value, bool) else "")
    except (TypeError, ValueError, OverflowError):
        raise ValueError("a port number is wanted") from None
    if not 1 <= number <= 65535:
        raise ValueError("a port between 1 and 65535 is wanted")
    return number


def parse_engines(value: Any) -> int:
    try:
        number = int(value if not isinstance(value, bool) else "")
    except (TypeError, ValueError, OverflowError):
        raise ValueError("a number of engines is wanted") from None
    if not 1 <= number <= _MOST_ENGINES:
        raise ValueError(f"between 1 and {_MOST_ENGINES} engines are wanted")
    return number


def parse_path(value: Any) -> Path | None:
    return Path(parse_text(value)).expanduser() if value else None


def parse_file(value: Any) -> Path:
    if not parse_text(value):
        raise ValueError("a path is wanted")
    return Path(value).expanduser()


def parse_release(value: Any) -> str:
    if value == "latest":
        raise ValueError("a release is wanted: `latest` would have any start upgrade the engine, and its database")
    if not _RELEASE.fullmatch(parse_text(value)):
        raise ValueError("a release such as v1.2.3 is wanted")
    return str(value)


def parse_sha256(value: Any) -> str:
    text = parse_text(value).lower()
    if text and not _SHA256.fullmatch(text):
        raise ValueError("the 64 hexadecimal digits of a SHA-256 are wanted")
    return text


def parse_secret(value: Any) -> Secret | None:
    return Secret(parse_text(value)) if value else None


def parse_url(value: Any) -> str:
    """An address of HTTP as hatchet-sdk wants it: without a path's last slash."""
    if not value:
        return ""
    try:
        parts = urlsplit(parse_text(value))
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"it is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
        raise ValueError("https://HOST or http://HOST:PORT is wanted")
    return str(value).rstrip("/")


def parse_address(value: Any) -> str:
    if not value:
        return ""
    host, _, port = parse_text(value).rpartition(":")
    if not host or "/" in value or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise ValueError("HOST:PORT is wanted")
    return str(value)


def parse_admin_password(value: Any) -> Secret | None:
    """Hatchet refuses weaker ones at the seed, after everything else was made; so they are refused here."""
    if not value:
        return None
    text = parse_text(value)
    strong = 8 <= len(text) <= 64 and all(re.search(c, text) for c in ("[A-Z]", "[a-z]", "[0-9]"))
    if not strong:
        raise ValueError("8 to 64 characters with an upper case letter, a lower case letter and a digit are wanted")
    return Secret(text)


def parse_lifetime(value: Any) -> int:
    match = _LIFETIME.fullmatch(str(value).strip())
    if not match:
        raise ValueError("a lifetime such as 90d, 1y or 720h is wanted")
    hours = int(match["number"]) * _LIFETIME_HOURS[match["unit"]]
    if hours < 1:
        raise ValueError("at least one hour is wanted")
    if hours > _LONGEST_LIFETIME:
        raise ValueError("at most 100 years are wanted")
    return hours


def parse_databases(value: Any) -> tuple[DatabaseSetting, ...]:
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


def parse_env_names(value: Any) -> dict[str, str]:
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


def nearest(name: str, known: tuple[str, ...] | list[str]) -> str | None:
    """The known name most like the given one, if any is."""
    close = difflib.get_close_matches(name, known, 1, 0.5)
    return close[0] if close else None
