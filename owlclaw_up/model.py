"""The values that flow from facts to the last screen: frozen, without behaviour worth a mock, importing only `errors`.

    facts -> Decision -> StackSpec -> Plan (steps with Changes) -> Outcome -> view

A `Secret` never shows itself; `reveal()` is the one way to its text.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Secret:
    """A text that no output may show.

    Args:
        text: the secret itself.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself: for a connection, a child's environment or a 0600 file, never for a screen."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)


@dataclass(frozen=True)
class Found(Generic[T]):
    """A fact that was observed."""

    value: T


@dataclass(frozen=True)
class Absent:
    """What was looked for is not there. `hint` says how to get it, where there is a short way; `kind` tells reasons apart."""

    why: str
    hint: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Unknown:
    """Something is there, or may be, but could not be read: never to be treated as absent."""

    why: str
    hint: str = ""
    kind: str = ""


Fact = Found[T] | Absent | Unknown


def found(fact: Fact[T]) -> T | None:
    """The value of a fact, or None where it was not found."""
    return fact.value if isinstance(fact, Found) else None


class Mode(str, enum.Enum):
    FULL = "full"
    HATCHET_ONLY = "hatchet-only"
    NATIVE = "native"
    MOCK = "mock"
    REMOTE = "remote"


@dataclass(frozen=True)
class Obstacle:
    """Why a mode cannot be used here, and the shortest way to change that.

    Attributes:
        command: the one command that has the mode come up all the same, where there is one.
    """

    why: str
    hint: str = ""
    command: str = ""


@dataclass(frozen=True)
class Rejected:
    mode: Mode
    why: str


@dataclass(frozen=True)
class Move:
    """From one mode to the next, because something failed on the way that would fail again."""

    mode: Mode
    why: str


@dataclass(frozen=True)
class Decision:
    """The chosen mode, where the choice came from, and what stands against every other.

    Attributes:
        moves: the modes that were tried before, and why each was left.
    """

    mode: Mode
    source: str
    why: str
    rejected: tuple[Rejected, ...]
    durable: bool
    hint: str = ""
    moves: tuple[Move, ...] = ()


class Action(enum.Enum):
    """What a step does; the second part of the value is the symbol a plan shows."""

    CREATE = ("create", "+")
    UPDATE = ("update", "~")
    UNCHANGED = ("unchanged", "=")
    REMOVE = ("remove", "-")
    RUN = ("run", "?")
    SKIP = ("skip", "=")

    @property
    def word(self) -> str:
        return self.value[0]

    @property
    def symbol(self) -> str:
        return self.value[1]


@dataclass(frozen=True)
class Change:
    """What a step would do, and why.

    Attributes:
        touches: paths, roles, ports that the step writes, for the plan and the documentation.
    """

    action: Action
    summary: str
    reason: str = ""
    touches: tuple[str, ...] = ()


def unchanged(summary: str, reason: str = "") -> Change:
    return Change(Action.UNCHANGED, summary, reason)


@dataclass(frozen=True)
class StepReport:
    """What became of one step.

    Attributes:
        began: seconds after the command's begin.
        early: the same of something slow of it that began before its turn, beside other steps; None where nothing did.
    """

    id: str
    title: str
    action: Action
    status: str
    seconds: float
    detail: str
    began: float = 0.0
    early: float | None = None


@dataclass(frozen=True)
class Proof:
    """One thing the smoke test showed, or failed to show.

    Attributes:
        status: `passed`, `failed` or `skipped`.
        seconds: how long it took.
        hop: where a failed proof broke (token, name resolution, TLS, gRPC, registration, dispatch, result, REST).
        data: what it measured, JSON-ready.
    """

    id: str
    status: str
    seconds: float
    detail: str = ""
    hop: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Smoke:
    """The result of a smoke test.

    Attributes:
        kept_since: set when the proofs are those of an earlier run and nothing they rest on has changed.
    """

    level: str
    status: str
    proofs: tuple[Proof, ...] = ()
    kept_since: str = ""


@dataclass(frozen=True)
class Finding:
    """What a check came to.

    Attributes:
        id: of the check.
        level: `ok`, `info`, `warn`, `fail` or `unknown`.
        detail: what was seen.
        hint: what to do, in words.
        command: the one command that mends it, where there is one.
        why: why it matters.
        cause: id of the finding that this one follows from; empty for a cause.
        fix: what `doctor --fix` would do about it; empty where it does nothing.
    """

    id: str
    level: str
    title: str
    detail: str = ""
    hint: str = ""
    command: str = ""
    why: str = ""
    cause: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Service:
    """One process, or container, of the environment, for `status`."""

    id: str
    state: str
    detail: str
    port: int | None = None
    pid: int | None = None
    since: str = ""
    version: str = ""
    container: str = ""


@dataclass(frozen=True)
class TokenInfo:
    """What a token says of itself; never the token."""

    tenant: str
    server_url: str
    grpc_address: str
    expires_at: str
    days_left: int
    accepted: bool | None = None
    issued_at: str = ""
    token_id: str = ""


@dataclass(frozen=True)
class Login:
    """The dashboard's login; the password is shown only when asked for."""

    email: str
    password: Secret


@dataclass(frozen=True)
class PlannedStep:
    id: str
    title: str
    change: Change


@dataclass(frozen=True)
class Outcome:
    """What a command came to: the typed value behind text and JSON.

    Attributes:
        status: `ok`, `degraded` (a mode that is not durable was the best to be had) or `failed`.
        data: what only this command has to say, JSON-ready and free of secrets.
    """

    command: str
    status: str
    exit_code: int
    mode: Mode | None = None
    decision: Decision | None = None
    steps: tuple[StepReport, ...] = ()
    endpoints: Mapping[str, str] = field(default_factory=dict)
    env_file: str | None = None
    seconds: float = 0.0
    smoke: Smoke | None = None
    findings: tuple[Finding, ...] = ()
    services: tuple[Service, ...] = ()
    token: TokenInfo | None = None
    login: Login | None = None
    error: Any = None
    project: Path | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StepStarted:
    id: str
    title: str


@dataclass(frozen=True)
class StepProgress:
    id: str
    text: str


@dataclass(frozen=True)
class Transfer:
    """How far a download has come.

    Attributes:
        name: of what is downloaded.
        done, total: bytes; `total` is what is known of it so far, 0 where nothing is.
    """

    id: str
    name: str
    done: int
    total: int


@dataclass(frozen=True)
class StepFinished:
    report: StepReport


@dataclass(frozen=True)
class Note:
    """One line for the reader that belongs to no step."""

    text: str


@dataclass(frozen=True)
class Decided:
    decision: Decision
    steps: Sequence[PlannedStep]


Event = StepStarted | StepProgress | Transfer | StepFinished | Note | Decided
Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """A listener for callers that want only the outcome."""
