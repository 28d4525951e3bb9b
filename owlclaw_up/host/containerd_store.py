"""Images in containerd's store, where a newer Docker keeps them: blobs by digest, and a database of names. Changes nothing.

Source: containerd, core/metadata/buckets.go and plugins/content/local; moby, daemon/containerd (namespace `moby`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from owlclaw_up.host.bolt import NotBolt, bolt_value
from owlclaw_up.host.held_image import (
    DOCUMENT_BYTES,
    HeldImage,
    ImageUnfit,
    LayerStream,
    blob_place,
    is_digest,
    of_content,
)
from owlclaw_up.host.image_names import Reference

_NAMES = "io.containerd.metadata.v1.bolt/meta.db"
_BLOBS = "io.containerd.content.v1.content/blobs"
_DOCKER = b"moby"


def read_containerd_store(root: Path, reference: Reference, machine: str) -> HeldImage | None:
    """An image by its name, None where the store does not have it.

    Args:
        root: the folder of containerd's data.
        machine: that it must be for.

    Raises:
        ImageUnfit: it is for another platform, is not all there, or is not what its digests say.
        OSError: this user may not read the store.
    """
    at = "@" if ":" in reference.at else ":"
    name = f"{reference.registry}/{reference.repository}{at}{reference.at}"
    try:
        said = bolt_value(root / _NAMES, b"v1", _DOCKER, b"images", name.encode(), b"target", b"digest")
    except FileNotFoundError:
        return None
    except NotBolt as error:
        raise ImageUnfit("broken", str(error)) from None
    top = (said or b"").decode("ascii", "replace")
    if not is_digest(top):
        return None
    blobs = root / _BLOBS
    return of_content(top, machine, lambda digest: _read(blobs, digest), lambda digest: _opened(blobs, digest))


def _read(blobs: Path, digest: str) -> bytes:
    with _opened(blobs, digest) as stream:
        return stream.read(DOCUMENT_BYTES)


@contextmanager
def _opened(blobs: Path, digest: str) -> Iterator[LayerStream]:
    try:
        stream = (blobs / blob_place(digest)).open("rb")
    except FileNotFoundError:
        # Of an image for several platforms only those are here that were pulled.
        raise ImageUnfit("broken", f"{digest} is not in {blobs}") from None
    with stream:
        yield stream
