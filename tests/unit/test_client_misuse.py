"""Every wrong call raises at the call, before anything is awaited or sent; and every error says what helps.

A coroutine that is made and not awaited warns, and a warning is an error here: so none is left behind.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from owlclaw_up import client as package
from owlclaw_up.client import (
    AlreadyConnected,
    BadArgument,
    BadConfig,
    BadCron,
    BadDelay,
    BadInput,
    BadRunId,
    BadTask,
    ClientError,
    CronNameTaken,
    EngineRefused,
    HatchetClient,
    HatchetConfig,
    LoopRuns,
    Misuse,
    MockOnly,
    NaiveDatetime,
    NotConnected,
    ResultTimeout,
    RunNotFound,
    Schedule,
    ServerGone,
    Task,
    TaskCancelled,
    TaskFailed,
    TaskNotOnEngine,
    TaskRegisteredTwice,
    TokenRefused,
    UnknownTask,
    WorkerFailed,
    errors,
)

ID = "0f8c9a52-5f0e-4c4c-9d55-0a3f1c2b7d10"
NOW = datetime.now(timezone.utc)
TABLE: list[tuple[ClientError, str, int, str, str]] = [
    (ClientError("it failed", hint="x"), "client", 4, "it failed", "x"),
    (Misuse("wrong", hint="x"), "client-misuse", 2, "wrong", "x"),
    (NotConnected("list_tasks"), "not-connected", 2, "list_tasks needs a connection", "await client.connect()"),
    (AlreadyConnected("h:1"), "already-connected", 2, "to h:1", "client.aclose()"),
    (LoopRuns("client.sync.result"), "loop-runs", 2, "client.sync.result blocks", "await"),
    (UnknownTask("greet", ["greed"], "greed"), "unknown-task", 2, "no task 'greet'; it has: greed", "did you mean 'greed'?"),
    (UnknownTask("greet", [], None), "unknown-task", 2, "it has: none", "@client.task"),
    (TaskRegisteredTwice("a", "a"), "task-registered-twice", 2, "'a' is registered already", "another name="),
    (BadTask("a", "why"), "bad-task", 2, "task 'a' cannot be declared so: why", "client.md"),
    (BadConfig("f", "'v'", "why", origin=".env:3"), "bad-config", 2, "f = 'v' (from .env:3) cannot be used: why", ".env"),
    (BadArgument("limit", "0", "why"), "bad-argument", 2, "limit = 0 cannot be used: why", "client.md"),
    (BadInput("a", "why"), "bad-input", 2, "does not fit task 'a': why", "pydantic"),
    (BadDelay("delay", "-1", "why", "x"), "bad-delay", 2, "delay = -1 cannot be used: why", "x"),
    (NaiveDatetime("at", "2027"), "naive-datetime", 2, "at = 2027 has no timezone", "timezone.utc"),
    (BadCron("* *", "why", field="day"), "bad-cron", 2, "cron '* *', field day: why", "*/5 * * * *"),
    (BadRunId("'x'"), "bad-run-id", 2, "'x' is no id of a run: a UUID is wanted", "str(run)"),
    (ServerGone("h:1", "gRPC", "why"), "server-gone", 4, "the engine at h:1 does not answer (gRPC): why", "owlclaw-up status"),
    (ServerGone("h:1", "TLS", "why"), "server-gone", 4, "(TLS)", "HATCHET_CLIENT_TLS_STRATEGY=none"),
    (ServerGone("h:1", "proxy", "why"), "server-gone", 4, "(proxy)", "no_proxy"),
    (ServerGone("h:1", "name resolution", "why"), "server-gone", 4, "(name resolution)", "HATCHET_CLIENT_HOST_PORT"),
    (ServerGone("h:1", "REST", "why"), "server-gone", 4, "(REST)", "HATCHET_CLIENT_SERVER_URL"),
    (TokenRefused("h:1", ".env:3"), "token-refused", 4, "h:1 refuses the token (from .env:3)", "owlclaw-up token check"),
    (EngineRefused("start 'a'", "no\nwhy"), "engine-refused", 4, "did not start 'a': no", "owlclaw-up logs hatchet"),
    (EngineRefused("start 'a'", ""), "engine-refused", 4, "no reason given", "logs"),
    (TaskNotOnEngine("a"), "task-not-on-engine", 4, "does not know task 'a': no worker has registered it yet", "client.worker().start()"),
    (CronNameTaken("a", "n", ID), "cron-name-taken", 4, "task 'a' has a cron 'n' with this expression already", ID),
    (RunNotFound(ID, "h:1"), "run-not-found", 4, f"h:1 knows no run, schedule or cron {ID}", "list_tasks()"),
    (TaskFailed("a", ID, "ValueError: no\nTraceback"), "task-failed", 4, "task 'a' failed: ValueError: no", "owlclaw-up open"),
    (TaskFailed("a", ID, ""), "task-failed", 4, "no reason given", ID),
    (TaskCancelled("a", ID), "task-cancelled", 4, f"run {ID} of task 'a' was cancelled", "again"),
    (ResultTimeout("a", ID, 1.5, "RUNNING"), "result-timeout", 4, "within 1.5 s; the run is RUNNING and goes on", "get_task_status"),
    (MockOnly("put_stream"), "mock-lacks", 4, "ctx.put_stream needs an engine", "owlclaw-up --mode native"),
    (WorkerFailed("ended", "x"), "worker-failed", 4, "the worker ended", "x"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "code", "exit_code", "message", "hint"), TABLE, ids=lambda v: type(v).__name__)
def test_an_error_says_what_and_what_helps(
    error: ClientError, code: str, exit_code: int, message: str, hint: str
) -> None:
    assert (error.code, error.exit_code) == (code, exit_code)
    assert message in error.message
    assert hint in error.hint
    assert "\n" not in error.message
    assert isinstance(error, Misuse) == (exit_code == 2)


def test_every_error_is_in_the_table_and_in_the_package() -> None:
    declared = {v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, ClientError)}
    assert {type(row[0]) for row in TABLE} == declared
    assert {v.__name__ for v in declared} <= set(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)


@pytest.fixture
def client() -> HatchetClient:
    made = HatchetClient(HatchetConfig("", mock=True))

    @made.task
    async def greet(input: dict[str, Any], ctx: Any) -> None: ...

    return made


UNCONNECTED: list[Callable[[Any], Any]] = [
    lambda c: c.run_task_now("greet"),
    lambda c: c.run_many_now("greet", []),
    lambda c: c.result(ID),
    lambda c: c.results([ID]),
    lambda c: c.schedule_task("greet", delay=1),
    lambda c: c.cancel_task(ID),
    lambda c: c.get_task_status(ID),
    lambda c: c.list_tasks(),
    lambda c: c.sync.run_task_now("greet"),
    lambda c: c.sync.list_tasks(),
]


@pytest.mark.parametrize("call", UNCONNECTED)
def test_without_a_connection_nothing_is_begun(client: HatchetClient, call: Callable[[Any], Any]) -> None:
    with pytest.raises(NotConnected):
        call(client)


WRONG: list[tuple[Callable[[Any], Any], type[Misuse], str]] = [
    (lambda c: c.run_task_now("gret"), UnknownTask, "'gret'"),
    (lambda c: c.run_task_now("GREET"), UnknownTask, "'GREET'"),
    (lambda c: c.run_task_now(len), BadArgument, "task = len"),
    (lambda c: c.run_task_now(None), BadArgument, "task = None"),
    (lambda c: c.run_task_now("greet", [1]), BadInput, "not list"),
    (lambda c: c.run_task_now("greet", metadata={"a": 1}), BadArgument, "keys and values are texts"),
    (lambda c: c.run_task_now("greet", metadata={"a:b": "1"}), BadArgument, "without ':'"),
    (lambda c: c.run_task_now("greet", metadata=["a"]), BadArgument, "metadata = list"),
    (lambda c: c.run_many_now("greet", {"a": 1}), BadArgument, "a list of inputs is wanted"),
    (lambda c: c.run_many_now("greet", [None, 5]), BadInput, "not int"),
    (lambda c: c.result("x"), BadRunId, "'x' is no id of a run"),
    (lambda c: c.result("{" + ID + "}"), BadRunId, "a UUID is wanted"),
    (lambda c: c.result(None), BadRunId, "None"),
    (lambda c: c.result(ID, timeout=0), BadArgument, "timeout = 0"),
    (lambda c: c.results([ID, "x"]), BadRunId, "'x'"),
    (lambda c: c.result(Schedule(ID, "greet", "cron")), BadArgument, "it is no run"),
    (lambda c: c.get_task_status(5), BadRunId, "5 is no id"),
    (lambda c: c.cancel_task(""), BadRunId, "'' is no id"),
    (lambda c: c.schedule_task("greet"), BadArgument, "none cannot be used: exactly one of them"),
    (lambda c: c.schedule_task("greet", delay=1, cron="* * * * *"), BadArgument, "delay and cron"),
    (lambda c: c.schedule_task("greet", delay=-1), BadDelay, "above 0"),
    (lambda c: c.schedule_task("greet", delay=0), BadDelay, "nothing to wait for"),
    (lambda c: c.schedule_task("greet", delay=float("nan")), BadDelay, "not a number"),
    (lambda c: c.schedule_task("greet", at=NOW - timedelta(days=1)), BadDelay, "s ago"),
    (lambda c: c.schedule_task("greet", at=NOW.replace(tzinfo=None)), NaiveDatetime, "no timezone"),
    (lambda c: c.schedule_task("greet", cron="* * *"), BadCron, "3 fields"),
    (lambda c: c.schedule_task("greet", cron=""), BadCron, "empty"),
    (lambda c: c.schedule_task("greet", delay=1, name="x"), BadArgument, "only a cron has a name"),
    (lambda c: c.schedule_task("greet", cron="* * * * *", name=" "), BadArgument, "1 to 200 characters"),
    (lambda c: c.list_tasks(status="DONE"), BadArgument, "one of QUEUED, RUNNING"),
    (lambda c: c.list_tasks(limit=0), BadArgument, "1 to 1000"),
    (lambda c: c.list_tasks(limit=True), BadArgument, "1 to 1000"),
    (lambda c: c.list_tasks(since=3600), BadArgument, "a timedelta, or an aware datetime"),
    (lambda c: c.list_tasks(since=timedelta(0)), BadArgument, "above 0"),
    (lambda c: c.list_tasks(since=NOW.replace(tzinfo=None)), NaiveDatetime, "since"),
    (lambda c: c.list_tasks(task="x"), UnknownTask, "'x'"),
    (lambda c: c.mock_run("x"), UnknownTask, "'x'"),
    (lambda c: c.mock_run("greet", 5), BadInput, "not int"),
    (lambda c: c.worker(slots=0), BadArgument, "1 to 1000"),
    (lambda c: c.worker(name=""), BadArgument, "1 to 200 characters"),
    (lambda c: c.worker(tasks="greet"), BadArgument, "a list of tasks"),
    (lambda c: c.worker(tasks=["x"]), UnknownTask, "'x'"),
    (lambda c: c.connect(timeout=5), AlreadyConnected, "mock, in this process"),
]


@pytest.mark.parametrize("which", range(len(WRONG)))
def test_a_wrong_call_raises_at_the_call(client: HatchetClient, which: int) -> None:
    call, kind, words = WRONG[which]

    async def connected() -> None:
        async with client:
            with pytest.raises(kind) as caught:
                call(client)
            assert words in caught.value.message
            assert caught.value.hint

    asyncio.run(connected())


def test_a_wrong_call_of_connect_dials_nothing(client: HatchetClient) -> None:
    for timeout in (0, -1, float("nan"), "5", 3601):
        with pytest.raises(BadArgument):
            asyncio.run(client.connect(timeout=timeout))  # type: ignore[arg-type]
    with pytest.raises(BadArgument, match="a HatchetConfig is wanted"):
        HatchetClient({"token": "x"})  # type: ignore[arg-type]


def test_a_task_of_another_client_is_unknown(client: HatchetClient) -> None:
    other = HatchetClient()

    @other.task
    async def greet(input: dict[str, Any], ctx: Any) -> None: ...

    with pytest.raises(UnknownTask):
        asyncio.run(client.mock_run(greet))
    assert isinstance(greet, Task)


def test_ids_are_taken_in_every_form(client: HatchetClient) -> None:
    async def ask() -> None:
        async with client:
            for given in (ID, ID.upper(), uuid.UUID(ID)):
                with pytest.raises(RunNotFound, match=ID):
                    await client.get_task_status(given)  # type: ignore[arg-type]

    asyncio.run(ask())


def test_blocking_calls_are_refused_where_a_loop_runs(client: HatchetClient) -> None:
    async def call() -> None:
        for blocking in (client.sync.connect, client.sync.list_tasks, client.sync.close, client.worker().start):
            with pytest.raises(LoopRuns):
                blocking()

    asyncio.run(call())


def test_a_worker_is_refused_where_it_cannot_be(client: HatchetClient) -> None:
    with pytest.raises(WorkerFailed, match="has nothing to serve"):
        HatchetClient().worker().start()
    caught: list[WorkerFailed] = []

    def start() -> None:
        try:
            client.worker().start()
        except WorkerFailed as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "which only the main thread can" in caught[0].message


def test_the_blocking_methods_are_those_of_the_client() -> None:
    def methods(kind: type) -> set[str]:
        return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}

    own = methods(HatchetClient) - {"task", "durable_task", "worker", "aclose"} | {"close"}
    assert methods(type(HatchetClient().sync)) == own


@pytest.mark.parametrize(
    ("error", "also"),
    [
        (errors.BadDelay, ValueError),
        (errors.BadCron, ValueError),
        (errors.NaiveDatetime, ValueError),
        (errors.BadRunId, ValueError),
        (errors.BadConfig, ValueError),
        (errors.BadTask, ValueError),
        (errors.UnknownTask, LookupError),
        (errors.RunNotFound, LookupError),
        (errors.NotConnected, RuntimeError),
        (errors.ServerGone, ConnectionError),
        (errors.ResultTimeout, TimeoutError),
    ],
)
def test_handlers_that_know_nothing_of_us_catch_it_too(error: type[errors.ClientError], also: type[Exception]) -> None:
    assert issubclass(error, also)


def test_an_error_that_is_a_connection_error_too_keeps_its_own_text() -> None:
    gone = errors.ServerGone("localhost:1", "gRPC", "nobody listens there")
    assert str(gone).startswith(gone.message)
    assert gone.hint in str(gone)
    with pytest.raises(ConnectionError):
        raise gone
