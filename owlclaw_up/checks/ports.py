"""The ports: those that are kept or asked for, those that the engine has for itself, and whether there are any left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from owlclaw_up.checks.base import UP, Check, Evidence, Fix, Seen, of_error, ok
from owlclaw_up.design import PUBLIC_PORTS, PURPOSES, port_needed, port_verdicts, why_not_free
from owlclaw_up.errors import NoFreePort, PortDenied, PortTaken, UpError
from owlclaw_up.facts.machine import INNER_PORTS
from owlclaw_up.host.base import PortLook
from owlclaw_up.model import Found, Mode, found
from owlclaw_up.modes import choose
from owlclaw_up.server_choice import choose_server

# What follows a port that moves: it is written there.
_FOLLOWS = {
    "dashboard": "the token and .env follow",
    "grpc": "the token and .env follow",
    "postgres": ".env follows",
}
_OFTEN = {
    "dashboard": "another program, or another checkout's engine, listens there",
    "grpc": "another program, or another checkout's engine, listens there",
    "postgres": "a PostgreSQL of the machine's own, or another checkout's, listens there",
}


def _mode(evidence: Evidence) -> Mode | None:
    """The mode whose ports are wanted; None where it cannot be told who has them now."""
    if evidence.with_docker and not isinstance(evidence.facts.docker, Found):
        # Nobody knows which of them are our own containers'.
        return None
    if evidence.decision or evidence.mode:
        return evidence.decision.mode if evidence.decision else evidence.mode
    try:
        # A first `up` that something stops has a mode all the same.
        return choose(evidence.facts, evidence.settings, evidence.ledger).mode
    except UpError:
        return None


def _own_server(evidence: Evidence, mode: Mode) -> bool:
    try:
        return choose_server(evidence.facts, evidence.settings, evidence.ledger, mode) is None
    except UpError:
        # A server of the user's that cannot be used now.
        return False


def _verdicts(evidence: Evidence) -> Mapping[str, int | PortTaken | PortDenied | NoFreePort]:
    """Of the ports on which something of ours shall listen."""
    mode = _mode(evidence)
    if mode is None:
        return {}
    own = _own_server(evidence, mode)
    every = port_verdicts(evidence.facts, evidence.settings, evidence.ledger, mode, own_server=own)
    return {purpose: verdict for purpose, verdict in every.items() if port_needed(purpose, mode, own)}


def _look_of(evidence: Evidence, purpose: str) -> PortLook:
    return (found(evidence.facts.ports) or {})[purpose].wanted


def _public(evidence: Evidence, purpose: str) -> Iterator[Seen]:
    verdict = _verdicts(evidence).get(purpose)
    if isinstance(verdict, (PortTaken, PortDenied)):
        yield of_error(verdict, _move(evidence, purpose))
    elif isinstance(verdict, int):
        look = _look_of(evidence, purpose)
        if verdict == look.port:
            yield ok(f"port {verdict} is for {PURPOSES[purpose]}")
            return
        title = f"port {look.port} is {why_not_free(evidence.facts, look)}; {PURPOSES[purpose]} will have {verdict}"
        hint = f"another one: {UP} --{PUBLIC_PORTS[purpose]} PORT"
        yield Seen("info", title, f"the next free one is {verdict}", hint)


def _move(evidence: Evidence, purpose: str) -> Fix | None:
    """To the next free port; not where the user has named this one, or where it comes free by another fix."""
    setting = f"{purpose}_port"
    look, free = _look_of(evidence, purpose), (found(evidence.facts.ports) or {})[purpose].free
    if free is None or getattr(evidence.settings, setting).explicit or _left(evidence, look):
        return None
    summary = f"move {PURPOSES[purpose]} from port {look.port} to {free}; {_FOLLOWS[purpose]}"
    return Fix(summary, up=True, settings={setting: free})


def _left(evidence: Evidence, look: PortLook) -> bool:
    """Whether one of our own programs has a port, so that `leftovers.processes` speaks of it."""
    left = found(evidence.facts.leftovers)
    return left is not None and look.owner is not None and look.owner.pid in {p.process.pid for p in left.programs}


def _inner(evidence: Evidence) -> Iterator[Seen]:
    verdicts = {p: v for p, v in _verdicts(evidence).items() if p in INNER_PORTS and isinstance(v, int)}
    moved = {p: v for p, v in verdicts.items() if v != _look_of(evidence, p).port}
    if verdicts and not moved:
        yield ok("the engine's inner ports are free, or its own")
    for purpose, port in moved.items():
        look = _look_of(evidence, purpose)
        if _left(evidence, look):
            continue
        taken = why_not_free(evidence.facts, look)
        title = f"port {look.port} is {taken}; {PURPOSES[purpose]} will have {port}"
        yield Seen("info", title, "nobody needs to know that one, so it moves by itself", UP, UP)


def _range(evidence: Evidence) -> Iterator[Seen]:
    verdicts = _verdicts(evidence)
    full = [verdict for verdict in verdicts.values() if isinstance(verdict, NoFreePort)]
    yield from (of_error(error) for error in full)
    if verdicts and not full:
        yield ok("there are free ports")


_LOOKS = ("ports", "stack", "docker", "servers")


def _check(purpose: str) -> Check:
    what = PURPOSES[purpose]
    return Check(
        f"port.{purpose}", f"the port of {what} is free, or ours", "`address already in use`; `up` ends with exit 3: `is taken by`",
        _OFTEN[purpose], f"{what} cannot listen there, and its port is written into tokens and .env",
        f"stop the other one, or {UP} --{PUBLIC_PORTS[purpose]} PORT", partial(_public, purpose=purpose),
        (*_LOOKS, "leftovers"), ("leftovers.processes",), fixable=True,
    )  # fmt: skip


CHECKS: tuple[Check, ...] = (
    *(_check(purpose) for purpose in PUBLIC_PORTS),
    Check(
        "port.inner", "the engine's inner ports are free, or ours", "`up` says that a port was taken meanwhile",
        "another program listens on a port of the engine's API, frontend or health check",
        "nothing: they move by themselves, since nobody types them", UP, _inner, (*_LOOKS, "leftovers"),
    ),
    Check(
        "port.range", "there are free ports", "`up` ends with exit 3: `no free port for`",
        "hundreds of servers listen on this machine, or one that takes whole ranges", "nothing of ours could listen",
        "ss -ltnp; then end what is not needed, or name ports", _range, _LOOKS,
    ),
)  # fmt: skip
