"""TLS in front of a plain server, certificates for it, and a proxy: made at test time, on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as PEM files."""

    file: Path
    key: Path

    @property
    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)
        # What is inside is passed through as bytes: gRPC is HTTP/2, REST is HTTP/1.1.
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context


class Authority:
    """A root of the test's own, and what it signs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        key = self._key("root")
        self.root = Certificate(folder / "root.pem", key)
        self._openssl(
            "req", "-x509", "-key", str(key), "-days", "2", "-subj", "/CN=a root of the tests", "-addext",
            "basicConstraints=critical,CA:true", "-addext", "keyUsage=critical,keyCertSign", "-out", str(self.root.file),
        )  # fmt: skip

    def sign(self, name: str, *alternatives: str, days: int = 2, usage: str = "serverAuth") -> Certificate:
        """A certificate.

        Args:
            alternatives: `DNS:name`, `IP:address`.
            days: from now; a negative number makes one that has expired.
            usage: `serverAuth`, or `clientAuth`.
        """
        key, request, made = self._key(name), self.folder / f"{name}.csr", self.folder / f"{name}.pem"
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={','.join(alternatives)}\nextendedKeyUsage={usage}\n")
        self._openssl("req", "-new", "-key", str(key), "-subj", f"/CN={name}", "-out", str(request))
        self._openssl(
            "x509", "-req", "-in", str(request), "-CA", str(self.root.file), "-CAkey", str(self.root.key), "-days", str(days),
            "-CAcreateserial", "-extfile", str(extensions), "-out", str(made),
        )  # fmt: skip
        return Certificate(made, key)

    def _key(self, name: str) -> Path:
        key = self.folder / f"{name}.key"
        self._openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(key))
        return key

    @staticmethod
    def _openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Loop:
    """An event loop in a thread, with the small servers of a test."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def listen(self, serve: Serve, context: ssl.SSLContext | None = None) -> int:
        """Serve on every address of this machine; gives the port."""

        async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
            finally:
                # One that is left open until it is collected complains that its loop has gone.
                writer.close()

        async def begin() -> int:
            server = await asyncio.start_server(served, "0.0.0.0", 0, ssl=context)
            self._servers.append(server)
            port: int = server.sockets[0].getsockname()[1]
            return port

        return asyncio.run_coroutine_threadsafe(begin(), self._loop).result(10)

    def terminator(self, certificate: Certificate, target: int) -> int:
        """TLS in front of a port of 127.0.0.1; gives its own port."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _through("127.0.0.1", target, reader, writer)

        return self.listen(serve, certificate.context)

    def plain(self, target: int) -> int:
        """The same without TLS."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _through("127.0.0.1", target, reader, writer)

        return self.listen(serve)

    def proxy(self, seen: list[str], *, allow: bool = True, target: int = 0) -> int:
        """An HTTP proxy for CONNECT; gives its port.

        Args:
            seen: what it was asked for is put there.
            allow: answer 403 where not.
            target: the port of 127.0.0.1 to which it leads whatever it is asked for; to that itself where left out.
        """

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            place = head.split(b" ")[1].decode()
            seen.append(place)
            if not allow:
                writer.write(b"HTTP/1.1 403 Not from here\r\n\r\n")
                await writer.drain()
                writer.close()
                return
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            host, _, port = place.rpartition(":")
            await _through("127.0.0.1" if target else host, target or int(port), reader, writer)

        return self.listen(serve)

    def close(self) -> None:
        async def end() -> None:
            for server in self._servers:
                server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            # A transport that was closed is let go of in the loop's next round.
            await asyncio.sleep(0.05)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


class Doorman:
    """TLS in front of a port of 127.0.0.1, for clients alone that show a certificate.

    asyncio closes a connection of which it does not like the certificate; OpenSSL on a plain socket says why, as servers do.

    Args:
        clients: root of the certificates that are let through.
    """

    def __init__(self, certificate: Certificate, target: int, clients: Certificate, *, old: bool = False) -> None:
        self._context, self._target = certificate.context, target
        self._context.load_verify_locations(clients.file)
        self._context.verify_mode = ssl.CERT_REQUIRED
        if old:
            self._context.maximum_version = ssl.TLSVersion.TLSv1_2
        self._listening = socket.create_server(("0.0.0.0", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with (
            contextlib.suppress(OSError), raw, self._context.wrap_socket(raw, server_side=True) as client,
            socket.create_connection(("127.0.0.1", self._target)) as server,
        ):  # fmt: skip
            _pump(client, server)


def _pump(client: ssl.SSLSocket, server: socket.socket) -> None:
    """In one thread: a TLS connection is not to be read in one and written in another."""
    client.setblocking(False)
    while True:
        if not client.pending():
            select.select([client, server], [], [])
        with contextlib.suppress(ssl.SSLWantReadError):
            data = client.recv(65536)
            if not data:
                return
            server.sendall(data)
        if select.select([server], [], [], 0)[0]:
            data = server.recv(65536)
            if not data:
                return
            client.setblocking(True)
            client.sendall(data)
            client.setblocking(False)


async def _through(host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        there, to = await asyncio.open_connection(host, port)
    except OSError:
        writer.close()
        return

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, ssl.SSLError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
        finally:
            sink.close()

    await asyncio.gather(pump(reader, to), pump(there, writer))


@contextlib.contextmanager
def loop() -> Iterator[Loop]:
    """A loop that ends with the test."""
    made = Loop()
    try:
        yield made
    finally:
        made.close()


def own_address() -> str:
    """An address of this machine that is not loopback, or an empty text where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: it only asks for the route.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        address: str = probe.getsockname()[0]
        return "" if address.startswith("127.") else address
