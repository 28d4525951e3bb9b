"""What can be shown without an engine: a task runs in this process. The rest is said to be skipped."""

from __future__ import annotations

from owlclaw_up.proof.long import LONG_PROOFS
from owlclaw_up.proof.quick import Session
from owlclaw_up.proof.talk import Failed, say


async def mock(session: Session, level: str) -> bool:
    """A mock run; False if it failed."""

    async def ran() -> tuple[bool, str]:
        answer = await session.tasks.client.mock_run(session.tasks.ping)
        if answer.get("pong") != "1":
            raise Failed("result", f"the task answered {answer!r}")
        return True, "a task ran in this process, by a mock run"

    await session.proofs.prove("mock_run", ran, "result")
    for name in ("durable_sleep", *(LONG_PROOFS if level == "full" else ())):
        say(name, "skipped", 0.0, "it needs an engine; there is none in mock")
    return session.proofs.good
