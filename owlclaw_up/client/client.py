"""The client: tasks are declared on it, run, scheduled, cancelled and looked at through it, on an engine or in mock.

Every method checks its arguments when it is called, and gives back what is to be awaited: a wrong call raises at once,
before anything is sent, whether or not somebody awaits it.
"""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, overload

from owlclaw_up.client.arguments import count_of, metadata_of, name_of, run_id_of, since_of, status_of, when_of
from owlclaw_up.client.config import HatchetConfig
from owlclaw_up.client.durations import seconds_of
from owlclaw_up.client.engine import EngineBackend
from owlclaw_up.client.errors import (
    AlreadyConnected,
    BadArgument,
    NotConnected,
    ResultTimeout,
    TaskCancelled,
    TaskFailed,
    TaskRegisteredTwice,
    UnknownTask,
)
from owlclaw_up.client.mock import MockBackend, attempt, context_of
from owlclaw_up.client.runs import FINAL, Backend, Schedule, TaskRun, TaskStatus
from owlclaw_up.client.sync import SyncClient
from owlclaw_up.client.tasks import Task, declare
from owlclaw_up.client.worker import Worker

# A run that is known by its id alone may be of any task.
_ANY_RESULT_SECONDS = 3600.0
_LONGEST_LIST = 1000


class HatchetClient:
    """See docs/reference/client.md.

    Args:
        config: where the engine is; None is `HatchetConfig.load()` when the client connects.
    """

    def __init__(self, config: HatchetConfig | None = None) -> None:
        if config is not None and not isinstance(config, HatchetConfig):
            raise BadArgument("config", type(config).__name__, "a HatchetConfig is wanted", "HatchetConfig.load()")
        self._config = config
        self._backend: Backend | None = None
        self._tasks: dict[str, Task] = {}
        self.sync = SyncClient(self)

    # --- declaring ---

    @property
    def tasks(self) -> Mapping[str, Task]:
        """Every declared task, by its name."""
        return MappingProxyType(self._tasks)

    @property
    def config(self) -> HatchetConfig:
        """The configuration, read now where it was not given.

        Raises:
            BadConfig: there is none that can be used.
        """
        if self._config is None:
            self._config = HatchetConfig.load()
        return self._config

    @overload
    def task(self, name: Callable[..., Any]) -> Task: ...

    @overload
    def task(
        self,
        name: str | None = None,
        *,
        timeout: float | timedelta = 60.0,
        schedule_timeout: float | timedelta = 300.0,
        retries: int = 0,
        crons: Sequence[str] = (),
        concurrency: int | None = None,
        input: type[Any] | None = None,
    ) -> Callable[[Callable[..., Any]], Task]: ...

    def task(self, name: Any = None, **options: Any) -> Any:
        """Declare a task: `@client.task`, or `@client.task(name=None, *, ...)`.

        Args:
            name: the function's own where it is left out.
            timeout: whole seconds, or a timedelta, that one attempt may run.
            schedule_timeout: the same, that it may wait for a worker.
            retries: attempts after the first, 0 to 100.
            crons: expressions by which a worker's registration makes it run, in UTC.
            concurrency: how many of its runs may run at the same time.
            input: a pydantic model, or dict; by default the annotation of the first parameter.

        Raises:
            BadTask, BadCron, TaskRegisteredTwice: it cannot be declared so.
        """
        return self._declare(False, name, options)

    @overload
    def durable_task(self, name: Callable[..., Any]) -> Task: ...

    @overload
    def durable_task(
        self,
        name: str | None = None,
        *,
        timeout: float | timedelta = 60.0,
        schedule_timeout: float | timedelta = 300.0,
        retries: int = 0,
        crons: Sequence[str] = (),
        concurrency: int | None = None,
        input: type[Any] | None = None,
    ) -> Callable[[Callable[..., Any]], Task]: ...

    def durable_task(self, name: Any = None, **options: Any) -> Any:
        """Declare a task whose waits (`ctx.aio_sleep_for`) outlive its worker; as `task`, for async functions."""
        return self._declare(True, name, options)

    def _declare(self, durable: bool, name: Any, options: dict[str, Any]) -> Any:
        defaults = {
            "timeout": 60.0, "schedule_timeout": 300.0, "retries": 0, "crons": (), "concurrency": None, "input": None,
        }  # fmt: skip
        unknown = sorted(set(options) - set(defaults))
        if unknown:
            raise BadArgument(unknown[0], "...", "a task has no such option", f"options: name, {', '.join(defaults)}")

        def register(function: Any) -> Task:
            given = None if callable(name) else name
            task = declare(function, durable=durable, name=given, **{**defaults, **options})
            for known in self._tasks:
                if known.lower() == task.name.lower():
                    raise TaskRegisteredTwice(task.name, known)
            self._tasks[task.name] = task
            return task

        return register(name) if callable(name) else register

    # --- connecting ---

    @property
    def connected(self) -> bool:
        return self._backend is not None

    def connect(self, timeout: float | timedelta | None = None) -> Coroutine[Any, Any, HatchetClient]:
        """Reach the engine and prove that it takes the token; in mock there is nothing to reach.

        Args:
            timeout: seconds; the configuration's `connect_timeout` where it is left out.

        Raises:
            AlreadyConnected, BadConfig, TokenRefused, ServerGone: as the names say.
        """
        if self._backend is not None:
            raise AlreadyConnected(self._backend.where)
        config = self.config
        seconds = config.connect_timeout if timeout is None else seconds_of("timeout", timeout, below=3600.0)
        return self._connect(config, seconds)

    async def _connect(self, config: HatchetConfig, seconds: float) -> HatchetClient:
        backend: Backend = MockBackend(self._tasks) if config.mock else EngineBackend(config, self._tasks)
        try:
            await backend.connect(seconds)
        except BaseException:
            await backend.close()
            raise
        if self._backend is not None:
            await backend.close()
            raise AlreadyConnected(self._backend.where)
        self._backend = backend
        return self

    async def aclose(self) -> None:
        """Let the engine go; in mock this ends what runs or is scheduled. Twice is as good as once."""
        backend, self._backend = self._backend, None
        if backend is not None:
            await backend.close()

    async def __aenter__(self) -> HatchetClient:
        return await self.connect()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # --- running ---

    def run_task_now(
        self, task: Task | str, input: object = None, *, metadata: Mapping[str, str] | None = None
    ) -> Coroutine[Any, Any, TaskRun]:
        """Start a run.

        Args:
            input: the task's model, or a dict.
            metadata: texts by which `list_tasks` finds the run again.

        Raises:
            NotConnected, UnknownTask, BadInput, BadArgument: at the call.
            TaskNotOnEngine, ServerGone, TokenRefused, EngineRefused: when it is awaited.
        """
        backend = self._connected("run_task_now")
        found = self._task(task)
        data, tags = found.accept(input), metadata_of(metadata)

        async def run() -> TaskRun:
            return TaskRun(await backend.run(found.name, data, tags), found.name, self)

        return run()

    def run_many_now(
        self, task: Task | str, inputs: Sequence[object], *, metadata: Mapping[str, str] | None = None
    ) -> Coroutine[Any, Any, list[TaskRun]]:
        """Start a run for each input, in a few messages; `results` waits for them together.

        Raises:
            As `run_task_now`. Where the engine goes away in the middle, some were started.
        """
        backend = self._connected("run_many_now")
        found = self._task(task)
        if isinstance(inputs, (str, bytes, Mapping)) or not isinstance(inputs, Sequence):
            raise BadArgument("inputs", type(inputs).__name__, "a list of inputs is wanted", "inputs=[{...}, {...}]")
        data, tags = [found.accept(one) for one in inputs], metadata_of(metadata)

        async def run() -> list[TaskRun]:
            return [TaskRun(made, found.name, self) for made in await backend.run_many(found.name, data, tags)]

        return run()

    def results(
        self, runs: Sequence[TaskRun | str], timeout: float | timedelta | None = None
    ) -> Coroutine[Any, Any, list[dict[str, Any]]]:
        """Wait for the ends of many runs together, and give what each gave back, in their order.

        Raises:
            As `result`, for the first of them that has none.
        """
        backend = self._connected("results")
        known = [(run_id_of(run), run.task if isinstance(run, TaskRun) else "") for run in runs]
        longest = max((self._longest(name) for _, name in known), default=1.0)
        seconds = longest if timeout is None else seconds_of("timeout", timeout)

        async def wait() -> list[dict[str, Any]]:
            ended = await backend.wait_many([run_id for run_id, _ in known], seconds)
            return [_output_of(status, seconds, name) for (_, name), status in zip(known, ended, strict=True)]

        return wait()

    def result(
        self, run: TaskRun | str, timeout: float | timedelta | None = None
    ) -> Coroutine[Any, Any, dict[str, Any]]:
        """Wait for the end of a run, and give what its task gave back; nothing is an empty dict.

        Args:
            timeout: seconds; by default as long as the engine lets such a run live.

        Raises:
            TaskFailed, TaskCancelled: it has no result.
            ResultTimeout: it goes on; the run is left alone.
            RunNotFound, ServerGone, TokenRefused: as the names say.
        """
        backend = self._connected("result")
        run_id = run_id_of(run)
        name = run.task if isinstance(run, TaskRun) else ""
        seconds = self._longest(name) if timeout is None else seconds_of("timeout", timeout)

        async def wait() -> dict[str, Any]:
            return _output_of(await backend.wait(run_id, seconds), seconds, name)

        return wait()

    def _longest(self, name: str) -> float:
        task = self._tasks.get(name)
        return task.longest if task else _ANY_RESULT_SECONDS

    def schedule_task(
        self,
        task: Task | str,
        input: object = None,
        *,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        cron: str | None = None,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Coroutine[Any, Any, Schedule]:
        """Start a run later, or again and again.

        Args:
            delay: seconds, or a timedelta, above 0 and up to a year.
            at: an instant, aware of its timezone, in the future and up to a year ahead.
            cron: five fields in UTC, or six with seconds first.
            name: of the cron, unique with its expression among the task's; by default the task's name.

        Raises:
            BadDelay, NaiveDatetime, BadCron, BadArgument, BadInput, NotConnected, UnknownTask: at the call.
            CronNameTaken, TaskNotOnEngine, ServerGone, TokenRefused, EngineRefused: when it is awaited.
        """
        backend = self._connected("schedule_task")
        found = self._task(task)
        instant, expression = when_of(delay, at, cron, name)
        called = name_of(name, "nightly") or found.name
        data, tags = found.accept(input), metadata_of(metadata)

        async def schedule() -> Schedule:
            if instant is not None:
                return Schedule(await backend.schedule(found.name, data, tags, instant), found.name, "once", at=instant)
            made = await backend.cron(found.name, data, tags, expression, called)
            return Schedule(made, found.name, "cron", cron=expression, name=called)

        return schedule()

    def cancel_task(self, what: TaskRun | Schedule | str) -> Coroutine[Any, Any, None]:
        """End a run, a schedule or a cron. A run that has ended is left as it is.

        Raises:
            BadRunId, NotConnected: at the call.
            RunNotFound, ServerGone, TokenRefused: when it is awaited.
        """
        backend = self._connected("cancel_task")
        if isinstance(what, Schedule):
            return backend.cancel(what.id, what.kind)
        return backend.cancel(run_id_of(what), "run" if isinstance(what, TaskRun) else "")

    def get_task_status(self, run: TaskRun | str) -> Coroutine[Any, Any, TaskStatus]:
        """How a run stands.

        Raises:
            BadRunId, NotConnected: at the call.
            RunNotFound, ServerGone, TokenRefused: when it is awaited.
        """
        return self._connected("get_task_status").status(run_id_of(run))

    def list_tasks(
        self,
        *,
        since: timedelta | datetime = timedelta(days=1),
        status: str | None = None,
        task: Task | str | None = None,
        metadata: Mapping[str, str] | None = None,
        limit: int = 50,
    ) -> Coroutine[Any, Any, list[TaskStatus]]:
        """The newest runs, newest first; on an engine they appear a moment after they start.

        Args:
            since: how far back, or from which instant on.
            status: one of QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED.
            metadata: texts that a run must have been given.
            limit: 1 to 1000.

        Raises:
            BadArgument, UnknownTask, NotConnected: at the call.
            ServerGone, TokenRefused: when it is awaited.
        """
        backend = self._connected("list_tasks")
        wanted, count = status_of(status), count_of("limit", limit, _LONGEST_LIST, 50)
        found = None if task is None else self._task(task).name
        return backend.list(since_of(since), wanted, found, metadata_of(metadata), count)

    def mock_run(
        self, task: Task | str, input: object = None, *, metadata: Mapping[str, str] | None = None
    ) -> Coroutine[Any, Any, dict[str, Any]]:
        """Call a task in this process and this event loop, once, connected or not; its own exceptions come through."""
        found = self._task(task)
        data = found.accept(input)
        context = context_of(found, str(uuid.uuid4()), data, metadata_of(metadata), 0)
        return attempt(found, data, context)

    def worker(self, name: str | None = None, *, slots: int = 10, tasks: Sequence[Task | str] | None = None) -> Worker:
        """A worker for tasks of this client; `start()` on it blocks until a signal comes.

        Args:
            name: as the dashboard shows it; by default the machine's name.
            slots: how many runs it takes at the same time, 1 to 1000.
            tasks: every one of the client where it is left out.

        Raises:
            BadArgument, UnknownTask: as the names say.
        """
        if tasks is not None and (isinstance(tasks, (str, Task)) or not isinstance(tasks, Sequence)):
            raise BadArgument("tasks", repr(tasks)[:60], "a list of tasks is wanted", "tasks=[my_task]")
        served = None if tasks is None else [self._task(task).name for task in tasks]
        return Worker(self, name, slots, served)

    # --- checking ---

    def _connected(self, what: str) -> Backend:
        if self._backend is None:
            raise NotConnected(what)
        return self._backend

    def _task(self, task: object) -> Task:
        if isinstance(task, Task):
            if self._tasks.get(task.name) is task:
                return task
            raise UnknownTask(task.name, self._tasks, None)
        if not isinstance(task, str):
            shown = getattr(task, "__name__", None) or repr(task)[:60]
            raise BadArgument("task", shown, "a task of this client, or its name, is wanted", "@client.task above it")
        if task not in self._tasks:
            low = {name.lower(): name for name in self._tasks}
            near = difflib.get_close_matches(task.lower(), low, 1, 0.5)
            raise UnknownTask(task[:100], self._tasks, low[near[0]] if near else None)
        return self._tasks[task]


def _output_of(status: TaskStatus, seconds: float, name: str) -> dict[str, Any]:
    """What a run gave back.

    Args:
        status: its end, or how it stands after so many seconds.
        name: of its task, empty where only the engine knows it.
    """
    name = name or status.task
    if status.status not in FINAL:
        raise ResultTimeout(name, status.id, seconds, status.status)
    if status.status == "FAILED":
        raise TaskFailed(name, status.id, status.error)
    if status.status == "CANCELLED":
        raise TaskCancelled(name, status.id)
    return status.output or {}
