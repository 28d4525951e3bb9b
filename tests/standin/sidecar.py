"""The stand-in for hatchet-embedded's sidecar: its flags, its handshake, its end, around an engine of three binaries.

It runs the binaries of ``STANDIN_ENGINE``, which may be the stand-in's own or a real engine's: migration, keysets that it
keeps in the database, seed, a token, then ``hatchet-lite`` with the REST API on the port of ``-api-port``. As the real one:
no dashboard and no health port of its own, other cookie secrets at each start, ``127.0.0.1`` as the gRPC address, a token of
90 days at each start, and an end once standard input closes or SIGTERM comes (hatchet-embedded, cmd/sidecar/main.go).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from .misbehave import fault, fault_text, fault_value

KEYSETS = {
    "SERVER_ENCRYPTION_MASTER_KEYSET": "master.key",
    "SERVER_ENCRYPTION_JWT_PRIVATE_KEYSET": "private_ec256.key",
    "SERVER_ENCRYPTION_JWT_PUBLIC_KEYSET": "public_ec256.key",
}
_PR_SET_PDEATHSIG = 1
_READY_SECONDS = 30.0


class SidecarError(Exception):
    """What the real one prints behind ``sidecar:`` before it ends with exit code 1."""


def _flags(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sidecar", allow_abbrev=False)
    for name in ("handshake-file", "database-url", "rabbitmq-url", "postgres-data-dir", "log-level"):
        parser.add_argument(f"-{name}", default="")
    for name in ("grpc-port", "api-port"):
        parser.add_argument(f"-{name}", type=int, default=0)
    for name in ("no-api", "no-migrations"):
        parser.add_argument(f"-{name}", action="store_true")
    return parser.parse_args(arguments)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Sidecar:
    """One engine around the binaries of a folder."""

    def __init__(self, flags: argparse.Namespace, scratch: Path) -> None:
        self._engine = Path(os.environ["STANDIN_ENGINE"])
        self._scratch = scratch
        self.api = flags.api_port or _free_port()
        self.grpc = flags.grpc_port or _free_port()
        (scratch / "index.html").write_text("")
        self._env = {
            **os.environ,
            "DATABASE_URL": flags.database_url,
            "SERVER_URL": f"http://localhost:{self.api}",
            "LITE_RUNTIME_PORT": str(self.api),
            "LITE_FRONTEND_PORT": str(_free_port()),
            "LITE_STATIC_ASSET_DIR": str(scratch),
            "SERVER_PORT": str(_free_port()),
            "SERVER_HEALTHCHECK": "false",
            "SERVER_GRPC_PORT": str(self.grpc),
            "SERVER_GRPC_BIND_ADDRESS": "127.0.0.1",
            "SERVER_GRPC_BROADCAST_ADDRESS": f"127.0.0.1:{self.grpc}",
            "SERVER_GRPC_INSECURE": "t",
            "SERVER_AUTH_COOKIE_DOMAIN": "localhost",
            "SERVER_AUTH_COOKIE_INSECURE": "t",
            "SERVER_AUTH_COOKIE_SECRETS": f"{secrets.token_hex(16)} {secrets.token_hex(16)}",
            "SERVER_MSGQUEUE_KIND": "postgres",
        }

    def _run(self, program: str, *words: str) -> str:
        ran = subprocess.run(
            [str(self._engine / program), *words], env=self._env, cwd=self._scratch, text=True, capture_output=True,
            check=False, timeout=120,
        )  # fmt: skip
        sys.stderr.write(ran.stderr)
        if ran.returncode:
            raise SidecarError(f"{program} {' '.join(words)}: exit code {ran.returncode}: {ran.stdout[-500:]}")
        return ran.stdout

    def prepare(self, *, migrate: bool) -> str:
        """Migrate, take or make the keysets, seed, mint; gives the token."""
        if migrate:
            self._run("hatchet-migrate")
        self._env |= self._keysets()
        self._run("hatchet-admin", "seed")
        return self._run("hatchet-admin", "token", "create", "--name", "embedded").strip()

    def _keysets(self) -> dict[str, str]:
        import psycopg

        with psycopg.connect(self._env["DATABASE_URL"], autocommit=True) as connection:
            connection.execute("CREATE SCHEMA IF NOT EXISTS hatchet_embedded")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS hatchet_embedded.keysets (name text PRIMARY KEY, keyset text)"
            )
            rows = connection.execute("SELECT name, keyset FROM hatchet_embedded.keysets").fetchall()
            kept = {str(name): str(keyset) for name, keyset in rows}
            if kept:
                return kept
            self._run("hatchet-admin", "keyset", "create-local-keys", "--key-dir", str(self._scratch))
            made = {name: (self._scratch / file).read_text().strip() for name, file in KEYSETS.items()}
            for pair in made.items():
                connection.execute("INSERT INTO hatchet_embedded.keysets VALUES (%s, %s)", pair)
        return made

    def start(self) -> subprocess.Popen[bytes]:
        """Start the engine, until it answers; it ends with this process, however that ends."""
        libc = ctypes.CDLL(None)
        engine = subprocess.Popen(
            [str(self._engine / "hatchet-lite")], env=self._env, cwd=self._scratch, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
        )  # fmt: skip
        end = time.monotonic() + _READY_SECONDS
        while not (self._answers() and self._listens()):
            if engine.poll() is not None or time.monotonic() > end:
                engine.kill()
                raise SidecarError(f"embed: 127.0.0.1:{self.api} did not start listening within 30s")
            time.sleep(0.05)
        return engine

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.api, timeout=1)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/api/ready")
            return connection.getresponse().status == 200
        return False

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.grpc), timeout=1):
            return True
        return False


def _wait_for_the_end() -> threading.Event:
    """Set once standard input is closed, or SIGTERM has come."""
    ended = threading.Event()
    deaf = fault("sidecar.deaf")

    def read() -> None:
        while os.read(0, 4096):
            pass
        if not deaf:
            ended.set()

    signal.signal(signal.SIGTERM, lambda *_: None if deaf else ended.set())
    threading.Thread(target=read, daemon=True).start()
    return ended


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    with os.fdopen(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.rename(path)


def _serve(flags: argparse.Namespace) -> int:
    ended = _wait_for_the_end()
    if fault("sidecar.exit-at-start"):
        raise SidecarError(fault_text("told to fail at the start"))
    if fault("sidecar.never-ready"):
        ended.wait()
        return 0
    with tempfile.TemporaryDirectory(prefix="standin-sidecar-") as scratch:
        sidecar = Sidecar(flags, Path(scratch))
        token = sidecar.prepare(migrate=not flags.no_migrations)
        engine = sidecar.start()
        try:
            api = "" if flags.no_api or fault("sidecar.no-api") else f"http://localhost:{sidecar.api}"
            said = {
                "token": token, "tenant_id": os.environ["DEFAULT_TENANT_ID"],
                "grpc_address": f"127.0.0.1:{sidecar.grpc}", "api_url": api,
            }  # fmt: skip
            handshake = Path(flags.handshake_file)
            _write(handshake, "no handshake" if fault("sidecar.garbage-handshake") else json.dumps(said))
            begun = time.monotonic()
            while not ended.wait(0.1) and engine.poll() is None:
                after = fault_value("sidecar.die-after")
                if after is not None and time.monotonic() - begun > float(after):
                    sys.stderr.write("panic: runtime error: invalid memory address or nil pointer dereference\n")
                    sys.stderr.flush()
                    os._exit(2)
        finally:
            engine.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                engine.wait(5)
            engine.kill()
            engine.wait()
    return 0


def main(arguments: list[str]) -> int:
    """Run the program; give its exit code."""
    flags = _flags(arguments)
    try:
        if not flags.handshake_file:
            raise SidecarError("-handshake-file is required")
        return _serve(flags)
    except SidecarError as error:
        print(f"sidecar: {error}", file=sys.stderr)
        return 1
