"""URLs of PostgreSQL as people write them, and the URL of a login; a refused one keeps its password to itself."""

from __future__ import annotations

import pytest

from owlclaw_up.host.base import ServerLogin, sql_name
from owlclaw_up.host.postgres_url import parse_url, url_of
from owlclaw_up.model import Secret


def login(
    host: str = "h", port: int | None = None, user: str = "u", password: str | None = "p", database: str = "d",
    **options: str,
) -> ServerLogin:  # fmt: skip
    secret = None if password is None else Secret(password)
    return ServerLogin(host, port, user, secret, database, tuple(sorted(options.items())))


READ = [
    ("postgresql://u:p@h:5432/d", login(port=5432)),
    ("postgres://u:p@h/d", login()),
    ("POSTGRESQL://u:p@h/d", login()),
    ("postgresql+asyncpg://u:p@h/d", login()),
    ("postgresql+psycopg2://u:p@h/d", login()),
    ("  postgresql://u:p@h/d\n", login()),
    ("postgresql://u:p@h", login(database="postgres")),
    ("postgresql://u:p@h/", login(database="postgres")),
    ("postgresql://u@h/d", login(password=None)),
    ("postgresql://u:@h/d", login(password="")),
    ("postgresql://h/d", login(user="", password=None)),
    ("postgresql:///d", login(host="", user="", password=None)),
    ("postgresql://", login(host="", user="", password=None, database="postgres")),
    ("postgresql://u:p%40ss%2Fw%3Ard@h/d", login(password="p@ss/w:rd")),
    ("postgresql://u:p@ss@h/d", login(password="p@ss")),
    ("postgresql://u:p/ss/@h:1/d", login(password="p/ss/", port=1)),
    ("postgresql://u:p:s:s@h/d", login(password="p:s:s")),
    ("postgresql://u:p?s#s@h/d", login(password="p?s#s")),
    ("postgresql://u:密码@h/数据", login(password="密码", database="数据")),
    ("postgresql://u:%E5%AF%86@h/d", login(password="密")),
    ("postgresql://u:50%@h/d", login(password="50%")),
    ("postgresql://u:100%25@h/d", login(password="100%")),
    ("postgresql://a%40corp:p@h/d", login(user="a@corp")),
    ("postgresql://u:p@[::1]:5433/d", login(host="::1", port=5433)),
    ("postgresql://u:p@127.0.0.1/d", login(host="127.0.0.1")),
    ("postgresql://u:p@/d?host=/var/run/postgresql", login(host="/var/run/postgresql")),
    ("postgresql://u:p@/d?host=%2Ftmp&port=5444", login(host="/tmp", port=5444)),
    ("postgresql://u:p@%2Fvar%2Frun/d", login(host="/var/run")),
    ("postgresql://u:p@%2FUsers%2FAnna/d", login(host="/Users/Anna")),
    ("postgresql://h/?user=u&dbname=d", login(password=None)),
    ("postgresql://u:p@h/d?sslmode=require", login(sslmode="require")),
    ("postgresql://u:p@h/d?ssl=require", login(sslmode="require")),
    ("postgresql://u:p@h/d?ssl=disable&sslmode=verify-full", login(sslmode="verify-full")),
    ("postgresql://u:p@h/d?b=2&a=1&c=", login(a="1", b="2", c="")),
    ("postgresql://?service=mine", login(host="", user="", password=None, database="postgres", service="mine")),
]


@pytest.mark.parametrize(("text", "expected"), READ)
def test_forms(text: str, expected: ServerLogin) -> None:
    assert parse_url(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://h/d?user=u&password=p", login()),
        ("postgresql://u:p@h/d?password=other", login(password="other")),
        ("postgresql://u:p@h/d?user=other", login(user="other")),
    ],
)
def test_what_the_query_says_of_the_login_is_the_login_and_no_option(text: str, expected: ServerLogin) -> None:
    """Options go on to other roles' URLs, and into the dotenv file: no user and no password may stand there."""
    assert parse_url(text) == expected


def test_the_default_database_is_the_caller_s() -> None:
    assert parse_url("postgresql://h", "owlclaw").database == "owlclaw"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("mysql://u:hunter2@h/d", "it does not start with postgresql://"),
        ("u:hunter2@h/d", "it does not start with postgresql://"),
        ("postgresql:u:hunter2@h/d", "it does not start with postgresql://"),
        ("hunter2", "it does not start with postgresql://"),
        ("", "it does not start with postgresql://"),
        ("postgresql://u:hunter2@h:port/d", "its port is no number between 0 and 65535"),
        ("postgresql://u:hunter2@h:65536/d", "its port is no number between 0 and 65535"),
        ("postgresql://u:hunter2@h:-1/d", "its port is no number between 0 and 65535"),
        ("postgresql://u:hunter2@[::1/d", "its port is no number"),
    ],
)
def test_what_is_no_url_is_refused_without_its_password(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        parse_url(text)
    assert "hunter2" not in f"{caught.value}{caught.value!r}"
    assert caught.value.__cause__ is None


WRITTEN = [
    (login(port=5432), "postgresql://u:p@h:5432/d"),
    (login(password=None), "postgresql://u@h/d"),
    (login(user="", password=None), "postgresql://h/d"),
    (login(password="p@s/s:w?o#r%d &=+密"), "postgresql://u:p%40s%2Fs%3Aw%3Fo%23r%25d%20%26%3D%2B%E5%AF%86@h/d"),
    (login(user="a@corp"), "postgresql://a%40corp:p@h/d"),
    (login(host="::1", port=1), "postgresql://u:p@[::1]:1/d"),
    (login(host="/tmp", port=5433, a="1"), "postgresql://u:p@:5433/d?host=%2Ftmp&a=1"),
    (login(sslmode="require"), "postgresql://u:p@h/d?sslmode=require"),
    (login(database="da/ta"), "postgresql://u:p@h/da%2Fta"),
]


@pytest.mark.parametrize(("value", "text"), WRITTEN)
def test_url_of(value: ServerLogin, text: str) -> None:
    assert url_of(value).reveal() == text
    assert str(url_of(value)) == "***"
    assert url_of(value, "postgresql+asyncpg").reveal().startswith("postgresql+asyncpg://")


def test_a_login_shows_no_password() -> None:
    value = login(password="hunter2")
    assert "hunter2" not in f"{value} {value!r} {value.where} {url_of(value)!r}"
    assert value.where == "h"
    assert login(port=5432).where == "h:5432"
    assert login(host="").where == "the default server"


@pytest.mark.parametrize(
    ("name", "written"),
    [("owlclaw", "owlclaw"), ("_a1", "_a1"), ("Admin", '"Admin"'), ("admin@corp", '"admin@corp"'), ('a"b', '"a""b"')],
)
def test_a_name_in_a_statement_that_somebody_types(name: str, written: str) -> None:
    assert sql_name(name) == written
