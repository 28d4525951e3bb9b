"""The engine's environment, complete and nothing more; what its last words mean, from runs that really broke."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.host.base import ServerLogin
from owlclaw_up.model import Secret
from owlclaw_up.spec import EngineSpec, PostgresSpec, StackSpec
from owlclaw_up.steps.engine_env import COOKIE_SECRETS, IDENTITY, KEYSETS, diagnose, engine_env, fingerprint
from tests.unit.fakes import make_engine_spec, make_spec

IDENTITY_VALUES = {name: f"keyset-{number}" for number, name in enumerate(KEYSETS)} | {COOKIE_SECRETS: "one two"}
PROJECT = Path("/home/user/app")
ASSETS = Path("/opt/hatchet/static-assets")


def env(spec: StackSpec | None = None, environ: dict[str, str] | None = None) -> dict[str, str]:
    spec = spec or make_spec(PROJECT)
    assert isinstance(spec.engine, EngineSpec)
    return engine_env(spec, spec.engine, IDENTITY_VALUES, environ or {}, ASSETS)


def test_the_whole_environment() -> None:
    assert env() == {
        "DATABASE_URL": "postgresql://hatchet:hatchet-password@127.0.0.1:5432/hatchet?sslmode=prefer",
        "DATABASE_MAX_CONNS": "50",
        "PGTZ": "UTC",
        "SERVER_URL": "http://localhost:8888",
        "SERVER_PORT": "18080",
        "SERVER_GRPC_PORT": "17077",
        "SERVER_GRPC_BIND_ADDRESS": "127.0.0.1",
        "SERVER_GRPC_BROADCAST_ADDRESS": "localhost:17077",
        "SERVER_GRPC_INSECURE": "t",
        "SERVER_INTERNAL_CLIENT_INTERNAL_GRPC_BROADCAST_ADDRESS": "127.0.0.1:17077",
        "SERVER_HEALTHCHECK_PORT": "18733",
        "SERVER_AUTH_COOKIE_DOMAIN": "localhost",
        "SERVER_AUTH_COOKIE_INSECURE": "t",
        "SERVER_AUTH_SET_EMAIL_VERIFIED": "t",
        "SERVER_AUTH_COOKIE_SECRETS": "one two",
        "SERVER_ALLOW_SIGNUP": "false",
        "SERVER_SECURITY_CHECK_ENABLED": "false",
        "SERVER_OPTIMISTIC_SCHEDULING_ENABLED": "false",
        "SERVER_GRPC_TRIGGER_WRITES_ENABLED": "false",
        "SERVER_ENCRYPTION_MASTER_KEYSET": "keyset-0",
        "SERVER_ENCRYPTION_JWT_PRIVATE_KEYSET": "keyset-1",
        "SERVER_ENCRYPTION_JWT_PUBLIC_KEYSET": "keyset-2",
        "SERVER_MSGQUEUE_KIND": "postgres",
        "LITE_RUNTIME_PORT": "8888",
        "LITE_FRONTEND_PORT": "18081",
        "LITE_STATIC_ASSET_DIR": "/opt/hatchet/static-assets",
        "ADMIN_EMAIL": "admin@example.com",
        "ADMIN_PASSWORD": "Dashboard-password-1",
        "DEFAULT_TENANT_ID": "707d0855-80ab-4e1f-a156-f1c4546cbf52",
    }


def test_what_the_engine_refuses_is_never_set() -> None:
    """The server knows only tls and mtls there, and dies of anything else."""
    assert "SERVER_TLS_STRATEGY" not in env()


def test_no_value_is_empty() -> None:
    """The engine takes an empty value for an unset one."""
    assert all(env().values())


def test_nothing_of_the_user_s_environment_comes_through() -> None:
    hostile = {
        "DATABASE_URL": "postgresql://mine", "SERVER_URL": "x", "SERVER_TLS_STRATEGY": "none", "RABBITMQ_URL": "amqp://x",
        "SERVER_MSGQUEUE_RABBITMQ_URL": "amqp://x", "SERVER_TASKQUEUE_KIND": "rabbitmq", "PGHOST": "h", "PGTZ": "CET",
        "PGSERVICE": "s", "HATCHET_CLIENT_TOKEN": "t", "http_proxy": "http://p", "ADMIN_EMAIL": "me@example.com",
        "DATABASE_POSTGRES_HOST": "h", "SERVER_ENCRYPTION_MASTER_KEYSET_FILE": "/f", "LD_PRELOAD": "/l.so",
    }  # fmt: skip
    assert env(environ=hostile) == env()
    assert env(environ={"PATH": "/bin", "HOME": "/home/user"}) == {**env(), "PATH": "/bin", "HOME": "/home/user"}


def test_a_queue_of_its_own() -> None:
    spec = make_spec(PROJECT, engine=True)
    spec = dataclasses.replace(spec, engine=make_engine_spec(rabbitmq=Secret("amqp://u:p@h:5672/")))
    made = env(spec)
    assert made["SERVER_MSGQUEUE_KIND"] == "rabbitmq"
    assert made["SERVER_MSGQUEUE_RABBITMQ_URL"] == "amqp://u:p@h:5672/"


def test_the_database_url_is_quoted_and_keeps_the_server_s_options() -> None:
    admin = ServerLogin("db.example", 6000, "admin", Secret("a"), "postgres", (("sslmode", "require"),))
    spec = make_spec(PROJECT, postgres=PostgresSpec("local", admin, "--admin-url", 100))
    odd = dataclasses.replace(spec.databases[0], password=Secret("p@s/s:#"))
    spec = dataclasses.replace(spec, databases=(odd, spec.databases[1]))
    assert env(spec)["DATABASE_URL"] == "postgresql://hatchet:p%40s%2Fs%3A%23@db.example:6000/hatchet?sslmode=require"


def test_secrets_stand_only_where_they_must() -> None:
    secrets = {
        "hatchet-password": {"DATABASE_URL"}, "Dashboard-password-1": {"ADMIN_PASSWORD"}, "one two": {COOKIE_SECRETS},
        "keyset-0": {KEYSETS[0]}, "keyset-1": {KEYSETS[1]}, "keyset-2": {KEYSETS[2]}, "owlclaw-password": set(),
        "postgres-password": set(),
    }  # fmt: skip
    made = env()
    for secret, places in secrets.items():
        assert {name for name, value in made.items() if secret in value} == places
    assert set(IDENTITY) == {*KEYSETS, COOKIE_SECRETS}


FIRST = fingerprint(env(), Path("/opt/hatchet"), "v0.107.2")


def test_the_fingerprint_is_stable_and_tells_nothing() -> None:
    assert fingerprint(dict(reversed(env().items())), Path("/opt/hatchet"), "v0.107.2") == FIRST
    assert fingerprint(env(environ={"PATH": "/other", "HOME": "/x"}), Path("/opt/hatchet"), "v0.107.2") == FIRST
    assert len(FIRST) == 16
    assert set(FIRST) <= set("0123456789abcdef")


@pytest.mark.parametrize("name", sorted(set(env()) - {"ADMIN_PASSWORD"}))
def test_the_fingerprint_sees_every_value(name: str) -> None:
    assert fingerprint({**env(), name: "other"}, Path("/opt/hatchet"), "v0.107.2") != FIRST


def test_the_fingerprint_sees_the_binaries_and_not_the_seed_s_password() -> None:
    assert fingerprint(env(), Path("/opt/other"), "v0.107.2") != FIRST
    assert fingerprint(env(), Path("/opt/hatchet"), "v0.111.0") != FIRST
    # The seed reads it once; a running engine does not.
    assert fingerprint({**env(), "ADMIN_PASSWORD": "Other-1"}, Path("/opt/hatchet"), "v0.107.2") == FIRST


START = "2026/11/23 01:16:21 error starting API: error loading server config: "
TOKEN = "2026/11/23 01:16:13 Fatal: could not run [token create] command: "
BROKEN: list[tuple[str, str, dict[str, Any]]] = [
    ("hatchet-migrate[DATABASE_URL oss]: failed during connect on postgres://<redacted>@127.0.0.1:1/r1?keys=tls: context deadline exceeded",
     "postgres-away", {"hint": "owlclaw-up logs postgres"}),
    ("failed during create goose_db_version table on postgres://<redacted>@127.0.0.1:15999/r2?keys=tls: ERROR: permission denied for schema public (SQLSTATE 42501)",
     "privilege", {"hint": "OWNER TO hatchet"}),
    ('apply migrations: ERROR 20260522014401_v1_0_113.sql: failed to run SQL migration: ERROR: extension "btree_gist" already exists (SQLSTATE 42710)',
     "btree-gist-exists", {"hint": "DROP EXTENSION btree_gist"}),
    ('ERROR: could not open extension control file "/usr/share/postgresql/16/extension/btree_gist.control": No such file or directory (SQLSTATE 58P01)',
     "btree-gist", {"hint": "postgresql-contrib"}),
    ('ERROR: extension "btree_gist" is not available (SQLSTATE 0A000)', "btree-gist", {}),
    (TOKEN + 'failed to write token to database: ERROR: insert or update on table "APIToken" violates foreign key constraint "APIToken_tenantId_fkey" (SQLSTATE 23503)',
     "tenant", {"hint": "owlclaw-up reset"}),
    ("Fatal: could not run seed command: ADMIN_PASSWORD does not meet requirements: must be between 8 and 64 characters and contain at least one uppercase letter",
     "admin-password", {"hint": "admin_password"}),
    (TOKEN + "could not load encryption service: encryption is required", "keys-missing", {}),
    (START + "could not load encryption service: jwt encryption is required", "keys-missing", {}),
    (TOKEN + "could not create temporary connection to primary database to check timezone: failed to connect to `user=rec database=r1`:\n"
     "\t127.0.0.1:1 (127.0.0.1): dial error: dial tcp 127.0.0.1:1: connect: connection refused", "postgres-away", {}),
    (TOKEN + 'failed to write token to database: ERROR: type "v1_readable_status_olap" does not exist (SQLSTATE 42704)', "not-migrated", {}),
    (START + "could not init postgres queue: error upserting queue task_processing_queue_v2: ERROR: type \"v1_readable_status_olap\" does not exist (SQLSTATE 42704)",
     "not-migrated", {"hint": "owlclaw-up"}),
    (START + "primary database instance timezone is set to 'Asia/Shanghai' but must be 'UTC' or 'Etc/UTC'\nThis check ensures time-based operations work",
     "timezone", {"cause": "timezone Asia/Shanghai, not UTC"}),
    ("panic: open /home/user/empty/index.html: no such file or directory\n\ngoroutine 110 [running]:\nhtml/template.Must(...)", "assets", {}),
    (START + "could not load encryption service: could not create raw keyset encryption service: failed to read keyset: keyset.Handle: decryption failed: aead_factory: decryption failed",
     "keys", {"hint": "secrets.json"}),
    ("insecurecleartextkeyset: invalid keyset", "keys", {}),
    ("2026/11/23 01:16:27 engine failure: could not run with config: could not start grpc server: failed to listen: listen tcp 127.0.0.1:37077: bind: address already in use",
     "port-taken", {"cause": "port 37077", "hint": "sport = :37077"}),
    ("panic: listen tcp :38080: bind: address already in use\n\ngoroutine 290 [running]:", "port-taken", {"cause": "port 38080"}),
    ("2026/11/23 01:16:27 engine failure: could not run with config: could not start health: could not listen on :38733: listen tcp :38733: bind: address already in use",
     "port-taken", {"cause": "port 38733"}),
    ("2026/11/23 01:16:27 reverse proxy failure: listen tcp :38888: bind: address already in use", "port-taken", {"cause": "port 38888"}),
    ("2026/11/23 01:16:27 static file server failure: listen tcp :38081: bind: address already in use", "port-taken", {"cause": "port 38081"}),
    ('failed to connect to `user=hatchet database=hatchet`: FATAL: password authentication failed for user "hatchet" (SQLSTATE 28P01)', "postgres-login", {}),
    ("FATAL: sorry, too many clients already (SQLSTATE 53300)", "postgres-full", {"hint": "max_connections"}),
    ("FATAL: remaining connection slots are reserved for roles with the SUPERUSER attribute", "postgres-full", {}),
    ("error: found 2 missing migrations before current version 20260820185000", "migration-order", {}),
    ("fork/exec /opt/hatchet/hatchet-lite: exec format error", "architecture", {}),
    ("could not extend file: No space left on device", "disk-full", {"hint": "df -h"}),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "parts"), BROKEN)
def test_last_words(words: str, code: str, parts: dict[str, str]) -> None:
    known = diagnose(words)
    assert known is not None
    assert known.code == code
    assert parts.get("cause", "") in known.cause
    assert parts.get("hint", "") in known.hint
    assert known.cause
    assert known.hint
    assert "{" not in known.cause + known.hint


HEALTHY = [
    "2026/11/23 01:15:10 goose: no migrations to run. current version: 20260820185000",
    "2026/11/23 01:15:10 OK   20260115180414_init.sql (89.57ms)\n2026/11/23 01:15:10 goose: successfully migrated database",
    "Does existing atlas schema exist? false\nDoes existing prisma schema exist? false",
    "created tenant 707d0855-80ab-4e1f-a156-f1c4546cbf52",
    "2026/11/23 01:16:12 cleaning up server config",
    "v0.99.1",
    "2026/11/26 02:29:22 http: proxy error: dial tcp 127.0.0.1:18884: connect: connection refused",
    "",
]


@pytest.mark.parametrize("words", HEALTHY)
def test_healthy_words_mean_nothing(words: str) -> None:
    assert diagnose(words) is None


UNKNOWN = [
    START + "could not load TLS config: invalid TLS strategy: none",
    TOKEN + "parse --tenant-id: invalid UUID length: 3",
]


@pytest.mark.parametrize("words", UNKNOWN)
def test_what_owlclaw_up_never_causes_is_shown_as_it_is(words: str) -> None:
    assert diagnose(words) is None


@pytest.mark.parametrize(
    "words",
    [
        "error starting API: LITE_STATIC_ASSET_DIR environment variable is required",
        START + "could not create session store: cookie domain is required. use WithCookieDomain.",
        START + "could not create session store: at least one cookie secret must be provided, and must provide an even",
    ],
)
def test_a_variable_that_is_always_set_needs_no_diagnosis(words: str) -> None:
    assert diagnose(words) is None
    assert {"LITE_STATIC_ASSET_DIR", "LITE_FRONTEND_PORT", "SERVER_AUTH_COOKIE_DOMAIN", COOKIE_SECRETS} <= set(env())
