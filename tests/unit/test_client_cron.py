"""Cron expressions: what is taken, when it fires, and which field of another one is wrong."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owlclaw_up.client import BadCron
from owlclaw_up.client.cron import parse

FIELDS = {"second": (0, 59), "minute": (0, 59), "hour": (0, 23), "day": (1, 28), "month": (1, 12), "weekday": (0, 6)}


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda two: f"{min(two)}-{max(two)}")
    step = st.integers(1, high).map(lambda n: f"*/{n}")
    part = st.one_of(number.map(str), span, step)
    return st.one_of(st.just("*"), st.lists(part, min_size=1, max_size=4).map(",".join))


expressions = st.booleans().flatmap(
    lambda six: st.tuples(*(field(*FIELDS[name]) for name in list(FIELDS)[0 if six else 1 :]))
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


@settings(deadline=None, max_examples=60)
@given(expressions, st.integers(946684800, 4070908800))
def test_a_good_one_is_taken_and_fires(words: tuple[str, ...], epoch: int) -> None:
    cron = parse("  ".join(words))
    # What hatchet-sdk lets through: hatchet_sdk/features/cron.py.
    assert all(w == "*" or w.replace("*/", "").replace("-", "").replace(",", "").isdigit() for w in words)
    assert cron.expression == " ".join(words)
    assert parse(cron.expression) == cron
    now = datetime.fromtimestamp(epoch, timezone.utc)
    due = cron.after(now)
    assert now < due < now + timedelta(days=366 * 8)
    assert (due.second in cron.seconds, due.minute in cron.minutes, due.hour in cron.hours) == (True, True, True)
    assert due.month in cron.months
    assert due.day in cron.days or (due.weekday() + 1) % 7 in cron.weekdays
    assert due < cron.after(due)


@settings(deadline=None, max_examples=60)
@given(expressions, st.data())
def test_a_spoiled_field_is_named(words: tuple[str, ...], data: st.DataObject) -> None:
    names = list(FIELDS)[-len(words) :]
    which = data.draw(st.integers(0, len(words) - 1))
    high = {"day": 31}.get(names[which], FIELDS[names[which]][1])
    bad = data.draw(
        st.sampled_from(
            [
                str(high + 1),
                f"*/{high + 1}",
                "*/0",
                "x",
                "",
                "-",
                "1-",
                "-1",
                "5-1",
                "*5",
                "?",
                "L",
                "1/2",
                "0-2/2",
                "1,,2",
                "1;2",
                "٣",
                "1.5",
            ]
        ).filter(bool)
    )
    spoiled = [*words[:which], bad, *words[which + 1 :]]
    with pytest.raises(BadCron) as caught:
        parse(" ".join(spoiled))
    assert caught.value.field == names[which]
    assert f"field {names[which]}" in caught.value.message
    assert repr(bad) in caught.value.message
    assert f"{names[which]} is *, */n, or" in caught.value.hint


@pytest.mark.parametrize(
    ("given_", "why", "hint"),
    [
        ("", "it is empty", "minute hour day month weekday"),
        ("   ", "it is empty", "minute hour day month weekday"),
        ("* * *", "it has 3 fields, and five are wanted, or six with seconds", "fill it up: * * * * *"),
        ("5 4 1", "it has 3 fields", "fill it up: 5 4 1 * *"),
        ("0 0 1 1 * 2030 *", "it has 7 fields", "leave the year out"),
        ("@hourly", "write its five fields", "the same is: 0 * * * *"),
        ("@Daily", "write its five fields", "the same is: 0 0 * * *"),
        ("@reboot", "such a name is not taken", "five fields in UTC"),
        ("0 0 31 2 *", "no month of it has a day 31: it never fires", "five fields"),
        ("0 0 31 4,6,9,11 *", "it never fires", "five fields"),
        ("* * * * 7", "'7' has 7, which is not in 0 to 6", "0 is Sunday"),
        ("* * * jan *", "'jan' is not of this form", "1 is January"),
        ("60 * * * *", "'60' has 60, which is not in 0 to 59", "minute is *, */n, or 0 to 59: n, n-m, n,m"),
        (7, "a text is wanted", "five fields"),
        (None, "a text is wanted", "five fields"),
    ],
)
def test_a_wrong_one_says_what_would_be_right(given_: object, why: str, hint: str) -> None:
    with pytest.raises(BadCron) as caught:
        parse(given_)
    assert why in caught.value.message
    assert hint in caught.value.hint
    assert (caught.value.code, caught.value.exit_code) == ("bad-cron", 2)


@pytest.mark.parametrize(
    ("expression", "now", "due"),
    [
        ("* * * * * *", "2026-01-01T00:00:00.500", "2026-01-01T00:00:01"),
        ("* * * * *", "2026-01-01T00:00:00", "2026-01-01T00:01:00"),
        ("*/15 * * * *", "2026-01-01T00:46:10", "2026-01-01T01:00:00"),
        ("0 0 29 2 *", "2026-03-01T00:00:00", "2028-02-29T00:00:00"),
        ("30 12 * * 0", "2026-11-25T00:00:00", "2026-11-29T12:30:00"),
        # Both given: one of them is enough. A step restricts, as in the engine's parser.
        ("0 0 13 * 5", "2026-11-08T00:00:00", "2026-11-13T00:00:00"),
        ("0 0 13 * 5", "2026-11-13T00:00:00", "2026-11-20T00:00:00"),
        ("0 0 */30 * 3", "2026-11-24T00:00:00", "2026-11-25T00:00:00"),
        ("0 0 * * 3", "2026-11-25T00:00:00", "2026-12-02T00:00:00"),
        ("59 59 23 31 12 *", "2026-12-31T23:59:59", "2027-12-31T23:59:59"),
    ],
)
def test_when_it_fires(expression: str, now: str, due: str) -> None:
    assert parse(expression).after(at(now)) == at(due)
