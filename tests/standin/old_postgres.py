"""A PostgreSQL server too old to be had any more: enough of its protocol to be asked what it is, and to say 13.9.

Only for the look at a server: any login is taken, and every query is answered with the one row of that look.
"""

from __future__ import annotations

import socket
import struct
import threading
from types import TracebackType

VERSION = "13.9 (Debian 13.9-0+deb11u1)"
_INT4, _TEXT, _BOOL, _TEXT_ARRAY = 23, 25, 16, 1009
# server_version_num, server_version, user, superuser, createdb, createrole, timezone, listen_addresses,
# max_connections, extensions, system identifier, read-only
_ROW = (
    (_INT4, "130009"), (_TEXT, VERSION), (_TEXT, "postgres"), (_BOOL, "t"), (_BOOL, "t"), (_BOOL, "t"),
    (_TEXT, "Etc/UTC"), (_TEXT, "localhost"), (_INT4, "100"), (_TEXT_ARRAY, "{btree_gist,pgcrypto}"),
    (_TEXT, "6999999999999999999"), (_TEXT, "off"),
)  # fmt: skip
_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104


def _message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _text(*words: str) -> bytes:
    return b"".join(word.encode() + b"\0" for word in words)


_READY = _message(b"Z", b"I")


class OldPostgres:
    """A server on a loopback port, for a `with`.

    Attributes:
        queries: what it was asked, in order.
    """

    def __init__(self) -> None:
        self.queries: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> OldPostgres:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Ends the accept of the other thread, which closing alone would not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                session, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(session,), daemon=True).start()

    def _serve(self, session: socket.socket) -> None:
        with session, session.makefile("rb") as stream:
            while True:
                head = stream.read(8)
                if len(head) < 8:
                    return
                length, code = struct.unpack("!ii", head)
                stream.read(length - 8)
                if code not in (_SSL_REQUEST, _GSS_REQUEST):
                    break
                session.sendall(b"N")
            parameters = {
                "server_version": VERSION, "client_encoding": "UTF8", "server_encoding": "UTF8",
                "standard_conforming_strings": "on", "integer_datetimes": "on", "DateStyle": "ISO, MDY",
            }  # fmt: skip
            session.sendall(
                _message(b"R", struct.pack("!i", 0))
                + b"".join(_message(b"S", _text(*pair)) for pair in parameters.items())
                + _message(b"K", struct.pack("!ii", 1, 1))
                + _READY
            )
            while kind := stream.read(1):
                (length,) = struct.unpack("!i", stream.read(4))
                body = stream.read(length - 4)
                if kind == b"X":
                    return
                session.sendall(self._answer(kind, body))

    def _answer(self, kind: bytes, body: bytes) -> bytes:
        if kind == b"P":
            self.queries.append(body.split(b"\0")[1].decode())
            return _message(b"1")
        if kind == b"B":
            return _message(b"2")
        if kind == b"D":
            fields = b"".join(
                _text(f"c{n}") + struct.pack("!ihihih", 0, 0, oid, -1, -1, 0) for n, (oid, _) in enumerate(_ROW)
            )
            return _message(b"T", struct.pack("!h", len(_ROW)) + fields)
        if kind == b"E":
            values = [value.encode() for _, value in _ROW]
            row = b"".join(struct.pack("!i", len(value)) + value for value in values)
            return _message(b"D", struct.pack("!h", len(values)) + row) + _message(b"C", _text("SELECT 1"))
        if kind == b"S":
            return _READY
        if kind == b"Q":
            self.queries.append(body.rstrip(b"\0").decode())
            if self.queries[-1].lstrip().lower().startswith("select"):
                return self._answer(b"D", b"") + self._answer(b"E", b"") + _READY
            return _message(b"C", _text("SELECT 0")) + _READY
        return b""
