"""Connecting to PostgreSQL the way the real engine does, with its texts when that fails."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from .errors import ConfigurationError

# What is about the connection; every other key of a DSN becomes a setting of the server session.
_CONNECTION_KEYS = {
    "host",
    "port",
    "user",
    "password",
    "dbname",
    "database",
    "sslmode",
    "sslcert",
    "sslkey",
    "sslrootcert",
    "connect_timeout",
    "passfile",
    "target_session_attrs",
    "service",
}

_FATAL_STATES = (
    (r"database \".*\" does not exist", "3D000"),
    (r"role \".*\" does not exist", "28000"),
    (r"password authentication failed", "28P01"),
    (r"no pg_hba.conf entry", "28000"),
    (r"too many clients|remaining connection slots", "53300"),
    (r"starting up|shutting down|recovery mode", "57P03"),
    (r"permission denied for database", "42501"),
)


@dataclass(frozen=True)
class Dsn:
    """A database address, read from a URL or from keywords as the real engine's driver reads it."""

    user: str = ""
    password: str = ""
    host: str = "localhost"
    port: int = 5432
    database: str = ""
    sslmode: str = "prefer"
    runtime: dict[str, str] = field(default_factory=dict)

    @property
    def is_socket(self) -> bool:
        """Say whether the host is a directory of Unix sockets."""
        return self.host.startswith("/")

    @property
    def redacted(self) -> str:
        """The address as ``hatchet-migrate`` prints it: no user, no password, of the parameters only their names."""
        keys = set(self.runtime) | ({"tls"} if self.sslmode != "disable" and not self.is_socket else set())
        keys |= {"timezone"} if os.environ.get("PGTZ") else set()
        query = f"?keys={','.join(sorted(keys))}" if keys else ""
        return f"postgres://<redacted>@{self.host}:{self.port}/{self.database}{query}"

    def connect_keywords(self, application_name: str) -> dict[str, Any]:
        """Give the keyword arguments for psycopg; settings of the session go in as ``options``."""
        options = " ".join(
            "-c " + f"{key}={value}".replace("\\", "\\\\").replace(" ", "\\ ")
            for key, value in self.runtime.items()
            if key not in ("options", "application_name")
        )
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
            "sslmode": self.sslmode,
            "options": " ".join(filter(None, (self.runtime.get("options", ""), options))),
            "application_name": application_name,
            "connect_timeout": 5,
            "autocommit": True,
        }


def read_dsn() -> Dsn:
    """Read the address from DATABASE_URL, else from DATABASE_POSTGRES_*, whose default port is 5431.

    Raises:
        ConfigurationError: DATABASE_URL is neither a URL nor keywords.
    """
    url = os.environ.get("DATABASE_URL", "")
    if not url:

        def part(name: str, default: str) -> str:
            return os.environ.get(f"DATABASE_POSTGRES_{name}") or default

        return Dsn(
            user=part("USERNAME", "hatchet"),
            password=part("PASSWORD", "hatchet"),
            host=part("HOST", "127.0.0.1"),
            port=int(part("PORT", "5431")),
            database=part("DB_NAME", "hatchet"),
            sslmode=part("SSL_MODE", "disable"),
        )
    if url.startswith(("postgres://", "postgresql://")):
        parts = urlsplit(url)
        found = {
            "user": unquote(parts.username or ""),
            "password": unquote(parts.password or "") or os.environ.get("PGPASSWORD", ""),
            "host": unquote(parts.hostname or ""),
            "port": str(parts.port or ""),
            "dbname": unquote(parts.path.lstrip("/")),
        }
        found = {key: value for key, value in found.items() if value} | dict(parse_qsl(parts.query))
    else:
        try:
            found = {key: str(value) for key, value in conninfo_to_dict(url).items()}
        except psycopg.ProgrammingError:
            raise ConfigurationError(
                f"cannot parse `{url}`: failed to parse as keyword/value (invalid keyword/value)"
            ) from None
    user = found.get("user") or os.environ.get("PGUSER") or "root"
    return Dsn(
        user=user,
        password=found.get("password", ""),
        host=found.get("host") or "localhost",
        port=int(found.get("port") or 5432),
        database=found.get("dbname") or found.get("database") or user,
        sslmode=found.get("sslmode", "prefer"),
        runtime={key: value for key, value in found.items() if key not in _CONNECTION_KEYS},
    )


def failure_text(dsn: Dsn, error: psycopg.OperationalError) -> str:
    """Say why a connection failed in the words of the real engine's driver (pgx)."""
    head = f"failed to connect to `user={dsn.user} database={dsn.database}`:"
    address = dsn.host
    if not dsn.is_socket:
        try:
            found = socket.getaddrinfo(dsn.host, dsn.port, type=socket.SOCK_STREAM)
        except socket.gaierror:
            return f"{head} hostname resolving error: lookup {dsn.host}: no such host"
        # The last one, as the real driver names an IPv4 address last for localhost.
        address = str(found[-1][4][0])
    secure = dsn.sslmode != "disable" and not dsn.is_socket
    fatal = re.search(r"FATAL:\s+(.*)", str(error))
    if fatal:
        state = next((state for pattern, state in _FATAL_STATES if re.search(pattern, fatal.group(1))), "XX000")
        where = f"{address}:{dsn.port} ({dsn.host})"
        plain = f"{where}: server error: FATAL: {fatal.group(1)} (SQLSTATE {state})"
        return (
            f"{head}\n\t{where}: tls error: server refused TLS connection\n\t{plain}" if secure else f"{head} {plain}"
        )
    if dsn.is_socket:
        path = f"{dsn.host}/.s.PGSQL.{dsn.port}"
        reason = "connection refused" if "refused" in str(error) else "no such file or directory"
        return f"{head} {path} ({dsn.host}): dial error: dial unix {path}: connect: {reason}"
    where = f"{address}:{dsn.port}"
    if "timeout" in str(error):
        return f"{head} {where} ({dsn.host}): dial error: timeout: context deadline exceeded"
    if "does not support SSL" in str(error):
        return f"{head} {where} ({dsn.host}): tls error: server refused TLS connection"
    line = f"{where} ({dsn.host}): dial error: dial tcp {where}: connect: connection refused"
    return f"{head}\n\t{line}\n\t{line}" if secure else f"{head} {line}"


def connect(dsn: Dsn, application_name: str = "server") -> psycopg.Connection[tuple[Any, ...]]:
    """Open one session, as the real loader opens one to look at the timezone, and look at it.

    PGTZ in the environment is honoured: libpq sends it at the start of the session, like the real driver.

    Raises:
        ConfigurationError: No connection, or the session's timezone is not UTC.
    """
    try:
        connection = psycopg.connect(make_conninfo(""), **dsn.connect_keywords(application_name))
    except psycopg.OperationalError as error:
        raise ConfigurationError(
            f"could not create temporary connection to primary database to check timezone: {failure_text(dsn, error)}"
        ) from None
    enforced = os.environ.get("DATABASE_ENFORCE_UTC_TIMEZONE", "true").lower() not in ("false", "f", "0")
    row = connection.execute("SHOW timezone").fetchone()
    timezone = row[0] if row else ""
    if enforced and timezone not in ("UTC", "Etc/UTC"):
        connection.close()
        name = os.environ.get("DATABASE_POSTGRES_DB_NAME") or "hatchet"
        raise ConfigurationError(
            f"primary database instance timezone is set to '{timezone}' but must be 'UTC' or 'Etc/UTC'\n"
            "This check ensures time-based operations work correctly across all sessions\n"
            "To fix this issue, you have two options:\n"
            "  1. Set your PostgreSQL instance timezone to UTC by running: "
            f"ALTER DATABASE {name} SET TIMEZONE='UTC'\n"
            "  2. Disable this check by setting the environment variable: DATABASE_ENFORCE_UTC_TIMEZONE=false\n"
            "Note: Disabling this check is not recommended as it may lead to timezone-related issues"
        )
    return connection


NOT_MIGRATED = 'ERROR: type "v1_readable_status_olap" does not exist (SQLSTATE 42704)'


def is_migrated(connection: psycopg.Connection[tuple[Any, ...]]) -> bool:
    """Say whether the type is there that the real engine trips over on an empty database."""
    row = connection.execute("SELECT to_regtype('v1_readable_status_olap') IS NOT NULL").fetchone()
    return bool(row and row[0])


def error_text(error: psycopg.Error) -> str:
    """Say a server's error the way the real driver does: ``ERROR: message (SQLSTATE state)``."""
    return f"ERROR: {error.diag.message_primary or error} (SQLSTATE {error.sqlstate or 'XX000'})"
