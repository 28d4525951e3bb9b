"""`db status`: one screen and one document of where the databases stand, each fault by its name, and nothing changed."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Cli, DebianPostgres

SECRET = "a-Secret-1"
# What Debian's server has without further packages.
DATABASES = 'databases = [{ name = "owlclaw", extensions = ["pgcrypto"] }]\n'


@pytest.fixture(scope="module")
def server() -> Iterator[DebianPostgres]:
    """One server for the tests that leave nothing behind in it."""
    made = DebianPostgres(Path(tempfile.mkdtemp(prefix="owlclaw-pg-", dir="/var/tmp")), password=SECRET)
    yield made
    made.stop()


def failures(document: dict[str, Any]) -> set[tuple[str, str]]:
    """By the id of the doctor's check, each with the database, role or extension that its title names first."""
    words = [(f, re.findall(r"hatchet|owlclaw|pgcrypto", f["title"])) for f in document["findings"]]
    return {(f["id"], named[0]) for f, named in words if f["level"] == "fail"}


def row(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(d for d in document["database"]["databases"] if d["name"] == name)
    return found


def test_each_fault_by_its_name(mock_cli: Cli, server: DebianPostgres) -> None:
    (mock_cli.root / "owlclaw-up.toml").write_text(DATABASES)
    untouched = server.dump()
    # Before anything is made: looked at, and left alone.
    fresh = mock_cli.json("db", "status", "--admin-url", server.url(), code=1)
    assert failures(fresh) == {("postgres.database", "hatchet"), ("postgres.database", "owlclaw")}
    assert all(f["command"] == "owlclaw-up db init" for f in fresh["findings"])
    assert not (mock_cli.root / ".owlclaw-up").exists()

    assert mock_cli("db", "init", "--admin-url", server.url()).code == 0
    document = mock_cli.json("db", "status")
    assert document["status"] == "ok" and document["findings"] == []
    about = document["database"]["server"]
    assert about["connections"]["max"] == 100 and 0 < about["connections"]["used"] < 100
    assert about["kind"] == "local" and about["tls"] is False and about["timezone"] == "Asia/Shanghai"
    owlclaw = row(document, "owlclaw")
    assert owlclaw["owner"] == owlclaw["wanted_owner"] == "owlclaw"
    assert owlclaw["size"] > 1_000_000 and owlclaw["timezone"] == "UTC" and owlclaw["encoding"] == "UTF8"
    assert owlclaw["extensions"] == {"pgcrypto": "there"}
    assert document["database"]["migrations"]["hatchet"]["version"] is None
    assert document["database"]["roles"] == [
        {"name": name, "exists": True, "login_works": True} for name in ("hatchet", "owlclaw")
    ]

    # Somebody changes things by hand.
    server.sql("alter role hatchet in database hatchet reset timezone")
    server.sql("drop extension pgcrypto", "owlclaw")
    server.sql("alter role owlclaw password 'changed'")
    server.sql("create role heir")
    server.sql("alter database hatchet owner to heir")
    before = server.dump()
    document = mock_cli.json("db", "status", code=1)
    assert failures(document) == {
        ("postgres.owner", "hatchet"), ("postgres.timezone", "hatchet"), ("postgres.role", "owlclaw"),
        ("postgres.extension", "pgcrypto"),
    }  # fmt: skip
    assert row(document, "hatchet")["timezone"] == "Asia/Shanghai"
    assert row(document, "owlclaw")["extensions"] == {"pgcrypto": "available"}
    assert document["database"]["migrations"]["alembic"] is None, "nobody lets us in to look"
    screen = mock_cli("db", "status")
    lines = screen.stdout.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80, screen.stdout
    for words in (
        f"localhost:{server.port}",
        "UTF8",
        "UTC",
        "MB",
        "belongs to heir",
        "password that is not known here",
    ):
        assert words in screen.stdout
    assert server.dump() == before
    server.sql("alter database hatchet owner to hatchet")
    server.sql("drop role heir")
    server.sql(f"alter role owlclaw password '{mock_cli.secrets['passwords']['owlclaw']}'")
    # What is behind is what `db init` mends.
    assert mock_cli("db", "init").code == 0
    assert mock_cli.json("db", "status")["findings"] == []
    mock_cli.assert_no_leak()
    assert mock_cli("down", "--purge", "--yes").code == 0
    assert server.dump() == untouched


def test_an_extension_that_the_server_does_not_have(mock_cli: Cli, server: DebianPostgres) -> None:
    (mock_cli.root / "owlclaw-up.toml").write_text(
        'databases = [{ name = "owlclaw", extensions = ["nosuch"] }, { name = "owlclaw_test" }]\n'
    )
    assert mock_cli("db", "init", "--admin-url", server.url()).code == 0
    document = mock_cli.json("db", "status", code=1)
    (finding,) = document["findings"]
    assert finding["id"] == "postgres.extension" and "owlclaw and owlclaw_test" in finding["title"]
    assert row(document, "owlclaw_test")["extensions"] == {"nosuch": "missing"}


def test_no_server_to_look_at(mock_cli: Cli) -> None:
    assert mock_cli.json("db", "status", code=3)["error"]["code"] == "postgres-missing"
    error = mock_cli.json("db", "status", "--admin-url", "postgresql://postgres:x@127.0.0.1:1/postgres", code=3)[
        "error"
    ]
    assert error["code"] == "postgres-refused"


def test_beside_an_engine(cli: Cli) -> None:
    assert cli("up", "--smoke", "none").code == 0
    document = cli.json("db", "status")
    assert document["mode"] == "native" and document["database"]["server"]["kind"] == "embedded"
    hatchet = document["database"]["migrations"]["hatchet"]
    assert hatchet["version"] == hatchet["expected"] > 20250000000000
    assert row(document, "hatchet")["extensions"] == {"btree_gist": "there"}
    assert document["database"]["migrations"]["alembic"]["source"] == "baseline"

    # Somebody puts an older dump of Hatchet's database in its place.
    login = f"postgresql://postgres:{cli.secrets['passwords']['postgres']}@127.0.0.1:{cli.state['ports']['postgres']}"
    with psycopg.connect(f"{login}/hatchet", autocommit=True) as connection:
        connection.execute("delete from goose_db_version where version_id = %s", [hatchet["version"]])
    document = cli.json("db", "status", code=1)
    (finding,) = document["findings"]
    assert finding["id"] == "hatchet.migrations" and str(hatchet["expected"]) in finding["detail"]
    cli.assert_no_leak()
    assert cli("down").code == 0
    assert cli.json("db", "status", code=3)["error"]["code"] == "postgres-unreachable"
