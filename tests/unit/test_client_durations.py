"""Delays, instants and periods: the good ones come through, the others say why."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from owlclaw_up.client import BadArgument, BadDelay, NaiveDatetime
from owlclaw_up.client.durations import YEAR, delay_of, instant_of, seconds_of

NOW = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)
good = st.floats(min_value=0.001, max_value=YEAR)
bad = st.one_of(st.floats(max_value=0), st.floats(min_value=YEAR * 1.001), st.just(math.nan), st.just(-math.inf))


@given(good)
def test_a_good_delay_is_taken_in_either_form(seconds: float) -> None:
    assert delay_of(seconds) == seconds
    assert seconds_of("timeout", seconds) == seconds
    assert delay_of(timedelta(seconds=seconds)) == pytest.approx(seconds, abs=1e-6)


@given(bad)
def test_no_other_is(seconds: float) -> None:
    with pytest.raises(BadDelay):
        delay_of(seconds)
    with pytest.raises(BadArgument):
        seconds_of("timeout", seconds)


@given(st.one_of(st.text(), st.none(), st.booleans(), st.lists(st.integers()), st.complex_numbers()))
def test_what_is_no_number_is_no_delay(value: Any) -> None:
    with pytest.raises(BadDelay, match="seconds or a timedelta is wanted"):
        delay_of(value)


@pytest.mark.parametrize(
    ("value", "why", "hint"),
    [
        (0, "there is nothing to wait for", "now is: client.run_task_now(...)"),
        (0.0, "there is nothing to wait for", "run_task_now"),
        (timedelta(), "there is nothing to wait for", "run_task_now"),
        (-1, "it must be above 0", "delay=90"),
        (timedelta(days=-1), "it must be above 0", "timedelta(minutes=5)"),
        (math.nan, "that is not a number", "delay=90"),
        (math.inf, "that is more than 366 days", "delay=90"),
        (10**400, "that is more than 366 days", "delay=90"),
        (1_800_000_000, "that is more than 366 days; are these milliseconds?", "delay=90"),
        ("90", "seconds or a timedelta is wanted", "delay=90"),
        (True, "seconds or a timedelta is wanted", "delay=90"),
    ],
)
def test_a_bad_delay_says_why(value: Any, why: str, hint: str) -> None:
    with pytest.raises(BadDelay) as caught:
        delay_of(value)
    assert why in caught.value.message
    assert hint in caught.value.hint
    assert len(caught.value.message) < 200


@given(st.floats(min_value=0.001, max_value=YEAR), st.integers(-12, 14))
def test_an_instant_is_taken_in_any_zone(ahead: float, hours: int) -> None:
    instant = (NOW + timedelta(seconds=ahead)).astimezone(timezone(timedelta(hours=hours)))
    assert instant_of(instant, NOW) == instant
    assert instant_of(instant, NOW).tzinfo is timezone.utc


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (NOW, "that was 0 s ago, and no past instant is taken, however near"),
        (NOW - timedelta(seconds=0.5), "that was 0.5 s ago"),
        (NOW - timedelta(days=400), "s ago"),
        (NOW + timedelta(days=400), "that is 400 days ahead, more than a year"),
        (NOW.timestamp(), "an aware datetime is wanted"),
        ("2027-01-01T00:00:00Z", "an aware datetime is wanted"),
        (NOW.date(), "an aware datetime is wanted"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), "no calendar has it in UTC"),
    ],
)
def test_another_instant_says_why(value: Any, why: str) -> None:
    with pytest.raises(BadDelay) as caught:
        instant_of(value, NOW)
    assert why in caught.value.message
    assert caught.value.hint


def test_an_instant_without_a_zone_is_none() -> None:
    with pytest.raises(NaiveDatetime, match="has no timezone") as caught:
        instant_of(datetime(2027, 1, 1), NOW)  # noqa: DTZ001
    assert "timezone.utc" in caught.value.hint
