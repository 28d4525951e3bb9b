"""Whether a Docker engine answers, and why not. Asks `/version` on the sockets where one may live; changes nothing."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from owlclaw_up.model import Absent, Fact, Found, Unknown


@dataclass(frozen=True)
class DockerLook:
    """A Docker engine that answers.

    Attributes:
        where: its address.
    """

    where: str
    version: str


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def look(environ: Mapping[str, str], timeout: float = 0.5) -> Fact[DockerLook]:
    """The first Docker engine that answers: DOCKER_HOST alone where it is set, else the usual sockets."""
    given = environ.get("DOCKER_HOST", "")
    if given.startswith(("tcp://", "ssh://", "http")):
        return Unknown(f"DOCKER_HOST names a remote engine ({given.partition('@')[2] or given})")
    if given:
        sockets = [Path(given.removeprefix("unix://"))]
    else:
        home, runtime = environ.get("HOME", "/nonexistent"), environ.get("XDG_RUNTIME_DIR", "/nonexistent")
        sockets = [
            Path("/var/run/docker.sock"),
            Path(runtime) / "docker.sock",
            Path(home) / ".docker/run/docker.sock",
            Path(home) / ".colima/default/docker.sock",
            Path(home) / ".orbstack/run/docker.sock",
            Path(home) / ".rd/docker.sock",
            Path(runtime) / "podman/podman.sock",
        ]
    refusals = []
    for path in sockets:
        try:
            with contextlib.closing(_UnixConnection(str(path), timeout)) as connection:
                connection.request("GET", "/version")
                version = json.loads(connection.getresponse().read()).get("Version", "")
            return Found(DockerLook(f"unix://{path}", version))
        except FileNotFoundError:
            continue
        except PermissionError:
            refusals.append(f"no permission on {path}")
        except (OSError, ValueError, http.client.HTTPException) as error:
            refusals.append(f"{path} does not answer ({type(error).__name__})")
    if refusals:
        return Unknown("; ".join(refusals))
    if given:
        return Absent(f"DOCKER_HOST names {given}, and there is no such socket")
    if shutil.which("docker", path=environ.get("PATH")):
        return Absent("Docker is installed, and its engine is not running")
    return Absent("Docker is not installed")
