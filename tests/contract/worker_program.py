"""A worker and its caller, for the contract tests: real hatchet-sdk programs that only know their environment.

``worker_program.py worker`` serves the workflows until it is told to stop; ``worker_program.py call`` triggers one
run of every kind, lists them over REST and prints what it saw as one JSON object. It must be a file with a main
guard because the SDK starts its own child process, which imports the main module again.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from hatchet_sdk import Context, DurableContext, Hatchet
from hatchet_sdk.exceptions import FailedTaskRunExceptionGroup
from pydantic import BaseModel

hatchet = Hatchet()
TIMEOUT_SECONDS = 60.0


class Numbers(BaseModel):
    """What every workflow here takes."""

    value: int = 0


@hatchet.task(name="contract-double", input_validator=Numbers, execution_timeout=timedelta(seconds=20))
async def double(given: Numbers, context: Context) -> dict[str, int]:
    """Give twice the value."""
    return {"doubled": given.value * 2}


@hatchet.durable_task(name="contract-nap", input_validator=Numbers, execution_timeout=timedelta(minutes=2))
async def nap(given: Numbers, context: DurableContext) -> dict[str, int]:
    """Sleep ``value`` seconds durably."""
    await context.aio_sleep_for(timedelta(seconds=given.value))
    return {"slept": given.value}


@hatchet.task(name="contract-fail", input_validator=Numbers, execution_timeout=timedelta(seconds=20))
async def fail(given: Numbers, context: Context) -> dict[str, int]:
    """Fail with a known text."""
    raise ValueError(f"refused {given.value}")


@hatchet.task(name="contract-wait", input_validator=Numbers, execution_timeout=timedelta(minutes=2))
async def wait(given: Numbers, context: Context) -> dict[str, int]:
    """Run ``value`` seconds; there to be cancelled."""
    await asyncio.sleep(given.value)
    return {"waited": given.value}


async def until(look: Callable[[], Awaitable[Any]], good: Callable[[Any], bool]) -> Any:
    """Poll ``look`` five times a second until ``good`` or the deadline passed; give what was seen last."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        seen = await look()
        if good(seen) or time.monotonic() > deadline:
            return seen
        await asyncio.sleep(0.2)


async def call(mark: str) -> dict[str, object]:
    """Do one of everything; ``mark`` tells the runs of this call from others."""
    since = datetime.now(timezone.utc) - timedelta(minutes=5)
    metadata = {"contract": mark}
    seen: dict[str, object] = {"version": await hatchet.aio_get_engine_version()}

    started = time.monotonic()
    reference = await double.aio_run(Numbers(value=4), wait_for_result=False, additional_metadata=metadata)
    seen["task"] = await asyncio.wait_for(reference.aio_result(), TIMEOUT_SECONDS)
    seen["task_seconds"] = time.monotonic() - started
    seen["task_waited"] = await asyncio.wait_for(
        double.aio_run(Numbers(value=5), additional_metadata=metadata), TIMEOUT_SECONDS
    )

    started = time.monotonic()
    napping = await nap.aio_run(Numbers(value=1), wait_for_result=False, additional_metadata=metadata)
    seen["nap"] = await asyncio.wait_for(napping.aio_result(), TIMEOUT_SECONDS)
    seen["nap_seconds"] = time.monotonic() - started

    failing = await fail.aio_run(Numbers(value=3), wait_for_result=False, additional_metadata=metadata)
    try:
        await asyncio.wait_for(failing.aio_result(), TIMEOUT_SECONDS)
    except FailedTaskRunExceptionGroup as error:
        seen["failure"] = str(error)

    scheduled = await double.aio_schedule(datetime.now(timezone.utc) + timedelta(seconds=1), Numbers(value=6))
    seen["scheduled"] = scheduled.id

    waiting = await wait.aio_run(Numbers(value=60), wait_for_result=False, additional_metadata=metadata)

    async def wait_status() -> str:
        found = await hatchet.runs.aio_list(
            since=since, only_tasks=True, workflow_ids=None, additional_metadata=metadata, limit=50
        )
        return next((str(row.status.value) for row in found.rows if row.metadata.id == waiting.workflow_run_id), "")

    seen["wait_before"] = await until(wait_status, lambda status: status == "RUNNING")
    await hatchet.runs.aio_cancel(waiting.workflow_run_id)
    seen["wait_after"] = await until(wait_status, lambda status: status == "CANCELLED")

    async def listed() -> list[str]:
        found = await hatchet.runs.aio_list(since=since, only_tasks=False, additional_metadata=metadata, limit=50)
        return sorted(f"{row.display_name.rsplit('-', 1)[0]} {row.status.value}" for row in found.rows)

    seen["listed"] = await until(
        listed, lambda rows: len(rows) == 5 and not any(row.endswith(("RUNNING", "QUEUED")) for row in rows)
    )
    got = await hatchet.runs.aio_get(reference.workflow_run_id)
    seen["got"] = [str(got.run.status.value), got.run.output, got.run.input]
    seen["status"] = str((await hatchet.runs.aio_get_status(napping.workflow_run_id)).value)
    seen["result"] = await hatchet.runs.aio_get_result(reference.workflow_run_id)

    async def by_schedule() -> int:
        found = await hatchet.runs.aio_list(since=since, only_tasks=False, limit=50)
        return sum(1 for row in found.rows if "contract-double" in row.display_name and row.status.value == "COMPLETED")

    seen["doubles"] = await until(by_schedule, lambda count: count >= 3)
    workers = await hatchet.workers.aio_list()
    seen["workers"] = sorted({worker.name for worker in workers.rows or []})
    return seen


def main() -> int:
    """Serve or call, as the first argument says; give the exit status."""
    if sys.argv[1] == "worker":
        hatchet.worker("contract", slots=4, workflows=[double, nap, fail, wait]).start()
        return 0
    print(json.dumps(asyncio.run(call(sys.argv[2])), default=str))
    return 0


if __name__ == "__main__":
    sys.exit(main())
