"""Faults of tokens, made to happen: each is named by its own check, with its evidence and its command."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.conftest import projects
from tests.faults import Patient
from tests.functional.tokens import (
    OTHER_TENANT,
    Stack,
    expired,
    forgotten,
    of_another_tenant,
    revoked,
    without_a_port,
)
from tests.ports import free_port
from tests.standin import install

UP, ROTATE = "owlclaw-up", "owlclaw-up token rotate"


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with projects(tmp_path_factory) as make:
        engine = install(tmp_path_factory.mktemp("engine"))
        yield Stack(make(engine), engine)


@pytest.fixture
def stack(healthy: Stack) -> Iterator[Stack]:
    """One environment; what a test put into its dotenv file and its secrets is taken back."""
    secrets = healthy.cli.root / ".owlclaw-up/secrets.json"
    before = secrets.read_bytes()
    yield healthy
    secrets.write_bytes(before)
    healthy.env_path.write_bytes(healthy.before)
    (healthy.cli.root / ".env.local").unlink(missing_ok=True)
    (healthy.engine / "fault").unlink(missing_ok=True)


@pytest.fixture
def patient(stack: Stack) -> Patient:
    return Patient(stack.cli)


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        words: of the detail, or of the title.
        mended: whether `doctor --fix` mends it.
    """

    spoil: Callable[[Stack], object]
    level: str
    words: str
    command: str = UP
    mended: bool = False


CASES = {
    "token.none": Case(
        lambda s: s.without("HATCHET_CLIENT_TOKEN", "HATCHET_API_TOKEN"), "fail", "owlclaw-up keeps one", mended=True
    ),
    "token.malformed": Case(lambda s: s.use("eyJhbGciOiJub25lIn0"), "fail", "three parts"),
    "token.expired": Case(expired, "fail", "expired on 20"),
    "token.expires": Case(lambda s: s.use(s.mint("-e", "72h")), "warn", "expires in 2 days", mended=True),
    "token.tenant": Case(of_another_tenant, "fail", OTHER_TENANT),
    "token.server-url": Case(
        lambda s: s.use(s.mint(SERVER_URL=f"http://localhost:{s.cli.state['ports']['dashboard']}/")),
        "fail", "compared as exact strings",
    ),
    "token.database-reset": Case(forgotten, "fail", "token id "),
    "token.revoked": Case(revoked, "fail", "was revoked"),
    "token.keys": Case(lambda s: s.use(s.mint(**s.keysets())), "fail", "signed with other keys", mended=True),
    "token.differs": Case(lambda s: s.use(s.mint()), "warn", "writes the kept one over it"),
    "token.grpc-address": Case(
        lambda s: s.use(s.mint(SERVER_GRPC_BROADCAST_ADDRESS="elsewhere:7077")), "warn", "it says elsewhere:7077", ROTATE
    ),
}  # fmt: skip


def test_a_good_token_is_no_finding(patient: Patient) -> None:
    assert patient.well(), patient.bad()
    assert patient.last is not None
    fine = {f.id for f in patient.last.findings if f.level == "ok"}
    assert {*CASES, "token.clock", "token.rest", "token.refused"} <= fine


@pytest.mark.parametrize("check", CASES)
def test_each_reason_has_a_name(stack: Stack, patient: Patient, check: str) -> None:
    case = CASES[check]
    case.spoil(stack)
    found = patient.finding(check)
    assert (found.level, found.command) == (case.level, case.command), found
    assert case.words in f"{found.title} {found.detail}"
    assert bool(found.fix) == (case.command == UP)
    first = patient.first()
    assert (first.id, first.cause) == (check, ""), patient.bad()
    # What else differs with it is a consequence, and no second cause.
    assert patient.last is not None
    assert {f.id for f in patient.last.findings if f.level == "fail" and not f.cause} <= {check}
    if case.mended:
        after = patient.mend(smoke="none")
        assert check in after.data["fixed"] and not after.exit_code, patient.bad()
        stack.before = stack.env_path.read_bytes()


def test_one_that_shadows_is_not_ours_to_mend(stack: Stack, patient: Patient) -> None:
    """The dotenv file's is good; the hint says which line to remove, and there is no fix."""
    (stack.cli.root / ".env.local").write_text("# mine\nhatchet_client_token=eyJ.old\n")
    found = patient.finding("token.malformed")
    assert (found.level, found.hint, found.command, found.fix) == ("fail", "remove line 2 of .env.local", "", "")
    assert "hatchet_client_token in .env.local" in found.title
    bad = patient.finding("token.none", env={"HATCHET_CLIENT_TOKEN": ""})
    assert (bad.level, bad.command, bad.fix) == ("fail", "unset HATCHET_CLIENT_TOKEN", "")
    assert "HATCHET_CLIENT_TOKEN in the shell is empty" in bad.title


def test_a_revoked_one_that_the_engine_still_takes(stack: Stack, patient: Patient) -> None:
    """It remembers a token for five seconds, in which `up` would keep it."""
    token = stack.mint()
    stack.use(token)
    assert stack.grpc(token) == "ok"
    stack.sql('update "APIToken" set revoked = true where id = %s', stack.id_of(token))
    found = patient.finding("token.revoked")
    assert (found.level, found.command, found.fix) == ("fail", ROTATE, "")
    assert "for 5 s" in found.detail


def test_a_clock_that_is_behind(stack: Stack, patient: Patient) -> None:
    (stack.engine / "fault").write_text("lite.clock=-100000000")
    found = patient.first()
    assert (found.id, found.level, found.command, found.fix) == ("token.clock", "fail", "", "")
    assert "behind the moment when the token in .env was made" in found.title
    assert "virtual machine" in found.detail and "set that clock right" in found.hint


@contextlib.contextmanager
def another_engine() -> Iterator[int]:
    """REST of an engine that knows no such token: what it says to everything is 403."""

    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403, "Please provide valid credentials")

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the screen."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def test_rest_of_another_engine(stack: Stack, patient: Patient) -> None:
    with another_engine() as port:
        stack.put(HATCHET_CLIENT_SERVER_URL=f"http://localhost:{port}")
        found = patient.first()
    assert (found.id, found.level) == ("token.rest", "fail")
    assert f"http://localhost:{port} says 403" in found.detail


def test_a_refusal_that_nobody_can_explain(stack: Stack, patient: Patient) -> None:
    """The password of Hatchet's role is in no file any more, so its database cannot be asked; the engine itself is well."""
    stack.forget_password("hatchet")
    stack.use(stack.mint(**stack.keysets()))
    found = patient.finding("token.refused")
    assert found.level == "fail"
    assert "its database could not be asked why" in found.title
    assert found.detail == "the login of Hatchet's database is not known"


def test_where_the_variables_lead_elsewhere(stack: Stack, patient: Patient) -> None:
    """The token is no worse for it: a call that does not arrive says nothing of it."""
    stack.put(HATCHET_CLIENT_HOST_PORT=f"localhost:{free_port()}")
    first = patient.first()
    assert (first.id, first.level, first.command) == ("engine.grpc", "fail", UP)
    assert "breaks at gRPC; the engine is at localhost:" in first.title
    assert not [name for name in patient.bad() if name.startswith("token.")]
    without_a_port(stack)
    assert patient.first().id == "engine.grpc"
