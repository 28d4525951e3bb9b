"""The registry of checks: whole, in order, and every check has a test that makes its fault happen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from owlclaw_up.checks import CHECKS
from owlclaw_up.checks.base import PATIENCE, Check
from owlclaw_up.checks.preconditions import _BY_CODE, REST
from owlclaw_up.facts import DOCTOR, ON_REQUEST, Facts

IDS = {check.id for check in CHECKS}
FAULT_TESTS = "\n".join(p.read_text() for p in sorted((Path(__file__).parents[1]).rglob("test_faults_*.py")))
each_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)


def test_ids_are_unique() -> None:
    assert len(IDS) == len(CHECKS)


@each_check
def test_a_check_is_whole(check: Check) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z0-9_]+(-[a-z0-9_]+)*", check.id)
    assert all((check.title, check.symptom, check.cause, check.why, check.mend))
    assert set(check.after) <= IDS - {check.id}
    assert set(check.probes) <= set(Facts.__dataclass_fields__)
    assert not (set(check.probes) & ON_REQUEST) - DOCTOR, "the doctor does not gather that"
    assert 0 < check.patience <= PATIENCE


@each_check
def test_a_check_has_a_test_that_makes_its_fault_happen(check: Check) -> None:
    assert f'"{check.id}"' in FAULT_TESTS


def test_what_stops_up_is_a_check() -> None:
    assert {*_BY_CODE.values(), REST} <= IDS


def test_families_stand_together() -> None:
    families = [check.family for check in CHECKS]
    assert len(set(families)) == sum(1 for i, f in enumerate(families) if i == 0 or families[i - 1] != f)


def test_no_two_checks_wait_for_each_other() -> None:
    after = {check.id: set(check.after) for check in CHECKS}
    while after:
        free = {name for name, before in after.items() if not before & set(after)}
        assert free, f"in a circle: {sorted(after)}"
        after = {name: before for name, before in after.items() if name not in free}
