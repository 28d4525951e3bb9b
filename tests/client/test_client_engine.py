"""The client against an engine: one body for the stand-in and for a real one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up import token_claims
from owlclaw_up.client import (
    AlreadyConnected,
    CronNameTaken,
    HatchetClient,
    NotConnected,
    ResultTimeout,
    RunNotFound,
    ServerGone,
    TaskCancelled,
    TaskFailed,
    TaskNotOnEngine,
    TaskStatus,
    TokenRefused,
    WorkerFailed,
)
from tests.client.application import Numbers
from tests.client.conftest import APPLICATION, Place
from tests.ports import free_port

pytestmark = pytest.mark.timeout(120)

Run = Callable[[Coroutine[Any, Any, Any]], Any]
UNKNOWN = "00000000-0000-4000-8000-000000000001"


async def until(look: Callable[[], Coroutine[Any, Any, list[TaskStatus]]], count: int) -> list[TaskStatus]:
    """Look again and again until so many are there, or it takes too long."""
    end = time.monotonic() + 40
    while len(found := await look()) < count and time.monotonic() < end:
        await asyncio.sleep(0.1)
    return found


# --- connecting -----------------------------------------------------------------------------------------------------


def test_connecting_proves_the_token_and_is_done_once(place: Place, run: Run) -> None:
    client = place.client()

    async def connect() -> None:
        assert await client.connect() is client
        assert client.connected
        with pytest.raises(AlreadyConnected, match="localhost:"):
            await client.connect()
        await client.aclose()
        await client.aclose()
        with pytest.raises(NotConnected):
            await client.list_tasks()
        async with client:
            assert client.connected

    run(connect())


def test_a_token_that_is_not_this_engine_s_is_refused(place: Place, run: Run) -> None:
    head, body, signature = place.token.split(".")
    client = place.client(token=f"{head}.{body}.{signature[:-6]}AAAAAA")
    with pytest.raises(TokenRefused) as caught:
        run(client.connect())
    assert caught.value.hint == "owlclaw-up token check"
    assert "UNAUTHENTICATED" in caught.value.detail
    assert not client.connected
    assert signature[:20] not in str(vars(caught.value))


@pytest.mark.parametrize(
    ("changes", "hop", "words"),
    [
        ({"host_port": "localhost:{free}"}, "gRPC", "nobody listens there"),
        ({"tls_strategy": "tls"}, "TLS", "do not agree on TLS"),
        ({"host_port": "no-such-host.invalid:7077"}, "name resolution", "cannot be found"),
    ],
)
def test_no_connection_names_the_hop(place: Place, run: Run, changes: dict[str, str], hop: str, words: str) -> None:
    client = place.client(**{key: value.format(free=free_port()) for key, value in changes.items()})
    begun = time.monotonic()
    with pytest.raises(ServerGone, match=words) as caught:
        run(client.connect(timeout=10))
    assert caught.value.hop == hop
    assert caught.value.hint
    assert time.monotonic() - begun < 15
    assert not client.connected


def test_a_port_that_never_answers_ends_the_wait(place: Place, run: Run) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = place.client(host_port=f"127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ServerGone, match="nothing came back in time"):
            run(client.connect(timeout=1))


def test_no_proxy_is_asked_for_this_machine(place: Place, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    client = place.client()

    async def look() -> None:
        async with client:
            await client.list_tasks()
            with pytest.raises(RunNotFound):
                await client.get_task_status(UNKNOWN)

    run(look())


def test_a_rest_address_of_something_else_is_named(place: Place, run: Run) -> None:
    for address in (f"http://localhost:{free_port()}", place.lite.url("LITE_FRONTEND_PORT", "").rstrip("/")):
        client = place.client(server_url=address)

        async def look(client: HatchetClient = client) -> None:
            async with client:
                await client.list_tasks()

        with pytest.raises(ServerGone) as caught:
            run(look())
        assert caught.value.hop == "REST"


def test_hatchet_sdk_is_loaded_when_it_is_needed_and_not_before(place: Place) -> None:
    program = (
        "import asyncio, sys\nfrom owlclaw_up.client import HatchetClient\nclient = HatchetClient()\n"
        "client.task(name='a')(lambda input, ctx: {})\nassert 'pydantic' not in sys.modules\n"
        "asyncio.run(client.connect())\nasyncio.run(client.mock_run('a'))\nasyncio.run(client.aclose())\n"
        "assert 'hatchet_sdk' not in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-c", program], env=place.environment, cwd=place.engine.home, check=True, timeout=30
    )


# --- before a worker ------------------------------------------------------------------------------------------------


def test_a_task_that_no_worker_registered_is_said_to_be_so(place: Place, run: Run) -> None:
    client = place.client()

    @client.task
    async def unregistered(input: dict[str, Any], ctx: Any) -> None: ...

    async def ask() -> None:
        async with client:
            for call in (
                lambda: client.run_task_now("unregistered"),
                lambda: client.schedule_task("unregistered", delay=60),
                lambda: client.schedule_task("unregistered", cron="* * * * *"),
            ):
                with pytest.raises(TaskNotOnEngine, match="no worker has registered it yet") as caught:
                    await call()
                assert "worker().start()" in caught.value.hint
            assert await client.list_tasks(task="unregistered") == []

    run(ask())


def test_a_worker_says_at_once_that_there_is_no_engine(place: Place) -> None:
    ran = subprocess.run(
        [sys.executable, APPLICATION, "worker"], cwd=place.engine.home, text=True, capture_output=True, timeout=60, check=False,
        env={**place.environment, "HATCHET_CLIENT_HOST_PORT": f"localhost:{free_port()}"},
    )  # fmt: skip
    assert ran.returncode == 1
    assert "ServerGone" in ran.stderr
    assert place.token not in ran.stderr


# --- with a worker --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
def test_mock_and_engine_come_to_the_same(place: Place) -> None:
    """One file, unchanged: in mock, and on the engine with a worker, with proxies that nobody must ask."""
    mock = {
        **place.environment,
        "HATCHET_CLIENT_TOKEN": token_claims.placeholder(UNKNOWN, "http://localhost:1", "localhost:2"),
    }
    both = []
    for environment in (mock, place.environment):
        ran = subprocess.run(
            [sys.executable, "-X", "dev", APPLICATION, "all", f"mark-{time.monotonic_ns()}"], env=environment,
            cwd=place.engine.home, text=True, capture_output=True, timeout=100, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        both.append(json.loads(ran.stdout))
    in_mock, on_engine = both
    assert on_engine == in_mock
    assert in_mock["double"] == {"doubled": 8}
    assert in_mock["refuse"] == ["task-failed", "task 'refuse' failed: ValueError: refused 3"]
    assert in_mock["flaky"] == {"retries": 2}
    assert in_mock["late"] == ["task-failed", "task 'late' failed: Task exceeded timeout of 1s"]
    assert in_mock["nothing"] == {}
    assert in_mock["odd"][1].startswith("task 'odd' failed: TypeError: task 'odd' gave back int")
    assert in_mock["parent"] == {"child": {"doubled": 10}}
    assert in_mock["slow"][0] == "task-cancelled"


@pytest.mark.usefixtures("worker")
def test_a_wait_that_ends_leaves_the_run_alone(place: Place, run: Run) -> None:
    client = place.client()

    async def wait() -> None:
        async with client:
            started = await client.run_task_now("slow")
            with pytest.raises(ResultTimeout, match=r"no result of task 'slow' within 0\.5 s") as caught:
                await started.result(timeout=0.5)
            assert f"get_task_status('{started}')" in caught.value.hint
            assert (await client.get_task_status(started.id)).status in ("QUEUED", "RUNNING")
            waiting = asyncio.create_task(client.result(started))
            await client.cancel_task(started.id)
            with pytest.raises(TaskCancelled):
                await waiting
            # A second time it is left as it is.
            await client.cancel_task(started)
            done = await client.run_task_now("nothing")
            await done.result()
            await client.cancel_task(done)
            assert (await client.get_task_status(done)).status == "COMPLETED"

    run(wait())


@pytest.mark.usefixtures("worker")
def test_what_is_not_there_is_not_found(place: Place, run: Run) -> None:
    client = place.client()

    async def look() -> None:
        async with client:
            later = await client.schedule_task("double", delay=60)
            cron = await client.schedule_task("double", cron="0 0 1 1 *", name=f"new-year-{time.monotonic_ns()}")
            with pytest.raises(CronNameTaken) as caught:
                await client.schedule_task("double", cron="0 0 1 1 *", name=cron.name)
            assert caught.value.schedule_id == cron.id
            for made in (later, cron):
                await client.cancel_task(made.id)
                with pytest.raises(RunNotFound):
                    await client.cancel_task(made)
            for call in (client.get_task_status, client.result, client.cancel_task):
                with pytest.raises(RunNotFound, match=UNKNOWN):
                    await call(UNKNOWN)

    run(look())


@pytest.mark.usefixtures("worker")
def test_declared_crons_fire(place: Place, run: Run) -> None:
    client = place.client()

    async def look() -> None:
        async with client:
            ticks = await until(lambda: client.list_tasks(task="tick", status="COMPLETED"), 2)
            assert [tick.output for tick in ticks[:2]] == [{"fields": 0}] * 2

    run(look())


@pytest.mark.usefixtures("worker")
def test_a_list_is_narrowed_and_newest_first(place: Place, run: Run) -> None:
    client = place.client()
    mark = f"list-{time.monotonic_ns()}"

    async def look() -> None:
        async with client:
            first = await client.run_task_now("double", Numbers(value=1), metadata={"mark": mark, "n": "1"})
            await first.result(60)
            second = await client.run_task_now("refuse", {"value": 2}, metadata={"mark": mark, "n": "2"})
            with pytest.raises(TaskFailed):
                await second.result(60)
            found = await until(lambda: client.list_tasks(metadata={"mark": mark}, status=None), 2)
            assert [row.id for row in found] == [second.id, first.id]
            assert all(row.created is not None and row.created.tzinfo is not None for row in found)
            failed = await until(lambda: client.list_tasks(metadata={"mark": mark}, status="FAILED"), 1)
            assert [(row.id, row.error.splitlines()[0]) for row in failed] == [(second.id, "ValueError: refused 2")]
            assert [row.id for row in await client.list_tasks(metadata={"mark": mark, "n": "1"})] == [first.id]
            assert len(await client.list_tasks(metadata={"mark": mark}, limit=1)) == 1
            assert await client.list_tasks(metadata={"mark": mark}, task="nap") == []
            later = datetime.now(timezone.utc)
            assert await client.list_tasks(metadata={"mark": mark}, since=later) == []
            assert len(await client.list_tasks(metadata={"mark": mark}, since=timedelta(minutes=5))) == 2

    run(look())


@pytest.mark.usefixtures("worker")
def test_one_client_serves_several_loops_and_none(place: Place) -> None:
    client = place.client()
    asyncio.run(client.connect())
    for value in (1, 2):

        async def double(value: int = value) -> dict[str, Any]:
            return await (await client.run_task_now("double", {"value": value})).result(60)

        assert asyncio.run(double()) == {"doubled": value * 2}
    started = client.sync.run_task_now("double", {"value": 3})
    assert client.sync.result(started, timeout=60) == {"doubled": 6}
    assert client.sync.get_task_status(started).status == "COMPLETED"
    client.sync.close()
    with client.sync as connected:
        assert connected is client


# --- the end of things; a worker and an engine of their own ---------------------------------------------------------


def test_a_worker_ends_well_on_a_signal(worker: tuple[subprocess.Popen[bytes], Path]) -> None:
    """The last test with this worker."""
    process, said = worker
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 0
    text = said.read_text()
    assert "ended well" in text
    assert "UserWarning" not in text


def test_a_run_that_no_worker_takes_in_time_has_failed(place: Place, run: Run) -> None:
    client = place.client()

    async def wait() -> None:
        async with client:
            started = await client.run_task_now("impatient")
            with pytest.raises(ResultTimeout, match="is QUEUED") as caught:
                await started.result(0.2)
            assert "no worker takes it" in caught.value.hint
            with pytest.raises(TaskFailed, match="SCHEDULING_TIMED_OUT: no worker took it in time"):
                await started.result(30)
            status = await client.get_task_status(started)
            assert (status.status, status.started) == ("FAILED", None)
            assert status.error.startswith("SCHEDULING_TIMED_OUT")

    run(wait())


def test_a_killed_worker_leaves_its_run_and_the_wait_ends(place: Place, run: Run) -> None:
    client = place.client(namespace="alone")

    async def lose(pid: int) -> None:
        async with client:
            started = await client.run_task_now("slow")
            while (await client.get_task_status(started)).status != "RUNNING":
                await asyncio.sleep(0.1)
            os.killpg(pid, signal.SIGKILL)
            with pytest.raises(ResultTimeout, match="is RUNNING"):
                await started.result(1)
            await client.cancel_task(started)
            assert (await client.get_task_status(started)).status == "CANCELLED"
            assert (await client.get_task_status(started)).task == "slow"

    # In a namespace of its own, so that no other worker takes its run.
    alone = Place(place.engine, place.lite, place.token, extra={"HATCHET_CLIENT_NAMESPACE": "alone"})
    with alone.worker() as (process, _):
        run(lose(process.pid))


def test_an_engine_that_goes_away_is_named_and_one_that_comes_back_is_found(
    place: Place, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    ports = place.engine.with_new_ports()
    client: HatchetClient | None = None
    with place.engine.lite(**ports) as other:
        client = Place(place.engine, other, place.token, place.made).client()

        async def lose() -> None:
            assert client is not None
            await client.connect()
            waiting = asyncio.create_task((await client.run_task_now("slow")).result())
            await asyncio.sleep(0.5)
            other.process.kill()
            other.process.wait(10)
            begun = time.monotonic()
            with pytest.raises(ServerGone, match=r"nobody listens there|the connection broke"):
                await waiting
            for call in (
                lambda: client.run_task_now("double"),
                lambda: client.result(UNKNOWN, timeout=30),
                lambda: client.cancel_task(UNKNOWN),
            ):
                with pytest.raises(ServerGone) as caught:
                    await call()
                assert caught.value.hop == "gRPC"
            with pytest.raises(ServerGone) as caught:
                await client.list_tasks()
            assert caught.value.hop == "REST"
            assert time.monotonic() - begun < 40

        run(lose())
        assert not [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    with place.engine.lite(**ports):

        async def back() -> None:
            assert client is not None
            assert isinstance(await client.list_tasks(), list)
            with pytest.raises(RunNotFound):
                await client.get_task_status(UNKNOWN)

        run(back())


def test_a_worker_without_a_file_or_a_main_thread_is_refused(place: Place) -> None:
    import threading

    client = place.client()
    caught: list[BaseException] = []

    def start() -> None:
        try:
            client.worker().start()
        except WorkerFailed as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])
