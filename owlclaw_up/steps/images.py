"""The images: pulled when they are not there, both at once, again after a failure that may pass; never asked for twice."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from owlclaw_up.errors import PullFailed, TimedOut, UpError
from owlclaw_up.facts import Facts
from owlclaw_up.host.base import Docker
from owlclaw_up.model import Action, Change, Transfer, found, unchanged
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import ComposeSpec
from owlclaw_up.steps.base import Applied, Run

# Seconds before the second, third and fourth try.
PAUSES = (1.0, 3.0, 8.0)
_SHOW_EVERY = 0.15


def on_mirror(reference: str, mirror: str) -> str:
    """Where a mirror has an image: the registry's name, or Docker Hub's that is left out, gives way to the mirror's."""
    if not mirror:
        return reference
    first, _, rest = reference.partition("/")
    named = bool(rest) and ("." in first or ":" in first or first == "localhost")
    path = rest if named else reference if rest else f"library/{reference}"
    return f"{mirror.removeprefix('https://').removeprefix('http://').rstrip('/')}/{path}"


@dataclass
class _Pull:
    """One image on its way.

    Attributes:
        note: what is waited for, between two tries.
    """

    reference: str
    source: str
    done: int = 0
    total: int = 0
    note: str = ""
    error: UpError | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def work(self, docker: Docker) -> None:
        """Pull, and pull again with growing pauses while the cause may pass."""
        for pause in (*PAUSES, None):
            try:
                docker.pull(self.reference, self.source, self._progress)
            except PullFailed as failure:
                self.error = failure
                if pause is None or failure.kind not in PullFailed.PASSING:
                    return
                self.note = f"{failure.why}; again in {pause:.0f} s"
                if self.stop.wait(pause):
                    return
                self.note = ""
            except UpError as failure:
                self.error = failure
                return
            else:
                self.error = None
                return

    def _progress(self, done: int, total: int) -> None:
        self.done, self.total = done, total

    @property
    def name(self) -> str:
        return self.reference.rpartition("/")[2]


class PullImages:
    """Have the pinned images on the Docker engine; a registry is asked only for what is not there."""

    id = "images"
    title = "Images"

    def __init__(self, compose: ComposeSpec, ledger: Ledger) -> None:
        self.compose, self.ledger = compose, ledger

    def check(self, facts: Facts) -> Change:
        docker = found(facts.docker)
        seen = docker.images if docker else {}
        missing = [name for name in self.compose.images.values() if seen.get(name) is None]
        if not missing:
            return unchanged(f"{' and '.join(self.compose.images.values())} on this machine")
        by = f" from {self.compose.mirror}" if self.compose.mirror else ""
        return Change(Action.RUN, f"pull {' and '.join(missing)}{by}", touches=tuple(f"image {m}" for m in missing))

    def apply(self, run: Run) -> Applied:
        docker = run.host.docker(self.compose.docker.address)
        missing = [name for name in self.compose.images.values() if docker.image(name) is None]
        begun = run.host.clock.monotonic()
        pulls = [_Pull(name, on_mirror(name, self.compose.mirror)) for name in missing]
        threads = [threading.Thread(target=pull.work, args=(docker,), daemon=True) for pull in pulls]
        for thread in threads:
            thread.start()
        try:
            self._watch(run, pulls, threads)
        finally:
            for pull in pulls:
                pull.stop.set()
        # Of two failures the engine's decides: without its image no mode with Docker works.
        failures = [
            p.error for p in sorted(pulls, key=lambda p: p.reference != self.compose.images["hatchet"]) if p.error
        ]
        if failures:
            raise failures[0]
        digests = {name: (look.digests or (look.id,))[0] for name in self.compose.images.values()
                   if (look := docker.image(name)) is not None}  # fmt: skip
        self.ledger.keep("images", **digests)
        # A download has its own pace: what it took is not taken from the steps after it.
        run.deadline.extend(run.host.clock.monotonic() - begun)
        return Applied(Action.RUN, f"pulled {' and '.join(missing)}" if missing else "on this machine")

    def _watch(self, run: Run, pulls: list[_Pull], threads: list[threading.Thread]) -> None:
        """Show how far each has come, until all have ended; only silence counts against the deadline."""
        last, moved = -1, run.host.clock.monotonic()
        while any(thread.is_alive() for thread in threads):
            for pull in pulls:
                run.tell(Transfer(self.id, pull.name, pull.done, pull.total))
            notes = [f"{pull.name}: {pull.note}" for pull in pulls if pull.note]
            if notes:
                run.say("; ".join(notes))
            done = sum(pull.done for pull in pulls)
            if done != last:
                last, moved = done, run.host.clock.monotonic()
            if run.host.clock.monotonic() - moved > run.deadline.seconds:
                names = " and ".join(pull.reference for pull in pulls)
                raise TimedOut(f"the pull of {names}", run.deadline.seconds, "no byte came")
            run.host.clock.sleep(_SHOW_EVERY)
