"""What a check is, and how all of them are run: side by side, consequences folded under their cause. Pure.

A check looks at facts that were gathered before, so it waits for nothing; its deadline is that of the probes it needs.
One that crashes, or whose probe did, is a finding of level `unknown`, and the others go on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from owlclaw_up.errors import RemoteUnusable, UpError
from owlclaw_up.facts import Facts
from owlclaw_up.model import Decision, Finding, Mode, PlannedStep
from owlclaw_up.modes import MODES
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings
from owlclaw_up.spec import StackSpec
from owlclaw_up.steps.base import Step

# Seconds that a probe of the doctor's may take, so that the whole of it ends within four on any sick machine.
PATIENCE = 3.0
UP, DOCTOR_FIX = "owlclaw-up", "owlclaw-up doctor --fix"
_WORST_FIRST = ("fail", "unknown", "warn", "info", "ok")
# What has followers: a cause of these levels explains others.
_EXPLAINS = frozenset({"fail", "unknown"})


@dataclass(frozen=True)
class Fix:
    """What `doctor --fix` may do about a finding: only what is receipted, or can be taken back.

    Attributes:
        summary: for the preview, in the imperative: "set the rights of .env to 0600".
        steps: done in this order; planned and applied like those of every command.
        up: whether `up` is run, after every fix's steps.
        settings: values by setting name for that `up`, as of flags.
    """

    summary: str
    steps: tuple[Step, ...] = ()
    up: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """What a check saw: a finding without what the check itself knows.

    Attributes:
        level: `ok`, `info`, `warn`, `fail` or `unknown`.
        title: one line that names the fault, or what is well.
        detail: the evidence.
        hint: what to do, in words; the command, where left out.
        command: the one command that mends it.
    """

    level: str
    title: str
    detail: str = ""
    hint: str = ""
    command: str = ""
    fix: Fix | None = None


def ok(title: str, detail: str = "") -> Seen:
    return Seen("ok", title, detail)


def of_error(error: UpError, fix: Fix | None = None) -> Seen:
    """An error that stops `up`, in its own words."""
    command = error.hint if error.hint.startswith(UP) else DOCTOR_FIX if fix else ""
    return Seen("fail", error.message, error.detail, error.hint, command, fix)


@dataclass(frozen=True)
class Evidence:
    """Everything that a check may look at.

    Attributes:
        mode: of the last successful `up`; before the first one, what `up` would choose now, None where it would not come up.
        standing: whether an `up` has succeeded here, so that what is not there is a fault.
        decision, spec, planned: of the `up` that would be run now; None and empty where it could not even begin.
        error: what would stop that `up`.
        now: seconds since the epoch.
    """

    facts: Facts
    settings: Settings
    ledger: Ledger
    mode: Mode | None
    standing: bool
    decision: Decision | None
    spec: StackSpec | None
    planned: tuple[PlannedStep, ...]
    error: UpError | None
    now: float

    @property
    def refused_elsewhere(self) -> bool:
        """Whether an `up` would end at a server elsewhere, which nothing of ours mends."""
        return isinstance(self.error, RemoteUnusable)

    @property
    def with_docker(self) -> bool:
        """Whether the environment's engine runs, or would run, in a container."""
        return self.mode in (Mode.FULL, Mode.HATCHET_ONLY)

    @property
    def with_engine(self) -> bool:
        return self.mode is not None and MODES[self.mode].durable

    @property
    def with_own_engine(self) -> bool:
        """Whether it is one that we start, with a database of ours."""
        return self.with_engine and self.mode is not Mode.REMOTE

    def ours(self, purpose: str) -> int | None:
        """The port that was kept for a purpose."""
        return self.ledger.state.ports.get(purpose)


Look = Callable[[Evidence], Iterable[Seen]]


@dataclass(frozen=True)
class Check:
    """One thing that can be wrong.

    Attributes:
        id: stable, `family.name`; the finding's id.
        title: what is looked at, for a list: "PostgreSQL's timezone, as role hatchet".
        symptom: what a user sees when it is wrong, foreign words in backquotes.
        cause: why it happens.
        why: why it matters, for the finding.
        mend: the command, or else the way, that usually mends it, for the table of faults.
        look: gives nothing where the check does not apply, else one `Seen` per fault, or one `ok`.
        probes: the facts that it needs.
        after: ids of the checks whose failure explains this one's.
        fixable: whether `--fix` may mend it.
        patience: seconds that its probes may take.
        stops_up: whether `up` asks it, too, and changes nothing where it fails; by facts that every command has.
    """

    id: str
    title: str
    symptom: str
    cause: str
    why: str
    mend: str
    look: Look
    probes: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    tags: frozenset[str] = frozenset()
    fixable: bool = False
    patience: float = PATIENCE
    stops_up: bool = False

    @property
    def family(self) -> str:
        return self.id.partition(".")[0]


@dataclass(frozen=True)
class Diagnosis:
    """What all checks came to.

    Attributes:
        findings: worst first, every cause followed by what follows from it.
        fixes: by the id of the finding that they mend.
        idle: ids of the checks that do not apply here.
    """

    findings: tuple[Finding, ...]
    fixes: tuple[tuple[str, Fix], ...]
    idle: tuple[str, ...]

    def count(self, *levels: str) -> int:
        return sum(f.level in levels for f in self.findings)

    @property
    def causes(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if not f.cause)


def examine(
    checks: Sequence[Check], evidence: Evidence, *, stopped_by: str = "", only: Collection[str] = ()
) -> Diagnosis:
    """Run the checks.

    Args:
        stopped_by: id of the check whose fault `evidence.error` is: it speaks in that error's words.
        only: ids to keep; all where empty.
    """
    wanted = [c for c in checks if not only or c.id in only]
    seen = {check.id: _look(check, evidence, stopped_by) for check in wanted}
    levels = {name: _worst(looks) for name, looks in seen.items() if looks}
    causes = _causes(wanted, levels, evidence.facts.broken)
    by_id = {check.id: check for check in wanted}
    told = [(name, _offered(s, evidence, asked=name in only)) for name, looks in seen.items() for s in looks]
    findings = [
        Finding(
            name, s.level, s.title, s.detail, s.hint or s.command, s.command,
            by_id[name].why if s.level != "ok" else "",
            causes.get(name, "") if s.level != "ok" else "", s.fix.summary if s.fix else "",
        )
        for name, s in told
    ]  # fmt: skip
    fixes = tuple((name, s.fix) for name, s in told if s.fix)
    return Diagnosis(tuple(_in_order(findings)), fixes, tuple(name for name, looks in seen.items() if not looks))


def _look(check: Check, evidence: Evidence, stopped_by: str) -> tuple[Seen, ...]:
    broken = {name: evidence.facts.broken[name] for name in check.probes if name in evidence.facts.broken}
    if broken:
        detail = "; ".join(f"{name}: {how}" for name, how in broken.items())
        return (Seen("unknown", f"could not be looked at: {check.title}", detail, "look again", f"{UP} doctor"),)
    try:
        seen = tuple(check.look(evidence))
    except Exception as bug:
        detail = f"{type(bug).__name__}: {bug}"
        return (Seen("unknown", f"the check itself failed: {check.title}", detail, "please report it", f"{UP} report"),)
    if check.id == stopped_by and evidence.error is not None:
        same = next((s.fix for s in seen if s.fix), None)
        return (of_error(evidence.error, same), *(s for s in seen if s.level not in ("fail", "ok")))
    return seen


def _offered(seen: Seen, evidence: Evidence, *, asked: bool) -> Seen:
    """What was seen, with its fix where that is one to be done.

    Args:
        asked: by its name. Else what is only worth knowing is left as it is.
    """
    if seen.fix is not None and seen.fix.up and evidence.refused_elsewhere:
        return dataclasses.replace(
            seen, fix=None, hint=f"once the server elsewhere can be used: {seen.hint or seen.command}"
        )
    return seen if seen.level != "info" or asked else dataclasses.replace(seen, fix=None)


def _worst(looks: Sequence[Seen]) -> str:
    return min((s.level for s in looks), key=_WORST_FIRST.index)


def _causes(checks: Sequence[Check], levels: Mapping[str, str], broken: Mapping[str, str]) -> dict[str, str]:
    """By name of a check whose finding follows from another's: that other one's name. Never a follower of a follower."""
    after = {check.id: check.after for check in checks}
    # Of all checks that a broken probe left without facts, the first one speaks for the others.
    leaders: dict[str, str] = {}
    follows: dict[str, str] = {}
    for check in checks:
        for probe in check.probes:
            if probe in broken and leaders.setdefault(probe, check.id) != check.id:
                follows.setdefault(check.id, leaders[probe])
    for check in checks:
        if levels.get(check.id, "ok") in ("fail", "warn", "unknown"):
            found = _failing_ancestor(check.id, after, levels)
            if found:
                follows[check.id] = found
    return {name: _root(name, follows) for name in follows}


def _failing_ancestor(name: str, after: Mapping[str, tuple[str, ...]], levels: Mapping[str, str]) -> str:
    """The nearest check before this one that fails, also through checks that are well or do not apply."""
    waiting, looked = list(after.get(name, ())), {name}
    while waiting:
        before = waiting.pop(0)
        if before in looked:
            continue
        looked.add(before)
        if levels.get(before, "ok") in _EXPLAINS:
            return before
        waiting += after.get(before, ())
    return ""


def _root(name: str, follows: Mapping[str, str]) -> str:
    """The cause at the end of the chain; empty for two that explain each other, which are both told."""
    seen = {name}
    while follows.get(name):
        name = follows[name]
        if name in seen:
            return ""
        seen.add(name)
    return name


def _in_order(findings: Sequence[Finding]) -> list[Finding]:
    """Causes by their level, in the order of the registry, each with its followers behind it."""
    causes = sorted((f for f in findings if not f.cause), key=lambda f: _WORST_FIRST.index(f.level))
    ordered: list[Finding] = []
    told: set[str] = set()
    for finding in causes:
        ordered.append(finding)
        if finding.id not in told:
            told.add(finding.id)
            ordered += [f for f in findings if f.cause == finding.id]
    return ordered


def reworded(finding: Finding, redact: Callable[[str], str]) -> Finding:
    """A finding with every secret masked."""
    texts = {name: redact(getattr(finding, name)) for name in ("title", "detail", "hint", "command", "fix")}
    return dataclasses.replace(finding, **texts)
