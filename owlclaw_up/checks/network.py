"""Names, addresses and proxies on the way to the engine."""

from __future__ import annotations

from owlclaw_up.checks.base import Check

CHECKS: tuple[Check, ...] = ()
