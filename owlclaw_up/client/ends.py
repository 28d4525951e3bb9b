"""The ends of runs, pushed by the engine: one stream for everything that waits in an event loop, however much that is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from owlclaw_up.client import channel
from owlclaw_up.client.config import HatchetConfig


class RunEnds:
    """Streams of one engine, one per event loop, each as long as somebody waits in it."""

    def __init__(self, config: HatchetConfig) -> None:
        self._config = config
        self._streams: dict[asyncio.AbstractEventLoop, _Stream] = {}

    async def wait(self, id: str) -> Any:
        """The engine's message about the end of a run; None where the stream broke before it came.

        Raises:
            TokenRefused: the engine says so.
        """
        loop = asyncio.get_running_loop()
        stream = self._streams.get(loop)
        if stream is None or stream.over:
            stream = self._streams[loop] = _Stream(self._config)
        future = stream.add(id)
        try:
            return await future
        finally:
            stream.remove(id, future)
            if not stream.waiting:
                if self._streams.get(loop) is stream:
                    del self._streams[loop]
                await stream.close()


class _Stream:
    def __init__(self, config: HatchetConfig) -> None:
        self.waiting: dict[str, set[asyncio.Future[Any]]] = {}
        self._config = config
        self._wanted: asyncio.Queue[str | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._serve())

    @property
    def over(self) -> bool:
        return self._task.done()

    def add(self, id: str) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(id, set()).add(future)
        self._wanted.put_nowait(id)
        return future

    def remove(self, id: str, future: asyncio.Future[Any]) -> None:
        left = self.waiting.get(id, set())
        left.discard(future)
        if not left:
            self.waiting.pop(id, None)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _serve(self) -> None:
        import grpc
        from hatchet_sdk.contracts.dispatcher_pb2_grpc import DispatcherStub

        broken: Exception | None = None
        try:
            async with channel.open_aio_channel(self._config) as opened:
                stub = DispatcherStub(opened)
                stream = stub.SubscribeToWorkflowRuns(self._ids(), metadata=channel.authorization(self._config))
                try:
                    async for event in stream:
                        self._end(self.waiting.get(event.workflow_run_id, set()), event)
                finally:
                    stream.cancel()
                    # gRPC's own reader of ids ends with them, and is given the turn for it.
                    self._wanted.put_nowait(None)
                    await asyncio.sleep(0)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                broken = channel.translated(error, self._config, "tell the end of a run")
        finally:
            for futures in list(self.waiting.values()):
                self._end(futures, None, broken)

    async def _ids(self) -> AsyncIterator[Any]:
        """What to tell the end of. The engine ends its side of the stream with this one, so this one ends with the stream alone."""
        from hatchet_sdk.contracts.dispatcher_pb2 import SubscribeToWorkflowRunsRequest

        while (wanted := await self._wanted.get()) is not None:
            yield SubscribeToWorkflowRunsRequest(workflow_run_id=wanted)

    @staticmethod
    def _end(futures: set[asyncio.Future[Any]], event: Any, broken: Exception | None = None) -> None:
        for future in futures:
            if future.done():
                continue
            if broken is not None:
                future.set_exception(broken)
            else:
                future.set_result(event)
