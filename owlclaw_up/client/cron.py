"""Cron expressions: check one as strictly as it is meant, and say when it fires. Pure; everything is UTC.

The engine takes nonsense such as `60 * * * *` and never fires it, and hatchet-sdk 1.43.1 sends only digits, `*`, `*/n`,
`-` and `,` (hatchet_sdk/features/cron.py): so each field is checked here for what both understand.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from owlclaw_up.client.errors import BadCron

_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
# Name, lowest, highest, and what names are taken for elsewhere.
_FIELDS = (
    ("second", 0, 59),
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day", 1, 31),
    ("month", 1, 12),
    ("weekday", 0, 6),
)
_NUMBER = re.compile(r"[0-9]{1,9}")
_NAMED = {"month": "1 is January", "weekday": "0 is Sunday"}
# Four years have every date; the century without a leap day makes it eight.
_LONGEST = timedelta(days=8 * 366)


@dataclass(frozen=True)
class Cron:
    """A checked expression.

    Attributes:
        expression: its fields, separated by one blank each.
        either: both day and weekday are given, so that one of them is enough, as in every cron.
    """

    expression: str
    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool

    def after(self, moment: datetime) -> datetime:
        """The first instant after a moment at which it fires; always one, since `parse` refuses the others."""
        second = moment.astimezone(timezone.utc).replace(microsecond=0) + timedelta(seconds=1)
        end = second + _LONGEST
        while second < end:
            if second.month not in self.months or not self._on(second):
                second = second.replace(hour=0, minute=0, second=0) + timedelta(days=1)
            elif second.hour not in self.hours:
                second = second.replace(minute=0, second=0) + timedelta(hours=1)
            elif second.minute not in self.minutes:
                second = second.replace(second=0) + timedelta(minutes=1)
            elif second.second not in self.seconds:
                second += timedelta(seconds=1)
            else:
                return second
        raise AssertionError(f"{self.expression} never fires")

    def _on(self, moment: datetime) -> bool:
        day, weekday = moment.day in self.days, (moment.weekday() + 1) % 7 in self.weekdays
        return day or weekday if self.either else day and weekday


def parse(expression: object) -> Cron:
    """Check an expression of five fields, or six with seconds first.

    Raises:
        BadCron: it is no text, has another number of fields, or one of its fields is wrong; `field` says which.
    """
    if not isinstance(expression, str):
        raise BadCron(repr(expression)[:60], "a text is wanted")
    words = expression.split()
    if not words:
        raise BadCron(expression, "it is empty")
    if words[0].startswith("@"):
        plain = _ALIASES.get(expression.strip().lower())
        if plain:
            raise BadCron(expression, "write its five fields, which say when it fires", hint=f"the same is: {plain}")
        raise BadCron(expression, "such a name is not taken")
    if len(words) not in (5, 6):
        raise BadCron(
            expression,
            f"it has {len(words)} fields, and five are wanted, or six with seconds",
            hint=_fields_hint(words),
        )
    names = _FIELDS[-len(words) :]
    sets = [_field(expression, word, *limits) for word, limits in zip(words, names, strict=True)]
    if len(words) == 5:
        sets.insert(0, frozenset({0}))
    seconds, minutes, hours, days, months, weekdays = sets
    # As the engine's parser has it: a step restricts a field, a bare star does not.
    given = [word not in ("*", "*/1") for word in (words[-3], words[-1])]
    cron = Cron(" ".join(words), seconds, minutes, hours, days, months, weekdays, all(given))
    if not cron.either and not any(min(days) <= _longest(month) for month in months):
        raise BadCron(expression, f"no month of it has a day {min(days)}: it never fires", field="day")
    return cron


def _longest(month: int) -> int:
    return calendar.monthrange(2024, month)[1]


def _fields_hint(words: list[str]) -> str:
    if len(words) > 6:
        return "leave the year out: minute hour day month weekday"
    filled = " ".join([*words, *["*"] * (5 - len(words))])
    return f"fill it up: {filled}  (minute hour day month weekday, in UTC)"


def _field(expression: str, word: str, name: str, low: int, high: int) -> frozenset[int]:
    def wrong(why: str) -> BadCron:
        told = f"; {_NAMED[name]}" if name in _NAMED else ""
        return BadCron(
            expression, f"{word!r} {why}", field=name, hint=f"{name} is *, */n, or {low} to {high}: n, n-m, n,m{told}"
        )

    if word == "*":
        return frozenset(range(low, high + 1))
    values: set[int] = set()
    for part in word.split(","):
        if part.startswith("*/"):
            step = part[2:]
            if not _NUMBER.fullmatch(step) or int(step) == 0:
                raise wrong("has no step above 0")
            if int(step) > high:
                raise wrong(f"has a step of {int(step)}, and the field ends at {high}")
            values.update(range(low, high + 1, int(step)))
            continue
        first, dash, last = part.partition("-")
        if not _NUMBER.fullmatch(first) or (dash and not _NUMBER.fullmatch(last)):
            raise wrong("is not of this form")
        begin, end = int(first), int(last) if dash else int(first)
        for number in (begin, end):
            if not low <= number <= high:
                raise wrong(f"has {number}, which is not in {low} to {high}")
        if begin > end:
            raise wrong(f"runs backwards, from {begin} to {end}")
        values.update(range(begin, end + 1))
    return frozenset(values)
