"""What an earlier run, or a lost state, has left behind: ended, removed, put on record or forgotten, each thing by itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from owlclaw_up.errors import ApplyFailed
from owlclaw_up.facts import Facts
from owlclaw_up.facts.leftovers import LeftFile
from owlclaw_up.facts.servers import admin_login
from owlclaw_up.host.embedded import remove_base
from owlclaw_up.host.running import RunningProgram
from owlclaw_up.model import Action, Change, found, unchanged
from owlclaw_up.receipts import Ledger, Receipt
from owlclaw_up.steps.base import Applied, Run

# PostgreSQL ends its sessions at that one, and loses nothing.
_SIGNALS = {"postgres": signal.SIGINT, "initdb": signal.SIGINT}
_SECONDS = 20.0


class EndProgram:
    """End a program of ours that nothing on record names."""

    def __init__(self, ledger: Ledger, program: RunningProgram) -> None:
        self.ledger, self.program = ledger, program

    @property
    def id(self) -> str:
        return f"leftover.process.{self.program.process.pid}"

    @property
    def title(self) -> str:
        return f"Leftover {self.program.name}"

    @property
    def _signal(self) -> signal.Signals:
        return _SIGNALS.get(self.program.name, signal.SIGTERM)

    def check(self, facts: Facts) -> Change:
        look = found(facts.leftovers)
        if look is None or self.program not in look.programs:
            return unchanged("has ended")
        return Change(Action.REMOVE, f"end {self.program.name}, pid {self.program.process.pid}, by {self._signal.name}")

    def apply(self, run: Run) -> Applied:
        process = self.program.process
        if process in (self.ledger.process("engine"), self.ledger.process("postgres")):
            # An `up` has made it its own meanwhile.
            return Applied(Action.UNCHANGED, "is on record now")
        return Applied(Action.REMOVE, run.host.processes.stop(process, signal=self._signal, timeout=_SECONDS))


class RemoveFile:
    """Remove a file of ours that outlived the command that wrote it."""

    def __init__(self, file: LeftFile) -> None:
        self.file = file

    @property
    def id(self) -> str:
        return f"leftover.file.{self.file.path.name}"

    @property
    def title(self) -> str:
        return f"Leftover {self.file.path.name}"

    def check(self, facts: Facts) -> Change:
        look = found(facts.leftovers)
        if look is None or self.file not in look.files:
            return unchanged("is not there")
        return Change(Action.REMOVE, f"{self.file.path}: {self.file.what}", touches=(str(self.file.path),))

    def apply(self, run: Run) -> Applied:
        try:
            run.host.files.remove(self.file.path)
        except OSError as error:
            raise _not_removed(self.file.path, error) from None
        return Applied(Action.REMOVE, "removed")


class RemoveEmptyServer:
    """Remove the folder of an embedded server that was never made: there is no data in it."""

    def __init__(self, base: Path) -> None:
        self.base = base

    @property
    def id(self) -> str:
        return f"leftover.server.{self.base.name}"

    @property
    def title(self) -> str:
        return f"Leftover {self.base.name}"

    def check(self, facts: Facts) -> Change:
        look = found(facts.leftovers)
        if look is None or (self.base, False) not in look.bases:
            return unchanged("is not there, or has data")
        return Change(Action.REMOVE, f"{self.base}, which has no data", touches=(str(self.base),))

    def apply(self, run: Run) -> Applied:
        try:
            remove_base(self.base)
        except OSError as error:
            raise _not_removed(self.base, error) from None
        return Applied(Action.REMOVE, "removed")


class RemoveContainer:
    """Remove a container of this checkout's compose project that nothing on record names; volumes stay.

    Args:
        address: of the Docker engine.
    """

    def __init__(self, address: str, name: str) -> None:
        self.address, self.name = address, name

    @property
    def id(self) -> str:
        return f"leftover.container.{self.name}"

    @property
    def title(self) -> str:
        return f"Leftover {self.name}"

    def check(self, facts: Facts) -> Change:
        docker = found(facts.docker)
        if docker is None or self.name not in {container.name for container in docker.containers.values()}:
            return unchanged("is not there")
        return Change(Action.REMOVE, f"container {self.name}; its volumes stay")

    def apply(self, run: Run) -> Applied:
        docker = run.host.docker(self.address)
        container = docker.container(self.name)
        if container is None:
            return Applied(Action.UNCHANGED, "is not there")
        if container.active:
            docker.stop(container.id, timeout=int(_SECONDS))
        docker.remove_container(container.id)
        return Applied(Action.REMOVE, "removed")


class DropCopy:
    """Drop a database that was made aside, on the server that is ours, for a restore that was killed."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self.ledger, self.name = ledger, name

    @property
    def id(self) -> str:
        return f"leftover.database.{self.name}"

    @property
    def title(self) -> str:
        return f"Leftover {self.name}"

    def check(self, facts: Facts) -> Change:
        look = found(facts.leftovers)
        if look is None or self.name not in (look.databases or ()):
            return unchanged("is not there")
        return Change(Action.REMOVE, f"drop database {self.name}")

    def apply(self, run: Run) -> Applied:
        admin = admin_login(self.ledger)
        assert admin is not None, "it was seen there"
        run.host.postgres.drop_database(admin, self.name)
        self.ledger.forget("database", name=self.name)
        return Applied(Action.REMOVE, "dropped")


class RecordReceipts:
    """Put on record what is ours, since it is on a server of ours.

    Args:
        things: by kind and name.
    """

    id = "leftover.unrecorded"
    title = "What is not on record"

    def __init__(self, ledger: Ledger, things: Sequence[tuple[str, str]]) -> None:
        self.ledger, self.things = ledger, things

    def _new(self) -> list[tuple[str, str]]:
        return [(kind, name) for kind, name in self.things if not self.ledger.receipts(kind, name=name)]

    def check(self, facts: Facts) -> Change:
        new = [f"{kind} {name}" for kind, name in self._new()]
        return Change(Action.UPDATE, f"on record: {', '.join(new)}") if new else unchanged("all is on record")

    def apply(self, run: Run) -> Applied:
        new, where = self._new(), self.ledger.recall("postgres").get("where")
        for kind, name in new:
            self.ledger.record(kind, name=name, server="", where=where)
        return Applied(Action.UPDATE, f"{len(new)} put on record")


class ForgetReceipts:
    """Forget receipts of what is gone: a purge would look for it, and take what somebody else gave that name since."""

    id = "leftover.receipts"
    title = "Receipts of what is gone"

    def __init__(self, ledger: Ledger, receipts: Sequence[Receipt]) -> None:
        self.ledger, self.doomed = ledger, receipts

    def _there(self) -> list[Receipt]:
        return [r for r in self.doomed if self.ledger.receipts(r.kind, **r.identity)]

    def check(self, facts: Facts) -> Change:
        names = [named(receipt) for receipt in self._there()]
        return Change(Action.UPDATE, f"forget {', '.join(names)}") if names else unchanged("none")

    def apply(self, run: Run) -> Applied:
        there = self._there()
        for receipt in there:
            self.ledger.forget(receipt.kind, **receipt.identity)
        return Applied(Action.UPDATE, f"{len(there)} forgotten")


def named(receipt: Receipt) -> str:
    """What a receipt is about, for the reader."""
    word = {"cluster": "data directory"}.get(receipt.kind, receipt.kind)
    return f"{word} {receipt.identity.get('name') or receipt.identity.get('base')}"


def _not_removed(path: Path, error: OSError) -> ApplyFailed:
    why = os.strerror(error.errno or 0)
    return ApplyFailed("not-removed", f"{path} could not be removed: {why}", hint=f"ls -ld {path.parent} {path}")
