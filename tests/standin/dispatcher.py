"""The gRPC side of the stand-in: the services hatchet-sdk 1.43.1 calls, served with its own generated classes."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, NoReturn
from uuid import UUID, uuid4

import grpc
import grpc.aio
import psycopg

from .authority import Authority, bearer
from .contracts import (
    dispatcher_pb2,
    dispatcher_pb2_grpc,
    events_pb2,
    events_pb2_grpc,
    v1_dispatcher_pb2,
    v1_dispatcher_pb2_grpc,
    v1_workflows_pb2,
    v1_workflows_pb2_grpc,
    workflows_pb2,
    workflows_pb2_grpc,
)
from .misbehave import fault, version
from .rest import payload
from .store import FINAL, Run, Schedule, Store, Worker, Workflow, seconds
from .tokens import TokenRefusedError

# Generated classes carry no types that the type checker could follow through a dynamic import.
Message = Any
Context = Any

_NAME = re.compile(r"[a-zA-Z0-9.\-_]+")
_NAME_RULE = r"Hatchet names must match the regex ^[a-zA-Z0-9\.\-_]+$"
_STEP = dispatcher_pb2.StepActionEventType


def _timestamp(moment: float) -> Message:
    whole = int(moment)
    kind = workflows_pb2.ScheduledWorkflow().trigger_at.__class__
    return kind(seconds=whole, nanos=int((moment - whole) * 1e9))


class _Service:
    """What every service has: the store and the check of the token."""

    def __init__(self, store: Store, authority: Authority) -> None:
        self._store = store
        self._authority = authority

    async def _tenant(self, context: Context) -> str:
        token = bearer(dict(context.invocation_metadata() or ()))
        if token is None:
            return await _abort(context, grpc.StatusCode.UNAUTHENTICATED, "invalid auth token")
        try:
            return await self._authority.tenant(token)
        except TokenRefusedError:
            return await _abort(context, grpc.StatusCode.UNAUTHENTICATED, "invalid auth token")

    async def _run(self, context: Context, tenant: str, number: str) -> Run:
        run = self._store.runs.get(number)
        if run is None or run.tenant != tenant:
            return await _abort(context, grpc.StatusCode.NOT_FOUND, "workflow run not found")
        return run

    async def _seen(self, context: Context, tenant: str, number: str) -> Run:
        """Give a run that a client asks for, which does not see it at once."""
        try:
            UUID(number)
        except ValueError:
            return await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "invalid external id")
        run = await self._run(context, tenant, number)
        if not run.appeared:
            return await _abort(context, grpc.StatusCode.NOT_FOUND, "workflow run not found")
        return run

    async def _worker(self, context: Context, tenant: str, number: str) -> Worker:
        worker = self._store.workers.get(number)
        if worker is None or worker.tenant != tenant:
            return await _abort(context, grpc.StatusCode.NOT_FOUND, f"worker not found: {number}")
        return worker


async def _abort(context: Context, code: grpc.StatusCode, text: str) -> NoReturn:
    await context.abort(code, text)
    raise AssertionError("abort always raises")


class Dispatcher(_Service, dispatcher_pb2_grpc.DispatcherServicer):  # type: ignore[misc, name-defined, unused-ignore]
    """Workers: register, listen, beat, report; and whoever waits for a run's end."""

    async def GetVersion(self, request: Message, context: Context) -> Message:
        """Say the engine's version to whoever has a good token."""
        await self._tenant(context)
        return dispatcher_pb2.GetVersionResponse(version=version())

    async def Register(self, request: Message, context: Context) -> Message:
        """Take in a worker."""
        tenant = await self._tenant(context)
        runtime = request.runtime_info
        worker = Worker(
            id=str(uuid4()),
            tenant=tenant,
            name=request.worker_name,
            actions=list(request.actions),
            slots=dict(request.slot_config) or {"default": request.slots or 100, "durable": 1000},
            runtime={
                "language": dispatcher_pb2.SDKS.Name(runtime.language),
                "languageVersion": runtime.language_version,
                "os": runtime.os,
                "runtimeExtra": runtime.extra,
                "sdkVersion": runtime.sdk_version,
            },
        )
        self._store.workers[worker.id] = worker
        await self._store.save_worker(worker)
        return dispatcher_pb2.WorkerRegisterResponse(
            tenant_id=tenant, worker_id=worker.id, worker_name=request.worker_name
        )

    async def ListenV2(self, request: Message, context: Context) -> AsyncIterator[Message]:
        """Send a worker its starts and cancels for as long as it listens."""
        tenant = await self._tenant(context)
        worker = await self._worker(context, tenant, request.worker_id)
        queue: asyncio.Queue[tuple[str, Run]] = asyncio.Queue()
        self._store.listening[worker.id] = queue
        worker.gone = False
        await self._store.save_worker(worker)
        try:
            while True:
                what, run = await queue.get()
                action = self._assigned(run, what)
                if action is not None:
                    yield action
        finally:
            if self._store.listening.get(worker.id) is queue:
                del self._store.listening[worker.id]

    Listen = ListenV2

    def _assigned(self, run: Run, what: str) -> Message | None:
        workflow = self._store.workflow(run.tenant, run.workflow)
        if workflow is None:
            return None
        action = dispatcher_pb2.AssignedAction(
            tenant_id=run.tenant,
            workflow_run_id=run.id,
            job_id=workflow.version,
            job_name=workflow.name,
            job_run_id=run.id,
            task_id=workflow.version,
            task_run_external_id=run.id,
            action_id=workflow.action,
            task_name=workflow.task,
            retry_count=run.retry,
            additional_metadata=json.dumps(run.metadata),
            priority=1,
            workflow_id=workflow.id,
            workflow_version_id=workflow.version,
        )
        if what == "cancel":
            action.action_type = dispatcher_pb2.ActionType.CANCEL_STEP_RUN
            return action
        action.action_payload = json.dumps(payload(run))
        if workflow.durable:
            action.durable_task_invocation_count = run.invocation
        return action

    async def Heartbeat(self, request: Message, context: Context) -> Message:
        """Note that a worker is alive."""
        worker = await self._worker(context, await self._tenant(context), request.worker_id)
        worker.heartbeat = time.time()
        await self._store.save_worker(worker)
        return dispatcher_pb2.HeartbeatResponse()

    async def Unsubscribe(self, request: Message, context: Context) -> Message:
        """Let a worker go; what it still had goes back into the queue."""
        tenant = await self._tenant(context)
        worker = await self._worker(context, tenant, request.worker_id)
        worker.gone = True
        self._store.listening.pop(worker.id, None)
        await self._store.save_worker(worker)
        return dispatcher_pb2.WorkerUnsubscribeResponse(tenant_id=tenant, worker_id=worker.id)

    async def SendStepActionEvent(self, request: Message, context: Context) -> Message:
        """Take in what a worker says about a task: started, completed, failed, cancelled."""
        tenant = await self._tenant(context)
        run = await self._run(context, tenant, request.task_run_external_id)
        kind = request.event_type
        current = run.worker == request.worker_id and request.retry_count == run.retry
        if current and run.status not in FINAL:
            await self._report(run, kind, request)
        return dispatcher_pb2.ActionEventResponse(tenant_id=tenant, worker_id=request.worker_id)

    async def _report(self, run: Run, kind: int, request: Message) -> None:
        if kind in (_STEP.Value("STEP_EVENT_TYPE_STARTED"), _STEP.Value("STEP_EVENT_TYPE_ACKNOWLEDGED")):
            run.status, run.started = "RUNNING", run.started or time.time()
            await self._store.save("run", run)
        elif kind == _STEP.Value("STEP_EVENT_TYPE_COMPLETED") and fault("lite.fail-runs"):
            await self._store.finish(run, "FAILED", error="told to fail")
        elif kind == _STEP.Value("STEP_EVENT_TYPE_COMPLETED"):
            await self._store.finish(run, "COMPLETED", output=request.event_payload or None)
        elif kind == _STEP.Value("STEP_EVENT_TYPE_CANCELLED"):
            await self._store.finish(run, "CANCELLED")
        elif kind == _STEP.Value("STEP_EVENT_TYPE_FAILED"):
            workflow = self._store.workflow(run.tenant, run.workflow)
            if workflow is not None and run.retry < workflow.retries and not request.should_not_retry:
                await self._store.requeue(run)
            else:
                await self._store.finish(run, "FAILED", error=request.event_payload)

    async def SubscribeToWorkflowRuns(
        self, request_iterator: AsyncIterator[Message], context: Context
    ) -> AsyncIterator[Message]:
        """Send the end of every run that is asked for on the stream."""
        tenant = await self._tenant(context)
        ended: asyncio.Queue[Run | None] = asyncio.Queue()
        waiting: dict[str, asyncio.Task[None]] = {}

        async def watch(run: Run) -> None:
            await self._store.until_final(run)
            ended.put_nowait(run)

        async def take() -> None:
            async for request in request_iterator:
                run = self._store.runs.get(request.workflow_run_id)
                known = waiting.get(request.workflow_run_id)
                if run is not None and run.tenant == tenant and (known is None or known.done()):
                    waiting[run.id] = asyncio.create_task(watch(run))
            # A client that has said all it wants still gets what it waits for.
            await asyncio.gather(*waiting.values(), return_exceptions=True)
            ended.put_nowait(None)

        taking = asyncio.create_task(take())
        try:
            while (run := await ended.get()) is not None:
                yield self._end_of(run)
        finally:
            taking.cancel()
            for task in waiting.values():
                task.cancel()

    def _end_of(self, run: Run) -> Message:
        workflow = self._store.workflow(run.tenant, run.workflow)
        result = dispatcher_pb2.StepRunResult(
            task_run_external_id=run.id, task_name=workflow.task if workflow else run.workflow, job_run_id=run.id
        )
        if run.status == "COMPLETED":
            result.output = run.output or ""
        elif run.status == "FAILED":
            result.error = run.error
        # A cancelled run has neither.
        event = dispatcher_pb2.WorkflowRunEvent(workflow_run_id=run.id, results=[result])
        event.event_timestamp.CopyFrom(_timestamp(run.finished or time.time()))
        return event

    async def SubscribeToWorkflowEvents(self, request: Message, context: Context) -> AsyncIterator[Message]:
        """Send every change of one run, and hang up after its end."""
        tenant = await self._tenant(context)
        run = await self._run(context, tenant, request.workflow_run_id)
        kinds = {"RUNNING": "STARTED", "COMPLETED": "COMPLETED", "FAILED": "FAILED", "CANCELLED": "CANCELLED"}
        async for status in self._store.changes(run):
            if status not in kinds:
                continue
            for resource in ("STEP_RUN", *(("WORKFLOW_RUN",) if status in FINAL else ())):
                event = dispatcher_pb2.WorkflowEvent(
                    workflow_run_id=run.id,
                    resource_type=dispatcher_pb2.ResourceType.Value(f"RESOURCE_TYPE_{resource}"),
                    event_type=dispatcher_pb2.ResourceEventType.Value(f"RESOURCE_EVENT_TYPE_{kinds[status]}"),
                    resource_id=run.id,
                    event_payload=run.output or run.error or "",
                    hangup=resource == "WORKFLOW_RUN",
                )
                event.event_timestamp.CopyFrom(_timestamp(time.time()))
                yield event

    async def RefreshTimeout(self, request: Message, context: Context) -> Message:
        """Give a running task more time."""
        run = await self._run(context, await self._tenant(context), request.task_run_external_id)
        run.started = time.time() + seconds(request.increment_timeout_by, 0)
        await self._store.save("run", run)
        return dispatcher_pb2.RefreshTimeoutResponse(timeout_at=_timestamp(run.started))

    async def ReleaseSlot(self, request: Message, context: Context) -> Message:
        """Take note; slots are counted by running tasks here."""
        await self._tenant(context)
        return dispatcher_pb2.ReleaseSlotResponse()

    async def UpsertWorkerLabels(self, request: Message, context: Context) -> Message:
        """Take note; labels choose no workers here."""
        tenant = await self._tenant(context)
        return dispatcher_pb2.UpsertWorkerLabelsResponse(tenant_id=tenant, worker_id=request.worker_id)


class _Durable:
    """One worker's durable stream: answers come in the order things happen, also after the request has ended."""

    def __init__(self, store: Store, tenant: str) -> None:
        self._store = store
        self._tenant = tenant
        self._nodes: dict[tuple[str, int], int] = {}
        self._sleeping: dict[tuple[str, int, int], asyncio.Task[None]] = {}
        self.answers: asyncio.Queue[Message | None] = asyncio.Queue()

    def close(self) -> None:
        """Forget the sleeps of this stream; their log is in the store."""
        for task in self._sleeping.values():
            task.cancel()

    def _put(self, **message: Message) -> None:
        self.answers.put_nowait(v1_dispatcher_pb2.DurableTaskResponse(**message))

    def _next(self, run: Run, invocation: int) -> tuple[int, Message]:
        key = (run.id, invocation)
        node = self._nodes[key] = self._nodes.get(key, 0) + 1
        return node, self._reference(run.id, invocation, node)

    @staticmethod
    def _reference(number: str, invocation: int, node: int) -> Message:
        return v1_dispatcher_pb2.DurableEventLogEntryRef(
            durable_task_external_id=number, invocation_count=invocation, branch_id=1, node_id=node
        )

    async def take(self, request: Message) -> None:
        """Do what one request asks."""
        which = request.WhichOneof("message")
        body: Message = getattr(request, which) if which else None
        if which == "register_worker":
            self._put(register_worker=v1_dispatcher_pb2.DurableTaskResponseRegisterWorker(worker_id=body.worker_id))
        elif which == "worker_status":
            for entry in body.waiting_entries:
                await self._resume(entry.durable_task_external_id, entry.invocation_count, entry.node_id)
        elif which == "evict_invocation":
            number, count = body.durable_task_external_id, body.invocation_count
            ack = v1_dispatcher_pb2.DurableTaskEvictionAckResponse
            self._put(eviction_ack=ack(invocation_count=count, durable_task_external_id=number))
        elif which == "complete_memo":
            run = self._store.runs.get(body.ref.durable_task_external_id)
            if run is not None:
                run.memos[body.memo_key.hex()] = body.payload.decode()
                await self._store.save("run", run)
        elif body is not None:
            run = self._store.runs.get(body.durable_task_external_id)
            if run is not None and run.tenant == self._tenant:
                await {"wait_for": self._wait, "memo": self._memo, "trigger_runs": self._children}[which](run, body)

    async def _wait(self, run: Run, body: Message) -> None:
        node, reference = self._next(run, body.invocation_count)
        entry = run.entries.get(str(node))
        if entry is None:
            sleeps = list(body.wait_for_conditions.sleep_conditions)
            first = min(sleeps, key=lambda item: seconds(item.sleep_for, 0)) if sleeps else None
            entry = {"until": None, "payload": {}}
            if first is not None:
                told = {first.base.readable_data_key: [{"sleep_duration": first.sleep_for}]}
                entry = {"until": time.time() + seconds(first.sleep_for, 0), "payload": {"CREATE": told}}
            run.entries[str(node)] = entry
            await self._store.save("run", run)
        self._put(wait_for_ack=v1_dispatcher_pb2.DurableTaskEventWaitForAckResponse(ref=reference))
        await self._resume(run.id, body.invocation_count, node)

    async def _resume(self, number: str, invocation: int, node: int) -> None:
        """See to it that a waiting entry is told when its time has come; asked twice it is told twice."""
        run = self._store.runs.get(number)
        entry = run.entries.get(str(node)) if run is not None else None
        key = (number, invocation, node)
        known = self._sleeping.get(key)
        if entry is not None and (known is None or known.done()):
            self._sleeping[key] = asyncio.create_task(self._complete(entry, self._reference(number, invocation, node)))

    async def _complete(self, entry: dict[str, Any], reference: Message) -> None:
        if entry.get("child"):
            child = self._store.runs[entry["child"]]
            await self._store.until_final(child)
            done = v1_dispatcher_pb2.DurableTaskEventLogEntryCompletedResponse(ref=reference)
            if child.status == "COMPLETED":
                done.payload = (child.output or "null").encode()
            else:
                done.is_failure, done.error_message = True, child.error or child.status
            self._put(entry_completed=done)
        elif entry["until"] is not None:
            await asyncio.sleep(max(0.0, entry["until"] - time.time()))
            body = json.dumps(entry["payload"]).encode()
            done = v1_dispatcher_pb2.DurableTaskEventLogEntryCompletedResponse(ref=reference, payload=body)
            self._put(entry_completed=done)

    async def _memo(self, run: Run, body: Message) -> None:
        _, reference = self._next(run, body.invocation_count)
        known = run.memos.get(body.key.hex())
        ack = v1_dispatcher_pb2.DurableTaskEventMemoAckResponse(ref=reference, memo_already_existed=known is not None)
        if known is not None:
            ack.memo_result_payload = known.encode()
        self._put(memo_ack=ack)

    async def _children(self, run: Run, body: Message) -> None:
        entries = []
        for wanted in body.trigger_opts:
            node, _ = self._next(run, body.invocation_count)
            if str(node) not in run.entries:
                metadata = json.loads(wanted.additional_metadata or "{}")
                child = await self._store.trigger(self._tenant, wanted.name, wanted.input, metadata)
                run.entries[str(node)] = {"child": child.id}
                await self._store.save("run", run)
            entries.append(
                v1_dispatcher_pb2.DurableTaskRunAckEntry(
                    node_id=node, branch_id=1, workflow_run_external_id=run.entries[str(node)]["child"]
                )
            )
            await self._resume(run.id, body.invocation_count, node)
        self._put(
            trigger_runs_ack=v1_dispatcher_pb2.DurableTaskEventTriggerRunsAckResponse(
                durable_task_external_id=run.id, invocation_count=body.invocation_count, run_entries=entries
            )
        )


class V1Dispatcher(_Service, v1_dispatcher_pb2_grpc.V1DispatcherServicer):  # type: ignore[misc, name-defined, unused-ignore]
    """Durable tasks."""

    async def DurableTask(self, request_iterator: AsyncIterator[Message], context: Context) -> AsyncIterator[Message]:
        """Serve one worker's durable waits, memos and children."""
        durable = _Durable(self._store, await self._tenant(context))

        async def take() -> None:
            try:
                async for request in request_iterator:
                    with suppress(psycopg.Error, KeyError):
                        await durable.take(request)
            finally:
                durable.answers.put_nowait(None)

        taking = asyncio.create_task(take())
        try:
            while (answer := await durable.answers.get()) is not None:
                yield answer
        finally:
            taking.cancel()
            durable.close()


class AdminService(_Service, v1_workflows_pb2_grpc.AdminServiceServicer):  # type: ignore[misc, name-defined, unused-ignore]
    """Workflows, and runs by the newer service."""

    async def PutWorkflow(self, request: Message, context: Context) -> Message:
        """Register a workflow; more than one task is refused, which the real engine of course honours."""
        tenant = await self._tenant(context)
        if len(request.tasks) != 1:
            await _abort(context, grpc.StatusCode.UNIMPLEMENTED, "the stand-in runs workflows of one task only")
        task = request.tasks[0]
        wrong = [
            f"validation failed on field 'CreateWorkflowVersionOpts.{field}': {_NAME_RULE}"
            for field, name in (("Name", request.name), ("Tasks[0].ReadableId", task.readable_id))
            if not _NAME.fullmatch(name)
        ]
        if wrong:
            lines = "".join(f"{number}: {text}\n" for number, text in enumerate(wrong))
            await _abort(
                context, grpc.StatusCode.INVALID_ARGUMENT, f"Validation failed with the following errors:\n{lines}"
            )
        workflow = await self._store.put_workflow(
            Workflow(
                id=str(uuid4()),
                version=str(uuid4()),
                tenant=tenant,
                name=request.name,
                task=task.readable_id,
                action=task.action,
                timeout=task.timeout,
                schedule_timeout=task.schedule_timeout,
                retries=task.retries,
                durable=task.is_durable,
            )
        )
        await self._store.declare_crons(workflow, list(request.cron_triggers), request.cron_input or "{}")
        return v1_workflows_pb2.CreateWorkflowVersionResponse(id=workflow.version, workflow_id=workflow.id)

    async def TriggerWorkflowRun(self, request: Message, context: Context) -> Message:
        """Queue a run."""
        tenant = await self._tenant(context)
        metadata = json.loads(request.additional_metadata or b"{}")
        try:
            run = await self._store.trigger(tenant, request.workflow_name, request.input.decode(), metadata)
        except KeyError:
            return await _abort(context, grpc.StatusCode.NOT_FOUND, f"workflow not found: {request.workflow_name}")
        return v1_workflows_pb2.TriggerWorkflowRunResponse(external_id=run.id)

    async def CancelTasks(self, request: Message, context: Context) -> Message:
        """Cancel runs by their ids."""
        tenant = await self._tenant(context)
        for number in request.external_ids:
            try:
                UUID(number)
            except ValueError:
                await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, "invalid external id")
            run = self._store.runs.get(number)
            if run is not None and run.tenant == tenant:
                await self._store.cancel(run)
        return v1_workflows_pb2.CancelTasksResponse(cancelled_tasks=request.external_ids)

    async def GetRunDetails(self, request: Message, context: Context) -> Message:
        """Describe a run; the SDK's synchronous ``result()`` polls this."""
        run = await self._seen(context, await self._tenant(context), request.external_id)
        workflow = self._store.workflow(run.tenant, run.workflow)
        name = workflow.task if workflow else run.workflow
        # One that no worker took in time has failed for REST alone.
        untaken = run.status == "FAILED" and run.started is None
        status = v1_workflows_pb2.RunStatus.Value("CANCELLED" if untaken else run.status)
        detail = v1_workflows_pb2.TaskRunDetail(external_id=run.id, status=status, readable_id=name)
        if run.output:
            detail.output = run.output.encode()
        if run.error:
            detail.error = run.error
        return v1_workflows_pb2.GetRunDetailsResponse(
            input=run.input.encode(),
            status=status,
            task_runs={name: detail},
            done=run.status in FINAL,
            additional_metadata=json.dumps(run.metadata).encode(),
        )


class WorkflowService(_Service, workflows_pb2_grpc.WorkflowServiceServicer):  # type: ignore[misc, name-defined, unused-ignore]
    """Runs, now and later."""

    async def _trigger(self, tenant: str, request: Message, context: Context) -> str:
        try:
            metadata = json.loads(request.additional_metadata or "{}")
            return (await self._store.trigger(tenant, request.name, request.input, metadata)).id
        except KeyError:
            text = "could not trigger workflow: rpc error: code = InvalidArgument desc = workflow names not found: "
            return await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, text + request.name)

    async def TriggerWorkflow(self, request: Message, context: Context) -> Message:
        """Queue a run."""
        number = await self._trigger(await self._tenant(context), request, context)
        return workflows_pb2.TriggerWorkflowResponse(workflow_run_id=number)

    async def BulkTriggerWorkflow(self, request: Message, context: Context) -> Message:
        """Queue several runs."""
        tenant = await self._tenant(context)
        numbers = [await self._trigger(tenant, item, context) for item in request.workflows]
        return workflows_pb2.BulkTriggerWorkflowResponse(workflow_run_ids=numbers)

    async def ScheduleWorkflow(self, request: Message, context: Context) -> Message:
        """Note runs for later."""
        tenant = await self._tenant(context)
        workflow = self._store.workflow(tenant, request.name)
        if workflow is None:
            return await _abort(context, grpc.StatusCode.NOT_FOUND, "workflow not found")
        scheduled = []
        for moment in request.schedules:
            at = moment.seconds + moment.nanos / 1e9
            metadata = json.loads(request.additional_metadata or "{}")
            schedule = Schedule(str(uuid4()), tenant, workflow.name, request.input or "{}", metadata, at)
            self._store.schedules[schedule.id] = schedule
            await self._store.save("schedule", schedule)
            scheduled.append(workflows_pb2.ScheduledWorkflow(id=schedule.id, trigger_at=_timestamp(at)))
        return workflows_pb2.WorkflowVersion(
            id=workflow.version,
            created_at=_timestamp(workflow.created),
            updated_at=_timestamp(workflow.created),
            order=workflow.order,
            workflow_id=workflow.id,
            scheduled_workflows=scheduled,
        )

    async def PutRateLimit(self, request: Message, context: Context) -> Message:
        """Take note; nothing is limited here."""
        await self._tenant(context)
        return workflows_pb2.PutRateLimitResponse()


class EventsService(_Service, events_pb2_grpc.EventsServiceServicer):  # type: ignore[misc, name-defined, unused-ignore]
    """Log lines of tasks, which workers send by themselves; events start nothing here."""

    async def PutLog(self, request: Message, context: Context) -> Message:
        """Take a log line and drop it."""
        await self._tenant(context)
        return events_pb2.PutLogResponse()


class _StoreFailures(grpc.aio.ServerInterceptor):  # type: ignore[misc, type-arg, unused-ignore]
    """Keeps the database's texts out of answers: a lost database is INTERNAL, as it is with the real engine."""

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        inner = handler.unary_unary

        async def guarded(request: Message, context: Context) -> Message:
            try:
                return await inner(request, context)
            except psycopg.Error:
                return await _abort(context, grpc.StatusCode.INTERNAL, "internal server error")

        return grpc.unary_unary_rpc_method_handler(
            guarded,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


async def serve(address: str, store: Store, authority: Authority) -> Any:
    """Start the gRPC server on ``host:port``.

    Returns:
        The server, which must be kept.

    Raises:
        OSError: The port is taken.
    """
    options = [
        ("grpc.so_reuseport", 0),
        # The SDK pings every 10 s; grpc's default would end such a connection.
        ("grpc.http2.min_ping_interval_without_data_ms", 5000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ]
    server = grpc.aio.server(options=options, interceptors=[_StoreFailures()])
    dispatcher_pb2_grpc.add_DispatcherServicer_to_server(Dispatcher(store, authority), server)
    v1_dispatcher_pb2_grpc.add_V1DispatcherServicer_to_server(V1Dispatcher(store, authority), server)
    v1_workflows_pb2_grpc.add_AdminServiceServicer_to_server(AdminService(store, authority), server)
    workflows_pb2_grpc.add_WorkflowServiceServicer_to_server(WorkflowService(store, authority), server)
    events_pb2_grpc.add_EventsServiceServicer_to_server(EventsService(store, authority), server)
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(str(error)) from None
    if bound == 0:
        raise OSError(f"cannot bind {address}")
    await server.start()
    return server
