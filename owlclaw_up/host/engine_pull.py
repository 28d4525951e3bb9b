"""Hatchet's engine from a registry into the user's cache: one pull at a time, by digest, as a whole or not at all.

A pull that was interrupted, or killed, goes on from the bytes that had come. The cache serves all checkouts.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from owlclaw_up.errors import EnginePullFailed, EngineUnusable
from owlclaw_up.host.base import Clock, Processes
from owlclaw_up.host.engine_image import BrokenLayer, UnsafeImage, unpack
from owlclaw_up.host.engines import (
    ASSETS,
    BINARIES,
    MANIFEST,
    EngineRefused,
    cache_dir,
    image_machine,
    inspect,
    manifest_of,
)
from owlclaw_up.host.image_names import parse_reference
from owlclaw_up.host.oci import ImageSource, Manifest, docker_login
from owlclaw_up.spec import EngineBinaries

# Packed layers stay until the end, beside what is unpacked.
_ROOM = 4
_LOCK_POLL = 0.2


@dataclass(frozen=True)
class Pulled:
    """Attributes:
    new: whether anything was fetched.
    """

    engine: EngineBinaries
    digest: str
    new: bool


@dataclass(frozen=True)
class EnginePull:
    """One pull.

    Attributes:
        image: as the settings name it.
        source: the name that it is pulled by: the same, or a mirror's.
        offline: contact nothing off this machine.
        say: told in a few words what happens.
        progress: told the bytes that are here, and those that there are.
    """

    image: str
    source: str
    environ: Mapping[str, str]
    processes: Processes
    clock: Clock
    offline: bool = False
    say: Callable[[str], None] = lambda text: None
    progress: Callable[[int, int], None] = lambda done, total: None

    def run(self) -> Pulled:
        """Pull, unless the cache has that very image: what has its name there is not asked for again, as with Docker.

        Raises:
            EnginePullFailed: it cannot be had, or is not what it should be.
            EngineUnusable: what came does not run here.
        """
        import filelock

        machine = image_machine()
        if not machine:
            raise self._failed(
                "platform", f"it holds binaries for Linux, this is {platform.system()} {platform.machine()}"
            )
        root = cache_dir()
        kept = self._there(root, image=self.image)
        if kept is not None:
            return kept
        reference = parse_reference(self.source)
        if self.offline and not reference.plain:
            raise self._failed("offline", f"{reference.registry} is another machine")
        try:
            root.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(root / ".pull.lock", mode=0o600)
            self._acquire(lock)
        except OSError as error:
            raise self._no_room(root, error) from None
        source = ImageSource(
            self.image, reference, self.clock, docker_login(reference.registry, self.environ), self.say
        )
        try:
            self.say(f"asking {reference.registry}")
            manifest = source.manifest(machine)
            kept = self._there(root, digest=manifest.digest)
            if kept is not None:
                return kept
            return Pulled(self._fetch(root, source, manifest), manifest.digest, True)
        except OSError as error:
            raise self._no_room(root, error) from None
        finally:
            source.close()
            lock.release()

    def _acquire(self, lock: object) -> None:
        """Wait for another pull: it may well be of the same image."""
        import filelock

        assert isinstance(lock, filelock.BaseFileLock)
        said = False
        while True:
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                if not said:
                    self.say("waiting for another pull on this machine")
                said = True
                self.clock.sleep(_LOCK_POLL)
            else:
                return

    def _there(self, root: Path, **wanted: str) -> Pulled | None:
        """An engine of that image, or digest, which is as it came, every byte of it."""
        for folder in root.iterdir() if root.is_dir() else ():
            kept = manifest_of(folder) if folder.is_dir() and not folder.name.startswith(".") else {}
            if not kept or any(kept.get(key) != value for key, value in wanted.items()):
                continue
            if any(_sha256(folder / name) != file["sha256"] for name, file in kept["files"].items()):
                continue
            looked = inspect(folder, "engine cache", self.processes)
            if isinstance(looked, EngineBinaries):
                return Pulled(looked, str(kept.get("digest")), False)
        return None

    def _fetch(self, root: Path, source: ImageSource, manifest: Manifest) -> EngineBinaries:
        parts = root / f".pull-{manifest.digest.partition(':')[2][:16]}"
        parts.mkdir(exist_ok=True)
        paths = [parts / layer.digest.partition(":")[2] for layer in manifest.layers]
        here = sum(path.stat().st_size for path in paths if path.exists())
        free = shutil.disk_usage(root).free
        if free < (manifest.size - here) + (_ROOM - 1) * manifest.size:
            raise self._failed(
                "disk-full", f"{free >> 20} MiB are free, {_ROOM * manifest.size >> 20} MiB are wanted in {root}"
            )
        done = 0
        for layer, path in zip(manifest.layers, paths, strict=True):
            source.fetch(layer, path, lambda came, _, before=done: self.progress(before + came, manifest.size))  # type: ignore[misc]
            done += layer.size
        staging = Path(tempfile.mkdtemp(prefix=".pulled-", dir=root))
        try:
            engine = self._put(root, staging, paths, manifest.digest)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(parts, ignore_errors=True)
        return engine

    def _put(self, root: Path, staging: Path, layers: list[Path], digest: str) -> EngineBinaries:
        try:
            found = unpack(layers, staging, self.say)
        except UnsafeImage as error:
            raise self._failed("unsafe", str(error)) from None
        except BrokenLayer as error:
            raise self._failed("broken", str(error)) from None
        missing = [name for name in BINARIES if name not in found.binaries]
        if missing:
            raise self._failed("no-engine", f"{', '.join(missing)} not in it")
        looked = inspect(staging, "engine cache", self.processes)
        if isinstance(looked, EngineRefused):
            raise EngineUnusable(looked.code, looked.why.replace(str(staging), self.image), hint=looked.hint)
        files = {}
        for path in (*(staging / name for name in BINARIES), *sorted((staging / ASSETS).rglob("*"))):
            if path.is_file():
                info = path.stat()
                files[path.relative_to(staging).as_posix()] = {
                    "size": info.st_size, "mtime_ns": info.st_mtime_ns, "sha256": _sha256(path),
                }  # fmt: skip
        document = {"image": self.image, "digest": digest, "version": looked.version, "files": files}
        (staging / MANIFEST).write_text(json.dumps(document, indent=1) + "\n")
        staging.chmod(0o755)
        target = root / f"{looked.version}+{digest.partition(':')[2][:12]}"
        if target.exists():
            # Of the same digest, and damaged since.
            shutil.rmtree(target)
        staging.rename(target)
        kept = inspect(target, "engine cache", self.processes)
        assert isinstance(kept, EngineBinaries), kept
        return kept

    def _no_room(self, root: Path, error: OSError) -> EnginePullFailed:
        return self._failed("disk-full" if error.errno in (28, 122) else "other", f"{root}: {error}")

    def _failed(self, kind: str, words: str) -> EnginePullFailed:
        return EnginePullFailed(self.image, self.source, kind, words)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()
