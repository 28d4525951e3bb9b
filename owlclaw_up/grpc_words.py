"""Words of gRPC for a call that did not get through -> the hop that broke. Pure.

The words are those of gRPC's C core, which Python's library passes on as they are.
"""

from __future__ import annotations

# The most telling first.
_HOPS = (
    ("proxy", "proxy"),
    ("name resolution", "name resolution"),
    ("domain name not found", "name resolution"),
    ("errors resolving", "name resolution"),
    ("wrong_version_number", "TLS"),
    ("handshake", "TLS"),
    ("certificate", "TLS"),
    ("ssl", "TLS"),
)


def hop_of(words: str, otherwise: str = "gRPC") -> str:
    """The hop that the words of an error name.

    Args:
        otherwise: where they name none.
    """
    low = words.lower()
    return next((hop for word, hop in _HOPS if word in low), otherwise)
