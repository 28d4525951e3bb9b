"""The engine out of its image, or out of a folder made by `prefetch`, where none is at hand.

It comes before everything else: its version decides what follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from owlclaw_up.facts import Facts
from owlclaw_up.host.bundle_base import Bundle
from owlclaw_up.host.image_names import on_mirror
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Action, Change, Listener, Note, Transfer, found
from owlclaw_up.settings import Settings
from owlclaw_up.spec import BUNDLED, IN_DOCKER, IN_STORE, EngineBinaries, NativeEngine, StackSpec
from owlclaw_up.steps.base import Applied, Run, Step

if TYPE_CHECKING:
    # What reads images is loaded where one is read: most runs have an engine.
    from owlclaw_up.host.engine_pull import Pulled


class FetchEngine:
    """Take it out of the image that the settings name, and keep it in the user's cache."""

    id = "engine.fetch"
    title = "Engine"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.image = settings.hatchet_image.value
        self.source = on_mirror(self.image, settings.registry_mirror.value)

    def check(self, facts: Facts) -> Change:
        by = "" if self.source == self.image else f", as {self.source}"
        where = {IN_DOCKER: f"Docker's image {self.image}", IN_STORE: f"{self.image} in Docker's store"}
        engines = [e for e in found(facts.engines) or () if isinstance(e, EngineBinaries)]
        source = where.get(engines[-1].source if engines else "", f"{self.image}{by}")
        return Change(Action.CREATE, f"take it out of {source}", "no engine is at hand", ("the engine cache",))

    def apply(self, run: Run) -> Applied:
        with run.at_its_own_pace():
            pulled = self.pull(run.host, run.say, run.tell)
        engine = pulled.engine
        by = {"docker": ", out of Docker", "docker-store": ", out of Docker's store"}.get(pulled.source, "")
        what = f"{engine.version} in {engine.directory}{by}" + ("" if engine.assets else ", without a dashboard")
        return Applied(Action.CREATE if pulled.new else Action.UNCHANGED, what)

    def pull(self, host: Host, say: Callable[[str], None], tell: Listener) -> Pulled:
        """Have it in the cache, for this step and for the command that does nothing else.

        Raises:
            EnginePullFailed, EngineUnusable: it cannot be had, or does not run here.
        """
        from owlclaw_up.host.engine_pull import EnginePull

        name = self.image.rpartition("/")[2]
        return EnginePull(
            self.image, self.source, host.environ, host.processes, host.clock, self.settings.offline.value, say,
            lambda text: tell(Note(text)), lambda done, total: tell(Transfer(self.id, name, done, total)),
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
        from owlclaw_up.host.bundled_engine import import_bundled

        with run.at_its_own_pace():
            engine, new = import_bundled(
                self.bundle, run.host.processes,
                lambda done, total: run.tell(Transfer(self.id, f"engine {self.bundle.engine}", done, total)),
            )  # fmt: skip
        return Applied(Action.CREATE if new else Action.UNCHANGED, f"{engine.version} in {engine.directory}")


def first_steps(settings: Settings, facts: Facts, spec: StackSpec) -> list[Step]:
    """What must be here before the rest can be planned for good: the engine says its version itself."""
    if not isinstance(spec.engine, NativeEngine) or spec.engine.binaries.here:
        return []
    bundle = found(facts.bundle)
    if spec.engine.binaries.source == BUNDLED and bundle is not None:
        return [TakeEngine(bundle)]
    return [FetchEngine(settings)]
