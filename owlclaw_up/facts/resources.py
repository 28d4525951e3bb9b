"""Probes of what this machine has left for us, and of what we take of it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from owlclaw_up.facts.values import ResourcesLook, UsageLook
from owlclaw_up.host import engines
from owlclaw_up.host.resources import (
    closed_to,
    look_at_disk,
    memory_for_us,
    open_files_limit,
    size_of,
    why_not_writable,
)
from owlclaw_up.receipts import Ledger

# Seconds for counting everything that is ours.
_COUNTING = 0.4
# Where the data of a server lies that may not run as root: host.embedded.
_DATA_OF_ROOT = Path("/var/lib")


def look_at_resources(ledger: Ledger) -> ResourcesLook:
    """Memory, disks and limits, and whether we may write where we must."""
    kept = ledger.recall("postgres")
    data = Path(kept["base"]) / "data" if kept.get("base") else None
    blocked = closed_to(kept["user"], data) if data is not None and kept.get("user") else None
    folders = {"the project": ledger.project, "the engine cache": engines.cache_dir()}
    if data is not None:
        folders["PostgreSQL's data"] = data
    elif sys.platform != "win32" and os.geteuid() == 0:
        folders["PostgreSQL's data"] = _DATA_OF_ROOT
    return ResourcesLook(
        memory_for_us(), {what: look_at_disk(path) for what, path in folders.items()}, open_files_limit(),
        _refused(ledger), (kept["user"], *blocked) if blocked else None,
    )  # fmt: skip


def _refused(ledger: Ledger) -> tuple[Path, str] | None:
    """The first folder in which `up` must write and may not, with why."""
    for folder in (ledger.directory, ledger.project):
        why = why_not_writable(folder) if folder.is_dir() else ""
        if why:
            return folder, why
    return None


def look_at_usage(ledger: Ledger) -> UsageLook:
    """How much of the disk is ours, by what it is; what could not be counted in time is said to be more."""
    until = time.monotonic() + _COUNTING
    base = ledger.recall("postgres").get("base")
    parts = {"state": ledger.directory, "engine cache": engines.cache_dir()}
    if base and not Path(base).is_relative_to(ledger.directory):
        parts["PostgreSQL's data"] = Path(base)
    return UsageLook(parts, {what: size_of(path, until) for what, path in parts.items()})
