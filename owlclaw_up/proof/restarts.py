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
from owlclaw_up.proof.tasks import define

_NOTED_SECONDS = 0.5
_SLEEP_SECONDS = 4


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
    """One engine after another is killed, the first one last: a task runs meanwhile, and a durable sleep outlives it.

    Args:
        engines: addresses, the first one's first.
    """
    took: list[float] = []
    for number in range(len(engines), 0, -1):
        progress(f"engine {number} is killed while a durable sleep lasts")
        run = await napping(session, _SLEEP_SECONDS)
        await _have_done(session, f"kill {number}", run)
        begun = time.monotonic()
        tasks = session.tasks
        if number == 1:
            # Everybody's addresses are those of the first one.
            tasks = define(**engines[1])
            await tasks.client.connect(timeout=session.left(15.0))
        progress(f"engine {number} is dead; a task goes to another one")
        ping = await tasks.client.run_task_now(tasks.ping, metadata=session.metadata)
        await session.result(ping, f"the task while engine {number} is dead")
        took.append(time.monotonic() - begun)
        if number == 1:
            await tasks.client.aclose()
        progress(f"engine {number} is started again")
        await _have_done(session, f"start {number}", run)
        await session.result(run, f"the durable sleep over the end of engine {number}")
    data = {
        "killed": [
            {"engine": n, "task_after_seconds": round(s, 3)}
            for n, s in zip(range(len(engines), 0, -1), took, strict=True)
        ]
    }
    return data, f"{len(engines)} engines killed in turn; a task ran within {max(took):.0f} s meanwhile"


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
