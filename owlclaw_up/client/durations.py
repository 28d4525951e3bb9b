"""Checks of delays, instants and periods: what comes in is checked, what goes out is seconds or an aware datetime. Pure."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone

from owlclaw_up.client.errors import BadArgument, BadDelay, NaiveDatetime

# Further ahead than this is a slip of a unit (milliseconds, an epoch), not a plan.
YEAR = 366 * 86400.0


def seconds_of(name: str, value: object, *, below: float = YEAR) -> float:
    """Seconds of a period that must be there, such as a timeout.

    Args:
        name: the argument's, for the error.
        value: seconds, or a timedelta.
        below: the longest that is believed, in seconds.

    Raises:
        BadArgument: no number, not above 0, not finite, or longer than `below`.
    """
    seconds = _seconds(value)
    if seconds is None:
        raise BadArgument(
            name, _shown(value), "seconds or a timedelta is wanted", f"{name}=60, or {name}=timedelta(minutes=1)"
        )
    why = _why_not(seconds, below)
    if why:
        raise BadArgument(name, _shown(value), why, f"{name}=60, or {name}=timedelta(minutes=1)")
    return seconds


def delay_of(value: object) -> float:
    """Seconds of a delay.

    Raises:
        BadDelay: no number of seconds, negative, zero, not finite, or more than a year.
    """
    hint = "delay=90, or delay=timedelta(minutes=5)"
    seconds = _seconds(value)
    if seconds is None:
        raise BadDelay("delay", _shown(value), "seconds or a timedelta is wanted", hint)
    if seconds == 0:
        raise BadDelay("delay", _shown(value), "there is nothing to wait for", "now is: client.run_task_now(...)")
    why = _why_not(seconds, YEAR)
    if why:
        raise BadDelay("delay", _shown(value), why, hint)
    return seconds


def instant_of(value: object, now: datetime) -> datetime:
    """An instant in the future, in UTC.

    The SDK takes a datetime of another zone for UTC: hatchet_sdk/clients/admin.py, `_parse_schedule`.

    Raises:
        NaiveDatetime: it has no timezone.
        BadDelay: it is no datetime, has passed, however lately, or is more than a year ahead.
    """
    hint = "at=datetime.now(timezone.utc) + timedelta(minutes=5)"
    if not isinstance(value, datetime):
        raise BadDelay("at", _shown(value), "an aware datetime is wanted", hint)
    if value.tzinfo is None or value.utcoffset() is None:
        raise NaiveDatetime("at", value.isoformat())
    try:
        instant = value.astimezone(timezone.utc)
    except OverflowError:
        raise BadDelay("at", value.isoformat(), "no calendar has it in UTC", hint) from None
    ahead = (instant - now).total_seconds()
    if ahead <= 0:
        raise BadDelay(
            "at", value.isoformat(), f"that was {abs(ahead):.3g} s ago, and no past instant is taken, however near",
            "now is: client.run_task_now(...)",
        )  # fmt: skip
    if ahead > YEAR:
        raise BadDelay("at", value.isoformat(), f"that is {ahead / 86400:.0f} days ahead, more than a year", hint)
    return instant


def _seconds(value: object) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    # True is no period, although Python counts with it.
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    return None


def _why_not(seconds: float, below: float) -> str:
    if math.isnan(seconds):
        return "that is not a number"
    if seconds <= 0:
        return "it must be above 0"
    if seconds > below:
        return f"that is more than {below / 86400:g} days" + (
            "; are these milliseconds?" if seconds < below * 1000 else ""
        )
    return ""


def _shown(value: object) -> str:
    text = str(value) if isinstance(value, timedelta) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
