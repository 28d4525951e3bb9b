"""Who may do what: API tokens against the keys and the database, and the cookies of people who logged in."""

from __future__ import annotations

import base64
import hmac
import time
from typing import Any
from uuid import UUID

import psycopg

from .misbehave import fault
from .passwords import hash_password
from .store import Database
from .tokens import Keys, TokenRefusedError

# The real REST API goes on accepting a revoked token for some seconds; its gRPC side was not seen to.
REST_MEMORY_SECONDS = 5.0


class Authority:
    """Checks tokens and cookies."""

    def __init__(self, keys: Keys, database: Database) -> None:
        self._keys = keys
        self._database = database
        self._remembered: dict[str, tuple[float, str]] = {}
        self._logged_out: set[str] = set()

    async def tenant(self, token: str) -> str:
        """Give the tenant a token speaks for.

        Raises:
            TokenRefusedError: It does not hold, or the database that knows it is away, as with the real engine.
        """
        if fault("lite.reject-tokens"):
            raise TokenRefusedError("told to refuse")
        claims = self._keys.verify(token)
        try:
            UUID(claims["token_id"])
            rows = await self._database.rows(
                'SELECT "tenantId", revoked, "expiresAt" < now() FROM "APIToken" WHERE id = %s', (claims["token_id"],)
            )
        except (psycopg.Error, ValueError) as error:
            raise TokenRefusedError(str(error)) from None
        if not rows or rows[0][1] or rows[0][2] or str(rows[0][0]) != claims.get("sub"):
            raise TokenRefusedError("token is not known, revoked, expired or of another tenant")
        return str(rows[0][0])

    async def rest_tenant(self, token: str) -> str:
        """Like :meth:`tenant`, with the short memory the REST API has."""
        known = self._remembered.get(token)
        if known is not None and known[0] > time.monotonic() and not fault("lite.reject-tokens"):
            return known[1]
        tenant = await self.tenant(token)
        self._remembered[token] = (time.monotonic() + REST_MEMORY_SECONDS, tenant)
        return tenant

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
        token = self._keys.sign(tenant, lifetime, token_id=number)
        # The real API was seen to accept a token that was revoked before it was ever used.
        self._remembered[token] = (time.monotonic() + REST_MEMORY_SECONDS, tenant)
        return token


def bearer(headers: dict[str, Any]) -> str | None:
    """Give the bearer token of a request's headers or a call's metadata."""
    scheme, _, token = str(headers.get("authorization", "")).partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
