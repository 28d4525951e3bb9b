"""An image in a registry: its manifest for this machine, and its layers, over the OCI distribution protocol.

In: an image's name, a login, a mirror. Out: verified bytes in files. Speaks HTTP by httpx: proxies are honoured, and never
asked for loopback, where a registry is spoken to over plain HTTP as Docker does. Changes nothing but the files it is given.
Source: opencontainers/distribution-spec (pull), docker's token specification.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from owlclaw_up.errors import EnginePullFailed
from owlclaw_up.host.base import Clock
from owlclaw_up.host.held_image import DOCUMENT_BYTES, ImageUnfit, digest_of, is_digest, of_platform
from owlclaw_up.host.image_names import Reference, parse_reference
from owlclaw_up.model import Secret

if TYPE_CHECKING:
    import httpx

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_GZIP = re.compile(r"application/vnd\.(?:oci\.image\.layer\.v1\.tar|docker\.image\.rootfs\.diff\.tar)[.+]gzip")
_MEBIBYTE = 1 << 20
# No image of an engine is near this.
_IMAGE_BYTES = 4096 * _MEBIBYTE
_CHUNK = 1 << 18
# Tries of one request, and the longest that a registry may have us wait between two.
_TRIES, _LONGEST_WAIT = 5, 60.0
_CONNECT, _READ = 10.0, 30.0

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Layer:
    """Attributes: size: in bytes, as the manifest promises it."""

    digest: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What an image is made of, for one platform.

    Attributes:
        digest: of the manifest itself.
        layers: from the bottom to the top.
        config: the digest of the image's configuration, `config_size` its bytes.
        kind: media type of the manifest, whose bytes are `body`.
    """

    digest: str
    layers: tuple[Layer, ...]
    config: str
    config_size: int = 0
    kind: str = ""
    body: bytes = field(default=b"", repr=False)

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.layers)


@dataclass(frozen=True)
class RegistryLogin:
    user: str
    password: Secret


@dataclass
class ImageSource:
    """One image of one registry.

    Args:
        image: as the settings name it, for messages.
        reference: where it is pulled from: there, or from a mirror.
        login: of the user's at that registry; None for nobody.
        say: told what is waited for.
    """

    image: str
    reference: Reference
    clock: Clock
    login: RegistryLogin | None = None
    say: Callable[[str], None] = lambda text: None
    _token: str = field(default="", init=False)
    _client: httpx.Client | None = field(default=None, init=False)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def manifest(self, machine: str) -> Manifest:
        """The manifest for a platform of Linux; an index is followed to it.

        Args:
            machine: `amd64` or `arm64`, as images name it.

        Raises:
            EnginePullFailed: it cannot be had, or is not what its digest says.
        """
        digest, document, body = self._document(self.reference.at)
        if document.get("mediaType") in _INDEXES or "manifests" in document:
            digest, document, body = self._document(self._of_platform(document, machine))
            # An index in an index is nothing that an image is published as.
        layers = document.get("layers")
        if not isinstance(layers, list) or not layers:
            raise self._failed("broken", "the manifest names no layers")
        made = tuple(self._layer(layer) for layer in layers)
        if sum(layer.size for layer in made) > _IMAGE_BYTES:
            raise self._failed(
                "broken", f"the manifest promises {sum(la.size for la in made)} bytes: no engine is that large"
            )
        config = document.get("config") or {}
        size = config.get("size")
        return Manifest(
            digest, made, self._digest(config.get("digest")), size if isinstance(size, int) else 0,
            str(document.get("mediaType") or _MANIFESTS[0]), body,
        )  # fmt: skip

    def config(self, manifest: Manifest) -> bytes:
        """The image's configuration; whether it is the one that is promised, its reader sees.

        Raises:
            EnginePullFailed: it cannot be had.
        """
        return self._text(f"{self.reference.base}/blobs/{manifest.config}")

    def _of_platform(self, index: Mapping[str, Any], machine: str) -> str:
        try:
            return of_platform(index, machine)
        except ImageUnfit as error:
            raise self._failed(error.kind, str(error)) from None

    def _layer(self, layer: Any) -> Layer:
        if not isinstance(layer, dict) or not isinstance(layer.get("size"), int) or layer["size"] < 0:
            raise self._failed("broken", "the manifest has a layer without a size")
        kind = str(layer.get("mediaType"))
        if not _GZIP.fullmatch(kind):
            raise self._failed("other", f"a layer is packed as {kind}; only gzip can be read here")
        return Layer(self._digest(layer.get("digest")), layer["size"])

    def _digest(self, digest: Any) -> str:
        if not is_digest(digest):
            raise self._failed("broken", f"{digest!r} is no sha256 digest")
        return str(digest)

    def _document(self, at: str) -> tuple[str, dict[str, Any], bytes]:
        """A manifest or index: the digest of its bytes, what they say, and themselves."""
        body = self._text(f"{self.reference.base}/manifests/{at}", ", ".join((*_INDEXES, *_MANIFESTS)))
        digest = digest_of(body)
        if at.startswith("sha256:") and digest != at:
            raise self._failed("broken", f"asked for {at}, got {digest}")
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            # A page of a proxy or of a captive portal.
            raise self._failed("registry", f"no manifest, but: {body[:120].decode('utf-8', 'replace')}")
        return digest, document, body

    def _text(self, url: str, accept: str = "*/*") -> bytes:
        def read(answer: httpx.Response) -> bytes:
            body = b""
            for chunk in answer.iter_bytes():
                body += chunk
                if len(body) > DOCUMENT_BYTES:
                    raise self._failed("broken", "the manifest, or the configuration, is longer than any")
            return body

        return bytes(self._get(url, {"Accept": accept}, read))

    def fetch(self, layer: Layer, path: Path, progress: Progress) -> None:
        """A layer into a file, going on from what is there of it; the file is whole and right afterwards.

        Args:
            progress: told bytes done and promised.

        Raises:
            EnginePullFailed: it cannot be had, or is not what the manifest promises.
        """
        tries = 0
        while True:
            tries += 1
            try:
                self._go_on(layer, path, progress)
                self._verify(layer, path)
            except EnginePullFailed as error:
                # What came out wrong is thrown away, and asked for once more from its beginning.
                if error.kind != "broken" or tries >= 2:
                    raise
                path.unlink(missing_ok=True)
                self.say("it came out wrong; once more from its beginning")
            else:
                return

    def _go_on(self, layer: Layer, path: Path, progress: Progress) -> None:
        import httpx

        def receive(answer: httpx.Response) -> None:
            begun = path.stat().st_size if path.exists() and answer.status_code == 206 else 0
            done = begun
            # Unbuffered: what has come is there for the next try, also after a SIGKILL.
            with path.open("ab" if begun else "wb", buffering=0) as file:
                try:
                    for chunk in answer.iter_raw():
                        done += len(chunk)
                        if done > layer.size:
                            raise self._failed(
                                "broken", f"layer {layer.digest} is longer than the {layer.size} bytes promised"
                            )
                        file.write(chunk)
                        progress(done, layer.size)
                except httpx.TransportError as error:
                    raise _CutOff(
                        f"layer {layer.digest}: {type(error).__name__} after {done} bytes", done - begun
                    ) from None
            if done < layer.size:
                raise _CutOff(f"layer {layer.digest} ended after {done} of {layer.size} bytes", done - begun)

        def headers() -> dict[str, str]:
            there = path.stat().st_size if path.exists() else 0
            if there > layer.size:
                path.unlink()
                there = 0
            return {"Range": f"bytes={there}-"} if there else {}

        if path.exists() and path.stat().st_size == layer.size:
            progress(layer.size, layer.size)
            return
        try:
            self._get(f"{self.reference.base}/blobs/{layer.digest}", headers, receive)
        except OSError as error:
            raise self._failed(kind_of_disk_error(error), f"{path}: {os.strerror(error.errno or 0)}") from None

    def _verify(self, layer: Layer, path: Path) -> None:
        found = sha256_of(path)
        if f"sha256:{found}" != layer.digest:
            raise self._failed("broken", f"layer {layer.digest} came as sha256:{found}")

    def _get(
        self,
        url: str,
        headers: Mapping[str, str] | Callable[[], Mapping[str, str]],
        read: Callable[[httpx.Response], Any],
    ) -> Any:
        """GET, again where a second try may help; `read` gets an answer of 200 or 206 and may be called more than once."""
        import httpx

        last: EnginePullFailed | None = None
        tries = 0
        while tries < _TRIES:
            tries += 1
            wait = min(2.0 ** (tries - 1) / 2, 8.0)
            try:
                with self._asked(url, headers() if callable(headers) else headers) as answer:
                    if answer.status_code in (200, 206):
                        return read(answer)
                    if answer.status_code == 416:
                        # What is there of it is no beginning of this: from its own.
                        raise self._failed("broken", f"the registry has no such part of {url}")
                    last, again = self._refused(answer)
                    if not again:
                        raise last
                    wait = _wait_of(answer, wait)
            except _CutOff as cut:
                last = self._failed("broken", str(cut))
                if cut.came >= _CHUNK:
                    # It goes on: a bad line takes many pieces, each of which stays.
                    tries = 0
            except httpx.HTTPError as error:
                last = self._failed(
                    _kind_of(error), f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                )
                if _certain(error):
                    raise last from None
            if tries < _TRIES:
                self.say(f"{last.why}; again in {wait:.0f} s")
                self.clock.sleep(wait)
        assert last is not None
        raise last

    @contextmanager
    def _asked(self, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """One GET with whatever proves who we are; a challenge is answered once."""
        client = self._http()
        for may_ask in (True, False):
            with client.stream("GET", url, headers={**headers, **self._proof()}) as answer:
                challenge = answer.headers.get("WWW-Authenticate", "")
                if answer.status_code == 401 and may_ask and challenge:
                    self._answer(challenge)
                    continue
                yield answer
                return

    def _proof(self) -> dict[str, str]:
        return {"Authorization": self._token} if self._token else {}

    def _answer(self, challenge: str) -> None:
        """Get what the registry asks for: a token of its own, for nobody or for the user's login; or that login itself."""
        import base64

        kind, _, rest = challenge.partition(" ")
        asked = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        if kind.lower() == "basic":
            if self.login is not None:
                pair = f"{self.login.user}:{self.login.password.reveal()}".encode()
                self._token = f"Basic {base64.b64encode(pair).decode()}"
            return
        realm = asked.pop("realm", "")
        if kind.lower() != "bearer" or not realm.startswith(("https://", "http://")):
            return
        if not self.reference.plain and not realm.startswith("https://"):
            raise self._failed("login", f"the registry sends logins over plain HTTP to {realm}")
        auth = (self.login.user, self.login.password.reveal()) if self.login else None
        wanted = {k: v for k, v in asked.items() if k in ("service", "scope")}
        wanted.setdefault("scope", f"repository:{self.reference.repository}:pull")
        answer = self._http().get(realm, params=wanted, auth=auth) if auth else self._http().get(realm, params=wanted)
        if answer.status_code in (401, 403):
            raise self._failed("login", f"{realm.split('?')[0]} says {answer.status_code}")
        if answer.status_code != 200:
            raise self._refused(answer)[0]
        try:
            said = answer.json()
            self._token = f"Bearer {said.get('token') or said['access_token']}"
        except (ValueError, KeyError, AttributeError):
            raise self._failed("registry", f"{realm.split('?')[0]} gave no token") from None

    def _refused(self, answer: httpx.Response) -> tuple[EnginePullFailed, bool]:
        """Why a request was refused, and whether a second try may help."""
        status = answer.status_code
        words = answer.read()[:300].decode("utf-8", "replace").strip()
        kinds = {401: "login", 403: "login", 404: "missing", 407: "network", 429: "rate-limit"}
        kind = kinds.get(status, "registry" if status >= 500 else "other")
        return self._failed(kind, f"HTTP {status}: {words}"), kind in ("rate-limit", "registry")

    def _http(self) -> httpx.Client:
        if self._client is None:
            import httpx

            # httpx takes Authorization away from a redirect to another host, where layers often are.
            self._client = httpx.Client(
                timeout=httpx.Timeout(_READ, connect=_CONNECT), follow_redirects=True, max_redirects=5,
                trust_env=not self.reference.plain, headers={"User-Agent": "owlclaw-up"},
            )  # fmt: skip
        return self._client

    def _failed(self, kind: str, words: str) -> EnginePullFailed:
        # A mirror is named, and its own name is not said twice.
        own = parse_reference(self.image) == self.reference
        at = "@" if ":" in self.reference.at else ":"
        source = f"{self.reference.registry}/{self.reference.repository}{at}{self.reference.at}"
        return EnginePullFailed(self.image, self.image if own else source, kind, words)


class _CutOff(Exception):
    """The connection ended before the body did: what came of it stays.

    Attributes:
        came: bytes of this try.
    """

    def __init__(self, text: str, came: int) -> None:
        super().__init__(text)
        self.came = came


def sha256_of(path: Path) -> str:
    """The digest of a file's bytes, in hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def kind_of_disk_error(error: OSError) -> str:
    """Why a file could not be written, as `EnginePullFailed` names it."""
    return "disk-full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "other"


def _wait_of(answer: httpx.Response, otherwise: float) -> float:
    """Seconds that a registry asks for, within reason; HTTP dates are not."""
    said = answer.headers.get("Retry-After", "")
    return min(float(said), _LONGEST_WAIT) if said.isdigit() else otherwise


def _kind_of(error: httpx.HTTPError) -> str:
    import httpx

    cut = (httpx.RemoteProtocolError, httpx.ReadError, httpx.StreamError)
    return "broken" if isinstance(error, cut) else "network"


def _certain(error: httpx.HTTPError) -> bool:
    """Whether the next try would end the same: no such host, nobody listens there, a certificate that is not trusted."""
    import httpx

    return isinstance(error, (httpx.ConnectError, httpx.UnsupportedProtocol, httpx.ProxyError))


def docker_login(registry: str, environ: Mapping[str, str]) -> RegistryLogin | None:
    """The user's login at a registry, as `docker login` keeps it; None for nobody, or where it cannot be read."""
    import docker.auth
    import docker.errors

    folder = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "/nonexistent")) / ".docker")
    try:
        kept = docker.auth.load_config(str(folder / "config.json")).resolve_authconfig(
            None if registry == "docker.io" else registry
        )
    except (docker.errors.DockerException, OSError, ValueError):
        # An image that anybody may have needs none.
        return None
    if not kept or not kept.get("username") or not kept.get("password"):
        return None
    return RegistryLogin(kept["username"], Secret(kept["password"]))
