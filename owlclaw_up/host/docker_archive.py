"""An image in an archive that Docker has written: `docker save`, in its old form and as an OCI layout. Reads that file alone.

Source: moby, image/tarexport/save.go (both forms) and daemon/containerd/image_exporter.go (packed layers, `index.json`).
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from owlclaw_up.host.held_image import (
    DOCUMENT_BYTES,
    HeldImage,
    ImageUnfit,
    LayerStream,
    blob_place,
    diff_ids,
    digest_of,
    layers_of,
    of_content,
)

_LISTING = "manifest.json"


def read_archive(archive: Path, image: str, machine: str) -> HeldImage:
    """An image in an archive; its layers stay there, and are verified where they are read.

    Args:
        image: its id in Docker: the digest of its configuration; of its index or manifest where containerd keeps the images.
        machine: that it must be for.

    Raises:
        ImageUnfit: it is not in there, is for another platform, or is not what its digests say.
    """
    for entry in _listing(archive):
        config = _read(archive, entry["Config"])
        if digest_of(config) == image:
            ids = diff_ids(config, image, machine)
            return HeldImage(image, layers_of(ids, [partial(_opened, archive, name) for name in entry["Layers"]]))
    return of_content(
        image, machine, lambda digest: _read(archive, _blob(digest)), lambda digest: _opened(archive, _blob(digest))
    )


def _listing(archive: Path) -> list[dict[str, Any]]:
    try:
        said = json.loads(_read(archive, _LISTING))
    except ValueError:
        said = None
    if not isinstance(said, list) or not all(
        isinstance(each, dict) and isinstance(each.get("Config"), str) and isinstance(each.get("Layers"), list)
        for each in said
    ):
        raise ImageUnfit("broken", f"Docker's archive lists no images in {_LISTING}")
    return said


def _blob(digest: str) -> str:
    return f"blobs/{blob_place(digest)}"


def _read(archive: Path, name: str) -> bytes:
    with _opened(archive, name) as stream:
        data = stream.read(DOCUMENT_BYTES + 1)
    if len(data) > DOCUMENT_BYTES:
        raise ImageUnfit("broken", f"{name} in Docker's archive is longer than any document of an image")
    return data


@contextmanager
def _opened(archive: Path, name: str) -> Iterator[LayerStream]:
    """A member's bytes. A layer that is there already is a link to it: it leads nowhere but into the archive."""
    with ExitStack() as held:
        try:
            members = held.enter_context(tarfile.open(archive, "r:"))
            stream = members.extractfile(str(name))
        except (tarfile.TarError, KeyError, RecursionError) as error:
            raise ImageUnfit("broken", f"Docker's archive: {type(error).__name__}: {error}") from None
        if stream is None:
            raise ImageUnfit("broken", f"Docker's archive: {name} is no file")
        yield cast("LayerStream", held.enter_context(stream))
