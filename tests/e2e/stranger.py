"""A program that knows `.env` in its working directory and hatchet-sdk, and nothing of owlclaw-up.

It runs a task and a durable sleep with a worker of its own, and prints one line of JSON.
"""

# No `from __future__ import annotations`: hatchet-sdk reads the tasks' annotations.
import asyncio
import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

os.environ.setdefault("HATCHET_CLIENT_NAMESPACE", "stranger")
from hatchet_sdk import Context, DurableContext, EmptyModel, Hatchet

hatchet = Hatchet()


@hatchet.task(name="ping")
async def ping(given: EmptyModel, context: Context) -> dict[str, str]:
    return {"pong": "1"}


@hatchet.durable_task(name="nap", execution_timeout=timedelta(minutes=3))
async def nap(given: EmptyModel, context: DurableContext) -> dict[str, str]:
    await context.aio_sleep_for(timedelta(seconds=2))
    return {"slept": "1"}


async def main() -> None:
    name = f"stranger-{os.getpid()}"
    with Path("stranger.log").open("ab") as log:
        worker = subprocess.Popen([sys.executable, __file__, name], stdout=log, stderr=log)
    try:
        while name not in {w.name.removeprefix("stranger_") for w in (await hatchet.workers.aio_list()).rows or []}:
            assert worker.poll() is None, "the worker has ended"
            await asyncio.sleep(0.1)
        begun = time.monotonic()
        reference = await ping.aio_run(EmptyModel(), wait_for_result=False)
        task = await asyncio.wait_for(reference.aio_result(), 80)
        first = time.monotonic() - begun
        reference = await nap.aio_run(EmptyModel(), wait_for_result=False)
        slept = await asyncio.wait_for(reference.aio_result(), 80)
        print(
            json.dumps({"task": task, "first": first, "nap": slept, "runs": len((await hatchet.runs.aio_list()).rows)})
        )
    finally:
        worker.terminate()
        try:
            worker.wait(15)
        except subprocess.TimeoutExpired:
            worker.kill()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        hatchet.worker(sys.argv[1], workflows=[ping, nap]).start()
    else:
        asyncio.run(main())
