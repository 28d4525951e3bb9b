"""Our containers: how they end, who reaches them."""

from __future__ import annotations

from owlclaw_up.checks.base import Check

CHECKS: tuple[Check, ...] = ()
