"""The hop that gRPC's own words name."""

from __future__ import annotations

import pytest

from owlclaw_up.client.errors import ServerGone, TokenRefused
from owlclaw_up.grpc_words import hop_of
from owlclaw_up.proof.talk import broken


@pytest.mark.parametrize(
    ("words", "hop"),
    [
        ("failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:7077: Connection refused", "gRPC"),
        ("Name resolution failed for target dns:hatchet-engine:7070", "name resolution"),
        ("DNS resolution failed: Domain name not found", "name resolution"),
        ("Ssl handshake failed: SSL_ERROR_SSL: error:100000f7:SSL routines:WRONG_VERSION_NUMBER", "TLS"),
        ("HTTP proxy handshake with failed", "proxy"),
    ],
)
def test_hop(words: str, hop: str) -> None:
    assert hop_of(words) == hop


def test_words_that_name_none() -> None:
    assert hop_of("Socket closed", "dispatch") == "dispatch"


@pytest.mark.parametrize(
    ("error", "hop"),
    [
        (TokenRefused("localhost:1", ".env:3"), "token"),
        (RuntimeError("StatusCode.UNAUTHENTICATED: invalid auth token"), "token"),
        (ServerGone("http://localhost:1", "REST", "no answer"), "REST"),
        (ServerGone("localhost:1", "TLS", "they do not agree"), "TLS"),
        (RuntimeError("Name resolution failed"), "name resolution"),
        (ValueError("something else"), "result"),
    ],
)
def test_a_failed_proof_names_its_hop(error: Exception, hop: str) -> None:
    assert broken(error, "result").hop == hop
