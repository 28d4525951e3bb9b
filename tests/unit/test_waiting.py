"""The one waiter: short polls that grow, one deadline, no waiting for the dead."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from owlclaw_up.errors import ProcessDied, TimedOut
from owlclaw_up.host.base import FIRST_POLL, LONGEST_POLL, Deadline, wait_until
from tests.unit.fakes import FakeClock


def never() -> tuple[str | None, str]:
    return None, "/ready says nothing"


def after(*seen: str) -> Iterator[tuple[str | None, str]]:
    """Looks that see these one after the other, and then the answer."""
    yield from ((None, text) for text in seen)
    yield "answer", ""


def test_an_answer_at_once_costs_no_sleep() -> None:
    clock = FakeClock()
    assert wait_until("it", lambda: ("yes", ""), deadline=Deadline(5, clock)) == "yes"
    assert clock.slept == []


def test_an_empty_answer_is_an_answer() -> None:
    assert wait_until("it", lambda: (False, ""), deadline=Deadline(5, FakeClock())) is False


def test_polls_begin_short_and_grow_to_half_a_second() -> None:
    clock, looks = FakeClock(), after(*["not yet"] * 40)
    assert wait_until("it", lambda: next(looks), deadline=Deadline(60, clock)) == "answer"
    assert clock.slept[0] == FIRST_POLL
    assert clock.slept == sorted(clock.slept)
    assert clock.slept[-1] == LONGEST_POLL
    assert len(clock.slept) == 40


def test_a_timeout_tells_what_was_seen_last_and_the_log() -> None:
    clock, looks = FakeClock(), after(*["early"] * 3, *["late"] * 99)
    with pytest.raises(TimedOut) as caught:
        wait_until("the engine's API", lambda: next(looks), deadline=Deadline(3, clock), log_tail=lambda: "last line")
    error = caught.value
    assert str(error) == "the engine's API did not happen within 3 s; last seen: late"
    assert (error.code, error.exit_code, error.detail) == ("timeout", 4, "last line")
    assert "--timeout" in error.hint
    assert 3 <= clock.passed < 3 + LONGEST_POLL


def test_the_last_sleep_does_not_overrun_the_deadline() -> None:
    clock = FakeClock()
    with pytest.raises(TimedOut):
        wait_until("it", never, deadline=Deadline(1, clock))
    assert clock.passed <= 1.2


def test_at_least_one_look_is_made_when_the_time_is_up_already() -> None:
    clock = FakeClock()
    deadline = Deadline(1, clock)
    clock.passed = 10
    assert wait_until("it", lambda: ("yes", ""), deadline=deadline) == "yes"
    with pytest.raises(TimedOut):
        wait_until("it", never, deadline=deadline)
    assert clock.slept == []


def test_nobody_waits_for_the_dead() -> None:
    clock = FakeClock()

    def dead() -> None:
        if clock.passed > 0.1:
            raise ProcessDied("hatchet-lite", "with exit code 1", hint="owlclaw-up logs hatchet", log="panic: ...")

    with pytest.raises(ProcessDied) as caught:
        wait_until("it", never, deadline=Deadline(60, clock), dead=dead)
    assert clock.passed < 0.2
    assert (caught.value.code, caught.value.detail) == ("process-died", "panic: ...")


def test_an_answer_wins_over_a_death_seen_at_the_same_moment() -> None:
    def dead() -> None:
        raise AssertionError("asked for the dead after an answer")

    assert wait_until("it", lambda: ("yes", ""), deadline=Deadline(5, FakeClock()), dead=dead) == "yes"


def test_a_deadline_is_shared() -> None:
    clock = FakeClock()
    deadline = Deadline(10, clock)
    assert (deadline.left(), deadline.left(3), deadline.over) == (10, 3, False)
    clock.sleep(9)
    assert (deadline.left(), deadline.left(3), deadline.over) == (1, 1, False)
    clock.sleep(1)
    assert (deadline.left(), deadline.over) == (0.1, True)
    assert deadline.seconds == 10
