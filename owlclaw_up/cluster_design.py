"""A small cluster on one machine: which engines there are beside the first, and how all share the server's connections. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from owlclaw_up.errors import EngineUnusable, NoFreePort, PostgresUnusable, SidecarRefused
from owlclaw_up.facts import Facts
from owlclaw_up.facts.machine import FELLOW_PORTS
from owlclaw_up.facts.stack import wanted_engines
from owlclaw_up.model import Mode, found
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings
from owlclaw_up.spec import Fellow, Ports, engine_key

# Each engine process opens three pools of max_conns + 10 connections (hatchet, pkg/config/loader).
_POOLS, _POOL_EXTRA = 3, 10
# Connections that the application, and everybody else, must find free.
KEPT_FREE = 20
_LEAST, _MOST, _MOST_OF_FELLOW = 5, 50, 10


def refuse_elsewhere(settings: Settings, mode: Mode) -> None:
    """Only native engines can be several.

    Raises:
        EngineUnusable: more than one was asked for, and the mode has but one, or none.
    """
    count = settings.engines.value
    if count > 1 and mode is not Mode.NATIVE:
        raise EngineUnusable(
            "engines-native", f"{count} engines run in mode native alone, and this would be {mode.value}",
            hint=f"owlclaw-up --mode native --engines {count}",
        )  # fmt: skip


def refuse_sidecars(settings: Settings) -> None:
    """Hatchet's embedded engine runs alone here, and with PostgreSQL as its queue.

    Raises:
        SidecarRefused: several engines were asked for, or RabbitMQ.
    """
    if settings.engines.value > 1:
        raise SidecarRefused(
            "sidecar-engines", f"{settings.engines.value} engines run from Hatchet's binaries alone, and this would be its embedded engine",
            hint="owlclaw-up --engines 1; or take the binaries: OWLCLAW_UP_NATIVE_ENGINE=binaries owlclaw-up",
        )  # fmt: skip
    if settings.rabbitmq_url.value is not None:
        raise SidecarRefused(
            "sidecar-rabbitmq", "Hatchet's embedded engine takes RabbitMQ's URL on its command line alone, where everybody reads its password",
            hint="leave out rabbitmq_url; or take the binaries: OWLCLAW_UP_NATIVE_ENGINE=binaries owlclaw-up",
        )  # fmt: skip


def engine_connections(pool: int) -> int:
    """How many connections an engine may open at most.

    Args:
        pool: the size that it is told.
    """
    return _POOLS * (pool + _POOL_EXTRA)


def pool_shares(
    facts: Facts, settings: Settings, ledger: Ledger, connections: int, *, several: bool
) -> list[int]:  # fmt: skip
    """The size of each pool of every engine, the first one's first; an engine that runs keeps its own where that may be.

    Args:
        connections: what the server allows altogether.
        several: whether there may be more than one engine.

    Raises:
        PostgresUnusable: the server does not allow enough connections.
    """
    count = wanted_engines(settings, ledger) if several else 1
    running = {
        number: int(kept)
        for number in range(1, count + 1)
        if facts.our_stack.engine(number).process is not None
        and (kept := ledger.recall(engine_key(number)).get("max_conns"))
    }
    return share_out(connections, count, running)


def share_out(connections: int, engines: int, running: Mapping[int, int]) -> list[int]:
    """The size of each pool, by engine.

    Args:
        connections: what the server allows.
        running: pool sizes of the engines that run.

    Raises:
        PostgresUnusable: not even the smallest pools would fit.
    """
    free = connections - KEPT_FREE
    alone = max(_LEAST, min(_MOST, free // _POOLS - _POOL_EXTRA))
    if engines == 1:
        return [min(alone, running.get(1, alone))]

    def left_by(first: int) -> int:
        rest = free - _POOLS * (first + _POOL_EXTRA)
        return min(_MOST_OF_FELLOW, rest // (_POOLS * (engines - 1)) - _POOL_EXTRA)

    equal = free // (_POOLS * engines) - _POOL_EXTRA
    # The first is what tokens and dotenv files name, so it is restarted last of all.
    first = next((f for f in (running.get(1, alone), alone, equal) if f <= alone and left_by(f) >= _LEAST), 0)
    if first < _LEAST:
        each = _POOLS * (_LEAST + _POOL_EXTRA)
        wanted = engines * each + KEPT_FREE
        raise PostgresUnusable(
            "postgres-connections",
            f"{engines} engines want {wanted} connections at least ({each} each, {KEPT_FREE} for everybody else), and the "
            f"server allows {connections}",
            hint=f"raise max_connections on that server to {wanted}, or have fewer: owlclaw-up --engines 1",
        )
    share = left_by(first)
    return [first, *(min(share, running.get(number, share)) for number in range(2, engines + 1))]


def fellows(facts: Facts, shares: list[int], postgres_port: int) -> tuple[Fellow, ...]:
    """The engines beside the first.

    Args:
        shares: as `pool_shares` gives them.

    Raises:
        NoFreePort: one of their ports cannot be had.
    """
    ports = found(facts.fellow_ports) or {}
    made = []
    for number, share in enumerate(shares[1:], 2):
        own = ports.get(number, {})
        if not all(own.values()) or not own:
            raise NoFreePort(f"engine {number}", FELLOW_PORTS.start, FELLOW_PORTS.stop - 1)
        made.append(Fellow(number, Ports(**own, postgres=postgres_port), share))
    return tuple(made)
