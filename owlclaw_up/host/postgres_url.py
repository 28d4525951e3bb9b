"""URLs of PostgreSQL: as people write them, and of a login. Pure; knows no library."""

from __future__ import annotations

import dataclasses
import re
from urllib.parse import quote, unquote

from owlclaw_up.host.base import ServerLogin
from owlclaw_up.model import Secret

_SCHEMES = {"postgres", "postgresql"}
# libpq's keywords, and SQLAlchemy's `ssl`: by one of them a query is told from a password with a question mark.
_KEYWORDS = {
    "user", "password", "passfile", "host", "hostaddr", "port", "dbname", "service", "servicefile", "options",
    "application_name", "connect_timeout", "fallback_application_name", "client_encoding", "channel_binding",
    "require_auth", "requirepeer", "ssl", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcertmode",
    "sslcompression", "sslcrl", "sslcrldir", "sslsni", "sslnegotiation", "ssl_min_protocol_version",
    "ssl_max_protocol_version", "gssencmode", "gssdelegation", "gsslib", "krbsrvname", "keepalives", "keepalives_idle",
    "keepalives_interval", "keepalives_count", "tcp_user_timeout", "target_session_attrs", "load_balance_hosts",
    "replication",
}  # fmt: skip
_HOST_AND_PORT = re.compile(r"(?:\[(?P<address>[^\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>.*))?", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9._-]*")
_IPV6 = re.compile(r"(?=.*:)[0-9A-Fa-f:.]+")


def parse_url(text: str, default_database: str = "postgres") -> ServerLogin:
    """A login from a URL as people write them: `postgres://`, `postgresql+asyncpg://`, percent-encoded or raw passwords.

    Args:
        text: the URL. The last `@` before the query ends the password, so that one with `@`, `/`, `?` or `#` in it works
            unencoded as well.

    Raises:
        ValueError: it is no such URL; the message holds no part of the password.
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator or scheme.split("+", 1)[0].lower() not in _SCHEMES:
        raise ValueError("it does not start with postgresql://")
    before, query = _without_query(rest)
    user_info, at, place = before.rpartition("@")
    user, colon, password = user_info.partition(":") if at else ("", "", "")
    authority, _, path = place.partition("/")
    match = _HOST_AND_PORT.fullmatch(authority)
    if match is None:
        raise ValueError("its port is no number between 0 and 65535")
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    options = {_decoded(key): _decoded(value) for key, _, value in pairs}
    # SQLAlchemy's word for libpq's sslmode.
    if "ssl" in options:
        options.setdefault("sslmode", options.pop("ssl"))
    # As in libpq, what the query says of the login wins; left among the options it would go on to other roles' URLs.
    asked = {key: options.pop(key) for key in ("host", "user", "password", "dbname") if key in options}
    port = _port(match["port"] or "")
    if "," not in options.get("port", ""):
        port = _port(options.pop("port", "")) or port
    secret = asked["password"] if "password" in asked else _decoded(password) if colon else None
    return ServerLogin(
        host=asked.get("host") or _decoded(match["address"] or match["name"] or ""),
        port=port,
        user=asked.get("user") or _decoded(user),
        password=None if secret is None else Secret(secret),
        database=asked.get("dbname") or _decoded(path) or default_database,
        options=tuple(sorted(options.items())),
    )


def _without_query(rest: str) -> tuple[str, str]:
    """What stands before the query, and the query.

    A password may have a question mark, and a query an `@`: the query begins where keywords of libpq come, else behind
    the last `@`.
    """
    for mark in re.finditer(r"\?", rest):
        query = rest[mark.end() :]
        if _KEYWORDS & {pair.partition("=")[0] for pair in query.split("&")}:
            return rest[: mark.start()], query
    user_info, at, place = rest.rpartition("@")
    place, _, query = place.partition("?")
    return f"{user_info}{at}{place}", query


def _decoded(text: str) -> str:
    try:
        decoded = unquote(text, errors="strict")
        decoded.encode()
    except UnicodeError:
        raise ValueError("it has bytes that are no UTF-8") from None
    if "\0" in decoded:
        raise ValueError("it has a NUL byte")
    return decoded


def _port(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
        raise ValueError("its port is no number between 0 and 65535")
    return int(text) or None


def url_of(login: ServerLogin, scheme: str = "postgresql") -> Secret:
    """The URL of a login, password included, every part percent-encoded."""
    who = quote(login.user, safe="")
    if login.password is not None:
        who += f":{quote(login.password.reveal(), safe='')}"
    host, options = login.host, list(login.options)
    if _IPV6.fullmatch(host):
        host = f"[{host}]"
    elif not _NAME.fullmatch(host):
        # The folder of a socket, several hosts, an address with a zone.
        host, options = "", [("host", host), *options]
    place = f"{who}@{host}" if who else host
    port = f":{login.port}" if login.port else ""
    query = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in options)
    return Secret(f"{scheme}://{place}{port}/{quote(login.database, safe='')}{'?' if query else ''}{query}")


def asyncpg_url(login: ServerLogin) -> Secret:
    """The URL of a login for SQLAlchemy with asyncpg, which wants no libpq options."""
    options = tuple(("ssl", value) for name, value in login.options if name == "sslmode")
    return url_of(dataclasses.replace(login, options=options), "postgresql+asyncpg")
