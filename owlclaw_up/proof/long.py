"""The long proof: what an application relies on when things go wrong, and how much the engine takes.

A killed worker is missed after half a minute (hatchet, pkg/repository/sqlcv1/tasks.sql); the other proofs run meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

from owlclaw_up.proof.quick import POLL, Session
from owlclaw_up.proof.restarts import at, napping, over_a_restart, over_kills
from owlclaw_up.proof.talk import Failed, progress, say
from owlclaw_up.proof.workers import WorkerProcess

RUNS = 1000
SHARED_RUNS = 20
_NAP_SECONDS = 3
# So long the engine gives work to a worker that it has not heard of: hatchet, pkg/repository/sqlcv1/lease.sql, 5 s.
_TRUSTED_SECONDS = 6
_SHARED_TRIES = 3
_SCHEDULER_SECONDS = 2
_DELAY_SECONDS = 3
_LATE_SECONDS = 10
_CRON = "*/2 * * * * *"
_BARS = 6

LONG_PROOFS = ("delayed", "cron", "cancel", "shared", "throughput", "worker_killed", "engine_restarted")


async def long(session: Session, others: list[WorkerProcess], values: dict[str, Any]) -> bool:
    """Every long proof, after the quick ones.

    Args:
        others: the workers that take over, not told to work yet.
        values: what they are told.
    """
    prove = session.proofs.prove
    if not session.proofs.good:
        for name in LONG_PROOFS:
            say(name, "skipped", 0.0, "the quick proofs failed")
        return False
    progress("a worker begins a durable sleep, and is killed")
    dead = asyncio.Event()
    finished = asyncio.create_task(prove("worker_killed", partial(_over_a_kill, session, dead)))
    await dead.wait()
    for number, worker in enumerate(others):
        worker.tell(at(values, number))
    session.workers += others
    progress("two other workers take over")
    await asyncio.sleep(_TRUSTED_SECONDS)
    await prove("shared", partial(_shared, session))
    progress("scheduled, by cron, cancelled")
    proofs: list[tuple[str, Callable[[Session], Awaitable[tuple[Any, str]]]]] = [
        ("delayed", _delayed), ("cron", _cron), ("cancel", _cancel),
    ]  # fmt: skip
    await asyncio.gather(*(prove(name, partial(proof, session)) for name, proof in proofs))
    progress(f"{RUNS} runs, enqueued at once")
    await prove("throughput", partial(_throughput, session))
    progress("waiting until the engine misses the worker that was killed")
    await finished
    engines = values["engines"]
    over = partial(over_kills, session, engines) if len(engines) > 1 else partial(over_a_restart, session)
    await prove("engine_restarted", over)
    return session.proofs.good


async def _over_a_kill(session: Session, dead: asyncio.Event) -> tuple[bool, str]:
    """Kill the only worker in the middle of a durable sleep; says so by the event, so that others take over."""
    try:
        run = await napping(session, _NAP_SECONDS)
    finally:
        killed = session.workers.pop(0)
        killed.kill()
        dead.set()
    answer = await session.result(run, "the durable sleep")
    if answer["worker"] == killed.name:
        raise Failed("dispatch", "the worker that was killed finished it")
    return True, "another worker finished its durable sleep"


async def _shared(session: Session) -> tuple[dict[str, Any], str]:
    await session.registered(*(w.name for w in session.workers))
    for _ in range(_SHARED_TRIES):
        answers = await _work(session, SHARED_RUNS, {"seconds": 0.3})
        by = Counter(str(a["worker"]) for a in answers)
        shares = [by[w.name] for w in session.workers]
        if all(shares):
            break
        # A worker is registered a moment before the engine's scheduler counts on it.
        await asyncio.sleep(_SCHEDULER_SECONDS)
    else:
        raise Failed("dispatch", f"one worker did everything: {shares}")
    return {"shares": shares}, f"{SHARED_RUNS} tasks, shared {' : '.join(map(str, shares))} by {len(shares)} workers"


async def _work(session: Session, count: int, data: dict[str, Any]) -> list[dict[str, Any]]:
    client, work = session.tasks.client, session.tasks.work
    runs = await client.run_many_now(work, [data] * count, metadata=session.metadata)
    return await client.results(runs, timeout=session.left())


async def _delayed(session: Session) -> tuple[dict[str, Any], str]:
    client, mark = session.tasks.client, f"{session.mark}-delayed"
    wanted = datetime.now(timezone.utc) + timedelta(seconds=_DELAY_SECONDS)
    await client.schedule_task(session.tasks.work, at=wanted, metadata={"proof": mark})
    answer = (await _listed(session, mark, 1))[0]
    late = answer["at"] - wanted.timestamp()
    if late < 0:
        raise Failed("dispatch", f"it ran {-late:.2f} s before its time")
    if late > _LATE_SECONDS:
        raise Failed("dispatch", f"it ran {late:.1f} s after its time")
    return {"late_seconds": round(late, 3)}, f"{_DELAY_SECONDS} s ahead, began {late:.2f} s after its time"


async def _cron(session: Session) -> tuple[dict[str, Any], str]:
    client, mark = session.tasks.client, f"{session.mark}-cron"
    begun = time.monotonic()
    cron = await client.schedule_task(
        session.tasks.work, cron=_CRON, name=f"owlclaw-up-{session.mark}", metadata={"proof": mark}
    )
    try:
        await _listed(session, mark, 2)
    finally:
        await client.cancel_task(cron)
    seconds = time.monotonic() - begun
    return {"fired": 2}, f"fired twice in {seconds:.1f} s, then was deleted"


async def _listed(session: Session, mark: str, count: int) -> list[dict[str, Any]]:
    """Outputs of runs that nobody here has triggered, found over REST once they are done."""
    client = session.tasks.client
    while True:
        found = await client.list_tasks(since=timedelta(minutes=10), metadata={"proof": mark}, limit=count + 5)
        done = [s.output for s in found if s.status == "COMPLETED" and s.output]
        if len(done) >= count:
            return done
        if time.monotonic() > session.end:
            raise Failed("dispatch", f"{len(found)} of {count} were begun, {len(done)} are done")
        await asyncio.sleep(4 * POLL)


async def _cancel(session: Session) -> tuple[bool, str]:
    client, work = session.tasks.client, session.tasks.work
    run = await client.run_task_now(work, {"seconds": 60}, metadata=session.metadata)
    await session.until(run, "RUNNING")
    await client.cancel_task(run)
    begun = time.monotonic()
    await session.until(run, "CANCELLED")
    return True, f"a running task ended within {time.monotonic() - begun:.1f} s"


async def _throughput(session: Session) -> tuple[dict[str, Any], str]:
    begun = time.time()
    answers = await _work(session, RUNS, {})
    seconds = time.time() - begun
    waited = sorted(answer["at"] - begun for answer in answers)
    data = {
        "runs": RUNS,
        "seconds": round(seconds, 3),
        "per_second": round(RUNS / seconds, 1),
        "latency_seconds": {
            **{f"p{p}": round(waited[min(RUNS - 1, RUNS * p // 100)], 3) for p in (50, 90, 95, 99)},
            "max": round(waited[-1], 3),
        },
        "histogram": _histogram(waited),
    }
    return data, f"{RUNS} runs in {seconds:.1f} s, {RUNS / seconds:.0f} a second"


def _histogram(waited: list[float]) -> list[dict[str, Any]]:
    width = max(waited[-1], 0.001) / _BARS
    counts = Counter(min(int(w / width), _BARS - 1) for w in waited)
    return [{"from": round(n * width, 3), "to": round((n + 1) * width, 3), "count": counts[n]} for n in range(_BARS)]
