"""Images in the store of a Docker whose engine is not running, as Docker itself keeps them: read from its files. Changes nothing.

A layer lies there unpacked, beside a list of everything else that its archive was made of. Put together they are that archive, byte
for byte, with the names that a layer takes away: so it is verified by its digest, and read, as one out of a registry. Source: moby,
layer/filestore.go, image/fs.go; vbatts/tar-split.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from owlclaw_up.host.engine_image import inside
from owlclaw_up.host.held_image import HeldImage, ImageUnfit, LayerStream, diff_ids, is_digest, layers_of
from owlclaw_up.host.image_names import Reference, parse_reference

# Storage driver -> where it keeps a layer's files; the other drivers keep them in a file system of their own.
_FILES = {"overlay2": "overlay2/{}/diff", "fuse-overlayfs": "fuse-overlayfs/{}/diff", "vfs": "vfs/dir/{}"}
# tar-split's types of entries: a piece of the archive itself, else a file.
_SEGMENT = 2
_CHUNK = 1 << 20


def read_docker_store(root: Path, reference: Reference, machine: str) -> HeldImage | None:
    """An image by its name, None where the store does not have it.

    Args:
        root: the folder of Docker's data.
        machine: that it must be for.

    Raises:
        ImageUnfit: it is for another platform, or is not what its digests say.
        OSError: this user may not read the store.
    """
    for driver, files in _FILES.items():
        images = root / "image" / driver
        digest = _id(images / "repositories.json", reference)
        if digest:
            config = (images / "imagedb/content/sha256" / digest.partition(":")[2]).read_bytes()
            ids = diff_ids(config, digest, machine)
            layers = [partial(_opened, root, files, images / "layerdb/sha256" / chain) for chain in _chain(ids)]
            return HeldImage(digest, layers_of(ids, layers))
    return None


def _id(repositories: Path, reference: Reference) -> str:
    """The id of the image with a name; empty where there is none."""
    try:
        said = json.loads(repositories.read_bytes())["Repositories"]
        named = {name: digest for names in said.values() for name, digest in names.items()}
    except FileNotFoundError:
        return ""
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ImageUnfit("broken", f"{repositories} cannot be read") from None
    return next((d for name, d in named.items() if parse_reference(name) == reference and is_digest(d)), "")


def _chain(ids: tuple[str, ...]) -> list[str]:
    """The names of the layers' folders: each is made of all layers up to it. Source: image-spec, config.md, ChainID."""
    chain = [ids[0]]
    for digest in ids[1:]:
        chain.append(f"sha256:{hashlib.sha256(f'{chain[-1]} {digest}'.encode()).hexdigest()}")
    return [digest.partition(":")[2] for digest in chain]


@contextmanager
def _opened(root: Path, files: str, layer: Path) -> Iterator[LayerStream]:
    """A layer's archive.

    Args:
        files: where below the root a driver keeps a layer's files.
        layer: its folder among the layers.
    """
    try:
        folder = root / files.format((layer / "cache-id").read_text().strip())
        split = gzip.GzipFile(layer / "tar-split.json.gz")
    except OSError as error:
        raise ImageUnfit("broken", f"Docker's store: {error}") from None
    with split, io.BufferedReader(_Joined(_pieces(split, folder))) as stream:
        yield stream


def _pieces(split: gzip.GzipFile, folder: Path) -> Iterator[bytes]:
    """The pieces of an archive, one after the other: what stands in the list, and the files that it names."""
    try:
        for line in split:
            entry = json.loads(line)
            if entry["type"] == _SEGMENT:
                yield base64.b64decode(entry["payload"])
            elif entry.get("size"):
                raw = entry.get("name_raw")
                yield from _content(folder, os.fsdecode(base64.b64decode(raw)) if raw else entry["name"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zlib.error) as error:
        raise ImageUnfit("broken", f"Docker's store, {folder}: {type(error).__name__}: {error}") from None


def _content(folder: Path, name: str) -> Iterator[bytes]:
    """A file of a layer, which lies in its folder and nowhere else."""
    path = folder / inside(name)
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise ImageUnfit("unsafe", f"{name} leads out of its layer")
    # A pipe would keep whoever opens it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ImageUnfit("broken", f"{path} is no file")
        while chunk := file.read(_CHUNK):
            yield chunk


class _Joined(io.RawIOBase):
    """Pieces as one stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
