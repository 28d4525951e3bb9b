"""The machine itself: Python, architecture, memory, disk, limits."""

from __future__ import annotations

from owlclaw_up.checks.base import Check

CHECKS: tuple[Check, ...] = ()
