"""A worker: on an engine hatchet-sdk's own, in mock whatever serves the declared crons. `start` blocks until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from owlclaw_up.client.arguments import count_of, name_of
from owlclaw_up.client.config import HatchetConfig
from owlclaw_up.client.errors import LoopRuns, WorkerFailed
from owlclaw_up.client.sdk import load_sdk, sdk_config, sdk_task

if TYPE_CHECKING:
    from owlclaw_up.client.client import HatchetClient

logger = logging.getLogger("owlclaw_up.client")

_MOST_SLOTS = 1000
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# The variable that only gRPC reads, so that nothing else of the process changes.
_NO_PROXY = "no_grpc_proxy"


class Worker:
    """See `HatchetClient.worker`.

    Args:
        served: names of the tasks; None for every one that the client has when the worker starts.
    """

    def __init__(self, client: HatchetClient, name: str | None, slots: int, served: list[str] | None) -> None:
        self.name = name_of(name, "mailer") or platform.node() or "worker"
        self.slots = count_of("slots", slots, _MOST_SLOTS, 10)
        self._client = client
        self._served = served

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks that it serves."""
        return list(self._client.tasks) if self._served is None else list(self._served)

    def start(self) -> None:
        """Register the tasks and serve them; ends on SIGINT or SIGTERM, when what runs has ended.

        To be called in the main thread of a file with `if __name__ == "__main__":`, since the SDK starts a process that
        imports that file again.

        Raises:
            WorkerFailed: there is no task, this is not the main thread, or the engine refuses a registration.
            ServerGone, TokenRefused: as `connect`.
        """
        self._check_place()
        config = self._client.config
        connected_here = not self._client.connected
        if connected_here:
            self._client.sync.connect()
        try:
            if config.mock:
                self._serve_mock()
            else:
                self._serve(config)
        finally:
            if connected_here:
                self._client.sync.close()

    def _check_place(self) -> None:
        if not self.tasks:
            raise WorkerFailed("has nothing to serve", "declare a task before it: @client.task")
        if threading.current_thread() is not threading.main_thread():
            raise WorkerFailed(
                "takes signals, which only the main thread can", "a process of its own: python worker.py"
            )
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise LoopRuns("worker.start()")
        main = sys.modules["__main__"]
        if not getattr(main, "__file__", None) or not Path(str(main.__file__)).is_file():
            hint = "put it into a file, below if __name__ == '__main__': and run that"
            raise WorkerFailed("starts a process that imports the main program, which is no file here", hint)

    def _serve(self, config: HatchetConfig) -> None:
        load_sdk()
        from hatchet_sdk import Hatchet

        with _no_proxy_for(config), _signals_restored():
            hatchet = Hatchet(config=sdk_config(config))
            made: list[Any] = [sdk_task(hatchet, self._client.tasks[name]) for name in self.tasks]
            worker = hatchet.worker(self.name, slots=self.slots, workflows=made)
            told = _hear_signals()
            try:
                worker.start()
            except SystemExit as end:
                # The SDK ends the process by itself, also after a good end.
                if end.code or not told:
                    why = "ended with a failure" if end.code else "ended without being told to"
                    hint = "owlclaw-up status, then start it again"
                    raise WorkerFailed(f"{why}; its log, above, says more", hint) from None
            except (ValueError, RuntimeError) as error:
                raise WorkerFailed(f"did not start: {error}", "its log, above, says more") from error

    def _serve_mock(self) -> None:
        stopped = threading.Event()
        made = []
        with _signals_restored():
            for number in _SIGNALS:
                signal.signal(number, lambda *_: stopped.set())
            for name in self.tasks:
                for expression in self._client.tasks[name].crons:
                    made.append(self._client.sync.schedule_task(name, cron=expression, name=f"declared {name}"))
            logger.info("mock: %d tasks and %d crons are served in this process", len(self.tasks), len(made))
            # With a timeout, so that a signal is seen on every platform.
            while not stopped.wait(0.5):
                pass
        for schedule in made:
            self._client.sync.cancel_task(schedule)


@contextlib.contextmanager
def _signals_restored() -> Iterator[None]:
    """Put back, afterwards, what signals meant before."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _hear_signals() -> list[int]:
    """Take note of every signal that ends a worker, on its way to the SDK's handler."""
    told: list[int] = []

    def hear(inner: Any) -> Any:
        def handler(number: int, frame: Any) -> None:
            told.append(number)
            inner(number, frame)

        return handler

    for number in _SIGNALS:
        signal.signal(number, hear(signal.getsignal(number)))
    return told


@contextlib.contextmanager
def _no_proxy_for(config: HatchetConfig) -> Iterator[None]:
    """Keep the SDK's gRPC, here and in the process it starts, from asking a proxy for an engine of this machine."""
    if not config.is_loopback:
        yield
        return
    before = os.environ.get(_NO_PROXY)
    kept = before if before is not None else os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    os.environ[_NO_PROXY] = ",".join([*filter(None, [kept]), "localhost", "127.0.0.1", "::1", config.host])
    try:
        yield
    finally:
        if before is None:
            del os.environ[_NO_PROXY]
        else:
            os.environ[_NO_PROXY] = before
