"""Native engine binaries: finding them, checking them, keeping them in the user's cache. Reads and copies files."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from owlclaw_up.errors import BinaryNotRunnable, EngineUnusable
from owlclaw_up.host.base import Processes
from owlclaw_up.spec import EngineBinaries

BINARIES = ("hatchet-lite", "hatchet-admin", "hatchet-migrate")
ASSETS = "static-assets"
# Beside the binaries of an engine that came out of an image.
MANIFEST = "manifest.json"
# A build that nobody stamped: hatchet, cmd/hatchet-lite/main.go.
UNSTAMPED = "v0.1.0-alpha.0"
# ELF e_machine: System V ABI.
_MACHINES = {0x3E: "x86_64", 0xB7: "aarch64", 0x28: "arm", 0x03: "i386"}
_ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}
_IMAGE_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
# The whole of it becomes a folder's name in the cache.
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:[-+.][A-Za-z0-9.+-]*)?")


@dataclass(frozen=True)
class EngineRefused:
    """A folder that was looked into and cannot serve."""

    directory: Path
    source: str
    code: str
    why: str
    hint: str


def version_tuple(text: str) -> tuple[int, int, int]:
    """`v0.104.7` -> (0, 104, 7); (0, 0, 0) for anything else."""
    match = _VERSION.match(text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else (0, 0, 0)


def image_machine() -> str:
    """This machine as images name it (image-spec: GOARCH); empty where the binaries of Hatchet's image do not run."""
    return _IMAGE_MACHINES.get(platform.machine().lower(), "") if platform.system() == "Linux" else ""


def cache_dir() -> Path:
    """The user's engine cache: one folder per version."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("owlclaw-up")) / "engines"


def inspect(directory: Path, source: str, processes: Processes) -> EngineBinaries | EngineRefused:
    """Look into a folder: all three there, executable, of this machine, and which version they say they are."""

    def refused(code: str, why: str, hint: str) -> EngineRefused:
        return EngineRefused(directory, source, code, why, hint)

    if not directory.is_dir():
        return refused("engine-missing", f"{directory} is no folder", f"ls -l {directory}")
    for name in BINARIES:
        path = directory / name
        if not path.is_file():
            return refused(
                "engine-incomplete", f"{directory} has no {name}", f"put {', '.join(BINARIES)} into {directory}"
            )
        foreign = _foreign_architecture(path)
        if foreign:
            return refused(
                "engine-architecture",
                f"{path} is built for {foreign}, this machine is {platform.machine()} {platform.system()}",
                "take the engine's binaries for this machine",
            )
        if not os.access(path, os.X_OK):
            return refused("engine-not-executable", f"{path} is not executable", f"chmod +x {path}")
    try:
        ran = processes.run([str(directory / "hatchet-lite"), "--version"], timeout=5)
    except BinaryNotRunnable as error:
        return refused("engine-not-runnable", error.message, error.hint)
    version = ran.stdout.strip().splitlines()[-1].strip() if ran.stdout.strip() else ""
    if ran.exit_code or not _VERSION.fullmatch(version):
        said = (ran.stderr or ran.stdout).strip()[-200:] or f"exit code {ran.exit_code}"
        return refused(
            "engine-not-runnable", f"{directory / 'hatchet-lite'} --version says: {said}", f"ls -l {directory}"
        )
    damaged = _damaged(directory)
    if damaged:
        return refused(
            "engine-damaged", f"{damaged} is not as it was when it was taken out of its image", "owlclaw-up engine pull"
        )
    assets = directory / ASSETS
    return EngineBinaries(directory, source, version, assets if (assets / "index.html").is_file() else None)


def find(
    engine_dir: Path | None, kept: Path | None, environ: Mapping[str, str], processes: Processes
) -> list[EngineBinaries | EngineRefused]:
    """Engines at hand, in the order they are taken: the named folder, the last one used, the PATH, the user's cache.

    A named folder is the only candidate: what was asked for is used or refused, never silently replaced.
    """
    if engine_dir is not None:
        return [inspect(engine_dir.expanduser().absolute(), "OWLCLAW_UP_ENGINE_DIR", processes)]
    looked: list[EngineBinaries | EngineRefused] = []
    if kept is not None:
        looked.append(inspect(kept, "last run", processes))
        if isinstance(looked[0], EngineBinaries):
            return looked
    on_path = shutil.which("hatchet-lite", path=environ.get("PATH"))
    if on_path:
        looked.append(inspect(Path(on_path).resolve().parent, "PATH", processes))
    return looked + list(cached(processes))


def cached(processes: Processes) -> list[EngineBinaries | EngineRefused]:
    """Engines in the user's cache, newest version first."""
    root = cache_dir()
    folders = [p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")] if root.is_dir() else []
    folders.sort(key=lambda p: version_tuple(p.name), reverse=True)
    return [inspect(folder, "engine cache", processes) for folder in folders]


def manifest_of(directory: Path) -> dict[str, Any]:
    """What is on record of an engine that came out of an image: `image`, `digest`, and `files` with size, time and hash."""
    try:
        document = json.loads((directory / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) and isinstance(document.get("files"), dict) else {}


def _damaged(directory: Path) -> str:
    """The first file that has another size or time than on record; hashing them all would cost every `up` half a second."""
    for name, kept in manifest_of(directory).get("files", {}).items():
        try:
            info = (directory / name).stat()
        except OSError:
            return str(directory / name)
        if (info.st_size, info.st_mtime_ns) != (kept["size"], kept["mtime_ns"]):
            return str(directory / name)
    return ""


def import_engine(source: Path, processes: Processes) -> tuple[EngineBinaries, bool]:
    """Copy an engine into the user's cache, as a whole or not at all.

    Returns:
        The engine in the cache, and whether it was new there.

    Raises:
        EngineUnusable: the folder holds no engine that runs here.
    """
    looked = inspect(source.expanduser().absolute(), "import", processes)
    if isinstance(looked, EngineRefused):
        raise EngineUnusable(looked.code, looked.why, hint=looked.hint)
    root = cache_dir()
    target = root / looked.version
    try:
        new = not target.exists() or _differs(looked, target)
        if new:
            _copy(looked, root, target)
    except OSError as error:
        raise EngineUnusable(
            "engine-import",
            f"{looked.directory} could not be copied into {root}, which is as it was",
            hint=f"ls -lR {looked.directory}; df -h {root.parent}",
            detail=str(error),
        ) from None
    kept = inspect(target, "engine cache", processes)
    if isinstance(kept, EngineRefused):
        raise EngineUnusable(kept.code, kept.why, hint=kept.hint)
    return kept, new


def _copy(looked: EngineBinaries, root: Path, target: Path) -> None:
    """Copy beside the target, then rename: the target is the old one or the new one, never half of either."""
    root.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".import-", dir=root))
    replaced = staging.with_name(f"{staging.name}.replaced")
    try:
        for name in BINARIES:
            shutil.copy2(looked.directory / name, staging / name)
        if looked.assets:
            shutil.copytree(looked.assets, staging / ASSETS)
        staging.chmod(0o755)
        if target.exists():
            target.rename(replaced)
        staging.rename(target)
    except BaseException:
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def _differs(looked: EngineBinaries, kept: Path) -> bool:
    import filecmp

    files = [Path(name) for name in BINARIES]
    if looked.assets:
        files += [p.relative_to(looked.directory) for p in looked.assets.rglob("*") if p.is_file()]
    return any(
        not (kept / file).is_file() or not filecmp.cmp(looked.directory / file, kept / file, False) for file in files
    )


def built_for(path: Path) -> str:
    """The machine that a program for Linux was built for, as the system names it; empty for what is none."""
    with path.open("rb") as file:
        return _machine_in(file.read(20))


def _machine_in(head: bytes) -> str:
    if head[:4] != b"\x7fELF":
        return ""
    # A file that was cut off has no machine at all.
    order: Literal["little", "big"] = "little" if head[5:6] == b"\x01" else "big"
    return _MACHINES.get(int.from_bytes(head[18:20], order), "another machine")


def _foreign_architecture(path: Path) -> str:
    """The machine a binary was built for where that is not this one; empty for ours, for scripts and for the unknown."""
    with path.open("rb") as file:
        head = file.read(20)
    system, machine = platform.system(), platform.machine().lower()
    machine = _ALIASES.get(machine, machine)
    built = _machine_in(head)
    if built:
        return "" if system == "Linux" and built == machine else f"{built} Linux"
    if head[:4] in (b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"):
        return "" if system == "Darwin" else "macOS"
    if head[:2] == b"MZ":
        return "" if system == "Windows" else "Windows"
    return ""
