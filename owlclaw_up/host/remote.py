"""A Hatchet server elsewhere: the ways to it, and its REST API as one of its people."""

from __future__ import annotations

import contextlib
import dataclasses
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from owlclaw_up.errors import ApplyFailed
from owlclaw_up.host.base import Tls
from owlclaw_up.host.client_certificate import look_at_certificate
from owlclaw_up.host.remote_base import (
    HANDSHAKE_STATUSES,
    HANDSHAKE_WORDS,
    AccountLook,
    CertificateLook,
    ReachLook,
    Tenant,
)
from owlclaw_up.host.remote_reach import look_at_way
from owlclaw_up.model import Secret

if TYPE_CHECKING:
    import httpx

_PAGE_SECONDS = 10.0


class RemoteServers:
    """`host.remote_base.RemoteHatchet`.

    Args:
        environ: where proxies are named.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def reach_grpc(self, address: str, tls: Tls | None, timeout: float = 4.0) -> ReachLook:
        """Why gRPC does not get through to an address.

        Args:
            address: host:port.
            tls: how TLS is expected; None for plain text.
            timeout: seconds for each step of a connection.
        """
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        if tls is not None:
            tls = dataclasses.replace(tls, server_name=tls.server_name or host)
        return look_at_way(host, int(port), tls, timeout, self._environ, grpc=True)

    def reach_rest(self, url: str, root_ca: str, timeout: float = 4.0) -> ReachLook:
        """Why HTTP does not get through to a URL.

        Args:
            timeout: seconds for each step of a connection.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        tls = Tls(root_ca, host) if parts.scheme == "https" else None
        return look_at_way(host, parts.port or (443 if tls else 80), tls, timeout, self._environ, grpc=False)

    def certificate(self, certificate: str, key: str) -> CertificateLook:
        """A client's certificate, by its files."""
        return look_at_certificate(certificate, key)

    def account(self, url: str, root_ca: str, email: str, password: Secret) -> AccountLook:
        """Log in and ask for the tenants that the login is a member of. Changes nothing."""
        import httpx

        try:
            with _logged_in(url, root_ca, email, password) as client:
                answer = client.get("/users/memberships")
                if answer.status_code != 200:
                    return AccountLook("unavailable", detail=f"HTTP {answer.status_code}: {answer.text[:200]}")
                rows = [row["tenant"] for row in answer.json().get("rows") or ()]
        except _LoginRefused as refused:
            return AccountLook("refused", detail=str(refused))
        except (httpx.HTTPError, OSError, ValueError, KeyError, TypeError) as error:
            return AccountLook("unavailable", detail=f"{type(error).__name__}: {error}".partition("\n")[0])
        found = tuple(Tenant(t["metadata"]["id"], str(t.get("name", "")), str(t.get("slug", ""))) for t in rows)
        return AccountLook("ok", found)

    def create_token(
        self, url: str, root_ca: str, email: str, password: Secret, tenant: str, name: str, hours: int
    ) -> Secret:
        """A new API token.

        Raises:
            ApplyFailed: the login, or the request, is refused.
        """
        with _asking(url), _logged_in(url, root_ca, email, password) as client:
            answer = client.post(f"/tenants/{tenant}/api-tokens", json={"name": name, "expiresIn": f"{hours}h"})
            _good(answer, url)
            return Secret(str(answer.json()["token"]))

    def revoke_tokens(
        self, url: str, root_ca: str, email: str, password: Secret, tenant: str, *, ids: Sequence[str],
        names: Sequence[str] = (),
    ) -> int:  # fmt: skip
        """Revoke API tokens by their ids, and those of names; gives how many were on record.

        Raises:
            ApplyFailed: the login, or a request, is refused.
        """
        with _asking(url), _logged_in(url, root_ca, email, password) as client:
            wanted = list(ids)
            if names:
                answer = client.get(f"/tenants/{tenant}/api-tokens")
                _good(answer, url)
                rows = answer.json().get("rows") or ()
                wanted += [row["metadata"]["id"] for row in rows if row.get("name") in names]
            known = 0
            for token_id in dict.fromkeys(wanted):
                answer = client.post(f"/api-tokens/{token_id}")
                if answer.status_code != 404:
                    _good(answer, url)
                    known += 1
            return known


class _LoginRefused(Exception):
    """The login is refused; its text is the server's."""


@contextlib.contextmanager
def _logged_in(url: str, root_ca: str, email: str, password: Secret) -> Iterator[httpx.Client]:
    """A client with the session of a login.

    Raises:
        _LoginRefused: there is no such login.
    """
    import httpx

    verify: Any = ssl.create_default_context(cafile=root_ca or None) if url.startswith("https:") else True
    with httpx.Client(base_url=f"{url}/api/v1", trust_env=False, timeout=_PAGE_SECONDS, verify=verify) as client:
        answer = client.post("/users/login", json={"email": email, "password": password.reveal()})
        of_handshake = answer.status_code in HANDSHAKE_STATUSES and HANDSHAKE_WORDS in answer.text
        if answer.status_code in (400, 401, 403) and not of_handshake:
            raise _LoginRefused(f"HTTP {answer.status_code}: {answer.text.strip()[:200]}")
        answer.raise_for_status()
        # The jar keeps a cookie of `Domain=localhost` back, and a secure one from plain HTTP.
        cookie = next((c for c in answer.headers.get_list("set-cookie") if c.startswith("hatchet=")), "")
        if not cookie:
            raise ValueError("the answer to the login has no session: no Hatchet answers there")
        client.cookies.clear()
        client.headers["Cookie"] = cookie.split(";")[0]
        yield client


def _good(answer: httpx.Response, url: str) -> None:
    if answer.status_code not in (200, 204):
        raise ApplyFailed(
            "remote-token-request", f"{url} refused the request with HTTP {answer.status_code}",
            hint="a login that is owner or admin of the tenant: OWLCLAW_UP_REMOTE_LOGIN", detail=answer.text[:300],
        )  # fmt: skip


@contextlib.contextmanager
def _asking(url: str) -> Iterator[None]:
    """Whatever goes wrong becomes an `ApplyFailed` that names the server."""
    import httpx

    try:
        yield
    except _LoginRefused as refused:
        raise ApplyFailed(
            "remote-token-request", f"{url} refuses the login", hint="OWLCLAW_UP_REMOTE_LOGIN, OWLCLAW_UP_REMOTE_PASSWORD",
            detail=str(refused),
        ) from None  # fmt: skip
    except (httpx.HTTPError, OSError, ValueError, KeyError, TypeError) as error:
        raise ApplyFailed(
            "remote-token-request", f"{url} gave no usable answer ({type(error).__name__})",
            hint="owlclaw-up token check", detail=str(error),
        ) from None  # fmt: skip
