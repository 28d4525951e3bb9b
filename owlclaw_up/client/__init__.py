"""A client for tasks on a Hatchet engine, or in this process where there is none: docs/how-to/client.md.

    from owlclaw_up.client import HatchetClient

    client = HatchetClient()

    @client.task
    async def greet(input, ctx):
        return {"hello": input["name"]}

Importing it costs nothing: hatchet-sdk is loaded when an engine is first asked for more than its version.
"""

from __future__ import annotations

from owlclaw_up.client.client import HatchetClient
from owlclaw_up.client.config import HatchetConfig
from owlclaw_up.client.errors import (
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
    LoopRuns,
    Misuse,
    MockOnly,
    NaiveDatetime,
    NotConnected,
    ResultTimeout,
    RunNotFound,
    ServerGone,
    TaskCancelled,
    TaskFailed,
    TaskNotOnEngine,
    TaskRegisteredTwice,
    TokenRefused,
    UnknownTask,
    WorkerFailed,
)
from owlclaw_up.client.runs import Schedule, TaskRun, TaskStatus
from owlclaw_up.client.tasks import Task
from owlclaw_up.client.worker import Worker

__all__ = [
    "AlreadyConnected",
    "BadArgument",
    "BadConfig",
    "BadCron",
    "BadDelay",
    "BadInput",
    "BadRunId",
    "BadTask",
    "ClientError",
    "CronNameTaken",
    "EngineRefused",
    "HatchetClient",
    "HatchetConfig",
    "LoopRuns",
    "Misuse",
    "MockOnly",
    "NaiveDatetime",
    "NotConnected",
    "ResultTimeout",
    "RunNotFound",
    "Schedule",
    "ServerGone",
    "Task",
    "TaskCancelled",
    "TaskFailed",
    "TaskNotOnEngine",
    "TaskRegisteredTwice",
    "TaskRun",
    "TaskStatus",
    "TokenRefused",
    "UnknownTask",
    "Worker",
    "WorkerFailed",
]
