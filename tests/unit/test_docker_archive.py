"""Images in the archives that old and new Dockers write: what is taken out of them, and what is refused."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from owlclaw_up.host.docker_archive import read_archive
from owlclaw_up.host.engine_image import unpack
from owlclaw_up.host.held_image import ImageUnfit
from tests.images import Entry, digest_of, kind, layer, saved

NAME = "registry.invalid/a/hatchet-lite:v1"
BELOW = layer(
    {"hatchet-lite": b"lite", "hatchet-admin": b"old", "static-assets/index.html": b"page", "etc/passwd": b""}
)
EMPTY = layer({})
ABOVE = layer({"hatchet-admin": b"admin", "hatchet-migrate": b"migrations", "static-assets/.wh.index.html": b""})
LAYERS = [BELOW, EMPTY, ABOVE, EMPTY]
FORMS = ("classic", "layout", "containerd")


def taken(tmp_path: Path, archive: bytes, image: str, machine: str = "amd64") -> dict[str, bytes]:
    """The files that come out, by name."""
    file, folder = tmp_path / "image.tar", tmp_path / "out"
    file.write_bytes(archive)
    folder.mkdir()
    unpack(read_archive(file, image, machine).layers, folder)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(tmp_path: Path, archive: bytes, image: str, machine: str = "amd64") -> ImageUnfit:
    with pytest.raises(ImageUnfit) as failed:
        taken(tmp_path, archive, image, machine)
    return failed.value


@pytest.mark.parametrize("form", FORMS)
def test_the_engine_and_nothing_else(form: str, tmp_path: Path) -> None:
    """Layers that are there twice, upper ones that win and take away."""
    archive, image = saved(NAME, LAYERS, form=form)
    assert taken(tmp_path, archive, image) == {
        "hatchet-lite": b"lite", "hatchet-admin": b"admin", "hatchet-migrate": b"migrations",
    }  # fmt: skip


def test_its_id_is_the_same_in_every_form(tmp_path: Path) -> None:
    """That of its configuration, also where Docker calls it by another digest."""
    seen = set()
    for form in FORMS:
        archive, image = saved(NAME, LAYERS, form=form)
        (tmp_path / form).write_bytes(archive)
        seen.add(read_archive(tmp_path / form, image, "amd64").id)
    assert len(seen) == 1


@pytest.mark.parametrize("form", FORMS)
def test_another_platform(form: str, tmp_path: Path) -> None:
    archive, image = saved(NAME, LAYERS, form=form, machine="arm64")
    error = refused(tmp_path, archive, image)
    assert error.kind == "platform" and "wanted linux/amd64" in str(error) and "linux/arm64" in str(error)


@pytest.mark.parametrize("form", ["classic", "layout"])
def test_a_layer_that_is_not_what_it_was(form: str, tmp_path: Path) -> None:
    archive, image = saved(NAME, LAYERS, form=form)
    assert archive.count(b"migrations") == 1
    error = refused(tmp_path, archive.replace(b"migrations", b"mugrations"), image)
    assert error.kind == "broken" and "came as sha256:" in str(error)


def test_a_packed_layer_that_is_not_what_it_was(tmp_path: Path) -> None:
    archive, image = saved(NAME, LAYERS, form="containerd")
    middle = archive.index(ABOVE) + len(ABOVE) // 2
    spoiled = archive[:middle] + bytes([archive[middle] ^ 1]) + archive[middle + 1 :]
    assert refused(tmp_path, spoiled, image).kind == "broken"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_an_archive_that_was_cut_off(form: str, share: float, tmp_path: Path) -> None:
    archive, image = saved(NAME, LAYERS, form=form)
    whole = archive.rstrip(b"\0")
    assert refused(tmp_path, whole[: int(len(whole) * share)], image).kind == "broken"


@pytest.mark.parametrize("form", FORMS)
def test_another_image_under_that_name(form: str, tmp_path: Path) -> None:
    archive, _ = saved(NAME, LAYERS, form=form)
    assert refused(tmp_path, archive, digest_of(b"another")).kind == "broken"


def test_a_way_of_packing_that_is_not_read(tmp_path: Path) -> None:
    zstd = b"\x28\xb5\x2f\xfd" + bytes(64)
    archive, image = saved(NAME, [*LAYERS, zstd], form="containerd")
    error = refused(tmp_path, archive, image)
    assert error.kind == "other" and "zstd" in str(error)


@pytest.mark.parametrize(
    "entries",
    [
        {"../outside": b"x"}, {"/outside": b"x"}, {"hatchet-lite": kind(tarfile.SYMTYPE, "/bin/sh")},
        {"static-assets": kind(tarfile.SYMTYPE, "/"), "static-assets/outside": b"x"},
        {"bin/other": kind(tarfile.LNKTYPE, "hatchet-lite")}, {"hatchet-migrate": kind(tarfile.CHRTYPE)},
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", FORMS)
def test_a_hostile_layer(form: str, entries: dict[str, Entry], tmp_path: Path) -> None:
    """The same refusals as out of a registry."""
    archive, image = saved(NAME, [*LAYERS, layer(entries)], form=form)
    assert refused(tmp_path, archive, image).kind == "unsafe"
    assert not list(tmp_path.rglob("outside")) and not Path("/outside").exists()


@pytest.mark.parametrize(
    "listing", [b"", b"<html>", b"{}", b"[1]", b'[{"Config": 1, "Layers": []}]', b'[{"Config": "x"}]']
)
def test_what_is_no_archive_of_docker(listing: bytes, tmp_path: Path) -> None:
    assert refused(tmp_path, layer({"manifest.json": listing}, pack=False), digest_of(b"")).kind == "broken"


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    """Out of the archive, in a circle, or to what is no file."""
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [digest_of(b"")]}}).encode()
    for number, target in enumerate(["../../../../etc/passwd", "/etc/passwd", "layer.tar", "folder"]):
        archive = layer(
            {
                "c": config, "layer.tar": kind(tarfile.SYMTYPE, target), "folder": kind(tarfile.DIRTYPE),
                "manifest.json": b'[{"Config": "c", "Layers": ["layer.tar"]}]',
            },
            pack=False,
        )  # fmt: skip
        (tmp_path / str(number)).mkdir()
        assert refused(tmp_path / str(number), archive, digest_of(config)).kind == "broken"
