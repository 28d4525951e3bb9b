"""Whether an engine answers: one short look, and words for whoever wants one where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from owlclaw_up.client import HatchetClient, HatchetConfig
from owlclaw_up.client.config import VARIABLES
from owlclaw_up.client.errors import ClientError
from owlclaw_up.errors import UpError
from owlclaw_up.testing import NO_ENGINE

# Seconds; nobody shall wait for an engine that is not there.
TIMEOUT = 1.0
TOKENS = VARIABLES["token"]


@dataclass(frozen=True)
class Verdict:
    """What the look came to.

    Attributes:
        config: how to reach the engine, or the in-process one; None where nothing usable is set up.
        reason: why no engine answers; empty where one does.
        hint: what helps.
        in_process: whether none is meant to: mock, or nothing was set up.
    """

    config: HatchetConfig | None
    reason: str = ""
    hint: str = ""
    in_process: bool = False

    @property
    def text(self) -> str:
        """For the reader, in one line."""
        if not self.reason:
            return f"the engine at {self.config.host_port} answers" if self.config else ""
        return f"{NO_ENGINE}: {self.reason}. What helps: {self.hint}"


def ask(environ: Mapping[str, str]) -> Verdict:
    """Look at what is set up, and ask the engine for its version with the token."""
    try:
        config = HatchetConfig.load(None, environ)
    except ClientError as error:
        if not any(environ.get(name) for name in TOKENS):
            config = HatchetConfig("", mock=True)
            return Verdict(config, f"nothing is set up, {TOKENS[0]} is empty", "owlclaw-up", in_process=True)
        return Verdict(None, error.message, error.hint)
    if config.mock:
        return Verdict(
            config, "this environment is a mock, which has none", "owlclaw-up plan, which says what a real one takes",
            in_process=True,
        )  # fmt: skip
    client = HatchetClient(config)
    try:
        client.sync.connect(timeout=TIMEOUT)
    except UpError as error:
        return Verdict(config, error.message, error.hint)
    finally:
        client.sync.close()
    return Verdict(config)
