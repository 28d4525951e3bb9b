"""The registry of modes, and the choice between them with its reasons. Pure.

One place to add a mode: an entry of `MODES` with its obstacle (why it cannot be used here) and its steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from owlclaw_up.errors import (
    DurableRequired,
    EngineUnusable,
    ModeBlocked,
)
from owlclaw_up.facts import Facts
from owlclaw_up.host.base import ServerLook
from owlclaw_up.host.engines import UNSTAMPED, EngineRefused, version_tuple
from owlclaw_up.model import Absent, Decision, Mode, Obstacle, Rejected, Unknown, found
from owlclaw_up.receipts import Ledger
from owlclaw_up.server_choice import server_fault
from owlclaw_up.settings import Settings
from owlclaw_up.spec import (
    EngineBinaries,
)

_GET_ENGINE = "owlclaw-up engine import DIR, or OWLCLAW_UP_ENGINE_DIR=DIR owlclaw-up"


@dataclass(frozen=True)
class ModeEntry:
    """A topology: whether its work survives a restart, and what stands against it on a machine."""

    mode: Mode
    durable: bool
    summary: str
    obstacle: Callable[[Facts, Settings], Obstacle | None]


def _postgres_obstacle(facts: Facts, settings: Settings, needs_engine: bool) -> Obstacle | None:
    """No server to use, and none that could be started.

    Of a server that was named, or that holds our databases, `choose_server` says better what is wrong with it.
    """
    if settings.admin_url.value is not None or not isinstance(facts.our_stack.on_server.server, Absent):
        return None
    candidates = found(facts.servers) or ()
    if any(isinstance(c.look, ServerLook) and server_fault(c, needs_engine) is None for c in candidates):
        return None
    if found(facts.postgres_binaries):
        return None
    return Obstacle(
        "no PostgreSQL: none answers that could be used, and there are no server binaries to start one",
        "owlclaw-up --admin-url postgresql://postgres:...@localhost:5432/postgres",
    )


def _docker_modes_obstacle(facts: Facts, settings: Settings) -> Obstacle | None:
    docker = facts.docker
    why = docker.why if isinstance(docker, (Absent, Unknown)) else "Docker answers"
    return Obstacle(f"this version of owlclaw-up does not drive Docker yet ({why})", "owlclaw-up --mode native")


def _remote_obstacle(facts: Facts, settings: Settings) -> Obstacle | None:
    return Obstacle("this version of owlclaw-up does not set up a remote cluster yet", "owlclaw-up --mode native")


def _native_obstacle(facts: Facts, settings: Settings) -> Obstacle | None:
    looked = found(facts.engines) or ()
    engine = usable_engine(facts)
    if isinstance(engine, Obstacle):
        return engine
    if engine is None:
        refused = [r for r in looked if isinstance(r, EngineRefused)]
        if refused:
            return Obstacle(refused[0].why, f"{refused[0].hint}; or take another engine: {_GET_ENGINE}")
        why = facts.engines.why if isinstance(facts.engines, (Absent, Unknown)) else "no engine binaries at hand"
        return Obstacle(f"{why} (looked in the PATH and the engine cache)", _GET_ENGINE)
    return _postgres_obstacle(facts, settings, needs_engine=True)


def _mock_obstacle(facts: Facts, settings: Settings) -> Obstacle | None:
    return _postgres_obstacle(facts, settings, needs_engine=False)


MODES: Mapping[Mode, ModeEntry] = {
    entry.mode: entry
    for entry in (
        ModeEntry(
            Mode.HATCHET_ONLY, True, "PostgreSQL of this machine, Hatchet in a container", _docker_modes_obstacle
        ),
        ModeEntry(Mode.FULL, True, "PostgreSQL and Hatchet in containers", _docker_modes_obstacle),
        ModeEntry(Mode.NATIVE, True, "PostgreSQL and Hatchet as processes of this machine", _native_obstacle),
        ModeEntry(Mode.MOCK, False, "PostgreSQL, and tasks run in your own process", _mock_obstacle),
        ModeEntry(Mode.REMOTE, True, "a Hatchet cluster somewhere else", _remote_obstacle),
    )
}
_AUTO_ORDER = (Mode.HATCHET_ONLY, Mode.FULL, Mode.NATIVE, Mode.MOCK)


def usable_engine(facts: Facts) -> EngineBinaries | Obstacle | None:
    """The engine that would be started; an obstacle where it is too old for the installed hatchet-sdk."""
    for engine in found(facts.engines) or ():
        if isinstance(engine, EngineBinaries):
            sdk = found(facts.sdk)
            if sdk and version_tuple(engine.version) < version_tuple(sdk.floor):
                stamped = "was built without a version stamp" if engine.version == UNSTAMPED else "is too old"
                return Obstacle(
                    f"the engine in {engine.directory} ({engine.version}) {stamped}: hatchet-sdk {sdk.version} "
                    f"drives engines from {sdk.floor} on",
                    "take a newer engine, or an older hatchet-sdk: pip install 'hatchet-sdk<1'",
                )
            return engine
    return None


def choose(facts: Facts, settings: Settings, ledger: Ledger) -> Decision:
    """The mode, where the choice came from, and why not the others.

    Raises:
        ModeBlocked, EngineUnusable: a mode that was asked for cannot be used here.
        DurableRequired: only `mock` is left, and a durable mode is required.
    """
    obstacles = {mode: entry.obstacle(facts, settings) for mode, entry in MODES.items()}
    asked = settings.mode
    if asked.value is not None:
        mode, source = asked.value, asked.source
        why = f"asked for by {asked.origin}"
        blocked = obstacles[mode]
        if blocked is not None:
            refused = [r for r in found(facts.engines) or () if isinstance(r, EngineRefused)]
            if mode is Mode.NATIVE and refused and blocked.why == refused[0].why:
                raise EngineUnusable(refused[0].code, blocked.why, hint=blocked.hint)
            if mode is Mode.NATIVE and isinstance(usable_engine(facts), Obstacle):
                raise EngineUnusable("engine-too-old", blocked.why, hint=blocked.hint)
            raise ModeBlocked(mode.value, blocked.why, blocked.hint)
    else:
        kept = Mode(ledger.state.mode) if ledger.state.mode in {m.value for m in Mode} else None
        # A mode that was only the best to be had then is not worth keeping over a durable one now.
        if kept is not None and obstacles[kept] is None and MODES[kept].durable:
            mode, source, why = kept, "state", "the last successful up used it, and nothing stands in its way"
        else:
            open_modes = [m for m in _AUTO_ORDER if obstacles[m] is None]
            if not open_modes:
                blocked = obstacles[Mode.MOCK]
                assert blocked is not None
                raise ModeBlocked(Mode.MOCK.value, blocked.why, blocked.hint)
            mode, source = open_modes[0], "auto"
            why = _why(mode, facts)
    rejected = tuple(Rejected(other, _why_not(other, mode, obstacles[other])) for other in MODES if other is not mode)
    durable = MODES[mode].durable
    native = obstacles[Mode.NATIVE]
    hint = "" if durable else "for a durable mode: owlclaw-up --mode native"
    if not durable and native is not None:
        hint = f"not native: {native.why}; for a durable mode: {native.hint}"
    if settings.require.value == "durable" and not durable:
        against = [(r.mode.value, r.why) for r in rejected if MODES[r.mode].durable]
        raise DurableRequired(against, native.hint if native else _GET_ENGINE)
    return Decision(mode, source, why, rejected, durable, hint)


def _why(mode: Mode, facts: Facts) -> str:
    if mode is Mode.NATIVE:
        engine = usable_engine(facts)
        assert isinstance(engine, EngineBinaries)
        return f"engine {engine.version} is at hand ({engine.source}), and no mode with Docker can be used"
    return "nothing durable can be had here; tasks run in your own process only"


def _why_not(mode: Mode, chosen: Mode, obstacle: Obstacle | None) -> str:
    if obstacle is not None:
        return obstacle.why
    if mode is Mode.MOCK:
        return "a durable mode is possible"
    return f"possible; {chosen.value} was asked for" if chosen is Mode.MOCK else f"{chosen.value} comes first"
