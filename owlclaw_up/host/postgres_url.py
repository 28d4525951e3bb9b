"""URLs of PostgreSQL: as people write them, and of a login. Pure; knows no library."""

from __future__ import annotations

import dataclasses
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from owlclaw_up.host.base import ServerLogin
from owlclaw_up.model import Secret

_SCHEMES = {"postgres", "postgresql"}


def parse_url(text: str, default_database: str = "postgres") -> ServerLogin:
    """A login from a URL as people write them: `postgres://`, `postgresql+asyncpg://`, percent-encoded or raw passwords.

    Args:
        text: the URL. The last `@` ends the password, so that one with `@` or `/` in it works unencoded as well.

    Raises:
        ValueError: it is no such URL; the message holds no part of the password.
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator or scheme.split("+", 1)[0].lower() not in _SCHEMES:
        raise ValueError("it does not start with postgresql://")
    user_info, at, tail = rest.rpartition("@")
    user, colon, password = user_info.partition(":") if at else ("", "", "")
    try:
        parts = urlsplit("postgresql://" + tail)
        port = parts.port
    except ValueError:
        raise ValueError("its port is no number between 0 and 65535") from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    # SQLAlchemy's word for libpq's sslmode.
    if "ssl" in options:
        options.setdefault("sslmode", options.pop("ssl"))
    # As in libpq, what the query says of the login wins; left among the options it would go on to other roles' URLs.
    asked_user, asked_password = options.pop("user", ""), options.pop("password", None)
    host = unquote(parts.hostname or "") or options.pop("host", "")
    port = port or (int(options.pop("port")) if options.get("port", "").isdigit() else None)
    return ServerLogin(
        host=host,
        port=port,
        user=asked_user or unquote(user),
        password=Secret(asked_password) if asked_password is not None else Secret(unquote(password)) if colon else None,
        database=unquote(parts.path.lstrip("/")) or options.pop("dbname", "") or default_database,
        options=tuple(sorted(options.items())),
    )


def url_of(login: ServerLogin, scheme: str = "postgresql") -> Secret:
    """The URL of a login, password included, every part percent-encoded."""
    password = f":{quote(login.password.reveal(), safe='')}" if login.password else ""
    who = f"{quote(login.user, safe='')}{password}@" if login.user else ""
    query = "&".join(f"{quote(k)}={quote(v, safe='')}" for k, v in login.options)
    host = login.host
    if host.startswith("/"):
        query = "&".join(filter(None, (f"host={quote(host, safe='')}", query)))
        host = ""
    elif ":" in host:
        host = f"[{host}]"
    port = f":{login.port}" if login.port else ""
    tail = f"?{query}" if query else ""
    return Secret(f"{scheme}://{who}{host}{port}/{quote(login.database, safe='')}{tail}")


def asyncpg_url(login: ServerLogin) -> Secret:
    """The URL of a login for SQLAlchemy with asyncpg, which wants no libpq options."""
    options = tuple(("ssl", value) for name, value in login.options if name == "sslmode")
    return url_of(dataclasses.replace(login, options=options), "postgresql+asyncpg")
