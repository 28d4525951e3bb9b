"""The client's methods for code without an event loop: the same names and arguments, each blocks until it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, TypeVar

from owlclaw_up.client.errors import LoopRuns
from owlclaw_up.client.loop_thread import LoopThread

if TYPE_CHECKING:
    from owlclaw_up.client.client import HatchetClient
    from owlclaw_up.client.runs import Schedule, TaskRun, TaskStatus

T = TypeVar("T")


class SyncClient:
    """`client.sync`; arguments and errors are those of the client's methods.

    Raises:
        LoopRuns: called where an event loop runs, which it would stop.
    """

    def __init__(self, client: HatchetClient) -> None:
        self._client = client
        self._thread = LoopThread("owlclaw-up-client")

    def connect(self, *args: Any, **kwargs: Any) -> HatchetClient:
        return self._wait("client.sync.connect", lambda: self._client.connect(*args, **kwargs))

    def close(self) -> None:
        try:
            self._wait("client.sync.close", self._client.aclose)
        finally:
            self._thread.stop()

    def run_task_now(self, *args: Any, **kwargs: Any) -> TaskRun:
        return self._wait("client.sync.run_task_now", lambda: self._client.run_task_now(*args, **kwargs))

    def result(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self._wait("client.sync.result", lambda: self._client.result(*args, **kwargs))

    def run_many_now(self, *args: Any, **kwargs: Any) -> list[TaskRun]:
        return self._wait("client.sync.run_many_now", lambda: self._client.run_many_now(*args, **kwargs))

    def results(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        return self._wait("client.sync.results", lambda: self._client.results(*args, **kwargs))

    def schedule_task(self, *args: Any, **kwargs: Any) -> Schedule:
        return self._wait("client.sync.schedule_task", lambda: self._client.schedule_task(*args, **kwargs))

    def cancel_task(self, *args: Any, **kwargs: Any) -> None:
        return self._wait("client.sync.cancel_task", lambda: self._client.cancel_task(*args, **kwargs))

    def get_task_status(self, *args: Any, **kwargs: Any) -> TaskStatus:
        return self._wait("client.sync.get_task_status", lambda: self._client.get_task_status(*args, **kwargs))

    def list_tasks(self, *args: Any, **kwargs: Any) -> list[TaskStatus]:
        return self._wait("client.sync.list_tasks", lambda: self._client.list_tasks(*args, **kwargs))

    def mock_run(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self._wait("client.sync.mock_run", lambda: self._client.mock_run(*args, **kwargs))

    def __enter__(self) -> HatchetClient:
        return self.connect()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, what: str, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise LoopRuns(what)
        future = self._thread.submit(call())
        try:
            return future.result()
        except (KeyboardInterrupt, CancelledError):
            future.cancel()
            raise
