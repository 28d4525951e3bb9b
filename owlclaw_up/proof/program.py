"""The program of the smoke test, run as a file of its own: `run` asks, `work` is the worker, `mock` needs no engine.

It knows the engine by `HATCHET_CLIENT_*` in its environment alone; its working directory is empty, so that no dotenv
file of the user's decides what is proved. Every proof is one line of JSON on stdout as soon as it is known; logs go to
stderr. hatchet-sdk's worker imports the main module again in a process it spawns: hence a real file with a main guard.
"""

# No `from __future__ import annotations` here: the SDK reads the tasks' annotations, whose names are imported late.
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

T = TypeVar("T")

METADATA_KEY = "owlclaw_up_smoke"
WORKER_NAME = "owlclaw-up-smoke"
SLEEP_SECONDS = 1
_POLL = 0.05
# gRPC's words for a call that did not get through -> the hop that broke.
_HOPS = (
    ("unauthenticated", "token"),
    ("invalid auth token", "token"),
    ("resolv", "name resolution"),
    ("domain name not found", "name resolution"),
    ("wrong_version_number", "TLS"),
    ("handshake", "TLS"),
    ("unavailable", "gRPC"),
)


def say(id: str, status: str, seconds: float, detail: str = "", hop: str = "") -> None:
    """One proof, as a line for the process that asked for it."""
    line = {"id": id, "status": status, "seconds": round(seconds, 3), "detail": detail, "hop": hop}
    print(json.dumps(line), flush=True)


def start_worker(name: str) -> subprocess.Popen[bytes]:
    """A worker that imports the SDK and then waits for its values, in a process group of its own."""
    argv = [sys.executable, __file__, "work", name]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=sys.stderr, start_new_session=True)


def stop_worker(worker: subprocess.Popen[bytes], paused: bool) -> None:
    """End the worker and the processes it spawned.

    Args:
        paused: the engine gives it no more work. Then nothing is lost by a kill, and its own way out takes a second.
    """
    if not paused:
        worker.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(4)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


class Failed(Exception):
    """A proof that failed, with the hop where it broke."""

    def __init__(self, hop: str, detail: str) -> None:
        super().__init__(detail)
        self.hop = hop


def hop_of(error: BaseException, otherwise: str) -> Failed:
    words = f"{type(error).__name__}: {error}"
    low = words.lower()
    hop = next((hop for word, hop in _HOPS if word in low), otherwise)
    return Failed(hop, words[:300])


async def prove(id: str, proof: Callable[[], Awaitable[tuple[T, str]]]) -> T | None:
    """Run one proof, say how it went, and give what it found; None where it failed."""
    begun = time.monotonic()
    try:
        value, detail = await proof()
    except Failed as failure:
        say(id, "failed", time.monotonic() - begun, str(failure), failure.hop)
        return None
    except Exception as error:
        broken = hop_of(error, "gRPC")
        say(id, "failed", time.monotonic() - begun, str(broken), broken.hop)
        return None
    say(id, "passed", time.monotonic() - begun, detail)
    return value


def run() -> bool:
    """Every proof against the engine; True if all passed."""
    mark = uuid.uuid4().hex[:12]
    # Ended from outside, it still takes its worker along: one that lingers would take the next proof's tasks.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    worker = start_worker(f"{WORKER_NAME}-{mark}")
    paused = False
    try:
        line = take_values()
        assert worker.stdin is not None
        worker.stdin.write(line.encode())
        worker.stdin.close()
        end = time.monotonic() + json.loads(line)["seconds"]
        good, paused = asyncio.run(_run(worker, mark, end))
        return good
    finally:
        # A second word does not cut this short.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        stop_worker(worker, paused)


def take_values() -> str:
    """Import the SDK, then wait for the line with the environment, which nobody sees on a command line.

    Returns:
        The line; its `env` is in this process's environment.
    """
    import hatchet_sdk  # noqa: F401 - the import is what takes long, and needs no values

    line = sys.stdin.readline()
    if not line:
        sys.exit(1)
    os.environ.update(json.loads(line)["env"])
    return line


async def _run(worker: subprocess.Popen[bytes], mark: str, end: float) -> tuple[bool, bool]:
    """All proofs, and whether the engine was told to give the worker no more work."""
    tasks = define()
    since = datetime.now(timezone.utc) - timedelta(minutes=1)
    good = await _proofs(tasks, worker, since, mark, end)
    return good, await _pause(tasks[0], mark)


async def _pause(hatchet: Any, mark: str) -> bool:
    try:
        workers = (await hatchet.workers.aio_list()).rows or []
        for row in workers:
            if row.name.endswith(mark):
                await hatchet.workers.aio_pause(row.metadata.id)
                return True
    except Exception as error:
        print(f"the worker could not be paused: {error}", file=sys.stderr)
    return False


async def _proofs(tasks: Any, worker: subprocess.Popen[bytes], since: datetime, mark: str, end: float) -> bool:
    from hatchet_sdk import EmptyModel

    hatchet, ping, nap = tasks

    async def connect() -> tuple[str, str]:
        try:
            version = await asyncio.wait_for(
                hatchet.aio_get_engine_version(), max(1.0, min(15.0, end - time.monotonic()))
            )
        except asyncio.TimeoutError:
            raise Failed("gRPC", "no answer to GetVersion") from None
        return str(version), f"engine {version} takes the token"

    if await prove("connect", connect) is None:
        return False

    async def registered() -> tuple[bool, str]:
        """The worker is listed. A run that is triggered while its workflow is being registered is lost by the engine."""
        while True:
            if any(w.name.endswith(mark) for w in (await hatchet.workers.aio_list()).rows or []):
                return True, "the worker is registered"
            if worker.poll() is not None:
                raise Failed("registration", f"the worker ended with exit code {worker.returncode}")
            if time.monotonic() > end:
                raise Failed("registration", "the worker did not register in time")
            await asyncio.sleep(_POLL)

    if await prove("register", registered) is None:
        return False

    async def trigger(task: Any) -> Any:
        return await task.aio_run(EmptyModel(), wait_for_result=False, additional_metadata={METADATA_KEY: mark})

    async def result(reference: Any, what: str) -> Any:
        waiting = asyncio.ensure_future(reference.aio_result())
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=0.5)
            if waiting.done():
                break
            if worker.poll() is not None:
                waiting.cancel()
                raise Failed("dispatch", f"the worker ended with exit code {worker.returncode}")
            if time.monotonic() > end:
                waiting.cancel()
                status = await _status(hatchet, reference)
                raise Failed("dispatch" if status == "QUEUED" else "result", f"{what} is {status} after its time")
        return waiting.result()

    references: dict[str, Any] = {}

    async def ran() -> tuple[bool, str]:
        references["nap"] = await trigger(nap)
        references["ping"] = await trigger(ping)
        answer = await result(references["ping"], "the task")
        if answer.get("pong") != "1":
            raise Failed("result", f"the task answered {answer!r}")
        return True, "a worker ran it and its result came back"

    passed = [await prove("run", ran)]

    async def slept() -> tuple[bool, str]:
        if "nap" not in references:
            raise Failed("dispatch", "it could not be triggered")
        await result(references["nap"], "the durable sleep")
        return True, f"a durable sleep of {SLEEP_SECONDS} s ended"

    passed.append(await prove("durable_sleep", slept))

    async def listed() -> tuple[bool, str]:
        """REST is fed by a pipeline of its own, a moment behind."""
        last = "no run was triggered"
        while "ping" in references:
            try:
                runs = await hatchet.runs.aio_list(since=since, additional_metadata={METADATA_KEY: mark}, limit=10)
            except Exception as error:
                raise Failed("REST", f"{type(error).__name__}: {error}"[:300]) from None
            if len(runs.rows) >= len(references):
                return True, f"found {len(runs.rows)} runs again over REST"
            last = f"REST lists {len(runs.rows)} of {len(references)} runs"
            if time.monotonic() > end:
                break
            await asyncio.sleep(_POLL)
        raise Failed("REST", last)

    passed.append(await prove("rest", listed))
    return all(passed)


async def _status(hatchet: Any, reference: Any) -> str:
    try:
        status = await asyncio.wait_for(hatchet.runs.aio_get_status(reference.workflow_run_id), 1)
    except Exception as error:
        return f"unknown ({type(error).__name__})"
    return str(getattr(status, "value", status))


async def mock() -> bool:
    """Run a task in this process, without an engine; what needs one is said to be skipped."""
    from hatchet_sdk import EmptyModel

    _, ping, _ = define()

    async def ran() -> tuple[bool, str]:
        answer = await ping.aio_mock_run(EmptyModel())
        if answer.get("pong") != "1":
            raise Failed("result", f"the task answered {answer!r}")
        return True, "a task ran in this process, by the SDK's mock run"

    passed = await prove("mock_run", ran)
    say("durable_sleep", "skipped", 0.0, "a durable sleep needs an engine; there is none in mock")
    return bool(passed)


def define() -> tuple[Any, Any, Any]:
    """The client, a task and a durable task, the same for runner and worker."""
    from hatchet_sdk import Context, DurableContext, EmptyModel, Hatchet

    hatchet = Hatchet()

    @hatchet.task(
        name="owlclaw-up-ping", schedule_timeout=timedelta(minutes=5), execution_timeout=timedelta(seconds=20)
    )
    async def ping(input: EmptyModel, context: Context) -> dict[str, str]:
        return {"pong": "1"}

    @hatchet.durable_task(
        name="owlclaw-up-nap", schedule_timeout=timedelta(minutes=5), execution_timeout=timedelta(minutes=2)
    )
    async def nap(input: EmptyModel, context: DurableContext) -> dict[str, str]:
        await context.aio_sleep_for(timedelta(seconds=SLEEP_SECONDS))
        return {"slept": "1"}

    return hatchet, ping, nap


def work(name: str) -> None:
    """The worker; it ends when the runner has gone, so that a killed proof leaves nobody behind."""
    runner = os.getppid()

    def watch() -> None:
        while os.getppid() == runner:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    take_values()
    hatchet, ping, nap = define()
    hatchet.worker(name, slots=4, workflows=[ping, nap]).start()


if __name__ == "__main__":
    if sys.argv[1] == "work":
        work(sys.argv[2])
    elif sys.argv[1] == "mock":
        take_values()
        sys.exit(0 if asyncio.run(mock()) else 1)
    else:
        sys.exit(0 if run() else 1)
