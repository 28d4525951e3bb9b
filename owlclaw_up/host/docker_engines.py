"""Which Docker engine answers here, and which compose drives it; or why none does, with the command that helps.

Asked in this order: `DOCKER_HOST`, the current context, the usual sockets. Only an engine that answers counts. Reads only.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from owlclaw_up.errors import BinaryNotRunnable
from owlclaw_up.host.base import Processes
from owlclaw_up.host.docker_base import Compose, DockerLook
from owlclaw_up.model import Absent, Fact, Found, Unknown

T = TypeVar("T")
# `host-gateway`, by which a container finds this machine, came with 20.10; `name:` in compose files with 2.3.
OLDEST_ENGINE, OLDEST_COMPOSE = (20, 10), (2, 3)
_TIMEOUT = 2.5
# A library is loaded before it is asked, and nobody waits for both for three seconds.
_ANSWER = 2

_INSTALL = {
    "linux": "install Docker Engine and its compose plugin; on Debian and Ubuntu: sudo apt-get install docker.io docker-compose-v2",
    "darwin": "brew install colima docker docker-compose && colima start, or install Docker Desktop",
    "win32": "winget install Docker.DockerDesktop",
}
_START = {
    "linux": "sudo systemctl start docker",
    "darwin": "open -a Docker (Docker Desktop), or: colima start",
    "win32": "start Docker Desktop",
}
_RESTART = {
    "linux": "sudo systemctl restart docker",
    "darwin": "killall Docker; open -a Docker (Docker Desktop), or: colima restart",
    "win32": "restart Docker Desktop",
}
_COMPOSE = {
    "linux": "sudo apt-get install docker-compose-v2 (Ubuntu), docker-compose (Debian 13) or docker-compose-plugin (Docker's own packages)",
    "darwin": "brew install docker-compose",
    "win32": "winget upgrade Docker.DockerDesktop",
}


@dataclass(frozen=True)
class Candidate:
    """An address where an engine may answer, and where that address came from."""

    address: str
    source: str


class _Silent(Exception):
    """An address where nobody answers as Docker does.

    Attributes:
        kind: `nothing` (no such socket), `permission`, `closed` (a socket, and nobody behind it), `mute` (somebody who
            says nothing) or `odd`.
    """

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind, self.why = kind, why


def look(environ: Mapping[str, str], processes: Processes, known: Compose | None = None) -> Fact[DockerLook]:
    """The first Docker engine that answers, with a compose that can drive it.

    Args:
        known: the compose that was found earlier; while its program is there, it is not asked again.

    Returns:
        The engine; else why there is none, of kind `missing` (Docker is not installed), `stopped`, `mute`, `odd`, `permission`,
        `host` (DOCKER_HOST names nobody), `elsewhere` (it names another machine), `context` (the current context does),
        `old`, or `compose` (an engine answers, and no compose can drive it).
    """
    return _first(environ, lambda candidate: _ask(candidate, environ, processes, known))


def answering(environ: Mapping[str, str]) -> Fact[str]:
    """The address of the first engine of this machine that answers, whatever its age, with or without a compose."""

    def ask(candidate: Candidate) -> Fact[str]:
        _knock(candidate.address)
        _question(candidate)
        return Found(candidate.address)

    return _first(environ, ask)


def _first(environ: Mapping[str, str], ask: Callable[[Candidate], Fact[T]]) -> Fact[T]:
    """What the first engine says that answers; why there is none."""
    given = environ.get("DOCKER_HOST", "")
    if given and not _local(given):
        return _elsewhere(given)
    silent: list[tuple[Candidate, _Silent]] = []
    for candidate in candidates(environ):
        try:
            return ask(candidate)
        except _Silent as nobody:
            silent.append((candidate, nobody))
    return _none_answers(silent, given, environ)


def _elsewhere(address: str) -> Unknown:
    return Unknown(
        f"DOCKER_HOST names an engine on another machine ({_host(address)}), whose ports are not this one's",
        "unset DOCKER_HOST",
        "elsewhere",
    )


def candidates(environ: Mapping[str, str]) -> list[Candidate]:
    """Where an engine may answer: where DOCKER_HOST says, else the context in use, then the usual sockets of this platform."""
    if environ.get("DOCKER_HOST"):
        return [Candidate(environ["DOCKER_HOST"], "DOCKER_HOST")]
    found = []
    name, address = current_context(environ)
    if address and _local(address):
        found.append(Candidate(address, f"context {name}"))
    if sys.platform == "win32":
        return [*found, Candidate("npipe:////./pipe/docker_engine", "Docker Desktop")]
    home, runtime = Path(environ.get("HOME", "/nonexistent")), Path(environ.get("XDG_RUNTIME_DIR", "/nonexistent"))
    sockets = (
        (Path("/var/run/docker.sock"), "the system's engine"),
        (runtime / "docker.sock", "the rootless engine"),
        (home / ".docker/run/docker.sock", "Docker Desktop"),
        (home / ".docker/desktop/docker.sock", "Docker Desktop"),
        (home / ".colima/default/docker.sock", "Colima"),
        (home / ".orbstack/run/docker.sock", "OrbStack"),
        (home / ".rd/docker.sock", "Rancher Desktop"),
        (runtime / "podman/podman.sock", "Podman"),
        (Path("/run/podman/podman.sock"), "Podman"),
    )
    return found + [Candidate(f"unix://{path}", source) for path, source in sockets]


def current_context(environ: Mapping[str, str]) -> tuple[str, str]:
    """Name and address of the context that `docker` would use; empty for the default one."""
    folder = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "/nonexistent")) / ".docker")
    name = environ.get("DOCKER_CONTEXT", "")
    with contextlib.suppress(OSError, ValueError, AttributeError):
        name = name or str(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("currentContext", ""))
    if name in ("", "default"):
        return "", ""
    for path in (folder / "contexts" / "meta").glob("*/meta.json"):
        try:
            meta = json.loads(path.read_text(encoding="utf-8"))
            if meta["Name"] == name:
                return name, str(meta["Endpoints"]["docker"]["Host"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return name, ""


def _ask(
    candidate: Candidate, environ: Mapping[str, str], processes: Processes, known: Compose | None
) -> Fact[DockerLook]:  # fmt: skip
    _knock(candidate.address)
    version, gateway, subnet = _question(candidate)
    number = str(version.get("Version", ""))
    if _tuple(number) < OLDEST_ENGINE and "podman" not in json.dumps(version).lower():
        return Unknown(
            f"Docker {number} answers ({candidate.source}), and is too old: 20.10 or newer is needed",
            _INSTALL[_platform()],
            "old",
        )
    compose = known if known and Path(known.argv[0]).exists() else find_compose(environ, processes)
    if isinstance(compose, str):
        return without_compose(number, compose)
    return Found(
        DockerLook(candidate.address, number, candidate.source, compose, str(version.get("Arch", "")), gateway, subnet)
    )


def without_compose(version: str, fault: str) -> Unknown:
    """Of an engine that answers, and that no compose can drive."""
    return Unknown(f"Docker {version} answers, and {fault}", _COMPOSE[_platform()], "compose")


def find_compose(environ: Mapping[str, str], processes: Processes) -> Compose | str:
    """Compose v2, as a plugin of `docker` or alone; or what is wrong with what there is."""
    fault = "compose v2 is missing"
    for argv in (("docker", "compose"), ("docker-compose",)):
        program = shutil.which(argv[0], path=environ.get("PATH"))
        if program is None:
            continue
        try:
            ran = processes.run([program, *argv[1:], "version", "--short"], timeout=_TIMEOUT)
        except BinaryNotRunnable:
            continue
        version = ran.stdout.strip().removeprefix("v")
        if ran.exit_code or not version[:1].isdigit():
            continue
        if _tuple(version) >= OLDEST_COMPOSE:
            return Compose((program, *argv[1:]), version)
        old = "version 1 is not enough" if version.startswith("1.") else "2.3 or newer is needed"
        fault = f"its compose is {version}: {old}"
    return fault


def _knock(address: str) -> None:
    """See whether anybody listens, before a library is loaded to talk to them.

    Raises:
        _Silent: nobody does.
    """
    if address.startswith("tcp://"):
        try:
            socket.create_connection((_host(address), urlsplit(address).port or 2375), timeout=_TIMEOUT).close()
        except (OSError, ValueError):
            raise _Silent("closed", f"nobody answers at {address}") from None
    if not address.startswith("unix://"):
        return
    path = address.removeprefix("unix://")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_TIMEOUT)
        try:
            probe.connect(path)
        except (FileNotFoundError, NotADirectoryError):
            raise _Silent("nothing", f"there is no {path}") from None
        except PermissionError:
            raise _Silent("permission", f"no permission on {path}") from None
        except ConnectionRefusedError:
            raise _Silent("closed", f"nobody answers behind {path}") from None
        except OSError as error:
            raise _Silent("odd", f"{path}: {error.strerror or type(error).__name__}") from None


def _question(candidate: Candidate) -> tuple[dict[str, Any], str, str]:
    """The engine's version, and gateway and subnet of its default bridge.

    Raises:
        _Silent: what answers is no Docker engine.
    """
    import docker
    import requests

    try:
        client = docker.APIClient(base_url=candidate.address, timeout=_ANSWER)
        try:
            version: dict[str, Any] = client.version()
            try:
                pools = client.inspect_network("bridge")["IPAM"]["Config"] or [{}]
            except (docker.errors.APIError, KeyError):
                pools = [{}]
        finally:
            client.close()
    except (docker.errors.DockerException, requests.RequestException, ValueError) as error:
        # The library wraps what happened at its first question.
        cause = error.__cause__ or error
        if isinstance(cause, requests.Timeout):
            raise _Silent("mute", f"{candidate.address} takes connections, and does not answer") from None
        raise _Silent("odd", f"{candidate.address} does not answer as Docker does ({type(cause).__name__})") from None
    subnet = str(pools[0].get("Subnet", ""))
    gateway = str(pools[0].get("Gateway", ""))
    if subnet and not gateway:
        # Older engines do not say it; the bridge has the first address.
        gateway = str(next(ipaddress.ip_network(subnet).hosts()))
    return version, gateway if _of_this_machine(gateway) else "", subnet


def _of_this_machine(address: str) -> bool:
    """Whether a server here could listen on an address; an engine in a virtual machine has its bridge there."""
    if not address:
        return False
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _none_answers(silent: list[tuple[Candidate, _Silent]], given: str, environ: Mapping[str, str]) -> Absent | Unknown:
    system = _platform()
    for candidate, nobody in silent:
        if nobody.kind == "permission":
            return Unknown(
                f"Docker runs, and this user may not use it: {nobody.why}",
                "sudo usermod -aG docker $USER; newgrp docker",
                "permission",
            )
        if nobody.kind == "mute":
            return Unknown(nobody.why, f"restart that engine: {_RESTART[system]}", "mute")
        if nobody.kind == "odd":
            return Unknown(nobody.why, f"docker -H {candidate.address} version", "odd")
    name, address = current_context(environ)
    if not given and address and not _local(address):
        return Unknown(
            f"no engine answers on this machine; the current context {name} is on another one ({_host(address)}), whose "
            "ports are not this one's",
            f"docker context use default; {_START[system]}",
            "context",
        )
    if given:
        why = silent[0][1].why if silent else "nobody answers"
        return Absent(
            f"DOCKER_HOST is {given}, and {why}", f"unset DOCKER_HOST, or start that engine: {_START[system]}",
            "host",
        )  # fmt: skip
    if any(nobody.kind == "closed" for _, nobody in silent) or shutil.which("docker", path=environ.get("PATH")):
        return Absent("Docker is installed, and its engine is not running", _START[system], "stopped")
    return Absent("Docker is not installed", _INSTALL[system], "missing")


def _platform() -> str:
    return sys.platform if sys.platform in _INSTALL else "linux"


def _local(address: str) -> bool:
    """Whether an engine's published ports are ports of this machine."""
    if address.startswith(("unix://", "npipe://")):
        return True
    host = _host(address)
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host(address: str) -> str:
    return urlsplit(address if "://" in address else f"tcp://{address}").hostname or address


def _tuple(version: str) -> tuple[int, int]:
    parts = [int("".join(c for c in part if c.isdigit()) or 0) for part in version.split(".")[:2]]
    return (parts[0], parts[1]) if len(parts) == 2 else (parts[0] if parts else 0, 0)
