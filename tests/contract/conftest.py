"""A scratch PostgreSQL of its own and one engine after the other, for the contract tests.

The stand-in is always tested. A real engine is tested too where ``OWLCLAW_UP_ENGINE_DIR`` or the engine cache has one; without one the tests for it are not collected at all.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

# Test runners that do not put the root of the checkout on the path find the stand-in too.
if str(Path(__file__).parents[2]) not in sys.path:
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.conftest import REAL_ENGINE_DIR
from tests.contract.engines import (
    PASSWORD,
    PORTS,
    START_SECONDS,
    Engine,
    Lite,
    Postgres,
    engine_names,
    postgres_binaries,
)
from tests.ports import free_port, free_ports
from tests.standin import install


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server in a directory of its own, as another user when the tests run as root, since it refuses root."""
    user = None
    if os.geteuid() == 0:
        known = {line.split(":")[0] for line in Path("/etc/passwd").read_text().splitlines()}
        user = "postgres" if "postgres" in known else "nobody"
    binaries = postgres_binaries(user)
    base = Path(tempfile.mkdtemp(prefix="contract-pg-", dir="/var/tmp" if user else None))
    if user:
        shutil.chown(base, user)
    port = free_port()
    initdb: list[str | Path] = [
        binaries / "initdb",
        "-D",
        base / "data",
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--no-sync",
    ]
    subprocess.run([*initdb, "--locale=C"], user=user, cwd=base, check=True, capture_output=True)
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(base),
        "timezone": "UTC",
        "max_connections": "200",
        "fsync": "off",
    }
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    with (base / "log").open("wb") as log:
        server = subprocess.Popen(
            [binaries / "postgres", "-D", base / "data", "-p", str(port), *options],
            user=user,
            cwd=base,
            stdout=log,
            stderr=log,
        )
    made = Postgres(port)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                made.execute("SELECT 1")
                break
            except psycopg.OperationalError:
                assert server.poll() is None, (base / "log").read_text()
                assert time.monotonic() < deadline, "PostgreSQL did not start"
                time.sleep(0.05)
        made.execute("CREATE ROLE hatchet LOGIN PASSWORD 'secret'")
        made.execute("CREATE ROLE stranger LOGIN PASSWORD 'secret'")
        yield made
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(10)
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session", params=engine_names())
def engine(request: pytest.FixtureRequest, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """An engine whose database is migrated and seeded, with keys, an environment and ports; nothing runs yet."""
    name: str = request.param
    home = tmp_path_factory.mktemp(name)
    directory = install(home / "engine") if name == "standin" else Path(REAL_ENGINE_DIR)
    assets = home / "assets"
    assets.mkdir()
    (assets / "index.html").write_text("<html>contract</html>\n")
    ports = {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    grpc = ports["SERVER_GRPC_PORT"]
    environment = ports | {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(home),
        "DATABASE_URL": postgres.create(f"contract-{name}"),
        "DATABASE_MAX_CONNS": "20",
        "LITE_STATIC_ASSET_DIR": str(assets),
        "SERVER_URL": f"http://localhost:{ports['LITE_RUNTIME_PORT']}",
        "SERVER_GRPC_BIND_ADDRESS": "127.0.0.1",
        "SERVER_GRPC_BROADCAST_ADDRESS": f"localhost:{grpc}",
        "SERVER_INTERNAL_CLIENT_INTERNAL_GRPC_BROADCAST_ADDRESS": f"127.0.0.1:{grpc}",
        "SERVER_GRPC_INSECURE": "t",
        "SERVER_AUTH_COOKIE_DOMAIN": "localhost",
        "SERVER_AUTH_COOKIE_INSECURE": "t",
        "SERVER_AUTH_COOKIE_SECRETS": f"{'a' * 32} {'b' * 32}",
        "SERVER_AUTH_SET_EMAIL_VERIFIED": "t",
        "SERVER_MSGQUEUE_KIND": "postgres",
        "SERVER_ALLOW_SIGNUP": "false",
        "SERVER_SECURITY_CHECK_ENABLED": "false",
        "ADMIN_EMAIL": "admin@example.com",
        "ADMIN_PASSWORD": PASSWORD,
    }
    made = Engine(name, directory, home, postgres, environment)
    made.seen["keyset"] = made.run("hatchet-admin", "keyset", "create-local-keys")
    lines = made.seen["keyset"].stdout.splitlines()
    environment["SERVER_ENCRYPTION_MASTER_KEYSET"] = lines[1]
    environment["SERVER_ENCRYPTION_JWT_PRIVATE_KEYSET"] = lines[3]
    environment["SERVER_ENCRYPTION_JWT_PUBLIC_KEYSET"] = lines[5]
    made.seen["token before migration"] = made.run("hatchet-admin", "token", "create")
    made.seen["lite before migration"] = made.run("hatchet-lite")
    made.seen["seed before migration"] = made.run("hatchet-admin", "seed")
    made.seen["migrate"] = made.run("hatchet-migrate")
    made.seen["migrate again"] = made.run("hatchet-migrate")
    made.seen["token before seed"] = made.run("hatchet-admin", "token", "create")
    made.seen["weak seed"] = made.run("hatchet-admin", "seed", changes={"ADMIN_PASSWORD": "weak"})
    made.seen["seed"] = made.run("hatchet-admin", "seed")
    made.seen["seed again"] = made.run("hatchet-admin", "seed")
    return made


@pytest.fixture(scope="session")
def lite(engine: Engine) -> Iterator[Lite]:
    """The engine, running on its own ports; tests that stop it leave it stopped, so they come last."""
    with engine.lite() as started:
        yield started


@pytest.fixture(scope="session")
def token(engine: Engine) -> str:
    """A token of the default tenant."""
    return engine.token("--name", "contract")
