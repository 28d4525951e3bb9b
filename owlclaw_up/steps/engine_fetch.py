"""The engine out of its image, or out of a folder made by `prefetch`, where none is at hand.

It comes before everything else: its version decides what follows.
"""

from __future__ import annotations

from collections.abc import Callable

from owlclaw_up.facts import Facts
from owlclaw_up.host.bundle_base import Bundle
from owlclaw_up.host.bundled_engine import import_bundled
from owlclaw_up.host.engine_pull import EnginePull, Pulled
from owlclaw_up.host.image_names import on_mirror
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Action, Change, Listener, Transfer, found
from owlclaw_up.settings import Settings
from owlclaw_up.spec import BUNDLED, NativeEngine, StackSpec
from owlclaw_up.steps.base import Applied, Run, Step


class FetchEngine:
    """Pull the image that the settings name, and keep the engine in the user's cache."""

    id = "engine.fetch"
    title = "Engine"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.image = settings.hatchet_image.value
        self.source = on_mirror(self.image, settings.registry_mirror.value)

    def check(self, facts: Facts) -> Change:
        by = "" if self.source == self.image else f", as {self.source}"
        return Change(Action.CREATE, f"take it out of {self.image}{by}", "no engine is at hand", ("the engine cache",))

    def apply(self, run: Run) -> Applied:
        clock = run.host.clock
        begun = clock.monotonic()
        try:
            pulled = self.pull(run.host, run.say, run.tell)
        finally:
            # A download has its own pace: what it took is not taken from the steps after it.
            run.deadline.extend(clock.monotonic() - begun)
        engine = pulled.engine
        what = f"{engine.version} in {engine.directory}" + ("" if engine.assets else ", without a dashboard")
        return Applied(Action.CREATE if pulled.new else Action.UNCHANGED, what)

    def pull(self, host: Host, say: Callable[[str], None], tell: Listener) -> Pulled:
        """Have it in the cache, for this step and for the command that does nothing else.

        Raises:
            EnginePullFailed, EngineUnusable: it cannot be had, or does not run here.
        """
        name = self.image.rpartition("/")[2]
        return EnginePull(
            self.image, self.source, host.environ, host.processes, host.clock, self.settings.offline.value, say,
            lambda done, total: tell(Transfer(self.id, name, done, total)),
        ).run()  # fmt: skip


class TakeEngine:
    """Keep the engine of a folder made by `prefetch` in the user's cache: the folder may be gone the next time."""

    id = "engine.fetch"
    title = "Engine"

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def check(self, facts: Facts) -> Change:
        what = f"keep {self.bundle.engine} of {self.bundle.folder}"
        return Change(Action.CREATE, what, "--from has it", ("the engine cache",))

    def apply(self, run: Run) -> Applied:
        clock = run.host.clock
        begun = clock.monotonic()
        try:
            engine, new = import_bundled(
                self.bundle, run.host.processes,
                lambda done, total: run.tell(Transfer(self.id, f"engine {self.bundle.engine}", done, total)),
            )  # fmt: skip
        finally:
            # A slow disk is no reason to have less time afterwards.
            run.deadline.extend(clock.monotonic() - begun)
        return Applied(Action.CREATE if new else Action.UNCHANGED, f"{engine.version} in {engine.directory}")


def first_steps(settings: Settings, facts: Facts, spec: StackSpec) -> list[Step]:
    """What must be here before the rest can be planned for good: the engine says its version itself."""
    if not isinstance(spec.engine, NativeEngine) or spec.engine.binaries.here:
        return []
    bundle = found(facts.bundle)
    if spec.engine.binaries.source == BUNDLED and bundle is not None:
        return [TakeEngine(bundle)]
    return [FetchEngine(settings)]
