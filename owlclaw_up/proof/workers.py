"""Workers of the smoke test, each a process of its own: started early, told its values when they are known, ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PROGRAM = Path(__file__).with_name("program.py")
_STOP_SECONDS = 4


class WorkerProcess:
    """A worker that imports the SDK and then waits for its values, in a process group of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        argv = [sys.executable, str(_PROGRAM), "work", name]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=sys.stderr, start_new_session=True)

    def tell(self, values: Mapping[str, Any]) -> None:
        """Have it connect and work; nobody sees the values on a command line."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(values).encode() + b"\n")
            self._process.stdin.close()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL to it and to the processes it spawned."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self, paused: bool) -> None:
        """End it.

        Args:
            paused: the engine gives it no more work. Then nothing is lost by a kill, and its own way out takes a second.
        """
        if not paused:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
        self.kill()
