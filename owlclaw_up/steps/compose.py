"""What the steps of a compose stack share: the files, the call of compose, and the watch over a container. No step itself."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from owlclaw_up.errors import ApplyFailed, ContainerDied, TimedOut
from owlclaw_up.facts.containers import DATABASE, ENGINE
from owlclaw_up.host.base import Ran
from owlclaw_up.host.docker_base import ContainerLook, Docker, ImageLook
from owlclaw_up.host.local import processes_in
from owlclaw_up.model import Mode
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import ComposeSpec, ContainerEngine, StackSpec
from owlclaw_up.steps.base import Run
from owlclaw_up.steps.compose_env import BRIDGE, compose_env
from owlclaw_up.steps.engine_env import OUT_OF_MEMORY, diagnose

# What compose may have of the user's environment: how to find its plugins and a login; no COMPOSE_* or LITE_* of theirs.
_INHERITED = ("PATH", "HOME", "TMPDIR", "LANG", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "SYSTEMROOT", "PROGRAMDATA")
# On the one-off containers of a project, which compose does not know.
OF_PROJECT = "dev.owlclaw.project"
_SECONDS = 120.0
_TAIL = 15
# Compose's words, or the engine's through it -> code, what it means, what to do.
_FAILURES = (
    (r"(?:Bind for \S+?:|listen tcp4? \S+?:)(?P<x>\d+)(?: failed: port is already allocated|: bind: address already in use)",
     "port-taken", "port {x} was taken by somebody meanwhile", "ss -ltnp 'sport = :{x}'; then: owlclaw-up"),
    (r"no space left on device", "disk-full", "the disk of the Docker engine is full", "docker system df; docker system prune"),
    (r"no such image", "image-gone", "an image is not there any more", "owlclaw-up"),
    (r"cannot connect to the docker daemon|connection refused|EOF$", "docker-away", "the Docker engine went away",
     "start it again, then: owlclaw-up"),
    (r"is already in use by container|already exists", "name-taken", "a name of ours is taken",
     "docker ps -a; then: owlclaw-up"),
)  # fmt: skip


def deploy_files() -> Path:
    """Where the compose files are: beside the modules in a wheel, beside the package in a checkout."""
    package = Path(__file__).parents[1]
    shipped = package / "deploy"
    return shipped if shipped.is_dir() else package.parent / "deploy"


def compose_call(
    run: Run, compose: ComposeSpec, arguments: Sequence[str], values: Mapping[str, str], log: Path
) -> Ran:  # fmt: skip
    """Call compose for one project.

    Args:
        values: the variables of the compose file; they go by environment, never on the command line.

    Raises:
        ApplyFailed: it failed; names the cause where its words are known.
    """
    inherited = {name: run.host.environ[name] for name in _INHERITED if name in run.host.environ}
    limit = run.deadline.left(_SECONDS)
    ran = run.host.processes.run(
        [*compose.docker.compose.argv, "--ansi", "never", "-p", compose.project, "-f", str(compose.file), *arguments],
        env={**inherited, "DOCKER_HOST": compose.docker.address, **values}, timeout=limit, log=log,
        cwd=None if compose.adopted else compose.file.parent,
    )  # fmt: skip
    if ran.exit_code:
        raise _compose_failure(arguments[0], ran, limit)
    return ran


def end_leftovers(run: Run, ledger: Ledger) -> None:
    """End a compose that a killed `up` has left at work: it would go on making what is looked for, or removed, now."""
    for process in processes_in(ledger.directory / "deploy", ("docker", "docker-compose")):
        run.host.processes.stop(process, signal=signal.SIGTERM, timeout=5)


def _compose_failure(what: str, ran: Ran, limit: float) -> ApplyFailed:
    words = f"{ran.stdout}\n{ran.stderr}".strip()
    detail = "\n".join(words.splitlines()[-_TAIL:])
    if ran.exit_code == -9 and ran.seconds >= limit:
        return TimedOut(
            f"docker compose {what}", limit, detail.splitlines()[-1] if detail else "no word", detail=detail
        )
    for pattern, code, cause, hint in _FAILURES:
        match = re.search(pattern, words, re.IGNORECASE | re.MULTILINE)
        if match:
            value = match.groupdict().get("x", "")
            return ApplyFailed(
                code, f"docker compose {what}: {cause.format(x=value)}", hint=hint.format(x=value), detail=detail
            )
    return ApplyFailed(
        "compose-failed", f"docker compose {what} ended with exit code {ran.exit_code}", hint="docker info; owlclaw-up plan",
        detail=detail,
    )  # fmt: skip


def remember_compose(
    compose: ComposeSpec, mode: Mode, ledger: Ledger, images: Mapping[str, ImageLook | None]
) -> None:  # fmt: skip
    """Put the compose stack on record, before anything is made in it: what `down` and a purge look for, and where.

    Args:
        images: those that are on the engine already; the digests of pulled ones are kept when they have come.
    """
    ledger.keep("images", **{n: i.digest for n in compose.images.values() if (i := images.get(n)) is not None})
    root = ledger.project
    file = compose.file.relative_to(root) if compose.file.is_relative_to(root) else compose.file
    # State without secrets would be taken for damage.
    ledger.save_secrets()
    ledger.remember(
        "compose", project=compose.project, address=compose.docker.address, argv=list(compose.docker.compose.argv),
        version=compose.docker.compose.version, file=str(file), mode=mode.value, adopted=compose.adopted,
    )  # fmt: skip


class ComposeStep:
    """A step that has something done in the compose stack.

    Args:
        service: which one.
    """

    def __init__(self, spec: StackSpec, ledger: Ledger, service: str) -> None:
        assert spec.compose is not None
        assert isinstance(spec.engine, ContainerEngine)
        self.spec, self.ledger, self.service = spec, ledger, service
        self.compose: ComposeSpec = spec.compose
        self.engine: ContainerEngine = spec.engine

    @property
    def name(self) -> str:
        """The container's, as compose gives it."""
        return container_name(self.compose.project, self.service)

    def docker(self, run: Run) -> Docker:
        return run.host.docker(self.compose.docker.address)

    @property
    def network(self) -> str:
        """How the engine's container reaches PostgreSQL, as it was found out from inside."""
        return str(self.ledger.recall("engine").get("network") or BRIDGE)

    def values(self) -> dict[str, str]:
        """The variables of the compose file."""
        identity = {} if self.compose.adopted else self.ledger.vault.engine
        return compose_env(self.spec, self.engine, self.ledger.vault.passwords, identity, self.network)

    def lift(self, run: Run) -> ContainerLook:
        """Have the service's container started, as the compose file and our values describe it.

        What compose will make is on record, by name, before it is made.
        """
        flags = ["-d", "--no-deps", "--no-build", "--pull", "never"]
        if self.compose.adopted:
            # Whoever lifted it gave it its values.
            flags.append("--no-recreate")
            before = self.docker(run).container(self.name)
            if before is None or not before.running:
                self.ledger.record("started", service=self.service)
        else:
            end_leftovers(run, self.ledger)
            self._put_files(run)
            for kind, name in made_by_compose(self.compose.project, self.service):
                self.ledger.record(kind, name=name, project=self.compose.project)
        compose_call(run, self.compose, ["up", *flags, self.service], self.values(), self.ledger.logs / "compose.log")
        container = self.docker(run).containers(self.compose.project).get(self.service)
        if container is None:
            raise ApplyFailed(
                "compose-failed", f"docker compose up made no container for {self.service}", hint="docker ps -a"
            )
        return container

    def _put_files(self, run: Run) -> None:
        """Our copy of the compose file and of what it mounts, as they are shipped; free of secrets, read in containers."""
        folder = self.compose.file.parent
        run.host.files.make_dir(folder)
        for name in (self.compose.file.name, "init-db.sql"):
            shipped = (deploy_files() / name).read_bytes()
            if run.host.files.read(folder / name) != shipped:
                run.host.files.write_private(folder / name, shipped)
                (folder / name).chmod(0o644)

    def watch_container(
        self, run: Run, name: str, log_lines: int = 40
    ) -> tuple[Callable[[], str], Callable[[], None]]:  # fmt: skip
        """For waits: a container's last words, and a look that raises once it has ended or been started again."""
        docker = self.docker(run)
        first = docker.container(name)
        restarts = first.restarts if first else 0

        def tail() -> str:
            return "\n".join(docker.logs(name, tail=_TAIL))

        def dead() -> None:
            seen = docker.container(name)
            if seen is not None and seen.state in ("running", "created") and seen.restarts <= restarts:
                return
            words = docker.logs(name, tail=log_lines)
            known = OUT_OF_MEMORY if seen is not None and seen.oom_killed else diagnose("\n".join(words))
            if seen is None:
                how = "removed by somebody"
            else:
                # The exit code of an earlier life is not known any more.
                how = "and was started again by Docker" if seen.running else seen.how_it_ended
            raise ContainerDied(
                self.service,
                how,
                known.code if known else "container-died",
                known.cause if known else "",
                hint=known.hint if known else f"docker logs {name}",
                log="\n".join(words[-_TAIL:]),
            )

        return tail, dead


def container_name(project: str, service: str) -> str:
    """What compose calls the first container of a service."""
    return f"{project}-{service}-1"


def made_by_compose(project: str, service: str) -> list[tuple[str, str]]:
    """What `docker compose up SERVICE` makes of our files, by kind and name; some versions make every volume of the file."""
    volumes = {DATABASE: ("owlclaw-db-data", "hatchet-config"), ENGINE: ("hatchet-config",)}[service]
    return [
        ("container", container_name(project, service)),
        *(("volume", f"{project}_{volume}") for volume in volumes),
        ("network", f"{project}_default"),
    ]
