"""What Docker's words mean: one cause for each way in which a pull can fail. Texts of Docker 20.10 to 28 and containerd. Pure."""

from __future__ import annotations

import re


def _answered(status: str) -> str:
    """A status as it stands in `HTTP 429 response` or `unexpected status from GET request to ...: 429 Too Many`."""
    return rf"(?:HTTP|status)\b.*\s(?:{status})\b"


# The first match wins: a full disk comes before the broken transfer it leads to, the whole word before its half.
_PULL: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("disk-full", ("no space left on device", "disk quota exceeded")),
    ("rate-limit", ("toomanyrequests", "too many requests", "rate limit", _answered("429"))),
    ("credentials", ("error getting credentials", "docker-credential-")),
    # A proxy's own refusals, not the registry's; and a certificate that is not trusted, which is no broken transfer.
    ("network", ("proxy authentication required", "proxyconnect", '(?:Get|Head) "[^"]*": Forbidden$', "x509")),
    ("platform", ("no matching manifest", "does not match the specified platform", "exec format error",
                  "cannot be used on this platform", "no match for platform")),
    ("missing", ("manifest unknown", "manifest for .* not found", "name unknown", "name not known to registry",
                 "not found: manifest", "invalid reference format", "failed to resolve reference .*: not found",
                 "(?:artifact|repository|resource) .*not found")),
    ("login", ("unauthorized", "denied", "authentication required", "no basic auth credentials", "forbidden",
               "authorization failed", _answered("401|403"))),
    ("broken", ("verification failed for digest", "failed size validation", "unexpected commit digest",
                "unexpected EOF", "failed to read expected number of bytes", "digest mismatch", "invalid checksum",
                "integrity checksum failed", "don't match image configuration", "connection reset by peer",
                "archive/tar", "gzip: invalid", "invalid tar header", "unexpected end of JSON", "content digest",
                "stream terminated", "stream error", "bad record MAC", "GOAWAY", "closed network connection",
                "unknown blob", "blob unknown")),
    ("network", ("no such host", "connection refused", "network is unreachable", "no route to host", "timeout",
                 "timed out", "deadline exceeded", "dial tcp", "name resolution", "server gave HTTP response",
                 "context canceled", "request canceled", "tls: ", "invalid character '<'")),
    ("registry", ("internal server error", "bad gateway", "service unavailable", "unexpected HTTP status",
                  _answered("5[0-9][0-9]"))),
    ("missing", (_answered("404"),)),
    # Words around a cause that had none of its own.
    ("broken", ("failed to copy", "failed commit on ref", "failed to verify", r"\bEOF\b")),
)  # fmt: skip
_COMPILED = [(kind, re.compile("|".join(patterns), re.IGNORECASE | re.MULTILINE)) for kind, patterns in _PULL]


def pull_failure(words: str) -> str:
    """Why a pull failed: `broken` (a transfer that came out wrong), `rate-limit`, `network`, `registry` (it is ill),
    `login`, `credentials` (a login kept by a helper that fails), `missing`, `platform`, `disk-full` or `other`.
    """
    return next((kind for kind, pattern in _COMPILED if pattern.search(words)), "other")
