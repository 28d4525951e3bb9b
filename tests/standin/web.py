"""A small HTTP/1.1 server on asyncio: enough for the engine's four HTTP ports, quick to start."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from .misbehave import clock


@dataclass(frozen=True)
class Request:
    """One request; header names are lower case."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes

    def parameter(self, name: str) -> str | None:
        """Give the first value of a query parameter."""
        return next((value for key, value in self.query if key == name), None)

    def parameters(self, name: str) -> list[str]:
        """Give all values of a query parameter."""
        return [value for key, value in self.query if key == name]


@dataclass(frozen=True)
class Response:
    """One answer."""

    status: int = 200
    body: bytes = b""
    content_type: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        """Make a JSON answer, ending in a newline as the real API's do."""
        body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        return cls(status, body, "application/json", headers or {})


Handler = Callable[[Request], Awaitable[Response]]


def bind(host: str, port: int) -> socket.socket:
    """Bind and listen; an empty host is every interface, both families where there are two.

    Raises:
        OSError: The port is taken.
    """
    if host:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(found[0], socket.SOCK_STREAM)
        address = (str(found[4][0]), port)
    else:
        try:
            listening = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            address = ("::", port)
        except OSError:
            listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            address = ("0.0.0.0", port)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        return None
    method, target, *_ = [*head[0].split(" "), "", ""]
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    try:
        body = await reader.readexactly(int(headers.get("content-length") or 0))
    except (asyncio.IncompleteReadError, ValueError, ConnectionError):
        return None
    parts = urlsplit(target)
    return Request(method, parts.path, parse_qsl(parts.query, keep_blank_values=True), headers, body)


async def serve(listening: socket.socket, handler: Handler) -> asyncio.Server:
    """Answer requests on a bound socket, several on one connection, until the server is closed."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read(reader)) is not None:
                if not request.method.isalpha() or request.method == "PRI":
                    # A gRPC client that found an HTTP/1 port gets what Go's server says.
                    writer.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    break
                response = await handler(request)
                keep = request.headers.get("connection", "").lower() != "close"
                lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
                lines.append(f"Date: {formatdate(clock(), usegmt=True)}")
                if response.content_type:
                    lines.append(f"Content-Type: {response.content_type}")
                lines += [f"{name}: {value}" for name, value in response.headers.items()]
                if response.status != HTTPStatus.NO_CONTENT:
                    lines.append(f"Content-Length: {len(response.body)}")
                lines.append("Connection: " + ("keep-alive" if keep else "close"))
                body = b"" if request.method == "HEAD" else response.body
                writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
                await writer.drain()
                if not keep:
                    break
        except ConnectionError:
            return
        finally:
            writer.close()

    return await asyncio.start_server(connected, sock=listening)
