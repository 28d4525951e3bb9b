"""What this machine has left for us: memory, disk, inodes, open files; and who may walk where. Reads only."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from owlclaw_up.host.local import available_memory

# A cgroup without a limit of its own says `max`, or as v1 a number close to 2**63.
_NO_LIMIT = 2**60


@dataclass(frozen=True)
class Memory:
    """Attributes: `available` in bytes; `limit` of the cgroup that bounds it, with that cgroup, None where none does."""

    available: int
    limit: int | None = None
    cgroup: str = ""


@dataclass(frozen=True)
class Disk:
    """What is free for us on one file system.

    Attributes:
        path: a folder on it.
        device: its number, the same for two folders of one file system.
        free: in bytes.
        free_inodes: None where the file system makes them as it goes.
    """

    path: Path
    device: int
    free: int
    free_inodes: int | None = None


@dataclass(frozen=True)
class Size:
    """Attributes: `allocated` in bytes; `whole`, whether there was time to count everything."""

    allocated: int
    whole: bool = True


def memory_for_us(root: Path = Path("/")) -> Memory:
    """Memory that a new process of this command could have: the machine's, within what its cgroups leave.

    Args:
        root: of the file system that has `proc` and `sys`.
    """
    machine = available_memory()
    bounds = [Memory(max(0, left), limit, str(folder)) for folder, limit, left in _cgroups(root)]
    return min([Memory(machine), *bounds], key=lambda memory: memory.available)


def _cgroups(root: Path) -> Iterator[tuple[Path, int, int]]:
    """Every cgroup above this process that limits memory: its folder, its limit, what is left of it; in bytes."""
    for top, path, names in _hierarchies(root):
        within = Path(path.lstrip("/"))
        for part in (within, *within.parents):
            # In a container the path is the machine's, and the container sees only its own end of it, as the root.
            folder = top / part
            limit, used = (_number(folder / name) for name in names[:2])
            if limit is not None and used is not None and limit < _NO_LIMIT:
                yield folder, limit, limit - used + _reclaimable(folder / "memory.stat", names[2])


def _hierarchies(root: Path) -> Iterator[tuple[Path, str, tuple[str, str, str]]]:
    """Where the memory controller is mounted, this process's place in it, and its files: limit, usage, key of the cache."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    top = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            yield top, path, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            yield top / "memory", path, ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _reclaimable(path: Path, key: str) -> int:
    """Bytes of cached files, which the kernel gives back before anybody is refused."""
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    return 0


def look_at_disk(path: Path) -> Disk:
    """The file system on which a folder lies, or will lie."""
    there = next(p for p in (path, *path.parents) if p.exists())
    device = there.stat().st_dev
    if sys.platform == "win32":
        return Disk(there, device, shutil.disk_usage(there).free)
    info = os.statvfs(there)
    # btrfs and the like count none.
    inodes = info.f_favail if info.f_files else None
    return Disk(there, device, info.f_bavail * info.f_frsize, inodes)


def why_not_writable(folder: Path) -> str:
    """Why this user cannot make a file in a folder, as the system would say; empty where it can."""
    if os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return ""
    read_only = sys.platform != "win32" and os.statvfs(folder).f_flag & os.ST_RDONLY
    return "Read-only file system" if read_only else "Permission denied"


def open_files_limit() -> tuple[int, int] | None:
    """Soft and hard limit of open files for what this command starts, -1 for none; None where there is no such thing."""
    if sys.platform == "win32":
        return None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return tuple(-1 if limit == resource.RLIM_INFINITY else limit for limit in (soft, hard))  # type: ignore[return-value]


def closed_to(user: str, folder: Path) -> tuple[Path, str] | None:
    """What keeps another user of this machine from a folder that should be its own, with why; None where nothing does."""
    import pwd

    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return folder, f"there is no user {user} any more"
    groups = os.getgrouplist(user, entry.pw_gid)
    for part in (*reversed(folder.parents), folder):
        if not part.exists():
            return None
        info = part.stat()
        if part == folder and info.st_uid != entry.pw_uid:
            return part, f"belongs to uid {info.st_uid}, not to {user}"
        shift = 6 if info.st_uid == entry.pw_uid else 3 if info.st_gid in groups else 0
        if not info.st_mode >> shift & stat.S_IXOTH:
            return part, f"mode {stat.S_IMODE(info.st_mode):04o}: {user} may not enter it"
    return None


def size_of(folder: Path, until: float) -> Size:
    """What a folder takes of its disk; links are not followed.

    Args:
        until: reading of `time.monotonic` after which the rest is left uncounted.
    """
    total, waiting = 0, [folder]
    while waiting:
        if time.monotonic() > until:
            return Size(total, False)
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    info = entry.stat(follow_symlinks=False)
                    # Windows does not tell what is allocated.
                    total += info.st_blocks * 512 if sys.platform != "win32" else info.st_size
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
    return Size(total)


def load_per_core() -> float:
    """How many processes want each core, on average of the last minute; 0.0 where the system does not say."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except (OSError, AttributeError):
        return 0.0
