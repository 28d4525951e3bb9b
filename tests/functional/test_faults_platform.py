"""Faults of the machine, made to happen: each is named, with its evidence and its command."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli
from tests.faults import Patient
from tests.functional.machine import (
    as_root,
    doctor_in,
    document_in,
    finding_of,
    memory_limit,
    mounted,
    read_only,
    without_shared_memory,
)

FAMILY = (
    "platform.python", "platform.architecture", "platform.memory", "platform.disk", "platform.inodes",
    "platform.file-limit", "platform.time-zones", "platform.semaphores", "platform.writable", "platform.user",
    "platform.usage",
)  # fmt: skip


@pytest.fixture(scope="module")
def patient(new_module_cli: Callable[..., Cli], standin_dir: Path) -> Iterator[Patient]:
    """An environment that is up."""
    cli = new_module_cli(standin_dir)
    cli.json("up", "--smoke", "none")
    yield Patient(cli)


@pytest.fixture
def new(mock_cli: Cli) -> Patient:
    """A folder in which nothing was done yet."""
    return Patient(mock_cli)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_healthy_environment_is_silent(patient: Patient, cache: Path) -> None:
    assert patient.well(), patient.bad()
    last = patient.last
    assert last is not None
    said = {f.id for f in last.findings if f.id in FAMILY}
    assert set(FAMILY) - said == (set() if os.geteuid() == 0 else {"platform.user"})


def test_a_python_that_was_upgraded_away(new: Patient) -> None:
    root = new.cli.root
    (root / ".venv/bin").mkdir(parents=True)
    (root / ".venv/bin/python").symlink_to("/opt/python3.9/bin/python3.9")
    found = new.first()
    assert (found.id, found.level) == ("platform.python", "fail")
    assert found.title == ".venv/bin/python is a link to /opt/python3.9/bin/python3.9, which is not there any more"
    assert found.command == "python3 -m venv --clear .venv"
    assert "install the project's packages again" in found.hint
    # As the command says, but for pip, which takes its time.
    subprocess.run([sys.executable, *shlex.split(found.command)[1:], "--without-pip"], cwd=root, check=True)
    assert new.finding("platform.python").level == "ok"
    # One that is active is the one that counts.
    active = {"VIRTUAL_ENV": str(root / "other")}
    (root / "other/bin").mkdir(parents=True)
    (root / "other/bin/python").symlink_to("/nowhere")
    (root / "other/pyvenv.cfg").write_text("uv = 0.9.1\n")
    assert new.finding("platform.python", env=active).command == "uv venv --clear other"


def stand_in_python(root: Path, **about: Any) -> Path:
    """An interpreter of the project's that answers as one of another kind would."""
    usual = {
        "version": "3.12.1",
        "bits": 64,
        "machine": "x86_64",
        "emulated": "",
        "zones": "",
        "semaphores": "",
        "sdk": "",
        "pip": True,
    }
    python = root / ".venv/bin/python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(f"#!/bin/sh\necho {shlex.quote(json.dumps({**usual, **about}))}\n")
    python.chmod(0o755)
    return python


def test_a_python_that_is_too_old(new: Patient) -> None:
    """Its answer is that of a Python 3.8, of which this machine need have none."""
    python = stand_in_python(new.cli.root, version="3.8.10")
    found = new.first()
    assert (found.id, found.level) == ("platform.python", "fail")
    assert found.title == ".venv/bin/python is Python 3.8.10, and hatchet-sdk needs 3.10 or newer"
    assert found.command == "python3 -m venv --clear .venv"
    python.write_text("#!/bin/sh\necho 'cannot find the library' >&2\nexit 127\n")
    found = new.first()
    assert (found.id, found.command) == ("platform.python", "python3 -m venv --clear .venv")
    assert found.title == ".venv/bin/python does not run: cannot find the library"


def test_a_python_for_another_machine(new: Patient) -> None:
    """Neither Rosetta nor a 32-bit Python is here: the interpreter answers as one of them does."""
    stand_in_python(new.cli.root, emulated="arm64")
    found = new.finding("platform.architecture")
    assert (found.level, found.command) == ("warn", "")
    assert found.title == ".venv/bin/python is built for x86_64, and this machine is arm64"
    assert "emulated" in found.detail and "built for this machine" in found.hint
    stand_in_python(new.cli.root, machine="i686", bits=32)
    assert new.finding("platform.architecture").title == ".venv/bin/python is a Python of 32 bits"


def test_little_memory(new: Patient, patient: Patient) -> None:
    with memory_limit(150) as within:
        document = doctor_in(new.cli, within)
        found = finding_of(document, "platform.memory")
        assert (found["level"], document["findings"][0]) == ("fail", found)
        assert "of the 150 MiB that this shell is limited to" in found["title"]
        assert "owlclaw-up-test" in found["detail"] and "raise the limit" in found["hint"]
        # What runs has its memory already.
        assert finding_of(doctor_in(patient.cli, within), "platform.memory")["level"] == "warn"
    with memory_limit(400) as within:
        assert finding_of(doctor_in(new.cli, within), "platform.memory")["level"] == "warn"
        assert finding_of(doctor_in(patient.cli, within), "platform.memory")["level"] == "ok"


def test_a_disk_that_is_full(new: Patient) -> None:
    root = new.cli.root
    with mounted(root, "size=3500k"):
        (root / "data").write_bytes(bytes(3 * 2**20))
        found = new.first()
        assert (found.id, found.level) == ("platform.disk", "fail")
        assert found.title == "0 MiB of disk are free for the project"
        assert str(root) in found.detail
        assert found.command == f"df -h {root}"
        assert "owlclaw-up doctor --only platform.usage" in found.hint
        # `up` asks that check as well, before it writes anything.
        stopped = new.cli.json("up", code=3)["error"]
        assert (stopped["code"], stopped["message"]) == ("platform-disk", found.title)
        assert not (root / ".owlclaw-up").exists()
    with mounted(root, "size=2g"):
        assert new.finding("platform.disk").level == "warn"


def test_an_engine_cache_on_a_full_disk(patient: Patient, cache: Path) -> None:
    with mounted(cache, "size=200m"):
        found = patient.first()
        assert (found.id, found.level, found.title) == (
            "platform.disk",
            "fail",
            "200 MiB of disk are free for the engine cache",
        )
    with mounted(cache, "size=1500m"):
        assert patient.well(*FAMILY), "what stands wants less than an up"


def test_no_inodes(new: Patient) -> None:
    with mounted(new.cli.root, "size=8g,nr_inodes=20"):
        for number in range(15):
            (new.cli.root / f"file{number}").touch()
        found = new.first()
        assert (found.id, found.level) == ("platform.inodes", "fail")
        assert found.title == "4 inodes are free for the project"
        assert found.command == f"df -i {new.cli.root}"


def test_few_open_files(new: Patient) -> None:
    def limited(soft: str) -> dict[str, Any]:
        return finding_of(
            doctor_in(new.cli, ["sh", "-c", f'{soft}; exec "$@"', "sh"], "--only", "platform.file-limit"),
            "platform.file-limit",
        )

    found = limited("ulimit -Sn 512")
    assert (found["level"], found["title"]) == ("warn", "this shell allows 512 open files, fewer than 1024")
    assert found["command"].startswith("ulimit -n ")
    assert limited(f"ulimit -Sn 512; {found['command']}")["level"] == "ok"
    found = limited("ulimit -n 512")
    assert "the hard limit is 512" in found["detail"] and "nofile" in found["hint"]


def test_no_time_zones(new: Patient) -> None:
    found = new.finding("platform.time-zones", env={"PYTHONTZPATH": ""})
    assert (found.level, found.command) == ("warn", f"{sys.executable} -m pip install tzdata")
    assert found.title == f"{sys.executable} finds no time zones"
    assert "PYTHONTZPATH is ''" in found.detail
    assert new.finding("platform.time-zones").level == "ok"


def test_processes_that_can_share_no_locks(patient: Patient) -> None:
    """As in a chroot, or a container with a read-only file system."""
    within = without_shared_memory()
    first = doctor_in(patient.cli, within)["findings"][0]
    assert (first["id"], first["level"], first["command"]) == ("platform.semaphores", "fail", "ls -ld /dev/shm")
    assert f"no worker of {sys.executable} can start" in first["title"] and "[Errno 30]" in first["detail"]
    # The proof says the same, not just that its worker has ended.
    proofs = document_in(patient.cli, within, "smoke")["smoke"]["proofs"]
    failed = next(p for p in proofs if p["status"] == "failed")
    assert (failed["id"], failed["hop"], failed["data"]) == ("register", "registration", {"worker_exit_code": 1})
    assert failed["detail"].startswith("the worker ended with exit code 1: OSError: [Errno 30] Read-only file system")
    assert patient.finding("platform.semaphores").level == "ok"


def test_a_project_that_cannot_be_written(new: Patient, patient: Patient) -> None:
    with read_only(new.cli.root):
        found = new.first()
        assert (found.id, found.level) == ("platform.writable", "fail")
        stopped = new.cli.json("up", "--mode", "mock", code=3)["error"]
        assert (stopped["code"], stopped["message"]) == ("project-not-writable", found.title)
        assert found.hint == f"ls -ld {new.cli.root}"
    assert new.finding("platform.writable").level == "ok"
    with read_only(patient.cli.root):
        found = patient.first()
        assert (found.id, found.title) == ("platform.writable", patient.cli.json("up", code=3)["error"]["message"])


def test_data_that_the_server_s_user_does_not_reach(patient: Patient) -> None:
    """As root the server runs as another user; an ordinary user's runs as that user, and there is nothing to say."""
    kept = patient.cli.state["data"]["postgres"]
    base = Path(kept["base"])
    if kept["user"] is None:
        assert "platform.user" in patient.look().data["idle"]
        return
    shutil.chown(base, "root")
    try:
        found = patient.first()
        assert (found.id, found.level) == ("platform.user", "fail")
        assert found.command == f"chown -R {kept['user']} {base}"
        assert (
            found.title
            == f"{kept['user']} cannot reach PostgreSQL's data: {base}: mode 0700: {kept['user']} may not enter it"
        )
        subprocess.run(shlex.split(found.command), check=True)
        assert patient.finding("platform.user").level == "ok"
        shutil.chown(base / "data", "root")
        assert "data: belongs to uid 0, not to" in patient.finding("platform.user").title
    finally:
        as_root("chown", "-R", kept["user"], base)


def test_much_of_the_disk(patient: Patient, cache: Path) -> None:
    dumps = patient.cli.root / ".owlclaw-up/dumps"
    dumps.mkdir()
    try:
        for number, level in ((1, "info"), (5, "warn")):
            with (dumps / f"{number}.dump").open("wb") as file:
                # Given by the file system, though nobody has written it.
                os.posix_fallocate(file.fileno(), 0, number * 2**30)
            found = patient.finding("platform.usage")
            assert found.level == level
        assert found.title.startswith("owlclaw-up uses 6.") and found.title.endswith(" GiB of the disk")
        assert found.detail.startswith(f"state 6.0 GiB ({patient.cli.root / '.owlclaw-up'}); ")
        assert found.command == f"du -sh {patient.cli.root / '.owlclaw-up'}/*"
        assert "dumps" in found.hint
    finally:
        shutil.rmtree(dumps)
