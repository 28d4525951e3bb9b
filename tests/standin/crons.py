"""When a cron fires: as the real engine, which takes whatever it is given, and never fires what it cannot read."""

from __future__ import annotations

from datetime import datetime, timezone

_LIMITS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


def _values(field: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        begin, end = (low, high) if span == "*" else (int(first), int(last) if dash else int(first))
        if not low <= begin <= end <= high or (step and int(step) == 0):
            raise ValueError(field)
        found |= set(range(begin, end + 1, int(step or 1)))
    return found


def fires(expression: str, second: int) -> bool:
    """Say whether a cron fires in a second since the epoch."""
    fields = expression.split()
    if len(fields) == 5:
        fields = ["0", *fields]
    moment = datetime.fromtimestamp(second, timezone.utc)
    now = (moment.second, moment.minute, moment.hour, moment.day, moment.month, (moment.weekday() + 1) % 7)
    try:
        hits = [value in _values(field, *limits) for field, limits, value in zip(fields, _LIMITS, now, strict=True)]
    except ValueError:
        return False
    day, weekday = hits[3], hits[5]
    either = fields[3] not in ("*", "*/1") and fields[5] not in ("*", "*/1")
    return all(hits[:3]) and hits[4] and ((day or weekday) if either else (day and weekday))
