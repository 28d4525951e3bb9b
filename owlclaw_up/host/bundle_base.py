"""What a folder for a machine without network holds, as values; and its manifest, read and written. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from owlclaw_up.errors import BundleUnusable

SCHEMA = "owlclaw-up/bundle/1"
# The manifest is written last: until then its place is held by the other one, which says what is whole already.
MANIFEST, UNFINISHED = "manifest.json", "unfinished.json"
IMAGES, ENGINE, WHEELS = "images", "engine", "wheels"
PARTS = (IMAGES, ENGINE, WHEELS)
ROLES = ("hatchet", "postgres")
# Of a manifest: nothing that `prefetch` makes has one that is nearly as long.
LONGEST = 16 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PLATFORM = re.compile(r"linux/(amd64|arm64)")
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True)
class BundleFile:
    """Attributes: name: its path from the folder; size: in bytes."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class BundleImage:
    """An image as an archive that Docker loads.

    Attributes:
        name: as the settings of the machine that made it name it, and as it is called once it is loaded.
        digest: what tells this very image from every other.
        file: name of the archive.
    """

    role: str
    name: str
    digest: str
    file: str


@dataclass(frozen=True)
class Bundle:
    """A folder made by `prefetch`.

    Attributes:
        platform: of images, engine and wheels: `linux/amd64`, `linux/arm64`.
        python: the version of Python that the wheels are for, `3.11`; empty where there are none.
        engine: version of the native engine in it; empty where there is none.
        engine_of: what it was taken out of: an image, or a folder.
        wheels_of: what tells whether the wheels are those of the owlclaw-up that looks at them.
    """

    folder: Path
    platform: str
    made_by: str = ""
    made_at: str = ""
    python: str = ""
    engine: str = ""
    engine_of: str = ""
    wheels_of: str = ""
    images: tuple[BundleImage, ...] = ()
    files: tuple[BundleFile, ...] = ()

    @property
    def machine(self) -> str:
        """As images name it."""
        return self.platform.partition("/")[2]

    @property
    def size(self) -> int:
        """Bytes of everything in it."""
        return sum(file.size for file in self.files)

    def below(self, part: str) -> tuple[BundleFile, ...]:
        """The files of a part: `images`, `engine`, `wheels`."""
        return tuple(file for file in self.files if file.name.startswith(f"{part}/"))

    def file(self, name: str) -> BundleFile | None:
        return next((file for file in self.files if file.name == name), None)

    def image(self, name: str) -> BundleImage | None:
        """The image of that name."""
        return next((image for image in self.images if image.name == name), None)

    def wheel(self, project: str) -> BundleFile | None:
        """The wheel of a project, by the name that its files have."""
        return next((w for w in self.below(WHEELS) if w.name.startswith(f"{WHEELS}/{project}-")), None)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "schema": SCHEMA, "made_by": self.made_by, "made_at": self.made_at, "platform": self.platform,
            "python": self.python, "engine": self.engine, "engine_of": self.engine_of, "wheels_of": self.wheels_of,
            "images": [vars(image) for image in self.images], "files": [vars(file) for file in self.files],
        }  # fmt: skip


@dataclass(frozen=True)
class BundledImage:
    """An image that Docker lacks and a folder has.

    Attributes:
        bundle: that folder.
    """

    image: BundleImage
    bundle: Bundle = field(repr=False)


def machine_named(name: str) -> str:
    """A machine as images name it, whoever named it; as it is where it is none of those that there are images for."""
    return _MACHINES.get(name.lower(), name)


def parse(folder: Path, data: bytes) -> Bundle:
    """A manifest, read.

    Raises:
        BundleUnusable: it is none, is of another version, or names what lies elsewhere.
    """

    def refused(why: str) -> BundleUnusable:
        return BundleUnusable(
            "bundle-manifest", f"{folder / MANIFEST} cannot be used: {why}",
            hint=f"make the folder anew, where there is a network: owlclaw-up prefetch {folder}",
        )  # fmt: skip

    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise refused("it is not JSON") from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise refused(f"this version reads {SCHEMA}, it says {str(schema)[:60]}")
    try:
        files = tuple(_file(entry) for entry in _list(document, "files"))
        names = {file.name for file in files}
        if len(names) < len(files):
            raise ValueError("it names a file twice")
        images = tuple(_image(entry, names) for entry in _list(document, "images"))
        words = {
            name: _text(document, name) for name in ("made_by", "made_at", "python", "engine", "engine_of", "wheels_of")
        }
        platform = _text(document, "platform")
        if not _PLATFORM.fullmatch(platform):
            raise ValueError(f"{platform[:60]!r} is no platform")
    except ValueError as error:
        raise refused(str(error)) from None
    return Bundle(folder, platform, images=images, files=files, **words)


def _list(document: Mapping[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    if not isinstance(value, list):
        raise ValueError(f"`{name}` is no list")
    return value


def _text(entry: Any, name: str) -> str:
    value = entry.get(name) if isinstance(entry, dict) else None
    # Some of it is shown on a terminal.
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"`{name}` is no text")
    return value


def _file(entry: Any) -> BundleFile:
    name, sha256 = _text(entry, "name"), _text(entry, "sha256")
    path = PurePosixPath(name)
    if len(path.parts) < 2 or path.parts[0] not in PARTS or ".." in path.parts or str(path) != name:
        raise ValueError(f"a file is named {name[:200]!r}")
    if "\\" in name:
        raise ValueError(f"a file is named {name[:200]!r}")
    size = entry.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or not _DIGEST.fullmatch(sha256):
        raise ValueError(f"{name} has no size and sha256")
    return BundleFile(name, size, sha256)


def _image(entry: Any, files: set[str]) -> BundleImage:
    image = BundleImage(*(_text(entry, name) for name in ("role", "name", "digest", "file")))
    if image.role not in ROLES or image.file not in files or not image.name:
        raise ValueError(f"image {image.name[:200]!r} has no archive")
    return image
