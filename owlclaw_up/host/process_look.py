"""A closer look at a process of this user: where it listens, whether it is suspended. By psutil."""

from __future__ import annotations

import contextlib
import ipaddress

from owlclaw_up.host.base import ProcessId


def listening_everywhere(*processes: ProcessId | None) -> frozenset[int]:
    """The ports on which processes of this user listen beyond loopback; none where the system does not tell."""
    import psutil

    sockets = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            sockets += psutil.Process(process.pid).net_connections(kind="tcp") if process else []
    listening = [s.laddr for s in sockets if s.status == psutil.CONN_LISTEN and s.laddr]
    return frozenset(at.port for at in listening if not _is_loopback(at.ip.partition("%")[0]))


def _is_loopback(address: str) -> bool:
    """Also of an IPv4 address as a socket of IPv6 has it: `::ffff:127.0.0.1`."""
    found = ipaddress.ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def is_suspended(process: ProcessId) -> bool:
    """Whether a process was stopped by a signal, and waits for another one to go on."""
    import psutil

    try:
        return bool(psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
