"""The gRPC side of an engine: one channel with deadlines on every call, and its errors in our words.

hatchet-sdk sets no deadline on its calls and reads the proxy variables, as every gRPC library does, even for loopback.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from owlclaw_up.client.config import HatchetConfig
from owlclaw_up.client.errors import ClientError, EngineRefused, ServerGone, TokenRefused
from owlclaw_up.grpc_words import hop_of

if TYPE_CHECKING:
    import grpc
    import grpc.aio

T = TypeVar("T")

# gRPC reads them in small letters alone.
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
# The call was never sent, so that asking again cannot do it twice.
_NOT_SENT = ("failed to connect to all addresses", "name resolution", "connection refused")


def credentials(config: HatchetConfig) -> grpc.ChannelCredentials | None:
    """What TLS needs, or None for plain text."""
    import grpc

    def read(path: str) -> bytes | None:
        if not path:
            return None
        return Path(path).read_bytes()

    if config.tls_strategy == "none":
        return None
    if config.tls_strategy == "tls":
        return grpc.ssl_channel_credentials(read(config.tls_root_ca_file))
    return grpc.ssl_channel_credentials(
        read(config.tls_root_ca_file), read(config.tls_key_file), read(config.tls_cert_file)
    )


def options(config: HatchetConfig) -> list[tuple[str, Any]]:
    """As hatchet_sdk/connection.py, and: no proxy for loopback, and an engine that comes back is found within a second."""
    found: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", 4 * 1024 * 1024),
        ("grpc.max_receive_message_length", 4 * 1024 * 1024),
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.min_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    if config.is_loopback:
        found.append(("grpc.enable_http_proxy", 0))
    if config.tls_strategy != "none":
        found.append(("grpc.ssl_target_name_override", config.tls_server_name or config.host))
    return found


def open_channel(config: HatchetConfig) -> grpc.Channel:
    """A channel whose every call has a deadline: the configuration's `connect_timeout`, unless the call has its own."""
    import grpc

    class Deadline(grpc.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
        def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            if client_call_details.timeout is None:
                client_call_details = client_call_details._replace(timeout=config.connect_timeout)
            return continuation(client_call_details, request)

    secret = credentials(config)
    if secret is None:
        channel = grpc.insecure_channel(config.host_port, options=options(config))
    else:
        channel = grpc.secure_channel(config.host_port, secret, options=options(config))
    return grpc.intercept_channel(channel, Deadline())


def open_aio_channel(config: HatchetConfig) -> grpc.aio.Channel:
    """A channel of the event loop that runs."""
    import grpc.aio

    secret = credentials(config)
    if secret is None:
        return grpc.aio.insecure_channel(config.host_port, options=options(config))
    return grpc.aio.secure_channel(config.host_port, secret, options=options(config))


def authorization(config: HatchetConfig) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"bearer {config.secret.reveal()}"),)


def patiently(call: Callable[[], T], seconds: float) -> T:
    """Call, and call again for some seconds while nobody listens: an engine that restarts is away for one.

    Only a call that was certainly not sent is made again.
    """
    import grpc

    end = time.monotonic() + seconds
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            words = (error.details() or "").lower()
            unsent = error.code() == grpc.StatusCode.UNAVAILABLE and any(word in words for word in _NOT_SENT)
            if not unsent or hop_of(words) != "gRPC" or time.monotonic() > end:
                raise
            time.sleep(0.2)


def translated(error: grpc.RpcError, config: HatchetConfig, what: str) -> ClientError:
    """Our error for one of gRPC's."""
    import grpc

    code, words = error.code(), error.details() or ""
    detail = f"{code.name}: {words}"
    if code == grpc.StatusCode.UNAUTHENTICATED:
        return TokenRefused(config.host_port, config.origins.get("token", "argument"), detail)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        hop = hop_of(words)
        if hop == "gRPC" and not config.is_loopback and any(os.environ.get(name) for name in _PROXIES):
            hop = "proxy" if "connect" in words.lower() else hop
        return ServerGone(config.host_port, hop, _why(hop, code.name, words), detail=detail)
    return EngineRefused(what, words or code.name)


def _why(hop: str, code: str, words: str) -> str:
    if code == "DEADLINE_EXCEEDED":
        return "nothing came back in time"
    low = words.lower()
    if "connection refused" in low:
        return "nobody listens there"
    if "timed out" in low:
        return "nothing came back in time"
    if hop == "TLS":
        return "the two do not agree on TLS"
    if hop == "name resolution":
        return "its name cannot be found"
    return "the connection broke" if "socket closed" in low or "reset" in low else words.splitlines()[0][:200]
