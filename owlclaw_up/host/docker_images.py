"""Whether Docker has an image on this machine, and taking it from there without a network. Changes nothing but a folder that is given.

An engine that answers is asked; where none does, the files of the usual ones are read: that starts nothing, and wants a user who
may read them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from owlclaw_up.errors import UpError
from owlclaw_up.host.containerd_store import read_containerd_store
from owlclaw_up.host.docker import DockerEngine
from owlclaw_up.host.docker_archive import read_archive
from owlclaw_up.host.docker_base import ImageLook
from owlclaw_up.host.docker_engines import candidates
from owlclaw_up.host.docker_store import read_docker_store
from owlclaw_up.host.held_image import HeldImage, ImageUnfit
from owlclaw_up.host.image_names import parse_reference
from owlclaw_up.model import Absent, Fact, Found, Unknown

_SYSTEM = ("unix:///var/run/docker.sock", "unix:///run/docker.sock")
_SYSTEM_FILES, _SYSTEM_CONFIG = Path("/var/lib/docker"), Path("/etc/docker/daemon.json")
# Beside Docker's own where containerd is a service of the system; below Docker's data where Docker starts it itself.
_SYSTEM_CONTAINERD, _OWN_CONTAINERD = Path("/var/lib/containerd"), "containerd/daemon"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class InDocker:
    """An image that Docker has on this machine.

    Attributes:
        source: `docker`, or `docker-store` where no engine answers.
        where: the engine's address, or the folder of its data.
        digest: what a registry calls it, where Docker knows.
        size: bytes that taking it needs beside what is unpacked.
        take: gives its content; may put what it needs into a folder, which must stay as long as the content is read, and tells
            the bytes that are there, and those that there are.
    """

    source: str
    where: str
    digest: str
    size: int
    take: Callable[[Path, Progress], HeldImage]


def look_in_docker(image: str, machine: str, environ: Mapping[str, str], engine: Fact[str]) -> Fact[InDocker]:
    """Where Docker has an image for this machine.

    Args:
        image: as the settings name it.
        machine: as images name it.
        engine: the address of the engine that answers; why none does.

    Returns:
        The first; else why there is none, of kind `platform` where there is one for another machine.
    """
    if isinstance(engine, Found):
        return _in_engine(image, machine, engine.value)
    why, kind = [], ""
    for root, containerds in _stores(environ):
        try:
            held = read_docker_store(root, parse_reference(image), machine)
            for containerd in containerds:
                held = held or read_containerd_store(containerd, parse_reference(image), machine)
        except ImageUnfit as error:
            why.append(f"Docker's store in {root}: {error}")
            kind = error.kind
        except OSError as error:
            why.append(f"Docker's store in {root} cannot be read: {error.strerror}")
        else:
            if held is not None:
                return Found(InDocker("docker-store", str(root), "", 0, _already(held)))
    return Unknown("; ".join(why), kind=kind) if why else Absent(engine.why)


def _in_engine(image: str, machine: str, address: str) -> Fact[InDocker]:
    docker = DockerEngine(address)
    try:
        look = docker.image(image)
    except UpError as error:
        return Unknown(error.message)
    if look is None:
        return Absent("Docker does not have it")
    if look.architecture not in ("", machine):
        return Unknown(f"Docker has it for linux/{look.architecture}, wanted linux/{machine}", kind="platform")

    def take(folder: Path, progress: Progress) -> HeldImage:
        archive = folder / "image.tar"
        docker.save(image, archive, lambda done: progress(done, max(done, look.size)))
        progress(archive.stat().st_size, archive.stat().st_size)
        return read_archive(archive, _full(look), machine)

    name = dataclasses.replace(parse_reference(image), at="")
    # The same content may have come under another name, and been packed in another way.
    digests = [d.partition("@")[2] for d in look.digests if dataclasses.replace(parse_reference(d), at="") == name]
    return Found(InDocker("docker", address, digests[0] if digests else "", look.size, take))


def _full(look: ImageLook) -> str:
    # Podman leaves out what the digest is made by.
    return look.id if ":" in look.id else f"sha256:{look.id}"


def _already(held: HeldImage) -> Callable[[Path, Progress], HeldImage]:
    return lambda folder, progress: held


def _stores(environ: Mapping[str, str]) -> list[tuple[Path, tuple[Path, ...]]]:
    """Folders of Docker's data where an engine of a usual address has them, each with those of containerd.

    An engine that DOCKER_HOST names at another address keeps its images nobody knows where.
    """
    home = Path(environ.get("HOME", "/nonexistent"))
    configs, data = Path(environ.get("XDG_CONFIG_HOME") or home / ".config"), environ.get("XDG_DATA_HOME")
    rootless = f"unix://{environ.get('XDG_RUNTIME_DIR', '/nonexistent')}/docker.sock"
    stores: list[tuple[Path, tuple[Path, ...]]] = []
    for address in dict.fromkeys(candidate.address for candidate in candidates(environ)):
        if address in _SYSTEM:
            root = _data_root(_SYSTEM_CONFIG) or _SYSTEM_FILES
            stores.append((root, (root / _OWN_CONTAINERD, _SYSTEM_CONTAINERD)))
        elif address == rootless:
            root = _data_root(configs / "docker/daemon.json") or Path(data or home / ".local/share") / "docker"
            stores.append((root, (root / _OWN_CONTAINERD,)))
    return stores


def _data_root(config: Path) -> Path | None:
    """Where a configuration of Docker's engine has it keep its data; None where it does not say."""
    try:
        said = json.loads(config.read_bytes())
        named = said.get("data-root") or said.get("graph")
    except (OSError, ValueError, AttributeError):
        return None
    return Path(named) if isinstance(named, str) else None
