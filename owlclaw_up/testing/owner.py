"""Whose a throwaway thing is: names that say which process made it, so that what a killed one left can be told from what
a living one uses.
"""

from __future__ import annotations

import functools
import os
import re
import socket
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

# Of the folder of a session, among the system's temporary files.
FOLDER = "owlclaw-pytest-"
_NAME = re.compile(r"(?P<host>[0-9a-f]{8})_(?P<pid>\d+)_(?P<since>\d+)")
# A clock that is put forward meanwhile makes a process look younger than what it made.
_CLOCK_SLACK = 600.0


@dataclass(frozen=True)
class Owner:
    """A process.

    Attributes:
        host: a number for the machine, or the container: pids mean nothing to another.
        since: a moment of its life, in seconds since the epoch.
    """

    host: str
    pid: int
    since: int

    @classmethod
    @functools.cache
    def me(cls) -> Owner:
        """This process."""
        return cls(_host(), os.getpid(), int(time.time()))

    @classmethod
    def named_in(cls, name: str) -> Owner | None:
        """The owner whose text stands in a name; None where none does."""
        match = _NAME.search(name)
        return cls(match["host"], int(match["pid"]), int(match["since"])) if match else None

    @property
    def gone(self) -> bool:
        """Whether it is known to live no more: a pid that somebody younger has counts as gone, another machine's does not."""
        # Imported here: a session that only gives itself a name pays for nothing else.
        from owlclaw_up.host.local import start_time

        if self.host != _host() or self == Owner.me():
            return False
        started = start_time(self.pid)
        return started is None or self.pid == os.getpid() or started > self.since + _CLOCK_SLACK

    def __str__(self) -> str:
        return f"{self.host}_{self.pid}_{self.since}"


@functools.cache
def _host() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def session_folder(owner: str) -> Path:
    """The folder of the session that a process controls."""
    return Path(tempfile.gettempdir()) / f"{FOLDER}{owner}"
