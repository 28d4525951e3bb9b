"""The program of the smoke test, run as a file of its own: `quick` and `full` ask, `work` is a worker, `mock` needs no engine.

It knows the engine by `HATCHET_CLIENT_*` in its environment alone; its working directory is empty, so that no dotenv
file of the user's decides what is proved. Logs go to stderr. hatchet-sdk's worker imports the main module again in a
process it spawns: hence a real file with a main guard.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time
import uuid
from typing import Any

from owlclaw_up.proof.long import long
from owlclaw_up.proof.mock import mock
from owlclaw_up.proof.quick import Session, quick
from owlclaw_up.proof.talk import take_values
from owlclaw_up.proof.tasks import WORKER_VARIABLE, define
from owlclaw_up.proof.workers import WorkerProcess

WORKER_NAME = "owlclaw-up-smoke"
# hatchet-sdk makes some hundred thousand objects when it is imported, and keeps them: to look them through for garbage
# again and again takes a sixth of its time.
gc.set_threshold(100_000)
# The engine hands out work about once a second, as much as there are slots.
_SLOTS = 100


def prove(level: str) -> bool:
    """Every proof of a level against the engine; True if none failed."""
    mark = uuid.uuid4().hex[:12]
    # Ended from outside, it still takes its workers along: one that lingers would take the next proof's tasks.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    first = WorkerProcess(f"{WORKER_NAME}-{mark}-1")
    others = [WorkerProcess(f"{WORKER_NAME}-{mark}-{n}") for n in (2, 3)] if level == "full" else []
    paused: set[str] = set()
    try:
        values = take_values()
        first.tell(values)
        session = Session(define(), mark, time.monotonic() + values["seconds"], [first])
        good, paused = asyncio.run(_prove(session, level, others, values))
        return good
    finally:
        # A second word does not cut this short.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        for worker in (first, *others):
            worker.stop(worker.name in paused)


async def _prove(
    session: Session, level: str, others: list[WorkerProcess], values: dict[str, Any]
) -> tuple[bool, set[str]]:
    """Whether all is good, and the workers that the engine was told to give no more work."""
    good = await quick(session)
    if level == "full":
        good = await long(session, others, values)
    return good, await _pause(session)


async def _pause(session: Session) -> set[str]:
    names = {w.name for w in session.workers}
    paused = set()
    try:
        workers = session.hatchet.workers
        for row in (await workers.aio_list()).rows or []:
            for name in names:
                if row.name.endswith(name):
                    await workers.aio_pause(row.metadata.id)
                    paused.add(name)
    except Exception as error:
        print(f"the worker could not be paused: {error}", file=sys.stderr)
    return paused


def work(name: str) -> None:
    """A worker; it ends when the program that asks has gone, so that a killed proof leaves nobody behind."""
    asker = os.getppid()

    def watch() -> None:
        while os.getppid() == asker:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    take_values()
    os.environ[WORKER_VARIABLE] = name
    tasks = define()
    tasks.client.worker(name, slots=_SLOTS).start()


def run(mode: str) -> int:
    """The exit code of the asking side."""
    if mode == "mock":
        values = take_values()
        session = Session(define(), "", time.monotonic() + values["seconds"])
        return 0 if asyncio.run(mock(session, values["level"])) else 1
    return 0 if prove(mode) else 1


if __name__ == "__main__":
    if sys.argv[1] == "work":
        work(sys.argv[2])
    else:
        sys.exit(run(sys.argv[1]))
