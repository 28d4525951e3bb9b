"""The doctor on what can be wrong inside Hatchet's database: each really happens, and is mended by what is said."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from owlclaw_up.spec import TENANT_ID
from tests.conftest import Cli, kill
from tests.faults import Patient
from tests.functional.own_databases import connect, paste, sql
from tests.ports import free_port

GOOSE_LOCK = 4097083626
# From when on the doctor takes a lock for a forgotten one.
LONG = 3.2
IDS = {
    "hatchet.migrations", "hatchet.invalid-index", "hatchet.migration-lock", "hatchet.two-engines", "hatchet.tenant",
    "hatchet.old-data",
}  # fmt: skip


@pytest.fixture(scope="module")
def cli(new_module_cli: Callable[..., Cli], standin_dir: Path) -> Cli:
    made = new_module_cli(standin_dir)
    made.json("up", "--smoke", "none")
    return made


@pytest.fixture
def patient(cli: Cli) -> Patient:
    return Patient(cli)


def in_hatchet(cli: Cli, query: str) -> list[tuple[object, ...]]:
    return sql(cli, query, "hatchet", "hatchet")


def engine_of(cli: Cli) -> psutil.Process:
    return psutil.Process(cli.state["data"]["engine"]["pid"])


@contextlib.contextmanager
def second_engine(cli: Cli, standin_dir: Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another engine on the same database, with ports of its own."""
    env = engine_of(cli).environ()
    ports = ("SERVER_PORT", "SERVER_GRPC_PORT", "SERVER_HEALTHCHECK_PORT", "LITE_RUNTIME_PORT", "LITE_FRONTEND_PORT")
    env |= {name: str(free_port()) for name in ports}
    before = count_rows(cli)
    process = subprocess.Popen(
        [str(standin_dir / "hatchet-lite")], env=env, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 20
        while count_rows(cli) == before and time.monotonic() < end:
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait(10)


def count_rows(cli: Cli) -> int:
    (row,) = in_hatchet(cli, 'select count(*) from "ControllerPartition"')
    return int(str(row[0]))


def test_a_healthy_database(patient: Patient) -> None:
    assert patient.well(), patient.bad()
    assert patient.last is not None
    assert {f.id for f in patient.last.findings if f.level == "ok"} >= IDS


def test_an_older_dump_in_its_place(patient: Patient) -> None:
    expected = patient.cli.state["data"]["engine"]["migration"]
    in_hatchet(patient.cli, f"delete from goose_db_version where version_id = {expected}")
    first = patient.first()
    assert (first.id, first.level, first.command) == ("hatchet.migrations", "fail", "owlclaw-up")
    assert "behind" in first.title and str(expected) in first.detail
    patient.mend(smoke="none")
    assert not patient.bad()


def test_a_newer_engine_was_there(patient: Patient) -> None:
    in_hatchet(patient.cli, "insert into goose_db_version (version_id, is_applied) values (20990101000000, true)")
    try:
        finding = patient.finding("hatchet.migrations")
        assert (finding.level, finding.command) == ("warn", "owlclaw-up engine list")
        assert "ahead" in finding.title and "20990101000000" in finding.detail and "restore" in finding.hint
    finally:
        in_hatchet(patient.cli, "delete from goose_db_version where version_id = 20990101000000")
    assert patient.well(), patient.bad()


def test_an_index_that_was_left_half_done(patient: Patient) -> None:
    cli = patient.cli
    in_hatchet(cli, 'create table "Half" (id int)')
    try:
        in_hatchet(cli, 'insert into "Half" values (1), (1)')
        with pytest.raises(psycopg.errors.UniqueViolation):
            in_hatchet(cli, 'create unique index concurrently "Half_id" on "Half" (id)')
        finding = patient.finding("hatchet.invalid-index")
        assert (finding.level, finding.command) == ("warn", "owlclaw-up doctor --fix")
        assert '"Half_id"' in finding.title and "indisvalid" in finding.detail
        assert "REINDEX INDEX CONCURRENTLY" in finding.hint
        in_hatchet(cli, 'delete from "Half"')
        patient.mend(smoke="none")
        assert not patient.bad()
        assert in_hatchet(cli, "select indisvalid from pg_index where indexrelid = '\"Half_id\"'::regclass") == [
            (True,)
        ]
    finally:
        in_hatchet(cli, 'drop table "Half"')


def test_the_index_of_a_partitioned_table_is_no_half_one(patient: Patient) -> None:
    """As Hatchet's own: it counts as invalid until every partition has its part of it."""
    in_hatchet(patient.cli, "create table parted (id int) partition by range (id)")
    try:
        in_hatchet(patient.cli, "create table parted_1 partition of parted for values from (1) to (2)")
        in_hatchet(patient.cli, "create index parted_id on only parted (id)")
        assert in_hatchet(patient.cli, "select count(*) from pg_index where not indisvalid") == [(1,)]
        assert patient.well(), patient.bad()
    finally:
        in_hatchet(patient.cli, "drop table parted")


def test_a_session_that_holds_the_lock_and_one_that_waits(patient: Patient) -> None:
    """One wait for both: a forgotten lock of migrations, and a migration behind somebody's open transaction."""
    cli = patient.cli
    password = cli.secrets["passwords"]["postgres"]
    with contextlib.ExitStack() as sessions:
        forgotten = sessions.enter_context(contextlib.closing(connect(cli, "hatchet", "hatchet")))
        forgotten.execute("select pg_advisory_lock(%s)", [GOOSE_LOCK])
        holder = sessions.enter_context(contextlib.closing(connect(cli, "hatchet", "hatchet")))
        holder.execute("begin")
        holder.execute('lock table "UserSession" in share mode')
        waiter = subprocess.Popen(
            ["psql", "-h", "127.0.0.1", "-p", str(cli.state["ports"]["postgres"]), "-U", "hatchet", "-d", "hatchet",
             "-c", 'alter table "UserSession" add column later int'],
            env={"PATH": "/usr/bin:/bin", "PGPASSWORD": cli.secrets["passwords"]["hatchet"]},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert patient.well(), "a lock that is held for a moment is no fault"
            time.sleep(LONG)
            first = patient.first()
            assert (first.id, first.level) == ("hatchet.migration-lock", "fail")
            assert f"pid {psutil.Process().pid}" in first.title and " since " in first.title
            assert f"backend pid {forgotten.info.backend_pid}" in first.detail
            assert "pg_advisory_lock" in first.detail and "five minutes" in first.hint
            paste(first, password)
            second = patient.finding("hatchet.migration-lock")
            assert second.level == "warn" and "waits for a lock" in second.title and "psql" in second.title
            assert f"backend pid {holder.info.backend_pid}" in second.detail and "alter table" in second.detail
            paste(second, password)
            assert waiter.wait(10) == 0
        finally:
            waiter.kill()
        assert patient.well(), patient.bad()
    in_hatchet(cli, 'alter table "UserSession" drop column later')


def test_a_second_engine_on_the_same_database(patient: Patient, standin_dir: Path, tmp_path: Path) -> None:
    with second_engine(patient.cli, standin_dir, tmp_path) as process:
        finding = patient.finding("hatchet.two-engines")
        assert (finding.level, finding.command) == ("warn", f"kill {process.pid}")
        assert f"pid {process.pid}" in finding.title and str(tmp_path) in finding.title
        assert "2 rows" in finding.detail and "ControllerPartition" in finding.detail
        paste(finding, "")
        assert process.wait(10) is not None
    # Its rows count for a minute yet, and it is gone.
    assert count_rows(patient.cli) == 2
    assert patient.well(), patient.bad()
    in_hatchet(
        patient.cli,
        'delete from "ControllerPartition" where "createdAt" = (select max("createdAt") from "ControllerPartition")',
    )


def test_the_engine_of_another_project(patient: Patient, standin_dir: Path, tmp_path: Path) -> None:
    home = tmp_path / "other/.owlclaw-up/engine"
    home.mkdir(parents=True)
    with second_engine(patient.cli, standin_dir, home):
        finding = patient.finding("hatchet.two-engines")
        assert finding.command == f"owlclaw-up down --project-dir {tmp_path}/other"
        assert (
            patient.cli("doctor", "--only", "hatchet.two-engines")
            .stdout.splitlines()[0]
            .startswith("! warning hatchet.two")
        )


def test_a_restart_of_our_own_engine_is_no_second_one(patient: Patient) -> None:
    """The rows of the one before count for a minute."""
    in_hatchet(
        patient.cli,
        """insert into "ControllerPartition" (id, "lastHeartbeat") values ('dead', now() at time zone 'UTC')""",
    )
    kill(engine_of(patient.cli).pid)
    patient.look()
    assert "hatchet.two-engines" not in patient.bad()
    assert patient.cli("up", "--smoke", "none").code == 0
    in_hatchet(
        patient.cli,
        """insert into "ControllerPartition" (id, "lastHeartbeat") values ('ghost', now() at time zone 'UTC')""",
    )
    assert patient.well(), patient.bad()
    in_hatchet(patient.cli, "delete from \"ControllerPartition\" where id = 'ghost'")


def test_a_tenant_that_was_deleted(patient: Patient) -> None:
    in_hatchet(patient.cli, f"delete from \"Tenant\" where id = '{TENANT_ID}'")
    first = patient.first()
    assert (first.id, first.level, first.command) == ("hatchet.tenant", "fail", "owlclaw-up"), patient.bad()
    assert TENANT_ID in first.title and '"Tenant"' in first.detail and "token" in first.hint
    assert patient.last is not None
    assert {f.id for f in patient.last.findings if f.cause == "hatchet.tenant"} >= {"token.database-reset"}
    # A running engine takes a token for five seconds after its row is gone.
    kill(engine_of(patient.cli).pid)
    patient.mend(smoke="none")
    assert not patient.bad()


def test_a_tenant_of_somebody_else_s(patient: Patient) -> None:
    other = "11111111-2222-3333-4444-555555555555"
    in_hatchet(patient.cli, f"update \"Tenant\" set id = '{other}' where id = '{TENANT_ID}'")
    try:
        finding = patient.finding("hatchet.tenant")
        assert finding.level == "fail" and other in finding.detail and not finding.command and not finding.fix
        assert "another installation" in finding.hint
    finally:
        in_hatchet(patient.cli, f"update \"Tenant\" set id = '{TENANT_ID}' where id = '{other}'")
    assert patient.well(), patient.bad()


def test_data_of_hatchet_0(patient: Patient) -> None:
    tenant = "22222222-3333-4444-5555-666666666666"
    in_hatchet(
        patient.cli, f"""insert into "Tenant" (id, name, slug, version) values ('{tenant}', 'Old', 'old', 'V0')"""
    )
    try:
        finding = patient.finding("hatchet.old-data")
        assert finding.level == "warn" and "1 tenant is of Hatchet 0" in finding.title
        assert f"old ({tenant})" in finding.detail and "engine of then" in finding.hint
    finally:
        in_hatchet(patient.cli, f"delete from \"Tenant\" where id = '{tenant}'")
    assert patient.well(), patient.bad()


def test_hatchet_s_database_was_dropped(patient: Patient) -> None:
    """One cause: everything that was in it follows."""
    sql(patient.cli, "drop database hatchet with (force)")
    first = patient.first()
    assert (first.id, first.level) == ("postgres.database", "fail") and "hatchet" in first.title
    assert patient.last is not None
    causes = [f.id for f in patient.last.findings if f.level == "fail" and not f.cause]
    assert causes == ["postgres.database"], patient.bad()
    patient.mend(smoke="none")
    assert not patient.bad()
