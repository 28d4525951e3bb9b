"""`--offline` is held to: every socket of the command and of all its children is watched, until everything has ended."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bundles import make_bundle
from tests.conftest import REAL_ENGINE_DIR, Cli
from tests.sockets import own_address, read_trace, watch

# Slow under strace, and slower beside other tests.
pytestmark = pytest.mark.timeout(300)
END = ("down", "--purge", "--yes")


@contextmanager
def ear(address: str) -> Iterator[tuple[int, list[str]]]:
    """A port on which somebody listens who hangs up on everybody, and writes down who came."""
    came: list[str] = []
    with socket.create_server((address, 0)) as server:

        def listen() -> None:
            while True:
                try:
                    connection, peer = server.accept()
                except OSError:
                    return
                came.append(peer[0])
                connection.close()

        threading.Thread(target=listen, daemon=True).start()
        yield server.getsockname()[1], came
        server.shutdown(socket.SHUT_RDWR)


def test_a_trace_is_read() -> None:
    lines = """\
10 connect(3, {sa_family=AF_UNIX, sun_path="/run/x.sock"}, 110) = 0
10 connect(3, {sa_family=AF_INET, sin_port=htons(5432), sin_addr=inet_addr("127.0.0.1")}, 16) = 0
11 connect(3, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::ffff:127.0.0.1", &sin6_addr), sin6_scope_id=0}, 28) = 0
11 bind(3, {sa_family=AF_INET6, sin6_port=htons(8888), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::", &sin6_addr), sin6_scope_id=0}, 28) = 0
11 connect(3, {sa_family=AF_UNSPEC, sa_data="\\0"}, 16) = 0
12 connect(9, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("140.82.121.3")}, 16 <unfinished ...>
13 sendmmsg(3, [{msg_hdr={msg_name={sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.2")}, msg_namelen=16}}], 1, MSG_NOSIGNAL) = 1
14 sendto(7, "x", 1, 0, {sa_family=AF_INET6, sin6_port=htons(9), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "2001:db8::1", &sin6_addr), sin6_scope_id=0}, 28) = 1
14 sendto(7, "x", 1, 0, NULL, 0) = 1
15 bind(3, {sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr("10.0.0.9")}, 16) = 0
16 connect(3, {sa_family=AF_VSOCK, svm_cid=0x2}, 16) = 0
16 +++ exited with 0 +++
"""
    contacts, odd = read_trace(lines)
    away = [(c.call, c.address, c.port) for c in contacts if not c.local]
    assert away == [
        ("connect", "140.82.121.3", 443), ("sendmmsg", "10.0.0.2", 53), ("sendto", "2001:db8::1", 9), ("bind", "10.0.0.9", 0)
    ]  # fmt: skip
    assert len(contacts) == 7 and len(odd) == 1


def test_nothing_leaves_this_machine_with_an_engine_out_of_a_folder(
    new_cli: Callable[..., Cli], standin_dir: Path, tmp_path: Path
) -> None:
    """With an empty cache, everything proved; the folder is gone afterwards, and `up` needs it no more."""
    bundle = make_bundle(tmp_path / "stick", engine=standin_dir)
    address = own_address()
    with ear(address) as (port, came):
        cli = new_cli(OWLCLAW_UP_ENGINE_DIR="", OWLCLAW_UP_REGISTRY_MIRROR=f"{address}:{port}")
        seen = watch(
            cli, ("up", "--offline", "--from", str(bundle.folder), "--json"), ("doctor",), END,
            OWLCLAW_UP_OFFLINE="true",
        )  # fmt: skip
    assert seen.codes[0] == 0, seen.outputs[0]
    document = json.loads(seen.outputs[0])
    assert (document["mode"], document["smoke"]["status"]) == ("native", "passed")
    assert document["steps"][0]["id"] == "engine.fetch" and document["steps"][0]["status"] == "done"
    assert seen.codes[2] == 0, seen.outputs
    assert seen.away() == [] and seen.odd == () and came == []
    # The engine, PostgreSQL and the worker were watched as well.
    assert len([c for c in seen.contacts if c.call == "connect"]) > 50
    (tmp_path / "stick").rename(tmp_path / "away")
    assert cli.json("up", "--offline", "--smoke", "none")["mode"] == "native"


@pytest.mark.parametrize(
    ("mode", "engine"),
    [
        ("mock", ""),
        *([pytest.param("native", REAL_ENGINE_DIR, marks=pytest.mark.real_engine)] if REAL_ENGINE_DIR else []),
    ],
)
def test_nothing_leaves_this_machine(new_cli: Callable[..., Cli], mode: str, engine: str) -> None:
    seen = watch(new_cli(engine), ("up", "--offline", "--mode", mode), END)
    assert seen.codes == (0, 0), seen.outputs
    assert seen.away() == [] and seen.odd == ()


def test_who_does_leave_it_is_seen(new_cli: Callable[..., Cli]) -> None:
    """The watcher itself: without `--offline` a registry on an address of this machine that is not loopback is asked."""
    address = own_address()
    with ear(address) as (port, came):
        cli = new_cli(OWLCLAW_UP_ENGINE_DIR="", OWLCLAW_UP_REGISTRY_MIRROR=f"{address}:{port}")
        native = ("up", "--mode", "native", "--smoke", "none")
        held = watch(cli, (*native, "--offline"))
        assert held.codes == (3,) and held.away() == [] and came == []
        seen = watch(cli, native, seconds=60)
    assert seen.codes == (3,), seen.outputs
    assert {(c.call, c.address, c.port) for c in seen.away()} == {("connect", address, port)}
    assert came
