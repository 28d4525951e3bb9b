"""Mock: runs, schedules and crons in this process, in memory, in a thread of its own. Nothing is dialled or durable.

Everything that an engine would do for a client is done here in the same way, so that an application runs unchanged:
attempts and timeouts, cancelling, listing, durable sleeps. What is left when the process ends is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any

from owlclaw_up.client import cron
from owlclaw_up.client.errors import CronNameTaken, RunNotFound
from owlclaw_up.client.loop_thread import LoopThread
from owlclaw_up.client.mock_context import MockContext, MockDurableContext
from owlclaw_up.client.runs import FINAL, Schedule, TaskStatus
from owlclaw_up.client.tasks import Task

# Runs that are remembered; all of a process that lives for long would be a leak.
_KEPT = 10_000
# The metadata of the run that is going on: one that it starts inherits it, as on an engine.
_PARENT: ContextVar[Mapping[str, Any]] = ContextVar("owlclaw_up_mock_parent", default=MappingProxyType({}))


def _now() -> datetime:
    return datetime.now(timezone.utc)


def duration_text(seconds: float) -> str:
    """As hatchet-sdk writes a period for the engine: hatchet_sdk/utils/timedelta_to_expression.py."""
    whole = int(seconds)
    for unit, size in (("h", 3600), ("m", 60)):
        if whole and whole % size == 0:
            return f"{whole // size}{unit}"
    return f"{whole}s"


class OutOfTime(Exception):
    """An attempt ran longer than its task may; the text is the engine's."""


async def attempt(task: Task, data: Mapping[str, Any], context: MockContext) -> dict[str, Any]:
    """One call of a task's function, in a thread where it is not async; what it gives back is checked.

    Raises:
        OutOfTime: it ran longer than the task may.
        Exception: whatever it raises.
    """
    argument = task.argument(dict(data))
    call = task.function(argument, context) if task.is_async else asyncio.to_thread(task.function, argument, context)
    work = asyncio.ensure_future(call)
    try:
        done, _ = await asyncio.wait({work}, timeout=task.timeout)
        if not done:
            raise OutOfTime(f"Task exceeded timeout of {duration_text(task.timeout)}")
        return task.output(work.result())
    finally:
        if not work.done():
            context.cancel()
            work.cancel()


def context_of(
    task: Task, run_id: str, data: Mapping[str, Any], metadata: Mapping[str, Any], retry: int
) -> MockContext:
    kind = MockDurableContext if task.durable else MockContext
    return kind(task.name, run_id, data, metadata, retry, task.retries)


@dataclass
class _Run:
    status: TaskStatus
    data: dict[str, Any]
    ended: asyncio.Event
    context: MockContext | None = None
    work: asyncio.Task[None] | None = None


class MockBackend:
    """`runs.Backend` without an engine.

    Args:
        tasks: the client's, as they are when one is run.
    """

    where = "mock, in this process"

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self._tasks = tasks
        self._thread = LoopThread("owlclaw-up-mock")
        self._runs: dict[str, _Run] = {}
        self._schedules: dict[str, tuple[Schedule, asyncio.Task[None]]] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}

    async def connect(self, timeout: float) -> None:
        """Nothing to reach."""

    async def close(self) -> None:
        """End every run and schedule; nothing of them is left."""
        await asyncio.to_thread(self._thread.stop)
        self._runs.clear()
        self._schedules.clear()
        self._slots.clear()

    async def run(self, task: str, data: dict[str, Any], metadata: dict[str, str]) -> str:
        return await self._thread.call(self._start(task, data, {**_PARENT.get(), **metadata}))

    async def schedule(self, task: str, data: dict[str, Any], metadata: dict[str, str], at: datetime) -> str:
        async def fire() -> None:
            await asyncio.sleep(max(0.0, (at - _now()).total_seconds()))
            self._schedules.pop(schedule.id, None)
            await self._start(task, data, metadata)

        schedule = Schedule(str(uuid.uuid4()), task, "once", at=at)
        await self._thread.call(self._keep(schedule, fire))
        return schedule.id

    async def cron(self, task: str, data: dict[str, Any], metadata: dict[str, str], expression: str, name: str) -> str:
        parsed = cron.parse(expression)

        async def fire() -> None:
            due = parsed.after(_now())
            while True:
                await asyncio.sleep(max(0.0, (due - _now()).total_seconds()))
                await self._start(task, data, metadata)
                due = parsed.after(max(due, _now()))

        for known, _ in self._schedules.values():
            if (known.task, known.name, known.cron) == (task, name, expression):
                raise CronNameTaken(task, name, known.id)
        schedule = Schedule(str(uuid.uuid4()), task, "cron", cron=expression, name=name)
        await self._thread.call(self._keep(schedule, fire))
        return schedule.id

    async def run_many(self, task: str, inputs: Sequence[dict[str, Any]], metadata: dict[str, str]) -> list[str]:
        return [await self.run(task, data, metadata) for data in inputs]

    async def wait_many(self, ids: Sequence[str], timeout: float) -> list[TaskStatus]:
        return list(await asyncio.gather(*(self.wait(one, timeout) for one in ids)))

    async def wait(self, id: str, timeout: float) -> TaskStatus:
        run = self._run(id)

        async def ended() -> None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(run.ended.wait(), timeout)

        await self._thread.call(ended())
        return run.status

    async def cancel(self, id: str, kind: str) -> None:
        async def cancel() -> None:
            if id in self._schedules:
                self._schedules.pop(id)[1].cancel()
                return
            run = self._run(id)
            if run.context is not None:
                run.context.cancel()
            if run.work is not None:
                run.work.cancel()
            self._end(run, "CANCELLED")

        await self._thread.call(cancel())

    async def status(self, id: str) -> TaskStatus:
        return self._run(id).status

    async def list(
        self, since: datetime, status: str | None, task: str | None, metadata: dict[str, str], limit: int
    ) -> list[TaskStatus]:
        newest = [run.status for run in reversed(list(self._runs.values()))]
        return [
            each
            for each in newest
            if each.created is not None
            and each.created >= since
            and status in (None, each.status)
            and task in (None, each.task)
            and metadata.items() <= each.metadata.items()
        ][:limit]

    def _run(self, id: str) -> _Run:
        if id not in self._runs:
            raise RunNotFound(id, self.where)
        return self._runs[id]

    async def _keep(self, schedule: Schedule, fire: Callable[[], Any]) -> None:
        self._schedules[schedule.id] = schedule, asyncio.ensure_future(fire())

    async def _start(self, name: str, data: dict[str, Any], metadata: dict[str, str]) -> str:
        status = TaskStatus(str(uuid.uuid4()), name, "QUEUED", created=_now(), metadata=dict(metadata))
        run = self._runs[status.id] = _Run(status, data, asyncio.Event())
        if len(self._runs) > _KEPT:
            oldest = next((key for key, known in self._runs.items() if known.ended.is_set()), status.id)
            del self._runs[oldest]
        run.work = asyncio.ensure_future(self._perform(self._tasks[name], run))
        return status.id

    async def _perform(self, task: Task, run: _Run) -> None:
        try:
            if task.concurrency is None:
                await self._attempts(task, run)
                return
            async with self._slots.setdefault(task.name, asyncio.Semaphore(task.concurrency)):
                await self._attempts(task, run)
        except asyncio.CancelledError:
            self._end(run, "CANCELLED")
            raise

    async def _attempts(self, task: Task, run: _Run) -> None:
        error = ""
        _PARENT.set(run.status.metadata)
        for retry in range(task.retries + 1):
            run.context = context_of(task, run.status.id, run.data, run.status.metadata, retry)
            run.status = replace(run.status, status="RUNNING", started=run.status.started or _now())
            try:
                output = await attempt(task, run.data, run.context)
            except OutOfTime as over:
                error = str(over)
            except Exception as raised:
                error = "".join([f"{type(raised).__name__}: {raised}\n", *traceback.format_exception(raised)])
            else:
                self._end(run, "COMPLETED", output=output)
                return
        self._end(run, "FAILED", error=error)

    def _end(self, run: _Run, status: str, **more: Any) -> None:
        if run.status.status not in FINAL:
            run.status = replace(run.status, status=status, finished=_now(), **more)
            run.ended.set()
