"""How the program of the smoke test talks: one line of JSON on stdout for each proof, each word of progress, each wish."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from owlclaw_up.client import ServerGone, TokenRefused
from owlclaw_up.grpc_words import hop_of

T = TypeVar("T")


class Failed(Exception):
    """A proof that failed, with the hop where it broke.

    Args:
        data: what is known of it beside its words.
    """

    def __init__(self, hop: str, detail: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.hop, self.data = hop, data


class WorkerEnded(Failed):
    """A worker that ended, though nobody told it to. Why is in what it said on stderr, which is not ours to read."""

    def __init__(self, hop: str, exit_code: int) -> None:
        super().__init__(hop, f"the worker ended with exit code {exit_code}", {"worker_exit_code": exit_code})


class Skipped(Exception):
    """A proof that cannot be had here."""


def broken(error: BaseException, otherwise: str) -> Failed:
    """A foreign error as a failed proof.

    Args:
        otherwise: the hop where its words name none.
    """
    words = f"{type(error).__name__}: {error}"
    if isinstance(error, TokenRefused) or "unauthenticated" in words.lower():
        return Failed("token", words[:300])
    hop = error.hop if isinstance(error, ServerGone) else hop_of(words, otherwise)
    return Failed(hop, words[:300])


def _line(**said: Any) -> None:
    print(json.dumps(said), flush=True)


def progress(text: str) -> None:
    """A few words about what is going on, for the screen."""
    _line(say=text)


async def ask(what: str) -> Mapping[str, Any]:
    """Have the process that started this one do something, and give its answer."""
    _line(ask=what)
    answer = await asyncio.to_thread(sys.stdin.readline)
    return dict(json.loads(answer)) if answer else {"failed": "nobody is there any more"}


def say(
    id: str, status: str, seconds: float, detail: str = "", hop: str = "", data: Mapping[str, Any] | None = None
) -> None:
    """One proof."""
    _line(id=id, status=status, seconds=round(seconds, 3), detail=detail, hop=hop, data=dict(data or {}))


class Proofs:
    """What was shown so far.

    Attributes:
        good: whether none has failed.
    """

    def __init__(self) -> None:
        self.good = True

    async def prove(self, id: str, proof: Callable[[], Awaitable[tuple[T, str]]], hop: str = "gRPC") -> T | None:
        """Run one proof, say how it went, and give what it found; None where it failed or cannot be had.

        Args:
            proof: gives what it found, and a few words about it; a dict is kept as what was measured.
            hop: where a foreign error broke, if its words do not say.
        """
        begun = time.monotonic()
        try:
            value, detail = await proof()
        except Skipped as skipped:
            say(id, "skipped", time.monotonic() - begun, str(skipped))
            return None
        except Exception as error:
            failure = error if isinstance(error, Failed) else broken(error, hop)
            self.good = False
            say(id, "failed", time.monotonic() - begun, str(failure), failure.hop, failure.data)
            return None
        say(id, "passed", time.monotonic() - begun, detail, data=value if isinstance(value, dict) else None)
        return value


def take_values() -> dict[str, Any]:
    """Import the SDK, then wait for the line with the environment, which nobody sees on a command line.

    Returns:
        The line; its `env` is in this process's environment.
    """
    import hatchet_sdk  # noqa: F401 - the import is what takes long, and needs no values

    line = sys.stdin.readline()
    if not line:
        sys.exit(1)
    values: dict[str, Any] = json.loads(line)
    os.environ.update(values["env"])
    return values
