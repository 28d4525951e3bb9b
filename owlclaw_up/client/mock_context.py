"""What a task gets as `ctx` in mock: the part of hatchet-sdk's context that needs no engine, with the same names.

Source of the names: hatchet_sdk/context/context.py, version 1.43.1.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from owlclaw_up.client.errors import MockOnly

logger = logging.getLogger("owlclaw_up.client")


@dataclass(frozen=True)
class SleepResult:
    """How long a durable sleep took."""

    duration: timedelta


class MockContext:
    """`ctx` of one attempt.

    Attributes:
        retry_count: attempts before this one.
        is_cancelled: whether the run was cancelled; a function that is not async has to look.
    """

    def __init__(
        self,
        task: str,
        run_id: str,
        data: Mapping[str, Any],
        metadata: Mapping[str, Any],
        retry_count: int,
        retries: int,
    ) -> None:
        self.task_name = self.workflow_name = task
        self.workflow_run_id = self.task_run_id = self.step_run_id = run_id
        self.workflow_input = dict(data)
        self.additional_metadata = dict(metadata)
        self.retry_count = retry_count
        self.attempt_number = retry_count + 1
        self.max_attempts = retries + 1
        self.is_cancelled = False
        self.lifespan = None

    @property
    def exit_flag(self) -> bool:
        return self.is_cancelled

    def done(self) -> bool:
        return self.is_cancelled

    def cancel(self) -> None:
        self.is_cancelled = True

    async def aio_cancel(self) -> None:
        self.is_cancelled = True

    def log(self, line: object, raise_on_error: bool = False) -> None:
        logger.info("%s: %s", self.task_name, line)

    async def aio_log(self, line: object, raise_on_error: bool = False) -> None:
        self.log(line)

    def refresh_timeout(self, increment_by: object) -> None:
        """Taken note of; the timeout of mock is that of the declaration."""

    async def aio_refresh_timeout(self, increment_by: object) -> None:
        """As `refresh_timeout`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise MockOnly(name)


class MockDurableContext(MockContext):
    """`ctx` of a durable task; what it waits for is not kept when the process ends."""

    async def aio_sleep_for(self, duration: timedelta, label: str | None = None) -> SleepResult:
        # The engine counts whole seconds: hatchet_sdk/utils/timedelta_to_expression.py.
        whole = timedelta(seconds=int(duration.total_seconds()))
        await asyncio.sleep(whole.total_seconds())
        return SleepResult(whole)

    async def aio_sleep_until(self, wake_at: datetime, label: str | None = None) -> SleepResult:
        return await self.aio_sleep_for(max(wake_at - await self.aio_now(), timedelta()))

    async def aio_now(self) -> datetime:
        return datetime.now(timezone.utc)
