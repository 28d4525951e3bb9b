"""`prefetch` and `up --from` with a real Docker: images out of it and into it, and nothing asked of anybody on the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from owlclaw_up.host.base import SystemClock
from owlclaw_up.host.image_archive import write_archive
from owlclaw_up.host.image_names import parse_reference
from owlclaw_up.host.oci import ImageSource, Layer
from tests.bundles import MACHINE, make_bundle
from tests.conftest import Cli
from tests.docker.conftest import POSTGRES_IMAGE, STANDIN_IMAGE
from tests.docker.registry import Gate, Registry, docker
from tests.docker.stacks import bridge
from tests.sockets import watch

pytestmark = pytest.mark.timeout(300)
Projects = Callable[..., Cli]
END = ("down", "--purge", "--yes")


@pytest.fixture
def named(need_docker: None, gate: Gate) -> Iterator[list[str]]:
    """Names that the two images have for this test alone, at a registry of this machine that counts requests."""
    names = [f"{gate.address}/owlclaw-up/{name}:{uuid4().hex[:8]}" for name in ("hatchet-lite", "postgres")]
    for image, name in zip((STANDIN_IMAGE, POSTGRES_IMAGE), names, strict=True):
        docker("tag", image, name)
    yield names
    for name in names:
        docker("rmi", name, check=False)


def with_both(project: Projects, named: list[str]) -> Cli:
    cli = project(named[0])
    cli.env["OWLCLAW_UP_POSTGRES_IMAGE"] = named[1]
    return cli


def test_out_of_docker_and_back(docker_project: Projects, gate: Gate, named: list[str], tmp_path: Path) -> None:
    """What Docker has is not asked of a registry; where it is gone, the folder brings it back, under the same name."""
    ids = [docker("image", "inspect", "--format", "{{.Id}}", name).stdout for name in named]
    cli = with_both(docker_project, named)
    stick = str(make_bundle(tmp_path / "stick").folder)
    document = cli.json("prefetch", stick, "--mode", "full")
    assert [image["name"] for image in document["images"]] == named

    for name in named:
        docker("rmi", name)
    assert cli.json("plan", "--offline", "--mode", "full", code=3)["error"]["code"] == "mode-blocked"
    plan = cli.json("plan", "--offline", "--from", stick)
    assert plan["mode"] == "full" and stick in plan["decision"]["why"]
    assert [(s["id"], s["action"]) for s in plan["steps"][:2]] == [("images.load", "run"), ("images", "unchanged")]

    # Containers' own traffic is Docker's; this machine's address on its bridge is looked at, and is this machine's.
    seen = watch(cli, ("up", "--offline", "--from", stick, "--json"), ("doctor",), END, OWLCLAW_UP_OFFLINE="true")
    assert seen.codes[0] == 0 and seen.codes[2] == 0, seen.outputs
    up = json.loads(seen.outputs[0])
    assert (up["mode"], up["smoke"]["status"]) == ("full", "passed")
    assert seen.away({bridge()[0]}) == [] and seen.odd == () and gate.asked == []
    # Like images that were pulled, they stay.
    assert [docker("image", "inspect", "--format", "{{.Id}}", name).stdout for name in named] == ids


def test_nothing_leaves_this_machine_in_hatchet_only(docker_project: Projects, gate: Gate, named: list[str]) -> None:
    cli = docker_project(named[0])
    seen = watch(cli, ("up", "--offline", "--mode", "hatchet-only", "--smoke", "none"), END)
    assert seen.codes == (0, 0), seen.outputs
    assert seen.away({bridge()[0]}) == [] and seen.odd == () and gate.asked == []


def test_an_archive_that_docker_does_not_take(docker_project: Projects, named: list[str], tmp_path: Path) -> None:
    bundle = make_bundle(
        tmp_path / "stick", images={"hatchet": (named[0], b"no archive"), "postgres": (named[1], b"none")}
    )
    for name in named:
        docker("rmi", name)
    cli = with_both(docker_project, named)
    error = cli.json("up", "--offline", "--from", str(bundle.folder), code=3)["error"]
    assert error["code"] == "bundle-load" and f"docker load -i {bundle.folder}/images/hatchet.tar" == error["hint"]
    assert not (cli.root / ".owlclaw-up").exists()


def test_an_archive_out_of_a_registry_is_one_for_docker(registry: Registry, need_docker: None, tmp_path: Path) -> None:
    """Made without Docker, with packed layers; loaded, it is the very image that was pushed."""
    name = f"prefetch-archive/{uuid4().hex[:8]}:1"
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text("FROM scratch\nCOPY file /file\nLABEL made=here\n")
    (tmp_path / "context/file").write_text("a file\n")
    reference = f"{registry.address}/{name}"
    docker("build", "--quiet", "--tag", reference, str(tmp_path / "context"))
    docker("push", "--quiet", reference)
    pushed = docker("image", "inspect", "--format", "{{.Id}}", reference).stdout
    docker("rmi", reference)
    source = ImageSource(name, parse_reference(reference), SystemClock())
    try:
        manifest = source.manifest(MACHINE)
        blobs = {}
        for blob in (Layer(manifest.config, manifest.config_size), *manifest.layers):
            blobs[blob.digest] = tmp_path / blob.digest[7:]
            source.fetch(blob, blobs[blob.digest], lambda done, total: None)
    finally:
        source.close()
    write_archive(tmp_path / "image.tar", name, manifest, blobs)
    try:
        docker("load", "-i", str(tmp_path / "image.tar"))
        assert docker("image", "inspect", "--format", "{{.Id}}", name).stdout == pushed
    finally:
        docker("rmi", name, check=False)
