"""The Docker engine, and what it needs to bring images and containers up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from owlclaw_up.bundle_choice import bundled_images
from owlclaw_up.checks.base import Check, Evidence, Look, Seen, ok
from owlclaw_up.facts import DockerFacts
from owlclaw_up.facts.containers import DATABASE, ENGINE
from owlclaw_up.facts.docker_health import DockerHealth
from owlclaw_up.model import Absent, Found, Mode, Unknown, found

# MiB on the engine's disk: below the first PostgreSQL soon cannot write; below the second it is time to look; the third
# is what both images take while they come.
_FULL, _SCARCE, _TO_PULL = 256, 1024, 2048
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_REGISTRIES = {"index.docker.io": "docker.io", "https://index.docker.io/v1/": "docker.io"}


def wanted_mode(evidence: Evidence) -> Mode | None:
    """The mode that was asked for, else that of the environment."""
    return evidence.settings.mode.value or evidence.mode


def needs_docker(evidence: Evidence) -> bool:
    return wanted_mode(evidence) in (Mode.FULL, Mode.HATCHET_ONLY)


def _reached(well: Callable[[DockerFacts], str], *kinds: str) -> Look:
    """Whether an engine can be driven; each reason why not is the fault of one check.

    Args:
        well: what there is to say of one that can.
        kinds: the reasons of this check's.
    """

    def look(evidence: Evidence) -> Iterator[Seen]:
        docker, needed = evidence.facts.docker, needs_docker(evidence)
        if isinstance(docker, Found):
            if needed:
                yield ok(well(docker.value))
        elif docker.kind in kinds and (needed or _would_help(evidence)):
            yield _unreached(docker, "fail" if needed else "info")

    return look


def _would_help(evidence: Evidence) -> bool:
    return evidence.decision is not None and not evidence.decision.durable


def _unreached(why: Absent | Unknown, level: str) -> Seen:
    words = f"{why.why[0].upper()}{why.why[1:]}"
    commands = {
        "host": "unset DOCKER_HOST", "elsewhere": "unset DOCKER_HOST", "context": "docker context use default",
        "permission": why.hint, "odd": why.hint,
    }  # fmt: skip
    # On Linux the way to start it is a command and nothing else.
    start = why.hint.rpartition(": ")[2] if why.kind in ("stopped", "mute") else ""
    return Seen(level, words, "", why.hint, commands.get(why.kind) or (start if start.startswith("sudo ") else ""))


def _context(evidence: Evidence) -> Iterator[Seen]:
    docker, health = found(evidence.facts.docker), found(evidence.facts.docker_health)
    if docker is None or not needs_docker(evidence):
        yield from _CONTEXT(evidence)
        return
    kept = str(evidence.ledger.recall("compose").get("address", ""))
    if evidence.standing and kept not in ("", docker.look.address) and not docker.containers:
        yield Seen(
            "fail", f"our containers are on another Docker engine than the one that answers now ({docker.look.source})",
            f"they were made at {kept}; at {docker.look.address} there are none of ours",
            f"go back to it: export DOCKER_HOST={kept}", f"export DOCKER_HOST={kept}",
        )  # fmt: skip
    elif health is not None and health.context:
        yield Seen(
            "info", f"the current context {health.context} leads to nobody; used is {docker.look.source}",
            f"docker itself asks that context, and owlclaw-up {docker.look.address}", "",
            "docker context use default",
        )  # fmt: skip
    else:
        yield from _CONTEXT(evidence)


def _compose(evidence: Evidence) -> Iterator[Seen]:
    health = found(evidence.facts.docker_health)
    if health is not None and health.compose is not None and needs_docker(evidence):
        yield _unreached(health.compose, "fail")
    else:
        yield from _COMPOSE(evidence)


def _architecture(name: str) -> str:
    return _ARCHITECTURES.get(name, name)


def _asked(evidence: Evidence) -> tuple[DockerFacts, DockerHealth] | None:
    """An engine that answers and is needed, with what can be wrong with it."""
    docker, health = found(evidence.facts.docker), found(evidence.facts.docker_health)
    return (docker, health) if docker is not None and health is not None and needs_docker(evidence) else None


def _platform(evidence: Evidence) -> Iterator[Seen]:
    asked = _asked(evidence)
    if asked is None:
        return
    docker, health = asked
    named = _architecture(health.platform.split("/")[1]) if "/" in health.platform else ""
    if not named or named == _architecture(docker.look.architecture):
        yield ok(f"containers are for {docker.look.architecture}, as the machine is")
        return
    yield Seen(
        "warn", f"DOCKER_DEFAULT_PLATFORM is {health.platform}, and the Docker engine's machine is {docker.look.architecture}",
        "what you pull, build or run with docker is for the other one; owlclaw-up hands the variable to nobody", "",
        "unset DOCKER_DEFAULT_PLATFORM",
    )  # fmt: skip


def _images_by_service(evidence: Evidence) -> Mapping[str, str]:
    names = {ENGINE: evidence.settings.hatchet_image.value}
    if wanted_mode(evidence) is Mode.FULL:
        names[DATABASE] = evidence.settings.postgres_image.value
    return names


def _to_pull(evidence: Evidence, docker: DockerFacts) -> list[str]:
    return [name for name in _images_by_service(evidence).values() if docker.images.get(name) is None]


def _images(evidence: Evidence) -> Iterator[Seen]:
    docker = found(evidence.facts.docker)
    if docker is None or not needs_docker(evidence):
        return
    well = True
    for service, name in _images_by_service(evidence).items():
        image, container = docker.images.get(name), evidence.facts.containers.get(service)
        runs = container is not None and container.running
        if image is None and evidence.settings.offline.value and not bundled_images(evidence.facts, name):
            yield Seen(
                "fail", f"image {name} is not on this machine, and offline pulls nothing",
                f"{evidence.settings.offline.origin} says offline",
                f"with a network: docker pull {name}; without: docker load -i FILE, from docker save {name}, or a folder made by owlclaw-up prefetch: --from DIR",
                f"docker pull {name}",
            )  # fmt: skip
            well = False
        elif image is not None and _architecture(image.architecture) != _architecture(docker.look.architecture):
            yield Seen(
                "warn" if runs else "fail", f"image {name} is for {image.architecture}, and the Docker engine's machine is {docker.look.architecture}",
                "its programs end at once with `exec format error`, or are emulated slowly",
                "", f"docker pull --platform linux/{_architecture(docker.look.architecture)} {name}",
            )  # fmt: skip
            well = False
    if well:
        there = len(_images_by_service(evidence)) - len(_to_pull(evidence, docker))
        yield ok(f"{there} of {len(_images_by_service(evidence))} images are on this machine")


def _registry(name: str) -> str:
    """Of an image, or as a configuration of docker's calls it."""
    if name in _REGISTRIES:
        return _REGISTRIES[name]
    first, slash, _ = name.removeprefix("https://").removeprefix("http://").partition("/")
    named = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return _REGISTRIES.get(first, first) if named else name if "." in name and not slash else "docker.io"


def _login(evidence: Evidence) -> Iterator[Seen]:
    asked = _asked(evidence)
    if asked is None:
        return
    docker, health = asked
    names = _images_by_service(evidence).values()
    pulled = _to_pull(evidence, docker)
    registries = {_registry(name) for name in pulled or names}
    in_the_way = {r: p for r, p in health.helpers.items() if not r or _registry(r) in registries}
    for registry, program in in_the_way.items():
        key = f"credHelpers for {registry}" if registry else "credsStore"
        yield Seen(
            "fail" if pulled else "warn", f"the login for {registry or 'every registry'} is kept by {program}, which is not there",
            f"{health.config}: {key}; " + (f"to be pulled: {', '.join(pulled)}" if pulled else "a pull would fail"),
            f"take {key} out of {health.config}, or install {program}",
        )  # fmt: skip
    stale = [login for login in health.logins if pulled and _registry(login) in registries]
    for login in stale:
        yield Seen(
            "info", f"a login for {_registry(login)} is kept; a stale one is refused where none would be needed",
            f"{health.config}: auths", f"if the pull is refused: docker logout {_registry(login)}",
        )  # fmt: skip
    if not in_the_way and not stale:
        yield ok("no login stands in the way of a pull")


def _mirror(evidence: Evidence) -> Iterator[Seen]:
    asked, setting = _asked(evidence), evidence.settings.registry_mirror
    if asked is None or not setting.value:
        return
    docker, health = asked
    if not health.mirror:
        yield ok(f"registry mirror {setting.value}")
        return
    pulled = _to_pull(evidence, docker)
    yield Seen(
        "fail" if pulled else "warn", f"the registry mirror {setting.value} does not serve: {health.mirror}",
        f"named by {setting.origin}; " + (f"to be pulled: {', '.join(pulled)}" if pulled else "nothing is to be pulled now"),
        f"start it, or: {f'unset {setting.origin}' if setting.source == 'env' else f'take it out of {setting.origin}'}",
        f"unset {setting.origin}" if setting.source == "env" else "",
    )  # fmt: skip


def _storage(evidence: Evidence) -> Iterator[Seen]:
    asked = _asked(evidence)
    if asked is None or asked[1].free_mib is None:
        return
    docker, health = asked
    free = asked[1].free_mib
    pulled = _to_pull(evidence, docker)
    if free >= (_TO_PULL if pulled else _SCARCE):
        yield ok(f"{free} MiB are free on the Docker engine's disk")
        return
    yield Seen(
        "fail" if free < _FULL or pulled else "warn", f"{free} MiB are left on the Docker engine's disk",
        f"{health.info.root}; " + (f"some {_TO_PULL} are needed for {', '.join(pulled)}" if pulled
                                   else "PostgreSQL stops when it is full, and the engine with it"),
        "what takes it: docker system df; what nothing uses: docker image prune, docker builder prune",
        "docker system df",
    )  # fmt: skip


def _rootless(evidence: Evidence) -> Iterator[Seen]:
    asked = _asked(evidence)
    if asked is None or not asked[1].info.rootless:
        return
    docker, health = asked
    if health.lingers:
        yield ok(f"Docker {docker.look.version} runs rootless, and goes on after a logout")
        return
    yield Seen(
        "info", f"Docker {docker.look.version} runs rootless ({docker.look.source})",
        "it ends with your login session unless lingering is on, and publishes no port below 1024",
        "have it go on after a logout: loginctl enable-linger", "loginctl enable-linger",
    )  # fmt: skip


def _file_sharing(evidence: Evidence) -> Iterator[Seen]:
    asked = _asked(evidence)
    if asked is None or asked[1].shared is None or wanted_mode(evidence) is not Mode.FULL:
        return
    project, shared = evidence.facts.project, asked[1].shared
    if any(project.is_relative_to(folder) for folder in shared):
        yield ok(f"Docker Desktop shares {project}")
        return
    container = evidence.facts.containers.get(DATABASE)
    if container is not None and container.running:
        return
    yield Seen(
        "fail", f"Docker Desktop does not share {project} with its containers",
        f"shared are {', '.join(map(str, shared))}; PostgreSQL's container mounts deploy/init-db.sql from the project",
        f"add it in Docker Desktop: Settings, Resources, File sharing; or without it: owlclaw-up --mode {Mode.HATCHET_ONLY.value}",
    )  # fmt: skip


def _engine(docker: DockerFacts) -> str:
    return f"Docker {docker.look.version} answers at {docker.look.address}"


_CONTEXT = _reached(lambda d: f"asked is {d.look.source}", "host", "elsewhere", "context")
_COMPOSE = _reached(lambda d: f"compose {d.look.compose.version}", "compose")
_BOTH = ("docker", "docker_health")

CHECKS: tuple[Check, ...] = (
    Check(
        "docker.installed", "Docker is installed", "`docker: command not found`; `up` ends in mock or native",
        "no docker command on the PATH, and no engine at any of the usual sockets",
        "the modes full and hatchet-only run the engine in a container", "install Docker Engine and its compose plugin",
        _reached(_engine, "missing"), ("docker",),
    ),
    Check(
        "docker.running", "the Docker engine answers", "`Cannot connect to the Docker daemon`",
        "its service is stopped, it hangs, or something else answers at its address",
        "no container runs without it, so neither the engine nor its PostgreSQL", "sudo systemctl start docker",
        _reached(_engine, "stopped", "mute", "odd"), ("docker",),
    ),
    Check(
        "docker.permission", "this user may use Docker", "`permission denied while trying to connect to the Docker daemon socket`",
        "the user is not in the group docker, or is since the last login only", "nothing can be asked of an engine that refuses us",
        "sudo usermod -aG docker $USER; newgrp docker", _reached(_engine, "permission"), ("docker",),
    ),
    Check(
        "docker.context", "DOCKER_HOST and context lead to an engine of this machine, that with our containers",
        "containers seem to be gone; `Cannot connect to the Docker daemon at tcp://...`",
        "DOCKER_HOST or `docker context use` names another engine than before, another machine, or nobody",
        "containers and their data stay with the engine that made them, and their ports are those of its machine",
        "unset DOCKER_HOST", _context, _BOTH,
    ),
    Check(
        "docker.version", "the Docker engine is new enough", "`client version 1.xx is too new`; no host.docker.internal",
        "an engine older than 20.10", "containers find this machine by host-gateway, which came with 20.10",
        "install Docker Engine 20.10 or newer", _reached(_engine, "old"), ("docker",),
    ),
    Check(
        "docker.compose", "compose v2 is there", "`docker: 'compose' is not a docker command`",
        "the compose plugin is missing, or is version 1", "the containers are described by compose files",
        "sudo apt-get install docker-compose-v2", _compose, _BOTH,
    ),
    Check(
        "docker.platform", "DOCKER_DEFAULT_PLATFORM is this machine's", "`exec format error`; containers that are very slow",
        "DOCKER_DEFAULT_PLATFORM names another architecture", "images come for another machine, and are emulated or do not run",
        "unset DOCKER_DEFAULT_PLATFORM", _platform, _BOTH,
    ),
    Check(
        "docker.images", "the images are at hand, and for this machine", "`No such image`; `exec format error`",
        "they were never pulled and offline is set, or they were pulled or loaded for another architecture",
        "no container can be made from an image that is not there or does not run", "docker pull IMAGE", _images, ("docker",),
    ),
    Check(
        "docker.login", "no login stands in the way of a pull", "`error getting credentials`; `docker-credential-...: executable file not found`",
        "~/.docker/config.json names a credential helper that is not installed, often one of Docker Desktop's",
        "even public images cannot be pulled while it is named", "take credsStore and credHelpers out of ~/.docker/config.json",
        _login, _BOTH,
    ),
    Check(
        "docker.mirror", "the registry mirror answers", "a pull ends with `connection refused`",
        "registry_mirror names a port of this machine on which no registry listens",
        "with a mirror no other registry is asked", "unset OWLCLAW_UP_REGISTRY_MIRROR", _mirror, _BOTH,
    ),
    Check(
        "docker.storage", "the Docker engine's disk has room", "`no space left on device`; PostgreSQL ends with PANIC",
        "images, build caches and volumes have filled the disk that holds the engine's data",
        "a database that cannot write stops, and a pull breaks off", "docker system df", _storage, _BOTH,
        after=("platform.disk",),
    ),
    Check(
        "docker.rootless", "how a rootless engine differs", "containers end at logout",
        "the engine runs as an ordinary user, and its user's processes end with the session",
        "the environment is gone after a logout", "loginctl enable-linger", _rootless, _BOTH,
    ),
    Check(
        "docker.file-sharing", "Docker Desktop shares the project's folder", "`Mounts denied`; PostgreSQL comes up without roles and databases",
        "the project lies outside the folders that Docker Desktop shares with its virtual machine",
        "PostgreSQL's container is made with a file of the project's", "add the folder in Docker Desktop's settings",
        _file_sharing, _BOTH,
    ),
)  # fmt: skip
