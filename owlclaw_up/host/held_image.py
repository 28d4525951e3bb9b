"""An image by its content: what its configuration promises, and its layers as streams. Reads what it is given, and nothing else.

An image's identity is the digest of its configuration: that names every layer by the digest of its unpacked archive, so it is the
same in every registry, in every Docker, and however the layers are packed. Source: opencontainers/image-spec, config.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeGuard

# Of a manifest or a configuration: the specification lets a registry refuse longer ones, and an engine's have a few kilobytes.
DOCUMENT_BYTES = 4 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ImageUnfit(Exception):
    """An image that cannot be taken from where it is; its text says what was found.

    Attributes:
        kind: as `errors.EnginePullFailed` names it.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class LayerStream(Protocol):
    """Bytes in their order, and a look at the next ones; `io.BufferedReader` is one."""

    def read(self, size: int = -1, /) -> bytes: ...
    def peek(self, size: int = 0, /) -> bytes: ...


@dataclass(frozen=True)
class HeldLayer:
    """One layer.

    Attributes:
        diff_id: the digest that its archive must have, unpacked.
        open: its bytes, packed with gzip or not at all.
    """

    diff_id: str
    open: Callable[[], AbstractContextManager[LayerStream]]


@dataclass(frozen=True)
class HeldImage:
    """Attributes: id: the digest of its configuration; layers: from the bottom to the top."""

    id: str
    layers: tuple[HeldLayer, ...]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def is_digest(text: object) -> TypeGuard[str]:
    return isinstance(text, str) and bool(_DIGEST.fullmatch(text))


def document_of(data: bytes, digest: str) -> dict[str, Any]:
    """A manifest, an index or a configuration.

    Raises:
        ImageUnfit: its bytes are not those of its digest, or no document.
    """
    if digest_of(data) != digest:
        raise ImageUnfit("broken", f"{digest} came as {digest_of(data)}")
    try:
        document = json.loads(data)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ImageUnfit("broken", f"{digest} is no JSON object")
    return document


def diff_ids(config: bytes, digest: str, machine: str) -> tuple[str, ...]:
    """The digests of the unpacked layers, from the bottom to the top, as a configuration promises them.

    Args:
        machine: that it must be for, as images name it.

    Raises:
        ImageUnfit: it is not the one with that digest, is for another platform, or names no layers.
    """
    document = document_of(config, digest)
    system, built = document.get("os"), document.get("architecture")
    if (system, built) != ("linux", machine):
        raise ImageUnfit("platform", f"wanted linux/{machine}, it is for {system}/{built}")
    named = (document.get("rootfs") or {}).get("diff_ids")
    if not isinstance(named, list) or not named or not all(is_digest(each) for each in named):
        raise ImageUnfit("broken", f"the configuration {digest} names no layers")
    return tuple(named)


def of_content(
    top: str,
    machine: str,
    read: Callable[[str], bytes],
    opened: Callable[[str], AbstractContextManager[LayerStream]],
) -> HeldImage:
    """An image in a store of blobs that are named by their digests.

    Args:
        top: the digest of its manifest, or of an index, which is followed to the platform's manifest.
        read: a document; opened: a layer.

    Raises:
        ImageUnfit: it is for another platform, or a part of it is not what its digest says.
    """
    document = document_of(read(top), top)
    if "manifests" in document:
        top = of_platform(document, machine)
        document = document_of(read(top), top)
    config = (document.get("config") or {}).get("digest")
    named = [each.get("digest") for each in document.get("layers") or ()]
    layers = [digest for digest in named if is_digest(digest)]
    if not is_digest(config) or len(layers) != len(named):
        raise ImageUnfit("broken", f"the manifest {top} names no configuration, or no layers")
    ids = diff_ids(read(config), config, machine)
    return HeldImage(config, layers_of(ids, [partial(opened, layer) for layer in layers]))


def layers_of(
    ids: tuple[str, ...], opened: Sequence[Callable[[], AbstractContextManager[LayerStream]]]
) -> tuple[HeldLayer, ...]:
    """What a configuration promises, and where it lies, one by one.

    Raises:
        ImageUnfit: there are more of the one than of the other.
    """
    if len(ids) != len(opened):
        raise ImageUnfit("broken", f"the configuration promises {len(ids)} layers, there are {len(opened)}")
    return tuple(HeldLayer(digest, stream) for digest, stream in zip(ids, opened, strict=True))


def in_file(path: Path) -> Callable[[], AbstractContextManager[LayerStream]]:
    """How a layer in a file of its own is opened."""
    return lambda: path.open("rb")


def blob_place(digest: str) -> str:
    """Where a blob lies in an OCI layout, and in containerd's store, below the folder of blobs."""
    return digest.replace(":", "/")


def of_platform(index: Mapping[str, Any], machine: str) -> str:
    """The digest of a platform's manifest, in an index.

    Raises:
        ImageUnfit: there is none.
    """
    there = []
    for entry in index.get("manifests") or ():
        platform = entry.get("platform") or {}
        if platform.get("os") == "linux" and platform.get("architecture") == machine:
            digest = entry.get("digest")
            if not is_digest(digest):
                raise ImageUnfit("broken", f"{digest!r} is no sha256 digest")
            return digest
        there.append(f"{platform.get('os')}/{platform.get('architecture')}")
    # What builders add beside the images is for no platform.
    named = ", ".join(each for each in there if "unknown" not in each) or "none"
    raise ImageUnfit("platform", f"wanted linux/{machine}, there is: {named}")
