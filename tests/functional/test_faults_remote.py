"""Faults of a server elsewhere, made to happen: a project in `remote` beside the one whose engine it uses, and what the doctor says."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from owlclaw_up import doctor, dotenv_text
from owlclaw_up.model import Outcome
from tests.conftest import Cli, projects
from tests.faults import Patient
from tests.functional.tls import Authority, Doorman, Loop, loop, own_address
from tests.functional.tokens import Stack
from tests.ports import free_port
from tests.standin import install
from tests.unit.fakes import make_token

UP = "owlclaw-up"
HERE = own_address()
# What is about an engine, a server or ports of our own.
NOT_OURS = (
    "engine.",
    "hatchet.",
    "container.",
    "docker.",
    "port.dashboard",
    "port.grpc",
    "port.inner",
    "sdk.tls",
    "postgres.btree_gist",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Somebody's Hatchet server."""
    with projects(tmp_path_factory) as make:
        engine = install(tmp_path_factory.mktemp("engine"))
        yield Stack(make(engine), engine)


@pytest.fixture(scope="module")
def standing(server: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A project that uses it."""
    with projects(tmp_path_factory) as make:
        cli = make()
        token = server.cli.secrets["token"]
        cli.json("up", "--mode", "remote", "--smoke", "none", OWLCLAW_UP_REMOTE_TOKEN=token)
        yield cli


@pytest.fixture
def patient(standing: Cli, server: Stack) -> Iterator[Patient]:
    """That project; what a test did to its dotenv file, and to the server, is taken back."""
    env = standing.root / ".env"
    before = env.read_bytes()
    yield Patient(standing)
    env.write_bytes(before)
    (server.engine / "fault").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def net() -> Iterator[Loop]:
    with loop() as made:
        yield made


def put(patient: Patient, **values: str) -> None:
    env: Path = patient.cli.root / ".env"
    env.write_bytes(dotenv_text.edit(env.read_bytes(), values))


def followers(outcome: Outcome, cause: str) -> set[str]:
    return {finding.id for finding in outcome.findings if finding.cause == cause}


def address(server: Stack, purpose: str) -> str:
    return f"localhost:{server.cli.state['ports'][purpose]}"


def test_a_healthy_project_is_silent_and_asks_for_no_engine_of_ours(patient: Patient) -> None:
    assert patient.well(), patient.bad()
    assert patient.last is not None
    said = {finding.id for finding in patient.last.findings}
    assert {
        "remote.reach",
        "remote.tls",
        "remote.plain",
        "remote.token",
        "remote.version",
        "token.keys",
        "sdk.engine",
    } <= said
    assert not [name for name in said if name.startswith(NOT_OURS)]
    # No proxy is asked for a loopback; of one elsewhere it is the network's affair.
    caught = patient.finding("network.proxy", env={"http_proxy": "http://127.0.0.1:9"})
    assert caught.level == "warn"


def test_before_the_first_up_the_token_is_what_is_missing(new_cli: Callable[..., Cli]) -> None:
    patient = Patient(new_cli(OWLCLAW_UP_MODE="remote"))
    first = patient.first()
    assert (first.id, first.level) == ("remote.token", "fail") and "neither a token nor a login" in first.title


def test_nobody_there(patient: Patient) -> None:
    nobody = f"localhost:{free_port()}"
    first = patient.first(env={"OWLCLAW_UP_REMOTE_GRPC": nobody})
    assert (first.id, first.level) == ("remote.reach", "fail")
    assert f"gRPC at {nobody}" in first.title and "nobody listens there" in first.title
    assert "OWLCLAW_UP_REMOTE_GRPC" in first.hint
    # Something else may stop `up` before the server is judged.
    finding = patient.finding("remote.reach", env={"OWLCLAW_UP_REMOTE_GRPC": nobody, "OWLCLAW_UP_ADMIN_URL": "no url"})
    assert finding.level == "fail"


def test_one_that_never_answers_keeps_nobody_waiting(patient: Patient, net: Loop) -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    mute = net.listen(silence)
    env = {"OWLCLAW_UP_REMOTE_GRPC": f"localhost:{mute}", "OWLCLAW_UP_REMOTE_URL": f"http://localhost:{mute}"}
    finding = patient.finding("remote.reach", env=env)
    assert (finding.level, finding.cause) == ("fail", "") and "does not answer" in finding.title


def test_programs_that_are_led_elsewhere_are_led_back(patient: Patient) -> None:
    nobody = f"localhost:{free_port()}"
    put(patient, HATCHET_CLIENT_HOST_PORT=nobody)
    finding = patient.finding("remote.reach")
    assert (finding.level, finding.command) == ("fail", UP) and f"gRPC to {nobody} breaks at" in finding.title
    patient.mend()
    assert patient.well(), patient.bad()


def test_tls_where_plain_text_is_spoken(patient: Patient) -> None:
    outcome = patient.look(env={"OWLCLAW_UP_REMOTE_TLS": "tls"})
    first = outcome.findings[0]
    assert (first.id, first.level) == ("remote.tls", "fail")
    assert "speaks plain text, and TLS is expected" in first.title and "OWLCLAW_UP_REMOTE_TLS=none" in first.hint


@pytest.mark.skipif(not HERE, reason="this machine has no address but loopback, where plain text is as good as TLS")
def test_plain_text_over_a_network(patient: Patient, server: Stack, net: Loop) -> None:
    env = {
        "OWLCLAW_UP_REMOTE_GRPC": f"{HERE}:{net.plain(server.cli.state['ports']['grpc'])}", "OWLCLAW_UP_REMOTE_TLS": "none",
    }  # fmt: skip
    finding = patient.finding("remote.plain", env=env)
    assert (finding.level, "gRPC to" in finding.title) == ("warn", True) and "OWLCLAW_UP_REMOTE_TLS=tls" in finding.hint


def test_a_certificate_of_the_client(patient: Patient, server: Stack, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours = authority.sign("client", "DNS:client", usage="clientAuth")
    theirs = authority.sign("localhost", "DNS:localhost")
    doorman = Doorman(theirs, server.cli.state["ports"]["grpc"], authority.root)
    env = {
        "OWLCLAW_UP_REMOTE_GRPC": f"localhost:{doorman.port}", "OWLCLAW_UP_REMOTE_TLS": "tls",
        "OWLCLAW_UP_REMOTE_CA_FILE": str(authority.root.file),
    }  # fmt: skip
    first = patient.first(env=env)
    assert (first.id, first.level, "demands a certificate" in first.title) == ("remote.tls", "fail", True)
    env |= {
        "OWLCLAW_UP_REMOTE_TLS": "mtls", "OWLCLAW_UP_REMOTE_CERT_FILE": str(ours.file),
        "OWLCLAW_UP_REMOTE_KEY_FILE": str(ours.key),
    }  # fmt: skip
    ours.key.chmod(0o644)
    finding = patient.finding("remote.key-rights", env=env)
    assert (finding.level, finding.command) == ("warn", f"chmod 600 {ours.key}")
    ours.key.chmod(0o600)
    assert patient.finding("remote.key-rights", env=env).level == "ok"
    doorman.close()


def refused_token(server: Stack) -> str:
    """One that fits that server in everything but its keys."""
    claims = {
        "server_url": f"http://{address(server, 'dashboard')}", "grpc_broadcast_address": address(server, "grpc"),
        "exp": int(time.time()) + 30 * 86400,
    }  # fmt: skip
    return make_token(**claims)


def test_a_token_that_the_server_refuses(patient: Patient, server: Stack) -> None:
    token = refused_token(server)
    put(patient, HATCHET_CLIENT_TOKEN=token, HATCHET_API_TOKEN=token)
    outcome = patient.look()
    first = outcome.findings[0]
    assert (first.id, first.level) == ("remote.token", "fail") and "refuses the token of .env" in first.title
    assert "token.refused" in followers(outcome, "remote.token"), patient.bad()
    assert token not in str(outcome)


def test_a_refused_token_is_mended_by_a_login_or_not_at_all(patient: Patient, server: Stack) -> None:
    """Nothing is tried that would end in a refusal: without a login the finding says what to type."""
    login = {
        "OWLCLAW_UP_REMOTE_LOGIN": "admin@example.com", "OWLCLAW_UP_SMOKE": "none",
        "OWLCLAW_UP_REMOTE_PASSWORD": server.cli.secrets["passwords"]["dashboard"],
    }  # fmt: skip
    secrets = patient.cli.root / ".owlclaw-up/secrets.json"
    before = secrets.read_bytes()

    def hopeless(typed: str) -> None:
        first = patient.first()
        assert (first.id, first.fix, typed in first.hint) == ("remote.token", "", True), first
        assert doctor.preview(doctor.look(patient.project())) == []

    def made_anew() -> str:
        patient.mend(env=login)
        assert patient.well(env=login), patient.bad()
        return str(patient.cli.secrets["token"])

    given = refused_token(server)
    secrets.write_text(json.dumps({**json.loads(before), "token": given}))
    put(patient, HATCHET_CLIENT_TOKEN=given, HATCHET_API_TOKEN=given)
    hopeless("make a new one in the dashboard")
    made = made_anew()
    assert made != given
    server.sql('update "APIToken" set revoked = true where id = %s', server.id_of(made))
    # The engine goes on taking it for some seconds.
    end = time.monotonic() + 20
    while server.grpc(made) == "ok" and time.monotonic() < end:
        time.sleep(0.2)
    hopeless("OWLCLAW_UP_REMOTE_PASSWORD=... owlclaw-up")
    assert made_anew() not in (made, given)
    secrets.write_bytes(before)


def test_another_good_token_is_taken_by_the_next_up(patient: Patient, server: Stack) -> None:
    token = server.mint()
    put(patient, HATCHET_CLIENT_TOKEN=token, HATCHET_API_TOKEN=token)
    finding = patient.finding("token.differs")
    assert finding.level == "warn" and "takes it instead" in finding.detail


def test_a_token_near_its_end(patient: Patient, server: Stack) -> None:
    token = server.mint("-e", "72h")
    finding = patient.finding("remote.token-expires", env={"OWLCLAW_UP_REMOTE_TOKEN": token})
    assert (finding.level, "expires in 2 days" in finding.title) == ("warn", True)
    assert "make a new one in the dashboard" in finding.hint


def test_an_engine_too_old_for_the_sdk(patient: Patient, server: Stack) -> None:
    (server.engine / "fault").write_text("version=v0.70.0")
    outcome = patient.look()
    first = outcome.findings[0]
    assert (first.id, first.level) == ("remote.version", "fail") and "v0.70.0" in first.title
    assert "sdk.engine" in followers(outcome, "remote.version")
