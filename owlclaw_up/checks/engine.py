"""The running engine: does it answer, as whom, to whom."""

from __future__ import annotations

from owlclaw_up.checks.base import Check

CHECKS: tuple[Check, ...] = ()
