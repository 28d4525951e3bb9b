"""What can be wrong with a Docker engine that answers: its disk, compose, logins and mirror; and with our containers in it.

For the doctor alone. Of the containers only those are asked that are not well.
"""

from __future__ import annotations

import contextlib
import json
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from owlclaw_up.facts.containers import ENGINE
from owlclaw_up.facts.values import DockerFacts
from owlclaw_up.host.base import Ran, on_this_machine
from owlclaw_up.host.docker import DockerEngine
from owlclaw_up.host.docker_base import ContainerLook, DockerLook, EngineInfo
from owlclaw_up.host.docker_engines import current_context, find_compose, without_compose
from owlclaw_up.host.machine import Host
from owlclaw_up.host.ports import answers_tcp
from owlclaw_up.host.postgres_url import parse_url
from owlclaw_up.model import Fact, Found, Mode, Unknown
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings

_DESKTOP = "Docker Desktop"
# Seconds. All together stay within what the doctor gives a probe.
_READY, _MIRROR, _INSIDE = 0.4, 1.0, 1.8
_LINES = 40
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LINGER = Path("/var/lib/systemd/linger")
# Where Docker Desktop keeps its settings, and what it shares where they do not say; on Windows it shares everything.
_DESKTOP_FOLDERS = {
    "darwin": ("Library/Group Containers/group.com.docker", ("/Users", "/Volumes", "/private", "/tmp", "/var/folders")),
    "linux": (".docker/desktop", ("~",)),
}


@dataclass(frozen=True)
class DockerHealth:
    """What can be wrong with a Docker engine that answers, and with our containers in it.

    Attributes:
        free_mib: on the disk that has its data; None where that is another machine's.
        compose: what is wrong with the compose that was found earlier; None where nothing is.
        context: the current context, where it leads to nobody; empty else.
        platform: DOCKER_DEFAULT_PLATFORM.
        config: the user's configuration of `docker`.
        helpers: by registry, empty for all of them: the program that keeps its login, where that is not there.
        logins: registries for which a login is kept in that file itself.
        mirror: what is wrong with the registry mirror, where it is one of this machine; empty where nothing is.
        shared: the folders that Docker Desktop's virtual machine sees; None where there is no such machine.
        lingers: whether a rootless engine goes on after its user's logout; None where nobody can tell.
        words: by service, the last lines of each container of ours that is not well.
        from_inside: what our PostgreSQL says to the engine's container; None where the engine is well, or could not be asked.
    """

    info: EngineInfo
    free_mib: int | None = None
    compose: Unknown | None = None
    context: str = ""
    platform: str = ""
    config: Path = Path()
    helpers: Mapping[str, str] = field(default_factory=dict)
    logins: tuple[str, ...] = ()
    mirror: str = ""
    shared: tuple[Path, ...] | None = None
    lingers: bool | None = None
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    from_inside: Ran | None = None


def look_at_docker_health(
    host: Host, settings: Settings, ledger: Ledger, docker: Fact[DockerFacts]
) -> Fact[DockerHealth]:
    """Ask the engine that was found.

    Args:
        docker: what was seen of it; where that is nothing, so is this.
    """
    if not isinstance(docker, Found):
        return docker
    return Found(_health(host, settings, ledger, docker.value, DockerEngine(docker.value.look.address)))


def _health(host: Host, settings: Settings, ledger: Ledger, docker: DockerFacts, engine: DockerEngine) -> DockerHealth:
    info = engine.info()
    config, helpers, logins = _logins(host)
    containers = (docker.by_hand or docker).containers
    here = info.machine == platform.node()
    return DockerHealth(
        info,
        free_mib=_free(info.root) if here else None,
        compose=_compose(host, ledger, docker.look),
        context=_context(host, docker.look),
        platform=host.environ.get("DOCKER_DEFAULT_PLATFORM", ""),
        config=config,
        helpers=helpers,
        logins=logins,
        mirror=_mirror(host, settings.registry_mirror.value),
        shared=_shared(host, info),
        lingers=_lingers(host) if here and info.rootless else None,
        words={s: _last_words(engine, c) for s, c in containers.items() if not _is_well(c)},
        from_inside=_from_inside(host, ledger, engine, containers.get(ENGINE)),
    )


def _is_well(container: ContainerLook) -> bool:
    return container.running and not container.restarts and not container.oom_killed


def _last_words(engine: DockerEngine, container: ContainerLook) -> tuple[str, ...]:
    return tuple(_COLOUR.sub("", line) for line in engine.logs(container.id, tail=_LINES))


def _free(folder: str) -> int | None:
    try:
        return shutil.disk_usage(folder).free // 2**20
    except OSError:
        return None


def _compose(host: Host, ledger: Ledger, look: DockerLook) -> Unknown | None:
    """What is wrong with compose by now; one that was found earlier is not looked for again by anybody else."""
    if not ledger.recall("compose").get("version"):
        return None
    found = find_compose(host.environ, host.processes)
    return without_compose(look.version, found) if isinstance(found, str) else None


def _context(host: Host, look: DockerLook) -> str:
    name, _ = current_context(host.environ)
    return name if name and look.source not in ("DOCKER_HOST", f"context {name}") else ""


def _logins(host: Host) -> tuple[Path, Mapping[str, str], tuple[str, ...]]:
    """The user's configuration of `docker`, credential helpers that it names and that are not there, logins in it."""
    folder = host.environ.get("DOCKER_CONFIG") or Path(host.environ.get("HOME", "/nonexistent")) / ".docker"
    file = Path(folder) / "config.json"
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        said = {}
    said = said if isinstance(said, dict) else {}
    parts = {key: said[key] if isinstance(said.get(key), dict) else {} for key in ("credHelpers", "auths")}
    named = {**({"": said["credsStore"]} if said.get("credsStore") else {}), **parts["credHelpers"]}
    programs = {registry: f"docker-credential-{name}" for registry, name in named.items()}
    path = host.environ.get("PATH")
    missing = {registry: name for registry, name in programs.items() if shutil.which(name, path=path) is None}
    return file, missing, tuple(name for name, login in parts["auths"].items() if login)


def _mirror(host: Host, mirror: str) -> str:
    """What is wrong with a mirror on loopback; others are not asked."""
    place = mirror.removeprefix("https://").removeprefix("http://").partition("/")[0]
    try:
        name, port = urlsplit(f"//{place}").hostname or "", urlsplit(f"//{place}").port
    except ValueError:
        return f"{place} is no address"
    if not name or port is None or not on_this_machine(name):
        return ""
    answer = host.hatchet.get(port, "/v2/", _MIRROR)
    if answer is None:
        return "" if answers_tcp(name, port) else f"nobody listens on {place}"
    status, kind, _ = answer
    serves = status == 401 or (status == 200 and "html" not in kind)
    return (
        "" if serves else f"what answers on {place} is no image registry: /v2/ says {status} {kind.partition(';')[0]}"
    )


def _shared(host: Host, info: EngineInfo) -> tuple[Path, ...] | None:
    if info.system != _DESKTOP or sys.platform not in _DESKTOP_FOLDERS:
        return None
    home = Path(host.environ.get("HOME", "/nonexistent"))
    below, usual = _DESKTOP_FOLDERS[sys.platform]
    folders = [str(home) if folder == "~" else folder for folder in usual]
    # Up to 4.34 it was the second one.
    for name in ("settings-store.json", "settings.json"):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            said = json.loads((home / below / name).read_text(encoding="utf-8"))
            given = [v for k, v in said.items() if k.lower() == "filesharingdirectories" and isinstance(v, list)]
            folders = given[0] if given else folders
            break
    return tuple(Path(folder) for folder in folders)


def _lingers(host: Host) -> bool | None:
    user = host.environ.get("USER", "")
    return (_LINGER / user).exists() if user and _LINGER.parent.exists() else None


def _from_inside(host: Host, ledger: Ledger, engine: DockerEngine, container: ContainerLook | None) -> Ran | None:
    """Ask our PostgreSQL from inside the engine's container, where that runs and the engine is not ready."""
    if ledger.state.mode != Mode.HATCHET_ONLY.value or container is None or not container.running:
        return None
    ready = host.hatchet.get(ledger.state.ports.get("dashboard", 0), "/api/ready", _READY)
    if ready is not None and ready[0] == 200 and "html" not in ready[1]:
        return None
    try:
        login = parse_url(container.environment.get("DATABASE_URL", ""))
    except ValueError:
        return None
    env = {
        "PGHOST": login.host, "PGPORT": str(login.port or 5432), "PGUSER": login.user, "PGDATABASE": login.database,
        "PGPASSWORD": login.password.reveal() if login.password else "", "PGCONNECT_TIMEOUT": "2", "LC_ALL": "C",
        "PGSSLMODE": dict(login.options).get("sslmode", "prefer"),
    }  # fmt: skip
    return engine.execute_into(container.id, ["psql", "-XAtqwc", "select 1"], env, lambda data: None, _INSIDE)
