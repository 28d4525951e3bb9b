"""Every check of the doctor, in the order in which causes are told. One place to add a family; a check goes into its own."""

from __future__ import annotations

from owlclaw_up.checks import (
    configuration,
    containers,
    docker,
    engine,
    environment,
    hatchet_database,
    leftovers,
    network,
    platform,
    ports,
    postgres,
    remote,
    sdk,
    token,
)
from owlclaw_up.checks.base import Check

CHECKS: tuple[Check, ...] = (
    *platform.CHECKS,
    *docker.CHECKS,
    *ports.CHECKS,
    *postgres.CHECKS,
    *hatchet_database.CHECKS,
    *containers.CHECKS,
    *engine.CHECKS,
    *configuration.CHECKS,
    *network.CHECKS,
    *remote.CHECKS,
    *sdk.CHECKS,
    *token.CHECKS,
    *environment.CHECKS,
    *leftovers.CHECKS,
)
BY_ID = {check.id: check for check in CHECKS}
