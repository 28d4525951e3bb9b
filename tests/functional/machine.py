"""Faults of the machine that are made for real: small file systems, limits, and namespaces in which a file says something else."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import Cli, Result

# As root, or as a user who may become it: what mounts and limits need.
ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]
_CGROUP_V1, _CGROUP_V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


def as_root(*argv: str | Path) -> None:
    ran = subprocess.run([*ROOT, *map(str, argv)], check=False, capture_output=True, text=True)
    assert ran.returncode == 0, f"{argv}: {ran.stderr}"


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own on a folder, in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    as_root("mount", "-t", "tmpfs", "-o", options, "tmpfs", folder)
    try:
        yield folder
    finally:
        as_root("umount", "--lazy", folder)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder as it is, that nobody may write."""
    as_root("mount", "--bind", folder, folder)
    try:
        as_root("mount", "-o", "remount,bind,ro", folder)
        yield
    finally:
        as_root("umount", "--lazy", folder)


@contextlib.contextmanager
def memory_limit(mebibytes: int) -> Iterator[list[str]]:
    """A cgroup with little memory; gives what goes before a command line so that it runs in there."""
    v1 = _CGROUP_V1.is_dir()
    folder = (_CGROUP_V1 if v1 else _CGROUP_V2) / f"owlclaw-up-test-{os.getpid()}"
    limit = folder / ("memory.limit_in_bytes" if v1 else "memory.max")
    if not v1:
        as_root("sh", "-c", f"echo +memory > {_CGROUP_V2}/cgroup.subtree_control")
    as_root("mkdir", folder)
    try:
        as_root("sh", "-c", f"echo {mebibytes * 2**20} > {limit}")
        back = (
            []
            if os.geteuid() == 0
            else ["setpriv", f"--reuid={os.getuid()}", f"--regid={os.getgid()}", "--init-groups"]
        )
        yield [*ROOT, "sh", "-c", f'echo $$ > {folder}/cgroup.procs; exec "$@"', "sh", *back]
    finally:
        as_root("rmdir", folder)


def another_etc_hosts(file: Path) -> list[str]:
    """What goes before a command line so that it, and nothing else, has a file as /etc/hosts."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *user, "--mount", "sh", "-c", f'mount --bind {file} /etc/hosts; exec "$@"', "sh"]


def without_shared_memory() -> list[str]:
    """What goes before a command line so that nobody in there can write /dev/shm."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    mount = 'mount -t tmpfs -o ro tmpfs /dev/shm; exec "$@"'
    return ["unshare", *user, "--mount", "sh", "-c", mount, "sh"]


def doctor_in(cli: Cli, before: Sequence[str], *args: str) -> dict[str, Any]:
    """The doctor's document from the command, run behind another one."""
    return document_in(cli, before, "doctor", *args)


def document_in(cli: Cli, before: Sequence[str], *args: str) -> dict[str, Any]:
    """A command's document, run behind another one."""
    env = [f"{name}={value}" for name, value in cli.env.items()]
    ran = subprocess.run(
        [*before, "env", "-i", *env, sys.executable, "-m", "owlclaw_up", *args, "--json"],
        cwd=cli.root, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return Result(args, ran.returncode, ran.stdout, ran.stderr, 0.0).json


def finding_of(document: dict[str, Any], check: str) -> dict[str, Any]:
    """The worst finding of a check."""
    found: dict[str, Any] = next(f for f in document["findings"] if f["id"] == check)
    return found
