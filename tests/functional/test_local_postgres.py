"""The user's own PostgreSQL: every way to name it, what is made there, what is never touched, and the way back."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from tests.conftest import Cli, DebianPostgres

NewCli = Callable[..., Cli]
NewServer = Callable[..., DebianPostgres]
ZONE = "Asia/Shanghai"


@pytest.fixture(scope="module")
def server() -> Iterator[DebianPostgres]:
    """One server for the tests that leave nothing behind in it."""
    made = DebianPostgres(Path(tempfile.mkdtemp(prefix="owlclaw-pg-", dir="/var/tmp")))
    yield made
    made.stop()


def step(document: dict[str, Any], id: str) -> dict[str, Any]:
    found: dict[str, Any] = next(s for s in document["steps"] if s["id"] == id)
    return found


def actions(document: dict[str, Any]) -> set[str]:
    return {s["action"] for s in document["steps"]}


def names(server: DebianPostgres, query: str) -> set[str]:
    return {row[0] for row in server.sql(query)}


def databases(server: DebianPostgres) -> set[str]:
    return names(server, "select datname from pg_database where not datistemplate")


def roles(server: DebianPostgres) -> set[str]:
    return names(server, "select rolname from pg_roles where rolname not like 'pg\\_%'")


def switch(server: DebianPostgres, how: str, port: int | None = None) -> None:
    """Start or stop the server without removing its data."""
    data = str(server.folder / "data")
    if how == "stop":
        server.tool("pg_ctl", "-D", data, "-m", "fast", "stop")
        return
    options = f"-p {port or server.port} -k {server.folder} -c timezone={ZONE} -c listen_addresses=127.0.0.1"
    server.tool("pg_ctl", "-D", data, "-w", "-l", str(server.folder / "log"), "-o", options, "start")


def login_of(cli: Cli, key: str = "DATABASE_URL") -> str:
    """The application's URL, for libpq."""
    url = cli.dotenv()[key]
    assert url.startswith("postgresql+asyncpg://")
    return "postgresql://" + url.partition("://")[2]


def refused(cli: Cli, *args: str, **env: str) -> dict[str, Any]:
    """`up` ends as a precondition does: exit code 3, an error with something to do, and nothing made here."""
    document = cli.json("up", "--smoke", "none", *args, code=3, **env)
    error: dict[str, Any] = document["error"]
    assert document["status"] == "failed"
    assert error["message"] and error["hint"]
    assert not (cli.root / ".owlclaw-up/state.json").exists()
    assert not (cli.root / ".env").exists()
    return error


# How a login is named


@dataclass(frozen=True)
class Way:
    """One way to name the admin's login: an argument, or variables of the shell."""

    password: str
    url: str = ""
    variables: tuple[tuple[str, str], ...] = ()


PLAIN, HARD, HAN = "plain-Pass-1", "p@ss/w:rd?#%41 &", "密码口令@一号/二"

# {encoded} and {raw} are the password, {port}, {folder}, {home} what they say.
WAYS = {
    "postgresql": Way(PLAIN, "postgresql://chief:{raw}@localhost:{port}/postgres"),
    "postgres": Way(PLAIN, "postgres://chief:{raw}@127.0.0.1:{port}/postgres"),
    "without a database": Way(PLAIN, "postgres://chief:{raw}@127.0.0.1:{port}"),
    "postgresql+asyncpg": Way(PLAIN, "postgresql+asyncpg://chief:{raw}@localhost:{port}/postgres"),
    "percent-encoded": Way(HARD, "postgresql://chief:{encoded}@localhost:{port}/postgres"),
    "raw @ and /": Way("p@ss/w@rd:1", "postgresql://chief:{raw}@localhost:{port}/postgres"),
    "han percent-encoded": Way(HAN, "postgresql://chief:{encoded}@localhost:{port}/postgres"),
    "han raw": Way(HAN, "postgresql://chief:{raw}@localhost:{port}/postgres"),
    "url of a socket": Way(PLAIN, "postgresql://chief:{raw}@/postgres?host={folder}&port={port}"),
    "encoded socket": Way(PLAIN, "postgresql://chief:{raw}@{slashless}:{port}/postgres"),
    "url of a service": Way(
        PLAIN, "postgresql:///postgres?service=theirs", (("PGSERVICEFILE", "{home}/pg_service.conf"),)
    ),
    "several hosts": Way(PLAIN, "postgresql://chief:{raw}@/postgres?host=127.0.0.2,127.0.0.1&port={port}"),
    "OWLCLAW_ADMIN_URL": Way(
        HARD, variables=(("OWLCLAW_ADMIN_URL", "postgresql://chief:{encoded}@localhost:{port}/postgres"),)
    ),
    "OWLCLAW_UP_ADMIN_URL": Way(
        PLAIN, variables=(("OWLCLAW_UP_ADMIN_URL", "postgres://chief:{raw}@localhost:{port}/postgres"),)
    ),
    "PG variables": Way(
        HARD,
        variables=(("PGHOST", "127.0.0.1"), ("PGPORT", "{port}"), ("PGUSER", "chief"), ("PGPASSWORD", "{raw}")),
    ),
    "PGHOSTADDR": Way(
        PLAIN,
        variables=(("PGHOSTADDR", "127.0.0.1"), ("PGPORT", "{port}"), ("PGUSER", "chief"), ("PGPASSWORD", "{raw}")),
    ),
    "service": Way(PLAIN, variables=(("PGSERVICEFILE", "{home}/pg_service.conf"), ("PGSERVICE", "theirs"))),
    "pgpass": Way(
        HAN,
        variables=(
            ("PGHOST", "localhost"), ("PGPORT", "{port}"), ("PGUSER", "chief"), ("PGPASSFILE", "{home}/passwords"),
        ),
    ),
    "socket": Way(
        PLAIN,
        variables=(("PGHOST", "{folder}"), ("PGPORT", "{port}"), ("PGUSER", "chief"), ("PGPASSWORD", "{raw}")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_every_way_to_name_a_login(mock_cli: Cli, server: DebianPostgres, way: Way) -> None:
    literal = way.password.replace("'", "''")
    server.sql(f"create role chief superuser login password '{literal}'")
    try:
        home = mock_cli.root.parent
        words = {
            "raw": way.password, "encoded": quote(way.password, safe=""), "port": str(server.port),
            "folder": str(server.folder), "slashless": quote(str(server.folder), safe=""), "home": str(home),
        }  # fmt: skip
        (home / "pg_service.conf").write_text(
            f"[theirs]\nhost=127.0.0.1\nport={server.port}\nuser=chief\ndbname=postgres\npassword={way.password}\n"
        )
        passwords = home / "passwords"
        passwords.write_text(f"localhost:{server.port}:*:chief:{way.password}\n")
        passwords.chmod(0o600)
        arguments = ["--admin-url", way.url.format(**words)] if way.url else []
        variables: dict[str, Any] = {k: v.format(**words) for k, v in way.variables}
        document = mock_cli.json("up", "--smoke", "none", *arguments, **variables)

        assert document["status"] == "degraded" and document["error"] is None
        assert step(document, "database.owlclaw")["action"] == "create"
        assert {"hatchet", "owlclaw"} <= databases(server)
        # What the application is given works for it as it stands.
        url = mock_cli.dotenv()["DATABASE_URL"]
        assert "service=" not in url and "passfile" not in url
        with psycopg.connect(login_of(mock_cli)) as connection:
            row = connection.execute("select current_user, current_database(), current_setting('port')").fetchone()
        assert row == ("owlclaw", "owlclaw", str(server.port))
        # What was learnt from the shell is known without it from now on.
        assert mock_cli.json("status")["services"][0]["state"] == "running"
        assert way.password not in "".join(r.text for r in mock_cli.history)
        mock_cli.assert_no_leak()
        assert mock_cli("down", "--purge", "--yes").code == 0
        assert not {"hatchet", "owlclaw"} & (databases(server) | roles(server))
    finally:
        server.sql("drop role chief")


def test_an_address_of_the_shell_does_not_win_over_a_named_host(mock_cli: Cli, server: DebianPostgres) -> None:
    """PGHOSTADDR belongs to the user's other work; neither a named server nor one of ours is looked for there."""
    elsewhere: dict[str, Any] = {
        "PGHOSTADDR": "127.0.0.2",
        "PGOPTIONS": "",
        "PGUSER": "somebody",
        "PGDATABASE": "nothing",
    }
    mock_cli.json("up", "--smoke", "none", "--admin-url", server.url(), **elsewhere)
    assert {"hatchet", "owlclaw"} <= databases(server)
    assert mock_cli.json("status", **elsewhere)["services"][0]["state"] == "running"
    assert mock_cli("down", "--purge", "--yes", **elsewhere).code == 0
    assert not {"hatchet", "owlclaw"} & databases(server)


# What is made there, and what is left alone


def settle(server: DebianPostgres) -> None:
    """What a user has: databases with data, roles with rights, names like ours that are not ours, a changed template1."""
    server.sql("create role shopkeeper login password 'theirs' createdb")
    server.sql("create role owlclaw_other nologin")
    server.sql("grant owlclaw_other to shopkeeper")
    server.sql("create database shop owner shopkeeper")
    server.sql("create database hatchet_archive owner owlclaw_other")
    server.sql("create database owlclaw_other owner owlclaw_other")
    server.sql("alter database shop set timezone = 'Europe/Berlin'")
    server.sql("alter role shopkeeper set statement_timeout = '5s'")
    server.sql("create table item (id int primary key, name text)", "shop")
    server.sql("insert into item select n, '货 ' || n from generate_series(1, 50) n", "shop")
    server.sql('create table "Tenant" (id int); insert into "Tenant" values (7)', "hatchet_archive")
    server.sql("create extension btree_gist", "hatchet_archive")
    # Whatever is in template1 must not come along: Hatchet's own migration fails where it finds the extension.
    server.sql("create extension btree_gist", "template1")


def test_up_makes_its_own_and_purge_leaves_the_server_as_it_was(cli: Cli, debian_postgres: NewServer) -> None:
    server = debian_postgres()
    settle(server)
    before = server.dump()

    first = cli.json("up", "--admin-url", server.url())
    assert first["status"] == "ok" and first["mode"] == "native"
    assert first["smoke"]["status"] == "passed"
    assert first["endpoints"]["postgres"] == f"postgresql://owlclaw@localhost:{server.port}/owlclaw"
    assert not any(s["id"].startswith("postgres.") for s in first["steps"]), "no server of our own"
    owners = dict(
        server.sql("select datname, pg_get_userbyid(datdba) from pg_database where datname in ('hatchet', 'owlclaw')")
    )
    assert owners == {"hatchet": "hatchet", "owlclaw": "owlclaw"}
    # UTC by ALTER ROLE ... IN DATABASE, and by nothing else.
    settings = server.sql(
        "select coalesce(d.datname, ''), coalesce(r.rolname, ''), array_to_string(s.setconfig, ',') from pg_db_role_setting s"
        " left join pg_database d on d.oid = s.setdatabase left join pg_roles r on r.oid = s.setrole"
    )
    assert set(settings) == {
        ("hatchet", "hatchet", "TimeZone=UTC"),
        ("owlclaw", "owlclaw", "TimeZone=UTC"),
        ("shop", "", "TimeZone=Europe/Berlin"),
        ("", "shopkeeper", "statement_timeout=5s"),
    }
    assert server.sql("show timezone") == [(ZONE,)]
    with psycopg.connect(login_of(cli)) as connection:
        assert connection.execute("show timezone").fetchone() == ("UTC",)
    attributes = server.sql(
        "select rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls from pg_roles"
        " where rolname in ('hatchet', 'owlclaw')"
    )
    assert attributes == [(False,) * 5] * 2
    assert all(
        verifier.startswith("SCRAM-SHA-256$")
        for (verifier,) in server.sql("select rolpassword from pg_authid where rolname in ('hatchet', 'owlclaw')")
    )
    # Extensions: the application's by the admin, Hatchet's by Hatchet alone.
    extensions = "select extname, pg_get_userbyid(extowner) from pg_extension where extname <> 'plpgsql'"
    assert server.sql(extensions, "owlclaw") == [("pgcrypto", "postgres")]
    assert server.sql(extensions, "hatchet") == [("btree_gist", "hatchet")]
    (missing,) = (f for f in first["findings"] if f["id"] == "postgres.vector")
    major = server.sql("select current_setting('server_version_num')::int / 10000")[0][0]
    assert missing["level"] == "warn" and "vector" in missing["title"]
    assert f"postgresql-{major}-pgvector" in missing["hint"]

    again = cli.json("up")
    assert actions(again) == {"unchanged"}, [s for s in again["steps"] if s["action"] != "unchanged"]
    assert again["status"] == "ok"
    cli.assert_no_leak()
    assert "theirs" not in cli.secret_texts()

    down = cli.json("down")
    assert {s["id"] for s in down["steps"] if s["action"] == "remove"} == {"engine.server"}
    assert {"hatchet", "owlclaw", "shop", "hatchet_archive", "owlclaw_other"} <= databases(server)
    assert server.sql("select count(*) from item", "shop") == [(50,)]
    assert cli("status").code == 1

    # Nobody names the server again, and the purge knows it.
    assert cli.json("down", "--purge", "--yes")["status"] == "ok"
    assert server.dump() == before
    assert not (cli.root / ".owlclaw-up").exists()
    assert not (cli.root / ".env").exists()


def by_hand(server: DebianPostgres) -> None:
    """What a script for psql makes: roles whose password is their name."""
    for name in ("hatchet", "owlclaw"):
        server.sql(f"create role {name} login password '{name}'")
    server.sql("create database owlclaw owner owlclaw")
    server.sql("alter role owlclaw in database owlclaw set timezone = 'UTC'")
    server.sql("create extension pgcrypto", "owlclaw")
    server.sql(
        "create table note (t text); insert into note values ('kept'); alter table note owner to owlclaw", "owlclaw"
    )


def test_what_was_made_by_hand_is_adopted_and_outlives_a_purge(cli: Cli, debian_postgres: NewServer) -> None:
    server = debian_postgres()
    by_hand(server)
    before = server.dump()

    document = cli.json("up", "--smoke", "none", "--admin-url", server.url())
    assert document["status"] == "ok"
    assert step(document, "database.owlclaw")["action"] == "unchanged"
    assert step(document, "database.hatchet")["action"] == "create"
    assert cli.secrets["passwords"]["owlclaw"] == "owlclaw"
    with psycopg.connect(login_of(cli)) as connection:
        assert connection.execute("select t from note").fetchone() == ("kept",)
    assert server.sql("select pg_get_userbyid(datdba) from pg_database where datname = 'hatchet'") == [("hatchet",)]

    assert cli.json("down", "--purge", "--yes")["status"] == "ok"
    # Our own database has gone; their roles, their database and its data have not.
    assert server.dump() == before


def test_a_login_without_rights_suffices_where_everything_fits(cli: Cli, debian_postgres: NewServer) -> None:
    server = debian_postgres()
    by_hand(server)
    server.sql("create database hatchet owner hatchet")
    server.sql("alter role hatchet in database hatchet set timezone = 'UTC'")
    server.sql("create role visitor login password 'visitor-pass'")
    document = cli.json("up", "--smoke", "none", "--admin-url", server.url("visitor", "visitor-pass"))
    assert document["status"] == "ok"
    assert actions(cli.json("up", "--smoke", "none")) <= {"unchanged", "skip"}
    assert cli("status").code == 0
    assert "visitor-pass" not in "".join(r.text for r in cli.history)
    assert cli("down", "--purge", "--yes").code == 0
    assert {"hatchet", "owlclaw"} <= databases(server)


@pytest.mark.parametrize("role", ["hatchet", "owlclaw"])
@pytest.mark.parametrize("way_out", ["password", "role"])
def test_a_role_whose_password_is_unknown(mock_cli: Cli, server: DebianPostgres, role: str, way_out: str) -> None:
    """Both ways out that the hint names, followed to the letter."""
    server.sql(f"create role {role} login password 'nobody-told-us'")
    try:
        before = server.dump()
        error = refused(mock_cli, "--admin-url", server.url())
        assert error["code"] == "role-password-unknown"
        assert repr(role) in error["message"] and str(server.port) in error["message"]
        assert server.dump() == before

        if way_out == "password":
            said = re.search(r"password into (\S+) as (\{.*\}), or", error["hint"])
            assert said
            path = Path(said[1])
            path.parent.mkdir(exist_ok=True)
            path.write_text(said[2].replace("...", "nobody-told-us"))
        else:
            said = re.search(r"set (databases = \[.*\]) in (owlclaw-up\.toml)", error["hint"])
            assert said
            (mock_cli.root / said[2]).write_text(said[1] + "\n")
        document = mock_cli.json("up", "--smoke", "none", "--admin-url", server.url())
        assert document["error"] is None
        owner = role if way_out == "password" else f"{role}_up"
        owned = f"select pg_get_userbyid(datdba) from pg_database where datname = '{role}'"
        assert server.sql(owned) == [(owner,)]
        with psycopg.connect(login_of(mock_cli)) as connection:
            assert connection.execute("select current_database()").fetchone() == ("owlclaw",)
        assert mock_cli.json("status", code=None)["services"][0]["state"] == "running"
        mock_cli.assert_no_leak()
        assert mock_cli("down", "--purge", "--yes").code == 0
        assert server.dump() == before
    finally:
        server.sql(f"drop role {role}")


def test_a_database_of_somebody_else(mock_cli: Cli, server: DebianPostgres) -> None:
    server.sql("create role somebody login")
    server.sql("create role owlclaw login password 'owlclaw'")
    server.sql("create database owlclaw owner somebody")
    try:
        before = server.dump()
        error = refused(mock_cli, "--admin-url", server.url())
        assert error["code"] == "database-owner"
        assert all(word in error["message"] for word in ("'owlclaw'", "'somebody'", str(server.port)))
        assert server.dump() == before

        said = re.search(r"(ALTER DATABASE .*?) \(", error["hint"])
        assert said
        server.sql(said[1])
        assert mock_cli.json("up", "--smoke", "none", "--admin-url", server.url())["error"] is None
        assert mock_cli("down", "--purge", "--yes").code == 0
        assert {"owlclaw", "somebody"} <= databases(server) | roles(server)
    finally:
        server.sql("drop database owlclaw")
        server.sql("drop role owlclaw")
        server.sql("drop role somebody")


def test_names_and_extensions_of_the_users_choice(mock_cli: Cli, server: DebianPostgres) -> None:
    (mock_cli.root / "owlclaw-up.toml").write_text(
        '[[databases]]\nname = "reports"\nrole = "reporter"\nextensions = ["pgcrypto"]\n'
        '[[databases]]\nname = "owlclaw"\nrole = "owl_app"\n'
    )
    before = server.dump()
    document = mock_cli.json("up", "--smoke", "none", "--admin-url", server.url())
    assert step(document, "database.reports")["action"] == "create"
    owners = server.sql(
        "select datname, pg_get_userbyid(datdba) from pg_database where datname in ('reports', 'owlclaw')"
    )
    assert dict(owners) == {"reports": "reporter", "owlclaw": "owl_app"}
    assert ("pgcrypto",) in server.sql("select extname from pg_extension", "reports")
    with psycopg.connect(login_of(mock_cli)) as connection:
        assert connection.execute("select current_user").fetchone() == ("owl_app",)
    mock_cli.assert_no_leak()
    assert mock_cli("down", "--purge", "--yes").code == 0
    assert server.dump() == before


# The server is away, or another one is in its place


def test_a_server_that_is_away_at_purge(mock_cli: Cli, debian_postgres: NewServer) -> None:
    server = debian_postgres()
    mock_cli.json("up", "--smoke", "none", "--admin-url", server.url())
    kept = (mock_cli.root / ".owlclaw-up/secrets.json").read_bytes()
    env = (mock_cli.root / ".env").read_bytes()
    switch(server, "stop")

    up = mock_cli.json("up", "--smoke", "none", code=3)
    assert up["error"]["code"] == "postgres-unreachable"
    assert str(server.port) in up["error"]["message"] and "--admin-url" in up["error"]["hint"]
    status = mock_cli.json("status", code=1)
    assert status["services"][0]["id"] == "postgres" and status["services"][0]["state"] != "running"

    error = mock_cli.json("down", "--purge", "--yes", code=3)["error"]
    assert error["code"] == "postgres-other-server"
    assert str(server.port) in error["message"] and "nothing was dropped" in error["message"]
    assert "down --purge" in error["hint"]
    assert (mock_cli.root / ".owlclaw-up/secrets.json").read_bytes() == kept
    assert (mock_cli.root / ".env").read_bytes() == env
    assert {r["kind"] for r in mock_cli.state["receipts"]} >= {"role", "database"}
    mock_cli.assert_no_leak()

    switch(server, "start")
    assert {"hatchet", "owlclaw"} <= databases(server)
    assert mock_cli.json("down", "--purge", "--yes")["status"] == "ok"
    assert not {"hatchet", "owlclaw"} & (databases(server) | roles(server))
    assert not (mock_cli.root / ".env").exists()


def test_another_server_on_the_same_port_loses_nothing(mock_cli: Cli, debian_postgres: NewServer) -> None:
    first, second = debian_postgres(), debian_postgres()
    mock_cli.json("up", "--smoke", "none", "--admin-url", first.url())
    by_hand(second)
    before = second.dump()
    switch(first, "stop")
    switch(second, "stop")
    switch(second, "start", port=first.port)
    second.port = first.port

    error = mock_cli.json("down", "--purge", "--yes", code=3)["error"]
    assert error["code"] == "postgres-other-server"
    assert second.dump() == before


def test_what_went_by_another_way_is_no_obstacle(mock_cli: Cli, server: DebianPostgres) -> None:
    """Somebody dropped our databases by hand: `up` makes them again, and a purge does not stumble."""
    mock_cli.json("up", "--smoke", "none", "--admin-url", server.url())
    server.sql("drop database owlclaw")
    server.sql("drop role owlclaw")
    assert mock_cli.json("status", code=1)["services"][0]["state"] == "incomplete"
    mended = mock_cli.json("up", "--smoke", "none")
    assert step(mended, "database.owlclaw")["action"] == "create"
    assert step(mended, "database.hatchet")["action"] == "unchanged"
    server.sql("drop database hatchet")
    assert mock_cli("down", "--purge", "--yes").code == 0
    assert not {"hatchet", "owlclaw"} & (databases(server) | roles(server))


def test_the_state_holds_the_admins_login_for_its_owner_alone(mock_cli: Cli, server: DebianPostgres) -> None:
    mock_cli.json("up", "--smoke", "none", "--admin-url", server.url())
    folder = mock_cli.root / ".owlclaw-up"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "secrets.json").stat().st_mode & 0o777 == 0o600
    # The state, the logs and whatever was rendered: none of them holds the admin's password.
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "secrets.json":
            assert server.url() not in path.read_text(errors="replace")
