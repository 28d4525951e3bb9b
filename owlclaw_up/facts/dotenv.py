"""Probes of the dotenv file, of what git thinks of it, and of the places whose values win over it."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from owlclaw_up import dotenv_text
from owlclaw_up.facts.values import DotenvLook, Shadow
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Secret

# Files that hatchet-sdk reads from the working directory, later ones win: hatchet_sdk/config.py.
SDK_DOTENV_FILES = (".env", ".env.hatchet", ".env.dev", ".env.local")


def look_at_dotenv(host: Host, path: Path) -> DotenvLook:
    """The dotenv file: what it is, what it says, and what git thinks of it."""
    try:
        info = path.stat()
    except FileNotFoundError:
        if not path.parent.is_dir():
            return DotenvLook(path, "unreadable", error=f"there is no folder {path.parent}")
        return DotenvLook(path, "missing", ignored=_git_says(host, path)[1])
    except OSError as error:
        return DotenvLook(path, "unreadable", error=os.strerror(error.errno or 0))
    if not stat.S_ISREG(info.st_mode):
        kind = "directory" if stat.S_ISDIR(info.st_mode) else "unreadable"
        return DotenvLook(path, kind, error="it is no regular file")
    try:
        data = path.read_bytes()
    except OSError as error:
        return DotenvLook(path, "unreadable", error=os.strerror(error.errno or 0))
    values: Mapping[str, str] = {}
    why = ""
    try:
        values = dotenv_text.values(data)
    except dotenv_text.DotenvError as error:
        why = error.reason
    tracked, ignored = _git_says(host, path)
    return DotenvLook(path, "file", data, values, stat.S_IMODE(info.st_mode), why, tracked, ignored)


def _git_says(host: Host, path: Path) -> tuple[bool, bool | None]:
    """Whether git tracks a file, and whether it ignores it; None for the second where there is no git."""
    folder = path.parent
    inside = any((parent / ".git").exists() for parent in (folder, *folder.parents))
    if not inside or not shutil.which("git", path=host.environ.get("PATH")):
        return False, None
    git = ["git", "-C", str(folder)]
    tracked = host.processes.run([*git, "ls-files", "--error-unmatch", "--", path.name], timeout=2).exit_code == 0
    ignored = host.processes.run([*git, "check-ignore", "-q", "--", path.name], timeout=2).exit_code == 0
    return tracked, ignored


def look_for_shadows(host: Host, project: Path, env_file: Path) -> tuple[Shadow, ...]:
    """Values for hatchet-sdk and OwlClaw that win over the dotenv file: later files, and the shell."""
    shadows = []
    for name in SDK_DOTENV_FILES[1:]:
        path = project / name
        data = host.files.read(path) if path.is_file() and path != project / env_file else None
        if data:
            try:
                assignments = dotenv_text.parse(data)
            except dotenv_text.DotenvError:
                continue
            shadows += [
                Shadow(a.key, name, a.line, Secret(a.value))
                for a in assignments
                if a.key.startswith("HATCHET_CLIENT_") and a.value
            ]
    prefixes = ("HATCHET_", "OWLCLAW_DATABASE_URL", "DATABASE_URL")
    for key, value in host.environ.items():
        if key.startswith(prefixes) and value:
            shadows.append(Shadow(key, "the shell", None, Secret(value)))
    return tuple(shadows)
