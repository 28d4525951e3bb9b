"""The checks of the environment that ``hatchet-lite`` and ``hatchet-admin token create`` make, in the real order."""

from __future__ import annotations

import os
from typing import Any

import psycopg

from . import database
from .errors import ConfigurationError
from .tokens import Keys, grpc_address

DEFAULT_PORTS = {
    "LITE_RUNTIME_PORT": 8082,
    "SERVER_PORT": 8080,
    "SERVER_GRPC_PORT": 7070,
    "SERVER_HEALTHCHECK_PORT": 8733,
}


def port(name: str) -> int:
    """Read one of the engine's ports from the environment, or give the real default.

    Raises:
        ConfigurationError: Not a number.
    """
    text = os.environ.get(name, "")
    try:
        return int(text) if text else DEFAULT_PORTS[name]
    except ValueError:
        key = {"SERVER_PORT": "runtime.port", "SERVER_GRPC_PORT": "runtime.grpcPort"}.get(name, name)
        raise ConfigurationError(
            "could not unmarshal viper config: decoding failed due to the following error(s):\n\n"
            f"'{key}' cannot parse value as 'int': strconv.ParseInt: invalid syntax"
        ) from None


def _check_cookies() -> None:
    creating = "could not create session store: "
    if not os.environ.get("SERVER_AUTH_COOKIE_DOMAIN"):
        raise ConfigurationError(creating + "cookie domain is required. use WithCookieDomain.")
    given = os.environ.get("SERVER_AUTH_COOKIE_SECRETS", "").split()
    if not given or len(given) % 2:
        raise ConfigurationError(
            creating + "at least one cookie secret must be provided, and must provide an even number of secrets"
        )
    for secret in given[1::2]:
        if len(secret) not in (16, 24, 32):
            raise ConfigurationError(
                creating + "failed to validate SERVER_AUTH_COOKIE_SECRETS, secrets must be 16/24/32 bytes: "
                f"securecookie: error - caused by: crypto/aes: invalid key size {len(secret)}"
            )


def load(*, queue: bool) -> tuple[psycopg.Connection[tuple[Any, ...]], Keys]:
    """Check everything and give the open session and the keys.

    Args:
        queue: Also need the message queue's table, as the server does and ``token create`` does not.

    Raises:
        ConfigurationError: The first thing that is wrong.
    """
    for name in ("SERVER_PORT", "SERVER_GRPC_PORT", "SERVER_HEALTHCHECK_PORT"):
        port(name)
    connection = database.connect(database.read_dsn())
    try:
        if queue and not database.is_migrated(connection):
            raise ConfigurationError(
                "could not init postgres queue: error upserting queue task_processing_queue_v2: "
                + database.NOT_MIGRATED
            )
        strategy = os.environ.get("SERVER_TLS_STRATEGY") or "tls"
        if strategy not in ("tls", "mtls"):
            raise ConfigurationError(f"could not load TLS config: invalid TLS strategy: {strategy}")
        _check_cookies()
        keys = Keys.from_environment()
        address = os.environ.get("SERVER_INTERNAL_CLIENT_INTERNAL_GRPC_BROADCAST_ADDRESS") or grpc_address()
        if ":" not in address:
            raise ConfigurationError(
                f"could not load internal client: could not parse host from broadcast address {address}: "
                f"address {address}: missing port in address"
            )
    except BaseException:
        connection.close()
        raise
    return connection, keys
