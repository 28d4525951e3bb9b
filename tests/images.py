"""Images made by hand, without Docker: layers, manifests and indexes as bytes, put into a registry over its own protocol."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"

Entry = bytes | Callable[[tarfile.TarInfo], bytes]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(entries: Mapping[str, Entry], *, pack: bool = True) -> bytes:
    """A layer.

    Args:
        entries: by name: the bytes of a file, or a function that changes the entry and gives its bytes.
        pack: with gzip.
    """
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, entry in entries.items():
            info = tarfile.TarInfo(name)
            info.mode = 0o755
            data = entry(info) if callable(entry) else entry
            if info.isreg() and not info.size:
                info.size = len(data)
            if info.isreg() and info.size == len(data):
                archive.addfile(info, io.BytesIO(data))
            else:
                archive.addfile(info)
    return gzip.compress(made.getvalue(), 1, mtime=0) if pack else made.getvalue()


def kind(letter: bytes, target: str = "") -> Entry:
    """An entry that is a link, a device or a folder (`tarfile.SYMTYPE`, ...)."""

    def entry(info: tarfile.TarInfo) -> bytes:
        info.type, info.linkname = letter, target
        return b""

    return entry


def engine_layers(folder: Path) -> list[bytes]:
    """What an engine's folder looks like as an image: something below it, a layer for each binary, the dashboard."""
    below = layer({"bin/sh": b"not for us", "etc/passwd": kind(tarfile.SYMTYPE, "/elsewhere")})
    binaries = [
        layer({name: (folder / name).read_bytes()}) for name in ("hatchet-lite", "hatchet-admin", "hatchet-migrate")
    ]
    page = b"<!doctype html><title>the dashboard</title>\n"
    return [below, *binaries, layer({"static-assets/index.html": page, "static-assets/js/app.js": b"1"})]


@dataclass
class Publisher:
    """Puts images into a registry.

    Args:
        address: host and port.
    """

    address: str

    def blob(self, repository: str, data: bytes) -> str:
        digest = digest_of(data)
        begun = httpx.post(f"http://{self.address}/v2/{repository}/blobs/uploads/", trust_env=False)
        where = httpx.URL(f"http://{self.address}").join(begun.headers["Location"])
        put = httpx.put(where.copy_add_param("digest", digest), content=data, trust_env=False)
        assert put.status_code == 201, put.text
        return digest

    def document(self, repository: str, at: str, kind: str, document: Mapping[str, Any]) -> str:
        body = json.dumps(document).encode()
        put = httpx.put(
            f"http://{self.address}/v2/{repository}/manifests/{at}", content=body, headers={"Content-Type": kind},
            trust_env=False,
        )  # fmt: skip
        assert put.status_code == 201, put.text
        return digest_of(body)

    def image(self, repository: str, at: str, layers: Sequence[bytes], machine: str = "amd64") -> tuple[str, int]:
        """One platform's manifest; gives its digest and size."""
        config = json.dumps(
            {"architecture": machine, "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
        ).encode()
        described = [{"mediaType": LAYER, "digest": self.blob(repository, one), "size": len(one)} for one in layers]
        document = {
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": described,
            "config": {"mediaType": CONFIG, "digest": self.blob(repository, config), "size": len(config)},
        }  # fmt: skip
        digest = self.document(repository, at, MANIFEST, document)
        return digest, len(json.dumps(document))

    def index(self, repository: str, tag: str, images: Mapping[str, Sequence[bytes]]) -> dict[str, str]:
        """An index of images by machine; gives their digests."""
        entries, digests = [], {}
        for machine, layers in images.items():
            digest, size = self.image(repository, f"{tag}-{machine}", layers, machine)
            digests[machine] = digest
            platform = {"architecture": machine, "os": "linux"}
            entries.append({"mediaType": MANIFEST, "digest": digest, "size": size, "platform": platform})
        # What builders add beside the images.
        attestation = {**entries[0], "platform": {"architecture": "unknown", "os": "unknown"}}
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [attestation, *entries]}
        self.document(repository, tag, INDEX, document)
        return digests
