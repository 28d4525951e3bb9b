"""What the rest of owlclaw-up may ask of a Docker engine, and the values that it gives. No effects of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from owlclaw_up.host.base import Ran


@dataclass(frozen=True)
class Compose:
    """Docker Compose v2.

    Attributes:
        argv: how it is called.
    """

    argv: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class DockerLook:
    """A Docker engine that answers, and the compose that drives it.

    Attributes:
        address: as in DOCKER_HOST.
        source: where the address came from: `DOCKER_HOST`, `context NAME`, or the socket itself.
        gateway, subnet: of the default bridge, by which containers reach this machine; empty where there is none.
    """

    address: str
    version: str
    source: str
    compose: Compose
    architecture: str = ""
    gateway: str = ""
    subnet: str = ""


@dataclass(frozen=True)
class EngineInfo:
    """What a Docker engine says of itself.

    Attributes:
        machine: the host name that it has.
        system: the operating system under it; `Docker Desktop` for that one.
        root: the folder of its data, on its own machine.
        rootless: whether it runs as an ordinary user.
    """

    machine: str
    system: str
    root: str
    rootless: bool


@dataclass(frozen=True)
class ImageLook:
    """An image that is on the engine.

    Attributes:
        digests: `name@sha256:...` as registries know it; none for an image that was built or loaded here.
        size: of its layers, in bytes.
    """

    id: str
    architecture: str
    digests: tuple[str, ...] = ()
    size: int = 0

    @property
    def digest(self) -> str:
        """What tells this very image from every other: a registry's digest, else its id on the engine."""
        return (self.digests or (self.id,))[0]


@dataclass(frozen=True)
class ContainerLook:
    """A container of a compose project.

    Attributes:
        state: `created`, `running`, `restarting`, `exited`, `paused` or `dead`.
        started_at: as ISO 8601; empty where it never ran.
        ports: port inside to the published one.
        environment: as it was created with. Secrets are among it: never shown.
        labels: compose's own and ours.
        exposed: published ports that are bound beyond loopback, each with the address.
        memory_limit: MiB that it may have; 0 where nothing limits it.
    """

    id: str
    name: str
    service: str
    state: str
    exit_code: int
    oom_killed: bool
    restarts: int
    started_at: str
    image: str
    ports: Mapping[int, int]
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    network_mode: str = ""
    exposed: Mapping[int, str] = field(default_factory=dict)
    memory_limit: int = 0

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def active(self) -> bool:
        """Whether it runs, or holds on to its ports all the same: paused, or between an end and its next start."""
        return self.state in ("running", "paused", "restarting")

    @property
    def how_it_ended(self) -> str:
        """In words, for an error."""
        if self.oom_killed:
            return "for want of memory (killed by the kernel)"
        return f"with exit code {self.exit_code}"


class Docker(Protocol):
    """One Docker engine. What it refuses is raised as an `errors.UpError`."""

    def image(self, reference: str) -> ImageLook | None: ...
    def pull(self, reference: str, source: str, progress: Callable[[int, int], None]) -> None: ...
    def save(self, reference: str, file: Path, progress: Callable[[int], None]) -> None: ...
    def containers(self, project: str) -> dict[str, ContainerLook]: ...
    def container(self, name: str) -> ContainerLook | None: ...
    def labelled(self, *labels: str) -> list[ContainerLook]: ...
    def volumes(self, project: str) -> dict[str, str]: ...
    def networks(self, project: str) -> list[str]: ...
    def logs(self, container: str, tail: int | None = None, since: float | None = None) -> list[str]: ...
    def follow(self, container: str) -> Iterator[str]: ...
    def execute(self, container: str, argv: Sequence[str], timeout: float) -> Ran: ...
    def execute_into(
        self,
        container: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        write: Callable[[bytes], object],
        timeout: float,
    ) -> Ran: ...

    def put(self, container: str, source: Path, target: str) -> None: ...
    def run(
        self,
        image: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        network: str,
        labels: Mapping[str, str],
        timeout: float,
    ) -> Ran: ...

    def stop(self, container: str, timeout: int) -> None: ...
    def remove_container(self, container: str) -> None: ...
    def remove_volume(self, name: str) -> None: ...
    def remove_network(self, name: str) -> None: ...
