"""Ports of this machine: which are free, whose the others are, and whether somebody answers."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Collection

from owlclaw_up.host.base import PortLook, PortOwner


def look_at_port(port: int, *, everywhere: bool = False) -> PortLook:
    """Whether a server of ours could listen on a port.

    Args:
        everywhere: the server will listen on all interfaces, not on loopback alone.

    Returns:
        `free`, `busy`, or `denied` (a reserved or excluded port); `port_owners` says whose.
    """
    addresses: list[tuple[int, str]] = [(socket.AF_INET, "0.0.0.0" if everywhere else "127.0.0.1")]
    if socket.has_ipv6:
        addresses.append((socket.AF_INET6, "::" if everywhere else "::1"))
    for family, address in addresses:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
            # As servers do it: a port in TIME_WAIT is free. Not listening, which would make the port busy for whoever
            # looks, or starts a server, at the same moment; beside a listener, nobody can bind.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return PortLook(port, "busy")
                if error.errno in (errno.EACCES, errno.EPERM):
                    return PortLook(port, "denied", why=os.strerror(error.errno))
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
    return PortLook(port, "free")


def port_owners(ports: Collection[int]) -> dict[int, PortOwner]:
    """Who listens on ports, as far as this user may know; one pass over the machine's connections.

    Returns:
        An owner for every port asked for; one without a pid where the system does not tell.
    """
    import psutil

    owners = {port: PortOwner(None, "", "") for port in ports}
    try:
        connections = psutil.net_connections(kind="tcp") if ports else []
    except (psutil.AccessDenied, OSError):
        connections = []
    for connection in connections:
        local = connection.laddr
        if connection.status == psutil.CONN_LISTEN and local and local.port in owners and connection.pid:
            try:
                process = psutil.Process(connection.pid)
                owners[local.port] = PortOwner(connection.pid, process.name(), " ".join(process.cmdline())[:200])
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                owners[local.port] = PortOwner(connection.pid, "a process", "")
    return owners


def answers_tcp(host: str, port: int, timeout: float = 0.3) -> bool:
    """Whether somebody accepts connections there; says nothing of who."""
    try:
        with socket.create_connection((host, port), timeout=timeout):
            return True
    except OSError:
        return False
