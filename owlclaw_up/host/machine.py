"""The composition root of everything that touches this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from owlclaw_up.host.base import Clock, Files, Hatchet, Postgres, Processes, SystemClock
from owlclaw_up.host.docker import DockerEngine
from owlclaw_up.host.docker_base import Docker
from owlclaw_up.host.embedded import EmbeddedServers
from owlclaw_up.host.hatchet import HatchetEngine
from owlclaw_up.host.local import LocalFiles, LocalProcesses
from owlclaw_up.host.postgres import PostgresServers
from owlclaw_up.host.remote import RemoteServers
from owlclaw_up.host.remote_base import RemoteHatchet

_NETWORK = (
    *(n for name in ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy") for n in (name, name.upper())),
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "SYSTEMROOT")


@dataclass(frozen=True)
class Host:
    """All doors together.

    Attributes:
        environ: the environment of this command.
        cwd: the working directory of this command.
    """

    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    files: Files = field(default_factory=LocalFiles)
    processes: Processes = field(default_factory=LocalProcesses)
    clock: Clock = field(default_factory=SystemClock)
    postgres: Postgres = field(default_factory=PostgresServers)
    hatchet: Hatchet = field(default_factory=HatchetEngine)
    cwd: Path = field(default_factory=Path.cwd)

    @property
    def inherited(self) -> dict[str, str]:
        """What a Python program of ours gets of this command's environment: nothing that decides what it does."""
        return {name: self.environ[name] for name in _INHERITED if name in self.environ}

    def docker(self, address: str) -> Docker:
        """The Docker engine at an address, as `host.docker_engines` found it."""
        return DockerEngine(address)

    @property
    def remote(self) -> RemoteHatchet:
        return RemoteServers(self.environ)

    @property
    def network(self) -> dict[str, str]:
        """What of this command's environment decides how a program gets to a server elsewhere."""
        return {name: self.environ[name] for name in _NETWORK if name in self.environ}

    @property
    def embedded(self) -> EmbeddedServers:
        return EmbeddedServers(self.processes)
