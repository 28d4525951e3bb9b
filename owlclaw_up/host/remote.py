"""A Hatchet server elsewhere: why it cannot be reached, and its REST API as one of its people.

The looks are made after a call has failed, to say why: names, connections, TLS and proxies as hatchet-sdk meets them. gRPC
asks the proxy that the environment names, in lower case; REST asks none.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import re
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from owlclaw_up.errors import ApplyFailed
from owlclaw_up.host.base import Tls, on_this_machine
from owlclaw_up.host.client_certificate import look_at_certificate
from owlclaw_up.host.remote_base import HANDSHAKE_STATUSES, AccountLook, CertificateLook, ReachLook, Tenant
from owlclaw_up.model import Secret

if TYPE_CHECKING:
    import httpx

# In the order in which gRPC's C core asks for them: src/core/client_channel/http_proxy_mapper.cc.
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
_NO_PROXIES = ("no_grpc_proxy", "no_proxy")
# A server of HTTP/2 answers it with its own SETTINGS: RFC 9113, 3.4. Type 4 is SETTINGS.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_SETTINGS = 4
_PAGE_SECONDS, _PAGE_BYTES = 10.0, 1 << 14
# In every page of nginx's about a client's certificate: src/http/ngx_http_special_response.c.
_HANDSHAKE_WORDS = "SSL certificate"
# What a server of TLS 1.3 may take to say what it thinks of the client's certificate.
_VERDICT_SECONDS = 1.0
# What a server says of a client's certificate: alerts of RFC 8446, 6.2, as OpenSSL names them.
_ALERTS = (
    "CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNSUPPORTED_CERTIFICATE", "CERTIFICATE_REVOKED", "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN", "UNKNOWN_CA", "ACCESS_DENIED", "DECRYPT_ERROR", "HANDSHAKE_FAILURE",
)  # fmt: skip
# Codes of OpenSSL's x509_vfy.h.
_OTHER_NAME = {62, 64}
_UNKNOWN_ROOT = {18, 19, 20, 21}
_NOT_NOW = {9, 10}


class _Unreached(Exception):
    """A connection that could not be made.

    Args:
        fault: as of `ReachLook`.
    """

    def __init__(self, fault: str, detail: str) -> None:
        super().__init__(detail)
        self.look = ReachLook(fault, detail)


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
        return self._reach(host, int(port), tls, timeout, grpc=True)

    def reach_rest(self, url: str, root_ca: str, timeout: float = 4.0) -> ReachLook:
        """Why HTTP does not get through to a URL.

        Args:
            timeout: seconds for each step of a connection.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        tls = Tls(root_ca, host) if parts.scheme == "https" else None
        return self._reach(host, parts.port or (443 if tls else 80), tls, timeout, grpc=False)

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

    def _reach(self, host: str, port: int, tls: Tls | None, timeout: float, *, grpc: bool) -> ReachLook:
        proxy = self._proxy(host) if grpc else None
        try:
            if tls is None:
                return self._plain(host, port, proxy, timeout)
            with self._connected(host, port, proxy, timeout) as raw:
                return self._verified(raw, host, port, proxy, tls, timeout, grpc=grpc)
        except _Unreached as unreached:
            return unreached.look

    def _plain(self, host: str, port: int, proxy: tuple[str, str] | None, timeout: float) -> ReachLook:
        """Plain text is expected: a server that shakes hands expects TLS."""
        with self._connected(host, port, proxy, timeout) as raw:
            context = _any_certificate()
            try:
                with context.wrap_socket(raw, server_hostname=host):
                    return ReachLook("tls-unexpected", "it shakes hands for TLS")
            except (OSError, ValueError):
                return ReachLook()

    def _verified(
        self, raw: socket.socket, host: str, port: int, proxy: tuple[str, str] | None, tls: Tls, timeout: float, *,
        grpc: bool,
    ) -> ReachLook:  # fmt: skip
        """TLS is expected, with a certificate of that name below a root that is trusted; for gRPC, HTTP/2 in it."""
        try:
            context = _context(tls)
        except OSError as error:
            return ReachLook("certificate-root", f"{tls.root_ca}: {error}")
        context.set_alpn_protocols(["h2", "http/1.1"])
        try:
            with context.wrap_socket(raw, server_hostname=tls.server_name) as spoken:
                # Of TLS 1.3 a client is through before the server has judged its certificate. Nothing is sent meanwhile: that
                # may cut off what the server says.
                spoken.settimeout(min(timeout, _VERDICT_SECONDS))
                with contextlib.suppress(TimeoutError, ConnectionError):
                    spoken.recv(1)
                spoke = spoken.selected_alpn_protocol()
            if grpc and spoke != "h2":
                return ReachLook("no-http2", f"of h2 and http/1.1 it takes {spoke or 'neither'}")
            return self._refused_over_http(host, port, proxy, tls, timeout)
        except ssl.SSLCertVerificationError as error:
            return _certificate_fault(error)
        except ssl.SSLError as error:
            words, fault = str(error), _fault_of_ours(error, shown=bool(tls.certificate))
            if fault:
                return ReachLook(fault, words)
        except (OSError, ValueError) as error:
            words = str(error)
        if self._answers_plainly(host, port, proxy, timeout):
            return ReachLook("tls-missing", "it answers plain text")
        return ReachLook("tls-missing" if "wrong_version" in words.lower() else "unreachable", words)

    def _refused_over_http(
        self, host: str, port: int, proxy: tuple[str, str] | None, tls: Tls, timeout: float
    ) -> ReachLook:  # fmt: skip
        """Nginx shakes hands with everybody, and judges the client's certificate afterwards."""
        answer = b""
        with (
            contextlib.suppress(OSError), self._connected(host, port, proxy, timeout) as raw,
            _context(tls).wrap_socket(raw, server_hostname=tls.server_name) as spoken,
        ):  # fmt: skip
            spoken.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            while len(answer) < _PAGE_BYTES and (more := spoken.recv(4096)):
                answer += more
        said = re.search(rf"[^<>]*{_HANDSHAKE_WORDS}[^<>]*".encode(), answer)
        status = re.match(rb"HTTP/1\.[01] (\d{3})\b", answer)
        if said is None or status is None or int(status[1]) not in HANDSHAKE_STATUSES:
            return ReachLook()
        fault = "client-certificate-refused" if tls.certificate else "client-certificate-missing"
        return ReachLook(fault, said[0].decode("latin-1").strip())

    def _answers_plainly(self, host: str, port: int, proxy: tuple[str, str] | None, timeout: float) -> bool:
        """Whether HTTP/2 or HTTP/1 is spoken there without TLS."""
        with contextlib.suppress(OSError), self._connected(host, port, proxy, timeout) as raw:
            raw.sendall(_PREFACE)
            head = raw.recv(9)
            return head.startswith(b"HTTP/") or (len(head) > _SETTINGS and head[3] == _SETTINGS)
        return False

    def _proxy(self, host: str) -> tuple[str, str] | None:
        """The proxy that gRPC asks for a host, and the variable that names it."""
        environ = self._environ
        named = next(((environ[n], n) for n in _PROXIES if environ.get(n)), None)
        if named is None or on_this_machine(host):
            return None
        excepted = next((environ[n] for n in _NO_PROXIES if environ.get(n)), "")
        entries = [entry.strip().lstrip(".") for entry in excepted.split(",")]
        return None if any(entry and host.endswith(entry) for entry in entries) else named

    @contextlib.contextmanager
    def _connected(
        self, host: str, port: int, proxy: tuple[str, str] | None, timeout: float
    ) -> Iterator[socket.socket]:  # fmt: skip
        """A connection, through the proxy where there is one; the caller may take its ownership by wrapping it.

        Raises:
            _Unreached: there is none to be had.
        """
        if proxy is None:
            with contextlib.closing(_connect(host, port, timeout)) as direct:
                yield direct
            return
        url, variable = proxy
        parts = urlsplit(url if "://" in url else f"http://{url}")
        where = f"{variable}=http://{parts.hostname}:{parts.port or 80}"
        try:
            raw = _connect(parts.hostname or "", parts.port or 80, timeout)
        except _Unreached as unreached:
            raise _Unreached("proxy", f"{where}: {unreached.look.detail}") from None
        with contextlib.closing(raw):
            try:
                raw.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{_login_of(parts)}\r\n".encode())
                answer = raw.recv(4096).split(b"\r\n", 1)[0].decode("latin-1")
            except OSError as error:
                raise _Unreached("proxy", f"{where}: {_words(error)}") from None
            if not re.match(r"HTTP/1\.[01] 200\b", answer):
                raise _Unreached("proxy", f"{where} says: {answer or 'nothing'}")
            yield raw


class _LoginRefused(Exception):
    """The login is refused; its text is the server's."""


def _login_of(proxy: SplitResult) -> str:
    """The header by which gRPC logs in at a proxy whose URL has a login."""
    if not proxy.username:
        return ""
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"


def _connect(host: str, port: int, timeout: float) -> socket.socket:
    try:
        return socket.create_connection((host, port), timeout)
    except socket.gaierror as error:
        raise _Unreached("name", f"{host}: {_words(error)}") from None
    except ConnectionRefusedError:
        raise _Unreached("refused", f"nobody listens at {host}:{port}") from None
    except TimeoutError:
        raise _Unreached("timeout", f"{host}:{port} did not answer within {timeout:.0f} s") from None
    except (OSError, ValueError) as error:
        raise _Unreached("unreachable", f"{host}:{port}: {_words(error)}") from None


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", "") or error)


def _context(tls: Tls) -> ssl.SSLContext:
    """What hatchet-sdk would shake hands with.

    Raises:
        OSError: the root certificate cannot be read.
    """
    context = ssl.create_default_context(cafile=tls.root_ca or None)
    if tls.certificate:
        context.load_cert_chain(tls.certificate, tls.key)
    context.hostname_checks_common_name = False
    return context


def _any_certificate() -> ssl.SSLContext:
    """For the one question whether TLS is spoken; nothing is sent over it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _fault_of_ours(error: ssl.SSLError, *, shown: bool) -> str:
    """The fault that a server finds with this side of TLS; empty where its words are about something else.

    Args:
        shown: whether a certificate was shown to it.
    """
    reason = error.reason or ""
    if "ALERT" not in reason or not reason.endswith(_ALERTS):
        return ""
    return "client-certificate-refused" if shown else "client-certificate-missing"


def _certificate_fault(error: ssl.SSLCertVerificationError) -> ReachLook:
    words = error.verify_message
    if error.verify_code in _OTHER_NAME:
        return ReachLook("certificate-name", words)
    if error.verify_code in _UNKNOWN_ROOT:
        return ReachLook("certificate-root", words)
    return ReachLook("certificate-expired" if error.verify_code in _NOT_NOW else "certificate", words)


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
        of_handshake = answer.status_code in HANDSHAKE_STATUSES and _HANDSHAKE_WORDS in answer.text
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
