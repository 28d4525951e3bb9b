"""Judgements about the dotenv file: what counts as another value, which keys are named, and when nothing is said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from owlclaw_up import dotenv_text
from owlclaw_up.checks.base import Evidence, examine
from owlclaw_up.checks.configuration import CHECKS
from owlclaw_up.facts.values import DotenvBackup, DotenvLook, EnvPlace, EnvPlaces
from owlclaw_up.model import Action, Change, Finding, Found, Mode, PlannedStep, Secret
from owlclaw_up.settings import load
from owlclaw_up.steps.dotenv import env_values
from tests.unit.fakes import NOW, make_facts, make_ledger, make_spec, make_token

TOKEN = make_token()


def text_of(root: Path, other: Mapping[str, str] = MappingProxyType({}), *, engine: bool = True) -> bytes:
    """The file as `up` writes it, but for some values."""
    values = {**env_values(make_spec(root, engine=engine), TOKEN if engine else ""), **other}
    return "".join(f"{key}={value}\n" for key, value in values.items()).encode()


def look(
    root: Path, data: bytes | None, *, standing: bool = True, engine: bool = True, **how: Any
) -> dict[str, Finding]:
    """What is wrong, by id."""
    path = root / ".env"
    dotenv = DotenvLook(path, "missing")
    if data is not None:
        known = {"mode": 0o600, "ignored": True, **how.pop("dotenv", {})}
        dotenv = DotenvLook(path, "file", data, dotenv_text.values(data), **known)
    ledger = make_ledger(root)
    ledger.vault.token = TOKEN if engine and standing else ""
    facts = make_facts(root, dotenv=Found(dotenv), shadows=Found(how.pop("shadows", EnvPlaces())))
    spec, mode = make_spec(root, engine=engine), Mode.NATIVE if engine else Mode.MOCK
    evidence = Evidence(
        facts, load(root, {}, {}), ledger, mode, standing, None, spec, how.pop("planned", ()), None, NOW
    )
    assert not how
    return {f.id: f for f in examine(CHECKS, evidence).findings if f.level != "ok"}


def test_nothing_to_say(tmp_path: Path) -> None:
    assert look(tmp_path, text_of(tmp_path)) == {}
    assert look(tmp_path, text_of(tmp_path, engine=False), engine=False) == {}
    assert look(tmp_path, None, standing=False) == {}
    # What was there before the first up is the user's.
    assert look(tmp_path, b"HATCHET_API_TOKEN=x\nDATABASE_URL=y\n", standing=False, dotenv={"mode": 0o644}) == {}


def test_another_token_has_checks_of_its_own_and_one_that_is_gone_has_not(tmp_path: Path) -> None:
    assert look(tmp_path, text_of(tmp_path, {"HATCHET_API_TOKEN": "another"})) == {}
    stale = look(tmp_path, text_of(tmp_path, {"HATCHET_API_TOKEN": ""}))["env.stale"]
    assert (stale.level, stale.detail) == ("warn", "not there, or empty: HATCHET_API_TOKEN")


def test_a_token_that_outlived_its_engine_keeps_tests_from_being_skipped(tmp_path: Path) -> None:
    stale = look(tmp_path, text_of(tmp_path, {"HATCHET_API_TOKEN": TOKEN}, engine=False), engine=False)["env.stale"]
    assert "HATCHET_API_TOKEN" in stale.title and TOKEN not in repr(stale)


def test_where_ports_move_first_the_file_is_right_until_then(tmp_path: Path) -> None:
    moves = PlannedStep("project", "", Change(Action.UPDATE, "grpc port 1"))
    data = text_of(tmp_path, {"HATCHET_GRPC_HOST_PORT": "localhost:1"})
    assert set(look(tmp_path, data)) == {"env.stale"}
    assert look(tmp_path, data, planned=(moves,)) == {}


def test_many_keys_are_not_all_named(tmp_path: Path) -> None:
    keys = [key for key in env_values(make_spec(tmp_path), TOKEN) if "TOKEN" not in key]
    stale = look(tmp_path, text_of(tmp_path, dict.fromkeys(keys, "x")))["env.stale"]
    assert stale.title.endswith(f"for {', '.join(keys[:4])} and {len(keys) - 4} more")


@pytest.mark.parametrize(
    ("standing", "level"), [pytest.param(True, "warn", id="standing"), pytest.param(False, "info", id="before")]
)
def test_before_the_first_up_nobody_was_told_to_read_it(standing: bool, level: str, tmp_path: Path) -> None:
    places = EnvPlaces((), (EnvPlace("DATABASE_URL", "the shell", None, Secret("geheim")),))
    found = look(tmp_path, text_of(tmp_path), standing=standing, shadows=places)
    assert found["env.shadow"].level == level and "geheim" not in repr(found)
    mixed = look(tmp_path, text_of(tmp_path) + b"A=1\r\n", standing=standing)
    assert (mixed["env.line-ends"].level, mixed["env.line-ends"].detail.rpartition(" ")[2]) == (level, "A")


def test_a_path_with_blanks_can_be_pasted(tmp_path: Path) -> None:
    root = tmp_path / "my app"
    root.mkdir()
    found = look(root, text_of(root), dotenv={"mode": 0o640, "backup": DotenvBackup(root / "a b.bak", ("X",), False)})
    assert found["env.permissions"].command == f"chmod 600 '{root}/.env'"
    assert found["env.backup"].command == "echo 'a b.bak' >> .gitignore"
