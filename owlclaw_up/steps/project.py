"""The state directory and its secrets: made first, removed last."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from owlclaw_up.facts import Facts
from owlclaw_up.host.postgres_url import url_of
from owlclaw_up.model import Action, Change, unchanged
from owlclaw_up.receipts import STATE_DIR, Ledger
from owlclaw_up.spec import DatabaseSpec, NativeEngine, PostgresSpec, SidecarEngine, StackSpec, engine_key
from owlclaw_up.steps.base import Applied, Run


class KeepLogins:
    """Keep the server and the passwords of the roles in `state.json` and `secrets.json`, before anything uses them."""

    id = "project"
    title = "State and secrets"

    def __init__(self, server: PostgresSpec, databases: Sequence[DatabaseSpec], ledger: Ledger) -> None:
        self.server, self.databases, self.ledger = server, databases, ledger

    def check(self, facts: Facts) -> Change:
        if self._new():
            return Change(Action.CREATE, f"{STATE_DIR}/ with generated secrets, 0700", touches=(f"{STATE_DIR}/",))
        moved = self._moved()
        if moved:
            return Change(Action.UPDATE, f"{STATE_DIR}/: {', '.join(moved)}", touches=(f"{STATE_DIR}/state.json",))
        return unchanged(f"{STATE_DIR}/ is as it should be")

    def apply(self, run: Run) -> Applied:
        new, moved = self._new(), self._moved()
        server, ledger = self.server, self.ledger
        ledger.prepare()
        for database in self.databases:
            ledger.vault.passwords[database.role] = database.password.reveal()
        ledger.vault.admin_url = "" if server.ours else url_of(server.admin).reveal()
        ledger.save_secrets()
        self._keep()
        if server.given or ledger.recall("postgres").get("given"):
            ledger.keep("postgres", given=server.given)
        ledger.remember("postgres", kind=server.kind, where=server.admin.where, identity=server.identity)
        return Applied(Action.CREATE, self._made()) if new else Applied(Action.UPDATE, ", ".join(moved))

    def _new(self) -> bool:
        return not self.ledger.recall("postgres").get("kind")

    def _made(self) -> str:
        return "passwords made"

    def _keep(self) -> None:
        """What else is kept with it."""

    def _moved(self) -> list[str]:
        server, ledger = self.server, self.ledger
        moved = []
        if ledger.recall("postgres").get("kind") != server.kind:
            moved.append(f"{server.kind} PostgreSQL")
        kept = {role: text for role, text in ledger.vault.passwords.items() if role not in ledger.unsaved}
        new = [d.role for d in self.databases if kept.get(d.role) != d.password.reveal()]
        if new:
            moved.append(f"password of {', '.join(dict.fromkeys(new))}")
        if not server.ours and ledger.vault.admin_url != url_of(server.admin).reveal():
            moved.append("admin login")
        return moved


class PrepareProject(KeepLogins):
    """Fix the ports as well: everything that an environment needs before its first step."""

    def __init__(self, spec: StackSpec, ledger: Ledger) -> None:
        super().__init__(spec.postgres, spec.databases, ledger)
        self.ports = dataclasses.asdict(spec.ports)
        alone = () if isinstance(spec.engine, SidecarEngine) else None
        self.fellows = spec.engine.fellows if isinstance(spec.engine, NativeEngine) else alone

    def _new(self) -> bool:
        return not self.ledger.state.ports

    def _made(self) -> str:
        return "ports chosen, passwords made"

    def _keep(self) -> None:
        self.ledger.state.ports = dict(self.ports)
        if self.fellows is not None:
            self.ledger.keep("engines", count=1 + len(self.fellows))
            for fellow in self.fellows:
                self.ledger.keep(engine_key(fellow.number), ports=fellow.ports.of_engine)

    def _moved(self) -> list[str]:
        kept = self.ledger.state.ports
        moved = [f"{name} port {port}" for name, port in self.ports.items() if kept.get(name) != port]
        return moved + self._moved_engines() + super()._moved()

    def _moved_engines(self) -> list[str]:
        if self.fellows is None:
            return []
        count, ledger = 1 + len(self.fellows), self.ledger
        said = f"{count} engines" if count > 1 else "one engine"
        moved = [said] if ledger.recall("engines").get("count", 1) != count else []
        return moved + [
            f"ports of engine {f.number}"
            for f in self.fellows
            if ledger.recall(engine_key(f.number)).get("ports") != f.ports.of_engine
        ]


class RemoveState:
    """Remove the state directory; the last step of a purge."""

    id = "project"
    title = "State and secrets"

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def check(self, facts: Facts) -> Change:
        if self.ledger.directory.exists():
            return Change(Action.REMOVE, f"{STATE_DIR}/ with state, secrets and logs", touches=(f"{STATE_DIR}/",))
        return unchanged("there is none")

    def apply(self, run: Run) -> Applied:
        # The state goes first: without it, what an interrupt leaves over names nothing any more.
        run.host.files.remove(self.ledger.state_path)
        run.host.files.remove_tree(self.ledger.directory)
        return Applied(Action.REMOVE, "removed")
