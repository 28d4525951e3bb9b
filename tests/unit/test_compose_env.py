"""What the compose files are told: complete, known to them, secrets only where they must be, addresses as a container sees them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.compose_design import COMPOSE_FILES
from owlclaw_up.host.base import ServerLogin, on_this_machine
from owlclaw_up.host.docker_base import Compose, DockerLook
from owlclaw_up.model import Mode, Secret
from owlclaw_up.spec import ADMIN_EMAIL, TENANT_ID, ComposeSpec, ContainerEngine, PostgresSpec, StackSpec
from owlclaw_up.steps.compose_env import BRIDGE, HOST, compose_env, database_from_container, fingerprint
from tests.unit.fakes import make_spec

PROJECT = Path("/home/user/app")
DEPLOY = Path(__file__).parents[2] / "deploy"
PASSWORDS = {"postgres": "postgres-password", "hatchet": "hatchet-password", "owlclaw": "owlclaw-password"}
IDENTITY = {
    "SERVER_ENCRYPTION_MASTER_KEYSET": "keyset-0",
    "SERVER_ENCRYPTION_JWT_PRIVATE_KEYSET": "keyset-1",
    "SERVER_ENCRYPTION_JWT_PUBLIC_KEYSET": "keyset-2",
    "SERVER_AUTH_COOKIE_SECRETS": "one two",
}
LOOK = DockerLook(
    "unix:///var/run/docker.sock", "28.0.1", "the system's engine", Compose(("docker", "compose"), "2.26.1")
)


def make_compose(mode: Mode, **values: Any) -> StackSpec:
    """A stack with Docker, every value fixed and easy to recognise."""
    images = {"hatchet": "hatchet:1"} | ({"postgres": "postgres:1"} if mode is Mode.FULL else {})
    admin = ServerLogin("127.0.0.1", 5432, "postgres", Secret("postgres-password"))
    kind = "container" if mode is Mode.FULL else "local"
    usual: dict[str, Any] = {
        "mode": mode,
        "postgres": PostgresSpec(kind, admin, kind, 200),
        "engine": make_engine(),
        "compose": ComposeSpec(LOOK, "owlclaw-app-1", PROJECT / "docker-compose.yml", images),
    }
    return dataclasses.replace(make_spec(PROJECT), **{**usual, **values})


def make_engine(**values: Any) -> ContainerEngine:
    usual: dict[str, Any] = {
        "admin_email": ADMIN_EMAIL, "admin_password": Secret("Dashboard-password-1"), "tenant": TENANT_ID,
        "max_conns": 50, "rabbitmq": None, "image": "hatchet:1",
    }  # fmt: skip
    return ContainerEngine(**{**usual, **values})


def env(spec: StackSpec, network: str = BRIDGE) -> dict[str, str]:
    assert isinstance(spec.engine, ContainerEngine)
    return compose_env(spec, spec.engine, PASSWORDS, IDENTITY, network)


ENGINE = {
    "OWLCLAW_UP_HATCHET_IMAGE": "hatchet:1",
    "OWLCLAW_UP_DASHBOARD_PORT": "8888",
    "OWLCLAW_UP_GRPC_PORT": "17077",
    "OWLCLAW_UP_ADMIN_PASSWORD": "Dashboard-password-1",
    "LITE_ADMIN_EMAIL": "admin@example.com",
    "LITE_TENANT_ID": "707d0855-80ab-4e1f-a156-f1c4546cbf52",
    "LITE_DATABASE_MAX_CONNS": "50",
    **IDENTITY,
}


def test_full() -> None:
    assert env(make_compose(Mode.FULL)) == {
        **ENGINE,
        "LITE_DATABASE_URL": "postgresql://hatchet:hatchet-password@owlclaw-db:5432/hatchet?sslmode=disable",
        "OWLCLAW_UP_POSTGRES_IMAGE": "postgres:1",
        "OWLCLAW_UP_POSTGRES_PORT": "5432",
        "LITE_POSTGRES_PASSWORD": "postgres-password",
        "LITE_HATCHET_PASSWORD": "hatchet-password",
        "LITE_OWLCLAW_PASSWORD": "owlclaw-password",
        "LITE_MAX_CONNECTIONS": "200",
    }


def test_hatchet_only_by_the_bridge() -> None:
    assert env(make_compose(Mode.HATCHET_ONLY)) == {
        **ENGINE,
        "LITE_NETWORK_MODE": "bridge",
        "LITE_DATABASE_URL": "postgresql://hatchet:hatchet-password@host.docker.internal:5432/hatchet?sslmode=prefer",
    }


def test_hatchet_only_over_this_machine_s_network() -> None:
    """Every port that the engine binds is one of ours then, and gRPC stays on loopback."""
    assert env(make_compose(Mode.HATCHET_ONLY), HOST) == {
        **ENGINE,
        "LITE_NETWORK_MODE": "host",
        "LITE_DATABASE_URL": "postgresql://hatchet:hatchet-password@127.0.0.1:5432/hatchet?sslmode=prefer",
        "LITE_GRPC_BIND_ADDRESS": "127.0.0.1",
        "LITE_GRPC_PORT": "17077",
        "LITE_RUNTIME_PORT": "8888",
        "LITE_FRONTEND_PORT": "18081",
        "LITE_API_PORT": "18080",
        "LITE_HEALTH_PORT": "18733",
    }


QUEUE = make_engine(rabbitmq=Secret("amqp://user:p%40ss@localhost:5672/vhost"))


@pytest.mark.parametrize("network", [BRIDGE, HOST])
@pytest.mark.parametrize("mode", [Mode.FULL, Mode.HATCHET_ONLY])
def test_the_compose_file_knows_every_variable(mode: Mode, network: str) -> None:
    """A name that it does not know would be lost without a word."""
    text = (DEPLOY / COMPOSE_FILES[mode]).read_text(encoding="utf-8")
    known = set(re.findall(r"\$\{([A-Z0-9_]+)", text))
    assert set(env(make_compose(mode, engine=QUEUE), network if mode is Mode.HATCHET_ONLY else BRIDGE)) <= known


def test_no_value_is_empty() -> None:
    """Compose takes an empty value for its default: a well-known password."""
    for mode in COMPOSE_FILES:
        assert all(env(make_compose(mode)).values())


def test_secrets_stand_only_where_they_must() -> None:
    made = env(make_compose(Mode.FULL))
    places = {
        "postgres-password": {"LITE_POSTGRES_PASSWORD"},
        "hatchet-password": {"LITE_HATCHET_PASSWORD", "LITE_DATABASE_URL"},
        "owlclaw-password": {"LITE_OWLCLAW_PASSWORD"},
        "Dashboard-password-1": {"OWLCLAW_UP_ADMIN_PASSWORD"},
    }
    for secret, names in places.items():
        assert {name for name, value in made.items() if secret in value} == names
    assert not [
        v for v in env(make_compose(Mode.HATCHET_ONLY)).values() if "postgres-password" in v or "owlclaw-p" in v
    ]


@pytest.mark.parametrize(
    ("url", "network", "inside"),
    [
        ("amqp://u:p%40ss@localhost:5672/v", BRIDGE, "amqp://u:p%40ss@host.docker.internal:5672/v"),
        ("amqp://u:p@127.0.0.1/", BRIDGE, "amqp://u:p@host.docker.internal/"),
        ("amqps://u:p@[::1]:5671/v?x=1", BRIDGE, "amqps://u:p@host.docker.internal:5671/v?x=1"),
        ("amqp://localhost:5672", BRIDGE, "amqp://host.docker.internal:5672"),
        ("amqp://u:p@localhost:5672/v", HOST, "amqp://u:p@localhost:5672/v"),
        ("amqp://u:p@queue.example:5672/v", BRIDGE, "amqp://u:p@queue.example:5672/v"),
        ("amqp://u:p@192.0.2.7/v", BRIDGE, "amqp://u:p@192.0.2.7/v"),
    ],
)
def test_a_queue_as_a_container_reaches_it(url: str, network: str, inside: str) -> None:
    made = env(make_compose(Mode.HATCHET_ONLY, engine=make_engine(rabbitmq=Secret(url))), network)
    assert (made["LITE_MSGQUEUE_KIND"], made["OWLCLAW_UP_RABBITMQ_URL"]) == ("rabbitmq", inside)


@pytest.mark.parametrize(
    ("host", "network", "inside"),
    [
        ("localhost", BRIDGE, "host.docker.internal"),
        ("localhost", HOST, "127.0.0.1"),
        ("/var/run/postgresql", BRIDGE, "host.docker.internal"),
        ("", HOST, "127.0.0.1"),
        ("::1", HOST, "127.0.0.1"),
        ("db.example", BRIDGE, "db.example"),
        ("192.0.2.7", HOST, "192.0.2.7"),
    ],
)
def test_a_server_as_a_container_reaches_it(host: str, network: str, inside: str) -> None:
    admin = ServerLogin(host, None, "postgres", Secret("pw"), options=(("sslmode", "require"),))
    spec = make_compose(Mode.HATCHET_ONLY, postgres=PostgresSpec("local", admin, "--admin-url", 100))
    login = database_from_container(spec, network)
    assert (login.host, login.port, login.user, login.database) == (inside, 5432, "hatchet", "hatchet")
    assert dict(login.options)["sslmode"] == "require"


def test_loopback() -> None:
    assert all(on_this_machine(host) for host in ("", "localhost", "/tmp", "127.0.0.1", "127.1.2.3", "::1"))
    assert not any(on_this_machine(host) for host in ("db.example", "10.0.0.1", "0.0.0.0", "localhost.example"))


FIRST = fingerprint(env(make_compose(Mode.FULL)))


def test_the_fingerprint_is_stable_and_tells_nothing() -> None:
    assert fingerprint(dict(reversed(env(make_compose(Mode.FULL)).items()))) == FIRST
    assert len(FIRST) == 16 and set(FIRST) <= set("0123456789abcdef")


@pytest.mark.parametrize("name", sorted(env(make_compose(Mode.FULL, engine=QUEUE))))
def test_the_fingerprint_sees_what_makes_another_container(name: str) -> None:
    made = env(make_compose(Mode.FULL, engine=QUEUE))
    same = fingerprint({**made, name: "other"}) == fingerprint(made)
    # The seed reads the admin's password once.
    assert same is (name == "OWLCLAW_UP_ADMIN_PASSWORD")


def test_a_stack_that_keeps_its_own_identity_is_told_none() -> None:
    spec = make_compose(Mode.FULL)
    assert isinstance(spec.engine, ContainerEngine)
    assert not set(IDENTITY) & set(compose_env(spec, spec.engine, PASSWORDS, {}, BRIDGE))
