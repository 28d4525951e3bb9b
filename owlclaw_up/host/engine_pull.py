"""Hatchet's engine out of its image into the user's cache: one pull at a time, by digest, as a whole or not at all.

From Docker where it has the image, else from the registry. A download that was interrupted, or killed, goes on from the bytes that
had come. The cache serves all checkouts; an engine is known there by its image's id, which is the same wherever it came from.
"""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from owlclaw_up.errors import DockerAway, DockerRefused, EnginePullFailed, EngineUnusable
from owlclaw_up.host.base import Clock, Processes
from owlclaw_up.host.docker_engines import answering
from owlclaw_up.host.docker_images import InDocker, look_in_docker
from owlclaw_up.host.engine_image import unpack
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
from owlclaw_up.host.held_image import HeldImage, ImageUnfit, diff_ids, in_file, layers_of
from owlclaw_up.host.image_names import Reference, parse_reference
from owlclaw_up.host.oci import ImageSource, Manifest, docker_login, kind_of_disk_error, sha256_of
from owlclaw_up.model import Found, Unknown
from owlclaw_up.spec import EngineBinaries

# Packed layers stay until the end, beside what is unpacked; an archive of Docker's is unpacked already.
_ROOM, _DOCKER_ROOM = 4, 2
_LOCK_POLL = 0.2
_STAGING = ".pulled-"
_WITH_NETWORK = "with a network: owlclaw-up engine pull"


@dataclass(frozen=True)
class Pulled:
    """Attributes:
    digest: a registry's, of the image, where it is known; else the image's id.
    source: `cache`, `docker`, `docker-store` (of a Docker that is not running) or `registry`.
    """

    engine: EngineBinaries
    image_id: str
    digest: str
    source: str

    @property
    def new(self) -> bool:
        """Whether anything was put into the cache."""
        return self.source != "cache"


@dataclass(frozen=True)
class EnginePull:
    """One pull.

    Attributes:
        image: as the settings name it.
        source: the name that it is pulled by: the same, or a mirror's.
        environ: says where Docker is, and where logins are.
        offline: contact nothing off this machine.
        say: told in a few words what happens.
        note: told what is worth a line that stays: why Docker's image was not taken.
        progress: told the bytes that are here, and those that there are.
    """

    image: str
    source: str
    environ: Mapping[str, str]
    processes: Processes
    clock: Clock
    offline: bool = False
    say: Callable[[str], None] = lambda text: None
    note: Callable[[str], None] = lambda text: None
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
        kept = self._there(root, "image", self.image)
        if kept is not None:
            return kept
        in_docker = look_in_docker(self.image, machine, self.environ, answering(self.environ))
        reference = parse_reference(self.source)
        if not isinstance(in_docker, Found):
            if self._barred(reference):
                why = f"{in_docker.why}; {reference.registry} is another machine"
                raise self._failed(in_docker.kind or "offline", why)
            if isinstance(in_docker, Unknown):
                self.note(f"not out of Docker: {in_docker.why}")
        try:
            root.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(root / ".pull.lock", mode=0o600)
            self._acquire(lock)
        except OSError as error:
            raise self._no_room(root, error) from None
        try:
            # Another pull may have brought it meanwhile; one that was killed has left what it was at.
            kept = self._there(root, "image", self.image)
            if kept is not None:
                return kept
            for left in root.glob(f"{_STAGING}*"):
                shutil.rmtree(left, ignore_errors=True)
            if not isinstance(in_docker, Found):
                return self._from_registry(root, reference, machine)
            try:
                return self._from_docker(root, in_docker.value)
            except EnginePullFailed as error:
                if self._barred(reference):
                    error.hint = f"{_WITH_NETWORK}; or fetch it into Docker again: docker pull {self.image}"
                    raise
                refused = error.detail
                self.note(f"not out of Docker: {refused}")
            try:
                return self._from_registry(root, reference, machine)
            except EnginePullFailed as error:
                error.detail += f"\nbefore that, out of Docker: {refused}"
                raise
        except OSError as error:
            raise self._no_room(root, error) from None
        finally:
            lock.release()

    def _barred(self, reference: Reference) -> bool:
        """Whether the registry may not be asked."""
        return self.offline and not reference.plain

    def _from_docker(self, root: Path, held: InDocker) -> Pulled:
        self.say(f"taking it out of Docker ({held.where})")
        self._want(root, _DOCKER_ROOM * held.size)
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=root))
        try:
            image = held.take(staging, self.progress)
            kept = self._there(root, "id", image.id)
            return kept or self._put(root, image, held.digest or image.id, held.source)
        except ImageUnfit as error:
            raise self._failed(error.kind, str(error)) from None
        except (DockerRefused, DockerAway) as error:
            raise self._failed("other", error.message) from None
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _from_registry(self, root: Path, reference: Reference, machine: str) -> Pulled:
        login = docker_login(reference.registry, self.environ)
        source = ImageSource(self.image, reference, self.clock, login, self.say)
        try:
            self.say(f"asking {reference.registry}")
            manifest = source.manifest(machine)
            kept = self._there(root, "id", manifest.config)
            return kept or self._fetch(root, source, manifest, machine)
        except ImageUnfit as error:
            raise self._failed(error.kind, str(error)) from None
        finally:
            source.close()

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

    def _there(self, root: Path, key: str, value: str) -> Pulled | None:
        """An engine with that on record, which is as it came, every byte of it."""
        for folder in root.iterdir() if root.is_dir() else ():
            kept = manifest_of(folder) if folder.is_dir() and not folder.name.startswith(".") else {}
            if not kept or kept.get(key) != value:
                continue
            if not all(_is(folder / name, file["sha256"]) for name, file in kept["files"].items()):
                continue
            looked = inspect(folder, "engine cache", self.processes)
            if isinstance(looked, EngineBinaries):
                return Pulled(looked, str(kept.get("id", "")), str(kept.get("digest", "")), "cache")
        return None

    def _fetch(self, root: Path, source: ImageSource, manifest: Manifest, machine: str) -> Pulled:
        parts = root / f".pull-{manifest.digest.partition(':')[2][:16]}"
        parts.mkdir(exist_ok=True)
        paths = [parts / layer.digest.partition(":")[2] for layer in manifest.layers]
        here = sum(path.stat().st_size for path in paths if path.exists())
        self._want(root, _ROOM * manifest.size - here)
        ids = diff_ids(source.config(manifest), manifest.config, machine)
        image = HeldImage(manifest.config, layers_of(ids, [in_file(path) for path in paths]))
        done = 0
        for layer, path in zip(manifest.layers, paths, strict=True):
            source.fetch(layer, path, lambda came, _, before=done: self.progress(before + came, manifest.size))  # type: ignore[misc]
            done += layer.size
        pulled = self._put(root, image, manifest.digest, "registry")
        shutil.rmtree(parts, ignore_errors=True)
        return pulled

    def _want(self, root: Path, size: int) -> None:
        free = shutil.disk_usage(root).free
        if free < size:
            raise self._failed("disk-full", f"{free >> 20} MiB are free, {size >> 20} MiB are wanted in {root}")

    def _put(self, root: Path, image: HeldImage, digest: str, source: str) -> Pulled:
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=root))
        try:
            return Pulled(self._unpacked(root, staging, image, digest), image.id, digest, source)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _unpacked(self, root: Path, staging: Path, image: HeldImage, digest: str) -> EngineBinaries:
        unpack(image.layers, staging, self.say)
        looked = inspect(staging, "engine cache", self.processes)
        if isinstance(looked, EngineRefused):
            raise EngineUnusable(looked.code, looked.why.replace(str(staging), self.image), hint=looked.hint)
        files = {}
        for path in (*(staging / name for name in BINARIES), *sorted((staging / ASSETS).rglob("*"))):
            if path.is_file():
                info = path.stat()
                files[path.relative_to(staging).as_posix()] = {
                    "size": info.st_size, "mtime_ns": info.st_mtime_ns, "sha256": sha256_of(path),
                }  # fmt: skip
        document = {"image": self.image, "id": image.id, "digest": digest, "version": looked.version, "files": files}
        (staging / MANIFEST).write_text(json.dumps(document, indent=1) + "\n")
        staging.chmod(0o755)
        target = root / f"{looked.version}+{image.id.partition(':')[2][:12]}"
        if target.exists():
            # Of the same image, and damaged since.
            shutil.rmtree(target)
        staging.rename(target)
        kept = inspect(target, "engine cache", self.processes)
        assert isinstance(kept, EngineBinaries), kept
        return kept

    def _no_room(self, root: Path, error: OSError) -> EnginePullFailed:
        return self._failed(kind_of_disk_error(error), f"{root}: {error}")

    def _failed(self, kind: str, words: str) -> EnginePullFailed:
        return EnginePullFailed(self.image, self.source, kind, words)


def _is(path: Path, digest: str) -> bool:
    """Whether a file is there, and is as it was."""
    try:
        return sha256_of(path) == digest
    except OSError:
        return False
