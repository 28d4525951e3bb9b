"""The command `report`: gather everything that a bug report wants, whatever state the project is in. Reads only.

What cannot be looked at is said in its place, and the rest is gathered all the same. What comes out is masked.
"""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from owlclaw_up import __version__, doctor, environment
from owlclaw_up.errors import InternalError, UpError
from owlclaw_up.facts import Facts
from owlclaw_up.host.machine import Host
from owlclaw_up.last_up import FILE
from owlclaw_up.model import (
    Absent,
    Decision,
    Fact,
    Found,
    Listener,
    Mode,
    Outcome,
    Secret,
    Smoke,
    StepStarted,
    Unknown,
    found,
    silent,
)
from owlclaw_up.modes import MODES, choose
from owlclaw_up.project import Project, failure, open_project
from owlclaw_up.receipts import STATE_DIR, now_text
from owlclaw_up.redaction import Redactor
from owlclaw_up.report_files import masked_json, raw_texts, secret_texts, tails
from owlclaw_up.report_parts import stack, versions
from owlclaw_up.report_values import (
    Diagnosis,
    LastUp,
    ReceiptRow,
    Report,
    SettingRow,
    Span,
    Standing,
    Variable,
    Verdict,
    Version,
)
from owlclaw_up.setting_values import ENV_KEYS, Sourced
from owlclaw_up.settings import Settings, find_project, load
from owlclaw_up.steps.smoke import kept_smoke

T = TypeVar("T")
_TITLE = 130


@dataclasses.dataclass(frozen=True)
class Gathered:
    """A report, and what a bundle takes along.

    Attributes:
        report: with every secret masked.
        outcomes: by file name, what a command came to; still to be masked, with `redact`.
        texts: by file name; masked.
    """

    report: Report
    redact: Redactor
    outcomes: Mapping[str, Outcome]
    texts: Mapping[str, str]


@dataclasses.dataclass
class Subject:
    """What is reported on: the project, or why it could not be opened, and what the doctor saw.

    Attributes:
        project: None where settings or state cannot be read; `error` says why then.
        looked: None where the doctor could not look; `unlooked` says why then.
    """

    root: Path
    host: Host
    redact: Redactor
    project: Project | None = None
    error: UpError | None = None
    looked: doctor.Looked | None = None
    unlooked: str = ""

    @property
    def facts(self) -> Facts | None:
        return self.looked.evidence.facts if self.looked else None


def gather_report(
    project_dir: Path | None = None, listener: Listener = silent, *, raw: bool = False, host: Host | None = None
) -> Gathered:  # fmt: skip
    """Look at everything.

    Args:
        raw: also what a bundle takes along.

    Raises:
        ProjectMissing: there is no such project.
    """
    host = host or Host()
    begun = host.clock.monotonic()
    listener(StepStarted("report", "Looking at everything"))
    subject = _open(find_project(host.cwd, project_dir), host)
    standing, status = _standing(subject)
    last_up, diagnosis = _part(lambda: _last_up(subject)), _part(lambda: _diagnosis(subject))
    report = Report(
        str(subject.root), now_text(host.clock), __version__,
        _verdict(subject, standing, last_up, diagnosis),
        standing,
        _of_project(subject, lambda project: _decision(subject, project)),
        _or((), lambda: _obstacles(subject)),
        last_up,
        diagnosis,
        _of_project(subject, _smoke),
        _or((Version("owlclaw-up", __version__),), lambda: _versions(subject, standing)),
        _part(lambda: _settings(subject)),
        _part(lambda: _variables(subject)),
        _or((), lambda: tails(host, subject.root, subject.project)),
        _of_project(subject, _receipts),
    )  # fmt: skip
    outcomes = _outcomes(subject, status) if raw else {}
    texts = _texts(subject) if raw else {}
    report = dataclasses.replace(subject.redact.within(report), seconds=host.clock.monotonic() - begun)
    return Gathered(report, subject.redact, outcomes, texts)


def _open(root: Path, host: Host) -> Subject:
    subject = Subject(root, host, Redactor())
    try:
        subject.project = open_project(root, {}, host)
        subject.redact = subject.project.redact
    except Exception as bug:
        subject.error = bug if isinstance(bug, UpError) else UpError(_words(bug))
    subject.redact.add(*secret_texts(host, root, _or(Settings(), lambda: _settings_of(subject)).env_file.value))
    if subject.project is None:
        return subject
    try:
        subject.looked = doctor.look(subject.project)
    except Exception as bug:
        subject.unlooked = f"the doctor failed: {_words(bug)}"
    return subject


def _settings_of(subject: Subject) -> Settings:
    """The project's settings; also beside a state that cannot be read."""
    return subject.project.settings if subject.project else load(subject.root, subject.host.environ, {})


def _words(bug: Exception) -> str:
    return bug.message if isinstance(bug, UpError) else f"{type(bug).__name__}: {bug}"


def _part(look: Callable[[], Fact[T]]) -> Fact[T]:
    """One part of the report; what goes wrong in it is said in its place."""
    try:
        return look()
    except Exception as bug:
        return Unknown(_words(bug), getattr(bug, "hint", ""))


def _or(instead: T, look: Callable[[], T]) -> T:
    """What was found, or something in its place."""
    answer = _part(lambda: Found(look()))
    return answer.value if isinstance(answer, Found) else instead


def _of_project(subject: Subject, look: Callable[[Project], Fact[T]]) -> Fact[T]:
    """A part that wants an open project."""
    project, error = subject.project, subject.error
    if project is None:
        assert error is not None
        return Unknown(f"not looked at: {error.message}")
    return _part(lambda: look(project))


def _diagnosis(subject: Subject) -> Fact[Diagnosis]:
    if subject.looked is not None:
        seen = subject.looked.diagnosis
        counts = {level: seen.count(level) for level in ("fail", "unknown", "warn", "info", "ok")}
        probes = subject.looked.evidence.facts.seconds
        return Found(Diagnosis(seen.findings, counts, seen.idle, probes, subject.looked.seconds))
    if subject.error is not None:
        outcome = doctor.of_failure(subject.error)
        if outcome.findings:
            return Found(Diagnosis(outcome.findings, {"fail": len(outcome.findings)}, (), {}, 0.0))
        return Unknown(subject.error.message, subject.error.hint)
    return Unknown(subject.unlooked)


def _standing(subject: Subject) -> tuple[Fact[Standing], Outcome | None]:
    seen: list[Outcome] = []

    def look(project: Project) -> Fact[Standing]:
        outcome = environment.status(project)
        seen.append(outcome)
        mode = outcome.mode.value if outcome.mode else ""
        return Found(
            Standing(mode, outcome.services, outcome.token, outcome.endpoints, stack(subject.facts, project, outcome))
        )

    return _of_project(subject, look), seen[0] if seen else None


def _decision(subject: Subject, project: Project) -> Fact[Decision]:
    """What `up` would choose now."""
    if subject.facts is None:
        return Unknown(subject.unlooked)
    return Found(choose(subject.facts, project.settings, project.ledger))


def _obstacles(subject: Subject) -> tuple[tuple[str, str], ...]:
    """What stands against each mode, empty where nothing does: for when none can be chosen."""
    facts, project = subject.facts, subject.project
    if facts is None or project is None:
        return ()
    looked = {mode.value: entry.obstacle(facts, project.settings) for mode, entry in MODES.items()}
    return tuple((mode, obstacle.why if obstacle else "") for mode, obstacle in looked.items())


def _last_up(subject: Subject) -> Fact[LastUp]:
    data = subject.host.files.read(subject.root / STATE_DIR / "logs" / FILE)
    if data is None:
        why = "no `up` is on record here"
        if subject.project is not None and subject.project.ledger.exists:
            why += ": the last one was killed, or `db init` alone was here"
        return Absent(why, "owlclaw-up")
    kept = json.loads(data)
    spans = tuple(
        Span(s["title"], s["status"], s["action"], s["began"], s["seconds"], s["detail"], s["early"])
        for s in kept["steps"]
    )
    error = kept["error"] or {}
    return Found(
        LastUp(
            kept["command"], kept["at"], kept["status"], kept["mode"] or "", kept["seconds"], spans,
            error.get("message", ""), error.get("hint", ""),
        )
    )  # fmt: skip


def _smoke(project: Project) -> Fact[Smoke]:
    kept = kept_smoke(project.ledger)
    return Found(kept) if kept else Absent("no smoke test is on record here", "owlclaw-up smoke")


def _versions(subject: Subject, standing: Fact[Standing]) -> tuple[Version, ...]:
    seen = found(standing)
    return versions(subject.facts, seen.services if seen else ())


def _settings(subject: Subject) -> Fact[tuple[SettingRow, ...]]:
    settings = _settings_of(subject)
    rows = []
    for field in dataclasses.fields(Settings):
        setting: Sourced[Any] = getattr(settings, field.name)
        rows.append(SettingRow(field.name, _shown(field.name, setting.value), setting.source, setting.origin))
    return Found(tuple(rows))


def _shown(name: str, value: Any) -> str:
    if value in (None, "", (), {}):
        return "none" if name != "mode" else "auto"
    if isinstance(value, Secret):
        return str(value)
    if isinstance(value, Mode):
        return value.value
    if isinstance(value, tuple):
        return ", ".join(database.name for database in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{ours} = {theirs}" for ours, theirs in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value} h" if name == "token_lifetime" else f"{value:g} s" if name == "timeout" else str(value)


def _variables(subject: Subject) -> Fact[tuple[Variable, ...]]:
    facts, project = subject.facts, subject.project
    if facts is None or project is None:
        return Unknown(subject.error.message if subject.error else subject.unlooked)
    look = facts.dotenv
    if not isinstance(look, Found):
        return look
    if look.value.kind != "file":
        return Absent(f"{look.value.path.name}: {look.value.kind}", "owlclaw-up")
    names = {project.settings.env_names.value.get(key, key) for key in ENV_KEYS}
    return Found(tuple(Variable(key, key in names) for key in look.value.values))


def _receipts(project: Project) -> Fact[tuple[ReceiptRow, ...]]:
    rows = []
    for receipt in project.ledger.state.receipts:
        words = [str(v) if k == "name" else f"{k} {v}" for k, v in receipt.identity.items() if v]
        rows.append(ReceiptRow(receipt.kind, ", ".join(words), receipt.at, receipt.done))
    return Found(tuple(rows)) if rows else Absent("nothing here was made by owlclaw-up")


def _outcomes(subject: Subject, status: Outcome | None) -> dict[str, Outcome]:
    """What commands come to that say more than the page does."""
    project = subject.project
    if project is None:
        assert subject.error is not None
        return {"doctor.json": doctor.of_failure(subject.error)}
    try:
        plan = environment.up(project, dry_run=True, command="plan")
    except Exception as bug:
        plan = failure(project, "plan", InternalError(_words(bug), ""), 0.0)
    outcomes = {"plan.json": plan}
    if subject.looked is not None:
        outcomes["doctor.json"] = doctor.outcome_of(project, subject.looked)
    if status is not None:
        outcomes["status.json"] = status
    return outcomes


def _texts(subject: Subject) -> dict[str, str]:
    spec, redact = subject.looked.evidence.spec if subject.looked else None, subject.redact
    try:
        raw = raw_texts(subject.host, subject.root, subject.project, spec)
    except Exception as bug:
        raw = {"not-looked-at.txt": _words(bug)}
    return {n: masked_json(text, redact) if n.endswith(".json") else redact(text) for n, text in raw.items()}


def _verdict(
    subject: Subject, standing: Fact[Standing], last_up: Fact[LastUp], diagnosis: Fact[Diagnosis]
) -> Verdict:  # fmt: skip
    if subject.error is not None:
        return _said("fail", f"This project cannot be opened: {subject.error.message}", subject.error.hint)
    seen, run, up = found(diagnosis), found(last_up), found(standing)
    if seen is None or up is None:
        why = next(f.why for f in (diagnosis, standing) if isinstance(f, (Absent, Unknown)))
        return _said("warn", f"It cannot be told whether this works: {why}")
    causes = [f for f in seen.findings if not f.cause]
    bad = [f for f in causes if f.level == "fail"]
    if bad:
        state = f"Mode {up.mode} does not work" if up.mode else "Nothing is set up, and something is in the way"
        return _said("fail", f"{state}: {bad[0].title}", bad[0].command or bad[0].hint)
    if run is not None and run.status == "failed":
        return _said("warn" if up.mode else "fail", f"The last {run.command} failed: {run.error}", run.hint)
    if not up.mode:
        if subject.project is not None and subject.project.ledger.state.ports:
            return Verdict("fail", "An up has begun here and not ended", hint="owlclaw-up")
        return Verdict("info", "Nothing is set up here yet, and nothing is in the way", hint="owlclaw-up")
    doubts = [f for f in causes if f.level in ("warn", "unknown")]
    if doubts:
        warnings = f"{len(doubts)} warning{'s' if len(doubts) > 1 else ''}"
        title = f"Up in mode {up.mode}, with {warnings}: {doubts[0].title}"
        return _said("warn", title, doubts[0].command or doubts[0].hint)
    if not MODES[Mode(up.mode)].durable:
        return Verdict("warn", f"Up, degraded: in mode {up.mode} no engine runs")
    return Verdict("ok", f"Up and well in mode {up.mode}")


def _said(level: str, text: str, hint: str = "") -> Verdict:
    """A verdict whose words are foreign, and may be many."""
    short = textwrap.shorten(text, _TITLE, placeholder="...")
    return Verdict(level, short, text if short.endswith("...") else "", hint)
