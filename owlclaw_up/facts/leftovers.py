"""Probe of what lies in this project's own places: programs, half-written files, data directories. On record or not."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from owlclaw_up.errors import UpError
from owlclaw_up.facts.dotenv import BACKUP_SUFFIX
from owlclaw_up.facts.servers import admin_login
from owlclaw_up.facts.side_by_side import ask
from owlclaw_up.host.embedded import bases_of
from owlclaw_up.host.local import start_time
from owlclaw_up.host.machine import Host
from owlclaw_up.host.ports import answers_tcp
from owlclaw_up.host.running import RunningProgram, programs_in
from owlclaw_up.receipts import HOLDER, Ledger
from owlclaw_up.settings import Settings
from owlclaw_up.spec import SIDECAR_KEEPER

PROGRAMS = ("hatchet-lite", "hatchet-migrate", "hatchet-admin", SIDECAR_KEEPER, "postgres", "initdb")
# What `host.files.write_private` calls a file until it is whole.
_HALF_WRITTEN = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}\.tmp")
_HOLDER = re.compile(r"pid (?P<pid>\d+), since (?P<since>\S+)")
# A clock that is put forward meanwhile makes a process look younger than what it wrote.
_CLOCK_SLACK = 60.0
# Seconds that the kept server may take to list its databases.
_SECONDS = 2.0


@dataclass(frozen=True)
class LeftFile:
    """A file of ours that means nothing any more. `what` says what it is."""

    path: Path
    what: str


@dataclass(frozen=True)
class LeftoversLook:
    """Attributes:
    at_work: another owlclaw-up that works in this project, in words: what it is making is no leftover, and not looked for.
    programs: servers and tools of ours that run in this project's places.
    files: half-written ones, and those that outlived their command.
    bases: folders of embedded servers of this checkout; by each, whether there is data in it.
    databases: names on the server that holds our databases; None where it was not asked, or gave no answer.
    """

    at_work: str = ""
    programs: tuple[RunningProgram, ...] = ()
    files: tuple[LeftFile, ...] = ()
    bases: tuple[tuple[Path, bool], ...] = ()
    databases: frozenset[str] | None = None


def look_for_leftovers(host: Host, settings: Settings, ledger: Ledger) -> LeftoversLook:
    """Everything of ours in this checkout's places; what is on record is for the checks to say."""
    holder, at_work = _holder(ledger)
    if at_work or _moved(host, ledger):
        return LeftoversLook(at_work or "state.json has just been written")
    bases = bases_of(ledger.directory)
    files = [*_half_written(ledger.directory, None), *_half_written(ledger.directory / "deploy", None)]
    env_path = ledger.project / settings.env_file.value
    with contextlib.suppress(OSError):
        target = env_path.resolve()
        files += _half_written(target.parent, target.name)
    files += [LeftFile(b / ".pw", "the password that initdb was given") for b in bases if _there(b / ".pw")]
    if holder is not None:
        files.append(LeftFile(holder, "of an owlclaw-up that was killed"))
    sidecar = ledger.recall("sidecar").get("program")
    programs = programs_in([ledger.directory, *bases], (*PROGRAMS, *([sidecar] if sidecar else [])))
    # Whoever began meanwhile has made some of it.
    if _holder(ledger)[1] or _moved(host, ledger):
        return LeftoversLook("another owlclaw-up has just begun")
    return LeftoversLook(
        "", tuple(programs), tuple(files), tuple((b, _has_data(b)) for b in bases), _database_names(host, ledger)
    )


def _holder(ledger: Ledger) -> tuple[Path | None, str]:
    """A note of who holds the lock that a dead one has left; and who does hold it."""
    path = ledger.directory / HOLDER
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None, ""
    match = _HOLDER.search(text)
    if match is None:
        return None, text or "an unknown process"
    started = start_time(int(match["pid"]))
    with contextlib.suppress(ValueError):
        since = datetime.datetime.fromisoformat(match["since"]).timestamp()
        if started is None or started > since + _CLOCK_SLACK:
            return path, ""
    return None, text


def _moved(host: Host, ledger: Ledger) -> bool:
    """Whether somebody has written the state since it was read."""
    try:
        return Ledger(ledger.project, host.files, host.clock).state != ledger.state
    except UpError:
        return True


def _half_written(folder: Path, name: str | None) -> Iterator[LeftFile]:
    """Files of a folder that were never finished.

    Args:
        name: of the file that they were to become, or to be a copy of; any, where the folder is all ours.
    """
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir()):
            match = _HALF_WRITTEN.fullmatch(path.name)
            if match and path.is_file() and name in (None, match["name"], match["name"].removesuffix(BACKUP_SUFFIX)):
                yield LeftFile(path, f"half-written {match['name']}")


def _there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _has_data(base: Path) -> bool:
    """Whether anything in a server's folder could be somebody's work; also where we may not look."""
    try:
        return any((base / "data").iterdir())
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _database_names(host: Host, ledger: Ledger) -> frozenset[str] | None:
    admin = admin_login(ledger)
    if admin is None or (
        ledger.recall("postgres").get("kind") != "local" and not answers_tcp("127.0.0.1", admin.port or 0)
    ):
        return None

    def names() -> frozenset[str] | None:
        try:
            return frozenset(host.postgres.database_names(admin, ""))
        except UpError:
            return None

    # A server that hangs is for other checks to tell.
    answer: frozenset[str] | None = ask({"names": names}, _SECONDS).get("names")
    return answer
