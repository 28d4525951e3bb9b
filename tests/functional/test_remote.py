"""Mode `remote`: against an environment that another project runs, plain and behind TLS, and every way in which it cannot be used."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from owlclaw_up import dotenv_text
from owlclaw_up.environment import up
from owlclaw_up.errors import UpError
from owlclaw_up.host.hatchet import HatchetEngine
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Secret
from owlclaw_up.project import open_project
from owlclaw_up.token_claims import decode
from tests.conftest import REAL_ENGINE_DIR, Cli, free_port, processes_in, projects
from tests.functional.servers import tls_postgres
from tests.functional.tls import Authority, Certificate, Loop, loop, own_address
from tests.standin import install
from tests.unit.fakes import make_token

HERE = own_address()


@dataclass
class Server:
    """Somebody's Hatchet server: an environment of another project, and the ways to it.

    Attributes:
        tls_rest, tls_grpc: ports of this machine where TLS is spoken, with a certificate for localhost and its address.
    """

    cli: Cli
    fault: Path
    net: Loop
    authority: Authority
    good: Certificate
    tls_rest: int = 0
    tls_grpc: int = 0

    def __post_init__(self) -> None:
        self.tls_rest = self.net.terminator(self.good, self.ports["dashboard"])
        self.tls_grpc = self.net.terminator(self.good, self.ports["grpc"])

    @property
    def ports(self) -> dict[str, int]:
        ports: dict[str, int] = self.cli.state["ports"]
        return ports

    @property
    def token(self) -> str:
        return str(self.cli.secrets["token"])

    @property
    def url(self) -> str:
        return f"http://localhost:{self.ports['dashboard']}"

    @property
    def grpc(self) -> str:
        return f"localhost:{self.ports['grpc']}"

    @property
    def root(self) -> str:
        return str(self.authority.root.file)

    @property
    def over_tls(self) -> dict[str, str]:
        """The settings of its addresses with TLS."""
        return {
            "OWLCLAW_UP_REMOTE_URL": f"https://localhost:{self.tls_rest}",
            "OWLCLAW_UP_REMOTE_GRPC": f"localhost:{self.tls_grpc}",
            "OWLCLAW_UP_REMOTE_TLS": "tls",
            "OWLCLAW_UP_REMOTE_CA_FILE": self.root,
        }

    @property
    def login(self) -> dict[str, str]:
        """The settings of a login that may make tokens there."""
        return {
            "OWLCLAW_UP_REMOTE_URL": self.url, "OWLCLAW_UP_REMOTE_GRPC": self.grpc,
            "OWLCLAW_UP_REMOTE_LOGIN": "admin@example.com",
            "OWLCLAW_UP_REMOTE_PASSWORD": self.cli.secrets["passwords"]["dashboard"],
        }  # fmt: skip

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        password = self.cli.secrets["passwords"]["postgres"]
        url = f"postgresql://postgres:{password}@127.0.0.1:{self.ports['postgres']}/hatchet"
        with psycopg.connect(url, autocommit=True) as connection:
            return list(connection.execute(query.encode(), values).fetchall())

    def revoked(self, token: str) -> bool:
        claims = decode(token)
        assert claims is not None
        return bool(self.sql('select revoked from "APIToken" where id = %s', claims.token_id)[0][0])


@pytest.fixture(scope="module")
def net() -> Iterator[Loop]:
    with loop() as made:
        yield made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, net: Loop) -> Iterator[Server]:
    folder = Path(REAL_ENGINE_DIR) if REAL_ENGINE_DIR else install(tmp_path_factory.mktemp("engine"))
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    names = ["DNS:localhost", "IP:127.0.0.1", *([f"IP:{HERE}"] if HERE else [])]
    with projects(tmp_path_factory) as make:
        cli = make(folder)
        cli.json("up", "--mode", "native", "--smoke", "none")
        yield Server(cli, folder / "fault", net, authority, authority.sign("localhost", *names))


@pytest.fixture(scope="module")
def remote(new_module_cli: Callable[..., Cli]) -> Cli:
    """A project without an engine, for tests that leave nothing in it."""
    return new_module_cli(OWLCLAW_UP_MODE="remote")


def refusal(cli: Cli, **env: str) -> UpError:
    """What `up` says to settings that cannot be used; looked at in this process, and nothing is left behind."""
    environ = {**cli.env, "OWLCLAW_UP_MODE": "remote", **env}
    outcome = up(open_project(cli.root, {}, Host(environ=environ, cwd=cli.root)), dry_run=True)
    assert isinstance(outcome.error, UpError), outcome
    assert outcome.exit_code == 3
    assert not (cli.root / ".owlclaw-up").exists()
    for text in (outcome.error.message, outcome.error.hint, outcome.error.detail):
        assert env.get("OWLCLAW_UP_REMOTE_TOKEN", "\0") not in text
    return outcome.error


def kept_token(cli: Cli) -> str:
    return str(cli.secrets["token"])


def test_a_token_alone_is_enough_and_it_stays(server: Server, new_cli: Callable[..., Cli]) -> None:
    cli = new_cli()
    before = server.sql('select count(*) from "APIToken" where not revoked')
    made = cli.json("up", "--mode", "remote", OWLCLAW_UP_REMOTE_TOKEN=server.token)
    assert (made["mode"], made["status"], made["smoke"]["status"]) == ("remote", "ok", "passed")
    assert made["endpoints"]["dashboard"] == server.url and made["endpoints"]["grpc"] == server.grpc
    assert not [step for step in made["steps"] if step["id"] == "database.hatchet"]
    assert not [p for p in processes_in(cli.root) if "hatchet" in p.name()], "no engine is started"
    env = cli.dotenv()
    assert env["HATCHET_CLIENT_TOKEN"] == env["HATCHET_API_TOKEN"] == server.token
    assert (env["HATCHET_CLIENT_HOST_PORT"], env["HATCHET_CLIENT_TLS_STRATEGY"]) == (server.grpc, "none")
    assert not {"HATCHET_CLIENT_TLS_ROOT_CA_FILE", "PGSSLROOTCERT"} & set(env)

    again = cli.json("up")
    assert again["decision"]["source"] == "state"
    assert {step["action"] for step in again["steps"]} == {"unchanged"}
    status = cli.json("status")
    assert {s["id"]: s["state"] for s in status["services"]} == {"postgres": "running", "hatchet": "running"}
    assert status["token"]["accepted"] and status["endpoints"]["grpc"] == server.grpc
    assert cli.json("token", "check")["findings"][0]["id"] == "token.good"
    assert cli.json("open")["data"]["url"] == server.url
    assert cli.json("token", "rotate", code=3)["error"]["code"] == "remote-token-given"

    # Another mode has a token of its own, and the given one stays good.
    mock = cli.json("up", "--mode", "mock", "--smoke", "none")
    assert mock["mode"] == "mock" and "HATCHET_API_TOKEN" not in cli.dotenv()
    assert server.token not in (cli.root / ".owlclaw-up/secrets.json").read_text()
    cli.json("down", "--purge", "--yes")
    assert not (cli.root / ".env").exists() and not (cli.root / ".owlclaw-up").exists()
    assert HatchetEngine().grpc_version(server.grpc, Secret(server.token)).state == "ok"
    assert server.sql('select count(*) from "APIToken" where not revoked') == before
    assert all(server.token not in r.text for r in cli.history)


def test_tls_with_a_root_of_ones_own_and_a_managed_postgres(server: Server, new_cli: Callable[..., Cli]) -> None:
    with tls_postgres("a-Secret-1") as (postgres, certificate):
        cli = new_cli(**server.over_tls, OWLCLAW_UP_MODE="remote", OWLCLAW_UP_REMOTE_TOKEN=server.token)
        url = postgres.url() + f"?sslmode=verify-full&sslrootcert={certificate}"
        made = cli.json("up", OWLCLAW_UP_ADMIN_URL=url)
        assert made["smoke"]["status"] == "passed"
        env = cli.dotenv()
        assert env["HATCHET_CLIENT_TLS_STRATEGY"] == env["HATCHET_GRPC_TLS_STRATEGY"] == "tls"
        assert env["HATCHET_CLIENT_TLS_ROOT_CA_FILE"] == server.root
        assert env["PGSSLROOTCERT"] == str(certificate) and env["DATABASE_URL"].endswith("?ssl=verify-full")
        names = {row[0] for row in postgres.sql("select datname from pg_database")}
        assert "owlclaw" in names and "hatchet" not in names
        # What was told once is kept with the server.
        kept = {**cli.env, **dict.fromkeys(server.over_tls, ""), "OWLCLAW_UP_REMOTE_TOKEN": ""}
        again = cli.json("up", **kept)
        assert {step["action"] for step in again["steps"]} == {"unchanged"}
        assert cli.json("status", **kept)["token"]["accepted"]
        cli.json("up", "--mode", "mock", "--smoke", "none", **kept)
        assert not {"HATCHET_CLIENT_TLS_ROOT_CA_FILE", "PGSSLROOTCERT"} & set(cli.dotenv())
        cli.json("down", "--purge", "--yes", **kept)
        assert "owlclaw" not in {row[0] for row in postgres.sql("select datname from pg_database")}
        cli.assert_no_leak() if (cli.root / ".owlclaw-up").exists() else None


def test_a_login_makes_a_token_and_takes_it_back(server: Server, new_cli: Callable[..., Cli]) -> None:
    cli = new_cli(OWLCLAW_UP_MODE="remote")
    assert cli.json("up", "--smoke", "none", **server.login)["status"] == "ok"
    first = kept_token(cli)
    assert first != server.token and not server.revoked(first)
    assert cli.secrets["passwords"].keys() == {"owlclaw", "postgres"}, "the login itself is not kept"
    again = cli.json("up", "--smoke", "none")
    assert {step["action"] for step in again["steps"]} == {"unchanged", "skip"}
    assert cli.json("token", "rotate", code=3)["error"]["code"] == "remote-token-given"
    cli.json("token", "rotate", **server.login)
    second = kept_token(cli)
    assert second != first and server.revoked(first) and not server.revoked(second)
    assert cli.dotenv()["HATCHET_CLIENT_TOKEN"] == second
    gone = cli.json("down", "--purge", "--yes", **server.login)
    assert next(s for s in gone["steps"] if s["id"] == "remote.tokens")["detail"] == "1 revoked"
    assert server.revoked(second) and not server.revoked(server.token)


def test_a_purge_without_the_login_says_what_is_left(server: Server, new_cli: Callable[..., Cli]) -> None:
    cli = new_cli(OWLCLAW_UP_MODE="remote")
    cli.json("up", "--smoke", "none", **server.login)
    token = kept_token(cli)
    claims = decode(token)
    assert claims is not None
    assert cli.json("reset", "--yes", code=3)["error"]["code"] == "remote-login"
    gone = cli.json("down", "--purge", "--yes")
    left = next(s for s in gone["steps"] if s["id"] == "remote.tokens")
    assert claims.token_id in left["detail"] and server.url in left["detail"]
    assert not server.revoked(token) and not (cli.root / ".owlclaw-up").exists()


def test_the_dotenv_file_alone_moves_an_application_there(server: Server, new_cli: Callable[..., Cli]) -> None:
    cli = new_cli()
    own = {
        "HATCHET_CLIENT_TOKEN": server.token, "HATCHET_CLIENT_HOST_PORT": f"127.0.0.1:{server.tls_grpc}",
        "HATCHET_CLIENT_SERVER_URL": f"https://localhost:{server.tls_rest}", "HATCHET_CLIENT_TLS_STRATEGY": "tls",
        "HATCHET_CLIENT_TLS_ROOT_CA_FILE": server.root,
    }  # fmt: skip
    before = dotenv_text.edit(b"MINE=1\n", own)
    (cli.root / ".env").write_bytes(before)
    made = cli.json("up", "--mode", "remote", "--smoke", "none")
    assert made["endpoints"]["grpc"] == own["HATCHET_CLIENT_HOST_PORT"]
    assert {k: v for k, v in cli.dotenv().items() if k in own} == own
    assert cli.json("up", "--smoke", "none")["steps"][0]["action"] == "unchanged"
    # A reset forgets what was given, and takes it with it.
    assert cli.json("reset", "--yes", "--smoke", "none")["mode"] == "remote"
    cli.json("down", "--purge", "--yes")
    assert (cli.root / ".env").read_bytes() == before


def test_from_native_to_remote_and_back(server: Server, new_cli: Callable[..., Cli], standin_dir: Path) -> None:
    cli = new_cli(standin_dir)
    cli.json("up", "--mode", "native", "--smoke", "none")
    engine = cli.state["data"]["engine"]["pid"]
    cli.json("up", "--mode", "remote", "--smoke", "none", OWLCLAW_UP_REMOTE_TOKEN=server.token)
    assert not any(p.pid == engine for p in processes_in(cli.root)), "the engine of before is stopped"
    assert cli.dotenv()["HATCHET_CLIENT_SERVER_URL"] == server.url
    cli.json("up", "--mode", "native", "--smoke", "none")
    assert kept_token(cli) != server.token and not server.revoked(server.token)
    assert cli.json("status")["token"]["accepted"]


def other_server(server: Server) -> dict[str, str]:
    """A token of another installation, used for this one."""
    token = make_token(exp=int(time.time()) + 86400, server_url="https://hatchet.example.com", grpc_broadcast_address="x:443")
    urls = {"OWLCLAW_UP_REMOTE_URL": server.url, "OWLCLAW_UP_REMOTE_GRPC": server.grpc}
    return {**urls, "OWLCLAW_UP_REMOTE_TOKEN": token}


def other_keys(server: Server) -> dict[str, str]:
    claims = {"server_url": server.url, "grpc_broadcast_address": server.grpc, "exp": int(time.time()) + 86400}
    return {"OWLCLAW_UP_REMOTE_TOKEN": make_token(**claims)}


def with_certificate(server: Server, certificate: Certificate) -> dict[str, str]:
    """gRPC over TLS with another certificate, everything else as it should be."""
    port = server.net.terminator(certificate, server.ports["grpc"])
    return {**server.over_tls, "OWLCLAW_UP_REMOTE_TOKEN": server.token, "OWLCLAW_UP_REMOTE_GRPC": f"localhost:{port}"}


def another_rest(server: Server) -> dict[str, str]:
    """REST of a server that knows nothing of the token."""
    from tests.standin.web import Response

    async def serve(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = Response.json({"message": "Please provide valid credentials"}).body
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\n")
        writer.write(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    return {"OWLCLAW_UP_REMOTE_TOKEN": server.token, "OWLCLAW_UP_REMOTE_URL": f"http://localhost:{server.net.listen(serve)}"}


def tls(server: Server, **values: str) -> dict[str, str]:
    return {**server.over_tls, "OWLCLAW_UP_REMOTE_TOKEN": server.token, **values}


def login(server: Server, **values: str) -> dict[str, str]:
    return {**server.login, **values}


# What is given, the code that must come of it, and words of message and hint.
CASES: dict[str, tuple[Callable[[Server], dict[str, str]], str, str, str]] = {
    "nothing": (lambda s: {}, "remote-token-missing", "neither a token nor a login", "OWLCLAW_UP_REMOTE_TOKEN"),
    "no file": (
        lambda s: {"OWLCLAW_UP_REMOTE_TOKEN_FILE": "token.txt"}, "remote-token-missing", "token.txt cannot be read: No such file",
        "OWLCLAW_UP_REMOTE_TOKEN",
    ),
    "malformed": (
        lambda s: {"OWLCLAW_UP_REMOTE_TOKEN": s.token[:-300]}, "remote-token-malformed", "cut off", "three parts",
    ),
    "expired": (
        lambda s: {"OWLCLAW_UP_REMOTE_TOKEN": make_token(exp=int(time.time()) - 60)}, "remote-token-expired", "expired on 20",
        "make a new one in the dashboard",
    ),
    "of another server": (
        other_server, "remote-token-other-server", "is for https://hatchet.example.com, and http://localhost:",
        "leave out OWLCLAW_UP_REMOTE_URL",
    ),
    "of other keys": (other_keys, "remote-token-refused", "revoked, or of another installation", "make a new one"),
    "without addresses": (
        lambda s: {"OWLCLAW_UP_REMOTE_TOKEN": make_token(server_url="", grpc_broadcast_address="", exp=int(time.time()) + 999)},
        "remote-address", "does not say where its server is", "OWLCLAW_UP_REMOTE_GRPC (HOST:PORT",
    ),
    "two servers": (another_rest, "remote-split", "gRPC takes the token, REST does not", "OWLCLAW_UP_REMOTE_URL"),
    "TLS expected for gRPC": (
        lambda s: tls(s, OWLCLAW_UP_REMOTE_GRPC=s.grpc), "remote-tls-missing", "speaks plain text, and TLS is expected (by ",
        "OWLCLAW_UP_REMOTE_TLS=none",
    ),
    "TLS expected for REST": (
        lambda s: tls(s, OWLCLAW_UP_REMOTE_URL=s.url.replace("http:", "https:")), "remote-tls-missing", "REST at https://",
        "OWLCLAW_UP_REMOTE_URL=http://localhost:",
    ),
    "TLS not expected for gRPC": (
        lambda s: tls(s, OWLCLAW_UP_REMOTE_TLS=""), "remote-tls-unexpected", "speaks TLS, and plain text is expected",
        "OWLCLAW_UP_REMOTE_TLS=tls",
    ),
    "TLS not expected for REST": (
        lambda s: tls(s, OWLCLAW_UP_REMOTE_URL=f"http://localhost:{s.tls_rest}"), "remote-tls-unexpected", "REST at http://",
        "OWLCLAW_UP_REMOTE_URL=https://localhost:",
    ),
    "another name": (
        lambda s: with_certificate(s, s.authority.sign("other", "DNS:other.example.com")), "remote-certificate-name",
        "for another name", "OWLCLAW_UP_REMOTE_SERVER_NAME",
    ),
    "another name for REST": (
        lambda s: tls(s, OWLCLAW_UP_REMOTE_URL=f"https://127.0.0.2:{s.tls_rest}"), "remote-certificate-name", "REST at https://",
        "OWLCLAW_UP_REMOTE_URL",
    ),
    "an unknown root": (
        lambda s: tls(s, OWLCLAW_UP_REMOTE_CA_FILE=""), "remote-certificate-root", "not signed by a root", "OWLCLAW_UP_REMOTE_CA_FILE",
    ),
    "a root file that is not there": (
        lambda s: tls(s, OWLCLAW_UP_REMOTE_CA_FILE="gone.pem"), "remote-certificate-root", "", "OWLCLAW_UP_REMOTE_CA_FILE",
    ),
    "an expired certificate": (
        lambda s: with_certificate(s, s.authority.sign("old", "DNS:localhost", days=-1)), "remote-certificate-expired",
        "not valid today", "renew it",
    ),
    "no such name": (
        lambda s: tls(s, OWLCLAW_UP_REMOTE_GRPC="no-such-host.invalid:443"), "remote-name", "does not resolve",
        "OWLCLAW_UP_REMOTE_GRPC",
    ),
    "nobody there": (
        lambda s: tls(s, OWLCLAW_UP_REMOTE_GRPC=f"localhost:{free_port()}"), "remote-unreachable", "nobody listens there",
        "start that server",
    ),
    "something else": (
        lambda s: {"OWLCLAW_UP_REMOTE_TOKEN": s.token, "OWLCLAW_UP_REMOTE_GRPC": f"127.0.0.1:{s.ports['dashboard']}"},
        "remote-not-hatchet", "does not answer as Hatchet does", "OWLCLAW_UP_REMOTE_GRPC",
    ),
    "offline": (
        lambda s: {"OWLCLAW_UP_REMOTE_TOKEN": s.token, "OWLCLAW_UP_REMOTE_URL": "https://h.example.com", "OWLCLAW_UP_OFFLINE": "1"},
        "remote-offline", "offline is set", "--offline",
    ),
    "a wrong password": (
        lambda s: login(s, OWLCLAW_UP_REMOTE_PASSWORD="Wrong-1234"), "remote-login", "refuses the login of admin@example.com",
        "OWLCLAW_UP_REMOTE_PASSWORD",
    ),
    "no password": (
        lambda s: login(s, OWLCLAW_UP_REMOTE_PASSWORD=""), "remote-login", "is not given", "OWLCLAW_UP_REMOTE_PASSWORD",
    ),
    "a login without gRPC": (
        lambda s: login(s, OWLCLAW_UP_REMOTE_GRPC=""), "remote-address", "a login does not say where gRPC is", "OWLCLAW_UP_REMOTE_GRPC",
    ),
    "no such tenant": (
        lambda s: login(s, OWLCLAW_UP_REMOTE_TENANT="theirs"), "remote-tenant", "'theirs' names none of them",
        "OWLCLAW_UP_REMOTE_TENANT=default",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_used_is_named(server: Server, remote: Cli, name: str) -> None:
    given, code, words, hint = CASES[name]
    error = refusal(remote, **given(server))
    assert (error.code, words in error.message, hint in error.hint) == (code, True, True), (error.message, error.hint)


def test_a_name_of_the_certificate_can_be_given(server: Server, remote: Cli) -> None:
    env = with_certificate(server, server.authority.sign("inner", "DNS:hatchet.internal"))
    assert refusal(remote, **env).code == "remote-certificate-name"
    planned = remote.json("plan", **env, OWLCLAW_UP_REMOTE_SERVER_NAME="hatchet.internal")
    assert planned["endpoints"]["grpc"] == env["OWLCLAW_UP_REMOTE_GRPC"]


@pytest.mark.skipif(not HERE, reason="this machine has no address but loopback: no proxy is asked for that")
def test_a_proxy_in_between_is_asked_and_named(server: Server, remote: Cli) -> None:
    away = {
        **tls(server), "OWLCLAW_UP_REMOTE_GRPC": f"{HERE}:{server.tls_grpc}", "OWLCLAW_UP_REMOTE_TLS": "",
        "OWLCLAW_UP_REMOTE_URL": f"https://{HERE}:{server.tls_rest}",
    }  # fmt: skip
    asked: list[str] = []
    willing = f"http://127.0.0.1:{server.net.proxy(asked)}"
    assert remote.json("plan", **away, https_proxy=willing)["status"] == "ok", "TLS is what is expected off loopback"
    assert f"{HERE}:{server.tls_grpc}" in asked
    closed = f"http://user:pass-word@127.0.0.1:{server.net.proxy([], allow=False)}"
    result = remote("plan", "--json", **away, https_proxy=closed)
    error = result.json["error"]
    assert (result.code, error["code"]) == (3, "remote-proxy") and "pass-word" not in result.text
    assert "https_proxy=http://127.0.0.1:" in error["detail"] and "403" in error["detail"]
    assert f"no_proxy={HERE}" in error["hint"]
    nobody = f"http://127.0.0.1:{free_port()}"
    assert remote.json("plan", code=3, **away, http_proxy=nobody)["error"]["code"] == "remote-proxy"
    assert remote.json("plan", **away, http_proxy=nobody, no_proxy=HERE)["status"] == "ok"


def test_an_engine_too_old_for_the_sdk_is_refused(new_cli: Callable[..., Cli], remote: Cli, tmp_path: Path) -> None:
    folder = install(tmp_path / "engine")
    cli = new_cli(folder)
    cli.json("up", "--mode", "native", "--smoke", "none")
    (folder / "fault").write_text("version=v0.70.0")
    token = kept_token(cli)
    error = refusal(remote, OWLCLAW_UP_REMOTE_TOKEN=token)
    assert error.code == "remote-engine-too-old" and "v0.70.0" in error.message
    (folder / "fault").unlink()
    # The server goes away after it was used: said by status, and by the next up.
    remote.json("up", "--smoke", "none", OWLCLAW_UP_REMOTE_TOKEN=token)
    cli.json("down")
    gone = remote.json("status", code=1)
    assert next(s for s in gone["services"] if s["id"] == "hatchet")["state"] == "unreachable"
    error = remote.json("up", code=3)["error"]
    assert error["code"] == "remote-unreachable" and "nobody listens" in error["message"]
    remote.json("down", "--purge", "--yes")


def test_a_postgres_that_demands_tls(server: Server, remote: Cli) -> None:
    with tls_postgres("a-Secret-1") as (postgres, certificate):
        given = {"OWLCLAW_UP_REMOTE_TOKEN": server.token}
        plain = refusal(remote, **given, OWLCLAW_UP_ADMIN_URL=postgres.url() + "?sslmode=disable")
        assert plain.code == "postgres-tls" and "sslmode" in plain.hint
        unknown = refusal(remote, **given, OWLCLAW_UP_ADMIN_URL=postgres.url() + f"?sslmode=verify-full&sslrootcert={server.root}")
        assert unknown.code == "postgres-tls"
        # A login without rights is told what to hand to whoever may; what they give back is used as it is.
        postgres.sql("create role guest login password 'a-Guest-1'")
        url = postgres.url("guest", "a-Guest-1") + "?sslmode=require"
        error = refusal(remote, **given, OWLCLAW_UP_ADMIN_URL=url)
        assert error.code == "postgres-privileges" and "a-Guest-1" not in error.hint
        lines = [line.strip() for line in error.hint.splitlines() if line.startswith("  ")]
        assert lines[:3] == [
            "CREATE ROLE owlclaw LOGIN PASSWORD '...';", "GRANT owlclaw TO CURRENT_USER;", "CREATE DATABASE owlclaw OWNER owlclaw;",
        ]  # fmt: skip
        assert "?sslmode=require' owlclaw-up --mode remote" in error.hint
        database = "postgres"
        for line in lines:
            if line.startswith("\\c "):
                database = line.removeprefix("\\c ")
            else:
                postgres.sql(line.replace("'...'", "'their-Secret-1'"), database)
        dump = postgres.dump()
        own = postgres.url("owlclaw", "their-Secret-1", "owlclaw") + "?sslmode=require"
        made = remote.json("up", "--smoke", "none", **given, OWLCLAW_UP_REMOTE_DATABASE_URL=own)
        assert next(s for s in made["steps"] if s["id"] == "database.owlclaw")["action"] == "unchanged"
        assert "their-Secret-1" in remote.dotenv()["DATABASE_URL"] and remote.dotenv()["DATABASE_URL"].endswith("ssl=require")
        assert {s["action"] for s in remote.json("up", "--smoke", "none")["steps"]} == {"unchanged", "skip"}
        assert remote.json("status")["endpoints"]["postgres"].endswith(f":{postgres.port}/owlclaw")
        remote.json("down", "--purge", "--yes")
        assert postgres.dump() == dump, "nothing there is ours"


def test_a_database_by_another_name_is_used_as_it_is(
    server: Server, remote: Cli, debian_postgres: Callable[..., Any]
) -> None:
    postgres = debian_postgres()
    postgres.sql("create role app login password 'App-Secret-1'")
    postgres.sql("create database production")
    url = postgres.url("app", "App-Secret-1", "production")
    given = {"OWLCLAW_UP_REMOTE_TOKEN": server.token, "OWLCLAW_UP_REMOTE_DATABASE_URL": url}
    made = remote.json("up", "--smoke", "none", **given)
    assert made["endpoints"]["postgres"] == f"postgresql://app@localhost:{postgres.port}/production"
    assert remote.json("db", "status", code=None)["data"]["database"]["databases"][0]["name"] == "production"
    remote.json("down", "--purge", "--yes")
    both = remote("plan", "--json", **given, OWLCLAW_UP_ADMIN_URL=postgres.url())
    assert (both.code, both.json["error"]["code"]) == (2, "bad-setting") and "App-Secret-1" not in both.text
