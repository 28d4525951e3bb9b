"""A running Hatchet engine on loopback: HTTP by the standard library, gRPC by grpcio. No proxy is ever asked.

`hatchet_sdk` is not imported here: it costs more than a second, and one call of GetVersion needs none of it.
"""

from __future__ import annotations

import http.client

from owlclaw_up.host.base import GrpcLook
from owlclaw_up.model import Secret

_GET_VERSION = "/Dispatcher/GetVersion"
# gRPC's words for a broken connection -> the hop that broke.
_HOPS = (
    ("name resolution", "name resolution"),
    ("domain name not found", "name resolution"),
    ("errors resolving", "name resolution"),
    ("wrong_version_number", "TLS"),
    ("handshake", "TLS"),
    ("certificate", "TLS"),
)


class HatchetEngine:
    """`host.base.Hatchet` for an engine on this machine."""

    def get(self, port: int, path: str, timeout: float = 2.0) -> tuple[int, str, str] | None:
        """GET on 127.0.0.1.

        Args:
            timeout: seconds for each of connecting and reading.

        Returns:
            status, content type, and the first 4 KiB of the body; None when nobody answers.
        """
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read(4096).decode("utf-8", "replace")
            return response.status, response.headers.get("Content-Type", ""), body
        except (TimeoutError, OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def grpc_version(self, address: str, token: Secret, timeout: float = 5.0) -> GrpcLook:
        """Ask for the version with a token: proves address, plain text, and that the engine takes the token.

        Args:
            address: host:port.
            timeout: seconds for the whole call.
        """
        import grpc

        host, _, port = address.rpartition(":")
        # `localhost` may be ::1 first, and our engines listen on 127.0.0.1.
        target = f"127.0.0.1:{port}" if host == "localhost" else address
        with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
            call = channel.unary_unary(
                _GET_VERSION, request_serializer=lambda body: body, response_deserializer=lambda body: body
            )
            try:
                answer = call(b"", timeout=timeout, metadata=(("authorization", f"Bearer {token.reveal()}"),))
            except grpc.RpcError as error:
                code, words = error.code(), error.details() or ""
                if code == grpc.StatusCode.UNAUTHENTICATED:
                    return GrpcLook("refused-token", hop="token", detail=words)
                low = words.lower()
                hop = next((hop for word, hop in _HOPS if word in low), "gRPC")
                return GrpcLook("unavailable", hop=hop, detail=f"{code.name}: {words}")
        return GrpcLook("ok", version=_version_field(answer))


def _version_field(message: bytes) -> str:
    """The string of field 1 of `GetVersionResponse`: one tag byte, a length, the text."""
    if len(message) < 2 or message[0] != 0x0A:
        return ""
    return message[2 : 2 + message[1]].decode("utf-8", "replace")
