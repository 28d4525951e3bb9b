"""Throwaway environments: brought up in a folder of their own with ports of their own, and purged at the end.

All of a session lie in one folder whose name says whose it is (`owner`), so that the next session removes what a killed
one left running. The workers of pytest-xdist share the folder of their controller.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
import stat
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from owlclaw_up import dotenv_text, environment
from owlclaw_up.errors import ApplyFailed, PortTaken, UnknownSetting, UpError, UsageError
from owlclaw_up.facts import gather
from owlclaw_up.host.machine import Host
from owlclaw_up.host.ports import look_at_port
from owlclaw_up.model import Outcome
from owlclaw_up.modes import native_engine
from owlclaw_up.project import Project, open_project
from owlclaw_up.setting_values import nearest
from owlclaw_up.settings import ENV_PREFIX, KEYS
from owlclaw_up.spec import EngineBinaries, Sidecar
from owlclaw_up.steps.dotenv import SECRET_KEYS
from owlclaw_up.testing.owner import FOLDER, Owner

if TYPE_CHECKING:
    from owlclaw_up.client import HatchetClient

MODES = ("native", "mock")
DOTENV = ".env"
# What the project's settings say of its engine counts for throwaway ones too.
_ENGINE = ("engine_dir", "native_engine", "sidecar_version", "sidecar_binary", "sidecar_checksum")
# Below the ports that the system gives to outgoing connections, above the usual servers.
_FIRST_PORT, _BLOCKS, _BLOCK = 20000, 1200, 8


class Variables(Mapping[str, str]):
    """The variables of an environment, as its dotenv file has them; shown without secrets."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr({name: "***" if name in SECRET_KEYS else value for name, value in self._values.items()})


class Environment:
    """A throwaway environment that is up. A context manager: it is gone afterwards.

    Attributes:
        mode: `native` or `mock`.
        project: its folder, with its dotenv file.
        variables: of that file.
        outcome: what bringing it up came to.
    """

    def __init__(self, opened: Project, outcome: Outcome) -> None:
        assert outcome.mode is not None
        self.project, self.outcome, self.mode = opened.root, outcome, outcome.mode.value
        self.variables = Variables(dotenv_text.values((opened.root / DOTENV).read_bytes()))
        self._opened = opened
        self._clients: list[HatchetClient] = []

    def client(self) -> HatchetClient:
        """A connected client of this environment; closed when the environment goes."""
        from owlclaw_up.client import HatchetClient, HatchetConfig

        client = HatchetClient(HatchetConfig.load(None, self.variables))
        client.sync.connect()
        self._clients.append(client)
        return client

    def close(self) -> None:
        """Purge it; once more does nothing.

        Raises:
            UpError: something of it could not be removed; the next session tries again.
        """
        while self._clients:
            self._clients.pop().sync.close()
        remove(self.project)

    def __enter__(self) -> Environment:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.mode} environment in {self.project}>"


class Environments:
    """Makes the environments of one session.

    Args:
        folder: of the session; made with the first environment.
        project: the project under test: its engine is used, and its time limit; nothing else of it.
    """

    def __init__(self, folder: Path, project: Project) -> None:
        self.folder, self.project = folder, project

    def make(self, mode: str = "", **settings: Any) -> Environment:
        """Bring one up.

        Args:
            mode: `native` or `mock`; by default `native` where an engine is at hand.
            settings: of owlclaw-up, as for `owlclaw_up.up`.

        Raises:
            UsageError: there is no such mode here.
            UpError: it could not be brought up; nothing of it is left.
        """
        if mode not in ("", *MODES):
            raise UsageError(f"a throwaway environment cannot be {mode!r}", hint="name native or mock")
        for name in settings:
            if name not in KEYS:
                raise UnknownSetting(name, "a throwaway environment", nearest(name, KEYS))
        self._prepare()
        while True:
            block = _FIRST_PORT + _BLOCK * secrets.randbelow(_BLOCKS)
            root = self.folder / str(block)
            # The folder is what keeps its ports from the others of this session.
            with contextlib.suppress(FileExistsError):
                root.mkdir(0o700)
                break
        try:
            return Environment(*self._up(root, mode or self._usual_mode(), {**_ports(block), **settings}))
        except BaseException:
            remove(root)
            raise

    def shared_server(self) -> Project:
        """A mock environment for its PostgreSQL alone: one for every worker of the session.

        Raises:
            UpError: it could not be brought up.
        """
        self._prepare()
        root = self.folder / "server"
        root.mkdir(0o700, exist_ok=True)
        # The same for every worker: the first one makes it, and the others wait for its lock and find it made.
        port = _FIRST_PORT + _BLOCK * (zlib.crc32(self.folder.name.encode()) % _BLOCKS)
        try:
            return self._up(root, "mock", {"postgres_port": port})[0]
        except PortTaken:
            return self._up(root, "mock", {})[0]

    def _prepare(self) -> None:
        make_folder(self.folder)
        sweep(self.folder.parent)

    def _usual_mode(self) -> str:
        opened = self.project
        facts = gather(opened.host, opened.settings, opened.ledger, only=("engines", "sidecar"))
        engine = native_engine(facts, opened.settings)
        return "native" if isinstance(engine, (EngineBinaries, Sidecar)) else "mock"

    def _up(self, root: Path, mode: str, settings: Mapping[str, Any]) -> tuple[Project, Outcome]:
        own = self.project.settings
        engine = {name: getattr(own, name).value for name in _ENGINE}
        flags = {
            **{name: str(value) if value else None for name, value in engine.items()},
            "timeout": own.timeout.value, "offline": own.offline.value, "smoke": "none", **settings, "mode": mode,
        }  # fmt: skip
        opened = open_project(root, flags, _host(self.project.host))
        if not opened.ledger.exists:
            _want_embedded(opened)
        outcome = environment.up(opened)
        if outcome.exit_code:
            raise outcome.error or ApplyFailed(
                "smoke-failed", "the smoke test of a throwaway environment said no", hint="smoke=\"none\" skips it",
                detail="\n".join(f"{p.id} {p.status} {p.detail}" for p in outcome.smoke.proofs) if outcome.smoke else "",
            )  # fmt: skip
        return opened, outcome


def make_folder(folder: Path) -> None:
    """Make a session's folder, for this user alone.

    Raises:
        ApplyFailed: somebody else has made it.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(0o700)
    if not _is_mine(folder):
        raise ApplyFailed("session-folder", f"{folder} belongs to somebody else", hint=f"ls -ld {folder}")


def sweep(folder: Path) -> None:
    """Remove what killed sessions of this user have left in a folder for temporary files."""
    for left in folder.glob(f"{FOLDER}*"):
        owner = Owner.named_in(left.name)
        if owner is not None and owner.gone and _is_mine(left):
            # What cannot be removed now is tried again by the next session.
            with contextlib.suppress(UpError, OSError):
                remove_all(left)


def _is_mine(folder: Path) -> bool:
    """A real folder of this user: among temporary files anybody may have put a link there, or another folder."""
    seen = folder.lstat()
    return stat.S_ISDIR(seen.st_mode) and (sys.platform == "win32" or seen.st_uid == os.geteuid())


def remove_all(folder: Path) -> None:
    """Remove a session's folder, and purge whatever is in it.

    Raises:
        UpError: one of its environments could not be purged.
    """
    for root in sorted(folder.iterdir()) if folder.is_dir() else []:
        remove(root)
    shutil.rmtree(folder, ignore_errors=True)


def remove(root: Path) -> None:
    """Purge one environment, and remove its folder.

    Raises:
        UpError: something of it could not be removed; its folder stays, with the receipts.
    """
    if not root.is_dir():
        return
    outcome = environment.down(open_project(root, {}, _host(Host())), purge=True)
    if outcome.error is not None:
        raise outcome.error
    shutil.rmtree(root, ignore_errors=True)


def _host(host: Host) -> Host:
    """The same doors, without the developer's own settings and servers."""
    foreign = (ENV_PREFIX, "OWLCLAW_ADMIN_URL", "PG")
    return dataclasses.replace(host, environ={k: v for k, v in host.environ.items() if not k.startswith(foreign)})


def _want_embedded(opened: Project) -> None:
    """Have the environment use a PostgreSQL of its own, never one of the developer's that happens to answer."""
    opened.ledger.prepare()
    opened.ledger.save_secrets()
    opened.ledger.remember("postgres", kind="embedded")


def _ports(block: int) -> dict[str, int]:
    """The public ports of an environment, of those of its block that are free."""
    free = [port for port in range(block, block + _BLOCK) if look_at_port(port, everywhere=True).state == "free"]
    return dict(zip(("dashboard_port", "grpc_port", "postgres_port"), free, strict=False))
