"""Who may do what: API tokens against the keys and the database, and the cookies of people who logged in."""

from __future__ import annotations

import base64
import hmac
import time
from typing import Any
from uuid import UUID

import psycopg

from .misbehave import clock, fault
from .passwords import hash_password
from .store import Database
from .tokens import Keys, TokenRefusedError

# How long the real engine remembers a token's row, over gRPC and over REST alike, each for itself: CACHE_DURATION.
MEMORY_SECONDS = 5.0


class Authority:
    """Checks tokens and cookies."""

    def __init__(self, keys: Keys, database: Database) -> None:
        self._keys = keys
        self._database = database
        self._remembered: dict[tuple[str, str], tuple[float, Any]] = {}
        self._logged_out: set[str] = set()

    async def tenant(self, token: str, channel: str = "grpc") -> str:
        """Give the tenant a token speaks for.

        Raises:
            TokenRefusedError: It does not hold, or the database that knows it is away, as with the real engine.
        """
        if fault("lite.reject-tokens"):
            raise TokenRefusedError("told to refuse")
        claims = self._keys.verify(token)
        try:
            tenant, revoked, expires = await self._row(channel, str(UUID(claims["token_id"])))
        except (psycopg.Error, ValueError) as error:
            raise TokenRefusedError(str(error)) from None
        if revoked or expires < clock() or tenant != claims.get("sub"):
            raise TokenRefusedError("token is revoked, expired or of another tenant")
        return str(tenant)

    async def _row(self, channel: str, number: str) -> Any:
        """Give tenant, whether it is revoked, and expiry; as they were up to five seconds ago. What is not there is not remembered."""
        until, row = self._remembered.get((channel, number), (0.0, None))
        if until < time.monotonic():
            rows = await self._database.rows(
                'SELECT "tenantId"::text, revoked, extract(epoch FROM "expiresAt" AT TIME ZONE \'UTC\')::float8 '
                'FROM "APIToken" WHERE id = %s',
                (number,),
            )
            if not rows:
                raise TokenRefusedError("token is not known")
            row = rows[0]
            self._remembered[channel, number] = (time.monotonic() + MEMORY_SECONDS, row)
        return row

    async def log_in(self, email: str, password: str) -> str | None:
        """Give the id of the user with this password, or None."""
        rows = await self._database.rows(
            'SELECT u.id, p.hash FROM "User" u JOIN "UserPassword" p ON p."userId" = u.id WHERE u.email = %s', (email,)
        )
        if not rows:
            return None
        salt = rows[0][1].split("$")[1]
        return str(rows[0][0]) if hmac.compare_digest(hash_password(password, salt), rows[0][1]) else None

    def cookie(self, user: str) -> str:
        """Give the value of the login cookie; an empty user is the visitor without one."""
        body = f"{int(time.time())}|{user}"
        tag = hmac.digest(self._keys.signing, b"cookie" + body.encode(), "sha256").hex()
        return base64.urlsafe_b64encode(f"{body}|{tag}".encode()).decode()

    def user(self, cookie: str) -> str | None:
        """Give the user of a login cookie, or None when it is not good."""
        if cookie in self._logged_out:
            return None
        try:
            body, _, tag = base64.urlsafe_b64decode(cookie).decode().rpartition("|")
        except ValueError:
            return None
        good = hmac.digest(self._keys.signing, b"cookie" + body.encode(), "sha256").hex()
        return (body.partition("|")[2] or None) if hmac.compare_digest(tag, good) else None

    def log_out(self, cookie: str) -> None:
        """Refuse a login cookie from now on, for as long as this process lives."""
        self._logged_out.add(cookie)

    async def issue(self, tenant: str, name: str, lifetime: float) -> str:
        """Store and sign a new token."""
        rows = await self._database.rows(
            'INSERT INTO "APIToken" (id, "expiresAt", name, "tenantId") '
            "VALUES (gen_random_uuid(), now() + %s * interval '1 second', %s, %s) RETURNING id",
            (lifetime, name, tenant),
        )
        number = str(rows[0][0])
        # The real API was seen to accept a token that was revoked before it was ever used.
        await self._row("rest", number)
        return self._keys.sign(tenant, lifetime, token_id=number)


def bearer(headers: dict[str, Any]) -> str | None:
    """Give the bearer token of a request's headers or a call's metadata."""
    scheme, _, token = str(headers.get("authorization", "")).partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
