"""Every socket that commands and all their children send to, by strace: nobody who runs under it can contact anyone unseen.

`strace -f` follows the engine, PostgreSQL and workers too, which outlive the command that starts them: the last of the
commands has to end them.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import psutil
import pytest

from tests.conftest import Cli

# Every call that can name a peer, and the one that names an address of one's own.
_CALLS = "connect,sendto,sendmsg,sendmmsg,bind"
_CALL = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+)")
_FAMILY = re.compile(r"sa_family=(AF_\w+)")
_ADDRESS = re.compile(
    r'sin_port=htons\((?P<port>\d+)\), sin_addr=inet_addr\("(?P<v4>[^"]+)"\)'
    r'|sin6_port=htons\((?P<port6>\d+)\),.*?inet_pton\(AF_INET6, "(?P<v6>[^"]+)"'
)
# Of this machine and its kernel; AF_UNSPEC ends an association.
_LOCAL = {"AF_UNIX", "AF_NETLINK", "AF_INET", "AF_INET6", "AF_UNSPEC"}


@dataclass(frozen=True)
class Contact:
    """Attributes: line: as strace wrote it."""

    call: str
    address: str
    port: int
    line: str

    @property
    def local(self) -> bool:
        """Whether it stays on this machine; listening on every address is no contact."""
        address = ipaddress.ip_address(self.address)
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return (mapped or address).is_loopback or (self.call == "bind" and address.is_unspecified)


@dataclass(frozen=True)
class Watched:
    """What was seen.

    Attributes:
        codes: exit codes of the commands.
        outputs: what each printed, both streams.
        contacts: every address of the internet's families that was named.
        odd: calls with an address of a family that no program of ours knows.
    """

    codes: tuple[int, ...]
    outputs: tuple[str, ...]
    contacts: tuple[Contact, ...]
    odd: tuple[str, ...]

    def away(self, but: Collection[str] = ()) -> list[Contact]:
        """Contacts that leave this machine.

        Args:
            but: addresses that are this machine's own.
        """
        return [c for c in self.contacts if not c.local and c.address not in but]


def watch(cli: Cli, *commands: Sequence[str], seconds: float = 160, **env: str) -> Watched:
    """Run commands one after the other; the last one ends what the others have started."""
    if shutil.which("strace") is None:
        pytest.skip("no strace on this machine: apt-get install strace")
    folder = cli.root.parent / "watched"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    trace = folder / "trace"
    ours = shlex.join([sys.executable, "-m", "owlclaw_up"])
    script = "\n".join(
        f"{ours} {shlex.join(each)} >{folder / f'{n}.out'} 2>&1; echo $? >{folder / f'{n}.code'}"
        for n, each in enumerate(commands)
    )
    # Only what is looked for stops a program: without that filter everything takes twice as long.
    argv = ["strace", "-f", "--seccomp-bpf", "-qq", "-s", "128", "-e", f"trace={_CALLS}", "-e", "signal=none"]
    process = subprocess.Popen(
        [*argv, "-o", str(trace), "sh", "-c", script], cwd=cli.root, env={**cli.env, **env}, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        printed = [path.read_text() for path in sorted(folder.glob("*.out"))]
        raise AssertionError(f"something still runs after {seconds} s: {printed}") from None
    assert trace.exists(), said
    codes = tuple(int((folder / f"{n}.code").read_text()) for n in range(len(commands)))
    outputs = tuple((folder / f"{n}.out").read_text() for n in range(len(commands)))
    return Watched(codes, outputs, *read_trace(trace.read_text(errors="replace")))


def read_trace(text: str) -> tuple[tuple[Contact, ...], tuple[str, ...]]:
    """The contacts in what strace wrote, and the calls with a family that is not known here."""
    contacts, odd = [], []
    for line in text.splitlines():
        call = _CALL.match(line)
        if call is None:
            continue
        for found in _ADDRESS.finditer(line):
            address, port = found["v4"] or found["v6"], found["port"] or found["port6"]
            contacts.append(Contact(call[1], address, int(port), line))
        if set(_FAMILY.findall(line)) - _LOCAL:
            odd.append(line)
    return tuple(contacts), tuple(odd)


def own_address() -> str:
    """An address of this machine that is not loopback."""
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family.name == "AF_INET" and not ipaddress.ip_address(each.address).is_loopback:
                return str(each.address)
    pytest.skip("this machine has no network interface")
