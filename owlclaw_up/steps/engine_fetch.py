"""The engine out of its image, where none is at hand. It comes before everything else: its version decides what follows."""

from __future__ import annotations

from collections.abc import Callable

from owlclaw_up.facts import Facts
from owlclaw_up.host.engine_pull import EnginePull, Pulled
from owlclaw_up.host.image_names import on_mirror
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Action, Change, Listener, Note, Transfer, found
from owlclaw_up.settings import Settings
from owlclaw_up.spec import IN_DOCKER, IN_STORE, EngineBinaries
from owlclaw_up.steps.base import Applied, Run


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
        clock = run.host.clock
        begun = clock.monotonic()
        try:
            pulled = self.pull(run.host, run.say, run.tell)
        finally:
            # A download has its own pace: what it took is not taken from the steps after it.
            run.deadline.extend(clock.monotonic() - begun)
        engine = pulled.engine
        by = {"docker": ", out of Docker", "docker-store": ", out of Docker's store"}.get(pulled.source, "")
        what = f"{engine.version} in {engine.directory}{by}" + ("" if engine.assets else ", without a dashboard")
        return Applied(Action.CREATE if pulled.new else Action.UNCHANGED, what)

    def pull(self, host: Host, say: Callable[[str], None], tell: Listener) -> Pulled:
        """Have it in the cache, for this step and for the command that does nothing else.

        Raises:
            EnginePullFailed, EngineUnusable: it cannot be had, or does not run here.
        """
        name = self.image.rpartition("/")[2]
        return EnginePull(
            self.image, self.source, host.environ, host.processes, host.clock, self.settings.offline.value, say,
            lambda text: tell(Note(text)), lambda done, total: tell(Transfer(self.id, name, done, total)),
        ).run()  # fmt: skip
