"""Dumps: which tools are taken, how a login is told to them, which dumps are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from owlclaw_up.errors import ApplyFailed, DumpUnusable, TimedOut, UpError
from owlclaw_up.host.base import Deadline, Ran, ServerLogin
from owlclaw_up.host.dumps import _check_dump, _check_restore, _env, _words, database_of, find_tools
from owlclaw_up.model import Secret
from owlclaw_up.steps.base import Run
from owlclaw_up.steps.dumps import KEPT, _drop_oldest, dumps
from tests.unit.fakes import FakeClock, FakeProcesses, make_host, make_ledger

LOGIN = ServerLogin("db.example", 5433, "owl", Secret("p'w"), "it's", (("sslmode", "require"), ("sslpassword", "x")))


def tools(tmp_path: Path, versions: dict[str, str]) -> tuple[FakeProcesses, list[Path]]:
    processes, folders = FakeProcesses(), []
    for name, version in versions.items():
        folder = tmp_path / name
        folder.mkdir()
        for program in ("pg_dump", "pg_restore"):
            (folder / program).touch()
        processes.programs[str(folder / "pg_dump")] = f"pg_dump (PostgreSQL) {version}\n"
        folders.append(folder)
    return processes, folders


def test_the_same_major_version_is_best_and_an_older_one_is_none(tmp_path: Path) -> None:
    processes, folders = tools(tmp_path, {"new": "918.1", "same": "915.4 (Debian 915.4-1)", "old": "914.2"})
    assert find_tools(processes, 915, folders, "").folder == tmp_path / "same"
    assert find_tools(processes, 916, folders, "").major == 918
    with pytest.raises(DumpUnusable) as raised:
        find_tools(processes, 919, folders, "")
    assert raised.value.code == "pg-dump-missing"
    assert "postgresql-client-919" in raised.value.hint
    assert f"914 in {tmp_path / 'old'}" in raised.value.message


def test_a_login_is_told_without_its_password() -> None:
    words = _words(LOGIN)
    assert words == ["--dbname=host='db.example' port='5433' user='owl' dbname='it\\'s' sslmode='require'"]
    assert _env(LOGIN)["PGPASSWORD"] == "p'w"
    assert "PGHOST" not in _env(LOGIN)


def test_the_database_of_a_dump() -> None:
    assert database_of(";\n; Archive created at 2026-01-01\n;     dbname: owlclaw\n;     TOC Entries: 9\n") == "owlclaw"
    assert database_of("nothing") == ""


UNKNOWN = (
    'pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter "transaction_timeout"'
)


def ran(code: int, words: str) -> Ran:
    return Ran(("pg_restore",), code, "", words, 1.0)


@pytest.mark.parametrize(
    ("code", "words", "error", "hint"),
    [
        (0, "", None, ""),
        (1, f"{UNKNOWN}\nCommand was: SET transaction_timeout = 0;\npg_restore: warning: errors ignored on restore: 1", None, ""),
        (1, f"{UNKNOWN}\npg_restore: error: ERROR:  permission denied to create extension", "restore-failed", "superuser"),
        (1, "pg_restore: error: could not write: No space left on device", "restore-failed", "df -h"),
        (-9, "", "timeout", ""),
    ],
)  # fmt: skip
def test_what_a_restore_said(code: int, words: str, error: str | None, hint: str) -> None:
    if error is None:
        _check_restore(ran(code, words), LOGIN, 9)
        return
    with pytest.raises((ApplyFailed, TimedOut)) as raised:
        _check_restore(ran(code, words), LOGIN, 9)
    assert raised.value.code == error
    assert hint in raised.value.hint


def test_a_dump_that_failed_changed_nothing() -> None:
    with pytest.raises(UpError) as raised:
        _check_dump(ran(1, "pg_dump: error: could not write to file: No space left on device"), LOGIN)
    assert (raised.value.code, raised.value.exit_code) == ("disk-full", 3)
    with pytest.raises(UpError) as raised:
        _check_dump(ran(1, "pg_dump: error: aborting because of server version mismatch"), LOGIN)
    assert (raised.value.code, raised.value.exit_code) == ("dump-failed", 3)


def test_the_last_few_are_kept_and_one_that_an_upgrade_may_need(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path)
    ledger.prepare()
    paths = [tmp_path / f"{number}.dump" for number in range(KEPT + 3)]
    for path in paths:
        path.touch()
        ledger.record("dump", path=str(path), database="owlclaw")
    ledger.record("dump", path=str(tmp_path / "other"), database="hatchet")
    ledger.remember("upgrade", dump=str(paths[0]))
    _drop_oldest(Run(make_host(), Deadline(1, FakeClock()), lambda text: None), ledger, "owlclaw")
    assert [p for p in paths if p.exists()] == [paths[0], *paths[3:]]
    assert [Path(r.identity["path"]) for r in dumps(ledger, "owlclaw")] == [paths[0], *paths[3:]]
    assert ledger.receipts("dump", database="hatchet")
