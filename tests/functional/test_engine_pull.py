"""The engine out of its image, without Docker: a real registry on loopback, and everything that can go wrong on the way."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.errors import EnginePullFailed, EngineUnusable
from owlclaw_up.host.base import SystemClock
from owlclaw_up.host.engine_pull import EnginePull, Pulled
from owlclaw_up.host.engines import BINARIES, EngineRefused, cache_dir, cached
from owlclaw_up.host.local import LocalProcesses
from tests.conftest import Cli
from tests.docker.registry import Gate, Registry
from tests.images import Publisher, engine_layers, kind, layer

NAME, TAG = "hatchet-dev/hatchet/hatchet-lite", "v0.107.2"


class QuickClock(SystemClock):
    """Waits are written down, and not waited."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def layers(standin_dir: Path) -> list[bytes]:
    """With one that cannot be packed, so that there is something to stop in the middle of."""
    return [*engine_layers(standin_dir), layer({"usr/share/noise": os.urandom(1 << 21)})]


@pytest.fixture(scope="module")
def published(registry: Registry, layers: list[bytes]) -> str:
    """The image, under an index of two machines."""
    Publisher(registry.address).index(NAME, TAG, {"arm64": [layer({"hatchet-lite": b"other"})], "amd64": layers})
    return f"{registry.address}/{NAME}:{TAG}"


@pytest.fixture
def gate(registry: Registry) -> Iterator[Gate]:
    with Gate(registry) as running:
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache of its own, and a home without logins."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/owlclaw-up/engines"


def pull(image: str, clock: SystemClock | None = None, **how: Any) -> Pulled:
    environ = {"HOME": "/nonexistent", "DOCKER_HOST": "unix:///nonexistent.sock", **how.pop("environ", {})}
    return EnginePull(image, how.pop("source", image), environ, LocalProcesses(), clock or QuickClock(), **how).run()


def refused(image: str, code: str, clock: SystemClock | None = None, **how: Any) -> EnginePullFailed:
    """A pull that fails so, and leaves no engine."""
    with pytest.raises(EnginePullFailed) as failed:
        pull(image, clock, **how)
    assert failed.value.code == code, failed.value
    assert failed.value.exit_code == 3 and failed.value.hint
    assert cached(LocalProcesses()) == []
    return failed.value


def test_the_engine_of_this_machine_and_nothing_else(published: str, cache: Path, registry: Registry) -> None:
    told: list[tuple[int, int]] = []
    pulled = pull(published, progress=lambda done, total: told.append((done, total)))
    assert pulled.source == "registry" and pulled.engine.version == "v0.107.2"
    assert pulled.engine.directory == cache / f"v0.107.2+{pulled.image_id[7:19]}"
    assert pulled.engine.assets is not None and (pulled.engine.assets / "js/app.js").read_bytes() == b"1"
    names = {
        p.relative_to(pulled.engine.directory).as_posix() for p in pulled.engine.directory.rglob("*") if p.is_file()
    }
    assert names == {*BINARIES, "static-assets/index.html", "static-assets/js/app.js", "manifest.json"}
    assert [(pulled.engine.directory / n).stat().st_mode & 0o7777 for n in BINARIES] == [0o755] * 3
    assert told == sorted(told) and told[-1][0] == told[-1][1]
    assert [p.name for p in cache.iterdir() if p.name.startswith(".pull-")] == []
    # Again, also with no network: nothing is asked.
    again = dataclasses.replace(pulled, source="cache")
    assert pull(published, source="registry.invalid/x:1", offline=True) == again
    assert pull(f"{registry.address}/{NAME}@{pulled.digest}") == again


def test_by_the_command(published: str, new_cli: Callable[..., Cli]) -> None:
    cli = new_cli(OWLCLAW_UP_HATCHET_IMAGE=published, OWLCLAW_UP_ENGINE_DIR="")
    assert (
        "owlclaw-up engine pull"
        in cli.json("plan", "--mode", "native", "--offline", OWLCLAW_UP_HATCHET_IMAGE="", code=3)["error"]["hint"]
    )
    document = cli.json("engine", "pull")
    assert (document["new"], document["version"], document["dashboard"]) == (True, "v0.107.2", True)
    assert document["source"] == "registry"
    assert cli.json("engine", "list")["engines"][0]["source"] == "engine cache"
    up = cli.json("up", "--smoke", "none")
    assert (up["mode"], up["status"]) == ("native", "ok")
    assert cli.json("engine", "pull")["new"] is False


def kept(cli: Cli) -> list[str]:
    """What is in the user's engine cache."""
    engines = Path(cli.env["HOME"]) / ".cache/owlclaw-up/engines"
    return sorted(p.name for p in engines.iterdir() if not p.name.startswith(".")) if engines.is_dir() else []


def test_by_itself_where_nothing_better_is_there(gate: Gate, published: str, new_cli: Callable[..., Cli]) -> None:
    """From a clean folder, with no Docker and no engine: fetched, started, proved; again, nothing is fetched."""
    cli = new_cli(OWLCLAW_UP_HATCHET_IMAGE=gate.reference(published), OWLCLAW_UP_ENGINE_DIR="")
    plan = cli.json("plan")
    assert (plan["mode"], plan["decision"]["source"]) == ("native", "auto")
    assert "can be taken out of its image" in plan["decision"]["why"]
    assert (plan["steps"][0]["id"], plan["steps"][0]["action"]) == ("engine.fetch", "create")
    assert gate.asked == [] and kept(cli) == [] and not (cli.root / ".owlclaw-up").exists()

    first = cli.json("up")
    assert (first["status"], first["mode"], first["smoke"]["status"]) == ("ok", "native", "passed")
    assert first["steps"][0] | {"seconds": 0} == first["steps"][0] | {
        "id": "engine.fetch",
        "status": "done",
        "seconds": 0,
    }
    assert "<title>the dashboard</title>" in _page(first["endpoints"]["dashboard"])
    asked = len(gate.asked)
    again = cli.json("up", "--offline")
    assert {s["action"] for s in again["steps"]} == {"unchanged"} and len(gate.asked) == asked
    other = new_cli(
        **{k: v for k, v in cli.env.items() if k in ("HOME", "OWLCLAW_UP_HATCHET_IMAGE")}, OWLCLAW_UP_ENGINE_DIR=""
    )
    assert other.json("plan")["steps"][0]["id"] != "engine.fetch", "every checkout finds it"


def _page(url: str) -> str:
    import httpx

    return httpx.get(url.replace("localhost", "127.0.0.1"), trust_env=False).text


def test_a_fetch_that_fails_moves_on(gate: Gate, published: str, new_cli: Callable[..., Cli]) -> None:
    """Visibly; never where the mode was asked for, and never to `mock` where a durable one is required."""
    gate.answer(403)
    cli = new_cli(OWLCLAW_UP_HATCHET_IMAGE=gate.reference(published), OWLCLAW_UP_ENGINE_DIR="")
    asked = cli.json("up", "--mode", "native", "--smoke", "none", code=3)
    assert (asked["error"]["code"], asked["mode"]) == ("pull-login", "native")
    assert cli.json("up", "--require", "durable", code=3)["error"]["code"] == "durable-required"
    assert not (cli.root / ".owlclaw-up").exists() and not (cli.root / ".env").exists()
    moved = cli.json("up", "--smoke", "none")
    assert (moved["mode"], moved["status"]) == ("mock", "degraded")
    assert [m["mode"] for m in moved["decision"]["moves"]] == ["native"]
    assert "the registry refuses access" in moved["decision"]["moves"][0]["why"]
    offline = new_cli(OWLCLAW_UP_ENGINE_DIR="").json("plan", "--offline")
    assert offline["mode"] == "mock" and offline["decision"]["moves"] == []


def test_a_mirror(registry: Registry, published: str) -> None:
    image = f"ghcr.io/{NAME}:{TAG}"
    assert pull(image, source=published).new
    assert pull(image).new is False, "by its own name"


def test_offline_asks_nobody(published: str) -> None:
    error = refused(f"ghcr.io/{NAME}:{TAG}", "pull-offline", offline=True)
    assert "ghcr.io is another machine" in error.detail
    assert pull(published, offline=True).new, "a registry on loopback is this machine"


class TestTheRegistry:
    def test_nobody_listens(self) -> None:
        clock = QuickClock()
        refused(f"127.0.0.1:1/{NAME}:{TAG}", "pull-network", clock)
        assert clock.waits == [], "it would be the same again"

    def test_there_is_no_such_image(self, registry: Registry, published: str) -> None:
        error = refused(f"{registry.address}/{NAME}:v0.0.0", "pull-missing")
        assert "404" in error.detail and "hatchet_image" in error.hint

    def test_401(self, gate: Gate, published: str) -> None:
        gate.answer(401)
        refused(gate.reference(published), "pull-login")

    def test_429_waits_as_long_as_it_is_told(self, gate: Gate, published: str) -> None:
        gate.answer(429, times=2, retry_after=7)
        clock = QuickClock()
        said: list[str] = []
        assert pull(gate.reference(published), clock, say=said.append).new
        assert clock.waits == [7.0, 7.0]
        assert any("too many requests" in text and "again in 7 s" in text for text in said)

    def test_429_for_ever(self, gate: Gate, published: str) -> None:
        gate.answer(429, retry_after=100_000)
        clock = QuickClock()
        refused(gate.reference(published), "pull-rate-limit", clock)
        assert clock.waits == [60.0] * 4

    def test_it_is_ill_for_a_moment(self, gate: Gate, published: str) -> None:
        gate.answer(500, times=2, part="layers")
        assert pull(gate.reference(published)).new

    def test_it_hangs_up_in_the_middle_and_the_rest_is_asked_for(self, gate: Gate, published: str) -> None:
        gate.drop(times=2)
        assert pull(gate.reference(published)).new
        ranges = [asked.range for asked in gate.asked if asked.range]
        assert ranges and all(r.startswith("bytes=") and r.endswith("-") for r in ranges)

    def test_it_goes_down_in_the_middle(self, gate: Gate, published: str) -> None:
        gate.drop()
        refused(gate.reference(published), "pull-broken")
        gate.open()
        assert pull(gate.reference(published)).new


class TestWhatComes:
    @pytest.mark.parametrize("how", ["truncated", "appended", "changed", "wrong-digest"])
    def test_another_layer_than_promised(self, registry: Registry, published: str, how: Any) -> None:
        """A blob spoiled in the store: the registry serves it under its old name."""
        by_machine = f"{registry.address}/{NAME}:{TAG}-amd64"
        registry.corrupt(by_machine, how)
        try:
            refused(published, "pull-broken")
        finally:
            registry.mend(by_machine)
        assert pull(published).new, "what was wrong is not kept"

    def test_an_index_without_this_machine(self, registry: Registry) -> None:
        Publisher(registry.address).index("other/machine", "1", {"s390x": [layer({"hatchet-lite": b"x"})]})
        error = refused(f"{registry.address}/other/machine:1", "pull-platform")
        assert "wanted linux/amd64, there is: linux/s390x" in error.detail

    def test_another_image(self, registry: Registry) -> None:
        Publisher(registry.address).image("some/thing", "1", [layer({"hatchet-lite": b"#!/bin/sh\necho v0.107.2\n"})])
        assert (
            "hatchet-admin, hatchet-migrate not in it"
            in refused(f"{registry.address}/some/thing:1", "pull-no-engine").detail
        )

    def test_an_engine_that_does_not_run_here(self, registry: Registry, standin_dir: Path) -> None:
        foreign = b"\x7fELF\x02\x01\x01" + bytes(11) + b"\xb7\x00" + bytes(44)
        layers = [*engine_layers(standin_dir), layer({"hatchet-lite": foreign})]
        Publisher(registry.address).image("foreign/engine", "1", layers)
        with pytest.raises(EngineUnusable) as failed:
            pull(f"{registry.address}/foreign/engine:1")
        assert failed.value.code == "engine-architecture"
        assert cached(LocalProcesses()) == []

    def test_upper_layers_win_and_take_away(self, registry: Registry, standin_dir: Path) -> None:
        over = {
            "static-assets/.wh..wh..opq": b"", "static-assets/index.html": b"the new one", ".wh.nothing-of-ours": b"",
        }  # fmt: skip
        gone = layer({"static-assets/.wh.js": b""})
        Publisher(registry.address).image("two/layers", "1", [*engine_layers(standin_dir), layer(over), gone])
        assets = pull(f"{registry.address}/two/layers:1").engine.assets
        assert assets is not None
        assert {p.name: p.read_bytes() for p in assets.iterdir()} == {"index.html": b"the new one"}


def _huge(info: tarfile.TarInfo) -> bytes:
    info.size = 50 << 30
    return b""


HOSTILE = {
    "a name that leads out": {"../../outside": b"x"},
    "an absolute name": {"/etc/outside": b"x"},
    "a name that leads out below ours": {"static-assets/../../outside": b"x"},
    "a symbolic link for a binary": {"hatchet-lite": kind(tarfile.SYMTYPE, "/bin/sh")},
    "a folder of ours that is a link": {"static-assets": kind(tarfile.SYMTYPE, "/"), "static-assets/outside": b"x"},
    "a hard link to a binary": {"bin/other": kind(tarfile.LNKTYPE, "hatchet-lite")},
    "a binary that is a hard link": {"hatchet-admin": kind(tarfile.LNKTYPE, "etc/passwd")},
    "a device": {"hatchet-migrate": kind(tarfile.CHRTYPE)},
    "a pipe": {"static-assets/pipe": kind(tarfile.FIFOTYPE)},
    "50 GB in a header": {"hatchet-lite": _huge},
    "a file in a file": {"static-assets/a": b"x", "static-assets/a/b": b"x"},
}


@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_layer(
    entries: Any, registry: Registry, standin_dir: Path, tmp_path: Path, cache: Path, request: pytest.FixtureRequest
) -> None:
    repository = "hostile/" + "".join(c for c in request.node.name.lower() if c.isalnum())
    Publisher(registry.address).image(repository, "1", [*engine_layers(standin_dir), layer(entries)])
    refused(f"{registry.address}/{repository}:1", "pull-unsafe")
    assert not list(tmp_path.rglob("outside")) and not Path("/etc/outside").exists()
    assert [p.name for p in cache.iterdir() if p.name.startswith(".pulled-")] == []


def test_a_layer_that_unpacks_to_more_than_it_may(
    registry: Registry, standin_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("owlclaw_up.host.engine_image.LAYER_BYTES", 1 << 20)
    bomb = layer({"usr/zeros": bytes(4 << 20)})
    assert len(bomb) < 1 << 16
    Publisher(registry.address).image("hostile/bomb", "1", [*engine_layers(standin_dir), bomb])
    refused(f"{registry.address}/hostile/bomb:1", "pull-unsafe")


def test_a_manifest_that_promises_more_than_an_engine(registry: Registry) -> None:
    """No registry stores such a manifest: a server of our own says it."""
    document = {
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "size": 50 << 30,
                "digest": f"sha256:{'0' * 64}",
            }
        ]
    }
    with serving(lambda path: (200, {}, json.dumps(document).encode())) as (address, _):
        assert "53687091200 bytes" in refused(f"{address}/a/b:1", "pull-broken").detail


def test_a_page_instead_of_a_manifest() -> None:
    with serving(lambda path: (200, {"Content-Type": "text/html"}, b"<html>Please log in to the hotel")) as (
        address,
        _,
    ):
        assert "Please log in" in refused(f"{address}/a/b:1", "pull-registry").detail


def test_a_token_for_nobody_and_one_for_the_user(registry: Registry, published: str, tmp_path: Path) -> None:
    """As ghcr.io and Docker Hub do: a challenge, a token server, then the same request with the token."""
    import http.client

    seen: list[tuple[str, str]] = []

    def answer(path: str, authorization: str = "") -> tuple[int, dict[str, str], bytes]:
        seen.append((path.partition("?")[0], authorization.partition(" ")[0]))
        if path.startswith("/token"):
            assert f"scope=repository%3A{NAME.replace('/', '%2F')}%3Apull" in path
            return 200, {}, b'{"token": "t0ken"}'
        if authorization != "Bearer t0ken":
            challenge = f'Bearer realm="http://{address}/token",service="here",scope="repository:{NAME}:pull"'
            return 401, {"WWW-Authenticate": challenge}, b"{}"
        accept = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
        with contextlib.closing(http.client.HTTPConnection(registry.address)) as asking:
            asking.request("GET", path, headers={"Accept": accept})
            got = asking.getresponse()
            return got.status, dict(got.getheaders()), got.read()

    with serving(answer) as (address, _):
        image = f"{address}/{NAME}:{TAG}"
        pulled = pull(image)
        assert pulled.new and ("/token", "") in seen
        (tmp_path / "docker").mkdir()
        login = {"auths": {address: {"auth": "bWU6c2VjcmV0"}}}
        (tmp_path / "docker/config.json").write_text(json.dumps(login))
        seen.clear()
        pull(f"{image}-amd64", environ={"DOCKER_CONFIG": str(tmp_path / "docker")})
        assert ("/token", "Basic") in seen


@contextlib.contextmanager
def serving(answer: Callable[..., tuple[int, dict[str, str], bytes]]) -> Iterator[tuple[str, ThreadingHTTPServer]]:
    """A server that says what it is told to; gives its address."""
    takes_proof = answer.__code__.co_argcount > 1

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            proof = (self.headers.get("Authorization", ""),) if takes_proof else ()
            status, headers, body = answer(self.path, *proof)
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class TestTheCache:
    def test_a_disk_that_is_full(self, published: str, cache: Path) -> None:
        small = cache.parents[1]
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(small)], check=True)
        try:
            assert "MiB are free" in refused(published, "pull-disk-full").detail
        finally:
            subprocess.run(["umount", str(small)], check=True)

    def test_two_at_once_fetch_once(self, gate: Gate, published: str, new_cli: Callable[..., Cli]) -> None:
        cli = new_cli(OWLCLAW_UP_HATCHET_IMAGE=gate.reference(published))
        both = [cli.start("engine", "pull", "--json") for _ in range(2)]
        said = [json.loads(process.communicate(timeout=60)[0]) for process in both]
        assert sorted(document["new"] for document in said) == [False, True]
        assert said[0]["directory"] == said[1]["directory"]
        layers = [asked.path for asked in gate.asked if asked.part == "layers"]
        assert len(layers) == len(set(layers))

    def test_killed_and_run_again(self, gate: Gate, published: str, new_cli: Callable[..., Cli]) -> None:
        cli = new_cli(OWLCLAW_UP_HATCHET_IMAGE=gate.reference(published))
        engines = Path(cli.env["HOME"]) / ".cache/owlclaw-up/engines"
        gate.stall(part="layers")
        process = cli.start("engine", "pull")
        deadline = time.monotonic() + 30
        while not [p for p in engines.glob(".pull-*/*") if p.stat().st_size]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        gate.open()
        assert cli.json("engine", "pull")["new"]
        assert any(asked.range for asked in gate.asked), "it goes on from what had come"
        assert [p.name for p in engines.iterdir() if p.name.startswith(".pull-")] == []

    def test_damaged_afterwards(self, published: str, cache: Path) -> None:
        pulled = pull(published)
        binary = pulled.engine.directory / "hatchet-admin"
        binary.write_bytes(binary.read_bytes()[:-1])
        looked = cached(LocalProcesses())[0]
        assert isinstance(looked, EngineRefused)
        assert (looked.code, looked.hint) == ("engine-damaged", "owlclaw-up engine pull")
        again = pull(published)
        assert again.new and again.engine.directory == pulled.engine.directory
        # Of the same size and time, too: a pull looks at every byte.
        info = binary.stat()
        binary.write_bytes(b"X" + binary.read_bytes()[1:])
        os.utime(binary, ns=(info.st_atime_ns, info.st_mtime_ns))
        assert pull(published).new


def test_the_cache_is_the_user_s_own(cache: Path) -> None:
    assert cache_dir() == cache
