"""An engine of another version on the same database: upgraded, taken back, killed in the middle, refused.

One environment goes through all of it, in this order; the stand-in engine plays every version.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Cli, kill
from tests.functional.ordinary import ordinary_project
from tests.standin import install
from tests.standin.schema import LATER, MIGRATIONS

OLD, NEW, NEWER, NEWEST = "v0.107.2", "v0.108.0", "v0.109.0", "v0.110.0"
BEFORE, AFTER = MIGRATIONS[-1][0], LATER[-1][1][0]


class Engines:
    """Engines of every version, and the environment that they take turns in."""

    def __init__(self, cli: Cli, folder: Path) -> None:
        self.cli, self.folder = cli, folder

    def install(self, version: str, *faults: str) -> Path:
        """The folder of a version, with these faults and no others."""
        folder = install(self.folder / version, version=version)
        (folder / "fault").write_text(" ".join(faults))
        return folder

    def up(self, version: str, *faults: str, code: int = 0, smoke: str = "none", **env: str) -> dict[str, Any]:
        """Bring it up with an engine; the steps by their id."""
        folder = self.install(version, *faults)
        arguments = ("up", "--engine-dir", str(folder), "--smoke", smoke, "--timeout", "60")
        document = self.cli.json(*arguments, code=code, **env)
        return {**document, "steps": {step["id"]: step for step in document["steps"]}}

    def kill_at(self, phase: str, version: str, *faults: str) -> None:
        """Begin an upgrade, and kill the command with no chance to clean up once it has got that far."""
        folder = self.install(version, *faults)
        running = self.cli.start("up", "--engine-dir", str(folder), "--smoke", "none", "--timeout", "60")
        deadline = time.monotonic() + 40
        while self.record.get("phase") != phase and time.monotonic() < deadline and running.poll() is None:
            time.sleep(0.02)
        time.sleep(0.3)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert self.record.get("phase") == phase
        self.install(version)

    @property
    def record(self) -> dict[str, Any]:
        kept: dict[str, Any] = self.cli.state["data"].get("upgrade", {})
        return kept

    @property
    def runs(self) -> str:
        """The version that runs and answers; empty where none does."""
        document = self.cli.json("status", code=None)
        service = next(s for s in document["services"] if s["id"] == "hatchet")
        return service["version"] if service["state"] == "running" and document["token"]["accepted"] else ""

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(
            host="127.0.0.1", port=self.cli.state["ports"]["postgres"], user="hatchet", dbname="hatchet",
            password=self.cli.secrets["passwords"]["hatchet"], autocommit=True,
        ) as connection:  # fmt: skip
            cursor = connection.execute(query.encode())
            return list(cursor.fetchall()) if cursor.description else []

    @property
    def migration(self) -> int:
        return int(self.sql("select max(version_id) from goose_db_version where is_applied")[0][0])

    def dumps(self) -> list[str]:
        return sorted(path.name for path in (self.cli.root / ".owlclaw-up/dumps").glob("hatchet-*"))


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    with ordinary_project() as cli:
        engines = Engines(cli, cli.root.parent / "engines")
        engines.up(OLD)
        yield engines
        cli.assert_no_leak()


def test_a_migration_that_fails_half_way_leaves_everything_as_before(engines: Engines) -> None:
    plan = engines.cli.json("plan", "--engine-dir", str(engines.install(NEW)))
    steps = {step["id"]: step for step in plan["steps"]}
    assert steps["engine.upgrade"]["action"] == "update"
    assert steps["engine.upgrade"]["detail"].startswith(f"from {OLD} to {NEW}")
    assert steps["smoke"]["action"] == "run"
    assert not engines.dumps()

    token = engines.cli.secrets["token"]
    engines.sql("create table work_of_before (id int); insert into work_of_before values (7)")
    document = engines.up(NEW, "migrate.fails-late", code=4)
    error = document["error"]
    assert error["code"] == "engine-upgrade"
    assert f"from {OLD} to {NEW}" in error["message"]
    assert error["message"].endswith(f"{OLD} runs again, on its database of before")
    assert document["steps"]["engine.back"]["status"] == "done"
    # The first of the two new migrations had worked.
    assert engines.migration == BEFORE
    assert engines.sql("select to_regclass('standin_later'), (select id from work_of_before)") == [(None, 7)]
    assert engines.runs == OLD
    assert engines.cli.secrets["token"] == token
    assert not engines.record
    assert [name.partition("Z-")[2] for name in engines.dumps()] == [f"{OLD}-to-{NEW}.dump"]


def test_a_proof_that_fails_takes_it_back_too(engines: Engines) -> None:
    document = engines.up(NEW, "lite.fail-runs", code=1, smoke="quick")
    assert document["smoke"]["status"] == "failed"
    finding = next(f for f in document["findings"] if f["id"] == "engine.upgrade")
    assert f"{OLD} runs again" in finding["title"]
    assert engines.migration == BEFORE
    assert engines.runs == OLD
    assert engines.sql("select id from work_of_before") == [(7,)]


def test_killed_while_it_migrates_and_then_not_wanted_any_more(engines: Engines) -> None:
    engines.kill_at("dumped", NEW, "migrate.hangs")
    document = engines.up(OLD)
    assert document["steps"]["engine.upgrade"]["detail"] == f"the one to {NEW} is taken back, {OLD} goes on"
    assert (engines.migration, engines.runs, engines.record) == (BEFORE, OLD, {})


def test_killed_while_it_migrates_it_goes_on_with_the_dump_of_before(engines: Engines) -> None:
    engines.kill_at("dumped", NEW, "migrate.hangs")
    dumps = engines.dumps()
    engines.sql("create table half_migrated (id int)")
    document = engines.up(NEW, smoke="quick")
    assert "goes on" in document["steps"]["engine.upgrade"]["detail"]
    assert document["steps"]["smoke"]["status"] == "done"
    assert engines.dumps() == dumps, "a dump of a database that is migrated half-way would be no way back"
    assert (engines.migration, engines.runs, engines.record) == (AFTER, NEW, {})
    assert engines.sql("select id from work_of_before") == [(7,)]

    again = engines.cli.json("up", "--engine-dir", str(engines.folder / NEW))
    assert {step["action"] for step in again["steps"]} == {"unchanged"}
    assert "engine.upgrade" not in {step["id"] for step in again["steps"]}


def test_an_older_engine_is_refused_before_anything_is_changed(engines: Engines) -> None:
    state = (engines.cli.root / ".owlclaw-up/state.json").read_bytes()
    for command in ("up", "plan"):
        error = engines.cli.json(command, "--engine-dir", str(engines.folder / OLD), code=3)["error"]
        assert error["code"] == "engine-downgrade"
        assert f"migrated by Hatchet {NEW}, and {OLD}" in error["message"]
    assert (engines.cli.root / ".owlclaw-up/state.json").read_bytes() == state
    assert engines.runs == NEW


def test_killed_once_the_new_engine_may_have_served_nothing_newer_is_lost(engines: Engines) -> None:
    engines.kill_at("serving", NEWER, "lite.never-ready")
    engines.sql("create table work_of_after (id int)")
    kill(engines.cli.state["data"]["engine"]["pid"])
    document = engines.up(NEWER, "lite.exit-at-start", code=4)
    assert document["error"]["code"] == "process-died"
    assert "engine.back" not in document["steps"]
    finding = next(f for f in document["findings"] if f["id"] == "engine.upgrade")
    assert f"owlclaw-up db restore {engines.record['dump']}" in finding["hint"]
    assert engines.sql("select count(*) from work_of_after") == [(0,)]

    document = engines.up(NEWER)
    assert "goes on" in document["steps"]["engine.upgrade"]["detail"]
    assert (engines.runs, engines.record) == (NEWER, {})
    assert engines.sql("select count(*) from work_of_after") == [(0,)]


def test_killed_while_the_dump_is_put_back_or_made(engines: Engines) -> None:
    engines.kill_at("dumped", NEWEST, "migrate.hangs")
    first = engines.record["dump"]
    engines.sql("create table half_migrated_again (id int)")
    path = engines.cli.root / ".owlclaw-up/state.json"
    state = json.loads(path.read_text())
    state["data"]["upgrade"]["phase"] = "restoring"
    path.write_text(json.dumps(state))
    engines.up(NEWEST, "seed.fails")
    assert engines.sql("select to_regclass('half_migrated_again')") == [(None,)]
    assert (engines.runs, engines.record) == (NEWEST, {})
    assert engines.sql("select count(*) from work_of_after") == [(0,)]
    assert Path(first).name in engines.dumps()
    assert len(engines.dumps()) <= 5

    state = json.loads(path.read_text())
    kept = {"server": "embedded", "before": NEWEST, "to": "v0.111.0", "phase": "dumping", "run": "gone"}
    state["data"]["upgrade"] = kept
    path.write_text(json.dumps(state))
    document = engines.up("v0.111.0")
    assert document["steps"]["engine.upgrade"]["detail"].startswith(f"from {NEWEST} to v0.111.0, hatchet-")
    assert (engines.runs, engines.record) == ("v0.111.0", {})


def test_the_dump_of_before_can_be_restored_by_hand(engines: Engines) -> None:
    dump = next(r["identity"] for r in reversed(engines.cli.state["receipts"]) if r["kind"] == "dump")
    assert dump["engine"] == NEWEST
    assert engines.cli("db", "restore", dump["path"], "--yes").code == 0
    assert engines.cli.state["data"]["engine"]["migrated_by"] == NEWEST
    engines.up(NEWEST)
    assert engines.runs == NEWEST
