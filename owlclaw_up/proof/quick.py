"""The quick proofs: connect, register, a task, a durable sleep, both found again over REST."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from owlclaw_up.client import ClientError, ResultTimeout, TaskRun, TaskStatus
from owlclaw_up.client.runs import FINAL
from owlclaw_up.client.sdk import sdk_config
from owlclaw_up.proof.talk import Failed, Proofs, WorkerEnded, progress
from owlclaw_up.proof.tasks import ProofTasks
from owlclaw_up.proof.workers import WorkerProcess

if TYPE_CHECKING:
    from hatchet_sdk import Hatchet

METADATA_KEY = "owlclaw_up_smoke"
SLEEP_SECONDS = 1
POLL = 0.05
_CONNECT_SECONDS = 15.0
# A task that takes longer than this waits for more than its worker.
_PATIENT_SECONDS = 8.0


@dataclass
class Session:
    """One smoke test.

    Attributes:
        mark: tells its runs and workers from everybody else's.
        end: `time.monotonic()` at which every wait is over.
        workers: those that are told to work; a killed one is taken out.
    """

    tasks: ProofTasks
    mark: str
    end: float
    workers: list[WorkerProcess] = field(default_factory=list)
    proofs: Proofs = field(default_factory=Proofs)

    @cached_property
    def hatchet(self) -> Hatchet:
        """hatchet-sdk's own client, for what an application never asks: the engine's version, its workers."""
        from hatchet_sdk import Hatchet

        return Hatchet(config=sdk_config(self.tasks.client.config))

    @property
    def metadata(self) -> dict[str, str]:
        return {METADATA_KEY: self.mark}

    def left(self, at_most: float = 1e9) -> float:
        """Seconds left, at least a tenth."""
        return min(at_most, max(0.1, self.end - time.monotonic()))

    async def result(self, run: TaskRun, what: str) -> dict[str, Any]:
        """A run's output; says where it hangs once its time is over, or all its workers have died."""
        patient = time.monotonic() + _PATIENT_SECONDS
        while True:
            try:
                return await run.result(timeout=self.left(1.0))
            except ResultTimeout:
                pass
            if time.monotonic() > patient:
                progress(f"{what} waits; an engine that was restarted hands out work after a minute")
            dead = [w.exit_code for w in self.workers if w.exit_code is not None]
            if self.workers and len(dead) == len(self.workers):
                raise WorkerEnded("dispatch", dead[0])
            if time.monotonic() > self.end:
                status = await self._status(run)
                raise Failed("dispatch" if status == "QUEUED" else "result", f"{what} is {status} after its time")

    async def until(self, run: TaskRun, *wanted: str) -> TaskStatus:
        """Wait until a run has one of these statuses."""
        while True:
            status = None
            with contextlib.suppress(ClientError):
                status = await self.tasks.client.get_task_status(run)
            if status is not None and status.status in wanted:
                return status
            ended = status is not None and status.status in FINAL
            if ended or time.monotonic() > self.end:
                raise Failed(
                    "result", f"the run is {status.status if status else 'unknown'}, not {' or '.join(wanted)}"
                )
            await asyncio.sleep(POLL)

    async def _status(self, run: TaskRun) -> str:
        try:
            return (await asyncio.wait_for(self.tasks.client.get_task_status(run), 2)).status
        except (ClientError, asyncio.TimeoutError) as error:
            return f"unknown ({type(error).__name__})"

    async def registered(self, *names: str) -> None:
        """Wait until workers are listed. A run that is triggered while its task is being registered is lost by the engine."""
        while True:
            listed = (await self.hatchet.workers.aio_list()).rows or []
            active = {w.name for w in listed if w.status == "ACTIVE"}
            if all(any(name in other for other in active) for name in names):
                return
            for worker in self.workers:
                if worker.exit_code is not None:
                    raise WorkerEnded("registration", worker.exit_code)
            if time.monotonic() > self.end:
                raise Failed("registration", "the worker did not register in time")
            await asyncio.sleep(POLL)


async def quick(session: Session) -> bool:
    """Every quick proof; False once one has failed."""
    tasks, prove = session.tasks, session.proofs.prove
    client = tasks.client

    async def connect() -> tuple[str, str]:
        await client.connect(timeout=session.left(_CONNECT_SECONDS))
        version = str(await asyncio.wait_for(session.hatchet.aio_get_engine_version(), session.left(_CONNECT_SECONDS)))
        return version, f"engine {version} takes the token"

    if await prove("connect", connect) is None:
        return False

    async def registered() -> tuple[bool, str]:
        await session.registered(session.workers[0].name)
        return True, "the worker is registered"

    if await prove("register", registered) is None:
        return False

    runs: dict[str, TaskRun] = {}

    async def ran() -> tuple[bool, str]:
        sleep = {"seconds": SLEEP_SECONDS}
        runs["nap"] = await client.run_task_now(tasks.nap, sleep, metadata=session.metadata)
        runs["ping"] = await client.run_task_now(tasks.ping, metadata=session.metadata)
        answer = await session.result(runs["ping"], "the task")
        if answer.get("pong") != "1":
            raise Failed("result", f"the task answered {answer!r}")
        return True, "a worker ran it and its result came back"

    await prove("run", ran)

    async def slept() -> tuple[bool, str]:
        if "nap" not in runs:
            raise Failed("dispatch", "it could not be triggered")
        await session.result(runs["nap"], "the durable sleep")
        return True, f"a durable sleep of {SLEEP_SECONDS} s ended"

    await prove("durable_sleep", slept)

    async def listed() -> tuple[bool, str]:
        """REST is fed by a pipeline of its own, a moment behind."""
        last = "no run was triggered"
        while runs:
            found = await client.list_tasks(since=timedelta(minutes=10), metadata=session.metadata, limit=10)
            if len(found) >= len(runs):
                return True, f"found {len(found)} runs again over REST"
            last = f"REST lists {len(found)} of {len(runs)} runs"
            if time.monotonic() > session.end:
                break
            await asyncio.sleep(POLL)
        raise Failed("REST", last)

    await prove("rest", listed, "REST")
    return session.proofs.good
