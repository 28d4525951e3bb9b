"""What a report holds, between those who gather it and those who draw it. Free of secrets once it is gathered.

A part that could not be looked at is `Unknown`, one that is not there is `Absent`: each says why in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from owlclaw_up.model import Decision, Fact, Finding, Service, Smoke, TokenInfo


@dataclass(frozen=True)
class Verdict:
    """The whole report in one line.

    Attributes:
        level: `ok`, `warn`, `fail`, or `info` where nothing was set up and nothing is wrong.
        title: short enough for one line of a screen; where that leaves something out, `detail` says it whole.
        hint: what to do: a command, or words.
    """

    level: str
    title: str
    detail: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Part:
    """One box of the drawing: a program, a server, a file.

    Attributes:
        state: `running`, `stopped`, `not ready`, `unknown`, `none` (this mode has none), or what else is known of it.
        runs_in: `container`, `process`, `elsewhere`, or empty.
        lines: further short lines, such as version and port.
    """

    name: str
    state: str
    runs_in: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stack:
    """The parts of an environment and how they reach each other.

    Attributes:
        engine: None in a mode without one.
        grpc, rest, sql: the addresses that programs use; empty where nothing is known.
        docker: what the containers run in; empty where none of ours do.
    """

    programs: Part
    env_file: Part
    engine: Part | None
    postgres: Part
    grpc: str = ""
    rest: str = ""
    sql: str = ""
    docker: str = ""


@dataclass(frozen=True)
class Standing:
    """What `status` sees."""

    mode: str
    services: tuple[Service, ...]
    token: TokenInfo | None
    endpoints: Mapping[str, str]
    stack: Stack


@dataclass(frozen=True)
class Span:
    """One step on the axis of time.

    Attributes:
        status: `done`, `failed`, `skipped`.
        began, seconds: on the axis; `early` as in `StepReport`.
    """

    name: str
    status: str
    action: str
    began: float
    seconds: float
    detail: str = ""
    early: float | None = None


@dataclass(frozen=True)
class LastUp:
    """The last `up`.

    Attributes:
        at: when it began, ISO 8601.
        error: what stopped it, empty where nothing did.
    """

    command: str
    at: str
    status: str
    mode: str
    seconds: float
    spans: tuple[Span, ...]
    error: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found.

    Attributes:
        findings: worst first, every cause followed by what follows from it.
        idle: ids of checks that do not apply here.
        probes: seconds by probe, which all began at once.
    """

    findings: tuple[Finding, ...]
    counts: Mapping[str, int]
    idle: tuple[str, ...]
    probes: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class Version:
    """One component, its version, and where that is known from."""

    name: str
    version: str
    about: str = ""


@dataclass(frozen=True)
class SettingRow:
    """Attributes: `source` as in `settings.Sourced`; `origin`, the exact place."""

    name: str
    value: str
    source: str
    origin: str


@dataclass(frozen=True)
class Variable:
    """A key of the dotenv file; its value is never kept."""

    key: str
    ours: bool


@dataclass(frozen=True)
class LogTail:
    """The end of a log.

    Attributes:
        cut: whether there is more before it.
        why: why it could not be read, where it could not.
    """

    name: str
    lines: tuple[str, ...]
    cut: bool = False
    why: str = ""


@dataclass(frozen=True)
class ReceiptRow:
    kind: str
    name: str
    at: str
    done: bool


@dataclass(frozen=True)
class Report:
    """Everything that a report shows.

    Attributes:
        obstacles: what stands against each mode, empty where nothing does; for when `decision` is unknown.
        seconds: what gathering it took.
    """

    project: str
    made_at: str
    version: str
    verdict: Verdict
    standing: Fact[Standing]
    decision: Fact[Decision]
    obstacles: tuple[tuple[str, str], ...]
    last_up: Fact[LastUp]
    diagnosis: Fact[Diagnosis]
    smoke: Fact[Smoke]
    versions: tuple[Version, ...]
    settings: Fact[tuple[SettingRow, ...]]
    variables: Fact[tuple[Variable, ...]]
    logs: tuple[LogTail, ...]
    receipts: Fact[tuple[ReceiptRow, ...]]
    seconds: float = 0.0
