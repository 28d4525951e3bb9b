"""The bottom of the house: every error a user can meet. Imports nothing of ours.

An error takes domain values (a port and its owner, a path and its mode) and writes its own text: what failed, why, and
the command or the file that helps. `exit_code` follows docs/reference/exit-codes.md; `code` is stable and in JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

USAGE = 2
PRECONDITION = 3
APPLY_FAILED = 4
BUG = 70
INTERRUPTED = 130


class UpError(Exception):
    """Base of every expected error.

    Args:
        message: one sentence, what failed and why.
        hint: what to do about it; ends in a command or a file where there is one.
        detail: the words of whoever refused (a server, a log), for the curious and for bug reports.
    """

    code = "error"
    exit_code = APPLY_FAILED

    def __init__(self, message: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail


class UsageError(UpError):
    """The command line or a setting is wrong; nothing was tried."""

    code = "usage"
    exit_code = USAGE


class UnknownSetting(UsageError):
    code = "unknown-setting"

    def __init__(self, name: str, where: str, nearest: str | None) -> None:
        super().__init__(
            f"{where} has a setting {name!r} that owlclaw-up does not know",
            hint=f"did you mean {nearest!r}?" if nearest else "docs/reference/settings.md lists every setting",
        )


class BadSetting(UsageError):
    code = "bad-setting"

    def __init__(self, name: str, value: str, origin: str, why: str) -> None:
        super().__init__(
            f"{name} = {value!r} (from {origin}) cannot be used: {why}", hint="see docs/reference/settings.md"
        )


class ProjectMissing(UsageError):
    code = "project-missing"

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"the project directory {path} {why}", hint="name an existing folder with --project-dir DIR")


class OutputRefused(UsageError):
    code = "output-refused"

    def __init__(self, path: Path, why: str, hint: str = "") -> None:
        also = f"{hint}; or " if hint else ""
        super().__init__(f"{path} cannot be written: {why}", hint=f"{also}name another place with --output PATH")


class ConfirmationNeeded(UsageError):
    code = "confirmation-needed"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} asks before it removes data, and there is no terminal to ask on", hint="add --yes")


class PreconditionError(UpError):
    """Something in the way was found before anything was changed."""

    code = "precondition"
    exit_code = PRECONDITION


class CheckFailed(PreconditionError):
    """A check of the doctor's fails that `up` asks before it changes anything; `code` is its id, with a hyphen for the point.

    Attributes:
        check: its id.
    """

    def __init__(self, check: str, message: str, *, hint: str, detail: str = "") -> None:
        super().__init__(message, hint=hint, detail=detail)
        self.check = check
        self.code = check.replace(".", "-")


class ModeBlocked(PreconditionError):
    code = "mode-blocked"

    def __init__(self, mode: str, why: str, hint: str) -> None:
        super().__init__(f"mode {mode} cannot be used here: {why}", hint=hint)


class DurableRequired(PreconditionError):
    code = "durable-required"

    def __init__(self, obstacles: Sequence[tuple[str, str]], hint: str) -> None:
        super().__init__(
            "a durable mode is required, and none can be had here",
            hint=hint,
            detail="\n".join(f"{mode}: {why}" for mode, why in obstacles),
        )


class ProjectNotWritable(PreconditionError):
    code = "project-not-writable"

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"owlclaw-up cannot write in {path}: {why}", hint=f"ls -ld {path}", detail=why)


class LockHeld(PreconditionError):
    code = "lock-held"

    def __init__(self, holder: str, waited: float) -> None:
        super().__init__(
            f"another owlclaw-up works in this project: {holder}; waited {waited:.0f} s",
            hint="wait for it to end, or give it longer with --timeout SECONDS",
        )


class StateUnusable(PreconditionError):
    code = "state-unusable"

    def __init__(self, path: Path, why: str, hint: str, detail: str = "") -> None:
        super().__init__(f"{path} {why}", hint=hint, detail=detail)


class PortTaken(PreconditionError):
    code = "port-taken"

    def __init__(self, port: int, purpose: str, owner: str, setting: str) -> None:
        super().__init__(
            f"port {port}, kept for {purpose}, is taken by {owner}",
            hint=f"stop {owner}, or move with --{setting} PORT (then: owlclaw-up)",
        )
        self.setting = setting


class PortDenied(PreconditionError):
    code = "port-denied"

    def __init__(self, port: int, purpose: str, why: str, setting: str) -> None:
        super().__init__(
            f"the system does not let this user listen on port {port} ({purpose}): {why}",
            hint=f"choose a port above 1024 with --{setting} PORT",
        )
        self.setting = setting


class NoFreePort(PreconditionError):
    code = "no-free-port"

    def __init__(self, purpose: str, first: int, last: int) -> None:
        super().__init__(f"no free port for {purpose} between {first} and {last}", hint="ss -ltnp")


class PostgresUnusable(PreconditionError):
    """The PostgreSQL that was asked for cannot be used; `code` says which of its faults it is."""

    def __init__(self, code: str, message: str, *, hint: str, detail: str = "") -> None:
        super().__init__(message, hint=hint, detail=detail)
        self.code = code


class PostgresMissing(PreconditionError):
    """No server to work on: none was named or made, and none that answers lets us in."""

    code = "postgres-missing"

    def __init__(self, refused: Sequence[tuple[str, str]]) -> None:
        super().__init__(
            "no PostgreSQL answers here that could be used",
            hint="name one with --admin-url postgresql://postgres:PASSWORD@localhost:5432/postgres, or have one brought "
            "along: owlclaw-up --mode mock",
            detail="\n".join(f"{where}: {words}" for where, words in refused),
        )


class PostgresUnreachableFromContainer(PreconditionError):
    code = "postgres-unreachable-from-container"

    def __init__(self, where: str, lines: Sequence[str], said: Sequence[str]) -> None:
        super().__init__(
            f"a container cannot reach {where}, neither over Docker's bridge nor over this machine's network",
            hint="put into that server's files, then restart it, then: owlclaw-up\n"
            + "\n".join(f"  {line}" for line in lines),
            detail="\n".join(said),
        )


class RolePasswordUnknown(PreconditionError):
    code = "role-password-unknown"

    def __init__(self, role: str, database: str, server: str, secrets_file: Path, detail: str = "") -> None:
        super().__init__(
            f"role {role!r} exists on {server} already, and its password is not known here",
            hint=(
                f"two ways out: write its password into {secrets_file} as "
                f'{{"passwords": {{"{role}": "..."}}}}, or let owlclaw-up use another role: '
                f'set databases = [{{name = "{database}", role = "{role}_up"}}] in owlclaw-up.toml'
            ),
            detail=detail,
        )


class DatabaseNotOurs(PreconditionError):
    code = "database-owner"

    def __init__(self, database: str, owner: str, wanted: str, server: str) -> None:
        super().__init__(
            f"database {database!r} on {server} belongs to {owner!r}, not to {wanted!r}, and is left as it is",
            hint=(
                f"two ways out: ALTER DATABASE {database} OWNER TO {wanted} (once that role exists), or use its owner: "
                f'set databases = [{{name = "{database}", role = "{owner}"}}] in owlclaw-up.toml'
            ),
        )


class NotATestDatabase(PreconditionError):
    """A database that `db reset-test` does not drop."""

    code = "not-a-test-database"

    def __init__(self, database: str, why: str, hint: str) -> None:
        super().__init__(f"database {database!r} is not dropped: {why}", hint=hint)


class EnvFileRefused(PreconditionError):
    code = "env-file"

    def __init__(self, path: Path, why: str, hint: str) -> None:
        super().__init__(f"{path} is not touched: {why}", hint=hint)


class EngineUnusable(PreconditionError):
    """The Hatchet engine that was named or found cannot be used."""

    def __init__(self, code: str, message: str, *, hint: str, detail: str = "") -> None:
        super().__init__(message, hint=hint, detail=detail)
        self.code = code


class SidecarRefused(PreconditionError):
    """Hatchet's embedded engine cannot do what was asked for; `code` says what that is."""

    def __init__(self, code: str, message: str, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class RemoteUnusable(PreconditionError):
    """The server that mode `remote` is given cannot be used as it is given; `code` says which of its faults it is."""

    def __init__(self, code: str, message: str, *, hint: str, detail: str = "") -> None:
        super().__init__(message, hint=hint, detail=detail)
        self.code = code


class MigrationsUnusable(PreconditionError):
    """The application's migrations cannot be run; nothing was changed. `code` says which of their faults it is."""

    def __init__(self, code: str, message: str, *, hint: str, detail: str = "") -> None:
        super().__init__(message, hint=hint, detail=detail)
        self.code = code


class DumpUnusable(PreconditionError):
    """A dump cannot be made or used; nothing was changed. `code` says why."""

    def __init__(self, code: str, message: str, *, hint: str, detail: str = "") -> None:
        super().__init__(message, hint=hint, detail=detail)
        self.code = code


class ExportRefused(PreconditionError):
    """Nothing was written for a cluster: there is nothing to hand over, or a file is in the way."""

    code = "export"

    def __init__(self, why: str, hint: str) -> None:
        super().__init__(why, hint=hint)


class BinaryNotRunnable(PreconditionError):
    code = "binary-not-runnable"

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path} cannot be run: {why}", hint=f"file {path}", detail=why)


class PullFailed(PreconditionError):
    """An image could not be pulled.

    Attributes:
        kind: the cause, as `host.docker_words.pull_failure` names it.
        image: the image as the settings name it.
    """

    # Causes that a second try, or time, may mend; and those that another mode goes around.
    PASSING = frozenset({"broken", "rate-limit", "registry"})
    MOVES_ON = PASSING | {"network"}
    _TEXTS: ClassVar[dict[str, tuple[str, str]]] = {
        "broken": (
            "its transfer came out wrong again and again (a layer has not the size or digest that was promised)",
            "another network, or a mirror: OWLCLAW_UP_REGISTRY_MIRROR=HOST owlclaw-up",
        ),
        "rate-limit": (
            "the registry has had too many requests from here",
            "log in: docker login; or wait, or use a mirror: OWLCLAW_UP_REGISTRY_MIRROR=HOST owlclaw-up",
        ),
        "network": (
            "its registry cannot be reached, or says nothing",
            "check network and proxy of the Docker engine (docker info), or use a mirror: OWLCLAW_UP_REGISTRY_MIRROR=HOST owlclaw-up",
        ),
        "registry": ("its registry answers with an error of its own", "try again later: owlclaw-up"),
        "login": (
            "the registry refuses access; a stale login is the usual cause",
            "docker logout{registry}, or docker login{registry}; then: owlclaw-up",
        ),
        "credentials": (
            "the login that Docker keeps for its registry cannot be read",
            "take credsStore and credHelpers out of ~/.docker/config.json, or install the helper that they name",
        ),
        "missing": (
            "there is no such image",
            "correct hatchet_image or postgres_image; docker manifest inspect {image}",
        ),
        "platform": (
            "there is none for this machine's architecture",
            "unset DOCKER_DEFAULT_PLATFORM, or name another image",
        ),
        "disk-full": ("the disk of the Docker engine is full", "docker system df; docker system prune"),
        "other": ("see the detail", "docker pull {image}"),
    }

    def __init__(self, image: str, source: str, kind: str, words: str) -> None:
        why, hint = self._TEXTS[kind]
        first, _, rest = source.partition("/")
        # Docker Hub's is the login without a name.
        elsewhere = rest and ("." in first or ":" in first or first == "localhost") and first != "docker.io"
        of = f" (from {source})" if source != image else ""
        super().__init__(
            f"image {image} could not be pulled{of}: {why}",
            hint=hint.format(registry=f" {first}" if elsewhere else "", image=source),
            detail=words,
        )
        self.code, self.kind, self.image = f"pull-{kind}", kind, image
        self.why = why

    @property
    def passing(self) -> bool:
        """Whether a second try may end well."""
        return self.kind in self.PASSING

    @property
    def moves_on(self) -> bool:
        """Whether another mode may go around it."""
        return self.kind in self.MOVES_ON


class EnginePullFailed(PullFailed):
    """Hatchet's engine could not be taken out of its image, neither from Docker nor from the registry."""

    _AGAIN = "owlclaw-up engine pull"
    _TEXTS: ClassVar[dict[str, tuple[str, str]]] = {
        **PullFailed._TEXTS,  # noqa: SLF001
        "broken": (
            "what came is not what its manifest promises",
            f"another network, or a mirror: OWLCLAW_UP_REGISTRY_MIRROR=HOST {_AGAIN}",
        ),
        "rate-limit": (
            "the registry has had too many requests from here",
            f"wait, then: {_AGAIN}; or log in (docker login), or use a mirror: OWLCLAW_UP_REGISTRY_MIRROR=HOST {_AGAIN}",
        ),
        "network": (
            "its registry cannot be reached, or says nothing",
            f"check the network, and HTTPS_PROXY and NO_PROXY; or use a mirror: OWLCLAW_UP_REGISTRY_MIRROR=HOST {_AGAIN}",
        ),
        "registry": ("its registry answers with an error of its own", f"try again later: {_AGAIN}"),
        "login": ("the registry refuses access", f"docker login{{registry}}, or a mirror; then: {_AGAIN}"),
        "missing": ("there is no such image", "correct hatchet_image"),
        "platform": ("there is none for this machine's architecture", "name another image: hatchet_image"),
        "disk-full": ("the disk of the engine cache is full", f"free some space, then: {_AGAIN}"),
        "unsafe": (
            "it holds what no image of an engine holds, so nothing of it was kept",
            "name the image that Hatchet publishes: hatchet_image",
        ),
        "no-engine": ("it holds no engine", "name an image of hatchet-lite: hatchet_image"),
        "offline": (
            "it is neither in the engine cache nor in Docker, and offline is set",
            f"with a network: {_AGAIN}; without: docker load -i FILE, from docker save {{image}}",
        ),
        "other": ("see the detail", f"{_AGAIN} --verbose"),
    }


class ApplyFailed(UpError):
    """A step failed while the machine was being changed; receipts know what was done."""

    code = "apply-failed"

    def __init__(self, code: str, message: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(message, hint=hint, detail=detail)
        self.code = code


class PortLost(ApplyFailed):
    """A port that was free when it was looked at was somebody else's before a server of ours listened on it."""

    def __init__(self, port: int, address: str, purpose: str, *, log: str) -> None:
        super().__init__(
            "port-taken", f"port {port} of {address} was taken by somebody while {purpose} was starting",
            hint=f"ss -ltnp 'sport = :{port}'; then: owlclaw-up", detail=log,
        )  # fmt: skip


class DockerRefused(ApplyFailed):
    """The Docker engine did not do what it was asked."""

    def __init__(self, what: str, address: str, words: str) -> None:
        super().__init__(
            "docker", f"Docker did not {what}: {words.splitlines()[0][:200] if words else 'no reason given'}",
            hint=f"docker -H {address} info", detail=words,
        )  # fmt: skip


class DockerAway(ApplyFailed):
    """The Docker engine went away in the middle."""

    def __init__(self, what: str, address: str, words: str) -> None:
        super().__init__(
            "docker-away", f"the Docker engine at {address} does not answer any more: it could not {what}",
            hint="start it again, then: owlclaw-up", detail=words,
        )  # fmt: skip


class MigrationFailed(ApplyFailed):
    """A migration of the application failed.

    Attributes:
        step: which one, as Alembic names it.
    """

    code = "migration-failed"
    _HINTS: ClassVar[dict[str, str]] = {
        "42501": "what only a superuser may do is done before: owlclaw-up db init (it makes vector and pgcrypto)",
        "0A000": "the server lacks that extension: owlclaw-up db init says how to install it",
        "58P01": "the server lacks that extension: owlclaw-up db init says how to install it",
    }

    def __init__(self, step: str, why: str, state: str, words: str) -> None:
        hint = self._HINTS.get(state, "mend the migration, then: owlclaw-up db migrate")
        super().__init__(self.code, f"migration {step} failed: {why}", hint=hint, detail=words)
        self.step = step


class MigrationBlocked(ApplyFailed):
    """Another session holds a lock that a migration needs."""

    code = "migration-blocked"

    def __init__(self, step: str, seconds: float, blocker: object, database: str) -> None:
        what = f"migration {step}" if step else "the migration"
        super().__init__(
            self.code,
            f"{what} waited {seconds:.0f} s for a lock of {blocker}",
            hint=f'look: psql -d {database} -c "table pg_stat_activity"; wait for it, or end it there; then: owlclaw-up db migrate',
        )


class TimedOut(ApplyFailed):
    """A wait ran into its deadline."""

    def __init__(self, what: str, seconds: float, last: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(
            "timeout",
            f"{what} did not happen within {seconds:.0f} s; last seen: {last}",
            hint=hint or "give it longer with --timeout SECONDS, or look: owlclaw-up logs",
            detail=detail,
        )


class ProcessDied(ApplyFailed):
    """A process of ours ended while it was waited for."""

    def __init__(self, what: str, how: str, *, hint: str, log: str) -> None:
        super().__init__("process-died", f"{what} ended {how} while it was starting", hint=hint, detail=log)


class SidecarFailed(ApplyFailed):
    """Hatchet's embedded engine did not come up.

    Attributes:
        kind: what hatchet-sdk failed at, as the keeper names it.
    """

    _TEXTS: ClassVar[dict[str, tuple[str, str, str]]] = {
        "unreachable": (
            "sidecar-unreachable", "could not be fetched: GitHub cannot be reached",
            "check the network, and HTTPS_PROXY; or {by_hand}",
        ),
        "release": (
            "sidecar-release", "could not be fetched: there is no such release for this machine",
            "another release: OWLCLAW_UP_SIDECAR_VERSION=vX.Y.Z owlclaw-up",
        ),
        "checksum": (
            "sidecar-checksum", "is not what its checksum promises, and was not started",
            "fetch it anew, or correct sidecar_checksum (HATCHET_CLIENT_EMBEDDED_CHECKSUM); then: owlclaw-up",
        ),
        "not-runnable": ("sidecar-not-runnable", "cannot be run", "file {program}; another one: OWLCLAW_UP_SIDECAR_BINARY=FILE owlclaw-up"),
        "died": ("process-died", "ended before it was ready", "owlclaw-up logs hatchet"),
        "late": ("timeout", "was not ready in time", "give it longer with --timeout SECONDS, or look: owlclaw-up logs hatchet"),
        "handshake": (
            "sidecar-handshake", "answered otherwise than it was asked",
            "another release: OWLCLAW_UP_SIDECAR_VERSION=vX.Y.Z owlclaw-up",
        ),
        "other": ("sidecar-failed", "could not be started by hatchet-sdk", "owlclaw-up logs hatchet"),
    }  # fmt: skip

    def __init__(
        self, what: str, kind: str, words: str, *, program: str, by_hand: str, cause: str = "", hint: str = ""
    ) -> None:
        code, why, usual = self._TEXTS[kind]
        super().__init__(
            code, f"{what} {why}" + (f": {cause}" if cause else ""),
            hint=hint or usual.format(program=program, by_hand=by_hand), detail=words,
        )  # fmt: skip
        self.kind = kind


class ContainerDied(ApplyFailed):
    """A container of ours ended, or was started again by Docker, while it was waited for; `code` says why if it is known."""

    def __init__(self, service: str, how: str, code: str, cause: str, *, hint: str, log: str) -> None:
        why = f": {cause}" if cause else ""
        super().__init__(code, f"container {service} ended {how} while it was starting{why}", hint=hint, detail=log)


class Interrupted(UpError):
    code = "interrupted"
    exit_code = INTERRUPTED

    def __init__(self) -> None:
        super().__init__("interrupted", hint="run the same command again: it goes on where this one stopped")


class InternalError(UpError):
    """A bug in owlclaw-up."""

    code = "bug"
    exit_code = BUG

    def __init__(self, what: str, trace: str) -> None:
        super().__init__(
            f"a bug in owlclaw-up: {what}",
            hint="please report it with the last lines of .owlclaw-up/logs/up.log",
            detail=trace,
        )
