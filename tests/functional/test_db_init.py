"""`db init` and `db reset-test`: databases alone, on every kind of server, with every kind of login, and the way back."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from tests.conftest import Cli, DebianPostgres
from tests.functional.servers import SECRET, debian_server, role, tls_postgres, wheel_postgres
from tests.functional.test_init_db import psql

CATALOG = {
    "roles": """
        select rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
               rolconnlimit, rolvaliduntil, rolconfig
        from pg_roles where rolname !~ '^pg_'""",
    "members": """
        select roleid::regrole::text, member::regrole::text, admin_option from pg_auth_members
        where roleid::regrole::text !~ '^pg_'""",
    "passwords": "select rolname, substr(rolpassword, 1, 13) from pg_authid where rolpassword is not null",
    "databases": """
        select datname, datdba::regrole::text, pg_encoding_to_char(encoding), datcollate, datctype, datistemplate,
               datallowconn, datconnlimit, datacl::text
        from pg_database""",
    "settings": """
        select coalesce(d.datname, ''), coalesce(r.rolname, ''), s.setconfig
        from pg_db_role_setting s
        left join pg_database d on d.oid = s.setdatabase left join pg_roles r on r.oid = s.setrole""",
}
CATALOG_INSIDE = {
    "extensions": "select extname, extowner::regrole::text, extnamespace::regnamespace::text from pg_extension",
    "schemas": "select nspname, nspowner::regrole::text, nspacl::text from pg_namespace where nspname !~ '^pg_'",
    "defaults": "select defaclrole::regrole::text, defaclobjtype, defaclacl::text from pg_default_acl",
}


@pytest.fixture(scope="module")
def server() -> Iterator[DebianPostgres]:
    """One server for the tests that leave nothing behind in it."""
    with debian_server() as made:
        yield made


def catalog(server: DebianPostgres) -> dict[str, list[str]]:
    """What a server has, as far as it can differ between two ways to make the same databases."""
    seen = {about: sorted(map(repr, server.sql(query))) for about, query in CATALOG.items()}
    for database in ("hatchet", "owlclaw"):
        for about, query in CATALOG_INSIDE.items():
            seen[f"{about} of {database}"] = sorted(map(repr, server.sql(query, database)))
    return seen


def actions(document: dict[str, Any]) -> dict[str, str]:
    return {s["id"]: s["action"] for s in document["steps"]}


def nothing_here(cli: Cli) -> bool:
    return sorted(p.name for p in cli.root.iterdir()) == [".git", ".gitignore"]


def password_of(cli: Cli, role: str) -> str:
    return str(cli.secrets["passwords"][role])


# Databases alone, in a project where `up` never ran


def test_from_a_dry_run_to_an_environment_and_back(mock_cli: Cli, server: DebianPostgres) -> None:
    before = server.dump()
    shell: dict[str, Any] = {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "PGUSER": "postgres",
        "PGPASSWORD": SECRET,
    }
    dry = mock_cli.json("db", "init", "--dry-run", **shell)
    assert actions(dry) == {"project": "create", "database.hatchet": "create", "database.owlclaw": "create"}
    assert dry["dry_run"] and nothing_here(mock_cli) and server.dump() == before

    # Found as libpq would find it, with nobody naming it.
    made = mock_cli.json("db", "init", **shell)
    assert made["database"]["server"]["where"] == f"127.0.0.1:{server.port}"
    assert made["database"]["server"]["source"] == "PG* variables"
    assert {d["name"]: d["owner"] for d in made["database"]["databases"]} == {
        "hatchet": "hatchet", "owlclaw": "owlclaw",
    }  # fmt: skip
    assert {f["id"] for f in made["findings"]} == {"postgres.vector"}
    secrets = mock_cli.root / ".owlclaw-up/secrets.json"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    with psycopg.connect(server.url("owlclaw", password_of(mock_cli, "owlclaw"), "owlclaw")) as connection:
        assert connection.execute("show timezone").fetchone() == ("UTC",)
    assert not (mock_cli.root / ".env").exists(), "only `up` writes it"
    assert "`db init` was here" in mock_cli("status").text

    # Again, without the shell's variables: it is known by now.
    again = mock_cli("db", "init")
    assert again.code == 0 and "nothing to change" in again.stdout
    assert ".owlclaw-up/secrets.json" in again.stdout and "owlclaw-up db status" in again.stdout

    up = mock_cli.json("up", "--smoke", "none")
    assert {actions(up)[f"database.{name}"] for name in ("hatchet", "owlclaw")} == {"unchanged"}
    assert f"owlclaw:{password_of(mock_cli, 'owlclaw')}@127.0.0.1:{server.port}/owlclaw" in mock_cli.dotenv()[
        "DATABASE_URL"
    ].replace("localhost", "127.0.0.1")
    mock_cli.assert_no_leak()
    assert mock_cli("down", "--purge", "--yes").code == 0
    assert server.dump() == before


@pytest.mark.parametrize("superuser", [True, False])
def test_it_and_the_script_for_psql_make_the_same(mock_cli: Cli, server: DebianPostgres, superuser: bool) -> None:
    before = server.dump()
    with role(server, "maker", "login superuser" if superuser else "login createdb createrole") as url:
        assert mock_cli("db", "init", "--admin-url", url).code == 0
        of_ours = catalog(server)
        assert mock_cli("down", "--purge", "--yes").code == 0
        try:
            ran = psql(server, url=url)
            assert ran.returncode == 0, ran.stderr
            of_script = catalog(server)
            assert of_ours == of_script
            if not superuser:
                return
            # What the one has made the other takes as it is, and leaves.
            document = mock_cli.json("db", "init", "--admin-url", url)
            assert actions(document) == {
                "project": "create", "database.hatchet": "unchanged", "database.owlclaw": "unchanged",
            }  # fmt: skip
            assert mock_cli("down", "--purge", "--yes").code == 0
            assert catalog(server) == of_script
        finally:
            for name in ("hatchet", "owlclaw"):
                server.sql(f"drop database if exists {name}")
                server.sql(f"drop role if exists {name}")
    assert server.dump() == before


def test_more_databases_and_two_of_one_role(mock_cli: Cli, server: DebianPostgres) -> None:
    before = server.dump()
    assert mock_cli("db", "init", "--admin-url", server.url()).code == 0
    (mock_cli.root / "owlclaw-up.toml").write_text('databases = [{ name = "owlclaw_test" }, { name = "langfuse" }]\n')
    document = mock_cli.json("db", "init")
    assert [s["id"] for s in document["steps"] if s["action"] == "create"] == [
        "database.owlclaw_test", "database.langfuse",
    ]  # fmt: skip
    owners = dict(server.sql("select datname, datdba::regrole::text from pg_database where not datistemplate"))
    assert owners["owlclaw_test"] == "owlclaw" and owners["langfuse"] == "langfuse"
    assert ("pgcrypto",) in server.sql("select extname from pg_extension", "owlclaw_test")
    # The password of a role that came later is kept as well.
    with psycopg.connect(server.url("langfuse", password_of(mock_cli, "langfuse"), "langfuse")) as connection:
        connection.execute("create table trace (id int)")
    with psycopg.connect(server.url("owlclaw", password_of(mock_cli, "owlclaw"), "owlclaw_test")) as connection:
        assert connection.execute("show timezone").fetchone() == ("UTC",)

    up = mock_cli.json("up", "--smoke", "none")
    assert {a for step, a in actions(up).items() if step.startswith("database.")} == {"unchanged"}
    assert mock_cli("down", "--purge", "--yes").code == 0
    assert server.dump() == before


def test_on_the_server_of_an_environment_and_on_no_other(mock_cli: Cli, server: DebianPostgres) -> None:
    assert mock_cli("up", "--smoke", "none").code == 0
    document = mock_cli.json("db", "init", OWLCLAW_UP_DATABASES="owlclaw_test")
    assert document["database"]["server"]["kind"] == "embedded"
    assert actions(document)["database.owlclaw_test"] == "create"
    assert document["findings"] == []

    before = server.dump()
    error = mock_cli.json("db", "init", "--admin-url", server.url(), code=3)["error"]
    assert error["code"] == "postgres-other-server"
    assert "--admin-url" in error["message"] and f"localhost:{server.port}" in error["message"]
    assert server.dump() == before
    looked = mock_cli.json("db", "status", "--admin-url", server.url(), code=1)
    assert looked["database"]["server"]["kind"] == "local"

    assert mock_cli("down").code == 0
    error = mock_cli.json("db", "init", code=3)["error"]
    assert error["code"] == "postgres-unreachable" and "not running" in error["message"]
    assert error["hint"] == "owlclaw-up"


def test_no_server_at_all(mock_cli: Cli) -> None:
    error = mock_cli.json("db", "init", code=3)["error"]
    assert error["code"] == "postgres-missing"
    assert "--admin-url" in error["hint"] and "owlclaw-up --mode mock" in error["hint"]
    assert nothing_here(mock_cli)


# Managed servers: TLS, and a login that is no superuser


def test_a_managed_server(mock_cli: Cli) -> None:
    with tls_postgres(SECRET) as (server, certificate):
        for attributes, missing in (("createrole", "CREATEDB"), ("createdb", "CREATEROLE")):
            with role(server, "junior", f"login {attributes}") as url:
                error = mock_cli.json("db", "init", "--admin-url", f"{url}?sslmode=require", code=3)["error"]
                assert error["code"] == "postgres-privileges"
                assert error["hint"] == f"as a superuser there: ALTER ROLE junior {missing}"
        assert nothing_here(mock_cli)

        with role(server, "steward", "login createdb createrole") as url:
            for options, code in (
                ("sslmode=disable", "postgres-tls"),
                (f"sslmode=verify-full&sslrootcert={quote('/nonexistent/root.crt')}", "postgres-tls"),
            ):
                error = mock_cli.json("db", "init", "--admin-url", f"{url}?{options}", code=3)["error"]
                assert error["code"] == code, error
            assert "sslrootcert" in error["hint"]
            checked = f"{url}?sslmode=verify-full&sslrootcert={quote(str(certificate), safe='')}"
            assert mock_cli("db", "init", "--admin-url", checked).code == 0
            usage = mock_cli.json("db", "status", code=None)["database"]["server"]
            assert usage["tls"] is True and usage["login"] == "steward"
            # The roles' own logins are checked over TLS too, and the application is told to use it.
            assert mock_cli("up", "--smoke", "none").code == 0
            assert mock_cli.dotenv()["DATABASE_URL"].endswith("/owlclaw?ssl=verify-full")
            assert mock_cli("db", "reset-test", "--yes").code == 0
            mock_cli.assert_no_leak()
            assert mock_cli("down", "--purge", "--yes").code == 0
        assert server.sql("select datname from pg_database where not datistemplate") == [("postgres",)]

        # Nothing but the test database would be made; but what is dropped must come back.
        assert psql(server).returncode == 0
        with role(server, "visitor", "login") as url:
            checked = f"{url}?sslmode=require"
            error = mock_cli.json("db", "reset-test", "--yes", "--admin-url", checked, code=3)["error"]
            assert error["code"] == "postgres-privileges" and error["hint"].endswith("ALTER ROLE visitor CREATEDB")


def test_a_role_of_somebody_else_s_on_a_newer_server(mock_cli: Cli) -> None:
    """Since 16, CREATEROLE alone is no power over a role that another one made."""
    (mock_cli.root / "owlclaw-up.toml").write_text('databases = [{ name = "owlclaw", extensions = ["vector"] }]\n')
    with wheel_postgres(SECRET) as server, role(server, "steward", "login createdb createrole") as url:
        server.sql("create role owlclaw login password 'owlclaw'")
        before = server.dump()
        error = mock_cli.json("db", "init", "--admin-url", url, code=4)["error"]
        assert error["code"] == "postgres-privilege"
        assert "make steward a member of owlclaw" in error["message"]
        mend = re.search(r"as a superuser there: (GRANT .*)", error["hint"])
        assert mend
        # What had been made until then goes.
        assert mock_cli("down", "--purge", "--yes").code == 0
        assert server.dump() == before

        server.sql(f"{mend[1]} with admin option, inherit false, set false")
        before = server.dump()
        document = mock_cli.json("db", "init", "--admin-url", url)
        (finding,) = document["findings"]
        assert finding["id"] == "postgres.vector"
        assert "Must be superuser" in finding["detail"]
        mend = re.search(r'as a superuser there: psql -d (\w+) -c "(.*)"', finding["hint"])
        assert mend
        assert mock_cli.json("db", "status", code=1)["findings"][0]["id"] == "postgres.vector"
        server.sql(mend[2], mend[1])
        document = mock_cli.json("db", "init")
        assert document["findings"] == [] and set(actions(document).values()) == {"unchanged"}
        # The role that was there outlives the purge, and the membership that it took does not.
        assert mock_cli("down", "--purge", "--yes").code == 0
        assert server.dump() == before
        server.sql("drop role owlclaw")


# The test database


def test_the_test_database_anew_whoever_is_on_it(mock_cli: Cli, server: DebianPostgres) -> None:
    before = server.dump()
    # Where nothing is lost, nothing is asked.
    first = mock_cli.json("db", "reset-test", "--admin-url", server.url(), CI="")
    assert actions(first) == {"project": "create", "database.owlclaw_test": "create"}
    url = server.url("owlclaw", password_of(mock_cli, "owlclaw"), "owlclaw_test")
    with psycopg.connect(url) as connection:
        connection.execute("create table leftover (id int)")
        connection.commit()
        # Nobody to ask, and nobody said yes.
        refused = mock_cli("db", "reset-test", CI="")
        assert refused.code == 2 and "add --yes" in refused.stderr
        assert connection.execute("select count(*) from leftover").fetchone() == (0,)

        again = mock_cli.json("db", "reset-test", "--yes", CI="")
        assert actions(again) == {"project": "unchanged", "database.owlclaw_test": "update"}
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    with psycopg.connect(url) as connection:
        row = connection.execute("select to_regclass('leftover'), current_setting('timezone')").fetchone()
        assert row == (None, "UTC")
    assert ("pgcrypto",) in server.sql("select extname from pg_extension", "owlclaw_test")
    assert "owlclaw_test" in {d["name"] for d in mock_cli.json("db", "status", code=1)["database"]["databases"]}
    assert mock_cli("down", "--purge", "--yes").code == 0
    assert server.dump() == before


def test_what_is_no_test_database_is_not_dropped(mock_cli: Cli, server: DebianPostgres) -> None:
    (mock_cli.root / "owlclaw-up.toml").write_text(
        'databases = [{ name = "shop" }, { name = "shop_test" }, { name = "scratch" }]\n'
    )
    server.sql("create role shopkeeper login")
    server.sql("create database shop_test owner shopkeeper")
    server.sql("create role shop login password 'shop'")
    server.sql("create database shop owner shop")
    before = server.dump()
    try:
        reasons = {
            "owlclaw": "the application's own",
            "hatchet": "Hatchet's own",
            "postgres": "did not make it, and the setting `databases` does not name it",
            "shop": "does not end in _test",
        }
        for name, reason in reasons.items():
            error = mock_cli.json("db", "reset-test", name, "--yes", "--admin-url", server.url(), code=3)["error"]
            assert error["code"] == "not-a-test-database" and reason in error["message"], error
            assert "owlclaw-up db reset-test owlclaw_test" in error["hint"]
        error = mock_cli.json("db", "reset-test", "shop_test", "--yes", "--admin-url", server.url(), code=3)["error"]
        assert error["code"] == "database-owner" and "'shopkeeper'" in error["message"]
        assert server.dump() == before

        # What owlclaw-up made may be made anew by any name.
        server.sql("drop database shop_test")
        assert mock_cli("db", "init", "--admin-url", server.url()).code == 0
        assert actions(mock_cli.json("db", "reset-test", "scratch"))["database.scratch"] == "update"
        assert mock_cli("down", "--purge", "--yes").code == 0
        assert server.sql("select datname from pg_database where datname like 'shop%'") == [("shop",)]
    finally:
        server.sql("drop database if exists shop_test")
        server.sql("drop database shop")
        server.sql("drop role shop")
        server.sql("drop role shopkeeper")


def test_a_superuser_s_session_that_may_not_be_ended(mock_cli: Cli, server: DebianPostgres) -> None:
    with role(server, "steward", "login createdb createrole") as url:
        assert mock_cli("db", "reset-test", "--admin-url", url).code == 0
        with psycopg.connect(server.url(database="owlclaw_test")) as connection:
            error = mock_cli.json("db", "reset-test", code=4)["error"]
            assert error["code"] == "postgres-privilege"
            assert error["hint"] == "as a superuser there: DROP DATABASE owlclaw_test WITH (FORCE)"
            assert connection.execute("select 1").fetchone() == (1,)
        # The same server takes another password by now, and is the same all the same.
        server.sql("alter role steward password 'changed'")
        error = mock_cli.json("db", "reset-test", code=3)["error"]
        assert error["code"] == "postgres-login" and "--admin-url" in error["hint"]
        assert mock_cli("db", "reset-test", "--admin-url", server.url("steward", "changed")).code == 0
        assert mock_cli("down", "--purge", "--yes").code == 0
