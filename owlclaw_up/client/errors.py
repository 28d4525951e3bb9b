"""Every error of the client: a stable code, what failed and why, and what helps. Imports nothing but `owlclaw_up.errors`.

`Misuse` is found before anything is sent; the others are what an engine, or a task, answered. Each is also what Python calls
such a thing (ValueError, LookupError, ConnectionError, TimeoutError), for handlers that know nothing of owlclaw-up.
"""

from __future__ import annotations

from collections.abc import Iterable

from owlclaw_up.errors import USAGE, UpError


class ClientError(UpError):
    """Base of every error that the client raises."""

    code = "client"

    def __str__(self) -> str:
        # What a traceback ends with: who sees one has no other place to read the hint.
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class Misuse(ClientError):
    """The call itself is wrong; nothing was sent."""

    code = "client-misuse"
    exit_code = USAGE


class NotConnected(Misuse, RuntimeError):
    code = "not-connected"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} needs a connection, and this client has none",
            hint="first: await client.connect(), or: async with client",
        )


class AlreadyConnected(Misuse, RuntimeError):
    code = "already-connected"

    def __init__(self, where: str) -> None:
        super().__init__(
            f"this client is connected already, to {where}", hint="once is enough, or: await client.aclose()"
        )


class LoopRuns(Misuse, RuntimeError):
    code = "loop-runs"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} blocks, and would stop the event loop that runs here", hint="await client's own method"
        )


class UnknownTask(Misuse, LookupError):
    code = "unknown-task"

    def __init__(self, name: str, known: Iterable[str], nearest: str | None) -> None:
        names = ", ".join(sorted(known)) or "none"
        super().__init__(
            f"this client has no task {name!r}; it has: {names}",
            hint=f"did you mean {nearest!r}?" if nearest else "declare it: @client.task(name=...)",
        )


class TaskRegisteredTwice(Misuse, ValueError):
    code = "task-registered-twice"

    def __init__(self, name: str, known: str) -> None:
        differs = "" if name == known else f" (the engine does not tell it from {known!r})"
        super().__init__(f"a task {name!r} is registered already{differs}", hint="give one of them another name=")


class BadTask(Misuse, ValueError):
    """A declaration that no engine would take, or that would never run as it is meant."""

    code = "bad-task"

    def __init__(self, name: str, why: str, hint: str = "") -> None:
        super().__init__(f"task {name!r} cannot be declared so: {why}", hint=hint or "see docs/reference/client.md")


class BadConfig(Misuse, ValueError):
    """One field of the configuration cannot be used.

    Args:
        shown: the value as it may be shown; never the token.
        origin: where the value came from, empty for an argument.
    """

    code = "bad-config"

    def __init__(self, field: str, shown: str, why: str, *, origin: str = "", hint: str = "") -> None:
        come = f" (from {origin})" if origin else ""
        super().__init__(
            f"{field} = {shown}{come} cannot be used: {why}", hint=hint or "owlclaw-up writes a .env that works"
        )
        self.field = field
        self.origin = origin


class BadArgument(Misuse, ValueError):
    code = "bad-argument"

    def __init__(self, name: str, shown: str, why: str, hint: str = "") -> None:
        super().__init__(f"{name} = {shown} cannot be used: {why}", hint=hint or "see docs/reference/client.md")
        self.name = name


class BadInput(Misuse, ValueError):
    code = "bad-input"

    def __init__(self, task: str, why: str, detail: str = "") -> None:
        super().__init__(
            f"the input does not fit task {task!r}: {why}",
            hint="give the task's pydantic model, or a dict of plain JSON values", detail=detail,
        )  # fmt: skip


class BadDelay(Misuse, ValueError):
    code = "bad-delay"

    def __init__(self, name: str, shown: str, why: str, hint: str) -> None:
        super().__init__(f"{name} = {shown} cannot be used: {why}", hint=hint)


class NaiveDatetime(Misuse, ValueError):
    code = "naive-datetime"

    def __init__(self, name: str, shown: str) -> None:
        super().__init__(
            f"{name} = {shown} has no timezone, so it names no instant",
            hint="datetime.now(timezone.utc) + timedelta(minutes=5)",
        )


class BadCron(Misuse, ValueError):
    """A cron expression that never fires, or not as it is meant.

    Attributes:
        field: the field that is wrong, empty where it is the whole.
    """

    code = "bad-cron"

    def __init__(self, expression: str, why: str, *, field: str = "", hint: str = "", task: str = "") -> None:
        where = f", field {field}" if field else ""
        super().__init__(
            f"{f'task {task!r}: ' if task else ''}cron {expression!r}{where}: {why}",
            hint=hint or "five fields in UTC: minute hour day month weekday, such as */5 * * * *",
        )
        self.expression = expression
        self.why = why
        self.field = field


class BadRunId(Misuse, ValueError):
    code = "bad-run-id"

    def __init__(self, shown: str) -> None:
        super().__init__(
            f"{shown} is no id of a run: a UUID is wanted, such as 0f8c9a52-5f0e-4c4c-9d55-0a3f1c2b7d10",
            hint="str(run), where run = await client.run_task_now(...)",
        )


class ServerGone(ClientError, ConnectionError):
    """No answer from the engine.

    Attributes:
        hop: what broke: name resolution, proxy, TLS, gRPC or REST.
    """

    code = "server-gone"

    def __init__(self, where: str, hop: str, why: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(
            f"the engine at {where} does not answer ({hop}): {why}", hint=hint or _HOP_HINTS[hop], detail=detail
        )
        self.hop = hop


_HOP_HINTS = {
    "name resolution": "correct HATCHET_CLIENT_HOST_PORT in .env; owlclaw-up writes one that works",
    "proxy": "no_proxy=localhost,127.0.0.1, in small letters, for an engine on this machine; else ask the proxy's owner",
    "TLS": "an engine of owlclaw-up speaks plain text: HATCHET_CLIENT_TLS_STRATEGY=none",
    "gRPC": "owlclaw-up status, then owlclaw-up",
    "REST": "is HATCHET_CLIENT_SERVER_URL the dashboard's address? owlclaw-up status",
}


class TokenRefused(ClientError):
    code = "token-refused"

    def __init__(self, where: str, origin: str, detail: str = "") -> None:
        super().__init__(
            f"the engine at {where} refuses the token (from {origin})", hint="owlclaw-up token check", detail=detail
        )


class EngineRefused(ClientError):
    """The engine answered, and did not do it, for a reason that has no class of its own."""

    code = "engine-refused"

    def __init__(self, what: str, words: str) -> None:
        super().__init__(f"the engine did not {what}: {words.splitlines()[0][:300] if words else 'no reason given'}",
                         hint="owlclaw-up logs hatchet", detail=words)  # fmt: skip


class TaskNotOnEngine(ClientError):
    code = "task-not-on-engine"

    def __init__(self, name: str, detail: str = "") -> None:
        super().__init__(
            f"the engine does not know task {name!r}: no worker has registered it yet",
            hint="start a worker that serves it: client.worker().start(); it stays known when the worker ends",
            detail=detail,
        )


class CronNameTaken(ClientError):
    """The task has a cron of this name and expression: a second one would only double its runs.

    Attributes:
        schedule_id: of the one that is there, empty where it could not be found.
    """

    code = "cron-name-taken"

    def __init__(self, task: str, name: str, schedule_id: str = "") -> None:
        super().__init__(
            f"task {task!r} has a cron {name!r} with this expression already",
            hint=f"keep it, give another name=, or end it: await client.cancel_task({schedule_id!r})",
        )
        self.schedule_id = schedule_id


class RunNotFound(ClientError, LookupError):
    code = "run-not-found"

    def __init__(self, id: str, where: str) -> None:
        super().__init__(
            f"{where} knows no run, schedule or cron {id}",
            hint="runs of another engine, or older than its retention, are not there; await client.list_tasks()",
        )


class TaskFailed(ClientError):
    """A run failed; the message has the task's own error.

    Attributes:
        run_id: of the run.
        error: the whole text that the task left, with its traceback.
    """

    code = "task-failed"

    def __init__(self, task: str, run_id: str, error: str) -> None:
        lines = error.strip().splitlines()
        super().__init__(
            f"task {task!r} failed: {lines[0] if lines else 'no reason given'}",
            hint=f"await client.get_task_status({run_id!r}), or the dashboard: owlclaw-up open",
            detail=error,
        )
        self.run_id = run_id
        self.error = error


class TaskCancelled(ClientError):
    code = "task-cancelled"

    def __init__(self, task: str, run_id: str) -> None:
        super().__init__(f"run {run_id} of task {task!r} was cancelled, so it has no result", hint="run it again")
        self.run_id = run_id


class ResultTimeout(ClientError, TimeoutError):
    """The wait ended, the run did not: it is left alone."""

    code = "result-timeout"

    def __init__(self, task: str, run_id: str, seconds: float, status: str) -> None:
        waits = "no worker takes it: client.worker().start(); " if status == "QUEUED" else ""
        super().__init__(
            f"no result of task {task!r} within {seconds:g} s; the run is {status} and goes on",
            hint=f"{waits}look: await client.get_task_status({run_id!r}); end it: await client.cancel_task({run_id!r})",
        )
        self.run_id = run_id


class MockOnly(ClientError):
    """Something of the SDK's context that mock does not have."""

    code = "mock-lacks"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"ctx.{what} needs an engine, and this is mock", hint="owlclaw-up --mode native, then run it again"
        )


class WorkerFailed(ClientError):
    code = "worker-failed"

    def __init__(self, why: str, hint: str, detail: str = "") -> None:
        super().__init__(f"the worker {why}", hint=hint, detail=detail)
