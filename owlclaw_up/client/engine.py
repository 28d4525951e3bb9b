"""Runs, schedules and crons on a real engine: hatchet-sdk's calls, each with a deadline, each in a thread, errors in our words.

Nothing here belongs to an event loop, so that one client serves several, one after the other.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from owlclaw_up.client import channel
from owlclaw_up.client.config import HatchetConfig
from owlclaw_up.client.errors import CronNameTaken, EngineRefused, RunNotFound, ServerGone, TaskNotOnEngine
from owlclaw_up.client.rest import EngineRest, namespace_prefix
from owlclaw_up.client.runs import FINAL, TaskStatus
from owlclaw_up.client.tasks import Task

if TYPE_CHECKING:
    import grpc
    from hatchet_sdk.clients.admin import AdminClient, WorkflowRunDetail

T = TypeVar("T")

_GET_VERSION = "/Dispatcher/GetVersion"
# An engine that restarts is away for about a second.
_PATIENCE = 3.0
# A run is not to be seen for a moment after it was triggered, nor to be cancelled.
_APPEARS_WITHIN = 3.0
_POLL = 0.1
# A pushed end can be lost with its stream, so now and then the engine is asked.
_ASK_AGAIN = 5.0


class EngineBackend:
    """`runs.Backend` on an engine.

    Args:
        tasks: the client's, as they are when one is run.
    """

    def __init__(self, config: HatchetConfig, tasks: Mapping[str, Task]) -> None:
        self._config = config
        self._tasks = tasks
        self._rest = EngineRest(config)
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._admin: AdminClient | None = None

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
        from_durable = await self._durable_child(task, data, metadata)
        if from_durable:
            return from_durable

        def trigger() -> str:
            from hatchet_sdk.types.trigger import TriggerWorkflowOptions

            options = TriggerWorkflowOptions(additional_metadata=metadata)
            return str(self._client().run_workflow(task, json.dumps(data), options).workflow_run_id)

        return await self._grpc(f"start {task!r}", trigger, task=task)

    async def schedule(self, task: str, data: dict[str, Any], metadata: dict[str, str], at: datetime) -> str:
        def schedule() -> str:
            from hatchet_sdk.types.trigger import ScheduleTriggerWorkflowOptions

            options = ScheduleTriggerWorkflowOptions(additional_metadata=metadata)
            made = self._client().schedule_workflow(task, [at], json.dumps(data), options)
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

    async def wait(self, id: str, timeout: float) -> TaskStatus | None:
        end = time.monotonic() + timeout
        # The push of an end that was before it takes a second.
        at_once = await self._grpc("describe a run", lambda: self._details(id))
        if at_once is not None and at_once.status in FINAL:
            return at_once
        while (left := end - time.monotonic()) > 0:
            with suppress(asyncio.TimeoutError):
                pushed = await asyncio.wait_for(self._pushed(id), min(left, _ASK_AGAIN))
                if pushed is not None:
                    return pushed
            found = await self._seen(id, _APPEARS_WITHIN)
            if found.status in FINAL:
                return found
        return None

    async def cancel(self, id: str, kind: str) -> None:
        if kind == "cron" or kind == "once":
            delete = self._rest.delete_cron if kind == "cron" else self._rest.delete_schedule
            if not await asyncio.to_thread(delete, id):
                raise RunNotFound(id, self.where)
            return
        try:
            await self._cancel_run(id)
        except RunNotFound:
            if kind == "run":
                raise
            for delete in (self._rest.delete_schedule, self._rest.delete_cron):
                if await asyncio.to_thread(delete, id):
                    return
            raise

    async def status(self, id: str) -> TaskStatus:
        seen = await self._seen(id, _APPEARS_WITHIN)
        told = await asyncio.to_thread(self._rest.run, id)
        if told is None:
            return seen
        # REST has the times, gRPC is ahead of it with the rest.
        return TaskStatus(
            id, told.task or seen.task, seen.status, told.created, told.started,
            told.finished if seen.status in FINAL else None, seen.error, seen.output, seen.metadata,
        )  # fmt: skip

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
        opened = self._opened()
        from hatchet_sdk.clients.admin import AdminClient
        from hatchet_sdk.clients.listeners.run_event_listener import RunEventListenerClient
        from hatchet_sdk.clients.listeners.workflow_listener import PooledWorkflowRunListener
        from hatchet_sdk.contracts.v1.workflows_pb2_grpc import AdminServiceStub
        from hatchet_sdk.contracts.workflows_pb2_grpc import WorkflowServiceStub

        from owlclaw_up.client.sdk import sdk_config

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

    async def _durable_child(self, task: str, data: dict[str, Any], metadata: dict[str, str]) -> str:
        """Inside a durable task a run is its child, and started once however often the task is resumed; else empty."""
        import sys

        if "hatchet_sdk" not in sys.modules:
            return ""
        from hatchet_sdk.runnables.contextvars import ctx_durable_context

        if ctx_durable_context.get() is None:
            return ""
        from owlclaw_up.client.sdk import sdk_child

        return await asyncio.wait_for(sdk_child(self._config, task, data, metadata), self._config.connect_timeout)

    async def _seen(self, id: str, appears_within: float) -> TaskStatus:
        """A run by gRPC.

        Raises:
            RunNotFound: it has not appeared for so many seconds.
        """
        end = time.monotonic() + appears_within
        while True:
            found = await self._grpc("describe a run", lambda: self._details(id))
            if found is not None:
                return found
            if time.monotonic() > end:
                raise RunNotFound(id, self.where)
            await asyncio.sleep(_POLL)

    def _details(self, id: str) -> TaskStatus | None:
        import grpc

        try:
            details = self._client().get_details(id)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return None
            raise
        return _status_of(details)

    async def _pushed(self, id: str) -> TaskStatus | None:
        """Wait for the engine to push the end of a run; None where the stream breaks, or says too little."""
        import grpc
        from hatchet_sdk.contracts.dispatcher_pb2 import SubscribeToWorkflowRunsRequest
        from hatchet_sdk.contracts.dispatcher_pb2_grpc import DispatcherStub

        async def wanted() -> AsyncIterator[SubscribeToWorkflowRunsRequest]:
            yield SubscribeToWorkflowRunsRequest(workflow_run_id=id)
            # The engine ends its side with ours.
            await asyncio.Event().wait()

        async with channel.open_aio_channel(self._config) as opened:
            stub = DispatcherStub(opened)
            stream = stub.SubscribeToWorkflowRuns(wanted(), metadata=channel.authorization(self._config))
            try:
                async for event in stream:
                    if event.workflow_run_id == id:
                        return _status_of_event(event)
            except grpc.RpcError as error:
                if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                    raise channel.translated(error, self._config, "tell the end of a run") from None
            finally:
                stream.cancel()
        return None

    async def _cancel_run(self, id: str) -> None:
        """Ask until it has ended: a run that was triggered a moment ago is not cancelled by the first asking."""

        def ask() -> None:
            from hatchet_sdk.contracts.v1.workflows_pb2 import CancelTasksRequest

            stub = self._client().client
            assert stub is not None
            stub.CancelTasks(CancelTasksRequest(external_ids=[id]), metadata=channel.authorization(self._config))

        end = time.monotonic() + self._config.connect_timeout
        while (await self._seen(id, _APPEARS_WITHIN)).status not in FINAL:
            if time.monotonic() > end:
                raise ServerGone(
                    self.where, "gRPC", "it took the cancel, and the run goes on",
                    hint="its worker may be gone: the engine ends it at its timeout",
                )  # fmt: skip
            await self._grpc("cancel a run", ask)
            await asyncio.sleep(_POLL)


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
