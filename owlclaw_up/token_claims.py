"""What a Hatchet API token says of itself: a JWT's payload, read without its signature. Pure.

Claims as of hatchet, pkg/auth/token/token.go: aud = iss = server_url, sub = tenant, grpc_broadcast_address, exp, iat.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
from dataclasses import dataclass

# Days before its end in which a token is renewed.
RENEW_BELOW_DAYS = 14

# The year 2100.
_NEVER = 4102444800


@dataclass(frozen=True)
class Claims:
    """Attributes: `expires` and `issued` in seconds since the epoch."""

    tenant: str
    server_url: str
    grpc_address: str
    expires: float
    issued: float
    token_id: str

    def days_left(self, now: float) -> int:
        """Whole days until it expires; negative afterwards."""
        return int((self.expires - now) // 86400)

    @property
    def expires_text(self) -> str:
        return _time_text(self.expires)

    @property
    def issued_text(self) -> str:
        return _time_text(self.issued)


def _time_text(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(timespec="seconds")


def renewal_due(claims: Claims, now: float, lifetime: float) -> bool:
    """Whether a token is so near its end that a new one is due: 14 days, or half of a life that is short.

    Args:
        lifetime: in seconds, of the token that would come next, or of this one. In seconds, as whole days would have a
            token of a day or less made anew each time.
    """
    return claims.expires - now < min(RENEW_BELOW_DAYS * 86400, lifetime / 2)


def decode(token: str) -> Claims | None:
    """The claims of a token, or None for what is no Hatchet token (a keyset starts with `ey` as well)."""
    parts = token.split(".")
    if len(parts) != 3 or not token.startswith("ey"):
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        claims = Claims(
            str(payload["sub"]),
            str(payload.get("server_url", payload.get("aud", ""))),
            str(payload.get("grpc_broadcast_address", "")),
            float(payload["exp"]),
            float(payload.get("iat", 0)),
            str(payload.get("token_id", "")),
        )
        # A time that no calendar has is none.
        claims.days_left(0), claims.expires_text, claims.issued_text
    except (KeyError, TypeError, ValueError, binascii.Error, AttributeError, OverflowError, OSError):
        return None
    return claims


def placeholder(tenant: str, server_url: str, grpc_address: str) -> str:
    """A token of the right form that no engine takes, so that hatchet-sdk can be constructed where there is none.

    hatchet-sdk wants a JWT of three parts even for `aio_mock_run`: hatchet_sdk/config.py.
    """

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")

    claims = {
        "sub": tenant,
        "aud": server_url,
        "server_url": server_url,
        "grpc_broadcast_address": grpc_address,
        "exp": _NEVER,
    }
    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}.mock"


def is_placeholder(token: str) -> bool:
    """Whether a token is one of `placeholder`, which says that this is mock."""
    return token.endswith(".mock") and decode(token) is not None
