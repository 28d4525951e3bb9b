"""The machine: Python, memory, disks, limits, and whether we may write and read where we must."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from owlclaw_up.checks.base import UP, Check, Evidence, Seen, of_error, ok
from owlclaw_up.errors import ProjectNotWritable
from owlclaw_up.facts import UsageLook
from owlclaw_up.host.resources import Disk
from owlclaw_up.model import Absent, Mode, Unknown, found

_MIB, _GIB = 2**20, 2**30
# MiB of memory: comfortable, and the least. hatchet-lite takes some 100 and PostgreSQL some 200 at rest, a proof and a
# worker as much again; what runs already has its own.
_MEMORY = {"engine": (1024, 300), "databases": (512, 150), "running": (256, 64)}
# MiB of disk: comfortable before the first `up` and afterwards, and the least.
_DISK_BEFORE, _DISK, _DISK_LEAST = 3072, 1024, 300
# The files of a PostgreSQL with Hatchet's tables, and as many again; and below what it cannot go on.
_INODES_BEFORE, _INODES, _INODES_LEAST = 20_000, 4_000, 1_000
# macOS gives every shell 256, and everything of ours does with that.
_OPEN_FILES = {"Darwin": 256}
_OPEN_FILES_USUAL, _OPEN_FILES_ASKED = 1024, 4096
_WHO_HAS_MEMORY = "ps aux | sort -rnk 6 | head"
_USED_MUCH, _USED_TOO_MUCH = 1 * _GIB, 5 * _GIB
_OLDEST_PYTHON = (3, 10)
_MAKE_ANEW = "make the virtual environment anew, then install the project's packages again"


def _python(evidence: Evidence) -> Iterator[Seen]:
    fact = evidence.facts.python
    if isinstance(fact, Absent):
        yield Seen("fail", fact.why, "", f"{_MAKE_ANEW}: {fact.hint}", fact.hint)
    elif isinstance(fact, Unknown):
        yield Seen("unknown", fact.why, "", fact.hint, fact.hint)
    else:
        python = fact.value
        numbers = tuple(int(part) for part in python.version.split(".")[:2])
        if numbers < _OLDEST_PYTHON:
            title = f"{python.path} is Python {python.version}, and hatchet-sdk needs 3.10 or newer"
            yield Seen("fail", title, "", f"with a newer one, {_MAKE_ANEW}: {python.make_anew}", python.make_anew)
        else:
            yield ok(f"Python {python.version} in {python.path}")


def _architecture(evidence: Evidence) -> Iterator[Seen]:
    python = found(evidence.facts.python)
    if python is None:
        return
    hint = "install a Python that is built for this machine, and make the virtual environment anew with it"
    if python.emulated:
        yield Seen(
            "warn", f"{python.path} is built for {python.machine}, and this machine is {python.emulated}",
            "everything of it is emulated: slow, and packages are fetched for the other architecture", hint,
        )  # fmt: skip
    elif python.bits < 64:
        yield Seen(
            "warn", f"{python.path} is a Python of {python.bits} bits",
            "there are no ready packages of grpcio and PostgreSQL for it", hint,
        )  # fmt: skip
    else:
        yield ok(f"{python.machine}, {python.bits} bits")


def _memory(evidence: Evidence) -> Iterator[Seen]:
    look = found(evidence.facts.resources)
    if look is None:
        return
    stack = evidence.facts.our_stack
    running = evidence.standing and (stack.engine_ready or stack.server_process is not None)
    needs = "running" if running else "engine" if evidence.with_own_engine else "databases"
    comfortable, least = _MEMORY[needs]
    memory, free = look.memory, look.memory.available // _MIB
    if free >= comfortable:
        yield ok(f"{free} MiB of memory are free")
        return
    wanted = f"what runs here wants {comfortable} MiB to spare" if running else f"an up wants about {comfortable} MiB"
    detail = f"{wanted}, and ends below {least}"
    if memory.limit is not None:
        yield Seen(
            "fail" if free < least else "warn",
            f"only {free} MiB of memory are left of the {memory.limit // _MIB} MiB that this shell is limited to",
            f"{detail}; the limit is that of {memory.cgroup}",
            "raise the limit of the container or service in which this shell runs",
        )  # fmt: skip
    else:
        yield Seen(
            "fail" if free < least else "warn", f"only {free} MiB of memory are free", detail,
            f"end what you do not need; who has it: {_WHO_HAS_MEMORY}", _WHO_HAS_MEMORY,
        )  # fmt: skip


def _disks(evidence: Evidence) -> dict[str, Disk]:
    """The file systems that matter here, each once, by the names of what lies on it."""
    look = found(evidence.facts.resources)
    if look is None:
        return {}
    idle = set()
    if evidence.mode not in (Mode.NATIVE, None):
        idle.add("the engine cache")
    if evidence.with_docker and not evidence.standing:
        idle.add("PostgreSQL's data")
    by_device: dict[int, list[str]] = {}
    for what, disk in look.disks.items():
        if what not in idle:
            by_device.setdefault(disk.device, []).append(what)
    return {" and ".join(whats): look.disks[whats[0]] for whats in by_device.values()}


def _scarce(
    evidence: Evidence, left: Callable[[Disk], int | None], enough: int, least: int, unit: str, command: str
) -> Iterator[Seen]:  # fmt: skip
    """One finding for each file system with less than enough.

    Args:
        left: what is left on one; None where it has no such limit.
        command: shows it, given a path.
    """
    disks = {what: (disk, left(disk)) for what, disk in _disks(evidence).items()}
    short = [(what, disk, free) for what, (disk, free) in disks.items() if free is not None and free < enough]
    for what, disk, free in short:
        see = f"{command} {shlex.quote(str(disk.path))}"
        yield Seen(
            "fail" if free < least else "warn", f"{free} {unit} are free for {what}",
            f"{disk.path}; {enough} are wanted, and nothing goes on below {least}",
            f"remove what you do not need: {see}; what is owlclaw-up's: {UP} doctor --only platform.usage", see,
        )  # fmt: skip
    if disks and not short:
        yield ok(f"{enough} {unit} and more are free")


def _disk(evidence: Evidence) -> Iterator[Seen]:
    enough = _DISK if evidence.standing else _DISK_BEFORE
    return _scarce(evidence, lambda disk: disk.free // _MIB, enough, _DISK_LEAST, "MiB of disk", "df -h")


def _inodes(evidence: Evidence) -> Iterator[Seen]:
    enough = _INODES if evidence.standing else _INODES_BEFORE
    return _scarce(evidence, lambda disk: disk.free_inodes, enough, _INODES_LEAST, "inodes", "df -i")


def _file_limit(evidence: Evidence) -> Iterator[Seen]:
    look, platform = found(evidence.facts.resources), found(evidence.facts.platform)
    if look is None or look.open_files is None:
        return
    soft, hard = look.open_files
    enough = _OPEN_FILES.get(platform.system if platform else "", _OPEN_FILES_USUAL)
    if soft < 0 or soft >= enough:
        yield ok("no limit of open files" if soft < 0 else f"{soft} open files")
        return
    title, detail = f"this shell allows {soft} open files, fewer than {enough}", "what it starts inherits that"
    if hard < 0 or hard >= enough:
        command = f"ulimit -n {_OPEN_FILES_ASKED if hard < 0 else min(hard, _OPEN_FILES_ASKED)}"
        yield Seen("warn", title, detail, f"{command}; then, where something runs already: {UP} down && {UP}", command)
    else:
        yield Seen(
            "warn", title, f"{detail}; the hard limit is {hard}",
            "raise nofile in /etc/security/limits.conf, or of the container or service, then log in again",
        )  # fmt: skip


def _time_zones(evidence: Evidence) -> Iterator[Seen]:
    python = found(evidence.facts.python)
    if python is None or python.sdk is None:
        return
    if python.no_zones:
        command = f"{python.install} tzdata"
        yield Seen("warn", f"{python.path} finds no time zones", python.no_zones, command, command)
    else:
        yield ok("time zones are at hand")


def _semaphores(evidence: Evidence) -> Iterator[Seen]:
    python = found(evidence.facts.python)
    if python is None or not evidence.with_engine:
        return
    if python.no_semaphores:
        yield Seen(
            "fail", f"no worker of {python.path} can start: its processes can share no locks", python.no_semaphores,
            "give this machine, container or sandbox a /dev/shm that everybody may write: mount -t tmpfs -o mode=1777 tmpfs /dev/shm",
            "ls -ld /dev/shm",
        )  # fmt: skip
    else:
        yield ok("processes can share locks")


def _writable(evidence: Evidence) -> Iterator[Seen]:
    look = found(evidence.facts.resources)
    if look is None:
        return
    if look.refused:
        yield of_error(ProjectNotWritable(*look.refused))
    else:
        yield ok("the project's folder can be written")


def _user(evidence: Evidence) -> Iterator[Seen]:
    """Before there is a server, `up` tries users and folders until one works; afterwards rights may change."""
    look, kept = found(evidence.facts.resources), evidence.ledger.recall("postgres")
    if look is None or not kept.get("user") or not kept.get("base"):
        return
    if look.closed is None:
        yield ok(f"{kept['user']}, who runs PostgreSQL, reaches its data")
        return
    user, folder, why = look.closed
    base = Path(kept["base"])
    give = f"chown -R {user} {shlex.quote(str(base))}"
    if "there is no user" in why:
        command, hint = "", f"make that user again, and: {give}"
    else:
        command = hint = give if folder.is_relative_to(base) else f"chmod a+x {shlex.quote(str(folder))}"
    running = evidence.facts.our_stack.server_process is not None
    detail = "the server that runs opens no new file there" if running else "it runs as that user, never as root"
    yield Seen("fail", f"{user} cannot reach PostgreSQL's data: {folder}: {why}", detail, hint, command)


def _usage(evidence: Evidence) -> Iterator[Seen]:
    look = found(evidence.facts.usage)
    if look is None:
        return
    total = sum(size.allocated for size in look.sizes.values())
    least = "" if all(size.whole for size in look.sizes.values()) else "at least "
    title = f"owlclaw-up uses {least}{_amount(total)} of the disk"
    largest_first = sorted(look.sizes, key=lambda what: -look.sizes[what].allocated)
    detail = "; ".join(f"{what} {_amount(look.sizes[what].allocated)} ({look.places[what]})" for what in largest_first)
    if total < _USED_MUCH:
        yield ok(title, detail)
        return
    command, hint = _freeing(look, largest_first[0])
    yield Seen("info" if total < _USED_TOO_MUCH else "warn", title, detail, hint, command)


def _freeing(look: UsageLook, largest: str) -> tuple[str, str]:
    """The command that shows what takes most, and what may be done about it."""
    place = look.places[largest]
    command = f"du -sh {shlex.quote(str(place))}/*"
    what = {
        "engine cache": "remove versions that no checkout uses",
        "state": "remove dumps and logs that you do not need",
        "PostgreSQL's data": "delete rows that you do not need; or begin anew, all data is lost: owlclaw-up reset",
    }[largest]
    return command, f"{what}: {command}"


def _amount(size: int) -> str:
    return f"{size / _GIB:.1f} GiB" if size >= _GIB else f"{size // _MIB} MiB"


CHECKS: tuple[Check, ...] = (
    Check(
        "platform.python", "the project's Python runs", "`.venv/bin/python: No such file or directory`",
        "Python was upgraded or removed below a virtual environment, or is older than 3.10",
        "no program of the project starts", "python3 -m venv --clear .venv", _python, ("python",),
    ),
    Check(
        "platform.architecture", "the project's Python is built for this machine",
        "everything is slow; packages do not install, or `incompatible architecture`",
        "a Python for x86_64 on an Arm machine, or one of 32 bits", "emulation is slow, and some packages are missing",
        "a Python that is built for this machine", _architecture, ("python",), ("platform.python",),
    ),
    Check(
        "platform.memory", "there is memory for what runs", "`Killed`, exit code 137, processes that vanish",
        "too much else runs, or a container's limit is low", "the kernel ends whoever it chooses",
        "end what you do not need, or raise the container's limit", _memory, ("resources",),
    ),
    Check(
        "platform.disk", "there is disk for the project, the engine cache and PostgreSQL's data",
        "`No space left on device`; PostgreSQL ends with a PANIC", "the disk is full",
        "PostgreSQL stops where it cannot write", "df -h", _disk, ("resources",), stops_up=True,
    ),
    Check(
        "platform.inodes", "there are inodes for the same", "`No space left on device`, though df shows some",
        "millions of small files", "no file can be made, however small", "df -i", _inodes, ("resources",),
        ("platform.disk",), stops_up=True,
    ),
    Check(
        "platform.file-limit", "enough files may be open", "`Too many open files`",
        "a low soft limit in the shell, a service or a container", "each connection is an open file",
        "ulimit -n 4096", _file_limit, ("resources", "platform"),
    ),
    Check(
        "platform.time-zones", "the project's Python finds time zones", "`ZoneInfoNotFoundError: 'No time zone found with key ...'`",
        "no tzdata on the machine, or PYTHONTZPATH points elsewhere",
        "schedules in local time fail, and times from a database are read as UTC", "pip install tzdata", _time_zones,
        ("python",), ("platform.python",),
    ),
    Check(
        "platform.semaphores", "processes can share locks, as workers do",
        "`PermissionError: [Errno 13]` or `OSError: [Errno 38]` in `_multiprocessing.SemLock`; a worker ends at once",
        "/dev/shm is not there or cannot be written: a chroot, a sandbox, a container with a read-only file system",
        "hatchet-sdk's worker is several processes", "mount -t tmpfs -o mode=1777 tmpfs /dev/shm", _semaphores, ("python",),
        ("platform.python",),
    ),
    Check(
        "platform.writable", "the project's folder can be written", "`Read-only file system`, or `Permission denied`",
        "a read-only mount, or a checkout that belongs to somebody else", "owlclaw-up keeps its state there",
        "ls -ld .", _writable, ("resources",),
    ),
    Check(
        "platform.user", "PostgreSQL's user reaches its data",
        '`could not access directory ".../data": Permission denied` in `owlclaw-up logs postgres`',
        "as root, PostgreSQL runs as another user; somebody changed owner or rights of a folder on its way",
        "the server does not start, and one that runs cannot open its files", "chown -R postgres DIR", _user, ("resources", "stack"),
    ),
    Check(
        "platform.usage", "owlclaw-up takes a modest part of the disk", "the disk fills up",
        "engines of many versions, dumps, or much data", "space for others", "du -sh .owlclaw-up/*", _usage, ("usage",),
    ),
)  # fmt: skip
