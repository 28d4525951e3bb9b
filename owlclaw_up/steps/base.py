"""What a step is: a pure `check` and a repeatable `apply`. Nothing here has effects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from owlclaw_up.facts import Facts
from owlclaw_up.host.base import Deadline
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Action, Change, Event, Finding, Smoke


@dataclass
class Run:
    """One walk over a plan.

    Attributes:
        say: shows a few words of progress.
        tell: passes an event on to whoever watches.
        smoke: what the proof came to, once it ran.
        findings: what the reader should know though it stopped nothing.
    """

    host: Host
    deadline: Deadline
    say: Callable[[str], None]
    tell: Callable[[Event], None] = lambda event: None
    smoke: Smoke | None = None
    findings: list[Finding] = field(default_factory=list)
    closers: list[Callable[[], None]] = field(default_factory=list)

    @contextmanager
    def at_its_own_pace(self) -> Iterator[None]:
        """What a download or a slow disk takes in here is not taken from the steps after it."""
        begun = self.host.clock.monotonic()
        try:
            yield
        finally:
            self.deadline.extend(self.host.clock.monotonic() - begun)

    def close(self) -> None:
        """End whatever steps began early and nobody needs any more."""
        while self.closers:
            self.closers.pop()()


@dataclass(frozen=True)
class Applied:
    """What a step really did: ensuring may find that nothing was to be done."""

    action: Action
    detail: str


class TokenMaker(Protocol):
    """What makes tokens for the engine of an environment."""

    @property
    def about(self) -> str:
        """A command that shows what it is."""
        ...

    @property
    def token_routes(self) -> Sequence[tuple[str, Callable[[Run, str], str]]]:
        """Ways to a new token, best first: each with its name; called with the token's name, gives what was printed."""
        ...

    def watch(self, run: Run) -> tuple[Callable[[], str], Callable[[], None]]:
        """For waits on the running engine: its last words, and a look that raises once it has died."""
        ...


class HatchetAdmin(TokenMaker, Protocol):
    """Hatchet's own admin tool for the engine of an environment, wherever both are."""

    @property
    def may_begin(self) -> bool:
        """Whether keysets can be made before any other step has worked."""
        ...

    def create_keysets(self, run: Run) -> list[str]:
        """Master, private and public keyset, newly made."""
        ...


class Step(Protocol):
    """One repeatable unit of a plan."""

    @property
    def id(self) -> str: ...

    @property
    def title(self) -> str: ...

    def check(self, facts: Facts) -> Change:
        """What `apply` would do, from facts alone."""
        ...

    def apply(self, run: Run) -> Applied:
        """Make it so; also after a crash in the middle of an earlier attempt."""
        ...


@runtime_checkable
class LateStep(Protocol):
    """A step that rests on what earlier steps make, so that what its `check` said may be void when its turn comes."""

    def outdated(self) -> bool:
        """Whether an earlier step has changed what it rests on since it was made."""
        ...


@runtime_checkable
class EarlyStep(Protocol):
    """A step with something slow that may start before its turn, and changes nothing."""

    def begin(self, run: Run) -> None: ...
