"""What the measurements share: a clock, throwaway projects, a PostgreSQL of "the user's own", one look at an engine."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from owlclaw_up.host.embedded import EmbeddedServers, find_binaries, remove_base
from owlclaw_up.host.local import LocalProcesses
from owlclaw_up.model import Secret

COMMAND = [str(Path(sys.executable).with_name("owlclaw-up"))]


def timed(work: Callable[[], Any]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Project:
    """A throwaway project in which the command is timed.

    Args:
        env: what its environment has beside ports of its own.
    """

    def __init__(self, **env: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="owlclaw-up-bench-"))
        self.root = self.home / "app"
        self.root.mkdir()
        keep = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "PYTHONDONTWRITEBYTECODE")}
        ports = {f"OWLCLAW_UP_{n}_PORT": str(free_port()) for n in ("DASHBOARD", "GRPC", "POSTGRES")}
        self.env = {**keep, **ports, "HOME": str(self.home), "CI": "true", **env}

    def __call__(self, *args: str, code: int = 0) -> dict[str, Any]:
        ran = subprocess.run(
            [*COMMAND, *args, "--json"], cwd=self.root, env=self.env, capture_output=True, text=True, check=False
        )
        if ran.returncode != code:
            raise SystemExit(f"{args} ended {ran.returncode}: {ran.stdout[-2000:]}{ran.stderr[-2000:]}")
        document: dict[str, Any] = json.loads(ran.stdout)
        return document

    def close(self) -> None:
        subprocess.run(
            [*COMMAND, "down", "--purge", "--yes"], cwd=self.root, env=self.env, capture_output=True, check=False
        )
        shutil.rmtree(self.home, ignore_errors=True)


def answers(where: int, path: str) -> bool:
    """Whether an engine answers on a port with no page of its frontend."""
    connection = http.client.HTTPConnection("127.0.0.1", where, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status == 200 and "html" not in (answer.headers.get("Content-Type") or "")
    except OSError:
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def local_postgres(*, hatchet: bool = False) -> Iterator[str]:
    """A server on loopback that stands for the user's own.

    Args:
        hatchet: make Hatchet's role and database, and give their URL instead of the admin's.
    """
    processes = LocalProcesses()
    servers = EmbeddedServers(processes)
    binaries = find_binaries(processes, os.environ.get("PATH", ""))[0]
    work = Path(tempfile.mkdtemp(prefix="owlclaw-up-bench-pg-"))
    place = servers.choose_place(work, [f"bench-{os.getpid()}"], binaries, lambda base: True)
    port = free_port()
    admin = f"postgresql://postgres:secret@127.0.0.1:{port}/postgres"
    servers.initdb(place, binaries, Secret("secret"), work / "log")
    process = servers.start(place, binaries, port, work / "log")
    try:
        connection = connected(admin)
        if hatchet:
            connection.execute("create role hatchet login password 'secret'")
            connection.execute("create database hatchet owner hatchet template template0")
        connection.close()
        yield admin.replace("postgres:secret", "hatchet:secret").replace("/postgres", "/hatchet") if hatchet else admin
    finally:
        processes.stop(process, signal=signal.SIGINT, timeout=10)
        remove_base(place.base)
        shutil.rmtree(work, ignore_errors=True)


def connected(url: str) -> psycopg.Connection[Any]:
    """A connection, as soon as there can be one."""
    while True:
        try:
            return psycopg.connect(url, connect_timeout=2, autocommit=True)
        except psycopg.OperationalError:
            time.sleep(0.02)
