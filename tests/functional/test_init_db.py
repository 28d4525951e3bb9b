"""`deploy/init-db.sql` on a real server: what it makes, that it may run again, and that `up` takes it as it is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.conftest import Cli, DebianPostgres

SCRIPT = Path(__file__).parents[2] / "deploy" / "init-db.sql"
NAMES = ("hatchet", "owlclaw")


def psql(server: DebianPostgres, *args: str, url: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run the script as its first lines say, without anything of the developer's own psql."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LITE_"))}
    return subprocess.run(
        ["psql", "--no-psqlrc", "--no-password", "-d", url or server.url(), *args, "-f", str(SCRIPT)],
        env={**kept, "LC_ALL": "C", **env}, text=True, capture_output=True, check=False, timeout=60,
    )  # fmt: skip


def log_in(server: DebianPostgres, role: str, password: str) -> str:
    """The timezone of a session that a role opens in its own database."""
    import psycopg

    with psycopg.connect(server.url(role, password, database=role)) as connection:
        row = connection.execute("show timezone").fetchone()
    assert row is not None
    return str(row[0])


def test_the_catalog_after_one_run_and_after_two(debian_postgres: Callable[..., DebianPostgres]) -> None:
    server = debian_postgres()
    # What somebody put into template1 must not come along: Hatchet's migration fails on a btree_gist that is there.
    server.sql("create extension btree_gist", database="template1")
    first = psql(server)
    assert first.returncode == 0, first.stderr
    assert "ERROR" not in first.stderr
    after_one = server.dump()

    second = psql(server)
    assert second.returncode == 0, second.stderr
    assert "ERROR" not in second.stderr
    assert server.dump() == after_one

    databases = server.sql(
        "select datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding) from pg_database "
        "where datname in ('hatchet', 'owlclaw') order by 1"
    )
    assert databases == [(name, name, "UTF8") for name in NAMES]
    roles = server.sql(
        "select rolname, rolcanlogin, rolsuper, rolcreatedb, rolcreaterole from pg_roles "
        "where rolname in ('hatchet', 'owlclaw') order by 1"
    )
    assert roles == [(name, True, False, False, False) for name in NAMES]
    for name in NAMES:
        # The password is the name; and UTC on a server that has another timezone.
        assert log_in(server, name, name) == "UTC"
    assert server.sql("show timezone") == [("Asia/Shanghai",)]

    available = {row[0] for row in server.sql("select name from pg_available_extensions")}
    assert {"pgcrypto", "btree_gist"} <= available
    made = {row[0] for row in server.sql("select extname from pg_extension", database="owlclaw")}
    assert made == {"plpgsql", *({"vector", "pgcrypto"} & available)}
    assert ("vector" in available) or "no extension vector" in first.stderr
    assert server.sql("select extname from pg_extension", database="hatchet") == [("plpgsql",)]


def test_passwords_can_be_given_and_are_never_changed(debian_postgres: Callable[..., DebianPostgres]) -> None:
    server = debian_postgres()
    odd = 'it\'s "odd"; drop'
    assert psql(server, "-v", f"hatchet_password={odd}", LITE_OWLCLAW_PASSWORD="by-environment").returncode == 0
    assert log_in(server, "hatchet", odd) == "UTC"
    assert log_in(server, "owlclaw", "by-environment") == "UTC"
    assert psql(server, "-v", "hatchet_password=another").returncode == 0
    assert log_in(server, "hatchet", odd) == "UTC"


def test_it_needs_no_superuser_where_vector_is_not_at_hand(debian_postgres: Callable[..., DebianPostgres]) -> None:
    server = debian_postgres()
    server.sql("create role maker login createdb createrole password 'maker'")
    url = server.url("maker", "maker", database="postgres")
    ran = psql(server, url=url)
    if server.sql("select from pg_available_extensions where name = 'vector'"):
        # vector is no trusted extension: a real error, and the run ends there.
        assert ran.returncode == 3
        assert 'permission denied to create extension "vector"' in ran.stderr
        return
    assert ran.returncode == 0, ran.stderr
    assert psql(server, url=url).returncode == 0
    assert log_in(server, "owlclaw", "owlclaw") == "UTC"


def test_it_stops_at_a_real_error(debian_postgres: Callable[..., DebianPostgres]) -> None:
    server = debian_postgres()
    server.sql("create role somebody")
    server.sql("create database owlclaw owner somebody")
    ran = psql(server)
    assert ran.returncode == 3
    assert "database owlclaw belongs to somebody, not to role owlclaw" in ran.stderr
    assert "ALTER DATABASE owlclaw OWNER TO owlclaw;" in ran.stderr
    assert server.sql("select extname from pg_extension", database="owlclaw") == [("plpgsql",)]

    plain = psql(server, url=server.url(database="postgres", password="wrong"))
    assert plain.returncode == 2


def test_up_takes_what_the_script_made_and_leaves_it(
    debian_postgres: Callable[..., DebianPostgres], mock_cli: Cli
) -> None:
    server = debian_postgres()
    assert psql(server).returncode == 0
    before = server.dump()

    document = mock_cli.json("up", "--admin-url", server.url())
    assert document["mode"] == "mock"
    steps = {step["id"]: step["action"] for step in document["steps"]}
    assert steps["database.hatchet"] == "unchanged"
    assert steps["database.owlclaw"] == "unchanged"
    assert mock_cli.dotenv()["DATABASE_URL"] == server.url("owlclaw", "owlclaw", "owlclaw", "postgresql+asyncpg")
    assert server.dump() == before
    # These passwords are ordinary words, which no screen may lose.
    assert "***" not in mock_cli("doctor", "--verbose").text

    # What it did not make, it does not remove.
    assert mock_cli("down", "--purge", "--yes").code == 0
    assert server.dump() == before
