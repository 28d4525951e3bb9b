"""What the running stand-in knows: workflows, runs, schedules and workers, kept in memory and written to the database.

Everything is written through to one table of documents, so a restarted engine goes on where the last one stopped.
Only single-task workflows are honoured; that is what the product's proof uses.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

import psycopg

from .crons import fires
from .database import Dsn
from .golang import DurationError, parse_duration
from .misbehave import fault

WORKER_LOST_SECONDS = 30.0
WORKER_INACTIVE_SECONDS = 5.0
PARTITION_SECONDS = 60.0
FINAL = ("COMPLETED", "FAILED", "CANCELLED")
# A run is not to be seen, nor to be cancelled, for a moment after it was started.
APPEARS_SECONDS = 0.05
PARTITION_TABLES = ("ControllerPartition", "TenantWorkerPartition", "SchedulerPartition")


class Database:
    """The engine's sessions: one for queries, the others only there so that the server's list of sessions is alike."""

    def __init__(self, dsn: Dsn) -> None:
        self._dsn = dsn
        self._lock = asyncio.Lock()
        self._main: psycopg.AsyncConnection[tuple[Any, ...]] | None = None
        self._others: list[psycopg.AsyncConnection[tuple[Any, ...]]] = []

    async def open(self) -> None:
        """Open the sessions; their application_name is the real engine's, by which others find them."""
        self._main = await self._connect("server")
        self._others = [await self._connect(name) for name in ("server", "server:ddl", "server:pubsub")]

    async def _connect(self, name: str) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        return await psycopg.AsyncConnection.connect("", **self._dsn.connect_keywords(name))

    async def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and give its rows; a lost session is opened anew first.

        Raises:
            psycopg.Error: The database is away, or it refuses the statement.
        """
        async with self._lock:
            if self._main is None or self._main.closed:
                self._main = await self._connect("server")
            try:
                cursor = await self._main.execute(statement.encode(), values)
                return await cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                await self._main.close()
                raise

    async def healthy(self) -> bool:
        """Say whether the database answers."""
        try:
            return await self.rows("SELECT 1") == [(1,)]
        except psycopg.Error:
            return False


@dataclass
class Workflow:
    """A registered workflow and its one task."""

    id: str
    version: str
    tenant: str
    name: str
    task: str
    action: str
    timeout: str = "60s"
    schedule_timeout: str = "5m"
    retries: int = 0
    durable: bool = False
    created: float = field(default_factory=time.time)
    order: int = 1


@dataclass
class Run:
    """One run of a workflow. ``entries`` and ``memos`` are the durable log; times are seconds since the epoch."""

    id: str
    tenant: str
    workflow: str
    input: str
    metadata: dict[str, Any]
    number: int
    status: str = "QUEUED"
    created: float = field(default_factory=time.time)
    queued: float = field(default_factory=time.time)
    started: float | None = None
    finished: float | None = None
    output: str | None = None
    error: str = ""
    worker: str | None = None
    retry: int = 0
    invocation: int = 1
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    memos: dict[str, str] = field(default_factory=dict)

    @property
    def appeared(self) -> bool:
        """Say whether others than its worker know of it yet."""
        return time.time() - self.created > APPEARS_SECONDS

    @property
    def display_name(self) -> str:
        """The name the real engine shows: the workflow's and the milliseconds of its start."""
        return f"{self.workflow}-{int(self.created * 1000)}"


@dataclass
class Schedule:
    """A run that is to start later."""

    id: str
    tenant: str
    workflow: str
    input: str
    metadata: dict[str, Any]
    at: float


@dataclass
class Cron:
    """A run that starts again and again; ``declared`` with its workflow, or made by a client."""

    id: str
    tenant: str
    workflow: str
    name: str
    expression: str
    input: str
    metadata: dict[str, Any]
    declared: bool = False
    created: float = field(default_factory=time.time)


@dataclass
class Worker:
    """A registered worker; ``slots`` per kind, ``default`` and ``durable``."""

    id: str
    tenant: str
    name: str
    actions: list[str]
    slots: dict[str, int]
    runtime: dict[str, str]
    created: float = field(default_factory=time.time)
    heartbeat: float = field(default_factory=time.time)
    paused: bool = False
    gone: bool = False


Listener = Callable[[str, Run], None]


class Store:
    """The state and its rules: assign, time out, take over from lost workers, hold back after a restart."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.workflows: dict[str, Workflow] = {}
        self.runs: dict[str, Run] = {}
        self.schedules: dict[str, Schedule] = {}
        self.crons: dict[str, Cron] = {}
        self._crons_until = int(time.time())
        self.workers: dict[str, Worker] = {}
        self.listening: dict[str, asyncio.Queue[tuple[str, Run]]] = {}
        self.held_until = 0.0
        self._wake = asyncio.Event()
        self._changed = asyncio.Condition()
        self._partition = {table: str(uuid4()) for table in PARTITION_TABLES}
        self.dispatcher = str(uuid4())

    async def load(self) -> None:
        """Read what a predecessor left, and see whether its ghost holds this engine back.

        As the real engine: rows in the partition tables with a heartbeat of the last minute hold for a minute, lease
        rows that have not run out for half a minute. Whoever deletes them before the start spares the wait.
        """
        ghost = float(os.environ.get("STANDIN_GHOST_SECONDS") or 59)
        hold = 0.0
        for table in PARTITION_TABLES:
            young = f'SELECT 1 FROM "{table}" WHERE "lastHeartbeat" > now() - interval \'1 minute\''
            if await self.database.rows(young):
                hold = ghost
        if await self.database.rows('SELECT 1 FROM "Lease" WHERE "expiresAt" > now()'):
            hold = max(hold, ghost / 2)
        self.held_until = time.time() + hold
        kinds: dict[str, tuple[dict[str, Any], type[Any]]] = {
            "workflow": (self.workflows, Workflow),
            "run": (self.runs, Run),
            "schedule": (self.schedules, Schedule),
            "cron": (self.crons, Cron),
            "worker": (self.workers, Worker),
        }
        for kind, number, body in await self.database.rows("SELECT kind, id, body FROM standin_document ORDER BY id"):
            place, cls = kinds[kind]
            place[number] = cls(**body)
        await self._beat_partitions(first=True)
        await self.database.rows(
            'INSERT INTO "Dispatcher" (id, "lastHeartbeatAt") VALUES (%s, now())', (self.dispatcher,)
        )

    async def _beat_partitions(self, *, first: bool = False) -> None:
        for table, number in self._partition.items():
            await self.database.rows(
                f'INSERT INTO "{table}" (id, "lastHeartbeat") VALUES (%s, now()) '
                'ON CONFLICT (id) DO UPDATE SET "lastHeartbeat" = now()',
                (number,),
            )
            if not first:
                await self.database.rows(
                    f'DELETE FROM "{table}" WHERE "lastHeartbeat" < now() - interval \'1 minute\' AND id <> %s',
                    (number,),
                )

    async def _beat(self, ticks: int) -> None:
        await self.database.rows('UPDATE "Dispatcher" SET "lastHeartbeatAt" = now() WHERE id = %s', (self.dispatcher,))
        # The real engine's partitions say that they are alive only once a minute.
        if ticks % 60 == 0:
            await self._beat_partitions()
        if time.time() < self.held_until:
            return
        for table, column in zip(
            PARTITION_TABLES, ("controllerPartitionId", "workerPartitionId", "schedulerPartitionId"), strict=True
        ):
            await self.database.rows(f'UPDATE "Tenant" SET "{column}" = %s', (self._partition[table],))
        active = [worker for worker in self.workers.values() if worker.id in self.listening]
        leases = {(worker.tenant, "WORKER", worker.id) for worker in active}
        leases |= {(worker.tenant, "QUEUE", action) for worker in active for action in worker.actions}
        for lease in sorted(leases):
            await self.database.rows(
                'INSERT INTO "Lease" ("tenantId", kind, "resourceId", "expiresAt") '
                "VALUES (%s, %s, %s, now() + interval '30 seconds') "
                'ON CONFLICT ("tenantId", kind, "resourceId") DO UPDATE SET "expiresAt" = excluded."expiresAt"',
                lease,
            )

    async def save(self, kind: str, item: Workflow | Run | Schedule | Cron | Worker) -> None:
        """Write one item through to the database and wake whoever waits for a change."""
        await self.database.rows(
            'INSERT INTO standin_document (kind, id, "tenantId", body) VALUES (%s, %s, %s, %s) '
            "ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
            (kind, f"{item.tenant}/{item.name}" if isinstance(item, Workflow) else item.id, item.tenant,
             json.dumps(asdict(item))),
        )  # fmt: skip
        self._wake.set()
        async with self._changed:
            self._changed.notify_all()

    async def forget(self, kind: str, item: Schedule | Cron) -> None:
        """Remove a schedule or a cron."""
        (self.schedules if kind == "schedule" else self.crons).pop(item.id, None)
        await self.database.rows("DELETE FROM standin_document WHERE kind = %s AND id = %s", (kind, item.id))

    async def declare_crons(self, workflow: Workflow, expressions: Sequence[str], data: str) -> None:
        """Keep the crons that a workflow is registered with, instead of those of its last registration."""
        known = [
            c for c in self.crons.values() if c.declared and (c.tenant, c.workflow) == (workflow.tenant, workflow.name)
        ]
        for cron in known:
            if cron.expression not in expressions:
                await self.forget("cron", cron)
        for expression in set(expressions) - {cron.expression for cron in known}:
            cron = Cron(str(uuid4()), workflow.tenant, workflow.name, "", expression, data, {}, declared=True)
            self.crons[cron.id] = cron
            await self.save("cron", cron)

    async def save_worker(self, worker: Worker) -> None:
        """Write a worker to its document and to the "Worker" table that others read."""
        await self.database.rows(
            'INSERT INTO "Worker" (id, "tenantId", name, "lastHeartbeatAt", "isActive", "isPaused", "dispatcherId") '
            "VALUES (%s, %s, %s, to_timestamp(%s) AT TIME ZONE 'UTC', %s, %s, %s) ON CONFLICT (id) DO UPDATE SET "
            '"lastHeartbeatAt" = excluded."lastHeartbeatAt", "isActive" = excluded."isActive", '
            '"isPaused" = excluded."isPaused", "dispatcherId" = excluded."dispatcherId", "updatedAt" = now()',
            (worker.id, worker.tenant, worker.name, worker.heartbeat, not worker.gone, worker.paused, self.dispatcher),
        )
        await self.save("worker", worker)

    def workflow(self, tenant: str, name: str) -> Workflow | None:
        """Find a registered workflow by its name."""
        return self.workflows.get(f"{tenant}/{name}")

    async def put_workflow(self, given: Workflow) -> Workflow:
        """Register a workflow, or a new version of it when something differs; give what is registered now."""
        known = self.workflow(given.tenant, given.name)
        if known is not None:
            given.id, given.order, given.created = known.id, known.order, known.created
            same = asdict(known) | {"version": given.version} == asdict(given)
            given.version = known.version if same else given.version
            given.order += 0 if same else 1
        self.workflows[f"{given.tenant}/{given.name}"] = given
        await self.save("workflow", given)
        return given

    async def trigger(self, tenant: str, name: str, data: str, metadata: dict[str, Any]) -> Run:
        """Queue a run.

        Raises:
            KeyError: No such workflow.
        """
        if self.workflow(tenant, name) is None:
            raise KeyError(name)
        number = 1 + max((run.number for run in self.runs.values()), default=0)
        run = Run(str(uuid4()), tenant, name, data or "{}", metadata, number)
        self.runs[run.id] = run
        await self.save("run", run)
        return run

    async def finish(self, run: Run, status: str, *, output: str | None = None, error: str = "") -> None:
        """End a run, unless it ended before."""
        if run.status not in FINAL:
            run.status, run.output, run.error, run.finished = status, output, error, time.time()
            if run.worker is not None:
                # A worker's "started" can be overtaken by its "completed".
                run.started = run.started or run.finished
            await self.save("run", run)

    async def cancel(self, run: Run) -> None:
        """Cancel a run and tell its worker; one that has not appeared yet goes on."""
        if run.status in FINAL or not run.appeared:
            return
        self.tell(run, "cancel")
        await self.finish(run, "CANCELLED")

    def tell(self, run: Run, what: str) -> None:
        """Put a start or a cancel on the stream of the run's worker."""
        queue = self.listening.get(run.worker or "")
        if queue is not None:
            queue.put_nowait((what, run))

    async def until_final(self, run: Run) -> None:
        """Wait until a run has ended."""
        async with self._changed:
            await self._changed.wait_for(lambda: run.status in FINAL)

    async def changes(self, run: Run) -> AsyncIterator[str]:
        """Give every status of a run from now on, the present one first, until it is final."""
        last = ""
        while last not in FINAL:
            async with self._changed:
                before = last
                await self._changed.wait_for(lambda: run.status != before)  # noqa: B023
                last = run.status
            yield last

    def _free(self, worker: Worker, kind: str) -> int:
        taken = sum(
            1
            for run in self.runs.values()
            if run.worker == worker.id and run.status not in FINAL and self._kind(run) == kind
        )
        return worker.slots.get(kind, 0) - taken

    def _kind(self, run: Run) -> str:
        workflow = self.workflow(run.tenant, run.workflow)
        return "durable" if workflow is not None and workflow.durable else "default"

    def is_active(self, worker: Worker) -> bool:
        """Say whether a worker listens and was heard of in the last five seconds."""
        return not worker.gone and time.time() - worker.heartbeat < WORKER_INACTIVE_SECONDS

    async def _assign(self) -> None:
        if time.time() < self.held_until or fault("lite.no-dispatch"):
            return
        waiting = sorted(
            (run for run in self.runs.values() if run.status == "QUEUED" and run.worker is None),
            key=lambda run: run.number,
        )
        for run in waiting:
            workflow, kind = self.workflow(run.tenant, run.workflow), self._kind(run)
            fitting = [
                worker
                for worker in self.workers.values()
                if workflow is not None
                and worker.id in self.listening
                and not worker.paused
                and self.is_active(worker)
                and worker.tenant == run.tenant
                and workflow.action in worker.actions
                and self._free(worker, kind) > 0
            ]
            if fitting:
                # The work is spread: whoever has most room gets the next.
                run.worker = max(fitting, key=lambda worker: self._free(worker, kind)).id
                self.tell(run, "start")
                await self.save("run", run)

    async def requeue(self, run: Run) -> None:
        """Put a run back into the queue, for another attempt or because its worker is lost."""
        run.status, run.worker, run.queued = "QUEUED", None, time.time()
        run.retry += 1
        run.invocation += 1
        await self.save("run", run)

    async def _tick(self) -> None:
        now = time.time()
        seconds_passed, self._crons_until = range(self._crons_until + 1, int(now) + 1), int(now)
        for second in seconds_passed:
            for cron in [item for item in self.crons.values() if fires(item.expression, second)]:
                told = {
                    "hatchet__cron_expression": cron.expression,
                    "hatchet__cron_name": cron.name,
                    "hatchet__cron_scheduled_at": datetime.fromtimestamp(second, timezone.utc).strftime(
                        "%Y-%m-%dT%H:%M:%SZ"
                    ),
                }
                await self.trigger(cron.tenant, cron.workflow, cron.input, cron.metadata | told)
        for schedule in [item for item in self.schedules.values() if item.at <= now]:
            await self.forget("schedule", schedule)
            await self.trigger(schedule.tenant, schedule.workflow, schedule.input, schedule.metadata)
        for run in [item for item in self.runs.values() if item.status not in FINAL]:
            workflow = self.workflow(run.tenant, run.workflow)
            worker = self.workers.get(run.worker or "")
            if run.worker and (worker is None or worker.gone or now - worker.heartbeat > WORKER_LOST_SECONDS):
                await self.requeue(run)
            elif workflow is None:
                continue
            elif run.worker is None and now - run.queued > seconds(workflow.schedule_timeout, 300):
                await self.finish(run, "FAILED")
            elif run.started and run.worker and now - run.started > seconds(workflow.timeout, 60):
                self.tell(run, "cancel")
                await self.finish(run, "FAILED", error="Task exceeded timeout of " + workflow.timeout)

    async def serve(self) -> None:
        """Assign, time out and beat until cancelled; while the database is away nothing moves."""
        ticks, next_tick = 0, time.monotonic() + 1
        while True:
            try:
                self._wake.clear()
                await self._assign()
                if time.monotonic() >= next_tick:
                    ticks, next_tick = ticks + 1, time.monotonic() + 1
                    if ticks % 5 == 0:
                        await self._beat(ticks)
                due = min((item.at for item in self.schedules.values()), default=time.time() + 1)
                if due <= time.time() or ticks:
                    await self._tick()
                delay = min(next_tick - time.monotonic(), due - time.time(), 0.5)
            except psycopg.Error:
                delay = 0.5
            try:
                await asyncio.wait_for(self._wake.wait(), max(delay, 0.01))
            except asyncio.TimeoutError:
                continue


def seconds(text: str, default: float) -> float:
    """Read a Go duration, or give the default when it is empty or broken."""
    try:
        return parse_duration(text) if text else default
    except DurationError:
        return default


def rfc3339(moment: float | None) -> str | None:
    """Write seconds since the epoch as the REST API writes times."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
