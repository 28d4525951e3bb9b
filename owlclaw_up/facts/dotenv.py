"""Probes of the dotenv file, of what git thinks of it, and of every other place from which programs read our keys."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from owlclaw_up import dotenv_text
from owlclaw_up.facts.values import DotenvBackup, DotenvLook, EnvPlace, EnvPlaces
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Secret
from owlclaw_up.setting_values import ENV_KEYS
from owlclaw_up.settings import Settings

# Files that hatchet-sdk reads from the working directory, later ones win, an empty value too; and the prefix of the keys
# that it takes, from there and from the shell: hatchet_sdk/config.py.
SDK_DOTENV_FILES = (".env", ".env.hatchet", ".env.dev", ".env.local")
SDK_PREFIX = "HATCHET_CLIENT_"
SHELL = "the shell"
BACKUP_SUFFIX = ".owlclaw-up.bak"


def meant(key: str) -> str:
    """The key that a reader takes it for: hatchet-sdk makes no difference between upper and lower case."""
    return key.upper() if key.upper().startswith(SDK_PREFIX) else key


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
    return DotenvLook(
        path, "file", data, values, stat.S_IMODE(info.st_mode), why, tracked, ignored, _look_at_backup(host, path)
    )  # fmt: skip


def _look_at_backup(host: Host, path: Path) -> DotenvBackup | None:
    backup = path.with_name(path.name + BACKUP_SUFFIX)
    try:
        values = dotenv_text.values(host.files.read(backup) or b"")
    except (OSError, dotenv_text.DotenvError):
        return None
    keys = tuple(key for key, value in values.items() if value)
    return DotenvBackup(backup, keys, _git_says(host, backup)[1]) if keys else None


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


def look_for_shadows(host: Host, settings: Settings, project: Path) -> EnvPlaces:
    """Every place from which a program may read our keys: the dotenv file, later files beside it, the same files in the
    working directory where that is another one, and the shell.
    """
    env_path = project / settings.env_file.value
    ours = frozenset(settings.env_names.value.get(key, key) for key in ENV_KEYS)
    reader = _Reader(host, project, ours)
    over = [
        EnvPlace(key, SHELL, None, Secret(value))
        for key, value in host.environ.items()
        if reader.reads(key, everything=True)
    ]
    here = host.cwd
    if here not in (project, env_path.parent):
        # `owlclaw start` loads the working directory's .env; hatchet-sdk reads all four there.
        for name in reversed(SDK_DOTENV_FILES):
            over += reader.effective(here / name, everything=name == ".env")
    beside: tuple[str, ...] = SDK_DOTENV_FILES
    if env_path.parent == project and env_path.name in SDK_DOTENV_FILES:
        beside = SDK_DOTENV_FILES[SDK_DOTENV_FILES.index(env_path.name) + 1 :]
    for name in reversed(beside):
        over += reader.effective(project / name, everything=False)
    missed = here != env_path.parent and env_path.name in SDK_DOTENV_FILES
    return EnvPlaces(tuple(reader.every(env_path)), tuple(over), here if missed else None)


@dataclass(frozen=True)
class _Reader:
    """Reads our keys from dotenv files; hatchet-sdk takes only those with its own prefix, in any case of letters."""

    host: Host
    project: Path
    ours: frozenset[str]

    def reads(self, key: str, *, everything: bool) -> bool:
        if key.upper().startswith(SDK_PREFIX):
            return key in self.ours or key.upper() in self.ours
        return everything and key in self.ours

    def every(self, path: Path, *, everything: bool = True) -> list[EnvPlace]:
        """Every assignment of our keys, in the file's order; none of a file that cannot be read."""
        where = os.path.relpath(path, self.project) if path.is_relative_to(self.project) else str(path)
        try:
            data = self.host.files.read(path) if path.is_file() else None
            assignments = dotenv_text.parse(data) if data else ()
        except (OSError, dotenv_text.DotenvError):
            return []
        return [
            EnvPlace(a.key, where, a.line, Secret(a.value))
            for a in assignments
            if self.reads(a.key, everything=everything)
        ]

    def effective(self, path: Path, *, everything: bool) -> list[EnvPlace]:
        """The last assignment of each key: that one counts."""
        return list({place.key: place for place in self.every(path, everything=everything)}.values())
