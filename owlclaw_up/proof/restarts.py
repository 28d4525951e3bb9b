"""The part of the long proof about engines: one that is restarted, and a small cluster whose engines are killed in turn."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from owlclaw_up.client import ClientError, TaskRun
from owlclaw_up.proof.quick import Session
from owlclaw_up.proof.talk import Failed, Skipped, ask, progress
from owlclaw_up.proof.tasks import ProofTasks, define

_NOTED_SECONDS = 0.5
_SLEEP_SECONDS = 4
_TASKS = 10


def at(values: Mapping[str, Any], number: int) -> dict[str, Any]:
    """What a worker is told, with the address of one of the engines: workers are spread over them in turn.

    Args:
        number: of the worker, from 0.
    """
    engine = values["engines"][number % len(values["engines"])]
    addresses = {
        "HATCHET_CLIENT_HOST_PORT": engine["host_port"],
        "HATCHET_CLIENT_SERVER_URL": engine["server_url"],
    }
    return {**values, "env": {**values["env"], **addresses}}


async def napping(session: Session, seconds: float) -> TaskRun:
    """A durable sleep that a worker has begun."""
    tasks = session.tasks
    run = await tasks.client.run_task_now(tasks.nap, {"seconds": seconds}, metadata=session.metadata)
    await session.until(run, "RUNNING", "COMPLETED")
    # It runs; the engine takes note of the sleep a moment later.
    await asyncio.sleep(_NOTED_SECONDS)
    return run


async def over_a_restart(session: Session) -> tuple[bool, str]:
    """A durable sleep outlives the restart of the one engine."""
    progress("the engine stops and starts while a durable sleep lasts")
    run = await napping(session, _SLEEP_SECONDS)
    await _have_done(session, "restart", run)
    await session.result(run, "the durable sleep")
    return True, "a durable sleep outlived the restart"


async def over_kills(session: Session, engines: Sequence[Mapping[str, str]]) -> tuple[dict[str, Any], str]:
    """One engine after another is killed, the first one last: tasks run meanwhile, and a durable sleep outlives it.

    Args:
        engines: addresses, the first one's first.
    """
    killed: list[dict[str, Any]] = []
    for number in range(len(engines), 0, -1):
        progress(f"engine {number} is killed while a durable sleep lasts")
        run = await napping(session, _SLEEP_SECONDS)
        await _have_done(session, f"kill {number}", run)
        progress(f"engine {number} is dead; the others carry on")
        # Everybody's addresses are those of the first one.
        first, last = await _meanwhile(session, define(**engines[1]) if number == 1 else session.tasks)
        killed.append({"engine": number, "first_task_seconds": round(first, 3), "last_task_seconds": round(last, 3)})
        progress(f"engine {number} is started again")
        await _have_done(session, f"start {number}", run)
        await session.result(run, f"the durable sleep over the end of engine {number}")
    longest = max(k["last_task_seconds"] for k in killed)
    return {"killed": killed}, f"{len(engines)} engines killed in turn, tasks took {longest:.0f} s"


async def _meanwhile(session: Session, tasks: ProofTasks) -> tuple[float, float]:
    """Tasks while an engine is dead: seconds until the first was done, and the last.

    The last may be one that was given to a worker of the dead engine, which is missed after half a minute.
    """
    begun = time.monotonic()
    async with tasks.client if tasks is not session.tasks else contextlib.nullcontext():
        runs = await tasks.client.run_many_now(tasks.work, [{}] * _TASKS, metadata=session.metadata)
        waits = [asyncio.create_task(session.result(run, "a task while an engine is dead")) for run in runs]
        done: list[float] = []
        for wait in asyncio.as_completed(waits):
            await wait
            done.append(time.monotonic() - begun)
    return done[0], done[-1]


async def _have_done(session: Session, what: str, run: TaskRun) -> None:
    """Have the process that started this one do something to an engine.

    Raises:
        Skipped: it may not; the durable sleep is cancelled.
        Failed: the engine does not come up again.
    """
    answer = await ask(what)
    if "refused" in answer:
        with contextlib.suppress(ClientError):
            await session.tasks.client.cancel_task(run)
        raise Skipped(str(answer["refused"]))
    if "failed" in answer:
        raise Failed("gRPC", f"the engine did not come up again: {answer['failed']}")
