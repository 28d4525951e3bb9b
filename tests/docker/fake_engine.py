"""An API server on a unix socket that says of itself what Docker engines say that cannot be had on a test machine.

It answers questions and does nothing: rootless engines, Docker Desktop, engines that are too old.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socketserver
import tempfile
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

# As Docker 28 on Linux answers; an image is there whatever it is called.
_VERSION = {"Version": "28.2.2", "ApiVersion": "1.50", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64"}
_INFO = {"Name": "vm", "OperatingSystem": "Debian GNU/Linux 12 (bookworm)", "DockerRootDir": "/nonexistent/docker",
         "SecurityOptions": ["name=seccomp,profile=builtin"], "ServerVersion": "28.2.2"}  # fmt: skip
_REST: Mapping[str, Any] = {
    r"/networks/bridge": {"IPAM": {"Config": [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]}},
    r"/images/.*/json": {"Id": "sha256:0", "Architecture": "amd64", "RepoDigests": []},
    r"/containers/json": [],
    r"/volumes": {"Volumes": []},
}


@contextlib.contextmanager
def fake_engine(version: Mapping[str, Any] | None = None, info: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Serve for the block; give the address.

    Args:
        version, info: what it says otherwise of itself.
    """
    said = {r"/version": {**_VERSION, **(version or {})}, r"/info": {**_INFO, **(info or {})}, **_REST}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = re.sub(r"^/v[\d.]+(?=/)", "", self.path.partition("?")[0])
            answer = next((what for known, what in said.items() if re.fullmatch(known, path)), None)
            body = json.dumps({"message": "page not found"} if answer is None else answer).encode()
            self.send_response_only(404 if answer is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Of no interest."""

    # A socket's path may not be long.
    folder = Path(tempfile.mkdtemp(prefix="owlclaw-"))
    folder.chmod(0o755)
    try:
        with socketserver.ThreadingUnixStreamServer(str(folder / "s"), Handler) as server:
            serving = threading.Thread(target=server.serve_forever, args=(0.02,))
            serving.start()
            yield f"unix://{folder / 's'}"
            server.shutdown()
            serving.join()
    finally:
        shutil.rmtree(folder)
