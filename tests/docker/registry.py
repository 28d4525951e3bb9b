"""A real image registry on loopback, and a gate before it that can refuse, stall and hang up.

`Registry` is Debian's `docker-registry` with a store of its own: what it serves can be spoiled on disk and mended again.
`Gate` passes requests on to it and writes down what was asked. The Docker daemon speaks plain HTTP to both, as it does
to every registry on a loopback address.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import io
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Literal

from tests.ports import free_port

START_SECONDS = 20.0
_LEGACY_BUILDER = {"DOCKER_BUILDKIT": "0"}
Spoiled = Literal["truncated", "appended", "changed", "wrong-digest"]
Part = Literal["manifests", "layers", "everything"]


def docker(*words: str, seconds: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the `docker` command and give what it said."""
    ran = subprocess.run(
        ["docker", *words], env={**os.environ, **_LEGACY_BUILDER}, text=True, capture_output=True, timeout=seconds,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert not check or ran.returncode == 0, f"docker {' '.join(words)}: {ran.stdout}{ran.stderr}"
    return ran


def remove_images_of(address: str) -> None:
    """Remove the images that this machine has from a registry."""
    if shutil.which("docker") is None:
        return
    # Where no engine answers, there are none.
    said = docker("images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}", check=False).stdout
    for line in said.splitlines():
        repository, tag, digest = line.split()
        if repository.startswith(f"{address}/"):
            docker("rmi", f"{repository}:{tag}" if tag != "<none>" else f"{repository}@{digest}", check=False)


class Registry:
    """A registry that runs as long as the block.

    Args:
        folder: of the test, for the store, the configuration and the log.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._folder = folder
        self._store = folder / "store/docker/registry/v2"
        self._whole: dict[Path, bytes] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Registry:
        self._folder.mkdir(parents=True, exist_ok=True)
        # JSON is YAML. Without a cache it looks at its files again for every request.
        configuration = {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self._folder / "store")}},
            "http": {"addr": self.address, "relativeurls": True},
        }
        file, log = self._folder / "config.yml", self._folder / "log"
        file.write_text(json.dumps(configuration))
        with log.open("wb") as out:
            self._process = subprocess.Popen(["docker-registry", "serve", str(file)], stdout=out, stderr=out)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        remove_images_of(self.address)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        asking = http.client.HTTPConnection(self.address, timeout=5)
        try:
            asking.request("GET", "/v2/")
            return asking.getresponse().status == 200
        except OSError:
            return False
        finally:
            asking.close()

    def push(self, image: str, name_tag: str, size: int = 1 << 18) -> str:
        """Put an image of this machine there, with one more layer that this machine does not keep.

        A pull has to fetch that layer, and only that one. It cannot be compressed.

        Returns:
            The reference to pull.
        """
        reference = f"{self.address}/{name_tag}"
        with tempfile.TemporaryDirectory(dir=self._folder) as context:
            Path(context, "Dockerfile").write_text(f"FROM {image}\nCOPY layer /usr/share/layer\n")
            Path(context, "layer").write_bytes(os.urandom(size))
            try:
                docker("build", "--quiet", "--tag", reference, context)
                docker("push", "--quiet", reference)
            finally:
                docker("rmi", reference, check=False)
        return reference

    def corrupt(self, reference: str, how: Spoiled) -> None:
        """Spoil the last layer of an image in the store; its manifest stays as it is."""
        blob = self._last_layer(reference)
        whole = self._whole.setdefault(blob, blob.read_bytes())
        match how:
            case "truncated":
                blob.write_bytes(whole[: len(whole) // 2])
            case "appended":
                blob.write_bytes(whole + b"more")
            case "changed":
                middle = len(whole) // 2
                blob.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
            case "wrong-digest":
                blob.write_bytes(_layer())

    def mend(self, reference: str) -> None:
        """Undo `corrupt`."""
        blob = self._last_layer(reference)
        blob.write_bytes(self._whole.pop(blob))

    def _last_layer(self, reference: str) -> Path:
        name, _, tag = reference.partition("/")[2].rpartition(":")
        link = (self._store / "repositories" / name / "_manifests/tags" / tag / "current/link").read_text()
        manifest = json.loads(self._blob(link).read_text())
        return self._blob(manifest["layers"][-1]["digest"])

    def _blob(self, digest: str) -> Path:
        number = digest.strip().partition(":")[2]
        return self._store / "blobs/sha256" / number[:2] / number / "data"


def _layer() -> bytes:
    """A layer like any other, with one file in it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("of-another-image"))
    return gzip.compress(packed.getvalue())


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
        range: the part of a blob that was asked for; empty for all of it.
    """

    method: str
    path: str
    part: Part
    range: str = ""

    @property
    def reference(self) -> str:
        """Name and tag of the image whose manifest was asked for, else nothing."""
        found = re.fullmatch(r"/v2/(.+)/manifests/(.+)", self.path)
        if found is None:
            return ""
        return f"{found[1]}{'@' if ':' in found[2] else ':'}{found[2]}"


@dataclass
class _Trouble:
    """What happens instead of an answer.

    Attributes:
        times: to how many GETs, then they pass; None is for ever. A HEAD is not counted: the daemon sends one before the
            GET of a manifest and takes no notice of how it ends, so this is the number of pulls that fail.
    """

    kind: Literal["answer", "drop", "stall"]
    part: Part
    times: int | None
    status: int = 0
    retry_after: int | None = None


# What registries say with these codes: the specification's own.
_SAID = {
    401: ("UNAUTHORIZED", "authentication required"),
    403: ("DENIED", "requested access to the resource is denied"),
    404: ("MANIFEST_UNKNOWN", "manifest unknown"),
    429: ("TOOMANYREQUESTS", "You have reached your pull rate limit."),
    500: ("UNKNOWN", "unknown error"),
}


class Gate:
    """A proxy before a registry, for pulls; images are asked for at its `address`.

    A daemon fails at once over a manifest. For a layer it asks again and again for 75 seconds, whatever the status (only
    404 it believes), so trouble with layers is best limited to a number of `times`. The first repetition takes 5 s.

    Attributes:
        asked: every request so far, the ones that were refused too.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.asked: list[Asked] = []
        self._trouble: _Trouble | None = None
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._connections: set[socket.socket] = set()
        # Of the manifests that passed: an image's configuration is a blob like its layers.
        self._layers: set[str] = set()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.gate = self
        self.port = self._server.server_port
        self.address = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Gate:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open()
        self._server.shutdown()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()
        remove_images_of(self.address)

    def reference(self, of_registry: str) -> str:
        """The same image, asked for at the gate."""
        return f"{self.address}/{of_registry.partition('/')[2]}"

    @property
    def references(self) -> set[str]:
        """Name and tag of every image that was asked for."""
        with self._lock:
            return {asked.reference for asked in self.asked} - {""}

    def answer(
        self, status: int, times: int | None = None, *, part: Part = "manifests", retry_after: int | None = None
    ) -> None:
        """Answer with a status of 4xx or 5xx."""
        self._set(_Trouble("answer", part, times, status, retry_after))

    def drop(self, times: int | None = None, *, part: Part = "layers") -> None:
        """Hang up in the middle of the body."""
        self._set(_Trouble("drop", part, times))

    def stall(self, times: int | None = None, *, part: Part = "manifests") -> None:
        """Say nothing more from the middle of the body on, and do not hang up."""
        self._set(_Trouble("stall", part, times))

    def open(self) -> None:
        """Let everything pass, what is stalled too."""
        self._set(None)

    def _set(self, trouble: _Trouble | None) -> None:
        with self._lock:
            self._trouble = trouble
            self._released.set()
            self._released = threading.Event()

    def learn(self, manifest: bytes) -> None:
        """Know the layers that a manifest names."""
        with contextlib.suppress(ValueError, KeyError):
            layers = {layer["digest"] for layer in json.loads(manifest)["layers"]}
            with self._lock:
                self._layers |= layers

    def note(self, method: str, path: str, range: str = "") -> tuple[_Trouble | None, threading.Event]:
        """Write a request down; give what is to happen to it and what ends a stall."""
        with self._lock:
            layer = path.rpartition("/")[2] in self._layers
            part: Part = "manifests" if "/manifests/" in path else "layers" if layer else "everything"
            asked = Asked(method, path, part, range)
            self.asked.append(asked)
            trouble = self._trouble
            if trouble is None or trouble.part not in (asked.part, "everything") or trouble.times == 0:
                return None, self._released
            if trouble.times is not None and asked.method == "GET":
                trouble.times -= 1
            return trouble, self._released

    @contextlib.contextmanager
    def holding(self, connection: socket.socket) -> Iterator[None]:
        """Know a connection while it lasts, so that it can be ended."""
        with self._lock:
            self._connections.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._connections.discard(connection)


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    gate: Gate


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle(self) -> None:
        with self.server.gate.holding(self.connection), contextlib.suppress(ConnectionError):
            # The daemon tries TLS first, and waits for an answer.
            if self.connection.recv(1, socket.MSG_PEEK) == b"\x16":
                self.connection.recv(1 << 16)
                self.connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\nplain HTTP only\n")
                return
            super().handle()

    def do_GET(self) -> None:
        self._pass_on()

    def do_HEAD(self) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        gate = self.server.gate
        trouble, released = gate.note(self.command, self.path, self.headers.get("Range", ""))
        if trouble is not None and trouble.kind == "answer":
            self._refuse(trouble)
            return
        asking = http.client.HTTPConnection(gate.registry.address, timeout=60)
        try:
            asking.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                asking.putheader(name, value)
            asking.endheaders()
            answer = asking.getresponse()
            body = answer.read()
        finally:
            asking.close()
        if "/manifests/" in self.path:
            gate.learn(body)
        half = body[: len(body) // 2]
        if trouble is not None and not half:
            # Nothing to stop in the middle of.
            self._end(trouble, released)
            return
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        # That of a HEAD is the length of what GET would give.
        self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(body)))
        self.end_headers()
        if trouble is None:
            self.wfile.write(body)
        else:
            self.wfile.write(half)
            self._end(trouble, released)

    def _end(self, trouble: _Trouble, released: threading.Event) -> None:
        if trouble.kind == "stall":
            released.wait()
        self.close_connection = True

    def _refuse(self, trouble: _Trouble) -> None:
        code, message = _SAID[trouble.status]
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self.send_response_only(trouble.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if trouble.retry_after is not None:
            self.send_header("Retry-After", str(trouble.retry_after))
        if trouble.status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="registry"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """What was asked is in `Gate.asked`."""
