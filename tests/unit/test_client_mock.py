"""Mock: what an engine would do, in this process. Waits are of tenths of a second."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from owlclaw_up.client import (
    CronNameTaken,
    HatchetClient,
    HatchetConfig,
    MockOnly,
    ResultTimeout,
    RunNotFound,
    TaskCancelled,
    TaskFailed,
)
from owlclaw_up.client.mock import OutOfTime


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 30))


class Application:
    """A client in mock, and what its tasks have seen."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.client = client = HatchetClient(HatchetConfig("", mock=True))
        seen = self.seen

        @client.task
        async def echo(input: dict[str, Any], ctx: Any) -> dict[str, Any]:
            seen.append(input)
            return {"input": input, "metadata": dict(ctx.additional_metadata), "id": ctx.workflow_run_id}

        @client.task(retries=2)
        def flaky(input: dict[str, Any], ctx: Any) -> dict[str, Any]:
            seen.append((ctx.retry_count, ctx.attempt_number, ctx.max_attempts))
            if ctx.retry_count < int(input.get("good_after", 2)):
                raise RuntimeError(f"attempt {ctx.retry_count}")
            return {"thread": threading.current_thread() is not threading.main_thread()}

        @client.task(timeout=1)
        async def late(input: dict[str, Any], ctx: Any) -> None:
            await asyncio.sleep(20)

        @client.task
        async def slow(input: dict[str, Any], ctx: Any) -> None:
            try:
                await asyncio.sleep(20)
            finally:
                seen.append(ctx.is_cancelled)

        @client.task(concurrency=1)
        async def alone(input: dict[str, Any], ctx: Any) -> dict[str, int]:
            seen.append("in")
            inside = seen.count("in") - seen.count("out")
            await asyncio.sleep(0.02)
            seen.append("out")
            return {"inside": inside}

        @client.durable_task
        async def nap(input: dict[str, Any], ctx: Any) -> dict[str, Any]:
            slept = await ctx.aio_sleep_for(timedelta(milliseconds=900))
            begun = await ctx.aio_now()
            await ctx.aio_sleep_until(begun - timedelta(seconds=1))
            return {"slept": slept.duration.total_seconds()}

        @client.task
        async def parent(input: dict[str, Any], ctx: Any) -> dict[str, Any]:
            child = await client.run_task_now("echo", {"from": "parent"}, metadata={"own": "1"})
            return {"child": await child.result()}

        @client.task
        async def streams(input: dict[str, Any], ctx: Any) -> None:
            await ctx.aio_log("said")
            ctx.put_stream("x")


@pytest.fixture
def app() -> Application:
    return Application()


def test_runs_and_their_results(app: Application) -> None:
    async def go() -> None:
        async with app.client as client:
            started = await client.run_task_now("echo", {"a": 1}, metadata={"m": "x"})
            assert str(started) == started.id
            assert await started.result() == {"input": {"a": 1}, "metadata": {"m": "x"}, "id": started.id}
            assert await client.result(started.id, timeout=5) == await started.result()
            status = await client.get_task_status(started)
            assert (status.task, status.status, status.error, status.metadata) == ("echo", "COMPLETED", "", {"m": "x"})
            assert status.created and status.started and status.finished
            assert status.created <= status.started <= status.finished
            many = await client.run_many_now("echo", [{"n": n} for n in range(5)])
            assert [each["input"]["n"] for each in await client.results(many)] == list(range(5))

    run(go())


def test_attempts_timeouts_and_what_a_failed_task_left(app: Application) -> None:
    async def go() -> None:
        async with app.client as client:
            good = await client.run_task_now("flaky")
            assert await good.result() == {"thread": True}
            assert app.seen == [(0, 1, 3), (1, 2, 3), (2, 3, 3)]
            bad = await client.run_task_now("flaky", {"good_after": 9})
            with pytest.raises(TaskFailed, match="task 'flaky' failed: RuntimeError: attempt 2") as caught:
                await bad.result()
            assert caught.value.run_id == bad.id
            assert "Traceback" in caught.value.error
            late = await client.run_task_now("late")
            with pytest.raises(TaskFailed, match="task 'late' failed: Task exceeded timeout of 1s"):
                await late.result()
            assert (await client.get_task_status(bad)).error.startswith("RuntimeError: attempt 2\n")

    run(go())


def test_cancelling(app: Application) -> None:
    async def go() -> None:
        async with app.client as client:
            slow = await client.run_task_now("slow")
            with pytest.raises(ResultTimeout, match="the run is RUNNING and goes on"):
                await slow.result(timeout=0.05)
            waiting = asyncio.create_task(slow.result())
            await client.cancel_task(slow.id)
            with pytest.raises(TaskCancelled):
                await waiting
            assert app.seen == [True]
            await client.cancel_task(slow)
            done = await client.run_task_now("echo")
            await done.result()
            await client.cancel_task(done)
            assert (await client.get_task_status(done)).status == "COMPLETED"

    run(go())


def test_schedules_and_crons(app: Application) -> None:
    async def go() -> None:
        async with app.client as client:
            now = datetime.now(timezone.utc)
            later = await client.schedule_task("echo", {"n": 1}, delay=0.05, metadata={"m": "later"})
            assert (later.kind, later.task, later.cron) == ("once", "echo", "")
            assert later.at is not None and now < later.at < now + timedelta(seconds=5)
            await client.schedule_task("echo", {"n": 2}, at=now + timedelta(seconds=0.2))
            never = await client.schedule_task("echo", {"n": 3}, delay=0.1)
            await client.cancel_task(never.id)
            with pytest.raises(RunNotFound):
                await client.cancel_task(never)
            cron = await client.schedule_task("echo", {"n": 4}, cron="* * * * * *", name="each")
            assert (cron.kind, cron.cron, cron.name, cron.at) == ("cron", "* * * * * *", "each", None)
            with pytest.raises(CronNameTaken) as caught:
                await client.schedule_task("echo", cron="*  * * * * *", name="each")
            assert caught.value.schedule_id == cron.id
            while {"n": 4} not in app.seen or {"n": 2} not in app.seen:
                await asyncio.sleep(0.01)
            await client.cancel_task(cron)
            assert {"n": 1} in app.seen and {"n": 3} not in app.seen
            assert [row.metadata for row in await client.list_tasks(metadata={"m": "later"})] == [{"m": "later"}]

    run(go())


def test_lists_are_narrowed_and_newest_first(app: Application) -> None:
    async def go() -> None:
        async with app.client as client:
            first = await client.run_task_now("echo", metadata={"m": "1", "n": "1"})
            await first.result()
            second = await client.run_task_now("flaky", {"good_after": 9}, metadata={"m": "1"})
            with pytest.raises(TaskFailed):
                await second.result()
            assert [row.id for row in await client.list_tasks()] == [second.id, first.id]
            assert [row.id for row in await client.list_tasks(status="FAILED")] == [second.id]
            assert [row.id for row in await client.list_tasks(task="echo")] == [first.id]
            assert [row.id for row in await client.list_tasks(metadata={"m": "1", "n": "1"})] == [first.id]
            assert [row.id for row in await client.list_tasks(limit=1)] == [second.id]
            assert await client.list_tasks(since=datetime.now(timezone.utc)) == []

    run(go())


def test_concurrency_durable_sleeps_children_and_what_needs_an_engine(app: Application) -> None:
    async def go() -> None:
        async with app.client as client:
            many = await client.run_many_now("alone", [None] * 3)
            assert await client.results(many) == [{"inside": 1}] * 3
            # The engine counts whole seconds.
            assert await (await client.run_task_now("nap")).result() == {"slept": 0.0}
            parent = await client.run_task_now("parent", metadata={"from": "outside", "own": "0"})
            child = (await parent.result())["child"]
            assert (child["input"], child["metadata"]) == ({"from": "parent"}, {"from": "outside", "own": "1"})
            with pytest.raises(TaskFailed, match=r"MockOnly: ctx\.put_stream needs an engine"):
                await (await client.run_task_now("streams")).result()

    run(go())


def test_one_client_serves_loops_and_blocking_callers_in_turn(app: Application) -> None:
    client = app.client
    run(client.connect())
    started = run(client.run_task_now("echo"))
    run(started.result())
    # What was scheduled in a loop that is gone still comes.
    run(client.schedule_task("echo", {"n": 1}, delay=0.01))
    while {"n": 1} not in app.seen:
        client.sync.list_tasks()
    blocking = client.sync.run_task_now("flaky")
    assert client.sync.result(blocking, timeout=5) == {"thread": True}
    assert client.sync.get_task_status(started.id).status == "COMPLETED"
    client.sync.close()
    assert not client.connected
    with client.sync as again:
        assert again.sync.list_tasks() == [], "nothing outlives the connection"
    assert [t.name for t in threading.enumerate() if t.name.startswith("owlclaw-up-")] == []


def test_mock_run_calls_the_task_here_and_lets_its_exceptions_through(app: Application) -> None:
    client = app.client
    assert run(client.mock_run("echo", {"a": 1}, metadata={"m": "1"}))["metadata"] == {"m": "1"}
    assert client.sync.mock_run("echo")["input"] == {}
    client.sync.close()
    with pytest.raises(RuntimeError, match="attempt 0"):
        run(client.mock_run("flaky"))
    with pytest.raises(OutOfTime):
        run(client.mock_run("late"))
    with pytest.raises(MockOnly):
        run(client.mock_run("streams"))
    assert not client.connected
