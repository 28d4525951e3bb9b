"""What is ours and on no receipt, or on a receipt and not there."""

from __future__ import annotations

from owlclaw_up.checks.base import Check

CHECKS: tuple[Check, ...] = ()
