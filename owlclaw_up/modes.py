"""The registry of modes, and the choice between them with its reasons. Pure.

One place to add a mode: an entry of `MODES` with its obstacle (why it cannot be used here) and its steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from owlclaw_up.bundle_choice import bundled_images, postgres_hint
from owlclaw_up.errors import (
    DurableRequired,
    EngineUnusable,
    ModeBlocked,
)
from owlclaw_up.facts import Facts, SdkLook, SidecarLook
from owlclaw_up.host.base import ServerLook
from owlclaw_up.host.engines import UNSTAMPED, EngineRefused, version_tuple
from owlclaw_up.model import Absent, Decision, Mode, Move, Obstacle, Rejected, Unknown, found
from owlclaw_up.receipts import Ledger
from owlclaw_up.server_choice import server_fault
from owlclaw_up.settings import Settings, wanted_databases
from owlclaw_up.spec import BUNDLED, EngineBinaries, Sidecar

NAME_ENGINE = "OWLCLAW_UP_ENGINE_DIR=DIR owlclaw-up"
_GET_ENGINE = f"owlclaw-up engine pull, owlclaw-up engine import DIR, or {NAME_ENGINE}"


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
        postgres_hint(facts) or "owlclaw-up --admin-url postgresql://postgres:...@localhost:5432/postgres",
    )


def _docker_obstacle(facts: Facts, settings: Settings, *images: str) -> Obstacle | None:
    """No Docker that could be driven, or images that are not there and may not be pulled."""
    docker = facts.docker
    if isinstance(docker, (Absent, Unknown)):
        return Obstacle(docker.why, docker.hint or "docker info")
    bundled = bundled_images(facts, *images)
    missing = [name for name in images if docker.value.images.get(name) is None and name not in bundled]
    if missing and settings.offline.value:
        names = " and ".join(missing)
        return Obstacle(
            f"{names} {'is' if len(missing) == 1 else 'are'} not on this machine, and offline pulls nothing",
            f"with a network: docker pull {missing[0]}; without: docker load -i FILE, from docker save {missing[0]}, "
            "or a folder made by owlclaw-up prefetch: --from DIR",
        )
    return None


def _full_obstacle(facts: Facts, settings: Settings) -> Obstacle | None:
    if settings.admin_url.value is not None:
        return Obstacle(
            f"it brings a PostgreSQL of its own, and {settings.admin_url.origin} names one",
            "owlclaw-up --mode hatchet-only, or leave out that login",
        )
    own = [d.role for d in wanted_databases(settings) if d.name == d.role]
    if settings.mode.value is not Mode.REMOTE and not {"hatchet", "owlclaw"} <= set(own):
        return Obstacle(
            "its PostgreSQL makes the roles hatchet and owlclaw, and the setting `databases` names others",
            "owlclaw-up --mode hatchet-only",
        )
    return _docker_obstacle(facts, settings, settings.hatchet_image.value, settings.postgres_image.value)


def _hatchet_only_obstacle(facts: Facts, settings: Settings) -> Obstacle | None:
    docker = _docker_obstacle(facts, settings, settings.hatchet_image.value)
    return docker or _postgres_obstacle(facts, settings, needs_engine=True)


def _remote_obstacle(facts: Facts, settings: Settings) -> Obstacle | None:
    """Not asked for. What stands against a server that was asked for is told by the design, each fault by its own code."""
    if settings.mode.value is Mode.REMOTE:
        return _postgres_obstacle(facts, settings, needs_engine=False)
    return Obstacle("it is used only when asked for: it wants a Hatchet server of yours", "owlclaw-up --mode remote")


def _native_obstacle(facts: Facts, settings: Settings) -> Obstacle | None:
    looked = found(facts.engines) or ()
    engine = native_engine(facts, settings)
    if isinstance(engine, Obstacle):
        return engine
    if isinstance(engine, EngineRefused):
        return Obstacle(engine.why, engine.hint)
    if engine is None:
        refused = [r for r in looked if isinstance(r, EngineRefused)]
        if refused:
            return Obstacle(refused[0].why, f"{refused[0].hint}; or take another engine: {_GET_ENGINE}", NAME_ENGINE)
        why = facts.engines.why if isinstance(facts.engines, (Absent, Unknown)) else "no engine binaries at hand"
        return Obstacle(f"{why} (looked in the PATH, the engine cache and Docker)", _GET_ENGINE, NAME_ENGINE)
    return _postgres_obstacle(facts, settings, needs_engine=True)


def _mock_obstacle(facts: Facts, settings: Settings) -> Obstacle | None:
    return _postgres_obstacle(facts, settings, needs_engine=False)


MODES: Mapping[Mode, ModeEntry] = {
    entry.mode: entry
    for entry in (
        ModeEntry(
            Mode.HATCHET_ONLY, True, "PostgreSQL of this machine, Hatchet in a container", _hatchet_only_obstacle
        ),
        ModeEntry(Mode.FULL, True, "PostgreSQL and Hatchet in containers", _full_obstacle),
        ModeEntry(Mode.NATIVE, True, "PostgreSQL and Hatchet as processes of this machine", _native_obstacle),
        ModeEntry(Mode.MOCK, False, "PostgreSQL, and tasks run in your own process", _mock_obstacle),
        ModeEntry(Mode.REMOTE, True, "a Hatchet cluster somewhere else", _remote_obstacle),
    )
}
# With the last `hatchet-only`, PostgreSQL is one of ours: the way around a PostgreSQL image that cannot be had.
_AUTO_ORDER = (Mode.FULL, Mode.HATCHET_ONLY, Mode.NATIVE, Mode.MOCK)


def _auto_order(facts: Facts, settings: Settings, ledger: Ledger) -> tuple[Mode, ...]:
    """Modes as `auto` tries them: a stack lifted by hand, then a PostgreSQL that is there already, first."""
    docker = found(facts.docker)
    first = [docker.by_hand.mode] if docker and docker.by_hand else []
    # Data that is on a server of this machine is not left behind for a new one in a container.
    if _has_local_server(facts, settings) or ledger.recall("postgres").get("kind") in ("local", "embedded"):
        first.append(Mode.HATCHET_ONLY)
    return tuple(dict.fromkeys((*first, *_AUTO_ORDER)))


def _has_local_server(facts: Facts, settings: Settings) -> bool:
    candidates = found(facts.servers) or ()
    usable = any(isinstance(c.look, ServerLook) and server_fault(c, True) is None for c in candidates)
    return usable or settings.admin_url.value is not None


def usable_engine(facts: Facts) -> EngineBinaries | Obstacle | None:
    """The engine that would be started; an obstacle where it is too old for the installed hatchet-sdk."""
    for engine in found(facts.engines) or ():
        if isinstance(engine, EngineBinaries):
            sdk = found(facts.sdk)
            # What is not here yet says its version once it is.
            old = too_old(f"the engine in {engine.directory}", engine.version, sdk) if sdk and engine.here else None
            return old or engine
    return None


def may_be_sidecar(settings: Settings, look: SidecarLook, system: str) -> bool:
    """Whether mode native considers Hatchet's embedded engine at all: where it is asked for, has served last, or on macOS.

    Args:
        system: this machine's, as `platform.system` names it.
    """
    asked = settings.native_engine.value
    if asked != "auto":
        return asked == "sidecar"
    return not settings.engine_dir.explicit and (look.serves or system == "Darwin")


def wants_sidecar(facts: Facts, settings: Settings) -> bool:
    """Whether mode native is to run Hatchet's embedded engine, not its binaries.

    Left to us: as the last start; else the sidecar on macOS, where no binaries of that system are at hand.
    """
    asked = settings.native_engine.value
    if asked != "auto":
        return asked == "sidecar"
    look, machine = found(facts.sidecar), found(facts.platform)
    if look is None or not may_be_sidecar(settings, look, machine.system if machine else ""):
        return False
    return look.serves or not isinstance(usable_engine(facts), EngineBinaries)


def native_engine(facts: Facts, settings: Settings) -> EngineBinaries | Sidecar | EngineRefused | Obstacle | None:
    """The engine that mode native would start, or why it cannot be; None where there is none."""
    if not wants_sidecar(facts, settings):
        return usable_engine(facts)
    look, sdk = found(facts.sidecar), found(facts.sdk)
    if look is None:
        why = facts.sidecar.why if isinstance(facts.sidecar, (Absent, Unknown)) else ""
        return EngineRefused(
            Path(), "", "sidecar-missing", f"no embedded engine could be looked for: {why}", "owlclaw-up plan"
        )
    sidecar = look.found
    if isinstance(sidecar, EngineRefused) or not sidecar.version or sdk is None:
        return sidecar
    return too_old(f"Hatchet's embedded engine of {sidecar.source}", sidecar.version, sdk) or sidecar


def too_old(what: str, version: str, sdk: SdkLook) -> Obstacle | None:
    """What stands against an engine that hatchet-sdk only drives by its legacy path, which fails at random.

    Args:
        what: the engine, for the reader.
    """
    if version_tuple(version) >= version_tuple(sdk.floor):
        return None
    stamped = "was built without a version stamp" if version == UNSTAMPED else "is too old"
    return Obstacle(
        f"{what} ({version}) {stamped}: hatchet-sdk {sdk.version} drives engines from {sdk.floor} on",
        "take a newer engine, or an older hatchet-sdk: pip install 'hatchet-sdk<1'",
    )


def choose(facts: Facts, settings: Settings, ledger: Ledger, moves: Sequence[Move] = ()) -> Decision:
    """The mode, where the choice came from, and why not the others.

    Args:
        moves: modes that were tried already, and failed for good.

    Raises:
        ModeBlocked, EngineUnusable: a mode that was asked for cannot be used here.
        DurableRequired: only `mock` is left, and a durable mode is required.
    """
    obstacles = {mode: entry.obstacle(facts, settings) for mode, entry in MODES.items()}
    obstacles |= {move.mode: Obstacle(move.why) for move in moves}
    asked = settings.mode
    if asked.value is not None:
        mode, source = asked.value, asked.source
        why = f"asked for by {asked.origin}" if source != "state" else asked.origin
        blocked = obstacles[mode]
        if blocked is not None:
            engine = native_engine(facts, settings)
            refused = [r for r in (engine, *(found(facts.engines) or ())) if isinstance(r, EngineRefused)]
            if mode is Mode.NATIVE and refused and blocked.why == refused[0].why:
                raise EngineUnusable(refused[0].code, blocked.why, hint=blocked.hint)
            if mode is Mode.NATIVE and isinstance(engine, Obstacle):
                raise EngineUnusable("engine-too-old", blocked.why, hint=blocked.hint)
            raise ModeBlocked(mode.value, blocked.why, blocked.hint)
    else:
        kept = Mode(ledger.state.mode) if ledger.state.mode in {m.value for m in Mode} else None
        # A mode that was only the best to be had then is not worth keeping over a durable one now.
        if kept is not None and obstacles[kept] is None and MODES[kept].durable:
            mode, source, why = kept, "state", "the last successful up used it, and nothing stands in its way"
        else:
            open_modes = [m for m in _auto_order(facts, settings, ledger) if obstacles[m] is None]
            if not open_modes:
                blocked = obstacles[Mode.MOCK]
                assert blocked is not None
                raise ModeBlocked(Mode.MOCK.value, blocked.why, blocked.hint)
            mode, source = open_modes[0], "auto"
            why = _why(mode, facts, settings)
    rejected = tuple(
        Rejected(other, _why_not(other, mode, obstacles[other], source)) for other in MODES if other is not mode
    )
    durable = MODES[mode].durable
    ways = _ways_to_durable(obstacles)
    native = obstacles[Mode.NATIVE]
    against = f"not native: {native.why}; " if native else ""
    hint = "" if durable else f"{against}for a durable mode: {ways}"
    if settings.require.value == "durable" and not durable:
        reasons = [(r.mode.value, r.why) for r in rejected if MODES[r.mode].durable]
        raise DurableRequired(reasons, ways)
    return Decision(mode, source, why, rejected, durable, hint, tuple(moves))


def _why(mode: Mode, facts: Facts, settings: Settings) -> str:
    docker = found(facts.docker)
    if docker and docker.by_hand and docker.by_hand.mode is mode:
        return f"a stack lifted by hand from {docker.by_hand.file.name} runs here, and is adopted"
    if docker and mode in (Mode.FULL, Mode.HATCHET_ONLY):
        answers = f"Docker {docker.look.version} answers{_images_from(facts, mode, settings)}"
        if mode is Mode.FULL:
            return f"{answers}, and no PostgreSQL of this machine could be used"
        local = _has_local_server(facts, settings)
        return f"{answers}, and {'a PostgreSQL of this machine can be used' if local else 'PostgreSQL is one of ours'}"
    if mode is Mode.NATIVE:
        engine = native_engine(facts, settings)
        assert isinstance(engine, (EngineBinaries, Sidecar))
        if isinstance(engine, Sidecar):
            how = f"is at hand ({engine.source})" if engine.here else f"can be fetched from {engine.source}"
            return f"{engine.title} {how}, and no mode with Docker can be used"
        if engine.source == BUNDLED:
            return f"no mode with Docker can be used, and {engine.directory.parent} has engine {engine.version}"
        if not engine.here:
            return f"no mode with Docker can be used, and the engine can be taken out of {engine.source} ({settings.hatchet_image.value})"
        return f"engine {engine.version} is at hand ({engine.source}), and no mode with Docker can be used"
    return "nothing durable can be had here; tasks run in your own process only"


def _images_from(facts: Facts, mode: Mode, settings: Settings) -> str:
    """That images come out of a folder, where Docker lacks them."""
    docker, bundle = found(facts.docker), found(facts.bundle)
    wanted = [settings.hatchet_image.value, *([settings.postgres_image.value] if mode is Mode.FULL else [])]
    lacking = [name for name in wanted if docker and docker.images.get(name) is None]
    loads = bool(bundled_images(facts, *lacking))
    return f", what it lacks is in {bundle.folder}" if bundle and loads else ""


def _ways_to_durable(obstacles: Mapping[Mode, Obstacle | None]) -> str:
    """The shortest ways to a mode that is durable, the ones that are open first."""
    open_modes = [mode for mode in (Mode.FULL, Mode.NATIVE) if obstacles[mode] is None]
    if open_modes:
        return f"owlclaw-up --mode {open_modes[0].value}"
    hints = [obstacle.hint for mode in (Mode.FULL, Mode.NATIVE) if (obstacle := obstacles[mode]) and obstacle.hint]
    return "; or: ".join(dict.fromkeys(hints))


def shortest_way(facts: Facts, settings: Settings) -> str:
    """The one command that ends in a durable mode here; else what stands in the way, with its mending."""
    obstacles = {mode: MODES[mode].obstacle(facts, settings) for mode in _AUTO_ORDER if MODES[mode].durable}
    open_modes = [mode for mode, obstacle in obstacles.items() if obstacle is None]
    asked = settings.mode.value
    if open_modes:
        return "owlclaw-up" if asked is None or asked in open_modes else f"owlclaw-up --mode {open_modes[0].value}"
    commands = [obstacle.command for obstacle in obstacles.values() if obstacle and obstacle.command]
    return commands[0] if commands else _ways_to_durable(obstacles)


def _why_not(mode: Mode, chosen: Mode, obstacle: Obstacle | None, source: str) -> str:
    if obstacle is not None:
        return obstacle.why
    if source not in ("auto", "state"):
        return f"possible; {chosen.value} was asked for"
    return "a durable mode is possible" if mode is Mode.MOCK else f"{chosen.value} comes first"
