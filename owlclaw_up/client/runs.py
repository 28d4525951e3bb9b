"""What the client's calls give back: a run, a schedule, a status. Frozen values; a run knows whom to ask for its result."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

STATUSES = ("QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")
FINAL = ("COMPLETED", "FAILED", "CANCELLED")


class _Results(Protocol):
    def result(self, run: Any, timeout: Any = None) -> Coroutine[Any, Any, dict[str, Any]]: ...


@dataclass(frozen=True)
class TaskRun:
    """One run that was asked for; `str(run)` is its id.

    Attributes:
        task: name of the task.
    """

    id: str
    task: str
    _client: _Results = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self.id

    def result(self, timeout: Any = None) -> Coroutine[Any, Any, dict[str, Any]]:
        """Wait for the end, and give what the task gave back; see `HatchetClient.result`."""
        return self._client.result(self, timeout)


@dataclass(frozen=True)
class Schedule:
    """A run that comes later, or again and again; `str(schedule)` is its id.

    Attributes:
        kind: `once` or `cron`.
        at: the instant in UTC, of `once`.
        cron: the expression, of `cron`.
        name: of the cron.
    """

    id: str
    task: str
    kind: str
    at: datetime | None = None
    cron: str = ""
    name: str = ""

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True)
class TaskStatus:
    """How a run stands.

    Attributes:
        task: name of its task, empty where the engine does not say.
        status: one of QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED.
        created, started, finished: in UTC; None where that has not happened, or the engine has not told it yet.
        error: of a failed run, the task's own text.
        output: of a completed run, what the task gave back.
    """

    id: str
    task: str
    status: str
    created: datetime | None = None
    started: datetime | None = None
    finished: datetime | None = None
    error: str = ""
    output: dict[str, Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


class Backend(Protocol):
    """Where runs happen: an engine, or this process. Names are tasks of the client; inputs are JSON-ready."""

    @property
    def where(self) -> str: ...

    async def connect(self, timeout: float) -> None: ...

    async def close(self) -> None: ...

    async def run(self, task: str, data: dict[str, Any], metadata: dict[str, str]) -> str: ...

    async def schedule(self, task: str, data: dict[str, Any], metadata: dict[str, str], at: datetime) -> str: ...

    async def cron(
        self, task: str, data: dict[str, Any], metadata: dict[str, str], expression: str, name: str
    ) -> str: ...

    async def run_many(self, task: str, inputs: Sequence[dict[str, Any]], metadata: dict[str, str]) -> list[str]: ...

    async def wait(self, id: str, timeout: float) -> TaskStatus:
        """The final status of a run, or how it stands when the time is over."""

    async def wait_many(self, ids: Sequence[str], timeout: float) -> list[TaskStatus]:
        """The same for each of many runs."""

    async def cancel(self, id: str, kind: str) -> None:
        """Cancel; `kind` is `run`, `once`, `cron`, or empty where only the id is known."""

    async def status(self, id: str) -> TaskStatus: ...

    async def list(
        self, since: datetime, status: str | None, task: str | None, metadata: dict[str, str], limit: int
    ) -> list[TaskStatus]: ...
