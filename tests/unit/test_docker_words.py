"""Docker's words, recorded from its engines and registries, and the one cause that each stands for."""

from __future__ import annotations

import pytest

from owlclaw_up.errors import PullFailed
from owlclaw_up.host.docker_words import pull_failure

DIGEST = "sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1"
BLOB = f"https://registry-1.docker.io/v2/pgvector/pgvector/blobs/{DIGEST}"
TOKEN = "https://ghcr.io/token?scope=repository%3Ahatchet-dev%2Fhatchet%2Fhatchet-lite%3Apull&service=ghcr.io"

RECORDED: dict[str, tuple[str, ...]] = {
    "broken": (
        f"filesystem layer verification failed for digest {DIGEST}",
        f"manifest verification failed for digest {DIGEST}",
        f"error pulling image configuration: image config verification failed for digest {DIGEST}",
        f'failed commit on ref "layer-{DIGEST}": "layer-{DIGEST}" failed size validation: 20106321 != 20006321: failed precondition',
        'failed commit on ref "layer-sha256:ab": "layer-sha256:ab" failed size validation: 429 != 403: failed precondition',
        f'failed commit on ref "layer-{DIGEST}": unexpected commit digest sha256:ff, expected {DIGEST}: failed precondition',
        "failed to read expected number of bytes: unexpected EOF",
        "failed to copy: failed to read expected number of bytes: short read: expected 29126278 bytes but got 1048576: unexpected EOF",
        "unexpected EOF",
        "EOF",
        'Get "https://registry-1.docker.io/v2/pgvector/pgvector/manifests/pg16": EOF',
        "failed to register layer: Error processing tar file(exit status 1): unexpected EOF",
        "failed to register layer: Error processing tar file(exit status 1): archive/tar: invalid tar header",
        "failed to register layer: file integrity checksum failed for \"usr/lib/x86_64-linux-gnu/libc.so.6\"",
        "layers from manifest don't match image configuration",
        "read tcp 10.0.0.2:51234->104.18.121.25:443: read: connection reset by peer",
        "failed to copy: httpReadSeeker: failed open: read tcp 10.0.0.2:51234->104.18.121.25:443: use of closed network connection",
        "stream error: stream ID 17; INTERNAL_ERROR; received from peer",
        "http2: server sent GOAWAY and closed the connection; LastStreamID=1999, ErrCode=NO_ERROR",
        "local error: tls: bad record MAC",
        "gzip: invalid checksum",
        "unknown blob",
        "unexpected end of JSON input",
    ),
    "rate-limit": (
        "toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit",
        "toomanyrequests: You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit",
        "toomanyrequests: retry-after: 261.146us, allowed: 44000/minute",
        "error parsing HTTP 429 response body: invalid character 'T' looking for beginning of value: \"Too Many Requests (HAP429).\"",
        "error parsing HTTP 429 response body: invalid character '<' looking for beginning of value",
        f"failed to copy: httpReadSeeker: failed open: unexpected status code {BLOB}: 429 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate limit.",
        "received unexpected HTTP status: 429 Too Many Requests",
    ),
    "network": (
        'Get "https://ghcr.io/v2/": dial tcp: lookup ghcr.io on 10.0.0.2:53: no such host',
        'Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io on 127.0.0.53:53: server misbehaving',
        "Get http://127.0.0.1:1/v2/: dial tcp 127.0.0.1:1: connect: connection refused",
        'failed to resolve reference "127.0.0.1:503/x/y:1": failed to do request: Head "https://127.0.0.1:503/v2/x/y/manifests/1": dial tcp 127.0.0.1:503: connect: connection refused',
        f"failed to copy: httpReadSeeker: failed open: failed to do request: Get \"{BLOB}\": dial tcp 104.18.121.25:443: connect: connection refused",
        "dial tcp 104.18.121.25:443: connect: network is unreachable",
        "dial tcp [2606:4700::6812:7919]:443: connect: no route to host",
        "error pulling image configuration: download failed after attempts=6: dial tcp 104.18.121.25:443: i/o timeout",
        "net/http: TLS handshake timeout",
        'Get "https://registry-1.docker.io/v2/": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)',
        'Get "https://registry-1.docker.io/v2/": context deadline exceeded',
        "read tcp 10.0.0.2:51234->104.18.121.25:443: read: connection timed out",
        "context canceled",
        'Get "https://registry-1.docker.io/v2/": proxyconnect tcp: dial tcp 10.0.0.1:3128: connect: connection refused',
        'Get "https://registry-1.docker.io/v2/": Proxy Authentication Required',
        'Get "https://ghcr.io/v2/": Forbidden',
        'Get "https://10.0.0.5:5000/v2/": http: server gave HTTP response to HTTPS client',
        'Get "https://ghcr.io/v2/": x509: certificate signed by unknown authority',
        'Get "https://ghcr.io/v2/": tls: failed to verify certificate: x509: certificate signed by unknown authority',
        'Get "https://10.0.0.5:5000/v2/": tls: first record does not look like a TLS handshake',
        "Get \"https://ghcr.io/v2/\": remote error: tls: handshake failure",
        f'failed to authorize: failed to fetch anonymous token: Get "{TOKEN}": net/http: TLS handshake timeout',
        "error parsing HTTP 200 response body: invalid character '<' looking for beginning of value: \"<html>\"",
    ),
    "registry": (
        "received unexpected HTTP status: 500 Internal Server Error",
        "received unexpected HTTP status: 502 Bad Gateway",
        "received unexpected HTTP status: 503 Service Unavailable",
        "received unexpected HTTP status: 520",
        "error parsing HTTP 504 response body: no error details found in HTTP response body",
        f"failed to authorize: failed to fetch anonymous token: unexpected status from GET request to {TOKEN}: 503 Service Unavailable",
        f"failed to copy: httpReadSeeker: failed open: unexpected status code {BLOB}: 500 Internal Server Error",
    ),
    "login": (
        "pull access denied for nobody/nothing, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
        'failed to resolve reference "docker.io/nobody/nothing:1": pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed',
        "unauthorized: authentication required",
        "unauthorized: incorrect username or password",
        "denied",
        "denied: denied",
        "error from registry: denied\ndenied",
        'Head "https://ghcr.io/v2/a/b/manifests/1": denied: denied',
        'Get "http://127.0.0.1:5000/v2/a/b/manifests/1": no basic auth credentials',
        "errors:\ndenied: requested access to the resource is denied\nunauthorized: authentication required\n",
        f"failed to authorize: failed to fetch anonymous token: unexpected status from GET request to {TOKEN}: 403 Forbidden",
        "failed to authorize: failed to fetch oauth token: unexpected status: 401 Unauthorized",
        "error parsing HTTP 403 response body: invalid character '<' looking for beginning of value",
    ),
    "credentials": (
        'error getting credentials - err: exec: "docker-credential-desktop.exe": executable file not found in $PATH, out: ``',
        "error getting credentials - err: exit status 1, out: `Cannot autolaunch D-Bus without X11 $DISPLAY`",
        "StoreError: Credentials store docker-credential-desktop exited with \"\".",
        "InitializationError: docker-credential-osxkeychain not installed or not available in PATH",
    ),
    "missing": (
        "manifest for pgvector/pgvector:pg99 not found: manifest unknown: manifest unknown",
        "manifest for ghcr.io/a/b:1 not found",
        "manifest unknown",
        "name unknown: Repository not found",
        "name unknown: repository name not known to registry",
        'failed to resolve reference "docker.io/pgvector/pgvector:pg99": docker.io/pgvector/pgvector:pg99: not found',
        "unknown: artifact pgvector/pgvector:pg99 not found",
        "unknown: resource not found: repository pgvector/pgvector not found",
        "invalid reference format",
        "error parsing HTTP 404 response body: no error details found in HTTP response body: \"\"",
    ),
    "platform": (
        "no matching manifest for linux/arm64/v8 in the manifest list entries",
        "no matching manifest for linux/arm64/v8 in the manifest list entries: no match for platform in manifest: not found",
        "image with reference pgvector/pgvector:pg16 was found but does not match the specified platform: wanted linux/amd64, actual: linux/arm64",
        'image operating system "windows" cannot be used on this platform: operating system is not supported',
    ),
    "disk-full": (
        "failed to register layer: Error processing tar file(exit status 1): write /usr/lib/postgresql/16/bin/postgres: no space left on device",
        "write /var/lib/docker/tmp/GetImageBlob3213213: no space left on device",
        'failed to copy: failed to send write: write /var/lib/containerd/io.containerd.content.v1.content/ingest/ab/data: no space left on device: unknown',
        "mkdir /var/lib/docker/overlay2/ab: disk quota exceeded",
    ),
    "other": (
        "",
        "failed to register layer: ApplyLayer exit status 1 stdout:  stderr: lchown /etc/gshadow: operation not permitted",
        "something that nobody has heard of",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "words"), [(kind, words) for kind, texts in RECORDED.items() for words in texts])
def test_words_of_a_pull(kind: str, words: str) -> None:
    assert pull_failure(words) == kind
    assert pull_failure(f"Error response from daemon: {words}") == kind
    error = PullFailed("pgvector/pgvector:pg16", "pgvector/pgvector:pg16", kind, words)
    assert error.code == f"pull-{kind}"
    assert error.hint
    assert error.detail == words


def test_every_cause_has_recorded_words() -> None:
    assert RECORDED.keys() == PullFailed._TEXTS.keys()
    assert RECORDED.keys() >= PullFailed.MOVES_ON


@pytest.mark.parametrize(
    ("source", "command"),
    [
        ("ghcr.io/a/b:1", "docker logout ghcr.io,"),
        ("localhost:5000/a:1", "docker logout localhost:5000,"),
        ("localhost/a:1", "docker logout localhost,"),
        ("pgvector/pgvector:pg16", "docker logout,"),
        ("docker.io/pgvector/pgvector:pg16", "docker logout,"),
        ("postgres:17", "docker logout,"),
    ],
)
def test_the_registry_to_log_out_of(source: str, command: str) -> None:
    assert PullFailed(source, source, "login", "denied").hint.startswith(command)
