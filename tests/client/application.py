"""An application of the client's, as a user writes one: its tasks, a worker, and a run of everything.

``application.py worker`` serves the tasks; ``application.py all`` runs one of each and prints what came of it, without
ids and times, so that mock and an engine can be compared.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import datetime, timedelta, timezone
from typing import Any

from pydantic import BaseModel

from owlclaw_up.client import HatchetClient, TaskCancelled, TaskFailed


class Numbers(BaseModel):
    """The input of most tasks."""

    value: int = 0


def declare(client: HatchetClient) -> None:
    """Put the tasks on a client."""

    @client.task
    async def double(input: Numbers, ctx: Any) -> dict[str, int]:
        return {"doubled": input.value * 2}

    @client.task(name="refuse")
    def refuse(input: dict[str, Any], ctx: Any) -> None:
        raise ValueError(f"refused {input.get('value')}")

    @client.task(retries=2)
    def flaky(input: dict[str, Any], ctx: Any) -> dict[str, int]:
        if ctx.retry_count < 2:
            raise RuntimeError(f"attempt {ctx.retry_count}")
        return {"retries": ctx.retry_count}

    @client.task(timeout=1)
    async def late(input: dict[str, Any], ctx: Any) -> None:
        await asyncio.sleep(20)

    @client.task(schedule_timeout=1)
    async def impatient(input: dict[str, Any], ctx: Any) -> None: ...

    @client.task(timeout=timedelta(minutes=2))
    async def slow(input: dict[str, Any], ctx: Any) -> None:
        await asyncio.sleep(60)

    @client.task
    def nothing(input: dict[str, Any], ctx: Any) -> None:
        return None

    @client.task
    def odd(input: dict[str, Any], ctx: Any) -> Any:
        return 17

    @client.durable_task(timeout=timedelta(minutes=2))
    async def nap(input: Numbers, ctx: Any) -> dict[str, int]:
        slept = await ctx.aio_sleep_for(timedelta(seconds=input.value))
        return {"slept": int(slept.duration.total_seconds())}

    @client.durable_task(timeout=timedelta(minutes=2))
    async def parent(input: Numbers, ctx: Any) -> dict[str, Any]:
        child = await client.run_task_now("double", {"value": input.value})
        return {"child": await child.result(60)}

    @client.task(crons=["* * * * * *"])
    async def tick(input: dict[str, Any], ctx: Any) -> dict[str, int]:
        return {"fields": len(input)}


async def everything(client: HatchetClient, mark: str) -> dict[str, Any]:
    """Run one of each; ``mark`` tells the runs of this call from others."""
    seen: dict[str, Any] = {}
    tags = {"mark": mark}
    async with client:
        runs = {
            name: await client.run_task_now(name, given, metadata=tags)
            for name, given in {
                "double": Numbers(value=4), "refuse": {"value": 3}, "flaky": None, "late": None, "nothing": None,
                "odd": None, "nap": {"value": 1}, "parent": {"value": 5}, "slow": None,
            }.items()
        }  # fmt: skip
        await client.cancel_task(runs["slow"])
        for name, run in runs.items():
            try:
                seen[name] = await run.result(60)
            except (TaskFailed, TaskCancelled) as error:
                seen[name] = [error.code, error.message.replace(run.id, "ID")]
            status = await client.get_task_status(run)
            seen[f"{name} status"] = [status.task, status.status, status.error.splitlines()[:1], status.output]
        begun = datetime.now(timezone.utc)
        later = await client.schedule_task("double", {"value": 6}, delay=1, metadata={"mark": f"{mark}-later"})
        never = await client.schedule_task(
            "double", at=begun + timedelta(minutes=5), metadata={"mark": f"{mark}-never"}
        )
        await client.cancel_task(never)
        cron = await client.schedule_task("double", cron="* * * * * *", name=mark, metadata={"mark": f"{mark}-cron"})
        seen["kinds"] = [later.kind, never.kind, cron.kind, cron.cron, cron.name == mark]
        for which, count in (("later", 1), ("cron", 2)):
            while True:
                done = await client.list_tasks(metadata={"mark": f"{mark}-{which}"}, status="COMPLETED", task="double")
                if len(done) >= count or datetime.now(timezone.utc) - begun > timedelta(seconds=60):
                    break
                await asyncio.sleep(0.1)
            seen[which] = [done[0].output, len(done) >= count, all(row.created >= begun for row in done if row.created)]
        await client.cancel_task(cron.id)
        seen["never"] = len(await client.list_tasks(metadata={"mark": f"{mark}-never"}))
        listed = await client.list_tasks(metadata=tags, limit=100)
        seen["listed"] = sorted(f"{row.task} {row.status}" for row in listed)
    return seen


app = HatchetClient()
declare(app)

if __name__ == "__main__":
    if sys.argv[1] == "worker":
        app.worker("application", slots=20).start()
        print("ended well", flush=True)
    else:
        print(json.dumps(asyncio.run(everything(app, sys.argv[2])), indent=1))
