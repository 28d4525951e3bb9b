"""What the compose files are told, by the variables that they have defaults for; the same files as by hand. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from owlclaw_up.facts.containers import DATABASE
from owlclaw_up.host.base import ServerLogin, on_this_machine
from owlclaw_up.host.embedded import SUPERUSER
from owlclaw_up.host.postgres_url import url_of
from owlclaw_up.model import Mode
from owlclaw_up.spec import HATCHET_DATABASE, ContainerEngine, StackSpec

BRIDGE, HOST = "bridge", "host"
GATEWAY_NAME = "host.docker.internal"


def compose_env(
    spec: StackSpec, engine: ContainerEngine, passwords: Mapping[str, str], identity: Mapping[str, str], network: str
) -> dict[str, str]:
    """Every variable that decides what runs; secrets among them, so it is for a child's environment only.

    Args:
        passwords: by role, of a PostgreSQL in a container.
        identity: the keysets and cookie secrets; empty for a stack that keeps its own.
        network: `bridge`, or `host` where nothing but loopback leads to PostgreSQL.
    """
    assert spec.compose is not None
    ports = spec.ports
    login = database_from_container(spec, network)
    values = {
        "OWLCLAW_UP_HATCHET_IMAGE": engine.image,
        "OWLCLAW_UP_DASHBOARD_PORT": str(ports.dashboard),
        "OWLCLAW_UP_GRPC_PORT": str(ports.grpc),
        "OWLCLAW_UP_ADMIN_PASSWORD": engine.admin_password.reveal(),
        "LITE_ADMIN_EMAIL": engine.admin_email,
        "LITE_TENANT_ID": engine.tenant,
        "LITE_DATABASE_URL": url_of(login).reveal(),
        "LITE_DATABASE_MAX_CONNS": str(engine.max_conns),
        **identity,
    }
    if spec.mode is Mode.FULL:
        values |= {
            "OWLCLAW_UP_POSTGRES_IMAGE": spec.compose.images["postgres"],
            "OWLCLAW_UP_POSTGRES_PORT": str(ports.postgres),
            "LITE_POSTGRES_PASSWORD": passwords[SUPERUSER],
            "LITE_HATCHET_PASSWORD": passwords["hatchet"],
            "LITE_OWLCLAW_PASSWORD": passwords["owlclaw"],
            "LITE_MAX_CONNECTIONS": str(spec.postgres.max_connections),
        }
    else:
        values["LITE_NETWORK_MODE"] = network
        if network == HOST:
            values |= {
                "LITE_GRPC_BIND_ADDRESS": "127.0.0.1",
                "LITE_GRPC_PORT": str(ports.grpc),
                "LITE_RUNTIME_PORT": str(ports.dashboard),
                "LITE_FRONTEND_PORT": str(ports.frontend),
                "LITE_API_PORT": str(ports.api),
                "LITE_HEALTH_PORT": str(ports.health),
            }
    if engine.rabbitmq is not None:
        values["LITE_MSGQUEUE_KIND"] = "rabbitmq"
        values["OWLCLAW_UP_RABBITMQ_URL"] = _from_inside(engine.rabbitmq.reveal(), network)
    return values


def fingerprint(values: Mapping[str, str]) -> str:
    """A short hash that changes when the engine's container would be another one, or PostgreSQL's beside it.

    The admin's password counts at the first start only.
    """
    ours = {k: v for k, v in values.items() if k != "OWLCLAW_UP_ADMIN_PASSWORD"}
    return hashlib.sha256(json.dumps(ours, sort_keys=True).encode()).hexdigest()[:16]


def database_from_container(spec: StackSpec, network: str) -> ServerLogin:
    """The engine role's login to its database, as its container reaches the server."""
    login = spec.login(spec.database(HATCHET_DATABASE))
    if spec.mode is Mode.FULL:
        return dataclasses.replace(login, host=DATABASE, port=5432, options=(("sslmode", "disable"),))
    options = login.options if any(name == "sslmode" for name, _ in login.options) else (("sslmode", "prefer"),)
    return dataclasses.replace(
        login, host=_host_from_container(login.host, network), port=login.port or 5432, options=options
    )


def _host_from_container(host: str, network: str) -> str:
    if not on_this_machine(host):
        return host
    return GATEWAY_NAME if network == BRIDGE else "127.0.0.1"


def _from_inside(url: str, network: str) -> str:
    """A URL as it is to be written for a container."""
    parts = urlsplit(url)
    if network == HOST or not on_this_machine(parts.hostname or ""):
        return url
    who, at, _ = parts.netloc.rpartition("@")
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=f"{who}{at}{GATEWAY_NAME}{port}"))
