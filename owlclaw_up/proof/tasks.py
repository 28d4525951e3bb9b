"""The tasks of the smoke test, the same for the program that asks and for its workers."""

# No `from __future__ import annotations` here: hatchet-sdk reads the tasks' annotations.
import asyncio
import os
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from owlclaw_up.client import HatchetClient, HatchetConfig, Task

# Set for a worker by its own process: which one ran a task is part of what is proved.
WORKER_VARIABLE = "OWLCLAW_UP_PROOF_WORKER"


@dataclass(frozen=True)
class ProofTasks:
    """Attributes: `ping` answers, `nap` sleeps durably, `work` takes a while; the last two say who did it, and when."""

    client: HatchetClient
    ping: Task
    nap: Task
    work: Task


def define(host_port: str | None = None, server_url: str | None = None) -> ProofTasks:
    """A client for the engine of this process's environment, and its tasks.

    Args:
        host_port, server_url: addresses of another engine of the same cluster.
    """
    client = HatchetClient(HatchetConfig.load(env_file=None, host_port=host_port, server_url=server_url))
    minutes = timedelta(minutes=5)

    def done(at: float) -> dict[str, Any]:
        return {"worker": os.environ.get(WORKER_VARIABLE, ""), "at": at}

    @client.task(name="owlclaw-up-ping", schedule_timeout=minutes, timeout=20)
    async def ping(input: dict[str, Any], context: Any) -> dict[str, Any]:
        return {"pong": "1"}

    # Retried, since hatchet-sdk fails one whose stream breaks before the engine has taken note of its sleep.
    @client.durable_task(name="owlclaw-up-nap", schedule_timeout=minutes, timeout=timedelta(minutes=3), retries=2)
    async def nap(input: dict[str, Any], context: Any) -> dict[str, Any]:
        await context.aio_sleep_for(timedelta(seconds=input["seconds"]))
        return done(time.time())

    # Given to a worker whose engine has just died, it is given to another one after a minute and more.
    @client.task(name="owlclaw-up-work", schedule_timeout=minutes, timeout=timedelta(minutes=4))
    async def work(input: dict[str, Any], context: Any) -> dict[str, Any]:
        begun = time.time()
        await asyncio.sleep(input.get("seconds", 0))
        return done(begun)

    return ProofTasks(client, ping, nap, work)
