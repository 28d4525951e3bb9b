"""Files and processes of this machine. Standard library and psutil only."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal as signals
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from owlclaw_up.errors import BinaryNotRunnable
from owlclaw_up.host.base import ProcessId, Ran

# A start time read twice may differ by a clock tick.
_TICK = 0.05


class LocalFiles:
    """The file system, with private files that are 0600 before their first byte and replaced in one rename."""

    def read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write_private(self, path: Path, data: bytes) -> None:
        """Replace `path` (through a symbolic link, in the link's target) by temp file and rename; mode 0600.

        Raises:
            OSError: the folder is missing, full or not writable; the old file is then as it was.
        """
        target = path.resolve() if path.is_symlink() else path
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(OSError):
                # As root in somebody's checkout: the file stays theirs.
                owner = (target if target.exists() else target.parent).stat()
                if os.geteuid() == 0 and owner.st_uid != 0:
                    os.chown(temporary, owner.st_uid, owner.st_gid)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def make_dir(self, path: Path, mode: int = 0o700) -> None:
        path.mkdir(parents=True, exist_ok=True)
        if path.stat().st_mode & 0o777 != mode:
            path.chmod(mode)

    def append(self, path: Path, text: str) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "a", encoding="utf-8") as file:
            file.write(text)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def remove_tree(self, path: Path) -> None:
        """Remove a folder; what somebody puts into it meanwhile goes too.

        A symbolic link is somebody's choice of another disk: it stays, and so does the folder it leads to, emptied.
        """
        for last in (False, False, False, True):
            try:
                if path.is_symlink() and path.is_dir():
                    for entry in path.iterdir():
                        if entry.is_dir() and not entry.is_symlink():
                            shutil.rmtree(entry)
                        else:
                            entry.unlink()
                elif path.exists():
                    shutil.rmtree(path)
                return
            except OSError as error:
                if last or error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                    raise

    def exists(self, path: Path) -> bool:
        return path.exists()

    def tail(self, path: Path, lines: int) -> list[str]:
        """The last lines of a log; at most its last 256 KiB are read."""
        try:
            with path.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 262144))
                return file.read().decode("utf-8", "replace").splitlines()[-lines:]
        except (FileNotFoundError, NotADirectoryError):
            return []


class LocalChild:
    """A running child whose output is pumped into a log, a listener and memory."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None,
        cwd: Path | None,
        user: str | None,
        log: Path | None,
        on_line: Callable[[str], None] | None,
        talk: bool,
    ) -> None:
        self.argv = tuple(argv)
        self._begun = time.monotonic()
        self._captured: tuple[list[bytes], list[bytes]] = ([], [])
        self._lock = threading.Lock()
        self._on_line = on_line
        self._sink = _open_private_log(log) if log else None
        self._process = _spawn(
            argv,
            env=None if env is None else dict(env),
            cwd=cwd,
            user=user,
            stdin=subprocess.PIPE if talk else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        streams = (self._process.stdout, self._process.stderr)
        self._pumps = [
            threading.Thread(target=self._pump, args=pair, daemon=True)
            for pair in zip(streams, self._captured, strict=True)
        ]
        for thread in self._pumps:
            thread.start()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def send(self, line: str) -> None:
        """One line to its standard input; a child that has died shows at `wait`."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def wait(self, timeout: float) -> Ran:
        """Wait for its end; after `timeout` seconds it is killed, and its exit code is -9."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        except BaseException:
            # Ctrl-C: the child of a cancelled step must not go on behind our back.
            self.close()
            raise
        return self._finish()

    def close(self) -> None:
        """End it, if it still runs."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            self._process.kill()
            self._process.wait()
        self._finish()

    def _finish(self) -> Ran:
        for thread in self._pumps:
            thread.join(2)
        # Where a grandchild still holds the other end, the pump is in the middle of a read: that stream stays its own.
        reading = [thread.is_alive() for thread in self._pumps]
        streams = (self._process.stdin, self._process.stdout, self._process.stderr)
        for stream, busy in zip(streams, (False, *reading), strict=True):
            if stream is not None and not busy:
                with contextlib.suppress(OSError):
                    stream.close()
        with self._lock:
            if self._sink is not None:
                os.close(self._sink)
                self._sink = None
            self._on_line = None
        out, err = (b"".join(part).decode("utf-8", "replace") for part in self._captured)
        return Ran(self.argv, self._process.returncode, out, err, time.monotonic() - self._begun)

    def _pump(self, stream: IO[bytes], into: list[bytes]) -> None:
        for line in stream:
            into.append(line)
            with self._lock:
                if self._sink is not None:
                    os.write(self._sink, line)
                if self._on_line is not None:
                    self._on_line(line.decode("utf-8", "replace").rstrip())


class LocalProcesses:
    """Children that are waited for, and servers that outlive the command."""

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
        """Run a child to its end.

        Args:
            argv: program and arguments; never a secret among them.
            timeout: seconds; then the child is killed and its exit code is -9.
            user: run as this user (root only).
            log: the output is appended there as it comes, 0600.
            on_line: called with each line of output as it comes, from another thread.

        Raises:
            BinaryNotRunnable: the program is missing, not executable or for another architecture.
        """
        child = self.open(argv, env=env, cwd=cwd, user=user, log=log, on_line=on_line)
        return child.wait(timeout)

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
    ) -> LocalChild:
        """Start a child that is waited for later; arguments as for `run`.

        Args:
            talk: whether lines will be sent to its standard input.
        """
        return LocalChild(argv, env=env, cwd=cwd, user=user, log=log, on_line=on_line, talk=talk)

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path, user: str | None = None
    ) -> ProcessId:
        """Start a server in a session of its own, so that it outlives this command and its terminal.

        Raises:
            BinaryNotRunnable: as for `run`.
        """
        with _private_log(log) as sink:
            child = _spawn(
                argv,
                env=dict(env),
                kind=_Server,
                cwd=cwd,
                user=user,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        _ours[child.pid] = child
        return ProcessId(child.pid, start_time(child.pid) or 0.0)

    def alive(self, process: ProcessId) -> bool:
        """Whether this very process runs: a pid given to somebody else since does not count, nor does a zombie."""
        child = _ours.get(process.pid)
        if child is not None and child.poll() is not None:
            return False
        started = start_time(process.pid)
        return started is not None and abs(started - process.started) < _TICK

    def stop(self, process: ProcessId, *, signal: int, timeout: float) -> str:
        """End a process that we started; after `timeout` seconds with SIGKILL. Returns how it ended, for the report."""
        if not self.alive(process):
            return "was not running"
        begun = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal)
        pause = 0.01
        while self.alive(process):
            if time.monotonic() - begun > timeout:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signals.SIGKILL)
                while self.alive(process) and time.monotonic() - begun < timeout + 5:
                    time.sleep(0.02)
                return f"killed after {timeout:.0f} s"
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        return f"stopped in {time.monotonic() - begun:.1f} s"


class _Server(subprocess.Popen[bytes]):
    """A process that is meant to outlive the one that started it: no reason for a `ResourceWarning`."""

    def __del__(self) -> None:
        pass


_ours: dict[int, subprocess.Popen[bytes]] = {}


def exit_status(process: ProcessId) -> str:
    """How a server that this command started has ended, in words."""
    child = _ours.get(process.pid)
    code = child.poll() if child else None
    if code is None:
        return "unexpectedly"
    if code < 0:
        return f"by signal {signals.Signals(-code).name}"
    return f"with exit code {code}"


def start_time(pid: int) -> float | None:
    """Start of a process in seconds since the epoch, or None if there is no such process or only its zombie."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return float(process.create_time())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def processes_in(folder: Path, programs: Collection[str]) -> list[ProcessId]:
    """Processes that work in a folder of ours and were started by us, though nobody recorded them.

    Args:
        folder: their working directory.
        programs: names of which one is in their command line; a shell of the user's in that folder is none of them.
    """
    import psutil

    found = []
    # The system tells where a process works without symbolic links.
    place = str(folder.resolve())
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.status() == psutil.STATUS_ZOMBIE or process.cwd() != place:
                continue
            if any(Path(word).name in programs for word in process.cmdline()):
                found.append(ProcessId(process.pid, float(process.create_time())))
    return found


def _spawn(
    argv: Sequence[str],
    *,
    user: str | None,
    env: dict[str, str] | None,
    kind: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen,
    **how: object,
) -> subprocess.Popen[bytes]:
    switch: dict[str, object] = {}
    if user is not None:
        import pwd

        entry = pwd.getpwnam(user)
        switch = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    try:
        return kind(list(argv), env=env, **how, **switch)
    except OSError as error:
        why = {
            errno.ENOENT: "there is no such file (or no loader for it)",
            errno.EACCES: "it is not executable, or a folder above it is closed",
            errno.ENOEXEC: "it is no program for this machine",
        }.get(error.errno or 0, os.strerror(error.errno or 0))
        raise BinaryNotRunnable(str(argv[0]), why) from None


def _open_private_log(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


@contextlib.contextmanager
def _private_log(path: Path) -> Iterator[int]:
    handle = _open_private_log(path)
    try:
        yield handle
    finally:
        os.close(handle)


def available_memory() -> int:
    """Bytes of memory that a new process could have."""
    import psutil

    return int(psutil.virtual_memory().available)
