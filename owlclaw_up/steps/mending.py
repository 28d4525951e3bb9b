"""What `doctor --fix` mends in a database of ours beside what `up` does: an invalid index, the password of a role that we made."""

from __future__ import annotations

from owlclaw_up.facts import Facts
from owlclaw_up.host.base import ServerLogin
from owlclaw_up.host.postgres_repair import drop_index, rebuild_index, set_password
from owlclaw_up.model import Action, Change, Secret, found
from owlclaw_up.steps.base import Applied, Run


class MendIndex:
    """Build an invalid index of Hatchet's anew; or drop it, where the migration that makes it is to be run again."""

    title = "Index"

    def __init__(self, login: ServerLogin, name: str, *, drop: bool) -> None:
        self.login, self.name, self.drop = login, name, drop

    @property
    def id(self) -> str:
        return f"index.{self.name}"

    def check(self, facts: Facts) -> Change:
        inside = found(facts.inside)
        if inside is None or inside.hatchet is None or self.name not in inside.hatchet.invalid_indexes:
            return Change(Action.RUN, f"index {self.name}")
        what = f"drop invalid index {self.name}" if self.drop else f"rebuild index {self.name}"
        return Change(Action.UPDATE, what, touches=(f"database {self.login.database}",))

    def apply(self, run: Run) -> Applied:
        (drop_index if self.drop else rebuild_index)(self.login, self.name)
        return Applied(Action.UPDATE, "dropped; its migration makes it anew" if self.drop else "rebuilt")


class GivePassword:
    """Have a role that we made take the password that is kept here again."""

    title = "Password"

    def __init__(self, admin: ServerLogin, role: str, password: Secret) -> None:
        self.admin, self.role, self.password = admin, role, password

    @property
    def id(self) -> str:
        return f"password.{self.role}"

    def check(self, facts: Facts) -> Change:
        return Change(Action.UPDATE, f"role {self.role} takes the kept password", touches=(f"role {self.role}",))

    def apply(self, run: Run) -> Applied:
        set_password(self.admin, self.role, self.password)
        return Applied(Action.UPDATE, "set")
