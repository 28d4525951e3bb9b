"""What an `up` that has failed goes on with at once: another mode, or another port. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from owlclaw_up.errors import EnginePullFailed, PullFailed, SidecarFailed, UpError
from owlclaw_up.model import Decision, Mode, Move
from owlclaw_up.spec import StackSpec


def ways_on(decision: Decision, spec: StackSpec, error: UpError | None) -> list[Move]:
    """The modes that a pull which failed for good rules out; none where the mode was asked for, or may not be left."""
    if decision.source not in ("auto", "state"):
        return []
    if isinstance(error, SidecarFailed) and error.kind == "unreachable":
        return [Move(Mode.NATIVE, error.message)]
    if not isinstance(error, PullFailed):
        return []
    if isinstance(error, EnginePullFailed):
        # Nobody asked for that engine: whatever is wrong with it, the next mode goes around it.
        return [Move(Mode.NATIVE, error.message)]
    if not error.moves_on or spec.compose is None:
        return []
    of_engine = error.image == spec.compose.images["hatchet"]
    modes = (Mode.FULL, Mode.HATCHET_ONLY) if of_engine else (Mode.FULL,)
    return [Move(mode, error.message) for mode in sorted(modes, key=lambda m: m is not decision.mode)]


def taken_way(decision: Decision, spec: StackSpec, moves: Sequence[Move], error: UpError | None) -> str:
    """What is done instead, and why.

    Args:
        decision: the one that is followed now, with its spec.
        moves: of `ways_on`; empty where a port was lost.
    """
    if moves:
        return f"{moves[0].mode.value} gives way to {decision.mode.value}: {moves[0].why}"
    return f"{error}; it starts again on port {spec.ports.postgres}"
