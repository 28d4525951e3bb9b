"""What is free here and what it means: cgroups of both kinds, rights on the way to a folder, sizes; and every threshold."""

from __future__ import annotations

import dataclasses
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.checks import BY_ID
from owlclaw_up.checks.base import Evidence, Seen
from owlclaw_up.facts import PlatformLook, PythonLook, ResourcesLook, SdkLook, StackLook, UsageLook
from owlclaw_up.host.base import ProcessId
from owlclaw_up.host.resources import (
    Disk,
    Memory,
    Size,
    closed_to,
    look_at_disk,
    memory_for_us,
    size_of,
    why_not_writable,
)
from owlclaw_up.model import Found, Mode
from owlclaw_up.settings import Settings
from tests.unit.fakes import NOW, make_facts, make_ledger

MIB = 2**20


def resources(path: Path, **values: Any) -> ResourcesLook:
    """A machine with plenty of everything."""
    usual: dict[str, Any] = {
        "memory": Memory(8 * 2**30),
        "disks": {"the project": Disk(path, 1, 50 * 2**30, 10**6)},
        "open_files": (1024, -1),
        "refused": None,
        "closed": None,
    }
    return ResourcesLook(**{**usual, **values})


def python(**values: Any) -> PythonLook:
    usual: dict[str, Any] = {
        "path": ".venv/bin/python", "own": True, "version": "3.12.1", "bits": 64, "machine": "x86_64", "emulated": "",
        "no_zones": "", "no_semaphores": "", "sdk": SdkLook("1.43.1", "v0.78.23"), "install": ".venv/bin/python -m pip install",
        "make_anew": "python3 -m venv --clear .venv",
    }  # fmt: skip
    return PythonLook(**{**usual, **values})


def evidence(path: Path, mode: Mode | None = Mode.NATIVE, *, standing: bool = False, **facts: Any) -> Evidence:
    facts.setdefault("resources", Found(resources(path)))
    looked = make_facts(path, **facts)
    return Evidence(looked, Settings(), make_ledger(path), mode, standing, None, None, (), None, NOW)


def look(check: str, seen: Evidence) -> list[Seen]:
    return list(BY_ID[check].look(seen))


def levels(check: str, seen: Evidence) -> list[str]:
    return [s.level for s in look(check, seen)]


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A file system's root with no cgroup."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory").mkdir(parents=True)
    return tmp_path


def cgroup(folder: Path, **files: str | int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_the_second_kind_of_cgroup_counts_every_level(machine: Path) -> None:
    (machine / "proc/self/cgroup").write_text("0::/user.slice/shell.scope\n")
    top = machine / "sys/fs/cgroup/user.slice"
    cgroup(top, memory__max=500 * MIB, memory__current=450 * MIB, memory__stat=f"anon 1\ninactive_file {30 * MIB}")
    cgroup(top / "shell.scope", memory__max="max", memory__current=100 * MIB)
    assert memory_for_us(machine) == Memory(80 * MIB, 500 * MIB, str(top))


def test_the_first_kind_of_cgroup(machine: Path) -> None:
    (machine / "proc/self/cgroup").write_text("9:cpu:/a\n4:memory:/a\n0::/a\n")
    group = machine / "sys/fs/cgroup/memory/a"
    files = {"memory__limit_in_bytes": 200 * MIB, "memory__usage_in_bytes": 50 * MIB}
    cgroup(group, **files, memory__stat=f"inactive_file 7\ntotal_inactive_file {10 * MIB}")
    assert memory_for_us(machine) == Memory(160 * MIB, 200 * MIB, str(group))
    cgroup(group, memory__limit_in_bytes=9223372036854771712)
    assert memory_for_us(machine).limit is None


def test_within_a_container_the_path_is_the_machine_s(machine: Path) -> None:
    (machine / "proc/self/cgroup").write_text("4:memory:/docker/0123\n")
    cgroup(machine / "sys/fs/cgroup/memory", memory__limit_in_bytes=64 * MIB, memory__usage_in_bytes=60 * MIB)
    assert memory_for_us(machine).available == 4 * MIB


def test_a_machine_without_cgroups(machine: Path) -> None:
    assert memory_for_us(machine).limit is None
    (machine / "proc/self/cgroup").write_text("nonsense\n4:memory:/gone\n")
    assert memory_for_us(machine).limit is None


def test_a_folder_that_is_still_to_come_lies_where_the_one_above_it_lies(tmp_path: Path) -> None:
    assert look_at_disk(tmp_path / "to/come").device == look_at_disk(tmp_path).device
    assert look_at_disk(tmp_path).free > 0
    assert why_not_writable(tmp_path) == ""


def test_who_may_walk_where(tmp_path: Path) -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    # What lies above is open to whoever runs the tests.
    folder = tmp_path / "base/data"
    folder.mkdir(parents=True)
    assert closed_to(me, folder) is None
    folder.parent.chmod(0o000)
    try:
        assert closed_to(me, folder.parent) == (folder.parent, f"mode 0000: {me} may not enter it")
    finally:
        folder.parent.chmod(0o700)
    assert closed_to("no-such-user", folder) == (folder, "there is no user no-such-user any more")
    assert closed_to(me, tmp_path / "gone") is None
    other = next(entry for entry in pwd.getpwall() if entry.pw_uid not in (0, os.geteuid()))
    blocked = closed_to(other.pw_name, folder)
    assert blocked is not None and other.pw_name in blocked[1]


def test_sizes_are_counted_as_long_as_there_is_time(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_bytes(bytes(MIB))
    (tmp_path / "a/link").symlink_to(tmp_path)
    whole = size_of(tmp_path, float("inf"))
    assert whole.whole and MIB <= whole.allocated < 2 * MIB
    assert size_of(tmp_path, 0.0) == Size(0, False)
    assert size_of(tmp_path / "gone", float("inf")) == Size(0)


@pytest.mark.parametrize(
    ("mode", "standing", "free", "level"),
    [
        (Mode.NATIVE, False, 1024, "ok"),
        (Mode.NATIVE, False, 1023, "warn"),
        (Mode.FULL, False, 299, "fail"),
        (Mode.MOCK, False, 512, "ok"),
        (None, False, 149, "fail"),
        (Mode.NATIVE, True, 256, "ok"),
        (Mode.NATIVE, True, 64, "warn"),
        (Mode.NATIVE, True, 63, "fail"),
    ],
)
def test_how_much_memory_is_little(tmp_path: Path, mode: Mode | None, standing: bool, free: int, level: str) -> None:
    stack = StackLook(server_process=ProcessId(1, 0.0) if standing else None)
    seen = evidence(
        tmp_path, mode, standing=standing, stack=stack, resources=Found(resources(tmp_path, memory=Memory(free * MIB)))
    )
    assert levels("platform.memory", seen) == [level]


@pytest.mark.parametrize(
    ("standing", "free", "level"),
    [(False, 3072, "ok"), (False, 3071, "warn"), (True, 1024, "ok"), (True, 1023, "warn"), (True, 299, "fail")],
)
def test_how_little_disk_is_little(tmp_path: Path, standing: bool, free: int, level: str) -> None:
    disks = {"the project": Disk(tmp_path, 1, free * MIB, None)}
    seen = evidence(tmp_path, standing=standing, resources=Found(resources(tmp_path, disks=disks)))
    assert levels("platform.disk", seen) == [level]
    assert levels("platform.inodes", seen) == ["ok"], "a file system that counts none"


def test_each_disk_is_named_once_and_only_where_it_matters(tmp_path: Path) -> None:
    disks = {
        "the project": Disk(tmp_path, 1, 0, 9),
        "the engine cache": Disk(tmp_path, 2, 0, 9),
        "PostgreSQL's data": Disk(tmp_path, 1, 0, 9),
    }
    native = evidence(tmp_path, resources=Found(resources(tmp_path, disks=disks)))
    assert [s.title for s in look("platform.disk", native)] == [
        "0 MiB of disk are free for the project and PostgreSQL's data",
        "0 MiB of disk are free for the engine cache",
    ]
    full = dataclasses.replace(native, mode=Mode.FULL)
    assert [s.title for s in look("platform.inodes", full)] == ["9 inodes are free for the project"]


def test_open_files(tmp_path: Path) -> None:
    def seen(system: str, *limits: int) -> list[Seen]:
        platform = Found(PlatformLook(system, "x86_64", "3.12.1", 1000, 4000, 20000))
        return look(
            "platform.file-limit",
            evidence(tmp_path, platform=platform, resources=Found(resources(tmp_path, open_files=limits or None))),
        )

    assert [s.level for s in seen("Linux", 1024, 1024)] == [s.level for s in seen("Darwin", 256, -1)] == ["ok"]
    assert seen("Linux", 256, -1)[0].command == "ulimit -n 4096"
    assert seen("Linux", 256, 2000)[0].command == "ulimit -n 2000"
    assert seen("Linux", 256, 512)[0].command == ""
    assert seen("Linux", -1, -1)[0].title == "no limit of open files"
    assert seen("Windows") == []


def test_an_interpreter_for_another_machine(tmp_path: Path) -> None:
    """Neither Rosetta nor a 32-bit Python is on every machine that runs the tests."""
    for values, level in (({}, "ok"), ({"emulated": "arm64"}, "warn"), ({"machine": "i686", "bits": 32}, "warn")):
        seen = evidence(tmp_path, python=Found(python(**values)))
        assert levels("platform.architecture", seen) == [level]


def test_time_zones_matter_where_the_sdk_is(tmp_path: Path) -> None:
    lacking = python(no_zones="No time zone found with key Europe/Berlin")
    seen = look("platform.time-zones", evidence(tmp_path, python=Found(lacking)))
    assert [(s.level, s.command) for s in seen] == [("warn", ".venv/bin/python -m pip install tzdata")]
    without = dataclasses.replace(lacking, sdk=None)
    assert look("platform.time-zones", evidence(tmp_path, python=Found(without))) == []


@pytest.mark.parametrize(
    ("folder", "why", "command"),
    [
        ("/var/lib/owlclaw-up/a/data", "belongs to uid 0, not to postgres", "chown -R postgres /var/lib/owlclaw-up/a"),
        ("/var/lib/owlclaw-up", "mode 0700: postgres may not enter it", "chmod a+x /var/lib/owlclaw-up"),
        ("/var/lib/owlclaw-up/a/data", "there is no user postgres any more", ""),
    ],
)
def test_a_server_that_is_kept_from_its_data(tmp_path: Path, folder: str, why: str, command: str) -> None:
    closed = ("postgres", Path(folder), why)
    seen = evidence(tmp_path, standing=True, resources=Found(resources(tmp_path, closed=closed)))
    seen.ledger.keep("postgres", base="/var/lib/owlclaw-up/a", user="postgres")
    assert [(s.level, s.command) for s in look("platform.user", seen)] == [("fail", command)]


@pytest.mark.parametrize(
    ("largest", "size", "level", "hint"),
    [
        ("state", 5 * MIB, "ok", ""),
        ("engine cache", 1024 * MIB, "info", "versions that no checkout uses"),
        ("PostgreSQL's data", 6000 * MIB, "warn", "owlclaw-up reset"),
    ],
)
def test_what_takes_most_is_what_may_go(tmp_path: Path, largest: str, size: int, level: str, hint: str) -> None:
    places = {what: tmp_path / what[:5] for what in ("state", "engine cache", "PostgreSQL's data")}
    sizes = {what: Size(size if what == largest else MIB, what != "state") for what in places}
    (seen,) = look("platform.usage", evidence(tmp_path, usage=Found(UsageLook(places, sizes))))
    assert (seen.level, seen.title.startswith("owlclaw-up uses at least ")) == (level, True)
    assert hint in seen.hint and seen.detail.startswith(largest)
