"""Who on this machine is at the other end of a session of PostgreSQL: ports of processes, and processes by their ports."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from owlclaw_up.host.base import ProcessId


@dataclass(frozen=True)
class Client:
    """A process that has a session.

    Attributes:
        folder: its working directory; empty where the system does not tell.
    """

    pid: int
    name: str
    folder: str = ""

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})" + (f" in {self.folder}" if self.folder else "")


def ports_of(process: ProcessId) -> frozenset[int]:
    """The ports at the near ends of a process's connections; none where the system does not tell."""
    import psutil

    try:
        sockets = psutil.Process(process.pid).net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return frozenset()
    return frozenset(s.laddr.port for s in sockets if s.laddr and s.raddr)


def clients_at(ports: Collection[int]) -> dict[int, Client]:
    """The processes that connect from ports, as far as this user may know; one pass over the machine's connections."""
    import psutil

    found: dict[int, Client] = {}
    try:
        sockets = psutil.net_connections(kind="tcp") if ports else []
    except (psutil.AccessDenied, OSError):
        sockets = []
    for socket in sockets:
        if not (socket.laddr and socket.raddr and socket.pid and socket.laddr.port in ports):
            continue
        try:
            process = psutil.Process(socket.pid)
            found[socket.laddr.port] = Client(socket.pid, process.name(), process.cwd())
        except psutil.Error:
            found.setdefault(socket.laddr.port, Client(socket.pid, "a process"))
    return found
