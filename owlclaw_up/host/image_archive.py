"""An image from a registry as one archive that `docker load` reads: Docker's own manifest, and an OCI layout beside it.

Layers stay packed as they came; Docker unpacks them, and holds each against the digest that the configuration names.
Sources: moby, image/tarexport/load.go (20.10 and newer); opencontainers/image-spec, image-layout.md.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from owlclaw_up.host.held_image import blob_place
from owlclaw_up.host.image_names import parse_reference
from owlclaw_up.host.oci import Manifest

_INDEX = "application/vnd.oci.image.index.v1+json"


def tagged(name: str) -> str:
    """An image's name with its tag, as an archive has to say it."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def write_archive(path: Path, name: str, manifest: Manifest, blobs: Mapping[str, Path]) -> None:
    """Write it; the same image always gives the same bytes.

    Args:
        name: what the image shall be called once it is loaded.
        blobs: files of the configuration and the layers, by digest.

    Raises:
        OSError: it cannot be written.
    """
    reference = parse_reference(name)
    full = f"{reference.registry}/{reference.repository}:{reference.at}"
    described = {"mediaType": manifest.kind, "digest": manifest.digest, "size": len(manifest.body)}
    called = {"io.containerd.image.name": full, "org.opencontainers.image.ref.name": reference.at}
    entry = {
        "Config": _place(manifest.config), "RepoTags": [tagged(name)],
        "Layers": [_place(layer.digest) for layer in manifest.layers],
    }  # fmt: skip
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [{**described, "annotations": called}]}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(archive, "index.json", _json(index))
        _add(archive, "manifest.json", _json([entry]))
        _add(archive, _place(f"sha256:{hashlib.sha256(manifest.body).hexdigest()}"), manifest.body)
        for digest in dict.fromkeys((manifest.config, *(layer.digest for layer in manifest.layers))):
            info = _entry(_place(digest), blobs[digest].stat().st_size)
            with blobs[digest].open("rb") as blob:
                archive.addfile(info, blob)


def _place(digest: str) -> str:
    return f"blobs/{blob_place(digest)}"


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _entry(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    archive.addfile(_entry(name, len(data)), io.BytesIO(data))
