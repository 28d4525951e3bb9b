"""Ports for servers of tests.

A port that the system has just given to `bind(0)` it gives to the next client as well: between the choice and the start of
an engine there are seconds, in which one of the other test processes connects to something. So these are none of the
system's, nor any that owlclaw-up looks for by itself, and no two test processes have the same.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import socket
from collections.abc import Iterator

# Systems give clients ports from 32768 on, Windows and macOS from 49152 on; owlclaw-up has its own from 17077 on.
_FIRST, _BLOCKS, _BLOCK = 10000, 14, 500
_CLAIMS: list[socket.socket] = []


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on, on any interface; none is given again before all others were.

    Raises:
        RuntimeError: all blocks are other test processes'.
    """
    return list(itertools.islice(filter(_free, _block()), count))


def free_port() -> int:
    return free_ports(1)[0]


@functools.cache
def _block() -> Iterator[int]:
    """The ports of a block that is this process's own until it ends: it listens on the first of them."""
    for number in range(_BLOCKS):
        first = _FIRST + _BLOCK * ((os.getpid() + number) % _BLOCKS)
        with contextlib.suppress(OSError):
            _CLAIMS.append(socket.create_server(("127.0.0.1", first)))
            return itertools.cycle(range(first + 1, first + _BLOCK))
    raise RuntimeError(f"all {_BLOCKS} blocks of ports for tests are in use: ss -ltnp")


def _free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("0.0.0.0", port))
        return True
    return False
