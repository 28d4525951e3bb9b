"""`owlclaw-up doctor`: look, preview and mend, watch, and what GitHub Actions shows."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from owlclaw_up.cli.terminal import Ui, open_project
from owlclaw_up.errors import UpError, UsageError
from owlclaw_up.model import Listener, Outcome

if TYPE_CHECKING:
    pass

_EVERY = 2.0


@dataclass(frozen=True)
class Doctor:
    """One run of the command.

    Attributes:
        flags: settings by name, as given on the command line.
        only: ids of the checks to run.
    """

    ui: Ui
    project_dir: Path | None
    flags: Mapping[str, Any]
    only: tuple[str, ...]
    strict: bool
    yes: bool

    def run(self, *, fix: bool, watch: bool) -> int:
        """Gives the exit code."""
        if watch:
            return self.ui.run(self._watch)
        return self.ui.run(self._mend if fix else self._look)

    def _look(self, listener: Listener) -> Outcome:
        from owlclaw_up import doctor

        try:
            project = open_project(self.project_dir, **self.flags)
        except UpError as error:
            return self._told(doctor.of_failure(error))
        return self._told(doctor.diagnose(project, listener, only=self.only, strict=self.strict))

    def _mend(self, listener: Listener) -> Outcome:
        from owlclaw_up import doctor

        try:
            project = open_project(self.project_dir, **self.flags)
        except UpError as error:
            return self._told(doctor.of_failure(error))
        looked = doctor.look(project, listener, self.only)
        rows = doctor.preview(looked)
        if not rows or not self._agreed(rows):
            return self._told(doctor.outcome_of(project, looked, strict=self.strict, data={"fixes": rows, "fixed": []}))
        reports, stopped = doctor.mend(project, looked, listener)
        again = doctor.diagnose(
            open_project(self.project_dir, **self.flags), listener, only=self.only, strict=self.strict
        )
        return self._told(doctor.mended(again, looked, reports, stopped))

    def _agreed(self, rows: list[dict[str, Any]]) -> bool:
        from owlclaw_up.views.doctor import fixes

        for line, _ in fixes(rows):
            print(line, file=sys.stderr, flush=True)
        return self.ui.confirm("Do that?", "doctor --fix", yes=self.yes)

    def _told(self, outcome: Outcome) -> Outcome:
        """In GitHub Actions, findings are annotations and a step summary as well."""
        from owlclaw_up.views import github

        github.tell(outcome)
        return outcome

    def _watch(self, listener: Listener) -> Outcome:
        if self.ui.json:
            raise UsageError("--watch redraws a screen, and --json prints one document", hint="leave one of them out")
        from owlclaw_up import doctor
        from owlclaw_up.model import silent
        from owlclaw_up.views.human import Screen

        screen = Screen(sys.stdout, colour=self.ui.colour)
        while True:
            outcome = doctor.diagnose(
                open_project(self.project_dir, **self.flags), silent, only=self.only, strict=self.strict
            )
            if sys.stdout.isatty():
                sys.stdout.write("\x1b[H\x1b[2J")
            screen.show(outcome, quiet=False, verbose=self.ui.verbose)
            print(time.strftime("%H:%M:%S  looking again; Ctrl-C ends it"), flush=True)
            time.sleep(_EVERY)
