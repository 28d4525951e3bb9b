"""Hatchet's embedded engine as a program on this machine: where hatchet-sdk keeps it, and whether one that is named can run.

Names and places as of hatchet_sdk/embedded.py, which fetches and checks it; here it is only looked for.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from owlclaw_up.host.engines import EngineRefused
from owlclaw_up.spec import Sidecar

# Where its releases are.
RELEASES = "github.com/hatchet-dev/hatchet-embedded/releases"
_SYSTEMS = {"Darwin": "darwin", "Linux": "linux"}
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def asset() -> str:
    """The file of a release for this machine; empty where there is none."""
    system, machine = _SYSTEMS.get(platform.system()), _MACHINES.get(platform.machine().lower())
    return f"hatchet-embedded-sidecar_{system}_{machine}" if system and machine else ""


def cache(version: str, environ: Mapping[str, str]) -> Path:
    """The folder in which hatchet-sdk keeps a release."""
    return Path(environ.get("HOME") or Path.home()) / ".hatchet" / "embedded" / version


def named(binary: Path, version: str, checksum: str, source: str) -> Sidecar | EngineRefused:
    """A program that somebody named.

    Args:
        version: empty where nobody says it.
    """
    if not binary.is_file():
        return EngineRefused(binary, source, "sidecar-missing", f"there is no sidecar {binary}", f"ls -l {binary}")
    if not os.access(binary, os.X_OK):
        return EngineRefused(
            binary, source, "sidecar-not-executable", f"the sidecar {binary} is not executable", f"chmod +x {binary}"
        )
    return Sidecar(version, source, binary.name, binary, checksum, named=True)


def of_release(version: str, checksum: str, environ: Mapping[str, str], *, offline: bool) -> Sidecar | EngineRefused:
    """A release that hatchet-sdk has fetched, or can fetch.

    Args:
        offline: ask nobody, not even for the checksum of one that is here.
    """
    name = asset()
    if not name:
        machine = f"{platform.machine()} {platform.system()}"
        why = f"Hatchet publishes no embedded engine for {machine}, only for macOS and Linux on amd64 and arm64"
        return EngineRefused(Path(), RELEASES, "sidecar-platform", why, "owlclaw-up --mode full, with Docker")
    package = find_spec("hatchet_sdk")
    if package is None or package.origin is None or not Path(package.origin).with_name("embedded.py").is_file():
        why = "the installed hatchet-sdk cannot start an embedded engine, which came with 1.38"
        return EngineRefused(Path(), RELEASES, "sidecar-sdk", why, "pip install -U hatchet-sdk")
    binary = cache(version, environ) / name
    if not binary.is_file():
        if offline:
            why = f"Hatchet's embedded engine {version} is not in {binary.parent}, and offline is set"
            return EngineRefused(binary, RELEASES, "sidecar-offline", why, by_hand(version))
        return Sidecar(version, RELEASES, name, None, checksum, here=False)
    if not offline:
        return Sidecar(version, str(binary.parent), name, None, checksum)
    kept = binary.with_name(f"{name}.sha256")
    checksum = checksum or (kept.read_text(encoding="ascii", errors="replace").strip() if kept.is_file() else "")
    return Sidecar(version, str(binary.parent), name, binary, checksum)


def by_hand(version: str) -> str:
    """How to have the program here without fetching it from this machine."""
    return (
        f"bring {asset() or 'the sidecar'} of {version} from {RELEASES} by other means, chmod +x it, then: "
        "OWLCLAW_UP_SIDECAR_BINARY=FILE owlclaw-up"
    )
