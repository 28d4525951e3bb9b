"""What works in an environment right now, and what to do for what does not: a table, by facts alone. Pure.

One place to add a row: `CAPABILITIES`. A yes is what was seen a moment ago; it is *proved* where the very thing was done,
a moment ago or by a smoke test of the environment as it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from owlclaw_up.facts import Facts, Tried
from owlclaw_up.host.base import GrpcLook
from owlclaw_up.model import Absent, Fact, Found, Mode, Smoke, Unknown, found
from owlclaw_up.modes import MODES, NAME_ENGINE
from owlclaw_up.setting_values import DatabaseSetting

_UP, _AGAIN = "owlclaw-up", "owlclaw-up can"
# Proofs that all others of an engine rest on: where one failed, the others were not even tried.
_GROUND = ("connect", "register", "worker")
_PROVE, _PROVE_ALL = "owlclaw-up smoke", "owlclaw-up smoke --full"


@dataclass(frozen=True)
class Situation:
    """Everything that a row is made of.

    Attributes:
        mode: of the last successful `up`, None before the first.
        begun: whether anything of ours is here.
        smoke: the proofs on record.
        proofs_hold: whether nothing that they rest on has changed since.
        way: the command that ends in a durable mode.
        application: the application's database.
        now: seconds since the epoch.
    """

    facts: Facts
    mode: Mode | None
    begun: bool
    smoke: Smoke | None
    proofs_hold: bool
    way: str
    application: DatabaseSetting
    now: float


@dataclass(frozen=True)
class Answer:
    """Attributes: as of `Row`."""

    yes: bool
    how: str
    command: str = ""
    proved: bool = False


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        proved: the very thing was done; where not, a yes was concluded from what answers.
        how: how it was found out.
        command: the one that turns a no into a yes; empty for a yes.
    """

    id: str
    title: str
    yes: bool
    proved: bool
    how: str
    command: str


@dataclass(frozen=True)
class Capability:
    id: str
    title: str
    answer: Callable[[Situation], Answer]


def table(situation: Situation) -> tuple[Row, ...]:
    """Every capability, in its order."""
    rows = []
    for capability in CAPABILITIES:
        answer = capability.answer(situation)
        how = " ".join(answer.how.split())
        rows.append(Row(capability.id, capability.title, answer.yes, answer.proved, how, answer.command))
    return tuple(rows)


def _no(fact: Fact[object], command: str) -> Answer:
    """A look that found nothing, with its own way out where it knows one."""
    assert isinstance(fact, (Absent, Unknown))
    return Answer(False, fact.why, fact.hint or command)


def _unit_tests(situation: Situation) -> Answer:
    """The tests themselves are not run: that they can be is what is seen."""
    tests, sdk = situation.facts.pytest, situation.facts.mock_run
    if not isinstance(tests, Found):
        return _no(tests, _AGAIN)
    if not isinstance(sdk, Found):
        return _no(sdk, _AGAIN)
    both = f"pytest {tests.value.version}, hatchet-sdk {sdk.value.version}"
    return Answer(True, f"not run; {both} in {tests.value.python}")


def _done(fact: Callable[[Facts], Fact[Tried]], what: str) -> Callable[[Situation], Answer]:
    def answer(situation: Situation) -> Answer:
        tried = fact(situation.facts)
        if not isinstance(tried, Found):
            return _no(tried, _AGAIN)
        return Answer(True, f"{what}, {tried.value.seconds:.1f} s", proved=True)

    return answer


def _not_set_up(situation: Situation) -> str:
    """Why there is nothing to be asked; empty where there is."""
    if situation.mode is not None:
        return ""
    return "an `up` has begun and not ended" if situation.begun else "nothing was set up here yet"


def _database(situation: Situation) -> Answer:
    wanted, stack = situation.application, situation.facts.stack
    if not isinstance(stack, Found):
        return _no(stack, _UP)
    seen = stack.value.on_server
    if not isinstance(seen.server, Found):
        return Answer(False, _not_set_up(situation) or seen.server.why, _UP)
    command = _UP if situation.mode else f"{_UP} db init"
    look, login = seen.databases.get(wanted.name), seen.logins.get(wanted.role)
    if look is None or not look.exists:
        return Answer(False, f"the server answers; it has no database {wanted.name}", command)
    if login is None or login.password is None:
        why = login.refusal.detail if login and login.refusal else "there is no such role"
        return Answer(False, f"no SQL as role {wanted.role}: {why}", command)
    return Answer(True, f"{wanted.name} answers role {wanted.role}{_migrations(situation)}", proved=True)


def _migrations(situation: Situation) -> str:
    """Where the project's own stand; it may have none."""
    look = found(situation.facts.migrations)
    if look is None or look.source == "baseline":
        return ""
    if look.problem:
        return f"; migrations: {look.problem}"
    return f"; {len(look.pending)} to run: owlclaw-up db migrate" if look.pending else "; its migrations are at head"


def _without_engine(situation: Situation) -> str:
    """Why there is to be no engine; empty where the environment has one."""
    mode = situation.mode
    if mode is not None and not MODES[mode].durable:
        return f"no engine runs in {mode.value}"
    return _not_set_up(situation)


def _no_engine(situation: Situation) -> Answer | None:
    """Why there is no engine to be used; None where one is ready."""
    nothing = _without_engine(situation)
    if nothing:
        return Answer(False, nothing, situation.way)
    stack = situation.facts.stack
    if not isinstance(stack, Found):
        return _no(stack, _UP)
    if not stack.value.engine_ready:
        return Answer(False, f"the engine: {stack.value.engine_answers or 'not running'}", _UP)
    return None


def _token_trouble(grpc: GrpcLook | None) -> str:
    if grpc is None:
        return "the engine could not be asked"
    if grpc.state == "refused-token":
        return "the engine refuses the token"
    return "" if grpc.state == "ok" else f"gRPC breaks at {grpc.hop}: {grpc.detail}"


def _token(situation: Situation) -> Answer:
    nothing = _without_engine(situation)
    if nothing:
        return Answer(False, nothing, situation.way)
    stack = situation.facts.stack
    if not isinstance(stack, Found):
        return _no(stack, _UP)
    look = stack.value.token
    if look is None:
        return Answer(False, "none is kept that could be read", _UP)
    if look.claims.expires <= situation.now:
        return Answer(False, f"it expired on {look.claims.expires_text[:10]}", _UP)
    left = f"{look.claims.days_left(situation.now)} days left"
    trouble = _token_trouble(look.grpc)
    if trouble:
        return Answer(False, f"{trouble}; {left}", _UP)
    return Answer(True, f"the engine takes it; {left}, until {look.claims.expires_text[:10]}", proved=True)


def _no_work(situation: Situation) -> Answer | None:
    """Why no work can be given to the engine; None where gRPC and REST take the token."""
    trouble = _no_engine(situation)
    if trouble:
        return trouble
    look = situation.facts.our_stack.token
    if look is None:
        return Answer(False, "no token is kept that could be read", _UP)
    refused = _token_trouble(look.grpc)
    if refused:
        return Answer(False, refused, _UP)
    web = situation.facts.web
    if not isinstance(web, Found):
        return _no(web, _UP)
    rest = web.value.rest
    if rest is None or rest.state != "ok":
        why = f"{rest.state}, HTTP {rest.status}" if rest and rest.status else "nobody answers"
        return Answer(False, f"gRPC takes the token; REST: {why}", _UP)
    return None


def _by_engine(*proofs: str, prove: str = _PROVE_ALL) -> Callable[[Situation], Answer]:
    """What an engine does, and which proofs of the smoke test show it.

    Args:
        prove: the command that has these proofs.
    """

    def answer(situation: Situation) -> Answer:
        trouble = _no_work(situation)
        if trouble:
            return trouble
        smoke = situation.smoke if situation.proofs_hold else None
        for proof in smoke.proofs if smoke else ():
            if smoke is not None and proof.status == "failed" and proof.id in (*_GROUND, *proofs):
                return Answer(False, f"{proof.id} failed at {smoke.kept_since}: {proof.detail}", prove)
        shown = {proof.id: proof for proof in smoke.proofs if proof.id in proofs} if smoke else {}
        if smoke is not None and len(shown) == len(proofs) and all(p.status == "passed" for p in shown.values()):
            by = "smoke --full" if smoke.level == "full" else "smoke"
            return Answer(True, f"proved at {smoke.kept_since} by {by}", proved=True)
        skipped = next((p.id for p in shown.values() if p.status == "skipped"), "")
        why = f"{skipped} was skipped" if skipped else "engine answers"
        return Answer(True, f"{why}; proved by: {prove}")

    return answer


def _dashboard(situation: Situation) -> Answer:
    trouble = _no_engine(situation)
    if trouble:
        return trouble
    web = situation.facts.web
    if not isinstance(web, Found):
        return _no(web, _UP)
    look = web.value
    if look.headless and situation.mode is Mode.REMOTE:
        return Answer(False, "a placeholder: that server came without its page", "owlclaw-up status")
    if look.headless:
        return Answer(False, "a placeholder: the engine has no static-assets/", NAME_ENGINE)
    if look.sidecar:
        return Answer(False, "Hatchet's embedded engine has none", f"{_UP} --mode full")
    if not look.html:
        return Answer(
            False, f"{look.url or f'port {look.port}'} says {look.status or 'nothing'}, and gives no page", _UP
        )
    return Answer(True, f"{look.url or f'http://localhost:{look.port}'} gives a page, its API answers", proved=True)


CAPABILITIES = (
    Capability("unit_tests", "unit tests", _unit_tests),
    Capability("client", "client logic", _done(lambda f: f.client, "a task registered, mistakes refused")),
    Capability("mock_run", "mock run", _done(lambda f: f.mock_run, "a task ran in a process of its own")),
    Capability("database", "database and CLI", _database),
    Capability("durable_timers", "durable timers", _by_engine("worker_killed", "engine_restarted")),
    Capability("cron", "cron", _by_engine("cron")),
    Capability("delayed", "delayed scheduling", _by_engine("delayed")),
    Capability("queue", "task queue", _by_engine("run", "cancel", "throughput")),
    Capability("shared_work", "several processes", _by_engine("shared")),
    Capability("e2e_tests", "end-to-end tests", _by_engine("run", "durable_sleep", "rest", prove=_PROVE)),
    Capability("dashboard", "dashboard", _dashboard),
    Capability("token", "token", _token),
)
