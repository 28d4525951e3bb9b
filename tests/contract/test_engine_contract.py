"""The operational contract of the engine: one body for the stand-in and for a real engine.

What is asserted here is what the product builds on: texts and exit codes of a broken start, what answers when, what a
token carries and when it is refused, and that an unmodified hatchet-sdk can work with it.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest

from tests.contract.engines import PASSWORD, Engine, Lite, get

pytestmark = pytest.mark.timeout(120)

TENANT = "707d0855-80ab-4e1f-a156-f1c4546cbf52"
UNKNOWN = "00000000-0000-0000-0000-000000000001"
KEYSETS = (
    "SERVER_ENCRYPTION_MASTER_KEYSET",
    "SERVER_ENCRYPTION_JWT_PRIVATE_KEYSET",
    "SERVER_ENCRYPTION_JWT_PUBLIC_KEYSET",
)
PARTITIONS = ("ControllerPartition", "TenantWorkerPartition", "SchedulerPartition")
NOT_MIGRATED = 'ERROR: type "v1_readable_status_olap" does not exist (SQLSTATE 42704)'
UNKNOWN_TENANT = (
    'failed to write token to database: ERROR: insert or update on table "APIToken" violates foreign key constraint '
    '"APIToken_tenantId_fkey" (SQLSTATE 23503)'
)
TIMEZONE = "primary database instance timezone is set to 'Asia/Shanghai' but must be 'UTC' or 'Etc/UTC'\n"
DECRYPTION = (
    "could not load encryption service: could not create raw keyset encryption service: failed to read keyset: "
    "keyset.Handle: decryption failed: aead_factory: decryption failed"
)
NOWHERE = "postgres://hatchet:secret@127.0.0.1:1/hatchet?sslmode=disable"
REFUSED = (
    "could not create temporary connection to primary database to check timezone: failed to connect to "
    "`user=hatchet database=hatchet`: 127.0.0.1:1 (127.0.0.1): dial error: dial tcp 127.0.0.1:1: connect: "
    "connection refused"
)
FATAL = "Fatal: could not run [token create] command: "
CONFIG = "error starting API: error loading server config: "


def claims_of(token: str) -> dict[str, Any]:
    """Read the claims of a token without checking it."""
    body = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


def engine_version(lite: Lite, token: str | None) -> str:
    """Ask ``Dispatcher.GetVersion`` with bytes instead of generated classes, which would cost seconds to import.

    Returns:
        The version, or the status and text of the refusal.
    """
    address = f"127.0.0.1:{lite.environment['SERVER_GRPC_PORT']}"
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        ask: Callable[..., bytes] = channel.unary_unary("/Dispatcher/GetVersion", None, None)
        metadata = [("authorization", f"bearer {token}")] if token else []
        try:
            return ask(b"", metadata=metadata, timeout=10)[2:].decode()
        except grpc.RpcError as error:
            return f"{error.code().name} {error.details()}"


def trigger(engine: Engine, token: str) -> str:
    """Trigger one run by a message written by hand (fields 1 and 2: name and input); give its id."""
    message = b"".join(
        bytes([number << 3 | 2, len(text)]) + text for number, text in ((1, b"contract-double"), (2, b'{"value":7}'))
    )
    address = f"127.0.0.1:{engine.environment['SERVER_GRPC_PORT']}"
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        ask: Callable[..., bytes] = channel.unary_unary("/WorkflowService/TriggerWorkflow", None, None)
        return ask(message, metadata=[("authorization", f"bearer {token}")], timeout=10)[2:].decode()


def status_of(engine: Engine, token: str, run: str) -> str:
    """Ask the REST API for the status of a run; a run that is not listed yet is QUEUED."""
    url = f"http://127.0.0.1:{engine.environment['LITE_RUNTIME_PORT']}/api/v1/stable/workflow-runs/{run}/status"
    status, body, _ = get(url, headers={"Authorization": f"Bearer {token}"})
    return str(json.loads(body)) if status == 200 else "QUEUED"


def until(look: Callable[[], object], wanted: object, seconds: float) -> object:
    """Look until it is as wanted or the time is over; give what was seen last."""
    deadline = time.monotonic() + seconds
    while (seen := look()) != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    return seen


def last_line(text: str) -> str:
    """Give the last line without Go's date and time."""
    lines = text.strip().splitlines()
    return re.sub(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ", "", lines[-1]) if lines else ""


# --- the programs ---------------------------------------------------------------------------------------------------


def test_versions_and_help(engine: Engine) -> None:
    version = engine.run("hatchet-lite", "--version")
    assert re.fullmatch(r"v\d+\.\d+\.\d+\n", version.stdout)
    assert engine.run("hatchet-migrate", "--version").stdout == version.stdout
    assert engine.run("hatchet-admin", "--version").stdout == "v0.1.0-alpha.0\n"
    helped = engine.run("hatchet-admin", "--help")
    assert helped.returncode == 0
    assert helped.stdout.startswith("hatchet-admin performs administrative tasks for a Hatchet instance.\n")


@pytest.mark.parametrize("program", ["hatchet-lite", "hatchet-migrate"])
def test_unknown_flag_is_said_on_both_streams(engine: Engine, program: str) -> None:
    told = engine.run(program, "--bogus")
    assert (told.returncode, told.stdout) == (1, "unknown flag: --bogus\n")
    assert told.stderr.startswith(f"Error: unknown flag: --bogus\nUsage:\n  {program} [flags]\n")


def test_keysets_are_printed_in_pairs(engine: Engine) -> None:
    lines = engine.seen["keyset"].stdout.splitlines()
    assert lines[::2] == [
        "Master Key Bytes:",
        "Private EC256 Keyset:",
        "Public EC256 Keyset:",
        "Insecure Public Handle EC256 Keyset:",
    ]
    assert all(line.startswith("eyJ") and "." not in line for line in lines[1::2])


def test_keysets_go_to_private_files(engine: Engine, tmp_path: Path) -> None:
    made = engine.run("hatchet-admin", "keyset", "create-local-keys", "--key-dir", str(tmp_path))
    assert (made.returncode, made.stdout) == (0, "")
    names = {"master.key", "private_ec256.key", "public_ec256.key", "public_handle_unencrypted_ec256.key"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    nowhere = engine.run("hatchet-admin", "keyset", "create-local-keys", "--key-dir", str(tmp_path / "absent"))
    assert nowhere.returncode == 1
    assert nowhere.stderr.endswith("/absent/master.key: no such file or directory\n")


# --- hatchet-migrate ------------------------------------------------------------------------------------------------


def test_migration_of_an_empty_database(engine: Engine) -> None:
    done = engine.seen["migrate"]
    assert done.returncode == 0
    assert done.stdout == "Does existing atlas schema exist? false\nDoes existing prisma schema exist? false\n"
    assert "OK   20260522014401_v1_0_113.sql" in done.stderr
    assert re.fullmatch(r"goose: successfully migrated database to version: \d{14,}", last_line(done.stderr))


def test_second_migration_has_nothing_to_do(engine: Engine) -> None:
    number = last_line(engine.seen["migrate"].stderr).rpartition(" ")[2]
    again = engine.seen["migrate again"]
    assert (again.returncode, again.stdout) == (0, "")
    assert last_line(again.stderr) == f"goose: no migrations to run. current version: {number}"
    database = f"contract-{engine.name}"
    found = engine.postgres.execute("SELECT max(version_id) FROM goose_db_version WHERE is_applied", database)
    assert found == [(int(number),)]


def test_migration_makes_what_others_read_and_clear(engine: Engine) -> None:
    columns: dict[str, set[str]] = {}
    asked = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
    for table, column in engine.postgres.execute(asked, f"contract-{engine.name}"):
        columns.setdefault(table, set()).add(column)
    assert columns["goose_db_version"] == {"id", "version_id", "is_applied", "tstamp"}
    for table in PARTITIONS:
        assert columns[table] == {"id", "createdAt", "updatedAt", "lastHeartbeat", "name"}
    assert columns["Lease"] == {"id", "expiresAt", "tenantId", "resourceId", "kind"}
    assert columns["Tenant"] >= {"id", "slug", "name", "version", "createdAt"}
    assert columns["APIToken"] >= {"id", "tenantId", "name", "expiresAt", "revoked", "createdAt", "internal"}
    assert columns["Worker"] >= {"id", "name", "lastHeartbeatAt", "isActive", "isPaused", "tenantId"}
    assert columns["User"] >= {"id", "email", "name"}
    assert engine.postgres.execute("SELECT to_regnamespace('outbox')::text", f"contract-{engine.name}") == [("outbox",)]


def test_migration_stumbles_over_an_extension_made_beforehand(engine: Engine) -> None:
    url = engine.postgres.create(f"gist-{engine.name}")
    engine.postgres.execute("CREATE EXTENSION btree_gist", f"gist-{engine.name}")
    failed = engine.run("hatchet-migrate", changes={"DATABASE_URL": url})
    assert failed.returncode == 1
    told = failed.stdout.splitlines()[-1]
    begin = (
        "hatchet-migrate[DATABASE_URL oss]: failed during apply migrations on postgres://<redacted>@127.0.0.1:"
        f"{engine.postgres.port}/gist-{engine.name}: ERROR 20260522014401_v1_0_113.sql: failed to run SQL migration: "
        r'failed to execute SQL query "CREATE EXTENSION btree_gist;\nCREATE TYPE uuidrange AS RANGE ('
    )
    assert told.startswith(begin)
    assert told.endswith(': ERROR: extension "btree_gist" already exists (SQLSTATE 42710)')
    assert "OK   20260521213214_v1_0_112.sql" in failed.stderr


def test_migration_needs_rights_on_the_schema(engine: Engine) -> None:
    engine.postgres.create(f"rights-{engine.name}")
    failed = engine.run(
        "hatchet-migrate", changes={"DATABASE_URL": engine.postgres.dsn(f"rights-{engine.name}", "stranger")}
    )
    assert failed.returncode == 1
    assert failed.stdout == (
        "hatchet-migrate[DATABASE_URL oss]: failed during create goose_db_version table on postgres://<redacted>@"
        f"127.0.0.1:{engine.postgres.port}/rights-{engine.name}: "
        "ERROR: permission denied for schema public (SQLSTATE 42501)\n"
    )


def test_migration_without_an_address(engine: Engine) -> None:
    failed = engine.run("hatchet-migrate", without=("DATABASE_URL",))
    assert failed.returncode == 1
    assert failed.stdout == (
        "hatchet-migrate[DATABASE_URL oss]: failed during read env on <empty DSN>: "
        "missing database environment variable\n"
    )


@pytest.mark.parametrize("database", [NOWHERE, "absent"])
def test_migration_hides_why_it_cannot_connect_and_tries_on(engine: Engine, database: str) -> None:
    url = engine.postgres.dsn(database) if database == "absent" else database
    with pytest.raises(subprocess.TimeoutExpired) as silent:
        engine.run("hatchet-migrate", changes={"DATABASE_URL": url}, seconds=1.2)
    assert not silent.value.stdout
    assert not silent.value.stderr


# --- hatchet-admin --------------------------------------------------------------------------------------------------


def test_seed_makes_the_tenant_once(engine: Engine) -> None:
    first, again = engine.seen["seed"], engine.seen["seed again"]
    assert (first.returncode, first.stdout) == (0, f"created tenant {TENANT}\n")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    slugs = engine.postgres.execute('SELECT slug FROM "Tenant" ORDER BY slug', f"contract-{engine.name}")
    assert slugs == [("default",), ("internal",)]


def test_seed_refuses_a_weak_password(engine: Engine) -> None:
    weak = engine.seen["weak seed"]
    assert (weak.returncode, weak.stdout) == (1, "")
    assert last_line(weak.stderr) == (
        "Fatal: could not run seed command: ADMIN_PASSWORD does not meet requirements: must be between 8 and 64 "
        "characters and contain at least one uppercase letter, one lowercase letter, and one number"
    )


def test_seed_panics_without_a_server(engine: Engine) -> None:
    failed = engine.run("hatchet-admin", "seed", changes={"DATABASE_URL": NOWHERE})
    assert failed.returncode == 2
    assert failed.stderr.startswith(f"panic: {REFUSED}\n")


def test_seed_needs_no_keys(engine: Engine) -> None:
    assert engine.run("hatchet-admin", "seed", without=(*KEYSETS, "SERVER_AUTH_COOKIE_SECRETS")).returncode == 0


def test_token_claims(engine: Engine, token: str) -> None:
    header = json.loads(base64.urlsafe_b64decode(token.split(".", maxsplit=1)[0] + "=="))
    assert header["alg"] == "ES256"
    assert set(header) == {"alg", "kid"}
    claims = claims_of(token)
    url = engine.environment["SERVER_URL"]
    assert {claims[key] for key in ("aud", "iss", "server_url")} == {url}
    assert claims["grpc_broadcast_address"] == engine.environment["SERVER_GRPC_BROADCAST_ADDRESS"]
    assert claims["sub"] == TENANT
    assert claims["exp"] - claims["iat"] == pytest.approx(90 * 24 * 3600, abs=2)
    assert UUID(claims["token_id"])
    assert set(claims) == {"aud", "exp", "grpc_broadcast_address", "iat", "iss", "server_url", "sub", "token_id"}
    row = f"""SELECT name, revoked, "tenantId"::text FROM "APIToken" WHERE id = '{claims["token_id"]}'"""
    assert engine.postgres.execute(row, f"contract-{engine.name}") == [("contract", False, TENANT)]


def test_token_is_the_only_thing_on_stdout(engine: Engine) -> None:
    made = engine.run("hatchet-admin", "token", "create", "--expiresIn", "8760h")
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", made.stdout)
    claims = claims_of(made.stdout.strip())
    assert claims["exp"] - claims["iat"] == pytest.approx(8760 * 3600, abs=2)
    assert last_line(made.stderr) == "cleaning up server config"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--tenant-id", UNKNOWN), FATAL + UNKNOWN_TENANT),
        (("--tenant-id", "abc"), FATAL + "parse --tenant-id: invalid UUID length: 3"),
    ],
)
def test_token_for_a_tenant_that_is_not(engine: Engine, arguments: tuple[str, ...], text: str) -> None:
    failed = engine.run("hatchet-admin", "token", "create", *arguments)
    assert (failed.returncode, failed.stdout, last_line(failed.stderr)) == (1, "", text)


def test_token_with_days_in_its_duration(engine: Engine) -> None:
    failed = engine.run("hatchet-admin", "token", "create", "-e", "90d")
    text = 'invalid argument "90d" for "-e, --expiresIn" flag: time: unknown unit "d" in duration "90d"\n'
    assert (failed.returncode, failed.stdout) == (1, text)
    assert failed.stderr.startswith(f"Error: {text}Usage:\n  hatchet-admin token create [flags]\n")


def test_token_before_its_time(engine: Engine) -> None:
    early, unseeded = engine.seen["token before migration"], engine.seen["token before seed"]
    assert (early.returncode, early.stdout) == (1, "")
    assert last_line(early.stderr) == f"{FATAL}failed to write token to database: {NOT_MIGRATED}"
    assert (unseeded.returncode, unseeded.stdout, last_line(unseeded.stderr)) == (1, "", FATAL + UNKNOWN_TENANT)
    seed = engine.seen["seed before migration"]
    assert (seed.returncode, last_line(seed.stderr)) == (1, f"Fatal: could not run seed command: {NOT_MIGRATED}")


def test_token_environment(engine: Engine) -> None:
    def told(without: tuple[str, ...] = (), **changes: str) -> str:
        failed = engine.run("hatchet-admin", "token", "create", without=without, changes=changes)
        assert (failed.returncode, failed.stdout) == (1, "")
        return last_line(failed.stderr).removeprefix(FATAL)

    assert told(KEYSETS) == "could not load encryption service: encryption is required"
    assert told(KEYSETS[2:]) == "could not load encryption service: jwt encryption is required"
    assert told((*KEYSETS, "SERVER_AUTH_COOKIE_DOMAIN")).startswith("could not create session store: cookie domain")
    # The database comes first: whoever reads the text of an incomplete environment may be told about it instead.
    assert told(KEYSETS, DATABASE_URL=NOWHERE) == REFUSED


# --- hatchet-lite: a broken start -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        (("LITE_STATIC_ASSET_DIR", "LITE_FRONTEND_PORT", *KEYSETS), "error starting API: LITE_STATIC_ASSET_DIR "),
        (("LITE_FRONTEND_PORT",), "error starting API: LITE_FRONTEND_PORT environment variable is required"),
        (
            ("SERVER_AUTH_COOKIE_DOMAIN", *KEYSETS),
            CONFIG + "could not create session store: cookie domain is required.",
        ),
        (
            ("SERVER_AUTH_COOKIE_SECRETS",),
            CONFIG + "could not create session store: at least one cookie secret must be provided, and must provide "
            "an even number of secrets",
        ),
        (KEYSETS, CONFIG + "could not load encryption service: encryption is required"),
        (KEYSETS[1:2], CONFIG + "could not load encryption service: jwt encryption is required"),
    ],
)
def test_lite_with_something_missing(engine: Engine, missing: tuple[str, ...], text: str) -> None:
    failed = engine.run("hatchet-lite", without=missing)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert last_line(failed.stderr).startswith(text)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"DATABASE_URL": NOWHERE}, REFUSED),
        ({"SERVER_TLS_STRATEGY": "none"}, "could not load TLS config: invalid TLS strategy: none"),
        (
            {"SERVER_AUTH_COOKIE_SECRETS": "short short"},
            (
                "could not create session store: failed to validate SERVER_AUTH_COOKIE_SECRETS, secrets must be 16/24/32 "
                "bytes: securecookie: error - caused by: crypto/aes: invalid key size 5"
            ),
        ),
        (
            {"SERVER_ENCRYPTION_MASTER_KEYSET": "eyJgarbage"},
            (
                "could not load encryption service: could not create raw keyset encryption service: failed to read keyset: "
                "insecurecleartextkeyset: invalid keyset"
            ),
        ),
        (
            {"SERVER_INTERNAL_CLIENT_INTERNAL_GRPC_BROADCAST_ADDRESS": "localhost"},
            (
                "could not load internal client: could not parse host from broadcast address localhost: "
                "address localhost: missing port in address"
            ),
        ),
    ],
)
def test_lite_with_something_wrong(engine: Engine, changes: dict[str, str], text: str) -> None:
    failed = engine.run("hatchet-lite", changes=changes)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert last_line(failed.stderr) == CONFIG + text


def test_lite_with_another_master_key(engine: Engine) -> None:
    other = engine.run("hatchet-admin", "keyset", "create-local-keys").stdout.splitlines()[1]
    failed = engine.run("hatchet-lite", changes={"SERVER_ENCRYPTION_MASTER_KEYSET": other})
    assert (failed.returncode, last_line(failed.stderr)) == (1, CONFIG + DECRYPTION)


def test_lite_before_the_migration(engine: Engine) -> None:
    failed = engine.seen["lite before migration"]
    assert failed.returncode == 1
    queue = "could not init postgres queue: error upserting queue task_processing_queue_v2: "
    assert last_line(failed.stderr) == CONFIG + queue + NOT_MIGRATED


def test_lite_without_an_index_page(engine: Engine, tmp_path: Path) -> None:
    failed = engine.run("hatchet-lite", changes=engine.with_new_ports() | {"LITE_STATIC_ASSET_DIR": str(tmp_path)})
    assert failed.returncode == 2
    assert failed.stderr.startswith(f"panic: open {tmp_path}/index.html: no such file or directory\n")


def test_timezone_other_than_utc_is_refused_unless_pgtz_says_utc(engine: Engine) -> None:
    database = f"contract-{engine.name}"
    engine.postgres.execute(f"""ALTER DATABASE "{database}" SET timezone = 'Asia/Shanghai'""")
    try:
        refused = engine.run("hatchet-lite")
        assert refused.returncode == 1
        assert f"{CONFIG}{TIMEZONE}" in refused.stderr
        assert "ALTER DATABASE hatchet SET TIMEZONE='UTC'" in refused.stderr
        refused = engine.run("hatchet-admin", "token", "create")
        assert refused.returncode == 1
        assert FATAL + TIMEZONE in refused.stderr
        assert engine.token(PGTZ="UTC")
        assert engine.token(DATABASE_ENFORCE_UTC_TIMEZONE="false")
    finally:
        engine.postgres.execute(f'ALTER DATABASE "{database}" RESET timezone')


@pytest.mark.parametrize(
    ("port", "code", "text"),
    [
        ("LITE_FRONTEND_PORT", 1, "static file server failure: listen tcp :{}: bind: address already in use"),
        ("LITE_RUNTIME_PORT", 1, "reverse proxy failure: listen tcp :{}: bind: address already in use"),
        (
            "SERVER_HEALTHCHECK_PORT",
            1,
            (
                "engine failure: could not run with config: could not start health: could not listen on :{0}: "
                "listen tcp :{0}: bind: address already in use"
            ),
        ),
        (
            "SERVER_GRPC_PORT",
            1,
            (
                "engine failure: could not run with config: could not start grpc server: failed to listen: "
                "listen tcp 127.0.0.1:{}: bind: address already in use"
            ),
        ),
        ("SERVER_PORT", 2, "panic: listen tcp :{}: bind: address already in use"),
    ],
)
def test_lite_with_a_port_taken(engine: Engine, port: str, code: int, text: str) -> None:
    engine.postgres.create(f"port-{port}-{engine.name}")
    url = engine.postgres.dsn(f"port-{port}-{engine.name}")
    # A database of its own: rows of this engine would hold back the one that the later tests start.
    assert engine.run("hatchet-migrate", changes={"DATABASE_URL": url}).returncode == 0
    ports = engine.with_new_ports()
    with socket.create_server(("127.0.0.1" if port == "SERVER_GRPC_PORT" else "0.0.0.0", int(ports[port]))):
        failed = engine.run("hatchet-lite", changes=ports | {"DATABASE_URL": url})
    assert failed.returncode == code
    assert text.format(ports[port]) in failed.stderr


# --- hatchet-lite: running ------------------------------------------------------------------------------------------


def test_health(engine: Engine, lite: Lite) -> None:
    version = engine.run("hatchet-lite", "--version").stdout.strip()
    for path in ("/ready", "/live"):
        assert get(lite.url("SERVER_HEALTHCHECK_PORT", path))[:2] == (200, "")
    assert get(lite.url("SERVER_HEALTHCHECK_PORT", "/version"))[:2] == (200, f'{{"version":"{version}"}}\n')
    assert get(lite.url("SERVER_HEALTHCHECK_PORT", "/nothing"))[0] == 404


@pytest.mark.parametrize("port", ["LITE_RUNTIME_PORT", "SERVER_PORT"])
def test_api_without_a_login(engine: Engine, lite: Lite, port: str) -> None:
    version = engine.run("hatchet-lite", "--version").stdout.strip()
    for path in ("/api/ready", "/api/live"):
        status, body, headers = get(lite.url(port, path))
        assert (status, body, headers.get("Content-Type")) == (200, "", None)
    status, body, headers = get(lite.url(port, "/api/v1/meta"))
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body)["auth"] == {"schemes": ["basic"]}
    assert json.loads(body)["allowSignup"] is False
    assert json.loads(get(lite.url(port, "/api/v1/version"))[1]) == {"version": version}
    assert get(lite.url(port, "/api/v1/nothing"))[:2] == (403, "null\n")


@pytest.mark.parametrize(
    ("port", "path"),
    [
        ("LITE_FRONTEND_PORT", "/"),
        ("LITE_FRONTEND_PORT", "/api/ready"),
        ("LITE_RUNTIME_PORT", "/"),
        ("LITE_RUNTIME_PORT", "/nothing/here"),
    ],
)
def test_pages_answer_the_index_to_everything(lite: Lite, port: str, path: str) -> None:
    status, body, headers = get(lite.url(port, path))
    assert (status, body, headers["Content-Type"]) == (200, "<html>contract</html>\n", "text/html; charset=utf-8")


def test_tokens_over_grpc(engine: Engine, lite: Lite, token: str) -> None:
    refused = "UNAUTHENTICATED invalid auth token"
    assert engine_version(lite, token) == engine.run("hatchet-lite", "--version").stdout.strip()
    head, body, signature = token.split(".")
    assert engine_version(lite, f"{head}.{body}.{signature[:-6]}AAAAAA") == refused
    assert engine_version(lite, "eyJ.eyJ.abc") == refused
    assert engine_version(lite, None).startswith("UNAUTHENTICATED ")
    assert engine_version(lite, engine.token("-e", "-1h")) == refused
    assert engine_version(lite, engine.token(SERVER_URL="http://localhost:1")) == refused
    # The gRPC address in a token is only where clients dial; nobody checks it.
    assert not engine_version(lite, engine.token(SERVER_GRPC_BROADCAST_ADDRESS="elsewhere:1")).startswith("UNAUTH")
    other = engine.run("hatchet-admin", "keyset", "create-local-keys").stdout.splitlines()
    keys = dict(zip(KEYSETS, other[1:6:2], strict=True))
    assert engine_version(lite, engine.token(**keys)) == refused


def test_revoked_and_forgotten_tokens(engine: Engine, lite: Lite) -> None:
    token = engine.token("--name", "short-lived")
    number = claims_of(token)["token_id"]
    engine.postgres.execute(
        f"""UPDATE "APIToken" SET revoked = true WHERE id = '{number}'""", f"contract-{engine.name}"
    )
    refused = "UNAUTHENTICATED invalid auth token"
    assert until(lambda: engine_version(lite, token), refused, 15) == refused
    address = lite.url("LITE_RUNTIME_PORT", f"/api/v1/tenants/{TENANT}")
    assert until(lambda: get(address, headers={"Authorization": f"Bearer {token}"})[0], 403, 15) == 403
    forgotten = engine.token()
    number = claims_of(forgotten)["token_id"]
    engine.postgres.execute(f"""DELETE FROM "APIToken" WHERE id = '{number}'""", f"contract-{engine.name}")
    assert engine_version(lite, forgotten) == refused


def test_a_token_that_was_seen_is_remembered_for_some_seconds(engine: Engine, lite: Lite) -> None:
    token = engine.token("--name", "remembered")
    address = lite.url("LITE_RUNTIME_PORT", f"/api/v1/tenants/{TENANT}")

    def seen() -> tuple[bool, int]:
        return engine_version(lite, token).startswith("v"), get(address, headers={"Authorization": f"Bearer {token}"})[
            0
        ]

    assert seen() == (True, 200)
    begun = time.monotonic()
    engine.postgres.execute(
        f"""UPDATE "APIToken" SET revoked = true WHERE id = '{claims_of(token)["token_id"]}'""",
        f"contract-{engine.name}",
    )
    assert seen() == (True, 200)
    assert until(seen, (False, 403), 15) == (False, 403)
    assert 3 < time.monotonic() - begun < 15


def test_every_answer_tells_the_engine_s_time(lite: Lite) -> None:
    for path in ("/api/ready", f"/api/v1/tenants/{TENANT}"):
        told = parsedate_to_datetime(get(lite.url("LITE_RUNTIME_PORT", path))[2]["Date"]).timestamp()
        assert abs(told - time.time()) < 2


def test_rest_with_a_token(engine: Engine, lite: Lite, token: str) -> None:
    def ask(path: str, given: str | None = token, method: str = "GET", body: object = None) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"}
        if given:
            headers["Authorization"] = f"Bearer {given}"
        sent = json.dumps(body).encode() if body is not None else None
        status, answer, _ = get(lite.url("LITE_RUNTIME_PORT", path), method=method, body=sent, headers=headers)
        return status, json.loads(answer) if answer.strip() else None

    nobody = (403, {"message": "Please provide valid credentials"})
    status, tenant = ask(f"/api/v1/tenants/{TENANT}")
    assert status == 200
    assert (tenant["slug"], tenant["name"], tenant["metadata"]["id"]) == ("default", "Default", TENANT)
    assert tenant["serverUrl"] == engine.environment["SERVER_URL"]
    assert ask(f"/api/v1/tenants/{TENANT}", None) == nobody
    assert ask(f"/api/v1/tenants/{TENANT}", token[:-6] + "AAAAAA") == nobody
    assert ask(f"/api/v1/tenants/{UNKNOWN}") == (404, {"message": "not found"})
    assert ask("/api/v1/tenants/abc") == (400, {"message": "invalid tenant id"})
    forbidden = (401, {"message": "Not authorized to perform this operation"})
    assert ask(f"/api/v1/tenants/{TENANT}/api-tokens", method="POST", body={"name": "no"}) == forbidden
    assert ask(f"/api/v1/tenants/{TENANT}/api-tokens") == forbidden
    assert ask("/api/v1/users/memberships") == nobody
    status, workers = ask(f"/api/v1/tenants/{TENANT}/worker")
    assert (status, workers["rows"]) == (200, [])
    runs = f"/api/v1/stable/tenants/{TENANT}/workflow-runs"
    status, listed = ask(f"{runs}?since=2026-01-01T00:00:00Z&only_tasks=false&limit=5")
    assert status == 200
    assert listed == {"pagination": {"current_page": 1, "next_page": 2, "num_pages": 0}, "rows": []}
    missing = "Invalid format for parameter only_tasks: query parameter 'only_tasks' is required"
    assert ask(f"{runs}?since=2026-01-01T00:00:00Z") == (400, {"message": missing})
    assert ask(f"/api/v1/stable/workflow-runs/{UNKNOWN}") == (404, {"message": "not found"})


def test_rest_with_a_login(lite: Lite) -> None:
    def ask(path: str, cookie: str = "", method: str = "GET", body: object = None) -> tuple[int, Any, str]:
        headers = {"Content-Type": "application/json", "Cookie": cookie}
        sent = json.dumps(body).encode() if body is not None else None
        url = lite.url("LITE_RUNTIME_PORT", path)
        status, answer, found = get(url, method=method, body=sent, headers=headers)
        return status, json.loads(answer) if answer.strip() else None, found.get("Set-Cookie", "")

    wrong = {"email": "admin@example.com", "password": "Wrong1234x"}
    refused = {"errors": [{"description": "invalid credentials"}]}
    assert ask("/api/v1/users/login", method="POST", body=wrong)[:2] == (400, refused)
    status, user, set_cookie = ask("/api/v1/users/login", method="POST", body={**wrong, "password": PASSWORD})
    assert (status, user["email"]) == (200, "admin@example.com")
    cookie, *attributes = set_cookie.split("; ")
    assert cookie.startswith("hatchet=")
    assert {"Path=/", "Domain=localhost", "HttpOnly", "SameSite=Lax"} <= set(attributes)
    assert "Secure" not in attributes
    status, members, _ = ask("/api/v1/users/memberships", cookie)
    assert status == 200
    assert [(row["role"], row["tenant"]["metadata"]["id"]) for row in members["rows"]] == [("OWNER", TENANT)]
    tokens = f"/api/v1/tenants/{TENANT}/api-tokens"
    status, made, _ = ask(tokens, cookie, "POST", {"name": "by-rest", "expiresIn": "8760h"})
    assert status == 200
    number = claims_of(made["token"])["token_id"]
    assert engine_version(lite, made["token"]).startswith("v")
    named = {row["metadata"]["id"]: row["name"] for row in ask(tokens, cookie)[1]["rows"]}
    assert named[number] == "by-rest"
    assert ask(f"/api/v1/api-tokens/{number}", cookie, "POST")[0] == 204
    assert number not in {row["metadata"]["id"] for row in ask(tokens, cookie)[1]["rows"]}
    status, told, _ = ask(tokens, cookie, "POST", {"name": "by-rest", "expiresIn": "90d"})
    assert status == 400
    assert "Invalid duration" in told["errors"][0]["description"]


def test_what_the_engine_leaves_in_the_database(engine: Engine, lite: Lite) -> None:
    assert lite.process.poll() is None
    database = f"contract-{engine.name}"
    for table in PARTITIONS:
        young = f"""SELECT count(*) FROM "{table}" WHERE "lastHeartbeat" > now() - interval '1 minute 5 seconds'"""
        assert engine.postgres.execute(young, database) == [(1,)]
    sessions = f"SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = '{database}'"
    names = {name for (name,) in engine.postgres.execute(sessions)} - {""}
    assert "server" in names
    assert all(name == "server" or name.startswith("server:") for name in names)


# --- the SDK --------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(180)
def test_an_unmodified_sdk_runs_tasks_and_sees_them(engine: Engine, lite: Lite, token: str) -> None:
    with engine.worker(token) as worker:
        seen: dict[str, Any] = json.loads(engine.call(token, "call", f"{engine.name}-mark"))
        worker.terminate()
        assert worker.wait(15) == 0
    assert seen["version"] == engine.run("hatchet-lite", "--version").stdout.strip()
    assert seen["task"] == {"doubled": 8}
    assert seen["task_waited"] == {"doubled": 10}
    assert seen["nap"] == {"slept": 1}
    assert 0.9 < seen["nap_seconds"] < 10
    assert "refused 3" in seen["failure"]
    assert UUID(seen["scheduled"])
    assert (seen["wait_before"], seen["wait_after"]) == ("RUNNING", "CANCELLED")
    assert seen["listed"] == [
        "contract-double COMPLETED",
        "contract-double COMPLETED",
        "contract-fail FAILED",
        "contract-nap COMPLETED",
        "contract-wait CANCELLED",
    ]
    status, output, given = seen["got"]
    assert (status, output, given["input"]) == ("COMPLETED", {"doubled": 8}, {"value": 4})
    assert seen["status"] == "COMPLETED"
    assert seen["result"] == {"doubled": 8}
    assert seen["doubles"] == 3, "the scheduled run"
    assert seen["workers"] == ["contract"]
    assert lite.process.poll() is None


# --- the end; from here on the running engine is stopped or cut off --------------------------------------------------


def test_without_its_database_the_engine_blames_the_token(engine: Engine, lite: Lite) -> None:
    database = f"contract-{engine.name}"
    fresh = engine.token()
    engine.postgres.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
    try:
        engine.postgres.execute(
            f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{database}'"
        )
        refused = "UNAUTHENTICATED invalid auth token"
        assert until(lambda: engine_version(lite, fresh), refused, 10) == refused
        assert until(lambda: get(lite.url("SERVER_HEALTHCHECK_PORT", "/ready"))[0], 503, 10) == 503
        assert lite.process.poll() is None
    finally:
        engine.postgres.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')
    assert until(lambda: get(lite.url("SERVER_HEALTHCHECK_PORT", "/ready"))[0], 200, 15) == 200
    assert until(lambda: engine_version(lite, fresh)[:1], "v", 15) == "v"


def test_sigterm_ends_it_at_once(engine: Engine, lite: Lite) -> None:
    code, seconds = lite.stop()
    assert code == 0
    assert seconds < 8
    assert last_line(lite.said()) == "cleaning up server config"
    # It does not take its rows along, which is what holds back the next engine for a minute.
    for table in PARTITIONS:
        assert engine.postgres.execute(f'SELECT count(*) FROM "{table}"', f"contract-{engine.name}") != [(0,)]


@pytest.mark.timeout(180)
def test_a_restart_waits_for_the_ghost_unless_its_rows_are_deleted(engine: Engine, lite: Lite, token: str) -> None:
    database = f"contract-{engine.name}"
    assert lite.process.poll() is not None, "the test before stopped it"
    with engine.lite(), engine.worker(token):
        held = trigger(engine, token)
        time.sleep(2.5)
        assert status_of(engine, token, held) == "QUEUED", "it ran although the rows of the dead engine are there"
    for table in (*PARTITIONS, "Lease"):
        engine.postgres.execute(f'DELETE FROM "{table}"', database)
    with engine.lite(), engine.worker(token):
        run = trigger(engine, token)
        assert until(lambda: status_of(engine, token, run), "COMPLETED", 30) == "COMPLETED"
        assert until(lambda: status_of(engine, token, held), "COMPLETED", 30) == "COMPLETED"
