"""Engines for the client's tests: those of the contract tests, each with a worker of the application beside it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from owlclaw_up.client import HatchetClient, HatchetConfig
from tests.client.application import declare
from tests.contract.conftest import engine, lite, postgres, token
from tests.contract.engines import START_SECONDS, Engine, Lite

__all__ = ["engine", "lite", "postgres", "token"]

T = TypeVar("T")
APPLICATION = Path(__file__).with_name("application.py")
ROOT = Path(__file__).parents[2]


@dataclass
class Place:
    """An engine as an application sees it.

    Attributes:
        made: clients that are closed after the test.
        extra: environment of its programs, beside what they need to find it.
    """

    engine: Engine
    lite: Lite
    token: str
    made: list[HatchetClient] = field(default_factory=list)
    extra: dict[str, str] = field(default_factory=dict)

    def config(self, **changes: Any) -> HatchetConfig:
        ports = self.lite.environment
        given = {
            "token": self.token,
            "host_port": f"localhost:{ports['SERVER_GRPC_PORT']}",
            "server_url": f"http://localhost:{ports['LITE_RUNTIME_PORT']}",
            "tls_strategy": "none",
        }
        return HatchetConfig(**{**given, **changes})

    def client(self, **changes: Any) -> HatchetClient:
        """A client with the application's tasks; closed after the test, whatever it did."""
        self.made.append(HatchetClient(self.config(**changes)))
        declare(self.made[-1])
        return self.made[-1]

    @property
    def environment(self) -> dict[str, str]:
        config = self.config()
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.engine.home),
            "PYTHONPATH": str(ROOT),
            "HATCHET_CLIENT_TOKEN": self.token,
            "HATCHET_CLIENT_HOST_PORT": config.host_port,
            "HATCHET_CLIENT_SERVER_URL": config.server_url,
            "HATCHET_CLIENT_TLS_STRATEGY": "none",
            # Nobody listens there: what asks a proxy for loopback fails.
            "http_proxy": "http://127.0.0.1:9",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            **self.extra,
        }

    @contextmanager
    def worker(self, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        """The application's worker, once it waits for tasks; its whole group is ended after the block."""
        said = self.engine.home / f"worker-{time.monotonic_ns()}.log"
        with said.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, APPLICATION, "worker", *arguments], env=self.environment, cwd=self.engine.home,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + START_SECONDS
            while b"waiting for tasks" not in said.read_bytes():
                assert process.poll() is None, said.read_text(errors="replace")
                assert time.monotonic() < deadline, said.read_text(errors="replace")
                time.sleep(0.05)
            yield process, said
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


@pytest.fixture
def place(engine: Engine, lite: Lite, token: str) -> Iterator[Place]:
    made = Place(engine, lite, token)
    yield made
    for client in made.made:
        client.sync.close()


@pytest.fixture(scope="session")
def worker(engine: Engine, lite: Lite, token: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A worker for every test after the first that asks for it; and what it says."""
    with Place(engine, lite, token).worker() as started:
        yield started


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, T]], T]:
    """Run in an event loop of its own, which is gone afterwards."""
    return lambda work: asyncio.run(asyncio.wait_for(work, 90))
