"""The commands as functions: look, decide, plan, apply, prove, and one `Outcome` each. Prints nothing.

Every function takes an open `Project` and gives an `Outcome`; expected errors end up in it, so that a caller gets one
kind of value whatever happened.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from owlclaw_up.bundle_choice import python_note, refuse_unfit
from owlclaw_up.checks import CHECKS
from owlclaw_up.checks.base import Evidence
from owlclaw_up.checks.network import dials_here, proxy_finding
from owlclaw_up.checks.preconditions import refuse
from owlclaw_up.checks.shadows import shadow_findings
from owlclaw_up.compose_design import login_by_hand
from owlclaw_up.design import design, moved_ports
from owlclaw_up.engine_upgrade import settle
from owlclaw_up.errors import APPLY_FAILED, PRECONDITION, PortLost, UpError
from owlclaw_up.executor import apply
from owlclaw_up.facts import DatabasesLook, EnvPlaces, Facts, gather
from owlclaw_up.facts.remote import given_login
from owlclaw_up.facts.servers import look_at_databases
from owlclaw_up.host.base import Deadline
from owlclaw_up.last_up import UpRecord
from owlclaw_up.listeners import both, logger
from owlclaw_up.model import (
    Action,
    Decided,
    Decision,
    Finding,
    Found,
    Listener,
    Mode,
    Move,
    Note,
    Outcome,
    PlannedStep,
    Smoke,
    StepReport,
    found,
    silent,
)
from owlclaw_up.modes import choose
from owlclaw_up.planner import Plan, plan
from owlclaw_up.project import NoEnvironment, Project, dashboard_login, endpoints, failure, open_project, relative
from owlclaw_up.receipts import Ledger, project_lock
from owlclaw_up.remote_design import remote_findings
from owlclaw_up.remote_settings import carried
from owlclaw_up.server_choice import choose_server, refused_servers
from owlclaw_up.spec import EngineSpec, SidecarEngine, StackSpec
from owlclaw_up.standing import status
from owlclaw_up.steps import build, removals
from owlclaw_up.steps.compose import remember_compose
from owlclaw_up.steps.dotenv import env_values
from owlclaw_up.steps.engine_fetch import first_steps
from owlclaw_up.steps.smoke import Prove, kept_smoke
from owlclaw_up.ways_on import taken_way, ways_on


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Everything left of apply."""

    facts: Facts
    decision: Decision
    spec: StackSpec
    plan: Plan


def prepare(project: Project, moves: Sequence[Move] = ()) -> Prepared:
    """Look, decide, design, plan. Changes nothing.

    Args:
        moves: modes that were tried already, and failed for good.

    Raises:
        UpError: a precondition is not met.
    """
    facts, decision, spec = arrange(project, gather(project.host, project.settings, project.ledger), moves)
    todo = plan([*first_steps(project.settings, facts, spec), *build(spec, project.ledger)], facts)
    if todo.changes_something:
        refuse(CHECKS, evidence_of(project, facts, decision, spec, todo.planned))
    return Prepared(facts, decision, spec, todo)


def evidence_of(
    project: Project, facts: Facts, decision: Decision | None, spec: StackSpec | None, planned: Sequence[PlannedStep],
    error: UpError | None = None,
) -> Evidence:  # fmt: skip
    """What checks may look at.

    Args:
        error: what stands in the way of an `up`, where there is no decision, or no plan.
    """
    kept = Mode(project.ledger.state.mode) if project.ledger.state.mode else None
    mode = kept or (decision.mode if decision else None)
    return Evidence(
        facts, project.settings, project.ledger, mode, kept is not None, decision, spec, tuple(planned), error,
        project.host.clock.now(),
    )  # fmt: skip


def arrange(project: Project, facts: Facts, moves: Sequence[Move] = ()) -> tuple[Facts, Decision, StackSpec]:
    """Decide and design by what was seen; what is on the chosen server is looked at as well.

    Raises:
        UpError: a precondition is not met.
    """
    settings, ledger = project.settings, project.ledger
    elsewhere = found(facts.remote)
    if elsewhere is not None and elsewhere.target.token is not None:
        project.redact.add(elsewhere.target.token.reveal())
    refuse_unfit(facts, settings)
    decision = choose(facts, settings, ledger, moves)
    server = choose_server(facts, settings, ledger, decision.mode)
    on_server = facts.our_stack.on_server
    kept = ledger.recall("postgres")
    if server is not None and (kept.get("kind") != "local" or kept.get("identity") != server.identity):
        # A server that is new to us: what it has of our names decides whether we may use it.
        on_server = look_at_databases(project.host, settings, ledger, server.login, server.source)
    elif server is None and kept.get("kind") != ("container" if decision.mode is Mode.FULL else "embedded"):
        # What is on another server than the one to come says nothing of that one.
        by_hand = login_by_hand(facts, decision.mode, ledger)
        on_server = (
            look_at_databases(project.host, settings, ledger, by_hand, "container") if by_hand else DatabasesLook()
        )
    stack = dataclasses.replace(facts.our_stack, on_server=on_server)
    facts = dataclasses.replace(facts, stack=Found(stack))
    spec = design(facts, decision, server, on_server, settings, ledger)
    project.learn_secrets()
    # One that is its role's name hides nothing, and would mask every text.
    project.redact.add(*(d.password.reveal() for d in spec.databases if d.password.reveal() != d.role))
    return facts, decision, spec


def up(project: Project, listener: Listener = silent, *, dry_run: bool = False, command: str = "up") -> Outcome:
    """Bring the environment up and prove it; with `dry_run`, only say what would be done."""
    if dry_run:
        return _dry_run(project, command)
    record = UpRecord(project, command)
    try:
        outcome = _up(project, both(record, listener), command)
    except KeyboardInterrupt:
        record.interrupted()
        raise
    record.keep(outcome)
    return outcome


def _dry_run(project: Project, command: str) -> Outcome:
    begun = project.host.clock.monotonic()
    try:
        prepared = prepare(project)
        return _planned(project, prepared, command, project.host.clock.monotonic() - begun)
    except UpError as error:
        return failure(project, command, error, project.host.clock.monotonic() - begun)


def _up(project: Project, listener: Listener, command: str) -> Outcome:
    begun = project.host.clock.monotonic()

    def seconds() -> float:
        return project.host.clock.monotonic() - begun

    try:
        deadline = Deadline(project.settings.timeout.value, project.host.clock)
        first = _first_look(project)
        waited: list[str] = []

        def waiting(text: str) -> None:
            waited.append(text)
            listener(Note(text))

        with project_lock(project.ledger, command, deadline.left(), waiting):
            blank = project.ledger.blank
            try:
                prepared = first if first is not None and not waited and not project.ledger.exists else prepare(project)
                outcome = _apply_and_move_on(project, prepared, deadline, listener, command, seconds)
            except UpError as error:
                outcome = failure(project, command, error, seconds())
            if blank and outcome.exit_code == PRECONDITION:
                # Nothing was made, so nothing is left.
                project.host.files.remove_tree(project.ledger.directory)
            return outcome
    except UpError as error:
        return failure(project, command, error, seconds())


def _first_look(project: Project) -> Prepared | None:
    """What a new project needs, before its folder is made: a precondition must leave nothing behind.

    Returns:
        None where it is no new one, or another command makes it just now: what that one has begun may be in the way.
    """
    if project.ledger.exists:
        return None
    try:
        return prepare(project)
    except UpError:
        if project.ledger.directory.exists():
            return None
        raise


def _apply_and_move_on(
    project: Project, prepared: Prepared, deadline: Deadline, listener: Listener, command: str,
    seconds: Callable[[], float],
) -> Outcome:  # fmt: skip
    """Apply, and again in the next mode, or on the next port, as long as there is one."""
    moves: list[Move] = []
    while True:
        outcome = _apply_up(project, prepared, moves, deadline, listener, command, seconds)
        moved = ways_on(prepared.decision, prepared.spec, outcome.error)
        lost = isinstance(outcome.error, PortLost)
        if not moved and (not lost or deadline.over):
            return outcome
        moves += moved
        try:
            prepared = prepare(project, moves)
        except UpError as no_way_on:
            if lost:
                # Found too late to say that nothing was changed.
                no_way_on.exit_code = APPLY_FAILED
            return failure(project, command, no_way_on, seconds())
        listener(Note(taken_way(prepared.decision, prepared.spec, moved, outcome.error)))


def _apply_up(
    project: Project, prepared: Prepared, moves: Sequence[Move], deadline: Deadline, listener: Listener, command: str,
    seconds: Callable[[], float],
) -> Outcome:  # fmt: skip
    listener(Decided(prepared.decision, prepared.plan.planned))
    fetched: list[StepReport] = []
    if first_steps(project.settings, prepared.facts, prepared.spec):
        project.ledger.prepare()
        only = Plan(prepared.plan.steps[:1])
        fetched, _, error = apply(only, project.host, deadline, both(logger(project, command), listener))
        if error is not None:
            failed, chosen = failure(project, command, error, seconds()), prepared.decision
            return dataclasses.replace(failed, mode=chosen.mode, decision=chosen, steps=tuple(fetched))
        prepared = prepare(project, moves)
    facts, decision, spec = prepared.facts, prepared.decision, prepared.spec
    notes = list(_notes(prepared))
    for note in notes:
        listener(Note(note))
    project.ledger.prepare()
    if spec.compose is not None:
        docker = found(facts.docker)
        remember_compose(spec.compose, spec.mode, project.ledger, docker.images if docker else {})
    token, told = project.ledger.vault.token, both(logger(project, command), listener)
    reports, run, error = apply(prepared.plan, project.host, deadline, told)
    disproved = run.smoke is not None and run.smoke.status == "failed"
    passed = deadline.passed
    settled = settle(project, spec, facts, token, error, disproved=disproved, listener=told)
    error = settled.error
    reports = fetched + reports
    reports += [dataclasses.replace(report, began=passed + report.began) for report in settled.reports]
    project.learn_secrets()
    smoke = run.smoke or (_smoke_not_run(spec, project.ledger) if error is None else None)
    findings = tuple(run.findings) + settled.findings + _findings(project, facts, spec)
    if error is not None:
        return dataclasses.replace(
            failure(project, command, error, seconds()),
            mode=decision.mode, decision=decision, steps=tuple(reports), findings=findings, smoke=smoke,
        )  # fmt: skip
    project.ledger.state.mode = decision.mode.value
    project.ledger.save()
    said_no = smoke is not None and smoke.status == "failed"
    status = "failed" if said_no else "ok" if decision.durable else "degraded"
    return Outcome(
        command, status, 1 if said_no else 0, decision.mode, decision, tuple(reports), endpoints(spec),
        relative(project, spec.env_path), seconds(), smoke, findings,
        login=dashboard_login(project) if _has_dashboard(spec) else None, project=project.root, data={"notes": notes},
    )  # fmt: skip


def _has_dashboard(spec: StackSpec) -> bool:
    """Whether it is one of ours that we know the login of."""
    return isinstance(spec.engine, EngineSpec) and not isinstance(spec.engine, SidecarEngine)


def _planned(project: Project, prepared: Prepared, command: str, seconds: float) -> Outcome:
    spec, decision = prepared.spec, prepared.decision
    reports = tuple(
        StepReport(p.id, p.title, p.change.action, "skipped", 0.0, _change_text(p.change.summary, p.change.reason))
        for p in prepared.plan.planned
    )
    return Outcome(
        command, "ok" if decision.durable else "degraded", 0, decision.mode, decision, reports, endpoints(spec),
        relative(project, spec.env_path), seconds, None, _findings(project, prepared.facts, spec),
        project=project.root,
        data={"dry_run": True, "changes": prepared.plan.changes_something, "notes": list(_notes(prepared))},
    )  # fmt: skip


def _change_text(summary: str, reason: str) -> str:
    return f"{summary} ({reason})" if reason else summary


def down(project: Project, listener: Listener = silent, *, purge: bool = False) -> Outcome:
    """Stop what `up` started; with `purge`, remove what it made."""
    begun = project.host.clock.monotonic()
    clock = project.host.clock
    if not project.ledger.directory.exists():
        return Outcome("down", "ok", 0, project=project.root, data={"purge": purge, "nothing": True})
    mode = project.ledger.state.mode
    try:
        deadline = Deadline(project.settings.timeout.value, clock)
        with project_lock(project.ledger, "down", deadline.left(), lambda text: listener(Note(text))):
            # A server elsewhere may be away for good: nothing is asked of it to stop what runs here.
            facts = gather(project.host, project.settings, project.ledger, without=("remote",))
            todo = plan(removals(project.ledger, purge=purge, login=given_login(project.settings)), facts)
            for step in todo.planned:
                if step.change.action is Action.UNCHANGED and step.change.reason:
                    listener(Note(f"{step.title}: {step.change.summary} ({step.change.reason})"))
            log = silent if purge else logger(project, "down")
            reports, _, error = apply(todo, project.host, deadline, both(log, listener))
    except UpError as failed:
        return failure(project, "down", failed, clock.monotonic() - begun)
    if error is not None:
        outcome = failure(project, "down", error, clock.monotonic() - begun)
        return dataclasses.replace(outcome, steps=tuple(reports))
    return Outcome(
        "down", "ok", 0, Mode(mode) if mode else None, steps=tuple(reports), seconds=clock.monotonic() - begun,
        project=project.root, data={"purge": purge, "nothing": False},
    )  # fmt: skip


def reset(project: Project, listener: Listener = silent) -> Outcome:
    """`down --purge`, then `up`."""
    try:
        settings = carried(project.settings, project.ledger)
    except UpError as error:
        return failure(project, "reset", error, 0.0)
    outcome = down(project, listener, purge=True)
    if outcome.exit_code:
        return dataclasses.replace(outcome, command="reset")
    ledger = Ledger(project.root, project.host.files, project.host.clock)
    project = dataclasses.replace(project, ledger=ledger, settings=settings)
    return up(project, listener, command="reset")


def smoke(project: Project, listener: Listener = silent, *, full: bool = False) -> Outcome:
    """Prove the environment that stands, changing nothing of it.

    Args:
        full: the long proof, which kills workers of its own and restarts the engine.
    """
    begun = project.host.clock.monotonic()
    clock = project.host.clock
    try:
        if not project.ledger.state.mode:
            raise NoEnvironment(project.root)
        deadline = Deadline(project.settings.timeout.value, clock)
        with project_lock(project.ledger, "smoke", deadline.left(), lambda text: listener(Note(text))):
            # Proved is what stands, in the mode that stands.
            kept = dataclasses.replace(project.settings.mode, value=Mode(project.ledger.state.mode))
            level = "full" if full or project.settings.smoke.value == "full" else "quick"
            again = dataclasses.replace(project.settings.smoke, value=level, source="flag")
            project = dataclasses.replace(
                project, settings=dataclasses.replace(project.settings, mode=kept, smoke=again)
            )
            prepared = prepare(project)
            step = Prove(prepared.spec, project.ledger)
            only = plan([step], prepared.facts)
            reports, run, error = apply(only, project.host, deadline, listener)
    except UpError as failed:
        return failure(project, "smoke", failed, clock.monotonic() - begun)
    if error is not None or run.smoke is None:
        outcome = failure(project, "smoke", error or NoEnvironment(project.root), clock.monotonic() - begun)
        return dataclasses.replace(outcome, steps=tuple(reports))
    good = run.smoke.status == "passed"
    durable = prepared.decision.durable
    return Outcome(
        "smoke", "failed" if not good else "ok" if durable else "degraded", 0 if good else 1,
        prepared.decision.mode, steps=tuple(reports), smoke=run.smoke, seconds=clock.monotonic() - begun,
        project=project.root,
    )  # fmt: skip


def variables(project: Project) -> dict[str, str]:
    """The variables of the dotenv file as they should be.

    Raises:
        NoEnvironment: nothing was set up.
    """
    if not project.ledger.state.mode:
        raise NoEnvironment(project.root)
    kept = dataclasses.replace(project.settings.mode, value=Mode(project.ledger.state.mode))
    project = dataclasses.replace(project, settings=dataclasses.replace(project.settings, mode=kept))
    spec = prepare(project).spec
    return env_values(spec, project.ledger.vault.token if spec.engine else "")


def _smoke_not_run(spec: StackSpec, ledger: Ledger) -> Smoke | None:
    if spec.smoke == "none":
        return Smoke("none", "skipped")
    return kept_smoke(ledger)


def _notes(prepared: Prepared) -> Sequence[str]:
    """What the reader should know before it happens."""
    notes = moved_ports(prepared.facts, prepared.spec)
    bundle, platform = found(prepared.facts.bundle), found(prepared.facts.platform)
    if bundle is not None and platform is not None and (note := python_note(bundle, platform.python)):
        notes.append(note)
    if prepared.spec.postgres.ours:
        for candidate in refused_servers(prepared.facts):
            notes.append(
                f"what is at {candidate.login.where} cannot be used and is left alone ({candidate.source}: "
                f"{candidate.look.detail.splitlines()[0] if hasattr(candidate.look, 'detail') else ''}); "
                f"to use it: owlclaw-up --admin-url postgresql://..."
            )
    return notes


def _findings(project: Project, facts: Facts, spec: StackSpec) -> tuple[Finding, ...]:
    """Values elsewhere that win over the dotenv file, and proxies that catch a worker's gRPC."""
    wanted = env_values(spec, project.ledger.vault.token if spec.engine else "")
    findings = list(shadow_findings(found(facts.shadows) or EnvPlaces(), spec.env_path, wanted))
    findings += remote_findings(facts, spec.remote) if spec.remote else []
    caught = proxy_finding(found(facts.proxies) or {}) if spec.engine and dials_here(spec.grpc_address) else None
    if caught is not None:
        findings.append(caught)
    return tuple(findings)


__all__ = [
    "NoEnvironment", "Prepared", "Project", "down", "endpoints", "failure", "open_project", "prepare",
    "reset", "silent", "smoke", "status", "up", "variables",
]  # fmt: skip
