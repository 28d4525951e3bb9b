"""The hatchet-sdk that is installed, and the engine that it is to drive."""

from __future__ import annotations

from owlclaw_up.checks.base import Check

CHECKS: tuple[Check, ...] = ()
