"""What is inside Hatchet's database: migrations, indexes, engines that share it."""

from __future__ import annotations

from owlclaw_up.checks.base import Check

CHECKS: tuple[Check, ...] = ()
