"""What a Python interpreter can do, really done: run as a file by the interpreter that the project uses.

The argument says what: `pytest`, `client` or `mock_run`. One line of JSON on stdout says how it went: `version`, or `why`
not, with the `missing` package where that is the reason. Nothing is asked of any server. `HATCHET_CLIENT_*` in the
environment are placeholders.
"""

# No `from __future__ import annotations` here: hatchet-sdk reads the tasks' annotations, whose names are imported late.
import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

NAME = "owlclaw-up-look"


def with_pytest() -> str:
    """Import pytest; its version."""
    import pytest

    return pytest.__version__


def with_client() -> str:
    """Make a configuration and a client, register tasks, and have wrong arguments refused."""
    from owlclaw_up import __version__
    from owlclaw_up.client import ClientError, HatchetClient, HatchetConfig

    client = HatchetClient(HatchetConfig(token=os.environ["HATCHET_CLIENT_TOKEN"], tls_strategy="none"))

    @client.task(name=NAME)
    async def look(input: dict[str, Any], context: Any) -> dict[str, Any]:
        return {}

    @client.durable_task(name=f"{NAME}-durable")
    async def durable(input: dict[str, Any], context: Any) -> dict[str, Any]:
        return {}

    def refused(what: str, call: Callable[[], object]) -> None:
        try:
            call()
        except ClientError:
            return
        raise AssertionError(f"{what} was not refused")

    refused("a negative delay", lambda: client.schedule_task(look, delay=-1))
    refused("a task of no client", lambda: client.run_task_now(f"{NAME}-nobody"))
    refused("a second task of one name", lambda: client.task(name=NAME)(look))
    return __version__


def with_mock_run() -> str:
    """Run a task in this process, by hatchet-sdk's own mock run; the SDK's version."""
    from hatchet_sdk import Context, EmptyModel, Hatchet

    @Hatchet().task(name=NAME)
    async def ping(input: EmptyModel, context: Context) -> dict[str, str]:
        return {"pong": "1"}

    answer = asyncio.run(ping.aio_mock_run(EmptyModel()))
    if answer != {"pong": "1"}:
        raise AssertionError(f"the task answered {answer!r}")
    return metadata.version("hatchet-sdk")


LOOKS = {"pytest": with_pytest, "client": with_client, "mock_run": with_mock_run}


def look(what: str) -> dict[str, Any]:
    """Do it, and say how it went."""
    try:
        return {"version": LOOKS[what]()}
    except Exception as error:
        missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
        why = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        return {"why": why, "missing": missing, "pip": importlib.util.find_spec("pip") is not None}


if __name__ == "__main__":
    # A file's own folder comes first on the path, and names in it are no packages.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]
    print(json.dumps(look(sys.argv[1])), flush=True)
