"""URLs of PostgreSQL, whatever is in them: there and back, as libpq reads them, and never a password in an error."""

from __future__ import annotations

import string
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from owlclaw_up.host.base import ServerLogin
from owlclaw_up.host.postgres_url import asyncpg_url, parse_url, url_of
from owlclaw_up.model import Secret

PRINTABLE = "".join(c for c in string.printable if c.isprintable())
# What of a raw password a URL cannot tell from itself: blanks at the ends go, and `%41` is an A.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=16)
PASSWORDS = st.one_of(st.text(PRINTABLE, max_size=16), TEXTS)
NAMES = st.text(string.ascii_letters + string.digits + "-._", min_size=1, max_size=12)
HOSTS = st.one_of(
    st.just(""),
    NAMES,
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.ip_addresses(v=6).map(lambda address: f"{address}%eth0"),
    TEXTS.map(lambda text: f"/{text}"),
    st.lists(NAMES, min_size=2, max_size=3).map(",".join),
)
OPTIONS = st.dictionaries(
    st.sampled_from(
        ["application_name", "options", "sslmode", "sslrootcert", "target_session_attrs", "connect_timeout", "hostaddr"]
    ),
    TEXTS,
    max_size=3,
).map(lambda given: tuple(sorted(given.items())))
LOGINS = st.builds(
    ServerLogin,
    host=HOSTS,
    port=st.one_of(st.none(), st.integers(1, 65535)),
    user=st.one_of(st.just(""), TEXTS),
    password=st.one_of(st.none(), PASSWORDS.map(Secret)),
    database=TEXTS,
    options=OPTIONS,
)


@settings(max_examples=250)
@given(LOGINS)
def test_there_and_back(login: ServerLogin) -> None:
    text = url_of(login).reveal()
    assert text.isascii() and text.isprintable() and " " not in text
    assert parse_url(text) == login


@settings(max_examples=250)
@given(LOGINS)
def test_libpq_reads_the_same(login: ServerLogin) -> None:
    expected = {
        "host": login.host,
        "port": str(login.port or ""),
        "user": login.user,
        "password": login.password.reveal() if login.password else "",
        "dbname": login.database,
        **dict(login.options),
    }
    read = conninfo_to_dict(url_of(login).reveal())
    assert {k: str(v) for k, v in read.items() if v} == {k: v for k, v in expected.items() if v}


@settings(max_examples=100)
@given(LOGINS)
def test_asyncpg_is_told_of_tls_and_of_nothing_else(login: ServerLogin) -> None:
    text = asyncpg_url(login).reveal()
    again = parse_url(text)
    assert (again.host, again.port, again.user, again.password, again.database) == (
        login.host, login.port, login.user, login.password, login.database,
    )  # fmt: skip
    assert dict(again.options) == {k: v for k, v in login.options if k == "sslmode"}


@pytest.mark.parametrize("form", ["{}", "a{}b", "{}{}", "{}1", "/{}@"])
def test_every_printable_character_in_a_password(form: str) -> None:
    for character in PRINTABLE:
        password = form.format(character, character)
        everything = "".join(f"%{byte:02X}" for byte in password.encode())
        for written in (quote(password, safe=""), everything, password):
            check_password(password, written)


def check_password(password: str, written: str) -> None:
    login = parse_url(f"postgresql://u:{written}@db.example.com:5433/app?sslmode=require")
    assert login == ServerLogin("db.example.com", 5433, "u", Secret(password), "app", (("sslmode", "require"),)), (
        written
    )


@settings(max_examples=250)
@given(PASSWORDS, st.sampled_from(["h", "h:5433", "[::1]:5433"]), st.sampled_from(["", "/d", "/d?sslmode=require"]))
@example("p?sslmode@", "h", "/d")
def test_a_raw_password_is_taken_as_it_stands(password: str, host: str, rest: str) -> None:
    assume(not any(c in string.hexdigits for pair in password.split("%")[1:] for c in pair[:1]))
    assume(not any(f"?{word}" in password for word in ("user", "password")))
    assume("?sslmode" not in password or "=" not in password)
    assume("?sslmode@" not in password)
    login = parse_url(f"postgresql://u:{password}@{host}{rest}")
    assert login.password == Secret(password)
    assert login.where in ("h", "h:5433", "::1:5433")


PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [*"@:/?#[]%&=,. ", "://", "%00", "%FF", "%zz", "::1", ":99999", ":²", "?user=a@b", "\udcff", "\0"]
        ),
        st.text(max_size=4),
    ),
    max_size=12,
).map("".join)


@settings(max_examples=200)
@given(PIECES, PIECES, st.sampled_from(["postgresql://", "postgres://", "mysql://", "", "postgresql+x://"]))
@example(":", "@h:port/d", "postgresql://")
@example("h/d?user=admin@server&password=", "&nonsense=1", "postgresql://")
def test_no_error_shows_the_password(before: str, after: str, scheme: str) -> None:
    secret = "hunter2Hunter2"
    try:
        parse_url(f"{scheme}{before}u:{secret}{after}")
    except ValueError as error:
        assert secret not in f"{error} {error!r}"
        assert error.__cause__ is None and error.__suppress_context__ == (error.__context__ is not None)


@settings(max_examples=100)
@given(st.sampled_from(["user=admin@server&", "user=u&", "application_name=a@b&", ""]), PASSWORDS)
def test_a_password_of_the_query_is_never_taken_for_a_place(query: str, password: str) -> None:
    login = parse_url(f"postgresql://h/d?{query}password={quote(password, safe='')}")
    assert (login.host, login.database, login.password) == ("h", "d", Secret(password))


# What these found, in plain words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # An `@` in the query is no end of a password; a user of some clouds has one.
        (
            "postgresql://u:p@h/d?application_name=a@b",
            ServerLogin("h", None, "u", Secret("p"), "d", (("application_name", "a@b"),)),
        ),
        ("postgresql://h/d?user=u@cloud&password=p", ServerLogin("h", None, "u@cloud", Secret("p"), "d")),
        # `+` is a plus, as for libpq, and `#` begins nothing.
        (
            "postgresql://u:p@h/d?options=-ctimezone%3DEtc/GMT+5",
            ServerLogin("h", None, "u", Secret("p"), "d", (("options", "-ctimezone=Etc/GMT+5"),)),
        ),
        ("postgresql://u:p@h/d#1", ServerLogin("h", None, "u", Secret("p"), "d#1")),
        # What the query says of the place wins too, and does not go on to other roles' URLs.
        ("postgresql://u:p@h/d?host=other&dbname=e", ServerLogin("other", None, "u", Secret("p"), "e")),
        # .pgpass compares hosts letter by letter.
        ("postgresql://u:p@DB.Example.com/d", ServerLogin("DB.Example.com", None, "u", Secret("p"), "d")),
        ("postgresql://u:p@/d?host=a,b&port=1,2", ServerLogin("a,b", None, "u", Secret("p"), "d", (("port", "1,2"),))),
        ("postgresql://:p@h/d", ServerLogin("h", None, "", Secret("p"), "d")),
    ],
)
def test_plain_examples_of_reading(text: str, expected: ServerLogin) -> None:
    assert parse_url(text) == expected
    assert parse_url(url_of(expected).reveal()) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("postgresql://u:hunter2%FF@h/d", "no UTF-8"),
        ("postgresql://u:hunter2\udcff@h/d", "no UTF-8"),
        ("postgresql://u:hunter2%00@h/d", "NUL"),
        ("postgresql://u:hunter2@h/d?port=99999", "its port"),
        ("postgresql://u:hunter2@h/d?port=²", "its port"),
        ("postgresql://u:hunter2@h:1,i:2/d", "its port"),
    ],
)
def test_plain_examples_of_refusing(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        parse_url(text)
    assert "hunter2" not in f"{caught.value!r}"


def test_a_login_without_a_user_keeps_its_password() -> None:
    assert url_of(ServerLogin("h", None, "", Secret("p"), "d")).reveal() == "postgresql://:p@h/d"
    assert url_of(ServerLogin("a,b", 5433, "u", None, "d")).reveal() == "postgresql://u@:5433/d?host=a%2Cb"
    assert (
        url_of(ServerLogin("fe80::1%eth0", 1, "u", None, "d")).reveal() == "postgresql://u@:1/d?host=fe80%3A%3A1%25eth0"
    )
