"""The Docker engine, and what it needs to bring images and containers up."""

from __future__ import annotations

from owlclaw_up.checks.base import Check

CHECKS: tuple[Check, ...] = ()
