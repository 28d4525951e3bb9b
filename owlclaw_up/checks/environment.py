"""The environment as a whole: was it set up, can it come up, is it as the next `up` would have it, was it proved."""

from __future__ import annotations

from collections.abc import Iterator

from owlclaw_up.checks.base import UP, Check, Evidence, Fix, Seen, of_error, ok
from owlclaw_up.model import Action, found
from owlclaw_up.steps.smoke import kept_smoke

_QUIET = (Action.UNCHANGED, Action.SKIP, Action.RUN)
_SHOWN = 4


def _never_reached(evidence: Evidence) -> Iterator[Seen]:
    """Settings and state are read before anything is looked at: whoever gets here has read them."""
    yield ok("read")


def _mode(evidence: Evidence) -> Iterator[Seen]:
    decision = evidence.decision
    if decision is None:
        return
    if decision.durable:
        yield ok(f"{decision.mode.value}: {decision.why}")
    elif decision.source == "auto":
        why = "; ".join(f"{r.mode.value}: {r.why}" for r in decision.rejected[:3])
        yield Seen(
            "warn", "only mock can be had here: timers, schedules and queues are not durable", why, decision.hint
        )
    else:
        yield ok(f"{decision.mode.value}, which is not durable: {decision.why}")


def _begun(evidence: Evidence) -> Iterator[Seen]:
    leftovers = found(evidence.facts.leftovers)
    if evidence.standing:
        yield ok("an up has succeeded here")
    elif leftovers is not None and leftovers.at_work:
        # It is said by `environment.up` that one works.
        return
    elif evidence.ledger.exists and evidence.ledger.state.ports:
        started = [f"{r.kind} {next(iter(r.identity.values()), '')}" for r in evidence.ledger.state.receipts[-3:]]
        yield Seen(
            "warn", "an up has begun here and not ended", f"on record: {', '.join(started) or 'nothing yet'}",
            "run it again: it goes on where it stopped", UP, Fix("run owlclaw-up again", up=True),
        )  # fmt: skip
    else:
        yield Seen("info", "nothing was set up here yet", "", UP, UP)


def _drift(evidence: Evidence) -> Iterator[Seen]:
    stack = evidence.facts.our_stack
    running = found(stack.on_server.server) is not None and (stack.engine_ready or not evidence.with_engine)
    if not evidence.standing or evidence.spec is None or not running:
        # That what is stopped would be started is said where it is stopped.
        return
    changed = [p for p in evidence.planned if p.change.action not in _QUIET]
    if not changed:
        yield ok("the next up would change nothing")
        return
    told = "; ".join(f"{p.id}: {p.change.summary}" for p in changed[:_SHOWN])
    more = f"; {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    yield Seen(
        "info", f"the next up would change {len(changed)} thing{'s' if len(changed) > 1 else ''}", told + more,
        "see them: owlclaw-up plan", UP, Fix("run owlclaw-up", up=True),
    )  # fmt: skip


def _proof(evidence: Evidence) -> Iterator[Seen]:
    smoke = kept_smoke(evidence.ledger)
    if not evidence.standing or not evidence.with_engine or smoke is None:
        return
    if smoke.status != "failed":
        yield ok(f"the last smoke test {smoke.status} at {smoke.kept_since}")
        return
    failed = next((p for p in smoke.proofs if p.status == "failed"), None)
    words = f"{failed.id} broke at {failed.hop or 'no known hop'}: {failed.detail}" if failed else ""
    yield Seen("warn", "the last smoke test failed", words, f"prove it again: {UP} smoke", f"{UP} smoke")


def _rest(evidence: Evidence) -> Iterator[Seen]:
    """What stops `up` and has no check of its own; `examine` puts an error with one into that one's place."""
    leftovers = found(evidence.facts.leftovers)
    if leftovers is not None and leftovers.at_work:
        title = f"another owlclaw-up works in this project: {leftovers.at_work}"
        yield Seen(
            "info",
            title,
            "an up would wait for it; what it is making may look like a fault",
            "look again when it has ended",
        )
    elif evidence.error is None:
        yield ok("an up could begin")
    elif evidence.error.code == "precondition":
        yield of_error(evidence.error)


CHECKS: tuple[Check, ...] = (
    Check(
        "environment.settings", "the settings can be read", "every command ends with exit 2",
        "an unknown key, or a value that cannot be used, in owlclaw-up.toml, pyproject.toml or an OWLCLAW_UP_* variable",
        "no command does anything until they can be read", "correct the value; docs/reference/settings.md", _never_reached,
    ),
    Check(
        "environment.state", "what owlclaw-up keeps in .owlclaw-up can be read", "every command ends with exit 3",
        "state.json or secrets.json was cut off, edited, lost, written by a newer version, or belongs to another user",
        "what was made is on record there alone", "restore it, or mv .owlclaw-up .owlclaw-up.damaged", _never_reached,
    ),
    Check(
        "environment.mode", "a mode can be had", "`up` ends in mock, or says that a mode is blocked",
        "no Docker and no engine binaries, or something else in the way of the mode that was asked for",
        "without a durable mode, work is lost when its process ends", "owlclaw-up plan", _mode,
        ("docker", "engines", "servers"),
        ("docker.installed", "docker.running", "docker.permission", "docker.context", "docker.version", "docker.compose",
         "docker.images", "engine.binaries", "postgres.reach"),
    ),
    Check(
        "environment.up", "an up could begin", "`up` ends with exit 3", "something in its way that has no check of its own",
        "nothing can be brought up until it is out of the way", "owlclaw-up plan", _rest,
        # On what could not be looked at, nothing is said.
        ("ports", "stack", "servers", "docker", "engines", "dotenv", "leftovers"),
    ),
    Check(
        "environment.begun", "no up was interrupted", "half of an environment stands",
        "Ctrl-C, a crash or a full disk in the middle of `up`", "half an environment answers nobody", UP, _begun,
        fixable=True,
    ),
    Check(
        "environment.drift", "the environment is as the next up would have it", "a changed setting has no effect",
        "settings, files or versions have changed since the last `up`", "what runs is not what is asked for", UP, _drift,
        fixable=True,
    ),
    Check(
        "environment.proof", "the last smoke test passed", "work is not done, though everything runs",
        "the proof failed, and nothing has been proved since", "running is not the same as working", f"{UP} smoke", _proof,
        after=("engine.running", "token.none"),
    ),
)  # fmt: skip
