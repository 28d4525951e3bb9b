"""Asking several things at once, each in a daemon thread, with one deadline: what hangs keeps nobody, and no process from ending.

`concurrent.futures` would join its threads when the process ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any


def ask(questions: Mapping[str, Callable[[], Any]], seconds: float | None = None) -> dict[str, Any]:
    """The answers that came in time, by name.

    Args:
        seconds: for all of them together; as long as they take where left out.

    Raises:
        Exception: the first one that a question raised.
    """
    answers: dict[str, Any] = {}
    raised: list[Exception] = []

    def run(name: str, question: Callable[[], Any]) -> None:
        try:
            answers[name] = question()
        except Exception as error:  # raised again below, in the thread that asked
            raised.append(error)

    begun = time.monotonic()
    threads = [threading.Thread(target=run, args=item, daemon=True) for item in questions.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(None if seconds is None else max(0.0, begun + seconds - time.monotonic()))
    if raised:
        raise raised[0]
    # One that comes after all must not change what was given.
    return dict(answers)
