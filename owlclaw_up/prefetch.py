"""`prefetch`: everything that a machine without network needs, in one folder. Kept is what is whole; a killed run goes on."""

from __future__ import annotations

import dataclasses
import platform
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from owlclaw_up import __version__
from owlclaw_up.errors import EnginePullFailed, PrefetchFailed, UsageError
from owlclaw_up.host import docker_engines
from owlclaw_up.host.bundle import BundleFolder, making
from owlclaw_up.host.bundle_base import ENGINE, IMAGES, WHEELS, Bundle, BundleImage, machine_named
from owlclaw_up.host.docker_base import Docker, ImageLook
from owlclaw_up.host.engine_image import unpack
from owlclaw_up.host.engines import BINARIES, EngineRefused, built_for, cached, inspect, manifest_of
from owlclaw_up.host.held_image import ImageUnfit, diff_ids, in_file, layers_of
from owlclaw_up.host.image_archive import write_archive
from owlclaw_up.host.image_names import on_mirror, parse_reference
from owlclaw_up.host.oci import ImageSource, Layer, Manifest, docker_login
from owlclaw_up.host.wheels import Wheels, python_version
from owlclaw_up.model import (
    Action,
    Listener,
    Outcome,
    StepFinished,
    StepProgress,
    StepReport,
    StepStarted,
    Transfer,
    found,
)
from owlclaw_up.project import Project
from owlclaw_up.receipts import now_text
from owlclaw_up.spec import EngineBinaries
from owlclaw_up.steps.engine_fetch import FetchEngine

# What each mode needs besides the wheels.
MODES = {
    "all": ("hatchet", "postgres", ENGINE), "full": ("hatchet", "postgres"), "hatchet-only": ("hatchet",),
    "native": (ENGINE,),
}  # fmt: skip
PLATFORMS = ("linux/amd64", "linux/arm64")
# Wheels were 45 MB; their size is known only once they are here.
_WHEELS_BYTES = 96 << 20
# What an engine takes unpacked, by what its image's layers take packed.
_UNPACKED = 4


@dataclasses.dataclass(frozen=True)
class Wish:
    """What was asked for. Attributes: platform: empty for this machine's."""

    folder: Path
    mode: str = "all"
    platform: str = ""


@dataclasses.dataclass
class _Image:
    """One image on its way into the folder.

    Attributes:
        look: as Docker has it; None where it comes from its registry.
        manifest: as its registry has it.
    """

    role: str
    name: str
    look: ImageLook | None = None
    source: ImageSource | None = None
    manifest: Manifest | None = None

    @property
    def short(self) -> str:
        return self.name.rpartition("/")[2]

    @property
    def file(self) -> str:
        return f"{IMAGES}/{re.sub('[^A-Za-z0-9._-]+', '_', self.name)}.tar"

    @property
    def bytes_needed(self) -> int:
        # Layers come beside the archive that is made of them.
        return self.look.size if self.look else 2 * self.manifest.size if self.manifest else 0


class Prefetch:
    """One run.

    Raises, from `run`:
        UpError: something cannot be had, or the folder cannot be used; what is whole stays in it.
    """

    def __init__(self, project: Project, wish: Wish, listener: Listener) -> None:
        self.project, self.wish, self.listener = project, wish, listener
        self.host, self.settings = project.host, project.settings
        self.here = f"linux/{machine_named(platform.machine())}"
        self.platform = wish.platform or self.here
        self.machine = self.platform.partition("/")[2]
        self._docker: Docker | None = None
        self._opened: list[ImageSource] = []

    @property
    def _for_here(self) -> bool:
        return self.platform == self.here and platform.system() == "Linux"

    def run(self) -> Outcome:
        begun = self.host.clock.monotonic()
        self._check()
        folder = self.wish.folder.expanduser().resolve()
        wanted = Bundle(folder, self.platform, f"owlclaw-up {__version__}", now_text(self.host.clock), python_version())
        try:
            with making(folder, wanted) as making_it:
                new = self._make(making_it)
                kept = making_it.kept
        except EnginePullFailed as error:
            error.hint = error.hint.replace(
                "owlclaw-up engine pull", f"owlclaw-up prefetch {shlex.quote(str(self.wish.folder))}"
            )
            raise
        finally:
            for source in self._opened:
                source.close()
        data = {
            "folder": str(folder), "new": new, "bytes": kept.size, "files": len(kept.files), "platform": kept.platform,
            "python": kept.python, "engine": kept.engine or None, "wheels": len(kept.below(WHEELS)),
            "parts": {part: sum(file.size for file in kept.below(part)) for part in (IMAGES, ENGINE, WHEELS)},
            "images": [{"role": i.role, "name": i.name, "digest": i.digest, "file": i.file} for i in kept.images],
        }  # fmt: skip
        seconds = self.host.clock.monotonic() - begun
        return Outcome("prefetch", "ok", 0, seconds=seconds, project=self.project.root, data=data)

    def _check(self) -> None:
        if self.wish.mode not in MODES:
            raise UsageError(f"there is no mode {self.wish.mode!r} to prefetch for", hint=f"one of {', '.join(MODES)}")
        if self.platform not in PLATFORMS:
            raise UsageError(
                f"there are no images and no engine for {self.platform!r}", hint=f"--platform {' or '.join(PLATFORMS)}"
            )
        for name in self._images_wanted().values():
            if "@" in name:
                # Docker gives no image such a name that it did not pull.
                raise PrefetchFailed(
                    "prefetch-image", f"{name} is named by its digest, and no archive can give an image such a name",
                    hint="name it by a tag: hatchet_image, postgres_image",
                )  # fmt: skip

    def _images_wanted(self) -> dict[str, str]:
        names = {"hatchet": self.settings.hatchet_image.value, "postgres": self.settings.postgres_image.value}
        return {role: name for role, name in names.items() if role in MODES[self.wish.mode]}

    def _make(self, folder: BundleFolder) -> bool:
        """Put in what is not there yet; gives whether that was anything."""
        named = {"hatchet": self.settings.hatchet_image.value, "postgres": self.settings.postgres_image.value}
        stale = [image for image in folder.kept.images if named[image.role] != image.name]
        if stale:
            gone = {image.file for image in stale}
            folder.put(
                images=tuple(i for i in folder.kept.images if i not in stale),
                files=tuple(f for f in folder.kept.files if f.name not in gone),
            )
        images = [_Image(role, name) for role, name in self._images_wanted().items() if not folder.kept.image(name)]
        for image in images:
            self._find(image)
        engine = ENGINE in MODES[self.wish.mode] and not (
            folder.kept.engine and folder.kept.engine_of == self._engine_of
        )
        wheels = Wheels(
            self.machine, self._for_here, self.host.processes, self.host.environ,
            lambda text: self.listener(StepProgress(WHEELS, text)),
        )  # fmt: skip
        identity = wheels.identity
        more = folder.kept.wheels_of != identity
        if more and self.settings.offline.value:
            raise PrefetchFailed(
                "prefetch-offline", f"wheels come from a package index, and {self.settings.offline.origin} says offline",
                hint=f"with a network: owlclaw-up prefetch {self.wish.folder}",
            )  # fmt: skip
        self._refuse_full(folder, images, engine=engine, wheels=more)
        if images or engine or more:
            # From now on it is not finished, also where it was.
            folder.put()
            folder.partial.mkdir(exist_ok=True)
        for image in images:
            title = "Hatchet image" if image.role == "hatchet" else "PostgreSQL image"
            self._step(f"image.{image.role}", title, lambda image=image: self._put_image(folder, image))  # type: ignore[misc]
        if engine:
            self._step(ENGINE, "Engine", lambda: self._put_engine(folder))
        if more:
            self._step(WHEELS, "Wheels", lambda: self._put_wheels(folder, wheels, identity))
        if not folder.complete:
            folder.finish(note(folder.kept))
            return True
        return False

    def _step(self, id: str, title: str, work: Callable[[], str]) -> None:
        self.listener(StepStarted(id, title))
        begun = self.host.clock.monotonic()
        detail = work()
        seconds = self.host.clock.monotonic() - begun
        self.listener(StepFinished(StepReport(id, title, Action.CREATE, "done", seconds, detail)))

    def _say(self, title: str) -> Callable[[str], None]:
        return lambda text: self.listener(StepProgress(title, text))

    def _find(self, image: _Image) -> None:
        """Where an image comes from, and how much of it there is: Docker where it has it, else its registry."""
        if self._docker is None:
            # Images can be had of one without compose, too.
            address = found(docker_engines.answering(self.host.environ))
            self._docker = self.host.docker(address) if address else None
        look = self._docker.image(image.name) if self._docker else None
        if look is not None and machine_named(look.architecture) == self.machine:
            image.look = look
        else:
            image.source, image.manifest = self._of_registry(image.name)

    def _of_registry(self, name: str) -> tuple[ImageSource, Manifest]:
        reference = parse_reference(on_mirror(name, self.settings.registry_mirror.value))
        if self.settings.offline.value and not reference.plain:
            raise PrefetchFailed(
                "prefetch-offline", f"{name} is not in Docker here, and {self.settings.offline.origin} says offline",
                hint=f"with a network: owlclaw-up prefetch {self.wish.folder}",
            )  # fmt: skip
        source = ImageSource(
            name, reference, self.host.clock, docker_login(reference.registry, self.host.environ), self._say("images")
        )
        self._opened.append(source)
        return source, source.manifest(self.machine)

    def _refuse_full(self, folder: BundleFolder, images: Sequence[_Image], *, engine: bool, wheels: bool) -> None:
        """See that there is room, before anything comes."""
        needed = {image.name: image.bytes_needed for image in images}
        if engine:
            packed = next((i.manifest.size for i in images if i.role == "hatchet" and i.manifest), 0)
            whole = next((i.look.size for i in images if i.role == "hatchet" and i.look), 0)
            needed["the engine"] = whole or _UNPACKED * packed
        if wheels:
            needed["wheels"] = _WHEELS_BYTES
        there = sum(path.stat().st_size for path in folder.partial.rglob("*") if path.is_file())
        free = shutil.disk_usage(folder.path).free
        if sum(needed.values()) > free + there:
            listed = ", ".join(f"{what} {size / 1e6:.0f} MB" for what, size in needed.items() if size)
            raise PrefetchFailed(
                "prefetch-disk-full",
                f"{folder.path} has {free / 1e6:.0f} MB free, and {sum(needed.values()) / 1e6:.0f} MB are wanted: {listed}",
                hint=f"df -h {folder.path}; or less of it: --mode native",
            )  # fmt: skip

    def _put_image(self, folder: BundleFolder, image: _Image) -> str:
        staged = folder.partial / Path(image.file).name
        target = folder.path / image.file
        target.parent.mkdir(exist_ok=True)
        if image.look is not None:
            assert self._docker is not None
            total = image.look.size
            self._docker.save(
                image.name,
                staged,
                lambda done: self.listener(Transfer(image.name, image.short, min(done, total), total)),
            )
            digest, come_from = image.look.digest, "Docker"
        else:
            assert image.source is not None and image.manifest is not None
            blobs = self._layers(folder, image.source, image.manifest)
            write_archive(staged, image.name, image.manifest, blobs)
            digest, come_from = image.manifest.digest, image.source.reference.registry
        staged.replace(target)
        made = BundleImage(image.role, image.name, digest, image.file)
        folder.put(images=(*folder.kept.images, made), files=folder.record(image.file))
        return f"{image.short}, {target.stat().st_size / 1e6:.0f} MB from {come_from}"

    def _layers(self, folder: BundleFolder, source: ImageSource, manifest: Manifest) -> dict[str, Path]:
        """Configuration and layers as files, each verified; what has come already stays."""
        blobs: dict[str, Path] = {}
        wanted, done = (Layer(manifest.config, manifest.config_size), *manifest.layers), 0
        total, short = sum(layer.size for layer in wanted), source.image.rpartition("/")[2]
        for layer in wanted:
            blobs[layer.digest] = folder.partial / layer.digest.partition(":")[2]
            source.fetch(
                layer, blobs[layer.digest],
                lambda come, _, before=done: self.listener(Transfer(source.image, short, before + come, total)),  # type: ignore[misc]
            )  # fmt: skip
            done += layer.size
        try:
            # Also whether it is for the platform that is wanted.
            diff_ids(blobs[manifest.config].read_bytes(), manifest.config, self.machine)
        except ImageUnfit as error:
            raise EnginePullFailed(source.image, source.image, error.kind, str(error)) from None
        return blobs

    @property
    def _engine_of(self) -> str:
        """What the engine is to be taken out of."""
        named = self.settings.engine_dir.value if self._for_here else None
        return str(named.expanduser().absolute()) if named else self.settings.hatchet_image.value

    def _put_engine(self, folder: BundleFolder) -> str:
        staged = folder.partial / ENGINE
        shutil.rmtree(staged, ignore_errors=True)
        engine = self._engine_here(folder)
        if engine is None:
            version, come_from = self._engine_of_image(folder, staged), f"out of {self.settings.hatchet_image.value}"
        else:
            _copy_engine(engine, staged)
            version, come_from = engine.version, engine.source
        folder.put(engine=version, engine_of=self._engine_of, files=folder.take(ENGINE, staged))
        return f"{version}, {come_from}"

    def _engine_here(self, folder: BundleFolder) -> EngineBinaries | None:
        """The engine for this very platform: the named one, that of the cache, one that is pulled into it; None where its
        image has to be unpacked in the folder."""
        if not self._for_here:
            return None
        named, image = self.settings.engine_dir.value, self.settings.hatchet_image.value
        if named is not None:
            looked = inspect(named.expanduser().absolute(), "OWLCLAW_UP_ENGINE_DIR", self.host.processes)
            if isinstance(looked, EngineRefused):
                raise PrefetchFailed("prefetch-engine", looked.why, hint=looked.hint)
            return looked
        tag = image.rpartition(":")[2]
        for each in cached(self.host.processes):
            if isinstance(each, EngineBinaries) and (
                manifest_of(each.directory).get("image") == image or each.version == tag
            ):
                return each
        if self._layers_here(folder):
            return None
        fetch = FetchEngine(self.settings)
        return fetch.pull(self.host, self._say(ENGINE), self.listener).engine

    def _layers_here(self, folder: BundleFolder) -> bool:
        """Whether this run has had the engine's image from its registry."""
        return any(s.image == self.settings.hatchet_image.value for s in self._opened) and folder.partial.is_dir()

    def _engine_of_image(self, folder: BundleFolder, staged: Path) -> str:
        image = self.settings.hatchet_image.value
        source, manifest = self._of_registry(image)
        blobs = self._layers(folder, source, manifest)
        staged.mkdir()
        ids = diff_ids(blobs[manifest.config].read_bytes(), manifest.config, self.machine)
        opened = [in_file(blobs[layer.digest]) for layer in manifest.layers]
        try:
            unpack(layers_of(ids, opened), staged, self._say(ENGINE))
        except ImageUnfit as error:
            raise EnginePullFailed(image, image, error.kind, str(error)) from None
        for name in BINARIES:
            built = machine_named(built_for(staged / name))
            if built and built != self.machine:
                raise PrefetchFailed(
                    "prefetch-engine", f"{name} in {image} is built for {built}, not for {self.machine}",
                    hint="name another image: hatchet_image",
                )  # fmt: skip
        if self._for_here:
            looked = inspect(staged, "its image", self.host.processes)
            if isinstance(looked, EngineRefused):
                raise PrefetchFailed("prefetch-engine", looked.why.replace(str(staged), image), hint=looked.hint)
            return looked.version
        return image.rpartition(":")[2]

    def _put_wheels(self, folder: BundleFolder, wheels: Wheels, identity: str) -> str:
        staged = folder.partial / WHEELS
        wheels.collect(staged)
        folder.put(wheels_of=identity, python=python_version(), files=folder.take(WHEELS, staged))
        made = folder.kept.below(WHEELS)
        return f"{len(made)} for Python {python_version()}, {sum(file.size for file in made) / 1e6:.0f} MB"


def prefetch(project: Project, wish: Wish, listener: Listener) -> Outcome:
    """Make the folder, or go on with it.

    Raises:
        UpError: something cannot be had, or the folder cannot be used; what is whole stays in it.
    """
    return Prefetch(project, wish, listener).run()


def _copy_engine(engine: EngineBinaries, target: Path) -> None:
    target.mkdir()
    for name in BINARIES:
        shutil.copy2(engine.directory / name, target / name)
    if engine.assets:
        shutil.copytree(engine.assets, target / engine.assets.name)


def note(bundle: Bundle) -> str:
    """What to type on the other machine."""
    images = "".join(f"  {image.name}\n" for image in bundle.images)
    engine = f"  engine {bundle.engine}\n" if bundle.engine else ""
    return f"""Made by {bundle.made_by} at {bundle.made_at}, for {bundle.platform} and Python {bundle.python}.

{images}{engine}  owlclaw-up and what it needs, as wheels

On the machine without network, in your project (DIR is this folder):

  python3 -m venv .venv
  .venv/bin/pip install --no-index --find-links DIR/wheels owlclaw-up
  .venv/bin/owlclaw-up up --offline --from DIR

Afterwards this folder is needed no more: images are in Docker, the engine is in the user's cache.

By hand: docker load -i DIR/images/FILE.tar, and owlclaw-up engine import DIR/engine
"""
