"""The engine out of its image, where none is at hand. It comes before everything else: its version decides what follows."""

from __future__ import annotations

from owlclaw_up.facts import Facts
from owlclaw_up.host.engine_pull import EnginePull
from owlclaw_up.host.image_names import on_mirror
from owlclaw_up.model import Action, Change, Transfer
from owlclaw_up.settings import Settings
from owlclaw_up.steps.base import Applied, Run


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
        name = self.image.rpartition("/")[2]
        try:
            pulled = EnginePull(
                self.image, self.source, run.host.environ, run.host.processes, clock, self.settings.offline.value, run.say,
                lambda done, total: run.tell(Transfer(self.id, name, done, total)),
            ).run()  # fmt: skip
        finally:
            # A download has its own pace: what it took is not taken from the steps after it.
            run.deadline.extend(clock.monotonic() - begun)
        engine = pulled.engine
        what = f"{engine.version} in {engine.directory}" + ("" if engine.assets else ", without a dashboard")
        return Applied(Action.CREATE if pulled.new else Action.UNCHANGED, what)
