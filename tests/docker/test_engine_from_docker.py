"""The engine out of an image that Docker has, with no network: from an engine that answers, and from the files of one that is stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from owlclaw_up.errors import EnginePullFailed
from owlclaw_up.host.base import SystemClock
from owlclaw_up.host.docker_engines import answering
from owlclaw_up.host.docker_images import InDocker, look_in_docker
from owlclaw_up.host.engine_pull import EnginePull, Pulled
from owlclaw_up.host.engines import BINARIES, cached, manifest_of
from owlclaw_up.host.local import LocalProcesses
from owlclaw_up.model import Absent, Fact, Unknown, found
from tests.conftest import Cli
from tests.docker.registry import Registry, docker
from tests.images import Publisher, config_of, digest_of, engine_layers, layer, saved

# Nobody answers there, and nobody ever will.
NAME = f"registry.invalid/owlclaw-up-test/{uuid4().hex[:8]}"
MARK = b"the noise begins here"
_SECONDS = 30.0


@pytest.fixture(scope="module")
def layers(standin_dir: Path) -> list[bytes]:
    """An engine; one file of its dashboard taken away again; and something that takes its time, and cannot be packed."""
    taken = layer({"static-assets/js/.wh.app.js": b"", ".wh.nothing-of-ours": b""})
    return [*engine_layers(standin_dir), taken, layer({"usr/share/noise": MARK + os.urandom(8 << 20)})]


@pytest.fixture(scope="module")
def loaded(need_docker: None, layers: Sequence[bytes], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image in this machine's Docker, by a name whose registry does not exist."""
    name, file = f"{NAME}:v0.107.2", tmp_path_factory.mktemp("archive") / "image.tar"
    file.write_bytes(saved(name, layers)[0])
    docker("load", "--input", str(file))
    yield name
    docker("rmi", name, check=False)


@pytest.fixture(scope="module")
def engine() -> str:
    """Where that Docker answers."""
    return docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}").stdout.strip()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/owlclaw-up/engines"


def pull(image: str, **how: Any) -> Pulled:
    """Args: environ: where Docker is."""
    environ = {"HOME": "/nonexistent", **how.pop("environ", {})}
    return EnginePull(
        image, how.pop("source", image), environ, LocalProcesses(), SystemClock(), how.pop("offline", True), **how
    ).run()


def refused(image: str, code: str, **how: Any) -> EnginePullFailed:
    with pytest.raises(EnginePullFailed) as failed:
        pull(image, **how)
    assert failed.value.code == code, failed.value
    assert cached(LocalProcesses()) == []
    return failed.value


def contents(pulled: Pulled) -> dict[str, str]:
    return {name: file["sha256"] for name, file in manifest_of(pulled.engine.directory)["files"].items()}


def until(seen: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while not seen():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


class Between:
    """Stands between a client and Docker's socket, and does something to an answer from a marked place on.

    Args:
        how: `change` a byte of it, `stall`, or `end`.
    """

    def __init__(self, engine: str, how: str) -> None:
        self._engine, self._how = engine.removeprefix("unix://"), how
        self._folder = Path(tempfile.mkdtemp(prefix="owlclaw-"))
        self._listener = socket.socket(socket.AF_UNIX)
        self._released = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = [self._listener]
        self.reached = threading.Event()
        self.address = f"unix://{self._folder}/docker.sock"

    def __enter__(self) -> Between:
        self._listener.bind(self.address.removeprefix("unix://"))
        self._listener.listen(16)
        self._start(self._serve)
        return self

    def __exit__(self, *exception: object) -> None:
        self._released.set()
        # Whoever waits for more is not woken by a close.
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_SECONDS)
        for each in self._sockets:
            each.close()
        shutil.rmtree(self._folder)

    def _start(self, run: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=run, args=args)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._engine)
                self._sockets += (near, far)
                self._start(self._pass_on, near, far, False)
                self._start(self._pass_on, far, near, True)

    def _pass_on(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        before = b""
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                at = (before + data).find(MARK) if answers else -1
                if at >= 0:
                    self.reached.set()
                    if self._how != "change":
                        self._released.wait(_SECONDS if self._how == "stall" else 0)
                        break
                    place = at - len(before) + len(MARK) - 1
                    data = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
                before = data[-len(MARK) + 1 :]
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class TestFromAnEngineThatAnswers:
    def test_it_is_taken_with_no_network(self, loaded: str, engine: str, cache: Path) -> None:
        told: list[tuple[int, int]] = []
        pulled = pull(loaded, environ={"DOCKER_HOST": engine}, progress=lambda *here: told.append(here))
        assert (pulled.source, pulled.engine.version) == ("docker", "v0.107.2")
        assert pulled.image_id == docker("image", "inspect", "--format", "{{.Id}}", loaded).stdout.strip()
        assert pulled.engine.directory == cache / f"v0.107.2+{pulled.image_id[7:19]}"
        assert set(contents(pulled)) == {*BINARIES, "static-assets/index.html"}, "what an upper layer took away is not"
        assert told == sorted(told) and told[-1][0] == told[-1][1]
        assert {p.name for p in cache.iterdir()} == {pulled.engine.directory.name, ".pull.lock"}
        # Again, also with no Docker.
        again = pull(loaded, environ={"DOCKER_HOST": "unix:///nonexistent.sock"})
        assert (again.source, again.image_id) == ("cache", pulled.image_id)

    def test_it_is_the_same_as_from_the_registry(
        self, loaded: str, engine: str, registry: Registry, layers: Sequence[bytes], monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:  # fmt: skip
        """Also where it is packed otherwise there; and what came from the one is not fetched from the other."""
        Publisher(registry.address).image("same/engine", "1", layers)
        there = f"{registry.address}/same/engine:1"
        nobody = {"DOCKER_HOST": "unix:///nonexistent.sock"}
        fetched = pull(there, environ=nobody)
        assert fetched.source == "registry"
        by_docker = pull(loaded, environ={"DOCKER_HOST": engine})
        assert (by_docker.source, by_docker.engine.directory) == ("cache", fetched.engine.directory)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
        alone = pull(loaded, environ={"DOCKER_HOST": engine})
        assert alone.source == "docker" and contents(alone) == contents(fetched)
        assert alone.engine.directory.name == fetched.engine.directory.name
        assert pull(there, environ=nobody).source == "cache"

    def test_a_layer_that_comes_out_changed(self, loaded: str, engine: str, cache: Path) -> None:
        with Between(engine, "change") as between:
            error = refused(loaded, "pull-broken", environ={"DOCKER_HOST": between.address})
            assert between.reached.is_set()
        assert "came as sha256:" in error.detail and f"docker pull {loaded}" in error.hint
        assert [p.name for p in cache.iterdir()] == [".pull.lock"]

    def test_docker_goes_away_in_the_middle(self, loaded: str, engine: str) -> None:
        with Between(engine, "end") as between:
            refused(loaded, "pull-other", environ={"DOCKER_HOST": between.address})

    def test_then_the_registry_is_asked(
        self, loaded: str, engine: str, registry: Registry, layers: Sequence[bytes]
    ) -> None:
        """And a line that stays says why."""
        Publisher(registry.address).image("mended/engine", "1", layers)
        notes: list[str] = []
        with Between(engine, "change") as between:
            pulled = pull(
                loaded, source=f"{registry.address}/mended/engine:1", environ={"DOCKER_HOST": between.address},
                note=notes.append,
            )  # fmt: skip
            assert pulled.source == "registry"
            assert len(notes) == 1 and "not out of Docker: layer sha256:" in notes[0]
        shutil.rmtree(pulled.engine.directory)
        with Between(engine, "change") as between:
            error = refused(
                loaded, "pull-network", offline=False, source="127.0.0.1:1/x:1",
                environ={"DOCKER_HOST": between.address},
            )  # fmt: skip
        assert "before that, out of Docker: layer sha256:" in error.detail

    def test_another_platform(
        self, loaded: str, engine: str, registry: Registry, layers: Sequence[bytes], tmp_path: Path
    ) -> None:
        """By name; and the registry has the right one."""
        name, file, notes = f"{NAME}:foreign", tmp_path / "image.tar", list[str]()
        file.write_bytes(saved(name, layers[1:2], machine="arm64")[0])
        Publisher(registry.address).image("right/engine", "1", layers)
        docker("load", "--input", str(file))
        try:
            error = refused(name, "pull-platform", environ={"DOCKER_HOST": engine})
            pulled = pull(
                name, source=f"{registry.address}/right/engine:1", environ={"DOCKER_HOST": engine}, note=notes.append
            )
        finally:
            docker("rmi", name)
        why = "Docker has it for linux/arm64, wanted linux/amd64"
        assert why in error.detail and notes == [f"not out of Docker: {why}"]
        assert pulled.source == "registry"

    def test_it_does_not_have_it(self, engine: str) -> None:
        error = refused(f"{NAME}:nowhere", "pull-offline", environ={"DOCKER_HOST": engine})
        assert "Docker does not have it" in error.detail and "docker load" in error.hint

    def test_killed_in_the_middle_and_run_again(
        self, loaded: str, engine: str, docker_project: Callable[..., Cli]
    ) -> None:
        with Between(engine, "stall") as between:
            cli = docker_project(loaded, OWLCLAW_UP_ENGINE_DIR="", DOCKER_HOST=between.address)
            engines = Path(cli.env["HOME"]) / ".cache/owlclaw-up/engines"
            running = cli.start("engine", "pull", "--offline")
            assert between.reached.wait(_SECONDS)
            running.send_signal(signal.SIGKILL)
            running.communicate(timeout=_SECONDS)
        assert len(list(engines.glob(".pulled-*"))) == 1
        document = cli.json("engine", "pull", "--offline", DOCKER_HOST=engine)
        assert (document["source"], document["new"]) == ("docker", True)
        assert sorted(p.name for p in engines.iterdir() if p.name != ".pull.lock") == [
            Path(document["directory"]).name
        ], "what the killed one has left is gone"

    def test_two_at_once(self, loaded: str, engine: str) -> None:
        sources: list[str] = []
        threads = [
            threading.Thread(target=lambda: sources.append(pull(loaded, environ={"DOCKER_HOST": engine}).source))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_SECONDS)
        assert sorted(sources) == ["cache", "docker"]

    def test_by_itself(self, loaded: str, engine: str, docker_project: Callable[..., Cli], tmp_path: Path) -> None:
        """Offline and from a clean folder: asked for; and by itself, where no compose can drive that Docker."""
        cli = docker_project(loaded, OWLCLAW_UP_ENGINE_DIR="", DOCKER_HOST=engine, OWLCLAW_UP_OFFLINE="true")
        by_itself = cli.json("plan", PATH=str(tmp_path))
        assert (by_itself["mode"], by_itself["decision"]["source"]) == ("native", "auto"), by_itself["decision"]
        assert f"can be taken out of its image in Docker ({loaded})" in by_itself["decision"]["why"]
        first = by_itself["steps"][0]
        assert (first["id"], first["action"]) == ("engine.fetch", "create")
        assert f"take it out of Docker's image {loaded}" in first["detail"]
        up = cli.json("up", "--mode", "native", "--smoke", "none")
        assert (up["status"], up["mode"]) == ("ok", "native")
        assert "out of Docker" in up["steps"][0]["detail"]
        assert "was already in" in cli("engine", "pull").stdout


@dataclass
class OwnEngine:
    """A Docker engine of the test's own, as one of its user: where the rootless one has its socket and its data.

    Attributes:
        environ: of a user whose engine it is.
    """

    home: Path
    sockets: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def root(self) -> Path:
        return self.home / ".local/share/docker"

    @property
    def address(self) -> str:
        return f"unix://{self.sockets}/docker.sock"

    @property
    def environ(self) -> dict[str, str]:
        return {"HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.sockets), "DOCKER_HOST": self.address}

    def start(self, log: Path) -> None:
        self.root.mkdir(parents=True)
        config = self.home / "daemon.json"
        config.write_text('{"features": {"containerd-snapshotter": false}}')
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [
                    *as_root(), "dockerd", "--data-root", str(self.root), "--exec-root", str(self.sockets / "run"),
                    "--pidfile", str(self.sockets / "pid"), "--host", self.address, "--group", str(os.getgid()),
                    "--config-file", str(config), "--bridge", "none", "--iptables=false", "--ip6tables=false",
                ],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
            )  # fmt: skip
        until(
            lambda: docker("-H", self.address, "version", check=False).returncode == 0 or self._process.poll(),  # type: ignore[union-attr]
            "dockerd does not answer",
        )
        assert self._process.poll() is None, log.read_text()[-2000:]

    def end(self) -> None:
        """End it as its service would, where it runs; its files are its user's afterwards."""
        if self._process is None:
            return
        pid = (self.sockets / "pid").read_text()
        subprocess.run([*as_root(), "kill", "-TERM", pid], check=True)
        self._process.wait(_SECONDS)
        self._process = None
        subprocess.run([*as_root(), "chown", "-R", str(os.getuid()), str(self.root)], check=True)


def as_root() -> list[str]:
    return [] if os.geteuid() == 0 else ["sudo", "-n"]


@pytest.fixture(scope="module")
def stopped(
    need_docker: None, layers: Sequence[bytes], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnEngine]:
    """An engine that had images, and was ended."""
    home, sockets = tmp_path_factory.mktemp("home"), Path(tempfile.mkdtemp(prefix="owlclaw-"))
    own = OwnEngine(home, sockets)
    spoiled = [*layers[:-1], layer({"static-assets/spoiled.js": b"as it was"})]
    try:
        own.start(home / "log")
        for tag, made, machine in (
            ("v0.107.2", layers, "amd64"), ("spoiled", spoiled, "amd64"), ("foreign", layers[1:2], "arm64"),
        ):  # fmt: skip
            (home / "image.tar").write_bytes(saved(f"{NAME}:{tag}", made, machine=machine)[0])
            docker("-H", own.address, "load", "--input", str(home / "image.tar"))
        own.end()
        yield own
    finally:
        own.end()
        subprocess.run([*as_root(), "rm", "-rf", str(home), str(sockets)], check=True)


class TestFromTheFilesOfAnEngineThatIsStopped:
    def test_it_is_taken_and_nothing_is_started(self, stopped: OwnEngine, layers: Sequence[bytes], cache: Path) -> None:
        """Every layer is put together again as it was, and has its digest; so what a layer took away is gone."""
        pulled = pull(f"{NAME}:v0.107.2", environ=stopped.environ)
        assert pulled.source == "docker-store" and pulled.digest == pulled.image_id
        assert set(contents(pulled)) == {*BINARIES, "static-assets/index.html"}
        assert not (stopped.sockets / "pid").exists()
        assert {p.name for p in cache.iterdir()} == {pulled.engine.directory.name, ".pull.lock"}
        # By its socket that engine is known, wherever its context or DOCKER_HOST comes from.
        assert isinstance(look(f"{NAME}:v0.107.2", stopped, DOCKER_HOST="unix:///nonexistent.sock"), Absent)

    def test_a_file_that_is_not_what_it_was(self, stopped: OwnEngine) -> None:
        for file in stopped.root.rglob("spoiled.js"):
            file.write_bytes(b"as it is ")
        error = refused(f"{NAME}:spoiled", "pull-broken", environ=stopped.environ)
        assert "came as sha256:" in error.detail
        for file in stopped.root.rglob("spoiled.js"):
            file.unlink()
        assert "No such file" in refused(f"{NAME}:spoiled", "pull-broken", environ=stopped.environ).detail
        for file in stopped.root.rglob("static-assets"):
            if not list(file.iterdir()):
                os.mkfifo(file / "spoiled.js")
        assert "is no file" in refused(f"{NAME}:spoiled", "pull-broken", environ=stopped.environ).detail

    def test_another_platform(self, stopped: OwnEngine) -> None:
        error = refused(f"{NAME}:foreign", "pull-platform", environ=stopped.environ)
        assert "wanted linux/amd64, it is for linux/arm64" in error.detail

    def test_it_does_not_have_it(self, stopped: OwnEngine) -> None:
        error = refused(f"{NAME}:nowhere", "pull-offline", environ=stopped.environ)
        assert "nobody answers" in error.detail or "there is no" in error.detail

    def test_a_store_that_this_user_may_not_read(self, stopped: OwnEngine) -> None:
        """One line says so."""
        before = stopped.root.stat().st_mode
        try:
            with as_another_user(stopped.root):
                looked = look(f"{NAME}:v0.107.2", stopped)
        finally:
            stopped.root.chmod(before)
        assert isinstance(looked, Unknown) and looked.why.splitlines() == [
            f"Docker's store in {stopped.root} cannot be read: Permission denied"
        ]

    def test_by_itself(self, stopped: OwnEngine, new_cli: Callable[..., Cli], tmp_path: Path) -> None:
        """Offline, from a clean folder, with a Docker that is not running: a durable mode all the same."""
        cli = new_cli(
            **stopped.environ, OWLCLAW_UP_ENGINE_DIR="", OWLCLAW_UP_HATCHET_IMAGE=f"{NAME}:v0.107.2",
            OWLCLAW_UP_OFFLINE="true", XDG_CACHE_HOME=str(tmp_path / "cache"),
        )  # fmt: skip
        plan = cli.json("plan")
        assert (plan["mode"], plan["decision"]["source"]) == ("native", "auto")
        assert f"take it out of {NAME}:v0.107.2 in Docker's store" in plan["steps"][0]["detail"]
        document = cli.json("engine", "pull")
        assert (document["source"], document["new"]) == ("docker-store", True)
        assert cli.json("plan")["steps"][0]["id"] != "engine.fetch"


def look(image: str, own: OwnEngine, **env: str) -> Fact[InDocker]:
    environ = {**own.environ, **env}
    return look_in_docker(image, "amd64", environ, answering(environ))


@contextlib.contextmanager
def as_another_user(folder: Path) -> Iterator[None]:
    """Somebody to whom a folder is closed: root is not kept out of anything."""
    folder.chmod(0o000)
    us = os.geteuid()
    if us == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(us)


@pytest.fixture(scope="module")
def content(layers: Sequence[bytes], tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEngine]:
    """What a newer Docker leaves behind, which has containerd keep its images: made by containerd itself."""
    if shutil.which("ctr") is None:
        pytest.skip("no ctr on this machine: apt-get install containerd")
    home, sockets = tmp_path_factory.mktemp("home"), Path(tempfile.mkdtemp(prefix="owlclaw-"))
    own = OwnEngine(home, sockets)
    root = own.root / "containerd/daemon"
    address = str(sockets / "containerd.sock")
    ctr = [*as_root(), "ctr", "--address", address, "--namespace", "moby"]
    (home / "config.toml").write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    with (home / "log").open("wb") as out:
        running = subprocess.Popen(
            [
                *as_root(), "containerd", "--config", str(home / "config.toml"), "--root", str(root), "--state",
                str(sockets / "state"), "--address", address,
            ],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        until(
            lambda: subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode == 0,
            "containerd does not answer",
        )
        for tag, machine in (("v0.107.2", "amd64"), ("foreign", "arm64")):
            archive = saved(f"{NAME}:{tag}", layers, form="containerd", machine=machine)[0]
            (home / "image.tar").write_bytes(archive)
            platform = ("--platform", f"linux/{machine}")
            subprocess.run(
                [*ctr, "images", "import", *platform, "--no-unpack", str(home / "image.tar")],
                check=True, capture_output=True,
            )  # fmt: skip
        # So many names that they take more than one page.
        more = [f"{NAME}/{number}:v{number}" for number in range(100)]
        subprocess.run([*ctr, "images", "tag", f"{NAME}:v0.107.2", *more], check=True, capture_output=True)
        subprocess.run([*as_root(), "kill", "-TERM", str(running.pid)], check=True)
        running.wait(_SECONDS)
        subprocess.run([*as_root(), "chown", "-R", str(os.getuid()), str(home)], check=True)
        yield own
    finally:
        if running.poll() is None:
            subprocess.run([*as_root(), "kill", "-KILL", str(running.pid)], check=True)
            running.wait(_SECONDS)
        subprocess.run([*as_root(), "rm", "-rf", str(home), str(sockets)], check=True)


class TestFromTheFilesOfContainerd:
    def test_it_is_taken(self, content: OwnEngine, layers: Sequence[bytes]) -> None:
        """By the very id that it has everywhere else."""
        pulled = pull(f"{NAME}:v0.107.2", environ=content.environ)
        assert pulled.source == "docker-store"
        assert pulled.image_id == digest_of(config_of(layers))
        assert set(contents(pulled)) == {*BINARIES, "static-assets/index.html"}

    def test_another_platform(self, content: OwnEngine) -> None:
        error = refused(f"{NAME}:foreign", "pull-platform", environ=content.environ)
        assert "wanted linux/amd64, there is: linux/riscv64, linux/arm64" in error.detail

    def test_it_does_not_have_it(self, content: OwnEngine) -> None:
        for name in (f"{NAME}:nowhere", "a/b:1", "registry.invalid/zzz:1"):
            refused(name, "pull-offline", environ=content.environ)
        for number in (0, 50, 99):
            assert found(look(f"{NAME}/{number}:v{number}", content)) is not None

    def test_what_is_not_what_it_was(self, content: OwnEngine, layers: Sequence[bytes]) -> None:
        blobs = content.root / "containerd/daemon/io.containerd.content.v1.content/blobs"
        blob = blobs / digest_of(layers[1]).replace(":", "/")
        whole = blob.read_bytes()
        blob.chmod(0o600)
        blob.write_bytes(layers[2])
        assert "came as" in refused(f"{NAME}:v0.107.2", "pull-broken", environ=content.environ).detail
        blob.unlink()
        assert "is not in" in refused(f"{NAME}:v0.107.2", "pull-broken", environ=content.environ).detail
        blob.write_bytes(whole)
        names = content.root / "containerd/daemon/io.containerd.metadata.v1.bolt/meta.db"
        kept = names.read_bytes()
        for spoiled in (b"", kept[:100], kept[: len(kept) // 4], os.urandom(len(kept))):
            names.write_bytes(spoiled)
            refused(f"{NAME}:v0.107.2", "pull-broken", environ=content.environ)
        names.write_bytes(kept)
        assert pull(f"{NAME}:v0.107.2", environ=content.environ).source == "docker-store"
