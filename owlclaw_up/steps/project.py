"""The state directory and its secrets: made first, removed last."""

from __future__ import annotations

import dataclasses

from owlclaw_up.facts import Facts
from owlclaw_up.host.postgres import url_of
from owlclaw_up.model import Action, Change, unchanged
from owlclaw_up.receipts import STATE_DIR, Ledger
from owlclaw_up.spec import StackSpec
from owlclaw_up.steps.base import Applied, Run


class PrepareProject:
    """Fix ports, passwords and the server in `state.json` and `secrets.json`, before anything uses them."""

    id = "project"
    title = "State and secrets"

    def __init__(self, spec: StackSpec, ledger: Ledger) -> None:
        self.spec, self.ledger = spec, ledger

    def check(self, facts: Facts) -> Change:
        if not self.ledger.state.ports:
            return Change(Action.CREATE, f"{STATE_DIR}/ with generated secrets, 0700", touches=(f"{STATE_DIR}/",))
        moved = self._moved()
        if moved:
            return Change(Action.UPDATE, f"{STATE_DIR}/: {', '.join(moved)}", touches=(f"{STATE_DIR}/state.json",))
        return unchanged(f"{STATE_DIR}/ is as it should be")

    def apply(self, run: Run) -> Applied:
        moved = self._moved()
        new = not self.ledger.state.ports
        spec, ledger = self.spec, self.ledger
        ledger.prepare()
        for database in spec.databases:
            ledger.vault.passwords[database.role] = database.password.reveal()
        if spec.postgres.ours:
            ledger.vault.admin_url = ""
        else:
            ledger.vault.admin_url = url_of(spec.postgres.admin).reveal()
        ledger.save_secrets()
        ledger.state.ports = self._ports()
        ledger.remember(
            "postgres", kind=spec.postgres.kind, where=spec.postgres.admin.where, identity=spec.postgres.identity
        )
        if new:
            return Applied(Action.CREATE, "ports chosen, passwords made")
        return Applied(Action.UPDATE, ", ".join(moved))

    def _ports(self) -> dict[str, int]:
        return dataclasses.asdict(self.spec.ports)

    def _moved(self) -> list[str]:
        spec, ledger = self.spec, self.ledger
        kept = ledger.state.ports
        moved = [f"{name} port {port}" for name, port in self._ports().items() if kept.get(name) != port]
        if ledger.recall("postgres").get("kind") != spec.postgres.kind:
            moved.append(f"{spec.postgres.kind} PostgreSQL")
        new = [d.role for d in spec.databases if ledger.vault.passwords.get(d.role) != d.password.reveal()]
        if new:
            moved.append(f"password of {', '.join(new)}")
        if not spec.postgres.ours and ledger.vault.admin_url != url_of(spec.postgres.admin).reveal():
            moved.append("admin login")
        return moved


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
