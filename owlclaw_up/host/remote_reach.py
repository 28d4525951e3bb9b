"""The way to a server elsewhere, and what is wrong with it: a look made after a call has failed.

Names, connections, TLS and proxies as hatchet-sdk meets them. gRPC asks the proxy that the environment names, in lower
case; REST asks none.
"""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from owlclaw_up.host.base import Tls, on_this_machine
from owlclaw_up.host.remote_base import HANDSHAKE_STATUSES, HANDSHAKE_WORDS, ReachLook

# In the order in which gRPC's C core asks for them: src/core/client_channel/http_proxy_mapper.cc.
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
_NO_PROXIES = ("no_grpc_proxy", "no_proxy")
# A server of HTTP/2 answers it with its own SETTINGS: RFC 9113, 3.4. Type 4 is SETTINGS.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_SETTINGS = 4
_PAGE_BYTES = 1 << 14
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


def look_at_way(
    host: str, port: int, tls: Tls | None, timeout: float, environ: Mapping[str, str], *, grpc: bool
) -> ReachLook:  # fmt: skip
    """Why a server is not reached.

    Args:
        tls: how TLS is expected, with the name that is; None for plain text.
        timeout: seconds for each step of a connection.
        environ: where proxies are named.
        grpc: whether gRPC is to be spoken, and not HTTP/1.
    """
    way = _Way(host, port, _proxy_for(host, environ) if grpc else None, timeout)
    try:
        return _verified(way, tls, grpc=grpc) if tls is not None else _plain(way)
    except _Unreached as unreached:
        return unreached.look


@dataclass(frozen=True)
class _Way:
    """The way to a server.

    Attributes:
        proxy: the one in between, and the variable that names it.
        timeout: seconds for each step of a connection.
    """

    host: str
    port: int
    proxy: tuple[str, str] | None
    timeout: float

    @contextlib.contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """A connection, through the proxy where there is one; the caller may take its ownership by wrapping it.

        Raises:
            _Unreached: there is none to be had.
        """
        if self.proxy is None:
            with contextlib.closing(_connect(self.host, self.port, self.timeout)) as direct:
                yield direct
            return
        url, variable = self.proxy
        parts = urlsplit(url if "://" in url else f"http://{url}")
        where = f"{variable}=http://{parts.hostname}:{parts.port or 80}"
        try:
            raw = _connect(parts.hostname or "", parts.port or 80, self.timeout)
        except _Unreached as unreached:
            raise _Unreached("proxy", f"{where}: {unreached.look.detail}") from None
        target = f"{self.host}:{self.port}"
        with contextlib.closing(raw):
            try:
                raw.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{_login_of(parts)}\r\n".encode())
                answer = raw.recv(4096).split(b"\r\n", 1)[0].decode("latin-1")
            except OSError as error:
                raise _Unreached("proxy", f"{where}: {_words(error)}") from None
            if not re.match(r"HTTP/1\.[01] 200\b", answer):
                raise _Unreached("proxy", f"{where} says: {answer or 'nothing'}")
            yield raw


def _plain(way: _Way) -> ReachLook:
    """Plain text is expected: a server that shakes hands expects TLS."""
    with way.connected() as raw:
        try:
            with _any_certificate().wrap_socket(raw, server_hostname=way.host):
                return ReachLook("tls-unexpected", "it shakes hands for TLS")
        except (OSError, ValueError):
            return ReachLook()


def _verified(way: _Way, tls: Tls, *, grpc: bool) -> ReachLook:
    """TLS is expected, with a certificate of that name below a root that is trusted; for gRPC, HTTP/2 in it."""
    with way.connected() as raw:
        try:
            context = _context(tls)
        except OSError as error:
            return ReachLook("certificate-root", f"{tls.root_ca}: {error}")
        context.set_alpn_protocols(["h2", "http/1.1"])
        try:
            with context.wrap_socket(raw, server_hostname=tls.server_name) as spoken:
                # Of TLS 1.3 a client is through before the server has judged its certificate. Nothing is sent meanwhile: that
                # may cut off what the server says.
                spoken.settimeout(min(way.timeout, _VERDICT_SECONDS))
                with contextlib.suppress(TimeoutError, ConnectionError):
                    spoken.recv(1)
                spoke = spoken.selected_alpn_protocol()
            if grpc and spoke != "h2":
                return ReachLook("no-http2", f"of h2 and http/1.1 it takes {spoke or 'neither'}")
            return _refused_over_http(way, tls)
        except ssl.SSLCertVerificationError as error:
            return _certificate_fault(error)
        except ssl.SSLError as error:
            words, fault = str(error), _fault_of_ours(error, shown=bool(tls.certificate))
            if fault:
                return ReachLook(fault, words)
        except (OSError, ValueError) as error:
            words = str(error)
    if _answers_plainly(way):
        return ReachLook("tls-missing", "it answers plain text")
    return ReachLook("tls-missing" if "wrong_version" in words.lower() else "unreachable", words)


def _refused_over_http(way: _Way, tls: Tls) -> ReachLook:
    """Nginx shakes hands with everybody, and judges the client's certificate afterwards."""
    answer = b""
    with (
        contextlib.suppress(OSError, _Unreached), way.connected() as raw,
        _context(tls).wrap_socket(raw, server_hostname=tls.server_name) as spoken,
    ):  # fmt: skip
        spoken.sendall(f"GET / HTTP/1.1\r\nHost: {way.host}\r\nConnection: close\r\n\r\n".encode())
        while len(answer) < _PAGE_BYTES and (more := spoken.recv(4096)):
            answer += more
    said = re.search(rf"[^<>]*{HANDSHAKE_WORDS}[^<>]*".encode(), answer)
    status = re.match(rb"HTTP/1\.[01] (\d{3})\b", answer)
    if said is None or status is None or int(status[1]) not in HANDSHAKE_STATUSES:
        return ReachLook()
    fault = "client-certificate-refused" if tls.certificate else "client-certificate-missing"
    return ReachLook(fault, said[0].decode("latin-1").strip())


def _answers_plainly(way: _Way) -> bool:
    """Whether HTTP/2 or HTTP/1 is spoken there without TLS."""
    with contextlib.suppress(OSError), way.connected() as raw:
        raw.sendall(_PREFACE)
        head = raw.recv(9)
        return head.startswith(b"HTTP/") or (len(head) > _SETTINGS and head[3] == _SETTINGS)
    return False


def _proxy_for(host: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """The proxy that gRPC asks for a host, and the variable that names it."""
    named = next(((environ[n], n) for n in _PROXIES if environ.get(n)), None)
    if named is None or on_this_machine(host):
        return None
    excepted = next((environ[n] for n in _NO_PROXIES if environ.get(n)), "")
    entries = [entry.strip().lstrip(".") for entry in excepted.split(",")]
    return None if any(entry and host.endswith(entry) for entry in entries) else named


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
