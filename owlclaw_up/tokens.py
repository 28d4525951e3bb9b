"""The commands about the API token as functions: what it says of itself, whether it is good, a new one. One `Outcome` each."""

from __future__ import annotations

import dataclasses

from owlclaw_up.checks.shadows import shadow_findings
from owlclaw_up.checks.tokens import token_findings
from owlclaw_up.environment import prepare
from owlclaw_up.errors import PreconditionError, UpError
from owlclaw_up.executor import apply
from owlclaw_up.facts import EnvPlaces
from owlclaw_up.facts.dotenv import look_for_shadows
from owlclaw_up.facts.tokens import TokenFacts, dials, look_at_tokens, tokens_in_use
from owlclaw_up.host.base import Deadline
from owlclaw_up.listeners import both, logger
from owlclaw_up.model import Action, Finding, Listener, Mode, Note, Outcome, silent
from owlclaw_up.modes import MODES
from owlclaw_up.planner import Plan, plan
from owlclaw_up.project import NoEnvironment, Project, failure, relative
from owlclaw_up.receipts import project_lock
from owlclaw_up.standing import token_info
from owlclaw_up.steps import rotation
from owlclaw_up.token_claims import Claims, decode

_REDACTED = "eyJ***"


class NoToken(PreconditionError):
    code = "no-token"

    def __init__(self, mode: str) -> None:
        super().__init__(
            f"mode {mode} has no token of an engine" + (", only a placeholder" if mode == "mock" else ""),
            hint="a durable mode has one: owlclaw-up plan",
        )


class NotUp(PreconditionError):
    """The environment would have to be mended before what was asked for can be done."""

    code = "not-up"

    def __init__(self, what: str) -> None:
        super().__init__(f"the environment is not up as it should be ({what})", hint="owlclaw-up")


def show(project: Project, *, reveal: bool = False) -> Outcome:
    """What the kept token says of itself; asks nobody.

    Args:
        reveal: put the token itself into the outcome's data.

    Raises:
        NoEnvironment: nothing was set up.
        NoToken: there is only the placeholder of `mock`.
    """
    claims = _kept(project)
    return Outcome(
        "token show", "ok", 0, Mode(project.ledger.state.mode), project=project.root,
        token=token_info(claims, project.host.clock.now(), None),
        data={"value": project.ledger.vault.token if reveal else _REDACTED, "revealed": reveal},
    )  # fmt: skip


def _kept(project: Project) -> Claims:
    mode = project.ledger.state.mode
    if not mode:
        raise NoEnvironment(project.root)
    claims = decode(project.ledger.vault.token)
    if claims is None or not MODES[Mode(mode)].durable:
        raise NoToken(mode)
    return claims


def look(project: Project) -> tuple[TokenFacts, EnvPlaces]:
    """Everything that `check` judges: the tokens that programs use, the engine, its database."""
    places = look_for_shadows(project.host, project.settings, project.root)
    names = project.settings.env_names.value
    in_use = tokens_in_use(places, names)
    project.redact.add(*(text.reveal() for text, _, _ in in_use if text))
    facts = look_at_tokens(project.host, project.settings, project.ledger, in_use, dials(places, names))
    return facts, places


def check(project: Project) -> Outcome:
    """Whether the token that programs use is good, and if not, why and what mends it; changes nothing.

    Raises:
        NoEnvironment: nothing was set up.
    """
    begun = project.host.clock.monotonic()
    if not project.ledger.state.mode:
        raise NoEnvironment(project.root)
    mode = Mode(project.ledger.state.mode)
    env_path = project.root / project.settings.env_file.value
    token = None
    if MODES[mode].durable:
        facts, places = look(project)
        findings = (*token_findings(facts, env_path.name), *shadow_findings(places, env_path))
        used = next((use for use in facts.uses if use.claims and not use.shadow), None)
        if used is not None and used.claims is not None:
            good = used.grpc is not None and used.grpc.state == "ok"
            token = token_info(used.claims, facts.now, good)
    else:
        words = f"mode {mode.value} has no token, only a placeholder that no engine takes"
        findings = (Finding("token.none", "fail", words, hint="owlclaw-up plan (what stands against a durable mode)"),)
    bad = any(finding.level == "fail" for finding in findings)
    findings = tuple(
        dataclasses.replace(f, title=project.redact(f.title), detail=project.redact(f.detail)) for f in findings
    )
    return Outcome(
        "token check", "failed" if bad else "ok", int(bad), mode, env_file=relative(project, env_path),
        seconds=project.host.clock.monotonic() - begun, findings=findings, token=token, project=project.root,
    )  # fmt: skip


def rotate(project: Project, listener: Listener = silent, *, keep_old: bool = False) -> Outcome:
    """A new token into the dotenv file, proved, and the one before it revoked.

    Args:
        keep_old: leave the one before it alone.
    """
    command = "token rotate"
    clock = project.host.clock
    begun = clock.monotonic()
    try:
        _kept(project)
        deadline = Deadline(project.settings.timeout.value, clock)
        with project_lock(project.ledger, command, deadline.left(), lambda text: listener(Note(text))):
            before = _kept(project)
            standing = dataclasses.replace(project.settings.mode, value=Mode(project.ledger.state.mode))
            project = dataclasses.replace(project, settings=dataclasses.replace(project.settings, mode=standing))
            prepared = prepare(project)
            _must_stand(prepared.plan)
            todo = plan(rotation(prepared.spec, project.ledger, keep_old=keep_old), prepared.facts)
            reports, run, error = apply(todo, project.host, deadline, both(logger(project, command), listener))
            project.learn_secrets()
    except UpError as failed:
        return failure(project, command, failed, clock.monotonic() - begun)
    kept = decode(project.ledger.vault.token)
    outcome = Outcome(
        command, "ok", 0, prepared.decision.mode, steps=tuple(reports), env_file=relative(project, prepared.spec.env_path),
        seconds=clock.monotonic() - begun, findings=tuple(run.findings), project=project.root,
        token=token_info(kept, clock.now(), error is None) if kept else None,
        data={"previous": {"token_id": before.token_id, "expires_at": before.expires_text, "kept": keep_old}},
    )  # fmt: skip
    if error is None:
        return outcome
    ended = failure(project, command, error, outcome.seconds)
    return dataclasses.replace(
        outcome, status=ended.status, exit_code=ended.exit_code, error=ended.error, token=None
    )  # fmt: skip


def _must_stand(planned: Plan) -> None:
    """A token is only minted and proved on an engine that stands as it should.

    Raises:
        NotUp: `up` would do something before it comes to the token.
    """
    for step in planned.planned:
        if step.id == "token":
            return
        if step.change.action not in (Action.UNCHANGED, Action.SKIP):
            raise NotUp(f"{step.title}: {step.change.summary}")
