"""The images: pulled when they are not there, both at once, again after a failure that may pass; never asked for twice."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from owlclaw_up.errors import PullFailed, UpError
from owlclaw_up.facts import Facts
from owlclaw_up.host.base import Clock
from owlclaw_up.host.docker_base import Docker
from owlclaw_up.host.image_names import on_mirror
from owlclaw_up.model import Action, Change, Note, Transfer, found, unchanged
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import ComposeSpec
from owlclaw_up.steps.base import Applied, Run

# Seconds before the second, third and fourth try.
PAUSES = (1.0, 3.0, 8.0)
# Nobody says a word for this long: then nobody will.
SILENCE = 60.0
_SHOW_EVERY = 0.15


class _Stopped(Exception):
    """Nobody wants the image any more."""


@dataclass
class _Pull:
    """One image on its way.

    Attributes:
        heard: when the engine last had something to say of it.
        note: what is waited for, between two tries.
        error: why it failed, for good once it has `ended`.
    """

    reference: str
    source: str
    clock: Clock
    done: int = 0
    total: int = 0
    heard: float = 0.0
    note: str = ""
    error: UpError | None = None
    ended: bool = False
    stop: threading.Event = field(default_factory=threading.Event)

    def work(self, docker: Docker) -> None:
        """Pull, and pull again with growing pauses while the cause may pass."""
        try:
            for pause in (*PAUSES, None):
                self.heard = self.clock.monotonic()
                failure = self._once(docker)
                if self.stop.is_set():
                    return
                self.error = failure
                if failure is None or pause is None or not failure.passing:
                    return
                self.note = f"{failure.why}; again in {pause:.0f} s"
                if self.stop.wait(pause):
                    return
                self.note = ""
        except _Stopped:
            pass
        except UpError as failure:
            self.error = failure
        finally:
            self.ended = True

    def _once(self, docker: Docker) -> PullFailed | None:
        try:
            docker.pull(self.reference, self.source, self._progress)
            if docker.image(self.reference) is None:
                return PullFailed(self.reference, self.source, "other", "the pull ended, and the image is not there")
        except PullFailed as failure:
            return failure
        return None

    def _progress(self, done: int, total: int) -> None:
        if self.stop.is_set():
            raise _Stopped
        self.done, self.total, self.heard = done, total, self.clock.monotonic()

    def give_up(self, silence: float) -> None:
        """It has said nothing for so many seconds."""
        self.stop.set()
        self.error = PullFailed(self.reference, self.source, "network", f"no word from it for {silence:.0f} s")
        self.ended = True

    @property
    def for_good(self) -> bool:
        """Whether it has ended in a failure that no other mode goes around."""
        failed = self.ended and self.error is not None
        return failed and not (isinstance(self.error, PullFailed) and self.error.moves_on)

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
        wanted = [name for name in self.compose.images.values() if name not in self.compose.bundled or seen.get(name)]
        missing = [name for name in wanted if seen.get(name) is None]
        if not missing:
            return unchanged(f"{' and '.join(wanted)} on this machine" if wanted else "nothing to pull")
        by = f" from {self.compose.mirror}" if self.compose.mirror else ""
        return Change(Action.RUN, f"pull {' and '.join(missing)}{by}", touches=tuple(f"image {m}" for m in missing))

    def apply(self, run: Run) -> Applied:
        docker = run.host.docker(self.compose.docker.address)
        missing = [name for name in self.compose.images.values() if docker.image(name) is None]
        clock = run.host.clock
        pulls = [_Pull(name, on_mirror(name, self.compose.mirror), clock, heard=clock.monotonic()) for name in missing]
        # Of two failures the engine's decides: without its image no mode with Docker works.
        pulls.sort(key=lambda pull: pull.reference != self.compose.images["hatchet"])
        for pull in pulls:
            threading.Thread(target=pull.work, args=(docker,), daemon=True).start()
        # Not from those of the next mode either, where this one fails.
        with run.at_its_own_pace():
            try:
                self._watch(run, pulls)
            finally:
                for pull in pulls:
                    pull.stop.set()
        for pull in pulls:
            if pull.error and pull.ended:
                raise pull.error
        digests = {name: look.digest for name in self.compose.images.values()
                   if (look := docker.image(name)) is not None}  # fmt: skip
        self.ledger.keep("images", **digests)
        return Applied(Action.RUN, f"pulled {' and '.join(missing)}" if missing else "on this machine")

    def _watch(self, run: Run, pulls: list[_Pull]) -> None:
        """Show how far each has come, until all have ended, or one of them so that the others do not matter."""
        clock, silence = run.host.clock, min(SILENCE, run.deadline.seconds)
        told: dict[str, str] = {}
        while True:
            over = all(pull.ended for pull in pulls)
            for pull in pulls:
                run.tell(Transfer(self.id, pull.name, pull.done, pull.total))
                if not pull.ended and not pull.note and clock.monotonic() - pull.heard > silence:
                    pull.give_up(silence)
                if pull.note and not pull.ended and pull.note != told.get(pull.name):
                    told[pull.name] = pull.note
                    run.tell(Note(f"image {pull.name}: {pull.note}"))
            if over:
                return
            engine = pulls[0].reference == self.compose.images["hatchet"] and pulls[0].ended and pulls[0].error
            if engine or any(pull.for_good for pull in pulls):
                return
            clock.sleep(_SHOW_EVERY)
