"""The rows that a dead engine leaves behind hold the first task back for a minute; they are cleared where that is safe."""

from __future__ import annotations

from owlclaw_up.model import Finding
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import HATCHET_DATABASE, StackSpec
from owlclaw_up.steps.base import Run

# Hatchet counts a silent engine as alive for a minute: hatchet, pkg/repository/sqlcv1/tenants.sql.
GHOST_SECONDS = 65


def clear_ghost(run: Run, spec: StackSpec, ledger: Ledger, *, known: bool, company: bool = False) -> int:
    """Delete the dead predecessor's partition and lease rows; never with another engine alive.

    Args:
        known: whether the rows can be those of an engine that this project started, and that is dead now.
        company: whether another engine of this project is alive, so that rows are that one's as well.

    Returns:
        How many rows went.
    """
    if company:
        # Those of a dead one run out by themselves within a minute; till then its share of the work waits.
        if known:
            ledger.remember("engine", patience=True)
        return 0
    login = spec.login(spec.database(HATCHET_DATABASE))
    trace = run.host.postgres.engine_trace(login)
    if not trace.rows:
        return 0
    end = run.host.clock.monotonic() + 1.5
    while trace.connections and run.host.clock.monotonic() < end:
        # Sessions of a killed process linger for a moment.
        run.host.clock.sleep(0.1)
        trace = run.host.postgres.engine_trace(login)
    if trace.connections or not known:
        ledger.remember("engine", patience=True)
        why = (
            f"{trace.connections} sessions of another engine are on database {login.database}"
            if trace.connections
            else "rows of an engine that this project did not start are there"
        )
        run.findings.append(
            Finding(
                "engine.other", "warn", "the first task may wait for a minute", why,
                "one engine's leases must run out, or two share the work",
            )
        )  # fmt: skip
        return 0
    ledger.remember("engine", patience=False)
    return run.host.postgres.clear_engine_trace(login)
