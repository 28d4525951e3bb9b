"""Text for people: progress on stderr while it works, and one last screen on stdout.

Colour never carries a meaning alone: every state has a word or a symbol. Without a terminal there are plain lines, and
rich is imported only where there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from owlclaw_up.model import (
    Action,
    Decided,
    Decision,
    Event,
    Finding,
    Mode,
    Note,
    Outcome,
    Proof,
    Smoke,
    StepFinished,
    StepProgress,
    StepReport,
    StepStarted,
    Transfer,
)
from owlclaw_up.views import capabilities, databases, doctor, exports, migrations, prefetch, tokens
from owlclaw_up.views.plot import latency_lines

if TYPE_CHECKING:
    from rich.live import Live

_PROOF_WORDS = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}
_LEVEL_WORDS = {"warn": "warning", "fail": "FAILURE", "info": "note", "unknown": "unknown", "ok": "ok"}
_STYLES = {"+": "green", "~": "yellow", "-": "red", "?": "cyan", "=": "dim"}


class Progress:
    """Shows events as they come.

    Args:
        stream: stderr.
        colour: whether colours may be used; a spinner is shown only on a terminal.
        quiet: show nothing.
        verbose: show unchanged steps too.
    """

    def __init__(self, stream: TextIO, *, colour: bool, quiet: bool, verbose: bool) -> None:
        self.stream, self.colour, self.quiet, self.verbose = stream, colour, quiet, verbose
        self.live: Live | None = None
        self._title, self._text = "", ""
        self._transfers: dict[str, Transfer] = {}
        self._told: dict[str, int] = {}
        self._terminal = stream.isatty() and not quiet

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()

    def __call__(self, event: Event) -> None:
        if self.quiet:
            return
        if isinstance(event, StepStarted):
            self._title, self._text = event.title, ""
            self._spin()
        elif isinstance(event, StepProgress):
            self._text = event.text
            self._spin()
        elif isinstance(event, Transfer):
            self._transfer(event)
        elif isinstance(event, StepFinished):
            self._finished(event.report)
        elif isinstance(event, Note):
            self._line(f"note: {event.text}", "yellow")
        elif isinstance(event, Decided):
            self._line(f"{event.decision.mode.value}: {event.decision.why}", "bold")

    def _transfer(self, event: Transfer) -> None:
        """A bar for each download on a terminal; elsewhere a line for each quarter of it."""
        self._transfers[event.name] = event
        if self._terminal:
            self._spin()
            return
        quarter = 4 * event.done // event.total if event.total else 0
        if quarter > self._told.get(event.name, 0):
            self._told[event.name] = quarter
            self._line(f"  {event.name:<30} {_megabytes(event)}", "dim")

    def _finished(self, report: StepReport) -> None:
        self._stop()
        self._transfers.clear()
        if report.action in (Action.UNCHANGED, Action.SKIP) and not self.verbose:
            return
        symbol = "!" if report.status == "failed" else report.action.symbol
        seconds = f"{report.seconds:5.2f} s"
        self._line(f"  {symbol} {report.title:<22} {seconds}  {report.detail}", _STYLES.get(symbol, "red"))

    def _spin(self) -> None:
        if not self._terminal:
            return
        from rich.console import Console, Group
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        bars = [_bar(event) for event in self._transfers.values()]
        spinner = Spinner("dots", Text(f" {self._title}  {self._text}"))
        if self.live is None:
            console = Console(file=self.stream, no_color=not self.colour, highlight=False)
            # Who runs foreign code in this process redirects its output himself.
            self.live = Live(
                Group(spinner, *bars), console=console, transient=True, refresh_per_second=12, redirect_stdout=False,
                redirect_stderr=False,
            )  # fmt: skip
            self.live.start()
        else:
            self.live.update(Group(spinner, *bars))

    def _stop(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def _line(self, text: str, style: str) -> None:
        self._stop()
        if self._terminal:
            from rich.console import Console
            from rich.text import Text

            console = Console(file=self.stream, no_color=not self.colour, highlight=False, soft_wrap=True)
            console.print(Text(text, style=style))
        else:
            print(text, file=self.stream, flush=True)


def _megabytes(event: Transfer) -> str:
    if event.total and event.done >= event.total:
        return f"{event.total / 1e6:.0f} MB are here, being unpacked"
    share = f"{100 * event.done // event.total:3d} %  " if event.total else ""
    return f"{share}{event.done / 1e6:.0f} of {event.total / 1e6:.0f} MB"


def _bar(event: Transfer) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    row = Table.grid(padding=(0, 1))
    # Until something is known of its size, the bar only shows that it is on its way.
    bar = ProgressBar(total=event.total or None, completed=event.done, width=30, pulse=not event.total)
    row.add_row(f"    {event.name:<28}", bar, _megabytes(event) if event.total else "asking the registry")
    return row


class Screen:
    """The last screen of a command.

    Args:
        stream: stdout.
        colour: whether colours may be used.
    """

    def __init__(self, stream: TextIO, *, colour: bool) -> None:
        self.stream = stream
        self._rich = colour and stream.isatty()

    def show(self, outcome: Outcome, *, quiet: bool, verbose: bool) -> None:
        """Print what a command came to; an error goes to stderr, by `problem`."""
        if outcome.error is not None and not outcome.services:
            return
        if quiet and outcome.exit_code == 0:
            return
        render = {
            "up": self._up,
            "reset": self._up,
            "plan": self._plan,
            "status": self._status,
            "doctor": lambda outcome, verbose: doctor.show(outcome, self.put, verbose=verbose),
            "down": self._down,
            "smoke": self._smoke_screen,
            "can": lambda outcome, verbose: capabilities.show(outcome, self.put, verbose=verbose),
            "report": self._report,
            "env": lambda outcome, verbose: self._findings(outcome.findings),
            "db migrate": lambda outcome, verbose: migrations.show(outcome, self.put),
            "db restore": lambda outcome, verbose: migrations.show(outcome, self.put),
            "token show": lambda outcome, verbose: tokens.show(outcome, self.put),
            "token check": lambda outcome, verbose: tokens.check(outcome, self.put, self._findings),
            "token rotate": lambda outcome, verbose: tokens.rotate(outcome, self.put, self._findings),
            "export helm": lambda outcome, verbose: exports.show(outcome, self.put, self._findings),
            "prefetch": lambda outcome, verbose: prefetch.show(outcome, self.put),
            "db init": self._databases,
            "db reset-test": self._databases,
            "db status": self._databases,
        }.get(outcome.command)
        if render is not None:
            render(outcome, verbose)

    def _up(self, outcome: Outcome, verbose: bool) -> None:
        if outcome.data.get("dry_run"):
            self._plan(outcome, verbose)
            return
        if outcome.smoke is not None:
            self._proofs(outcome.smoke)
        self._findings(outcome.findings)
        self.put()
        if outcome.status == "failed":
            self.put("The environment is up, and the smoke test failed: see above", "bold red")
            self.put("  look further   owlclaw-up logs hatchet; what the worker said: owlclaw-up logs up")
            return
        changed = any(s.action not in (Action.UNCHANGED, Action.SKIP) for s in outcome.steps)
        word = "ready" if changed else "ready, nothing to change"
        if outcome.status == "degraded":
            self.put(
                f"Degraded: {outcome.mode.value if outcome.mode else ''} in {outcome.seconds:.1f} s", "bold yellow"
            )
            self.put("  no engine runs here: timers, schedules and queues are not durable")
            if outcome.decision and outcome.decision.hint:
                self.put(f"  {outcome.decision.hint}")
        else:
            self.put(
                f"{word.capitalize()}: {outcome.mode.value if outcome.mode else ''} in {outcome.seconds:.1f} s",
                "bold green",
            )
        if outcome.decision is not None:
            self._moves(outcome.decision)
        self.put()
        if "dashboard" in outcome.endpoints:
            login = f"   login {outcome.login.email}" if outcome.login else ""
            self.put(f"  dashboard   {outcome.endpoints['dashboard']}{login}")
        if "rest" in outcome.endpoints:
            self.put(f"  REST        {outcome.endpoints['rest']}   (Hatchet's embedded engine has no dashboard)")
        if "grpc" in outcome.endpoints:
            self.put(f"  gRPC        {outcome.endpoints['grpc']}")
        self.put(f"  postgres    {outcome.endpoints['postgres']}")
        self.put(f"  variables   {outcome.env_file}")
        self.put()
        rows = [("owlclaw-up status", "what runs"), ("owlclaw-up down", "stop it; data stays")]
        if "dashboard" in outcome.endpoints:
            secret = "" if outcome.mode is Mode.REMOTE else "; --reveal shows its password"
            rows.insert(0, ("owlclaw-up open", f"the dashboard{secret}"))
        for command, about in rows:
            self.put(f"  {command:<20} {about}", "dim")

    def _plan(self, outcome: Outcome, verbose: bool) -> None:
        assert outcome.decision is not None
        self._decision(outcome.decision)
        self.put()
        for note in outcome.data.get("notes", ()):
            self.put(f"note: {note}", "yellow")
        for step in outcome.steps:
            symbol = step.action.symbol
            self.put(f"  {symbol} {step.id:<18} {step.detail}", _STYLES[symbol])
        self._findings(outcome.findings)
        self.put()
        if outcome.data.get("changes"):
            self.put("+ create   ~ change   - remove   ? run or look   = stays        do it: owlclaw-up", "dim")
        else:
            self.put("Nothing to change", "bold green")

    def _decision(self, decision: Decision) -> None:
        self.put(f"Mode {decision.mode.value} ({decision.source}): {decision.why}", "bold")
        self._moves(decision)
        for rejected in decision.rejected:
            self.put(f"  not {rejected.mode.value:<13} {rejected.why}", "dim")
        if decision.hint:
            self.put(f"  {decision.hint}")

    def _moves(self, decision: Decision) -> None:
        for move in decision.moves:
            self.put(f"  left {move.mode.value}: {move.why}", "yellow")

    def _status(self, outcome: Outcome, verbose: bool) -> None:
        words = {"ok": "Up", "degraded": "Up, degraded (no engine)", "failed": "Not up"}
        style = {"ok": "bold green", "degraded": "bold yellow", "failed": "bold red"}[outcome.status]
        mode = f": {outcome.mode.value}" if outcome.mode else ""
        self.put(f"{words[outcome.status]}{mode}", style)
        for service in outcome.services:
            version = f" {service.version}" if service.version else ""
            port = f"port {service.port}" if service.port else ""
            pid = f"pid {service.pid}" if service.pid else service.container
            since = f"since {service.since}" if service.since else ""
            parts = "  ".join(filter(None, (port, pid, since)))
            if service.id == "hatchet" and outcome.mode is Mode.REMOTE:
                parts = "elsewhere"
            self.put(f"  {service.id + version:<18} {service.state:<10} {parts}")
            if service.state != "running" or verbose:
                self.put(f"  {'':<18} {service.detail}", "dim")
        if outcome.token is not None:
            accepted = {True: "accepted", False: "REFUSED by the engine", None: "not asked"}[outcome.token.accepted]
            self.put(
                f"  {'token':<18} {accepted}   until {outcome.token.expires_at[:10]} ({outcome.token.days_left} days)"
            )
        if outcome.smoke is not None:
            self.put(f"  {'smoke test':<18} {outcome.smoke.status} at {outcome.smoke.kept_since}")
        for name, url in outcome.endpoints.items():
            self.put(f"  {name:<18} {url}")
        self._findings(outcome.findings)

    def _databases(self, outcome: Outcome, verbose: bool) -> None:
        lines = databases.standing if outcome.command == "db status" else databases.made
        for text, style in lines(outcome):
            self.put(text, _STYLES.get(style, style))
        self._findings(outcome.findings)

    def _report(self, outcome: Outcome, verbose: bool) -> None:
        # What the page is made of takes longer to load than all other views together.
        from owlclaw_up.views import report

        report.show(outcome, self.put)

    def _down(self, outcome: Outcome, verbose: bool) -> None:
        if outcome.data.get("nothing"):
            self.put("Nothing of owlclaw-up is here")
            return
        gone = "Removed: processes, data, roles, our keys" if outcome.data.get("purge") else "Stopped; data stays"
        self.put(f"{gone}  ({outcome.seconds:.1f} s)", "bold")
        if not outcome.data.get("purge"):
            self.put("  owlclaw-up           start again", "dim")
            self.put("  owlclaw-up down --purge   remove everything it made", "dim")

    def _smoke_screen(self, outcome: Outcome, verbose: bool) -> None:
        if outcome.smoke is not None:
            self._proofs(outcome.smoke)
            good = outcome.smoke.status == "passed"
            self.put()
            self.put(
                f"Smoke test {outcome.smoke.status} in {outcome.seconds:.1f} s", "bold green" if good else "bold red"
            )

    def _proofs(self, smoke: Smoke) -> None:
        if not smoke.proofs:
            return
        self.put()
        if smoke.kept_since:
            self.put(f"Proved at {smoke.kept_since}; nothing it rests on has changed since", "dim")
            return
        for proof in smoke.proofs:
            hop = f"  at: {proof.hop}" if proof.hop else ""
            style = {"passed": "green", "failed": "red", "skipped": "yellow"}[proof.status]
            self.put(
                f"  {_PROOF_WORDS[proof.status]:<8} {proof.id:<16} {proof.seconds:6.2f} s  {proof.detail}{hop}", style
            )
        for proof in smoke.proofs:
            if "histogram" in proof.data:
                self._latency(proof)

    def _latency(self, proof: Proof) -> None:
        utf8 = (getattr(self.stream, "encoding", "") or "").lower().startswith("utf")
        self.put()
        for line in latency_lines(proof.data, "█" if utf8 else "#"):
            self.put(f"  {line}")

    def _findings(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            style = {"fail": "red", "ok": "green"}.get(finding.level, "yellow")
            self.put(f"  {_LEVEL_WORDS[finding.level]}: {finding.title}", style)
            if finding.detail:
                self.put(f"    {finding.detail}", "dim")
            if finding.hint:
                self.put(f"    {finding.hint}")

    def put(self, text: str = "", style: str = "") -> None:
        """One line."""
        if self._rich:
            from rich.console import Console
            from rich.text import Text

            Console(file=self.stream, highlight=False, soft_wrap=True).print(Text(text, style=style))
        else:
            print(text, file=self.stream)


def problem(error: Any, stream: TextIO, *, colour: bool, verbose: bool) -> None:
    """An error on stderr: what failed, what to do, and the words of whoever refused."""
    red, dim, end = ("\x1b[31m", "\x1b[2m", "\x1b[0m") if colour and stream.isatty() else ("", "", "")
    print(f"{red}error{end}: {error.message}", file=stream)
    if error.detail:
        lines = error.detail.splitlines()
        for line in lines if verbose else lines[-12:]:
            print(f"  {dim}{line}{end}", file=stream)
    if error.hint:
        print(f"\nhint: {error.hint}", file=stream)
    print(f"\n{dim}[{error.code}] exit {error.exit_code}{end}", file=stream, flush=True)
