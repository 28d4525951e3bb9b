"""What every command shares: the options, the outcome's way to the screen, errors, interrupts, exit codes."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from owlclaw_up.errors import ConfirmationNeeded, InternalError, Interrupted, UpError
from owlclaw_up.model import Listener, Outcome


@dataclass(frozen=True)
class Ui:
    """How this command talks.

    Attributes:
        json: one JSON document on stdout, progress on stderr.
    """

    command: str
    json: bool
    quiet: bool
    verbose: bool
    no_color: bool

    @property
    def colour(self) -> bool:
        return not self.no_color and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def finish(self, outcome: Outcome) -> int:
        """Show an outcome; gives the exit code."""
        if self.json:
            from owlclaw_up.views.machine import text

            sys.stdout.write(text(outcome))
            sys.stdout.flush()
            return outcome.exit_code
        from owlclaw_up.views.human import Screen, problem

        Screen(sys.stdout, colour=self.colour).show(outcome, quiet=self.quiet, verbose=self.verbose)
        sys.stdout.flush()
        if outcome.error is not None:
            problem(outcome.error, sys.stderr, colour=self.colour, verbose=self.verbose)
        return outcome.exit_code

    def run(self, work: Callable[[Listener], Outcome]) -> int:
        """Do a command's work with progress on stderr, and show its outcome.

        Every exception ends here: an expected error with its exit code, an interrupt with 130, a bug with 70.
        """
        from owlclaw_up.views.human import Progress

        # A stop by the system is an interrupt too: children are ended, receipts stand.
        signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        quiet = self.quiet or (self.json and not sys.stderr.isatty() and not self.verbose)
        try:
            with Progress(sys.stderr, colour=self.colour, quiet=quiet, verbose=self.verbose) as progress:
                outcome = work(progress)
        except UpError as error:
            outcome = Outcome(self.command, "failed", error.exit_code, error=error)
        except KeyboardInterrupt:
            outcome = Outcome(self.command, "failed", Interrupted.exit_code, error=Interrupted())
        except BrokenPipeError:
            sys.stderr.close()
            return 1
        except Exception as bug:
            import traceback

            from owlclaw_up.redaction import Redactor

            redact = Redactor()
            internal = InternalError(redact(f"{type(bug).__name__}: {bug}"), redact(traceback.format_exc()))
            outcome = Outcome(self.command, "failed", internal.exit_code, error=internal)
        return self.finish(outcome)

    def confirm(self, question: str, what: str, *, yes: bool) -> bool:
        """Ask on a terminal; never where there is none.

        Raises:
            ConfirmationNeeded: there is no terminal, and neither `--yes` nor CI=true.
        """
        if yes or os.environ.get("CI", "").lower() == "true":
            return True
        if not sys.stdin.isatty() or self.json:
            raise ConfirmationNeeded(what)
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")


def open_project(project_dir: Path | None, **flags: Any) -> Any:
    """The project of this command."""
    from owlclaw_up import environment

    return environment.open_project(project_dir, flags)


def with_password(ui: Ui, project: Any, *, yes: bool = False, for_token: bool = False) -> Any:
    """The project, with the password of a login elsewhere asked for on a terminal; as it is where there is none to ask on.

    Args:
        for_token: it is wanted only where no good token is kept.
    """
    from owlclaw_up.model import Mode, Secret
    from owlclaw_up.setting_values import Sourced
    from owlclaw_up.token_claims import decode, renewal_due

    settings = project.settings
    if settings.mode.value is not Mode.REMOTE or not settings.remote_login.value or settings.remote_password.value:
        return project
    if yes or ui.json or os.environ.get("CI", "").lower() == "true" or not sys.stdin.isatty():
        return project
    kept = decode(project.ledger.vault.token) if project.ledger.state.mode == Mode.REMOTE.value else None
    if for_token and kept and not renewal_due(kept, project.host.clock.now(), settings.token_lifetime.value * 3600.0):
        return project
    import getpass

    text = getpass.getpass(f"password of {settings.remote_login.value}: ", stream=sys.stderr)
    given = Sourced(Secret(text) if text else None, "flag", "the terminal")
    project = dataclasses.replace(project, settings=dataclasses.replace(settings, remote_password=given))
    project.learn_secrets()
    return project
