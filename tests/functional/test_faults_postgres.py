"""The doctor on faults of PostgreSQL: each really happens, is named first, and is mended by what is said."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.conftest import Cli, DebianPostgres, kill
from tests.faults import Patient
from tests.functional.own_databases import paste, sql
from tests.functional.servers import SECRET, role, wheel_postgres
from tests.ports import free_port
from tests.standin.old_postgres import OldPostgres

MAX_CONNECTIONS = 60
OF_POSTGRES = {
    f"postgres.{name}" for name in (
        "reach", "tls", "login", "version", "connections", "privileges", "role", "owner", "database", "timezone",
        "encoding", "collation", "vector", "extension", "read-only",
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def cli(new_module_cli: Callable[..., Cli], standin_dir: Path) -> Cli:
    """An environment with an engine, on the embedded server."""
    made = new_module_cli(standin_dir)
    made.json("up", "--smoke", "none")
    return made


@pytest.fixture
def patient(cli: Cli) -> Patient:
    return Patient(cli)


def theirs() -> DebianPostgres:
    folder = Path(tempfile.mkdtemp(prefix="owlclaw-pg-", dir="/var/tmp"))
    few = {"max_connections": str(MAX_CONNECTIONS), "superuser_reserved_connections": "0"}
    return DebianPostgres(folder, password=SECRET, **few)


@pytest.fixture(scope="module")
def empty() -> Iterator[DebianPostgres]:
    """A server of the user's with nothing of ours on it."""
    made = theirs()
    yield made
    made.stop()


@pytest.fixture
def stranger(new_cli: Callable[..., Cli], standin_dir: Path) -> Patient:
    """A project in which nothing was set up, with an engine at hand."""
    return Patient(new_cli(standin_dir))


@pytest.fixture(scope="module")
def server() -> Iterator[DebianPostgres]:
    """A server of the user's that holds an environment."""
    made = theirs()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def on_theirs(new_module_cli: Callable[..., Cli], server: DebianPostgres) -> Iterator[Patient]:
    """An environment without an engine, by an admin who is no superuser."""
    with role(server, "steward", "login createdb createrole") as url:
        made = new_module_cli()
        made.json("up", "--mode", "mock", "--smoke", "none", "--admin-url", url)
        yield Patient(made)
        assert made("down", "--purge", "--yes").code == 0


def levels(patient: Patient) -> dict[str, str]:
    assert patient.last is not None
    return {f.id: f.level for f in patient.last.findings}


# Our own server


def test_a_healthy_one(patient: Patient) -> None:
    assert patient.well(), patient.bad()
    assert {name for name, level in levels(patient).items() if level == "ok"} >= OF_POSTGRES


def test_the_shell_s_timezone_is_not_the_database_s(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    assert patient.well(), patient.bad()


def test_a_server_that_was_killed(patient: Patient) -> None:
    pid = patient.cli.state["data"]["postgres"]["pid"]
    kill(pid)
    first = patient.first()
    assert (first.id, first.level, first.command) == ("postgres.reach", "fail", "owlclaw-up")
    assert "not running" in first.title and f"pid {pid}" in first.detail and "owlclaw-up logs postgres" in first.detail
    bad = patient.bad()
    assert not {name for name in bad if name.startswith(("postgres.", "hatchet."))} - {"postgres.reach"}
    assert patient.last is not None
    followers = {f.id for f in patient.last.findings if f.cause == "postgres.reach"}
    assert followers == bad.keys() - {"postgres.reach"}, "nothing else is a cause"
    patient.mend(smoke="none")
    assert not patient.bad()


def test_a_server_that_hangs(patient: Patient) -> None:
    process = psutil.Process(patient.cli.state["data"]["postgres"]["pid"])
    process.suspend()
    try:
        first = patient.first()
        assert (first.id, first.level) == ("postgres.reach", "fail")
        assert "cannot be reached" in first.title and "timeout" in first.detail and "owlclaw-up down" in first.hint
    finally:
        process.resume()
    assert patient.well(), patient.bad()


def test_a_role_that_got_another_password(patient: Patient) -> None:
    sql(patient.cli, "alter role owlclaw password 'another'")
    first = patient.first()
    assert (first.id, first.level, first.command) == ("postgres.role", "fail", "owlclaw-up doctor --fix")
    assert "'owlclaw'" in first.title and "password authentication failed" in first.detail
    assert "secrets.json" in first.hint and "owlclaw-up made" in first.fix
    patient.mend(smoke="none")
    assert not patient.bad()
    sql(patient.cli, "select 1", "owlclaw", "owlclaw")


def test_a_database_that_was_given_away(patient: Patient) -> None:
    sql(patient.cli, "create role heir")
    sql(patient.cli, "alter database owlclaw owner to heir")
    first = patient.first()
    assert (first.id, first.level) == ("postgres.owner", "fail")
    assert "'heir'" in first.title and not first.fix, "it is not ours to take back"
    mend = re.search(r"ALTER DATABASE owlclaw OWNER TO owlclaw", first.hint)
    assert mend
    sql(patient.cli, mend[0])
    sql(patient.cli, "drop role heir")
    assert patient.well(), patient.bad()


def test_a_database_that_was_dropped(patient: Patient) -> None:
    sql(patient.cli, "drop database owlclaw with (force)")
    first = patient.first()
    assert (first.id, first.level, first.command) == ("postgres.database", "fail", "owlclaw-up")
    assert first.title == "there is no database owlclaw"
    assert not {n for n in patient.bad() if n.startswith("postgres.")} - {"postgres.database"}
    patient.mend(smoke="none")
    assert not patient.bad()


@pytest.mark.parametrize("zone", ["Europe/Berlin", "GMT"])
def test_another_timezone(patient: Patient, zone: str) -> None:
    """Only the very names UTC and Etc/UTC will do for Hatchet."""
    sql(patient.cli, f"alter role hatchet in database hatchet set timezone = '{zone}'")
    first = patient.first()
    assert (first.id, first.level, first.command) == ("postgres.timezone", "fail", "owlclaw-up")
    assert first.title == f"sessions of hatchet in hatchet are in {zone}, not UTC"
    assert "ALTER ROLE hatchet IN DATABASE hatchet" in first.detail
    patient.mend(smoke="none")
    assert not patient.bad()
    assert sql(patient.cli, "show timezone", "hatchet", "hatchet") == [("UTC",)]


def test_the_timezone_of_the_application(patient: Patient) -> None:
    sql(patient.cli, "alter role owlclaw in database owlclaw reset timezone")
    sql(patient.cli, "alter database owlclaw set timezone = 'Asia/Tokyo'")
    try:
        finding = patient.finding("postgres.timezone")
        assert (finding.level, finding.title) == ("warn", "sessions of owlclaw in owlclaw are in Asia/Tokyo, not UTC")
        assert "server's settings" in finding.detail or "ALTER DATABASE" in finding.detail
        patient.mend(smoke="none")
        assert not patient.bad()
    finally:
        sql(patient.cli, "alter database owlclaw reset timezone")


def test_a_collation_of_another_system(patient: Patient) -> None:
    (version,) = sql(patient.cli, "select datcollversion from pg_database where datname = 'owlclaw'")[0]
    sql(patient.cli, "update pg_database set datcollversion = '0.9' where datname = 'owlclaw'")
    finding = patient.finding("postgres.collation")
    assert finding.level == "warn" and "owlclaw" in finding.title and "0.9" in finding.title
    assert f" {version} now" in finding.title and "datcollversion" in finding.detail
    paste(finding, patient.cli.secrets["passwords"]["postgres"])
    assert patient.well(), patient.bad()


@pytest.mark.parametrize(("name", "check"), [("vector", "postgres.vector"), ("pgcrypto", "postgres.extension")])
def test_an_extension_that_was_dropped(patient: Patient, name: str, check: str) -> None:
    sql(patient.cli, f"drop extension {name}", "owlclaw")
    finding = patient.finding(check)
    assert (finding.level, finding.command) == ("warn", "owlclaw-up")
    assert finding.title == f"extension {name} is not in database owlclaw" and "the server has it" in finding.detail
    patient.mend(smoke="none")
    assert not patient.bad()


def test_a_database_that_is_read_only(patient: Patient) -> None:
    password = patient.cli.secrets["passwords"]["postgres"]
    for statement, source in (
        ("alter database hatchet set default_transaction_read_only = on", "database"),
        ("alter role hatchet in database hatchet set default_transaction_read_only = on", "database user"),
    ):
        sql(patient.cli, statement)
        finding = patient.finding("postgres.read-only")
        assert finding.level == "fail" and finding.title == "sessions of hatchet in hatchet are read-only"
        assert finding.detail.endswith(source) and "passwords.postgres" in finding.hint
        paste(finding, password)
        assert patient.well(), patient.bad()


def test_rights_that_were_taken(patient: Patient) -> None:
    sql(patient.cli, "revoke create on database hatchet from hatchet")
    sql(patient.cli, "revoke create on schema public from pg_database_owner", "hatchet")
    first = patient.first()
    assert (first.id, first.level) == ("postgres.privileges", "fail")
    assert "schemas in database hatchet" in first.title and "tables in schema public" in first.title
    assert "has_schema_privilege" in first.detail
    paste(first, patient.cli.secrets["passwords"]["postgres"])
    assert patient.well(), patient.bad()
    sql(patient.cli, "revoke connect on database owlclaw from public, owlclaw")
    first = patient.first()
    assert (first.id, first.level) == ("postgres.privileges", "fail")
    assert "permission denied" in first.detail
    mend = re.search(r"GRANT CONNECT .*", first.hint)
    assert mend
    sql(patient.cli, mend[0])
    assert patient.well(), patient.bad()


# Before the first up: what would stop it


def test_a_url_that_is_none(stranger: Patient) -> None:
    first = stranger.first(admin_url="mysql://root:x@localhost/x")
    assert (first.id, first.level) == ("postgres.url", "fail")
    assert "postgresql://" in first.hint and first.detail
    assert stranger.bad().keys() <= {"postgres.url", "environment.mode"}


def test_nobody_and_somebody_else_where_the_url_points_to(stranger: Patient) -> None:
    port = free_port()
    first = stranger.first(admin_url=f"postgresql://postgres:x@127.0.0.1:{port}/postgres")
    assert (first.id, first.level) == ("postgres.reach", "fail") and f"127.0.0.1:{port}" in first.title
    assert "refused" in first.detail and "start" in first.hint


def test_tls_and_login_and_rights_of_the_admin(stranger: Patient, empty: DebianPostgres) -> None:
    first = stranger.first(admin_url=empty.url() + "?sslmode=require")
    assert (first.id, first.level) == ("postgres.tls", "fail") and "sslmode" in first.hint and "SSL" in first.detail
    first = stranger.first(admin_url=empty.url(password="wrong"))
    assert (first.id, first.level) == ("postgres.login", "fail") and "password" in first.hint
    with role(empty, "junior", "login createdb") as url:
        first = stranger.first(admin_url=url)
    assert (first.id, first.level) == ("postgres.privileges", "fail")
    assert "lacks CREATEROLE" in first.title and "ALTER ROLE junior" in first.hint


def test_a_server_that_nobody_named_and_that_refuses_us_is_left_alone(stranger: Patient, empty: DebianPostgres) -> None:
    theirs = {"PGHOST": "127.0.0.1", "PGPORT": str(empty.port), "PGUSER": "postgres", "PGPASSWORD": "wrong"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in theirs.items():
            patch.setenv(name, value)
        finding = stranger.finding("postgres.login", env=theirs)
    assert finding.level == "info" and "left alone" in finding.title and "--admin-url" in finding.hint
    assert "password authentication failed" in finding.detail


def test_a_server_that_is_too_old(stranger: Patient) -> None:
    with OldPostgres() as old:
        first = stranger.first(admin_url=f"postgresql://postgres:x@127.0.0.1:{old.port}/postgres")
    assert (first.id, first.level) == ("postgres.version", "fail")
    assert "13.9" in first.title and "14" in first.title and "--admin-url" in first.hint


def test_a_read_only_server(stranger: Patient, empty: DebianPostgres) -> None:
    first = stranger.first(admin_url=empty.url() + "?options=-c%20default_transaction_read_only%3Don")
    assert (first.id, first.level) == ("postgres.read-only", "fail")
    assert "read-only" in first.title and "default_transaction_read_only" in first.detail


def test_few_connections(stranger: Patient, empty: DebianPostgres) -> None:
    finding = stranger.finding("postgres.connections", admin_url=empty.url(), mode="native")
    assert finding.level == "warn" and f"max_connections is {MAX_CONNECTIONS}" in finding.title
    assert "45" in finding.title and "65" in finding.detail and "ALTER SYSTEM SET max_connections" in finding.command


def test_a_database_in_another_encoding(stranger: Patient, empty: DebianPostgres) -> None:
    with role(empty, "owlclaw", "login"):
        latin = "encoding 'LATIN1' template template0 lc_collate 'C' lc_ctype 'C'"
        empty.sql(f"create database owlclaw owner owlclaw {latin}")
        (stranger.cli.root / ".env").write_text(f"DATABASE_URL={empty.url('owlclaw', database='owlclaw')}\n")
        try:
            finding = stranger.finding("postgres.encoding", admin_url=empty.url(), mode="mock")
            assert finding.level == "warn" and finding.title == "database owlclaw is in LATIN1, not UTF8"
            assert "createdb" in finding.hint and str(empty.port) in finding.detail
        finally:
            empty.sql("drop database owlclaw")


def test_btree_gist_that_is_missing_and_that_is_too_early(stranger: Patient, empty: DebianPostgres) -> None:
    empty.sql("create role hatchet login password 'hatchet'")
    empty.sql("create database hatchet owner hatchet")
    empty.sql("create extension btree_gist", "hatchet")
    try:
        first = stranger.first(admin_url=empty.url(), mode="native")
        assert (first.id, first.level) == ("postgres.btree_gist-early", "fail")
        mend = re.search(r'psql -d (\S+) -c "([^"]+)"', first.hint)
        assert mend
        empty.sql(mend[2], mend[1])
        stranger.look(admin_url=empty.url(), mode="native")
        assert "postgres.btree_gist-early" not in stranger.bad()
    finally:
        empty.sql("drop database hatchet")
        empty.sql("drop role hatchet")
    with wheel_postgres(SECRET, without="btree_gist") as bare:
        first = stranger.first(admin_url=bare.url(), mode="native")
        assert (first.id, first.level) == ("postgres.btree_gist", "fail")
        assert "postgresql-contrib" in first.hint


# A server of the user's


def test_a_healthy_one_of_the_user_s(on_theirs: Patient, server: DebianPostgres) -> None:
    assert on_theirs.well(), on_theirs.bad()
    assert levels(on_theirs)["postgres.vector"] == "info", "Debian's server does not have it"
    server.sql("alter role owlclaw in database owlclaw set timezone = 'Asia/Tokyo'")
    on_theirs.mend(smoke="none")
    assert not on_theirs.bad()


def test_every_connection_in_use(on_theirs: Patient, server: DebianPostgres) -> None:
    with contextlib.ExitStack() as crowd:
        for _ in range(MAX_CONNECTIONS * 9 // 10):
            crowd.enter_context(psycopg.connect(server.url()))
        finding = on_theirs.finding("postgres.connections")
        assert finding.level == "warn" and f"of {MAX_CONNECTIONS} connections are in use" in finding.title
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                crowd.enter_context(psycopg.connect(server.url()))
        first = on_theirs.first()
        assert (first.id, first.level) == ("postgres.connections", "fail"), on_theirs.bad()
        assert "no free connections" in first.title and "max_connections" in first.hint
        assert "too many clients" in first.detail or "remaining connection slots" in first.detail
        assert not {n for n in on_theirs.bad() if n.startswith("postgres.")} - {"postgres.connections"}
    assert on_theirs.well(), on_theirs.bad()


def test_the_kept_login_is_refused(on_theirs: Patient, server: DebianPostgres) -> None:
    server.sql("alter role steward password 'another'")
    try:
        first = on_theirs.first()
        assert (first.id, first.level) == ("postgres.login", "fail"), on_theirs.bad()
        assert "secrets.json" in first.title and "--admin-url" in first.hint
        assert "password authentication failed" in first.detail
        assert not {n for n in on_theirs.bad() if n.startswith("postgres.")} - {"postgres.login"}
    finally:
        server.sql(f"alter role steward password '{SECRET}'")
    assert on_theirs.well(), on_theirs.bad()


def test_it_is_stopped_and_comes_back_as_a_standby_and_as_another_one(
    on_theirs: Patient, server: DebianPostgres
) -> None:
    data = str(server.folder / "data")
    options = f"-p {server.port} -k {server.folder} -c max_connections={MAX_CONNECTIONS} -c fsync=off"
    server.tool("pg_ctl", "-D", data, "-w", "-m", "fast", "stop")
    first = on_theirs.first()
    assert (first.id, first.level) == ("postgres.reach", "fail") and str(server.port) in first.title
    assert "start it" in first.hint and "refused" in first.detail

    signal_file = Path(data) / "standby.signal"
    signal_file.touch()
    if os.geteuid() == 0:
        shutil.chown(signal_file, "postgres")
    server.tool("pg_ctl", "-D", data, "-w", "-l", str(server.folder / "log"), "-o", options, "start")
    first = on_theirs.first()
    assert (first.id, first.level) == ("postgres.read-only", "fail"), on_theirs.bad()
    assert "standby" in first.title and "pg_is_in_recovery" in first.detail
    paste(first, SECRET)
    assert on_theirs.well(), on_theirs.bad()

    state_file = on_theirs.cli.root / ".owlclaw-up/state.json"
    state = state_file.read_text()
    state_file.write_text(state.replace(on_theirs.cli.state["data"]["postgres"]["identity"], "7000000000000000000"))
    first = on_theirs.first()
    assert (
        first.id == "postgres.reach" and "another PostgreSQL" in first.title and "7000000000000000000" in first.detail
    )
    state_file.write_text(state)
    assert on_theirs.well(), on_theirs.bad()
