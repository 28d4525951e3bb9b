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


def unpacked(layer: bytes) -> bytes:
    return gzip.decompress(layer) if layer.startswith(b"\x1f\x8b") else layer


def config_of(layers: Sequence[bytes], machine: str = "amd64") -> bytes:
    """An image's configuration; its digest is the image's id."""
    ids = [digest_of(unpacked(one)) for one in layers]
    return json.dumps({"architecture": machine, "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}}).encode()


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
        config = config_of(layers, machine)
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


def saved(name: str, layers: Sequence[bytes], *, form: str = "classic", machine: str = "amd64") -> tuple[bytes, str]:
    """An image as `docker save` writes it.

    Args:
        layers: packed or not.
        form: `classic`; `layout`, the same with Docker 25 or newer; `containerd`, where that keeps Docker's images.

    Returns:
        The archive, and the image's id in that Docker.
    """
    config = config_of(layers, machine)
    files: dict[str, Entry] = {}

    def blob(data: bytes) -> str:
        path = f"blobs/{digest_of(data).replace(':', '/')}"
        files[path] = data
        return path

    if form == "classic":
        where, paths = f"{digest_of(config)[7:]}.json", []
        files[where] = config
        first: dict[bytes, str] = {}
        for number, one in enumerate(layers):
            path = f"{number:064x}/layer.tar"
            # One that is there already is a link.
            files[path] = kind(tarfile.SYMTYPE, f"../{first[one]}") if one in first else unpacked(one)
            first.setdefault(one, path)
            paths.append(path)
    else:
        where = blob(config)
        paths = [blob(one if form == "containerd" else unpacked(one)) for one in layers]
    image = digest_of(config)
    if form != "classic":
        described = [{"mediaType": LAYER, "digest": f"sha256:{p[-64:]}", "size": len(files[p])} for p in paths]  # type: ignore[arg-type]
        manifest = json.dumps(
            {
                "schemaVersion": 2, "mediaType": MANIFEST, "layers": described,
                "config": {"mediaType": CONFIG, "digest": image, "size": len(config)},
            }
        ).encode()  # fmt: skip
        blob(manifest)
        top, kind_of_top = manifest, MANIFEST
        if form == "containerd":
            here = {"mediaType": MANIFEST, "digest": digest_of(manifest), "size": len(manifest)}
            # Of the other platforms only the names are there.
            other = {"mediaType": MANIFEST, "digest": digest_of(b"elsewhere"), "size": 9}
            entries = [
                {**other, "platform": {"os": "linux", "architecture": "riscv64"}},
                {**here, "platform": {"os": "linux", "architecture": machine}},
            ]
            top = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
            kind_of_top = INDEX
            blob(top)
            image = digest_of(top)
        named = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
        entry = {"mediaType": kind_of_top, "digest": digest_of(top), "size": len(top), "annotations": named}
        files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
        files["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    files["manifest.json"] = json.dumps([{"Config": where, "RepoTags": [name], "Layers": paths}]).encode()
    return layer(files, pack=False), image
