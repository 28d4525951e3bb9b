"""What Docker's words mean: one cause for each way in which a pull can fail. Texts of Docker 20.10 to 28 and containerd. Pure."""

from __future__ import annotations

import re

_BROKEN = (
    "filesystem layer verification failed", "failed size validation", "unexpected commit digest", "unexpected EOF",
    "failed to read expected number of bytes", "failed to verify", "digest mismatch", "invalid checksum",
    "failed to copy", "failed commit on ref", "connection reset by peer", "archive/tar", "gzip: invalid",
    "invalid tar header", "unexpected end of JSON", r"\bEOF\b", "content digest", "stream terminated",
)  # fmt: skip
_NETWORK = (
    "no such host", "connection refused", "network is unreachable", "no route to host", "i/o timeout",
    "TLS handshake timeout", r"Client\.Timeout", "context deadline exceeded", "dial tcp", "Read timed out",
    "ReadTimeout", "temporary failure in name resolution", "x509", "proxyconnect", "server gave HTTP response",
    "context canceled", "request canceled",
)  # fmt: skip
# The first match wins: a full disk and a refused login come before the words of a broken transfer that may stand beside.
_PULL = (
    ("disk-full", r"no space left on device|disk quota exceeded"),
    ("rate-limit", r"toomanyrequests|too many requests|rate limit|\b429\b"),
    (
        "missing",
        r"manifest unknown|manifest for .* not found|name unknown|not found: manifest|invalid reference format",
    ),
    ("platform", r"no matching manifest|does not match the specified platform|exec format error"),
    ("login", r"unauthorized|denied|authentication required|no basic auth credentials|forbidden|\b40[13]\b"),
    ("broken", "|".join(_BROKEN)),
    ("network", "|".join(_NETWORK)),
    ("registry", r"\b50[0-9]\b|internal server error|bad gateway|service unavailable|received unexpected HTTP status"),
)
_COMPILED = [(kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _PULL]


def pull_failure(words: str) -> str:
    """Why a pull failed: `broken` (a transfer that came out wrong), `rate-limit`, `network`, `registry` (it is ill),
    `login`, `missing`, `platform`, `disk-full` or `other`.
    """
    return next((kind for kind, pattern in _COMPILED if pattern.search(words)), "other")
