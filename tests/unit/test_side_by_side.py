"""Asking several things at once: what comes in time, what is late, what fails."""

from __future__ import annotations

import threading

import pytest

from owlclaw_up.facts.side_by_side import ask


def test_every_answer_has_its_name() -> None:
    assert ask({"one": lambda: 1, "none": lambda: None}) == {"one": 1, "none": None}
    assert ask({}, 1.0) == {}


def test_they_are_asked_at_once() -> None:
    """Each waits for the other: one after the other they would wait for ever."""
    met = threading.Barrier(2, timeout=30)
    assert set(ask({"a": met.wait, "b": met.wait}).values()) == {0, 1}


def test_what_is_late_is_left_out_and_holds_nobody() -> None:
    released, others = threading.Event(), threading.enumerate()
    answers = ask({"late": lambda: released.wait(30)}, 0.0)
    assert answers == {}
    waiting = [thread for thread in threading.enumerate() if thread not in others]
    assert [thread.daemon for thread in waiting] == [True], "a process ends all the same"
    released.set()
    assert answers == {}, "what was given does not change"


def test_what_fails_is_raised_where_it_was_asked() -> None:
    with pytest.raises(ZeroDivisionError):
        ask({"good": lambda: 1, "bad": lambda: 1 // 0})
