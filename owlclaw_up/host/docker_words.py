"""What Docker's words mean: one cause for each way in which a pull can fail. Texts of Docker 20.10 to 28 and containerd. Pure."""

from __future__ import annotations

import re

# First match wins. `full` and `login` come before the words of a broken transfer, which may stand beside them.
_PULL = (
    ("disk-full", r"no space left on device|disk quota exceeded"),
    ("rate-limit", r"toomanyrequests|too many requests|rate limit|\b429\b"),
    (
        "missing",
        r"manifest unknown|manifest for .* not found|name unknown|not found: manifest|invalid reference format",
    ),
    ("platform", r"no matching manifest|does not match the specified platform|exec format error"),
    ("login", r"unauthorized|denied|authentication required|no basic auth credentials|forbidden|\b40[13]\b"),
    (
        "broken",
        r"filesystem layer verification failed|failed size validation|unexpected commit digest|unexpected EOF|"
        r"failed to read expected number of bytes|failed to verify|digest mismatch|invalid checksum|"
        r"failed to copy|failed commit on ref|connection reset by peer|archive/tar|gzip: invalid|invalid tar header|"
        r"unexpected end of JSON|\bEOF\b|content digest|stream terminated",
    ),
    (
        "network",
        r"no such host|connection refused|network is unreachable|no route to host|i/o timeout|"
        r"TLS handshake timeout|Client\.Timeout|context deadline exceeded|dial tcp|Read timed out|ReadTimeout|"
        r"temporary failure in name resolution|x509|proxyconnect|server gave HTTP response|context canceled|"
        r"request canceled",
    ),
    ("registry", r"\b50[0-9]\b|internal server error|bad gateway|service unavailable|received unexpected HTTP status"),
)
_COMPILED = [(kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _PULL]


def pull_failure(words: str) -> str:
    """Why a pull failed: `broken` (a transfer that came out wrong), `rate-limit`, `network`, `registry` (it is ill),
    `login`, `missing`, `platform`, `disk-full` or `other`.
    """
    return next((kind for kind, pattern in _COMPILED if pattern.search(words)), "other")
