"""Runs, schedules and crons on a real engine: hatchet-sdk's calls, each with a deadline, each in a thread, errors in our words.

Nothing here belongs to an event loop, so that one client serves several, one after the other.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from owlclaw_up.client import channel
from owlclaw_up.client.config import HatchetConfig
from owlclaw_up.client.ends import RunEnds
from owlclaw_up.client.errors import (
    CronNameTaken,
    EngineRefused,
    NotConnected,
    RunNotFound,
    ServerGone,
    TaskNotOnEngine,
)
from owlclaw_up.client.rest import EngineRest, namespace_prefix
from owlclaw_up.client.runs import FINAL, TaskStatus
from owlclaw_up.client.tasks import Task

if TYPE_CHECKING:
    import grpc
    from hatchet_sdk.clients.admin import AdminClient, WorkflowRunDetail

T = TypeVar("T")

_GET_VERSION = "/Dispatcher/GetVersion"
# An engine that restarts is away for about a second.
_PATIENCE = 2.0
# A run is not to be seen for a moment after it was triggered, nor to be cancelled.
_APPEARS_WITHIN = 1.0
_POLL = 0.1
# Seconds, for one and for each of many.
_ASK_AGAIN = 5.0
_REMEMBERED = 10_000
_ASK_AGAIN_EACH = 0.05
# What is started by one message: so many runs, and so many bytes of their inputs.
_BULK = 250
_BULK_BYTES = 2 * 1024 * 1024


class EngineBackend:
    """`runs.Backend` on an engine.

    Args:
        tasks: the client's, as they are when one is run.
    """

    def __init__(self, config: HatchetConfig, tasks: Mapping[str, Task]) -> None:
        self._config = config
        self._tasks = tasks
        self._rest = EngineRest(config)
        self._ends = RunEnds(config)
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._admin: AdminClient | None = None
        # Runs that were started here, as last heard of: one that is not to be seen yet is no unknown one.
        self._mine: dict[str, TaskStatus] = {}
        self._registered: set[str] = set()

    @property
    def where(self) -> str:
        return self._config.host_port

    async def connect(self, timeout: float) -> None:
        """GetVersion with the token: proves name, address, TLS and token in one call."""

        def version() -> None:
            call = self._opened().unary_unary(_GET_VERSION, request_serializer=bytes, response_deserializer=bytes)
            call(b"", timeout=timeout, metadata=channel.authorization(self._config))

        await self._grpc("say its version", version, min(_PATIENCE, timeout))

    async def close(self) -> None:
        with self._lock:
            opened, self._channel, self._admin = self._channel, None, None
        if opened is not None:
            opened.close()

    async def run(self, task: str, data: dict[str, Any], metadata: dict[str, str]) -> str:
        if _in_durable_task():
            from owlclaw_up.client.sdk import sdk_child

            limit = self._config.connect_timeout
            made = await asyncio.wait_for(sdk_child(self._config, task, data, metadata), limit)
        else:
            await self._must_be_registered(task)
            made = await self._trigger(task, data, metadata)
        self._remember(task, [made])
        return made

    def _remember(self, task: str, ids: Sequence[str]) -> None:
        self._mine.update({each: TaskStatus(each, task, "QUEUED") for each in ids})
        while len(self._mine) > _REMEMBERED:
            del self._mine[next(iter(self._mine))]

    async def _must_be_registered(self, task: str) -> None:
        """An engine that has just started takes a run of a task that it does not know, and loses it: so it is asked before.

        Raises:
            TaskNotOnEngine: no worker has registered it.
        """
        if task not in self._registered:
            # Without REST the engine's own answer has to do.
            with suppress(ServerGone):
                if await asyncio.to_thread(self._rest.workflow, self._workflow_name(task)) is None:
                    raise TaskNotOnEngine(task)
                self._registered.add(task)

    async def _trigger(self, task: str, data: dict[str, Any], metadata: dict[str, str]) -> str:
        def trigger() -> str:
            client = self._client()
            from hatchet_sdk.types.trigger import TriggerWorkflowOptions

            options = TriggerWorkflowOptions(additional_metadata=metadata)
            return str(client.run_workflow(task, json.dumps(data), options).workflow_run_id)

        return await self._grpc(f"start {task!r}", trigger, task=task)

    async def schedule(self, task: str, data: dict[str, Any], metadata: dict[str, str], at: datetime) -> str:
        def schedule() -> str:
            client = self._client()
            from hatchet_sdk.types.trigger import ScheduleTriggerWorkflowOptions

            options = ScheduleTriggerWorkflowOptions(additional_metadata=metadata)
            made = client.schedule_workflow(task, [at], json.dumps(data), options)
            return str(made.scheduled_workflows[0].id)

        return await self._grpc(f"schedule {task!r}", schedule, task=task)

    async def cron(self, task: str, data: dict[str, Any], metadata: dict[str, str], expression: str, name: str) -> str:
        workflow = self._workflow_name(task)
        try:
            return await asyncio.to_thread(self._rest.add_cron, workflow, name, expression, data, metadata)
        except EngineRefused as error:
            if "workflow not found" in error.detail:
                raise TaskNotOnEngine(task, error.detail) from None
            if "already exists" in error.detail:
                known = await asyncio.to_thread(self._rest.find_cron, workflow, name, expression)
                raise CronNameTaken(task, name, known) from None
            raise

    async def run_many(self, task: str, inputs: Sequence[dict[str, Any]], metadata: dict[str, str]) -> list[str]:
        if _in_durable_task():
            return [await self.run(task, data, metadata) for data in inputs]
        await self._must_be_registered(task)
        texts = [json.dumps(data) for data in inputs]
        ids: list[str] = []

        def trigger(chunk: Sequence[str]) -> list[str]:
            client = self._client()
            from hatchet_sdk.types.trigger import TriggerWorkflowOptions, WorkflowRunTriggerConfig

            options = TriggerWorkflowOptions(additional_metadata=metadata)
            wanted = [WorkflowRunTriggerConfig(workflow_name=task, input=text, options=options) for text in chunk]
            return [str(reference.workflow_run_id) for reference in client.run_workflows(wanted)]

        for chunk in _chunks(texts):
            ids += await self._grpc(f"start {task!r}", partial(trigger, chunk), task=task)
        self._remember(task, ids)
        return ids

    async def wait(self, id: str, timeout: float) -> TaskStatus:
        # First a look: the push of an end that was before it takes a second.
        found = await self._seen(id)
        if found.status in FINAL:
            return await self._ended(found)
        return await self._wait_pushed(id, time.monotonic() + timeout, _ASK_AGAIN)

    async def wait_many(self, ids: Sequence[str], timeout: float) -> list[TaskStatus]:
        end = time.monotonic() + timeout
        # To ask for each of many would keep the engine from their work.
        patience = max(_ASK_AGAIN, len(ids) * _ASK_AGAIN_EACH)
        return list(await asyncio.gather(*(self._wait_pushed(one, end, patience) for one in ids)))

    async def _wait_pushed(self, id: str, end: float, patience: float) -> TaskStatus:
        """The final status of a run, as it is pushed, or how it stands at the end of the wait.

        Args:
            end: by `time.monotonic()`.
            patience: seconds after which the engine is asked, since a push can be lost with its stream.
        """
        while (left := end - time.monotonic()) > 0:
            with suppress(asyncio.TimeoutError):
                pushed = await asyncio.wait_for(self._pushed(id), min(left, patience))
                if pushed is not None:
                    if id in self._mine:
                        self._mine[id] = pushed
                    return pushed
            found = await self._seen(id)
            if found.status in FINAL:
                return await self._ended(found)
            await asyncio.sleep(_POLL)
        return await self._ended(await self._seen(id))

    async def _ended(self, seen: TaskStatus) -> TaskStatus:
        """The end of a run, which REST is asked about where gRPC does not tell one from another."""
        end = time.monotonic() + _APPEARS_WITHIN
        # Without REST what gRPC says has to do.
        with suppress(ServerGone):
            while seen.status == "CANCELLED" and time.monotonic() < end:
                told = await asyncio.to_thread(self._rest.run, seen.id)
                if told is not None and told.status in FINAL:
                    return _told_apart(seen, told)
                await asyncio.sleep(_POLL)
        return seen

    async def cancel(self, id: str, kind: str) -> None:
        if kind == "cron" or kind == "once":
            delete = self._rest.delete_cron if kind == "cron" else self._rest.delete_schedule
            if not await asyncio.to_thread(delete, id):
                raise RunNotFound(id, self.where)
            return
        if kind != "run" and id not in self._mine and await self._details(id) is None:
            for delete in (self._rest.delete_schedule, self._rest.delete_cron):
                if await asyncio.to_thread(delete, id):
                    return
        await self._cancel_run(id)

    async def status(self, id: str) -> TaskStatus:
        seen = await self._seen(id)
        told = await asyncio.to_thread(self._rest.run, id)
        if told is None:
            return seen
        seen = _told_apart(seen, told)
        # REST has the times, gRPC is ahead of it with the rest.
        finished = told.finished if seen.status in FINAL else None
        return replace(seen, task=told.task or seen.task, created=told.created, started=told.started, finished=finished)

    async def list(
        self, since: datetime, status: str | None, task: str | None, metadata: dict[str, str], limit: int
    ) -> list[TaskStatus]:
        workflow = None
        if task is not None:
            workflow = await asyncio.to_thread(self._rest.workflow, self._workflow_name(task))
            if workflow is None:
                return []
        return await asyncio.to_thread(self._rest.runs, since, status, workflow, metadata, limit)

    def _workflow_name(self, task: str) -> str:
        return namespace_prefix(self._config) + task

    def _opened(self) -> grpc.Channel:
        with self._lock:
            if self._channel is None:
                self._channel = channel.open_channel(self._config)
            return self._channel

    def _client(self) -> AdminClient:
        """hatchet-sdk's own client for runs, on our channel; the first call imports hatchet-sdk, which takes a second."""
        from owlclaw_up.client.sdk import load_sdk, sdk_config

        opened = self._opened()
        load_sdk()
        from hatchet_sdk.clients.admin import AdminClient
        from hatchet_sdk.clients.listeners.run_event_listener import RunEventListenerClient
        from hatchet_sdk.clients.listeners.workflow_listener import PooledWorkflowRunListener
        from hatchet_sdk.contracts.v1.workflows_pb2_grpc import AdminServiceStub
        from hatchet_sdk.contracts.workflows_pb2_grpc import WorkflowServiceStub

        with self._lock:
            if self._admin is None:
                config = sdk_config(self._config, attempts=0)
                self._admin = AdminClient(config, PooledWorkflowRunListener(config), RunEventListenerClient(config))
                self._admin.client = AdminServiceStub(opened)
                self._admin.v0_client = WorkflowServiceStub(opened)
            return self._admin

    async def _grpc(self, what: str, call: Callable[[], T], patience: float = _PATIENCE, task: str = "") -> T:
        """A blocking call in a thread.

        Raises:
            ServerGone, TokenRefused, TaskNotOnEngine, EngineRefused: as the names say.
        """
        import grpc

        try:
            return await asyncio.to_thread(channel.patiently, call, patience)
        except grpc.RpcError as error:
            words = error.details() or ""
            if task and ("workflow names not found" in words or "workflow not found" in words):
                raise TaskNotOnEngine(task, words) from None
            raise channel.translated(error, self._config, what) from None
        except ValueError as error:
            # grpc's word for a channel that was closed while the call was on its way.
            if "closed channel" in str(error):
                raise NotConnected(f"to {what}") from None
            raise

    async def _seen(self, id: str) -> TaskStatus:
        """A run by gRPC; one of ours that is not to be seen yet is queued.

        Raises:
            RunNotFound: it is none of ours, and has not appeared within the time in which they do.
        """
        end = time.monotonic() + _APPEARS_WITHIN
        while True:
            found = await self._details(id)
            heard = self._mine.get(id)
            if found is not None and (found.status in FINAL or heard is None or heard.status not in FINAL):
                return found
            if heard is not None:
                return heard
            if time.monotonic() > end:
                raise RunNotFound(id, self.where)
            await asyncio.sleep(_POLL)

    async def _details(self, id: str) -> TaskStatus | None:
        import grpc

        def ask() -> TaskStatus | None:
            try:
                return _status_of(self._client().get_details(id))
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    return None
                raise

        return await self._grpc("describe a run", ask)

    async def _pushed(self, id: str) -> TaskStatus | None:
        """Wait for the engine to push the end of a run; None where the stream breaks, or says too little."""
        event = await self._ends.wait(id)
        return None if event is None else _status_of_event(event)

    async def _cancel_run(self, id: str) -> None:
        """Ask until it has ended: a run that was triggered a moment ago is not cancelled by the first asking."""

        def ask() -> None:
            from hatchet_sdk.contracts.v1.workflows_pb2 import CancelTasksRequest

            stub = self._client().client
            assert stub is not None
            stub.CancelTasks(CancelTasksRequest(external_ids=[id]), metadata=channel.authorization(self._config))

        end = time.monotonic() + self._config.connect_timeout
        while (await self._seen(id)).status not in FINAL:
            if time.monotonic() > end:
                raise ServerGone(
                    self.where, "gRPC", "it took the cancel, and the run goes on",
                    hint="its worker may be gone: the engine ends it at its timeout",
                )  # fmt: skip
            await self._grpc("cancel a run", ask)
            await asyncio.sleep(_POLL)


def _in_durable_task() -> bool:
    """Whether a durable task runs here: a run that it starts is its child, and started once however often it is resumed."""
    if "hatchet_sdk" not in sys.modules:
        return False
    from hatchet_sdk.runnables.contextvars import ctx_durable_context

    return ctx_durable_context.get() is not None


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Inputs by message: so many, and so many bytes, and at least one."""
    first, size = 0, 0
    for number, text in enumerate(texts):
        if number > first and (number - first >= _BULK or size + len(text) > _BULK_BYTES):
            yield texts[first:number]
            first, size = number, 0
        size += len(text)
    if first < len(texts):
        yield texts[first:]


def _told_apart(seen: TaskStatus, told: TaskStatus) -> TaskStatus:
    """A run as gRPC and REST know it: one that no worker took in time is cancelled for the first and failed for the other."""
    if (seen.status, told.status) == ("CANCELLED", "FAILED"):
        return replace(seen, status="FAILED", error=told.error)
    return seen


def _status_of(details: WorkflowRunDetail) -> TaskStatus:
    status = str(details.status.value)
    task = next(iter(details.task_runs.values()), None)
    return TaskStatus(
        details.external_id, task.readable_id if task else "", status,
        error=error_text(task.error or "") if task and status == "FAILED" else "",
        output=dict((task.output if task else None) or {}) if status == "COMPLETED" else None,
        metadata=dict(details.additional_metadata or {}),
    )  # fmt: skip


def _status_of_event(event: Any) -> TaskStatus | None:
    for result in event.results:
        if result.error:
            return TaskStatus(event.workflow_run_id, result.task_name, "FAILED", error=error_text(result.error))
        if result.output:
            output = json.loads(result.output)
            return TaskStatus(event.workflow_run_id, result.task_name, "COMPLETED", output=dict(output or {}))
    # A run that was cancelled, and one that gave nothing back, look alike here.
    return None


def error_text(serialized: str) -> str:
    """A task's own error as its worker wrote it: `Type: message`, then the traceback where there is one."""
    from hatchet_sdk.exceptions import TaskRunError

    error = TaskRunError.deserialize(serialized)
    if not error.trace:
        return error.exc
    return f"{error.exc_type}: {error.exc}\n{error.trace}".strip()
