"""Which migrations lie between where a database is and where it shall be. Pure: a graph of revisions, no Alembic."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from owlclaw_up.errors import MigrationsUnusable

_RELATIVE = re.compile(r"[+-]\d+")
_HEADS = {"head", "heads"}


@dataclass(frozen=True)
class Route:
    """A way through the revisions.

    Attributes:
        target: what Alembic is told.
        steps: the revisions that are run, in their order.
        down: whether it leads back.
    """

    target: str
    steps: tuple[str, ...] = ()
    down: bool = False


@dataclass(frozen=True)
class Graph:
    """Every revision.

    Attributes:
        below: revision to those that it rests on, from the first to the newest.
        about: revision to the first line that its script says of itself.
        labels: name of a branch to one of its revisions.
    """

    below: Mapping[str, tuple[str, ...]]
    about: Mapping[str, str]
    heads: tuple[str, ...]
    labels: Mapping[str, str]

    def unknown(self, current: Iterable[str]) -> tuple[str, ...]:
        """Revisions that no script here has."""
        return tuple(r for r in current if r not in self.below)

    def under(self, revisions: Iterable[str]) -> set[str]:
        """The given revisions and everything that they rest on."""
        seen: set[str] = set()
        todo = list(revisions)
        while todo:
            one = todo.pop()
            if one not in seen:
                seen.add(one)
                todo += self.below[one]
        return seen

    def route(self, current: Sequence[str], to: str) -> Route:
        """The way from the current revisions to a target: up where it is ahead, down where it lies behind.

        Args:
            to: a revision or the beginning of one, `head`, `heads`, `base`, `+N`, `-N`, or `BRANCH@head`.

        Raises:
            MigrationsUnusable: there is no such revision, or not so many.
        """
        applied = self.under(current)
        ahead = tuple(r for r in self.below if r not in applied)
        behind = tuple(r for r in reversed(list(self.below)) if r in applied)
        if to in _HEADS:
            if to == "head" and len(self.heads) > 1:
                raise self._several()
            return Route(to, ahead)
        if to == "base":
            return Route(to, behind, True)
        if _RELATIVE.fullmatch(to):
            return self._relative(to, ahead, behind)
        wanted = self._find(to)
        if wanted in applied:
            return Route(wanted, tuple(r for r in behind if wanted in self.under(self.below[r])), True)
        return Route(to if "@" in to else wanted, tuple(r for r in self.below if r in self.under([wanted]) - applied))

    def _relative(self, to: str, ahead: tuple[str, ...], behind: tuple[str, ...]) -> Route:
        count, down = abs(int(to)), to.startswith("-")
        steps = behind if down else ahead
        if not 0 < count <= len(steps):
            raise MigrationsUnusable(
                "migrations-revision", f"--to {to}: there are {len(steps)} migrations in that direction",
                hint="owlclaw-up db migrate --dry-run",
            )  # fmt: skip
        return Route(to, steps[:count], down)

    def _find(self, to: str) -> str:
        name, _, what = to.partition("@")
        if what in _HEADS and name in self.labels:
            return next(h for h in self.heads if self.labels[name] in self.under([h]))
        found = [r for r in self.below if r == to] or [r for r in self.below if r.startswith(to)]
        if not found and to in self.labels:
            found = [self.labels[to]]
        if len(found) == 1:
            return found[0]
        why = f"{len(found)} revisions begin so" if found else "there is no such revision"
        raise MigrationsUnusable(
            "migrations-revision", f"--to {to}: {why}", hint=f"the newest: {', '.join(self.heads) or 'none'}"
        )

    def _several(self) -> MigrationsUnusable:
        return MigrationsUnusable(
            "migrations-revision", f"--to head: there are several heads, {', '.join(self.heads)}",
            hint="all of them: owlclaw-up db migrate --to heads",
        )  # fmt: skip
