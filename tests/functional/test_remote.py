"""Mode `remote`: against an environment that another project runs, plain and behind TLS, and every way in which it cannot be used."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from owlclaw_up import dotenv_text
from owlclaw_up.database_status import status as database_status
from owlclaw_up.environment import down, reset, status, up
from owlclaw_up.errors import UpError
from owlclaw_up.host.hatchet import HatchetEngine
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Mode, Outcome, Secret
from owlclaw_up.project import open_project
from owlclaw_up.token_claims import decode
from owlclaw_up.tokens import rotate
from tests.conftest import REAL_ENGINE_DIR, Cli, DebianPostgres, processes_in, projects
from tests.faults import Patient
from tests.functional.nginx import Nginx, Ports
from tests.functional.servers import debian_server, tls_postgres
from tests.functional.tls import Authority, Certificate, Doorman, Loop, loop, own_address
from tests.ports import free_port
from tests.standin import install
from tests.unit.fakes import make_token

HERE = own_address()


@dataclass
class Server:
    """Somebody's Hatchet server: an environment of another project, and the ways to it.

    Attributes:
        tls_rest, tls_grpc: ports of this machine where TLS is spoken, with a certificate for localhost and its address.
        ours: a certificate for clients.
        mutual: port where gRPC wants one to be shown.
    """

    cli: Cli
    fault: Path
    net: Loop
    authority: Authority
    good: Certificate
    ours: Certificate
    tls_rest: int = 0
    tls_grpc: int = 0
    mutual: int = 0
    doormen: list[Doorman] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mutual = self.doorman()
        self.tls_rest = self.net.terminator(self.good, self.ports["dashboard"])
        self.tls_grpc = self.net.terminator(self.good, self.ports["grpc"])

    def doorman(self, purpose: str = "grpc", clients: Certificate | None = None, *, old: bool = False) -> int:
        """A port that lets clients with a certificate through to one of the server's."""
        self.doormen.append(Doorman(self.good, self.ports[purpose], clients or self.authority.root, old=old))
        return self.doormen[-1].port

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
    def over_tls(self) -> dict[str, Any]:
        """The settings of its addresses with TLS."""
        return {
            "OWLCLAW_UP_REMOTE_URL": f"https://localhost:{self.tls_rest}",
            "OWLCLAW_UP_REMOTE_GRPC": f"localhost:{self.tls_grpc}",
            "OWLCLAW_UP_REMOTE_TLS": "tls",
            "OWLCLAW_UP_REMOTE_CA_FILE": self.root,
        }

    @property
    def over_mutual_tls(self) -> dict[str, Any]:
        """The settings of its addresses where gRPC demands a certificate of the client."""
        return {
            **self.over_tls, "OWLCLAW_UP_REMOTE_TLS": "", "OWLCLAW_UP_REMOTE_GRPC": f"localhost:{self.mutual}",
            "OWLCLAW_UP_REMOTE_CERT_FILE": str(self.ours.file), "OWLCLAW_UP_REMOTE_KEY_FILE": str(self.ours.key),
        }  # fmt: skip

    @property
    def login(self) -> dict[str, Any]:
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
        ours = authority.sign("client", "DNS:client", usage="clientAuth")
        made = Server(cli, folder / "fault", net, authority, authority.sign("localhost", *names), ours)
        yield made
        for doorman in made.doormen:
            doorman.close()


@pytest.fixture(scope="module")
def nginx(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    """In front of that server."""
    folder, ports = tmp_path_factory.mktemp("nginx"), server.ports
    running = Nginx(folder, server.good, server.authority.root, ports["dashboard"], ports["grpc"])
    yield running.ports
    running.close()


@pytest.fixture(scope="module")
def postgres() -> Iterator[DebianPostgres]:
    """A server on which projects make their databases, and leave none behind."""
    with debian_server() as made:
        yield made


@pytest.fixture
def project(new_cli: Callable[..., Cli], postgres: DebianPostgres) -> Iterator[Cli]:
    """A project that goes to a server elsewhere, with a PostgreSQL that it makes its databases on."""
    cli = new_cli(OWLCLAW_UP_MODE="remote", OWLCLAW_UP_ADMIN_URL=postgres.url())
    yield cli
    purge(cli)
    assert not postgres.sql("select 1 from pg_roles where rolname = 'owlclaw'")


@pytest.fixture(scope="module")
def remote(new_module_cli: Callable[..., Cli]) -> Cli:
    """A project without an engine, for tests that leave nothing in it."""
    return new_module_cli(OWLCLAW_UP_MODE="remote")


def refusal(cli: Cli, **env: Any) -> UpError:
    """What `up` says to settings that cannot be used; looked at in this process, and nothing is left behind."""
    environ = {**cli.env, "OWLCLAW_UP_MODE": "remote", **env}
    outcome = up(open_project(cli.root, {}, Host(environ=environ, cwd=cli.root)), dry_run=True)
    assert isinstance(outcome.error, UpError), outcome
    assert outcome.exit_code == 3
    assert not (cli.root / ".owlclaw-up").exists()
    for text in (outcome.error.message, outcome.error.hint, outcome.error.detail):
        assert (env.get("OWLCLAW_UP_REMOTE_TOKEN") or "\0") not in text
    return outcome.error


def did(
    cli: Cli, command: Callable[..., Outcome], *, exit_code: int = 0, smoke: str = "none", **env: Any
) -> Outcome:  # fmt: skip
    """A command in this process, as its user would have run it."""
    asked = {} if smoke == "quick" else {"OWLCLAW_UP_SMOKE": smoke}
    environ = {**cli.env, **asked, **env}
    outcome = command(open_project(cli.root, {}, Host(environ=environ, cwd=cli.root)))
    assert outcome.exit_code == exit_code, (outcome.error, getattr(outcome.error, "detail", ""))
    return outcome


def purge(cli: Cli, **env: Any) -> dict[str, Any]:
    """`down --purge`; what each step did."""
    return {step.id: step.detail for step in did(cli, lambda project: down(project, purge=True), **env).steps}


def actions(outcome: Outcome) -> set[str]:
    return {step.action.word for step in outcome.steps}


def code_of(outcome: Outcome) -> str:
    assert isinstance(outcome.error, UpError)
    return outcome.error.code


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
    assert cli.json("open")["url"] == server.url
    assert cli.json("token", "rotate", code=3)["error"]["code"] == "remote-token-given"
    refused = cli.json("export", "helm", code=3)["error"]
    assert "the engine runs elsewhere" in refused["message"] and "in the project that brought it up" in refused["hint"]

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
        cli = new_cli(OWLCLAW_UP_MODE="remote")
        url = postgres.url() + f"?sslmode=verify-full&sslrootcert={certificate}"
        given: dict[str, Any] = {
            **server.over_tls,
            "OWLCLAW_UP_REMOTE_TOKEN": server.token,
            "OWLCLAW_UP_ADMIN_URL": url,
        }
        smoke = did(cli, up, smoke="quick", **given).smoke
        assert smoke is not None and smoke.status == "passed"
        env = cli.dotenv()
        assert env["HATCHET_CLIENT_TLS_STRATEGY"] == env["HATCHET_GRPC_TLS_STRATEGY"] == "tls"
        assert env["HATCHET_CLIENT_TLS_ROOT_CA_FILE"] == server.root
        assert env["PGSSLROOTCERT"] == str(certificate) and env["DATABASE_URL"].endswith("?ssl=verify-full")
        names = {row[0] for row in postgres.sql("select datname from pg_database")}
        assert "owlclaw" in names and "hatchet" not in names
        # What was told once is kept with the server.
        assert actions(did(cli, up, smoke="quick")) == {"unchanged"}
        token = did(cli, status).token
        assert token is not None and token.accepted
        cli.assert_no_leak()
        patient = Patient(cli)
        assert patient.well(), patient.bad()
        did(cli, up, OWLCLAW_UP_MODE="mock")
        assert not {"HATCHET_CLIENT_TLS_ROOT_CA_FILE", "PGSSLROOTCERT"} & set(cli.dotenv())
        purge(cli)
        assert "owlclaw" not in {row[0] for row in postgres.sql("select datname from pg_database")}


def test_a_certificate_of_the_client_is_shown_proved_and_kept(server: Server, project: Cli) -> None:
    given: dict[str, Any] = {**server.over_mutual_tls, "OWLCLAW_UP_REMOTE_TOKEN": server.token}
    made = did(project, up, smoke="quick", **given)
    assert made.smoke is not None and made.smoke.status == "passed"
    assert "over TLS, with a client certificate" in next(s.detail for s in made.steps if s.id == "remote")
    env = project.dotenv()
    assert env["HATCHET_CLIENT_TLS_STRATEGY"] == env["HATCHET_GRPC_TLS_STRATEGY"] == "mtls"
    assert env["HATCHET_CLIENT_TLS_CERT_FILE"] == str(server.ours.file)
    assert env["HATCHET_CLIENT_TLS_KEY_FILE"] == str(server.ours.key)
    # What was told once is kept with the server, and goes with it.
    assert actions(did(project, up, smoke="quick")) == {"unchanged"}
    patient = Patient(project)
    assert patient.well(), patient.bad()
    assert did(project, reset, smoke="none").mode is Mode.REMOTE
    assert project.dotenv()["HATCHET_CLIENT_TLS_STRATEGY"] == "mtls"
    did(project, up, **server.over_tls)
    assert "HATCHET_CLIENT_TLS_CERT_FILE" not in project.dotenv()


def test_a_login_makes_a_token_and_takes_it_back(server: Server, project: Cli) -> None:
    made = did(project, up, **server.login)
    assert next(s for s in made.steps if s.id == "remote").detail.startswith("v0.")
    first = kept_token(project)
    assert first != server.token and not server.revoked(first)
    assert project.secrets["passwords"].keys() == {"owlclaw"}, "the login itself is not kept"
    assert actions(did(project, up)) == {"unchanged", "skip"}
    assert code_of(did(project, rotate, exit_code=3)) == "remote-login"
    did(project, rotate, **server.login)
    second = kept_token(project)
    assert second != first and server.revoked(first) and not server.revoked(second)
    assert project.dotenv()["HATCHET_CLIENT_TOKEN"] == second
    gone = purge(project, **server.login)
    assert gone["remote.tokens"] == "1 revoked"
    assert server.revoked(second) and not server.revoked(server.token)


def test_a_purge_without_the_login_says_what_is_left(server: Server, project: Cli) -> None:
    did(project, up, **server.login)
    token = kept_token(project)
    claims = decode(token)
    assert claims is not None
    assert code_of(did(project, reset, exit_code=3)) == "remote-login"
    left = purge(project)["remote.tokens"]
    assert claims.token_id in left and server.url in left
    assert not server.revoked(token) and not (project.root / ".owlclaw-up").exists()


def test_the_password_is_asked_for_on_a_terminal(server: Server, project: Cli) -> None:
    given = {**server.login, "OWLCLAW_UP_REMOTE_PASSWORD": "", "CI": ""}
    password = server.login["OWLCLAW_UP_REMOTE_PASSWORD"]
    master, slave = pty.openpty()
    command = subprocess.Popen(
        [sys.executable, "-m", "owlclaw_up", "up", "--smoke", "none"], cwd=project.root, env={**project.env, **given},
        stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        assert command.stdout is not None
        said = b""
        while b"password of admin@example.com: " not in said:
            said += os.read(command.stdout.fileno(), 1000)
        os.write(master, f"{password}\n".encode())
        said += command.communicate(timeout=60)[0]
    finally:
        os.close(master)
        os.close(slave)
    assert command.returncode == 0, said.decode()
    assert password.encode() not in said
    purge(project, **server.login)


def test_the_dotenv_file_alone_moves_an_application_there(server: Server, project: Cli) -> None:
    own = {
        "HATCHET_CLIENT_TOKEN": server.token, "HATCHET_CLIENT_HOST_PORT": f"127.0.0.1:{server.tls_grpc}",
        "HATCHET_CLIENT_SERVER_URL": f"https://localhost:{server.tls_rest}", "HATCHET_CLIENT_TLS_STRATEGY": "tls",
        "HATCHET_CLIENT_TLS_ROOT_CA_FILE": server.root,
    }  # fmt: skip
    before = dotenv_text.edit(b"MINE=1\n", own)
    (project.root / ".env").write_bytes(before)
    assert did(project, up).endpoints["grpc"] == own["HATCHET_CLIENT_HOST_PORT"]
    assert {k: v for k, v in project.dotenv().items() if k in own} == own
    assert actions(did(project, up)) == {"unchanged", "skip"}
    # A purge forgets what was given; a reset takes it with it.
    assert did(project, reset).mode is Mode.REMOTE
    purge(project)
    assert (project.root / ".env").read_bytes() == before


def test_from_native_to_remote_and_back(server: Server, new_cli: Callable[..., Cli], standin_dir: Path) -> None:
    cli = new_cli(standin_dir)
    did(cli, up, OWLCLAW_UP_MODE="native")
    engine = cli.state["data"]["engine"]["pid"]
    (cli.root / "token").write_text(server.token + "\n")
    did(cli, up, OWLCLAW_UP_MODE="remote", OWLCLAW_UP_REMOTE_TOKEN_FILE="token")
    assert not any(p.pid == engine for p in processes_in(cli.root)), "the engine of before is stopped"
    assert cli.dotenv()["HATCHET_CLIENT_SERVER_URL"] == server.url
    patient = Patient(cli)
    assert patient.well(), patient.bad()
    did(cli, up, OWLCLAW_UP_MODE="native")
    assert kept_token(cli) != server.token and not server.revoked(server.token)
    token = did(cli, status).token
    assert token is not None and token.accepted


def other_server(server: Server) -> dict[str, Any]:
    """A token of another installation, used for this one."""
    token = make_token(
        exp=int(time.time()) + 86400, server_url="https://hatchet.example.com", grpc_broadcast_address="x:443"
    )
    urls = {"OWLCLAW_UP_REMOTE_URL": server.url, "OWLCLAW_UP_REMOTE_GRPC": server.grpc}
    return {**urls, "OWLCLAW_UP_REMOTE_TOKEN": token}


def other_keys(server: Server) -> dict[str, Any]:
    claims = {"server_url": server.url, "grpc_broadcast_address": server.grpc, "exp": int(time.time()) + 86400}
    return {"OWLCLAW_UP_REMOTE_TOKEN": make_token(**claims)}


def with_certificate(server: Server, certificate: Certificate) -> dict[str, Any]:
    """gRPC over TLS with another certificate, everything else as it should be."""
    port = server.net.terminator(certificate, server.ports["grpc"])
    return {**server.over_tls, "OWLCLAW_UP_REMOTE_TOKEN": server.token, "OWLCLAW_UP_REMOTE_GRPC": f"localhost:{port}"}


def mutual(server: Server, **values: Any) -> dict[str, Any]:
    return {**server.over_mutual_tls, "OWLCLAW_UP_REMOTE_TOKEN": server.token, **values}


def with_foreign_certificate(server: Server) -> dict[str, Any]:
    """One of our certificates, and a server that trusts another root."""
    folder = server.authority.folder / "theirs"
    folder.mkdir()
    return mutual(server, OWLCLAW_UP_REMOTE_GRPC=f"localhost:{server.doorman(clients=Authority(folder).root)}")


def rest_that_demands_one(server: Server) -> dict[str, Any]:
    return mutual(server, OWLCLAW_UP_REMOTE_URL=f"https://localhost:{server.doorman('dashboard')}")


def with_encrypted_key(server: Server) -> dict[str, Any]:
    key = server.authority.folder / "encrypted.key"
    subprocess.run(
        ["openssl", "pkey", "-in", str(server.ours.key), "-aes256", "-passout", "pass:secret", "-out", str(key)],
        check=True, capture_output=True,
    )  # fmt: skip
    return mutual(server, OWLCLAW_UP_REMOTE_KEY_FILE=str(key))


def another_rest(server: Server) -> dict[str, Any]:
    """REST of a server that knows nothing of the token."""
    from tests.standin.web import Response

    async def serve(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = Response.json({"message": "Please provide valid credentials"}).body
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\n")
        writer.write(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    return {
        "OWLCLAW_UP_REMOTE_TOKEN": server.token,
        "OWLCLAW_UP_REMOTE_URL": f"http://localhost:{server.net.listen(serve)}",
    }


def plain_rest(server: Server) -> dict[str, Any]:
    """REST in plain text, which answers a greeting of TLS as Go's servers do."""

    async def serve(reader: Any, writer: Any) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    return tls(server, OWLCLAW_UP_REMOTE_URL=f"https://localhost:{server.net.listen(serve)}")


def tls(server: Server, **values: str) -> dict[str, Any]:
    return {**server.over_tls, "OWLCLAW_UP_REMOTE_TOKEN": server.token, **values}


def login(server: Server, **values: str) -> dict[str, Any]:
    return {**server.login, **values}


# What is given, the code that must come of it, and words of message and hint.
CASES: dict[str, tuple[Callable[[Server], dict[str, Any]], str, str, str]] = {
    "nothing": (lambda s: {}, "remote-token-missing", "neither a token nor a login", "OWLCLAW_UP_REMOTE_TOKEN"),
    "no file": (
        lambda s: {"OWLCLAW_UP_REMOTE_TOKEN_FILE": "token.txt"}, "remote-token-missing", "token.txt cannot be read: No such file",
        "OWLCLAW_UP_REMOTE_TOKEN",
    ),
    "malformed": (
        lambda s: {"OWLCLAW_UP_REMOTE_TOKEN": s.token[:-300]}, "remote-token-malformed", "cut off", "three parts",
    ),
    "malformed in the shell": (
        lambda s: {"HATCHET_CLIENT_TOKEN": "eyJ.cut"}, "remote-token-malformed", "the token of the shell", "three parts",
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
        "remote-address", "does not say where its server is", "OWLCLAW_UP_REMOTE_GRPC=HOST:PORT owlclaw-up",
    ),
    "with an address that is none": (
        lambda s: {"HATCHET_CLIENT_TOKEN": s.token, "HATCHET_CLIENT_HOST_PORT": "https://x"}, "remote-address",
        "'https://x' (HATCHET_CLIENT_HOST_PORT in the shell) is no address", "OWLCLAW_UP_REMOTE_GRPC=HOST:PORT",
    ),
    "two servers": (another_rest, "remote-split", "gRPC takes the token, REST does not", "OWLCLAW_UP_REMOTE_URL"),
    "TLS expected for gRPC": (
        lambda s: tls(s, OWLCLAW_UP_REMOTE_GRPC=s.grpc), "remote-tls-missing", "speaks plain text, and TLS is expected (by ",
        "OWLCLAW_UP_REMOTE_TLS=none",
    ),
    "TLS expected for REST": (
        plain_rest, "remote-tls-missing", "REST at https://", "OWLCLAW_UP_REMOTE_URL=http://localhost:",
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
    "a certificate is demanded": (
        lambda s: tls(s, OWLCLAW_UP_REMOTE_GRPC=f"localhost:{s.mutual}"), "remote-client-certificate-missing",
        "it demands a certificate of its client, and none is shown", "OWLCLAW_UP_REMOTE_KEY_FILE",
    ),
    "a certificate is demanded by TLS 1.2": (
        lambda s: tls(s, OWLCLAW_UP_REMOTE_GRPC=f"localhost:{s.doorman(old=True)}"), "remote-client-certificate-missing", "it demands a certificate", "OWLCLAW_UP_REMOTE_CERT_FILE",
    ),
    "a certificate is demanded over REST": (
        rest_that_demands_one, "remote-client-certificate-missing", "REST at https://", "ask for none over REST",
    ),
    "a certificate that is refused": (
        with_foreign_certificate, "remote-client-certificate-refused", "it refuses the certificate that is shown",
        "openssl x509 -noout -issuer -dates -in /",
    ),
    "a certificate without its key": (
        lambda s: mutual(s, OWLCLAW_UP_REMOTE_KEY_FILE=""), "remote-client-certificate", "remote_key_file, its key",
        "OWLCLAW_UP_REMOTE_KEY_FILE",
    ),
    "a certificate without the server's root": (
        lambda s: mutual(s, OWLCLAW_UP_REMOTE_CA_FILE=""), "remote-client-certificate", "remote_ca_file", "OWLCLAW_UP_REMOTE_CA_FILE",
    ),
    "a key of another certificate": (
        lambda s: mutual(s, OWLCLAW_UP_REMOTE_KEY_FILE=str(s.good.key)), "remote-client-certificate", "is not the key of /",
        "OWLCLAW_UP_REMOTE_KEY_FILE",
    ),
    "a key that is not there": (
        lambda s: mutual(s, OWLCLAW_UP_REMOTE_KEY_FILE="gone.key"), "remote-client-certificate",
        "gone.key cannot be read: No such file", "OWLCLAW_UP_REMOTE_KEY_FILE",
    ),
    "a key with a password": (
        with_encrypted_key, "remote-client-certificate", "is encrypted, and hatchet-sdk knows no password", "OWLCLAW_UP_REMOTE_KEY_FILE",
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


def behind(server: Server, rest: int, grpc: int, **values: str) -> dict[str, Any]:
    """The settings of a server behind ports of nginx."""
    addresses = {"OWLCLAW_UP_REMOTE_URL": f"https://localhost:{rest}", "OWLCLAW_UP_REMOTE_GRPC": f"localhost:{grpc}"}
    return {**server.over_tls, **addresses, "OWLCLAW_UP_REMOTE_TOKEN": server.token, **values}


def test_rest_and_grpc_behind_one_port_of_nginx(server: Server, nginx: Ports, project: Cli) -> None:
    made = did(project, up, smoke="quick", **behind(server, nginx.both, nginx.both))
    assert made.smoke is not None and made.smoke.status == "passed", made.smoke
    address = f"localhost:{nginx.both}"
    env = project.dotenv()
    assert (env["HATCHET_CLIENT_SERVER_URL"], env["HATCHET_CLIENT_HOST_PORT"]) == (f"https://{address}", address)
    assert actions(did(project, up, smoke="quick")) == {"unchanged"}
    shown = {
        "OWLCLAW_UP_REMOTE_TLS": "", "OWLCLAW_UP_REMOTE_CERT_FILE": str(server.ours.file),
        "OWLCLAW_UP_REMOTE_KEY_FILE": str(server.ours.key),
    }  # fmt: skip
    mutual = did(project, up, smoke="quick", **behind(server, nginx.both, nginx.mutual, **shown))
    assert mutual.smoke is not None and mutual.smoke.status == "passed", mutual.smoke


# Ports for REST and gRPC, the code that must come of it, and words of message and hint.
BEHIND: dict[str, tuple[str, str, str, str, str]] = {
    "no HTTP/2": ("both", "http1", "remote-no-http2", "gRPC at localhost:", "listen 443 ssl http2"),
    "gRPC as REST": ("both", "no_grpc", "remote-not-hatchet", "gRPC at localhost:", "has to pass gRPC on as gRPC"),
    "nobody behind gRPC": ("both", "nobody", "remote-no-upstream", "gRPC at localhost:", "start that server"),
    "nobody behind REST": ("nobody", "both", "remote-no-upstream", "REST at https://", "start that server"),
    "a certificate is demanded": (
        "both", "mutual", "remote-client-certificate-missing", "gRPC at localhost:", "OWLCLAW_UP_REMOTE_CERT_FILE",
    ),
    "a certificate is demanded over REST": (
        "mutual", "both", "remote-client-certificate-missing", "REST at https://", "ask for none over REST",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BEHIND)
def test_what_is_wrong_with_nginx_is_named(server: Server, nginx: Ports, remote: Cli, name: str) -> None:
    rest, grpc, code, words, hint = BEHIND[name]
    given = behind(server, getattr(nginx, rest), getattr(nginx, grpc))
    by_login = {**given, "OWLCLAW_UP_REMOTE_TOKEN": "", **login(server, **{k: given[k] for k in server.over_tls})}
    for error in [refusal(remote, **given), *([refusal(remote, **by_login)] if rest != "both" else [])]:
        assert (error.code, words in error.message, hint in error.hint) == (code, True, True), (error, error.hint)


def test_a_certificate_that_nginx_refuses(server: Server, nginx: Ports, remote: Cli, tmp_path: Path) -> None:
    foreign = Authority(tmp_path).sign("client", "DNS:client", usage="clientAuth")
    error = refusal(
        remote, **behind(
            server, nginx.both, nginx.mutual, OWLCLAW_UP_REMOTE_TLS="mtls", OWLCLAW_UP_REMOTE_CERT_FILE=str(foreign.file),
            OWLCLAW_UP_REMOTE_KEY_FILE=str(foreign.key),
        )
    )  # fmt: skip
    assert error.code == "remote-client-certificate-refused" and "The SSL certificate error" in error.detail


def test_a_name_of_the_certificate_can_be_given(server: Server, remote: Cli) -> None:
    env = with_certificate(server, server.authority.sign("inner", "DNS:hatchet.internal"))
    assert refusal(remote, **env).code == "remote-certificate-name"
    planned = remote.json("plan", **env, OWLCLAW_UP_REMOTE_SERVER_NAME="hatchet.internal")
    assert planned["endpoints"]["grpc"] == env["OWLCLAW_UP_REMOTE_GRPC"]


@pytest.mark.skipif(not HERE, reason="this machine has no address but loopback: no proxy is asked for that")
def test_a_proxy_in_between_is_asked_and_named(server: Server, remote: Cli) -> None:
    away: dict[str, Any] = {
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


def test_an_engine_too_old_for_the_sdk_is_refused_and_one_that_went_away_named(
    new_cli: Callable[..., Cli], project: Cli, tmp_path: Path
) -> None:
    folder = install(tmp_path / "engine")
    cli = new_cli(folder)
    did(cli, up, OWLCLAW_UP_MODE="native")
    (folder / "fault").write_text("version=v0.70.0")
    token = kept_token(cli)
    error = refusal(project, OWLCLAW_UP_REMOTE_TOKEN=token)
    assert error.code == "remote-engine-too-old" and "v0.70.0" in error.message
    (folder / "fault").unlink()
    did(project, up, OWLCLAW_UP_REMOTE_TOKEN=token)
    did(cli, down)
    gone = did(project, status, exit_code=1)
    assert next(s for s in gone.services if s.id == "hatchet").state == "unreachable"
    away = did(project, up, exit_code=3)
    assert code_of(away) == "remote-unreachable" and "nobody listens" in away.error.message


def test_a_postgres_that_demands_tls(server: Server, remote: Cli) -> None:
    with tls_postgres("a-Secret-1") as (postgres, certificate):
        given: dict[str, Any] = {"OWLCLAW_UP_REMOTE_TOKEN": server.token}
        plain = refusal(remote, **given, OWLCLAW_UP_ADMIN_URL=postgres.url() + "?sslmode=disable")
        assert plain.code == "postgres-tls" and "?sslmode=require" in plain.hint
        assert "it demands TLS, and the URL forbids it" in plain.message
        unknown = refusal(
            remote, **given, OWLCLAW_UP_ADMIN_URL=postgres.url() + f"?sslmode=verify-full&sslrootcert={server.root}"
        )
        assert unknown.code == "postgres-tls" and "sslrootcert=FILE" in unknown.hint
        assert "not signed by the root" in unknown.message
        by_address = (
            postgres.url().replace("localhost", "127.0.0.1") + f"?sslmode=verify-full&sslrootcert={certificate}"
        )
        named = refusal(remote, **given, OWLCLAW_UP_ADMIN_URL=by_address)
        assert named.code == "postgres-tls" and "is for another name" in named.message
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
        made = did(remote, up, **given, OWLCLAW_UP_REMOTE_DATABASE_URL=own)
        assert next(s for s in made.steps if s.id == "database.owlclaw").action.word == "unchanged"
        assert "their-Secret-1" in remote.dotenv()["DATABASE_URL"] and remote.dotenv()["DATABASE_URL"].endswith(
            "ssl=require"
        )
        assert actions(did(remote, up)) == {"unchanged", "skip"}
        assert did(remote, status).endpoints["postgres"].endswith(f":{postgres.port}/owlclaw")
        purge(remote)
        assert postgres.dump() == dump, "nothing there is ours"


def test_a_database_by_another_name_is_used_as_it_is(server: Server, remote: Cli, postgres: DebianPostgres) -> None:
    postgres.sql("create role app login password 'App-Secret-1'")
    postgres.sql("create database production")
    url = postgres.url("app", "App-Secret-1", "production")
    given: dict[str, Any] = {"OWLCLAW_UP_REMOTE_TOKEN": server.token, "OWLCLAW_UP_REMOTE_DATABASE_URL": url}
    made = did(remote, up, **given)
    assert made.endpoints["postgres"] == f"postgresql://app@localhost:{postgres.port}/production"
    assert did(remote, database_status, exit_code=0).data["database"]["databases"][0]["name"] == "production"
    patient = Patient(remote)
    assert patient.well(), patient.bad()
    purge(remote)
    both = remote("plan", "--json", **given, OWLCLAW_UP_ADMIN_URL=postgres.url())
    assert (both.code, both.json["error"]["code"]) == (2, "bad-setting") and "App-Secret-1" not in both.text
