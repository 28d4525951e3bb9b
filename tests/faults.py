"""What the fault tests share: the doctor in this process, on a project as its user would see it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from owlclaw_up import doctor
from owlclaw_up.errors import UpError
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Finding, Outcome
from owlclaw_up.project import Project, open_project
from tests.conftest import Cli

# Seconds that the doctor may take on a sick machine; more here, where other tests run beside it.
SICK = 4.0
_BAD = ("fail", "warn", "unknown")


@dataclass
class Patient:
    """A project to be looked at. Every look reads settings and state anew, as the command does."""

    cli: Cli
    last: Outcome | None = field(default=None, init=False)

    def project(self, cwd: Path | None = None, env: Mapping[str, str] | None = None, **flags: Any) -> Project:
        environ = {**self.cli.env, **(env or {})}
        return open_project(self.cli.root, flags, Host(environ=environ, cwd=cwd or self.cli.root))

    def look(self, *only: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, **flags: Any) -> Outcome:
        """One diagnosis.

        Args:
            only: ids of the checks; all where empty.
            env: further variables of the command.
            flags: settings by name.
        """
        begun = time.monotonic()
        try:
            outcome = doctor.diagnose(self.project(cwd, env, **flags), only=only)
        except UpError as error:
            outcome = doctor.of_failure(error)
        assert time.monotonic() - begun < 2 * SICK
        self.last = outcome
        return outcome

    def finding(self, check: str, *only: str, **how: Any) -> Finding:
        """The worst finding of a check, from a look with all checks (or those named after it)."""
        found = [f for f in self.look(*only, **how).findings if f.id == check]
        assert found, f"{check} says nothing: {self.bad()}"
        return found[0]

    def bad(self) -> dict[str, str]:
        """Of the last look: what is not well, by id, with its title."""
        assert self.last is not None
        return {f.id: f"{f.level}: {f.title}" for f in self.last.findings if f.level in _BAD}

    def first(self, **how: Any) -> Finding:
        """The finding that the screen shows first."""
        return self.look(**how).findings[0]

    def well(self, *only: str, **how: Any) -> bool:
        """Whether nothing is wrong."""
        self.look(*only, **how)
        return not self.bad()

    def mend(self, *only: str, **how: Any) -> Outcome:
        """What `doctor --fix --yes` does; gives the look after it."""
        project = self.project(**how)
        looked = doctor.look(project, only=only)
        assert looked.diagnosis.fixes, f"nothing to mend: {[f.id for f in looked.diagnosis.findings]}"
        reports, error = doctor.mend(project, looked)
        assert error is None, error
        self.last = doctor.mended(doctor.diagnose(self.project(**how), only=only), looked, reports, error)
        return self.last
