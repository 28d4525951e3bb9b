"""A real nginx in front of a Hatchet server: REST and gRPC behind one port with TLS, and the ways in which that is set up wrong."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from owlclaw_up.host.ports import answers_tcp
from tests.functional.tls import Certificate
from tests.ports import free_port

_NAMES = ("both", "mutual", "http1", "no_grpc", "nobody")


@dataclass(frozen=True)
class Ports:
    """Ports with TLS.

    Attributes:
        both: REST and gRPC, as it should be.
        mutual: the same, for those that show a certificate.
        http1: without HTTP/2.
        no_grpc: gRPC is passed on as if it were REST.
        nobody: nobody listens where it passes both on to.
    """

    both: int
    mutual: int
    http1: int
    no_grpc: int
    nobody: int


class Nginx:
    """One nginx, until it is closed.

    Args:
        clients: root of the certificates that the port for those wants.
        rest, grpc: ports of 127.0.0.1.
    """

    def __init__(self, folder: Path, certificate: Certificate, clients: Certificate, rest: int, grpc: int) -> None:
        program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
        if program is None:
            pytest.skip("no nginx on this machine")
        self.ports = Ports(**{name: free_port() for name in _NAMES})
        gone = free_port()
        both = _pass(rest, grpc)
        verify = f"ssl_client_certificate {clients.file}; ssl_verify_client on;"
        servers = [
            _server(self.ports.both, "http2", both),
            _server(self.ports.mutual, "http2", f"{verify} {both}"),
            _server(self.ports.http1, "", _pass(rest)),
            _server(self.ports.no_grpc, "http2", _pass(rest)),
            _server(self.ports.nobody, "http2", _pass(gone, gone)),
        ]
        log = folder / "error.log"
        temporary = " ".join(
            f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"daemon off; worker_processes 1; pid {folder}/pid; error_log {log};\nevents {{}}\nhttp {{ access_log off; "
            f"{temporary} ssl_certificate {certificate.file}; ssl_certificate_key {certificate.key};\n"
            + "\n".join(servers)
            + "\n}\n"
        )
        self._process = subprocess.Popen([program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(log)])
        deadline = time.monotonic() + 10
        while not answers_tcp("127.0.0.1", self.ports.nobody):
            assert self._process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(10)


def _server(port: int, how: str, location: str) -> str:
    return f"server {{ listen 127.0.0.1:{port} ssl {how}; {location} }}"


def _pass(rest: int, grpc: int = 0) -> str:
    to_grpc = f'if ($content_type ~ "^application/grpc") {{ grpc_pass grpc://127.0.0.1:{grpc}; }}' if grpc else ""
    return f"location / {{ {to_grpc} proxy_pass http://127.0.0.1:{rest}; }}"
