"""The ledger on a real folder: intent before effect, what stays after a crash, files that are damaged or of others."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.errors import ApplyFailed, LockHeld, ProjectNotWritable, StateUnusable
from owlclaw_up.host.base import ProcessId
from owlclaw_up.receipts import Ledger, Receipt, Vault, new_password, now_text, project_lock
from tests.unit.fakes import FakeClock, make_ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = make_ledger(tmp_path)
    made.prepare()
    # As the first step does it: the secrets before the state.
    made.save_secrets()
    return made


def on_disk(ledger: Ledger) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(ledger.state_path.read_bytes())
    return document


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_project_leaves_nothing_behind_by_being_looked_at(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    assert not ledger.exists
    assert ledger.recall("postgres") == {}
    assert ledger.process("engine") is None
    assert ledger.password("hatchet")
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_private_and_git_ignores_it(ledger: Ledger) -> None:
    previous = os.umask(0)
    try:
        ledger.prepare()
        ledger.save()
        ledger.save_secrets()
    finally:
        os.umask(previous)
    assert mode(ledger.directory) == mode(ledger.logs) == 0o700
    assert mode(ledger.state_path) == mode(ledger.secrets_path) == 0o600
    assert (ledger.directory / ".gitignore").read_text() == "*\n"


def test_intent_is_on_disk_before_the_effect_and_completion_after(ledger: Ledger) -> None:
    with ledger.creating("role", name="hatchet", server="1"):
        (intent,) = on_disk(ledger)["receipts"]
        assert (intent["kind"], intent["identity"], intent["done"]) == (
            "role",
            {"name": "hatchet", "server": "1"},
            False,
        )
    (receipt,) = on_disk(ledger)["receipts"]
    assert receipt["done"] is True
    assert receipt["run"] == ledger.run
    assert receipt["at"] == now_text(FakeClock()) == "2026-09-21T14:13:20+00:00"


def test_a_refusal_takes_the_intent_back(ledger: Ledger) -> None:
    with pytest.raises(ApplyFailed), ledger.creating("database", name="owlclaw"):
        raise ApplyFailed("postgres-privilege", "permission denied to create database")
    assert on_disk(ledger)["receipts"] == []


@pytest.mark.parametrize("crash", [KeyboardInterrupt, SystemExit, OSError, MemoryError])
def test_a_crash_leaves_the_intent(crash: type[BaseException], ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(crash), ledger.creating("cluster", base="/x"):
        raise crash
    again = make_ledger(tmp_path)
    assert [(r.kind, r.done) for r in again.receipts("cluster", base="/x")] == [("cluster", False)]


def test_a_second_attempt_completes_the_same_receipt(ledger: Ledger) -> None:
    with pytest.raises(KeyboardInterrupt), ledger.creating("role", name="a"):
        raise KeyboardInterrupt
    with ledger.creating("role", name="a"):
        assert len(ledger.receipts("role")) == 1
    assert [r.done for r in ledger.receipts("role")] == [True]


def test_receipts_are_found_and_forgotten_by_any_part_of_their_identity(ledger: Ledger) -> None:
    ledger.record("role", name="a", server="1")
    ledger.record("role", name="a", server="2")
    ledger.record("database", name="a", server="1")
    assert len(ledger.receipts("role")) == 2
    assert len(ledger.receipts("role", name="a", server="2")) == 1
    assert ledger.receipts("role", name="b") == []
    ledger.forget("role", server="1")
    assert [(r["kind"], r["identity"]["server"]) for r in on_disk(ledger)["receipts"]] == [
        ("role", "2"),
        ("database", "1"),
    ]
    ledger.forget("role")
    assert [r.kind for r in ledger.state.receipts] == ["database"]


def test_what_is_remembered_survives(ledger: Ledger, tmp_path: Path) -> None:
    ledger.remember("engine", pid=77, started=5.5, version="v1")
    ledger.remember("engine", version="v2")
    ledger.state.mode, ledger.state.ports = "native", {"grpc": 17077}
    ledger.record("token", id="t")
    again = make_ledger(tmp_path)
    assert again.recall("engine") == {"pid": 77, "started": 5.5, "version": "v2"}
    assert again.process("engine") == ProcessId(77, 5.5)
    assert (again.state.mode, again.state.ports) == ("native", {"grpc": 17077})
    assert again.state.receipts == [Receipt("token", {"id": "t"}, ledger.run, now_text(FakeClock()), True)]
    ledger.remember("engine", pid=None, started=None)
    assert ledger.process("engine") is None


def test_secrets_survive_and_stay_out_of_the_state(ledger: Ledger, tmp_path: Path) -> None:
    password = ledger.password("hatchet").reveal()
    ledger.vault.engine["SERVER_ENCRYPTION_MASTER_KEYSET"] = "keyset-text"
    ledger.vault.token, ledger.vault.admin_url = "token-text", "postgresql://u:admin-text@h/d"
    ledger.vault.env_originals = {"path": "/x/.env", "values": {"DATABASE_URL": "original-text", "OTHER": None}}
    ledger.save_secrets()
    ledger.save()
    again = make_ledger(tmp_path)
    assert again.vault == ledger.vault
    assert again.password("hatchet").reveal() == password
    assert set(again.vault.texts()) == {
        password, "keyset-text", "token-text", "postgresql://u:admin-text@h/d", "original-text",
    }  # fmt: skip
    state = ledger.state_path.read_text()
    assert not any(text in state for text in again.vault.texts())


def test_a_password_is_unsaved_until_it_is_in_the_file(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    ledger.prepare()
    assert ledger.password("langfuse") == ledger.password("langfuse")
    assert ledger.unsaved == {"langfuse"}
    ledger.save_secrets()
    ledger.save()
    assert ledger.unsaved == set()
    ledger.password("another")
    # Another command wrote meanwhile: what was made in memory is gone, and made anew.
    ledger.load()
    assert ledger.unsaved == set() and set(ledger.vault.passwords) == {"langfuse"}


def test_generated_passwords_are_strong_safe_and_never_the_same() -> None:
    made = {new_password().reveal() for _ in range(200)}
    assert len(made) == 200
    for text in made:
        assert len(text) == 24
        assert text[0].isalnum()
        assert any(c.islower() for c in text) and any(c.isupper() for c in text) and any(c.isdigit() for c in text)
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


GOOD_STATE: dict[str, Any] = {"schema": 1, "mode": None, "ports": {}, "data": {}, "receipts": []}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        json.dumps({"schema": 1}).encode(),
        json.dumps({**GOOD_STATE, "ports": []}).encode(),
        json.dumps({**GOOD_STATE, "ports": {"grpc": "x"}}).encode(),
        json.dumps({**GOOD_STATE, "data": {"engine": 3}}).encode(),
        json.dumps({**GOOD_STATE, "receipts": [{"kind": "role"}]}).encode(),
        json.dumps({**GOOD_STATE, "receipts": [3]}).encode(),
        json.dumps({**GOOD_STATE, "receipts": None}).encode(),
    ],
)
def test_a_damaged_state_is_said_and_left_as_it_is(content: bytes, ledger: Ledger, tmp_path: Path) -> None:
    ledger.state_path.write_bytes(content)
    with pytest.raises(StateUnusable) as caught:
        make_ledger(tmp_path)
    error = caught.value
    assert (error.code, error.exit_code) == ("state-unusable", 3)
    assert str(error) == f"{ledger.state_path} is damaged (cut off, or edited by hand)"
    assert f"mv {ledger.directory} {ledger.directory}.damaged" in error.hint
    assert error.detail
    assert ledger.state_path.read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [
        '{"passwords": {"a": "geheim-1"}',
        '["geheim-1"]',
        '{"passwords": ["geheim-1"]}',
        '{"passwords": null, "token": "geheim-1"}',
        '{"engine": "geheim-1"}',
        '{"env_originals": {"values": "geheim-1"}}',
        '{"token": null, "admin_url": "geheim-1"}',
        '{"passwords": {"a": 1}, "token": "geheim-1"}',
    ],
)
def test_damaged_secrets_are_said_and_not_shown(content: str, ledger: Ledger, tmp_path: Path) -> None:
    ledger.secrets_path.write_text(content)
    with pytest.raises(StateUnusable) as caught:
        make_ledger(tmp_path)
    error = caught.value
    assert "is damaged" in str(error)
    assert "geheim" not in f"{error}{error!r}{error.hint}{error.detail}"
    assert error.__cause__ is None


@pytest.mark.parametrize("schema", [2, 99, None, "1"])
def test_the_state_of_another_version_is_not_touched(schema: Any, ledger: Ledger, tmp_path: Path) -> None:
    ledger.state_path.write_text(json.dumps({**GOOD_STATE, "schema": schema, "more": 1}))
    with pytest.raises(StateUnusable, match="written by another version") as caught:
        make_ledger(tmp_path)
    assert "pip install -U owlclaw-up" in caught.value.hint


def test_unknown_secrets_of_a_later_version_are_no_damage(ledger: Ledger, tmp_path: Path) -> None:
    ledger.secrets_path.write_text(json.dumps({"token": "t", "new_thing": 3}))
    assert make_ledger(tmp_path).vault == Vault(token="t")


def test_a_folder_in_the_place_of_a_file(ledger: Ledger, tmp_path: Path) -> None:
    ledger.state_path.mkdir()
    with pytest.raises(StateUnusable, match="cannot be read: Is a directory"):
        make_ledger(tmp_path)


def test_a_project_that_lets_nobody_write(tmp_path: Path) -> None:
    (tmp_path / ".owlclaw-up").write_text("a file in the folder's place")
    with pytest.raises(ProjectNotWritable) as caught:
        make_ledger(tmp_path).prepare()
    assert (caught.value.code, caught.value.exit_code) == ("project-not-writable", 3)
    assert caught.value.hint == f"ls -ld {tmp_path}"


def test_the_lock_tells_its_holder_and_reads_the_state_again(ledger: Ledger, tmp_path: Path) -> None:
    other = make_ledger(tmp_path)
    said: list[str] = []
    with project_lock(ledger, "up", 5, said.append):
        holder = (ledger.directory / "lock.holder").read_text()
        assert holder == f"owlclaw-up up, pid {os.getpid()}, since {now_text(FakeClock())}"
        ledger.remember("engine", pid=1)
        with pytest.raises(LockHeld) as caught, project_lock(other, "down", 0, said.append):
            raise AssertionError("two at once")
    assert said == [f"waiting for another owlclaw-up in this project: {holder}"]
    assert holder in str(caught.value)
    assert not (ledger.directory / "lock.holder").exists()
    with project_lock(other, "down", 0, said.append):
        assert other.recall("engine") == {"pid": 1}


def test_the_lock_is_given_back_after_a_crash(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), project_lock(ledger, "up", 0, print):
        raise KeyboardInterrupt
    with project_lock(make_ledger(tmp_path), "up", 0, print):
        pass


def test_a_state_without_its_secrets_is_of_no_use(ledger: Ledger, tmp_path: Path) -> None:
    ledger.remember("engine", pid=1)
    ledger.secrets_path.unlink()
    with pytest.raises(StateUnusable) as caught:
        make_ledger(tmp_path)
    assert str(caught.value) == f"{ledger.secrets_path} is missing, and what state.json names cannot be used without it"
    assert f"mv {ledger.directory}" in caught.value.hint


def test_a_purge_meanwhile_is_noticed_when_the_lock_is_had(ledger: Ledger, tmp_path: Path) -> None:
    ledger.vault.token = "dead-token"
    ledger.save_secrets()
    ledger.remember("engine", pid=1)
    waited = make_ledger(tmp_path)
    ledger.files.remove_tree(ledger.directory)
    with project_lock(waited, "up", 0, print):
        assert waited.recall("engine") == {}
        assert waited.vault == Vault()


def test_what_several_dotenv_files_were_is_kept_and_masked(ledger: Ledger) -> None:
    other = {"path": "/x/.env.old", "values": {"DATABASE_URL": "older-text"}}
    ledger.vault.env_originals = {"path": "/x/.env", "values": {"DATABASE_URL": "newer-text"}, "others": [other]}
    assert [o["path"] for o in ledger.vault.originals()] == ["/x/.env", "/x/.env.old"]
    assert "others" not in ledger.vault.originals()[0]
    assert {"older-text", "newer-text"} <= set(ledger.vault.texts())
    assert Vault().originals() == []


def test_an_intent_alone_counts(ledger: Ledger) -> None:
    ledger.intend("cluster", base="/x")
    assert [r.done for r in ledger.receipts("cluster")] == [False]
    ledger.record("cluster", base="/x")
    assert [r.done for r in ledger.receipts("cluster")] == [True]
