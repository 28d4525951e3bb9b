"""Looking up a host name as every program does it: hosts file, then DNS, as the system is set up. May hang for long."""

from __future__ import annotations

import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class Resolved:
    """What became of a name.

    Attributes:
        addresses: in the order in which a program would try them.
        error: why there are none.
    """

    addresses: tuple[str, ...] = ()
    error: str = ""


def resolve(name: str) -> Resolved:
    """The addresses of a name."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return Resolved(error=error.strerror or str(error))
    except UnicodeError:
        return Resolved(error="it is no host name")
    return Resolved(tuple(dict.fromkeys(str(entry[4][0]) for entry in found)))
