"""What the rest of owlclaw-up may ask of the machine, and the one waiter. Protocols and values, no effects of its own."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from owlclaw_up.errors import TimedOut
from owlclaw_up.model import Secret

T = TypeVar("T")

FIRST_POLL = 0.02
LONGEST_POLL = 0.5
# A tenth: what is waited for is seen at most about a tenth of its own time late.
_POLL_GROWTH = 1.1


@dataclass(frozen=True)
class ProcessId:
    """A process, safe against reuse of its pid.

    Attributes:
        pid: the number.
        started: start time in seconds since the epoch, as the system gives it; 0.0 where it is not known.
    """

    pid: int
    started: float


@dataclass(frozen=True)
class PortOwner:
    pid: int | None
    name: str
    command: str

    def __str__(self) -> str:
        if self.pid is None:
            return "another process"
        return f"{self.name} (pid {self.pid})"


@dataclass(frozen=True)
class PortLook:
    """One look at a port.

    Attributes:
        state: `free`, `busy` or `denied`.
    """

    port: int
    state: str
    owner: PortOwner | None = None
    why: str = ""


@dataclass(frozen=True)
class Ran:
    """A finished child process; output is text, undecodable bytes replaced."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str
    seconds: float


@dataclass(frozen=True)
class ServerLogin:
    """How to reach a PostgreSQL server as one of its roles.

    Attributes:
        host: a name, an address, or the folder of a unix socket.
        options: further libpq keywords (`sslmode`, `service`, ...).
    """

    host: str = ""
    port: int | None = None
    user: str = ""
    password: Secret | None = None
    database: str = "postgres"
    options: tuple[tuple[str, str], ...] = ()

    @property
    def where(self) -> str:
        """The server, for messages: no user, no password."""
        host = self.host or "the default server"
        return f"{host}:{self.port}" if self.port else host


def sql_name(name: str) -> str:
    """A name as it stands in a statement that somebody types."""
    return name if re.fullmatch("[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def on_this_machine(host: str) -> bool:
    """Whether a host of a URL means this machine, so that it means another one inside a container."""
    if not host or host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Files(Protocol):
    """The file system. Text is UTF-8; `private` files are 0600 from their first byte."""

    def read(self, path: Path) -> bytes | None: ...
    def write_private(self, path: Path, data: bytes) -> None: ...
    def make_dir(self, path: Path, mode: int = 0o700) -> None: ...
    def append(self, path: Path, text: str) -> None: ...
    def remove(self, path: Path) -> None: ...
    def remove_tree(self, path: Path) -> None: ...
    def exists(self, path: Path) -> bool: ...
    def tail(self, path: Path, lines: int) -> list[str]: ...


class Child(Protocol):
    """A running child of this command."""

    @property
    def ended(self) -> bool: ...

    def send(self, line: str) -> None: ...
    def wait(self, timeout: float) -> Ran: ...
    def close(self) -> None: ...


class Processes(Protocol):
    def open(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
        log: Path | None = None,
        on_line: Callable[[str], None] | None = None,
        talk: bool = False,
    ) -> Child: ...

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
    ) -> Ran: ...

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        user: str | None = None,
    ) -> ProcessId: ...

    def alive(self, process: ProcessId) -> bool: ...
    def stop(self, process: ProcessId, *, signal: int, timeout: float) -> str: ...


class Clock(Protocol):
    def now(self) -> float: ...
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock. `now` in seconds since the epoch."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Deadline:
    """A point in time that several waits share.

    Args:
        seconds: from now.
    """

    def __init__(self, seconds: float, clock: Clock) -> None:
        self.seconds = seconds
        self.clock = clock
        self._begun = clock.monotonic()
        self._end = self._begun + seconds

    @property
    def passed(self) -> float:
        """Seconds since it was set."""
        return self.clock.monotonic() - self._begun

    def left(self, at_most: float | None = None) -> float:
        """Seconds left, never below 0.1, and never above `at_most`."""
        left = max(0.1, self._end - self.clock.monotonic())
        return left if at_most is None else min(left, at_most)

    def extend(self, seconds: float) -> None:
        """Move the point further away."""
        self._end += seconds

    @property
    def over(self) -> bool:
        return self.clock.monotonic() >= self._end


def wait_until(
    what: str,
    probe: Callable[[], tuple[T | None, str]],
    *,
    deadline: Deadline,
    dead: Callable[[], None] = lambda: None,
    log_tail: Callable[[], str] = lambda: "",
) -> T:
    """Ask until there is an answer.

    Args:
        what: what is waited for, for the error.
        probe: one look; returns the answer, or None and what was seen instead.
        dead: raises when what is waited for has died, so that nobody waits for a corpse.
        log_tail: last log lines, for the error.

    Raises:
        TimedOut: the deadline passed; carries what was seen last.
    """
    pause = FIRST_POLL
    while True:
        answer, seen = probe()
        if answer is not None:
            return answer
        dead()
        if deadline.over:
            raise TimedOut(what, deadline.seconds, seen, detail=log_tail())
        deadline.clock.sleep(min(pause, deadline.left()))
        pause = min(pause * _POLL_GROWTH, LONGEST_POLL)


@dataclass(frozen=True)
class ServerLook:
    """What a PostgreSQL server said of itself and of the login that asked.

    Attributes:
        identity: the cluster's system identifier; the same data directory always gives the same one.
        extensions: names that `CREATE EXTENSION` would find there.
        standby: it follows another server, and takes no writes.
        read_only: sessions of this login may not write, unless they say so.
    """

    login: ServerLogin
    source: str
    identity: str
    version_num: int
    version: str
    user: str
    superuser: bool
    createdb: bool
    createrole: bool
    timezone: str
    listen_addresses: str
    max_connections: int
    extensions: frozenset[str]
    standby: bool = False
    read_only: bool = False

    @property
    def major(self) -> int:
        return self.version_num // 10000


@dataclass(frozen=True)
class ServerRefusal:
    """Why a server could not be looked at.

    Attributes:
        kind: `refused` (nobody listens), `unreachable`, `login` (it answers and says no), `not-postgres`, `malformed`,
            `no-database`, `tls` or `other`.
        detail: the server's own words, without secrets.
    """

    kind: str
    detail: str


@dataclass(frozen=True)
class DatabaseLook:
    """A database and its owner role, as an admin login sees them.

    Attributes:
        role_timezone: the timezone set by `ALTER ROLE ... IN DATABASE`, empty where there is none.
        migration: highest applied version of Hatchet's own migrations, None where it was never migrated.
    """

    role_exists: bool
    exists: bool
    owner: str = ""
    encoding: str = ""
    role_timezone: str = ""
    extensions: frozenset[str] = frozenset()
    migration: int | None = None


@dataclass(frozen=True)
class EngineTrace:
    """Rows that engines left in Hatchet's database, and connections that may belong to one.

    Attributes:
        rows: partition and lease rows.
        connections: sessions of live engines; Hatchet names them `server...`.
    """

    rows: int
    connections: int


@dataclass(frozen=True)
class TokenRow:
    """What Hatchet's database knows of an API token.

    Attributes:
        expires: seconds since the epoch.
    """

    id: str
    tenant: str
    name: str
    revoked: bool
    expires: float


class Postgres(Protocol):
    """What is done on PostgreSQL servers. Every method raises `errors.UpError`s, translated by SQLSTATE."""

    def look(self, login: ServerLogin, source: str, timeout: float) -> ServerLook | ServerRefusal: ...
    def look_at_database(self, admin: ServerLogin, database: str, role: str) -> DatabaseLook: ...
    def login_works(self, login: ServerLogin, timeout: float = 3.0) -> ServerRefusal | None: ...
    def configuration_files(self, admin: ServerLogin) -> tuple[str, str]: ...
    def create_role(self, admin: ServerLogin, role: str, password: Secret) -> None: ...
    def has_role(self, admin: ServerLogin, role: str) -> bool: ...
    def join_role(self, admin: ServerLogin, role: str) -> None: ...
    def leave_role(self, admin: ServerLogin, role: str) -> None: ...
    def create_database(self, admin: ServerLogin, database: str, owner: str) -> None: ...
    def clone_database(self, admin: ServerLogin, database: str, template: str, owner: str) -> None: ...
    def database_names(self, admin: ServerLogin, prefix: str) -> list[str]: ...
    def set_timezone(self, admin: ServerLogin, database: str, role: str) -> None: ...
    def create_extension(self, admin: ServerLogin, database: str, extension: str) -> ServerRefusal | None: ...
    def drop_database(self, admin: ServerLogin, database: str) -> None: ...
    def drop_role(self, admin: ServerLogin, role: str) -> None: ...
    def migration_version(self, login: ServerLogin) -> int | None: ...
    def tenant_exists(self, login: ServerLogin, tenant: str) -> bool: ...
    def token_records(
        self, login: ServerLogin, tenant: str, ids: Sequence[str], timeout: float
    ) -> tuple[bool, Mapping[str, TokenRow]] | ServerRefusal: ...  # fmt: skip
    def tokens_named(self, login: ServerLogin, name: str) -> list[str]: ...
    def revoke_token(self, login: ServerLogin, token_id: str) -> bool: ...
    def engine_trace(self, login: ServerLogin) -> EngineTrace: ...
    def clear_engine_trace(self, login: ServerLogin) -> int: ...


@dataclass(frozen=True)
class Tls:
    """How TLS is spoken with a server, as hatchet-sdk is told it.

    Attributes:
        root_ca: file of the only root certificate that is trusted; the usual ones where empty.
        server_name: the name that the certificate must have; the host's own where empty. Of gRPC alone.
        certificate, key: files of the client's own, which it shows over gRPC alone; both or none.
    """

    root_ca: str = ""
    server_name: str = ""
    certificate: str = ""
    key: str = ""

    @property
    def strategy(self) -> str:
        """As `HATCHET_CLIENT_TLS_STRATEGY` has it."""
        return "mtls" if self.certificate else "tls"


@dataclass(frozen=True)
class GrpcLook:
    """One call of GetVersion.

    Attributes:
        state: `ok`, `refused-token`, `unavailable`.
        version: the engine's version where it answered.
        hop: where it broke: `token`, `name resolution`, `TLS`, `gRPC`.
    """

    state: str
    version: str = ""
    hop: str = ""
    detail: str = ""


@dataclass(frozen=True)
class RestLook:
    """One question over REST: which tenant a token is for.

    Attributes:
        state: `ok`, `refused-token`, `unavailable` (nobody, or no Hatchet, answers), `failed` (the engine has an error of
            its own).
        status: of HTTP, None where nobody answered.
        hop: where it broke: `token`, `name resolution`, `TLS`, `REST`.
        clock: the engine's time, in seconds since the epoch, where it said it.
    """

    state: str
    status: int | None = None
    hop: str = ""
    detail: str = ""
    clock: float | None = None


class Hatchet(Protocol):
    """What is asked of a running engine."""

    def get(self, port: int, path: str, timeout: float = 2.0) -> tuple[int, str, str] | None: ...
    def page(self, url: str, timeout: float = 2.0, *, root_ca: str = "") -> tuple[int, str, str] | None: ...
    def grpc_version(
        self, address: str, token: Secret, timeout: float = 5.0, *, tls: Tls | None = None
    ) -> GrpcLook: ...  # fmt: skip
    def rest_tenant(
        self, url: str, tenant: str, token: Secret, timeout: float = 3.0, *, root_ca: str = ""
    ) -> RestLook: ...  # fmt: skip
    def lets_in(self, port: int, email: str, password: Secret, timeout: float = 3.0) -> bool | None: ...
    def token_by_login(self, port: int, email: str, password: Secret, tenant: str, name: str, hours: int) -> Secret: ...
