"""`token show`, `check`, `rotate`: every reason for which a token is no good, made to happen; and a new one in its place.

The tests of `check` and `rotate` run on the stand-in, and on a real engine wherever there is one.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import REAL_ENGINE_DIR, Cli, DebianPostgres, kill, projects
from tests.functional.tokens import (
    OTHER_TENANT,
    Stack,
    claims_of,
    expired,
    forgotten,
    of_another_tenant,
    revoked,
    without_a_port,
)
from tests.standin import install

ENGINES = ("stand-in", "real") if REAL_ENGINE_DIR else ("stand-in",)


@pytest.fixture(scope="module", params=ENGINES)
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One environment for the tests that leave it as it was."""
    real = request.param == "real"
    engine = Path(REAL_ENGINE_DIR) if real else install(tmp_path_factory.mktemp("engine"))
    with projects(tmp_path_factory) as make:
        yield Stack(make(engine), engine)


@pytest.fixture
def spoiled(stack: Stack) -> Iterator[Stack]:
    """The same, with its dotenv file put back afterwards."""
    yield stack
    stack.env_path.write_bytes(stack.before)
    (stack.cli.root / ".env.local").unlink(missing_ok=True)


def shadowed(stack: Stack) -> None:
    (stack.cli.root / ".env.local").write_text("# mine\nhatchet_client_token=eyJ.old\n")


# What is done to it, the findings that must come of it, first the verdict, and words that must be said.
CASES: dict[str, tuple[Callable[[Stack], object], list[str], str]] = {
    "good": (lambda s: None, ["token.good"], "gRPC and REST take it"),
    "none": (lambda s: s.without("HATCHET_CLIENT_TOKEN", "HATCHET_API_TOKEN"), ["token.none"], "there is no token in .env"),
    "empty": (lambda s: s.use(""), ["token.none"], "there is no token in .env"),
    "malformed": (lambda s: s.use("eyJhbGciOiJub25lIn0"), ["token.malformed"], "three parts"),
    "expired": (expired, ["token.expired", "token.differs"], "expired on 20"),
    "expires soon": (lambda s: s.use(s.mint("-e", "72h")), ["token.good", "token.expires", "token.differs"], "in 2 days"),
    "another tenant": (of_another_tenant, ["token.tenant", "token.differs"], OTHER_TENANT),
    "another url": (
        lambda s: s.use(s.mint(SERVER_URL=f"http://localhost:{s.cli.state['ports']['dashboard']}/")),
        ["token.server-url", "token.differs"], "compared as exact strings",
    ),
    "another gRPC address": (
        lambda s: s.use(s.mint(SERVER_GRPC_BROADCAST_ADDRESS="elsewhere:7077")),
        ["token.good", "token.grpc-address", "token.differs"], "it says elsewhere:7077",
    ),
    "another gRPC address, dialled": (without_a_port, ["engine.grpc", "token.differs"], "breaks at gRPC; the engine is at"),
    "database reset": (forgotten, ["token.database-reset", "token.differs"], "not on record"),
    "revoked": (revoked, ["token.revoked", "token.differs"], "was revoked"),
    "keys changed": (lambda s: s.use(s.mint(**s.keysets())), ["token.keys", "token.differs"], "signed with other keys"),
    "wrong name": (lambda s: s.put(HATCHET_CLIENT_HOST_PORT="no-such-host.invalid:7077"), ["engine.grpc"], "name resolution"),
    "TLS": (lambda s: s.put(HATCHET_CLIENT_TLS_STRATEGY="tls"), ["engine.grpc"], "the engine speaks plain text"),
    "REST on the gRPC port": (
        lambda s: s.put(HATCHET_CLIENT_SERVER_URL=f"http://localhost:{s.cli.state['ports']['grpc']}"),
        ["engine.api"], "breaks at REST; the engine is at",
    ),
    "shadowed": (shadowed, ["token.good", "token.malformed", "env.shadow"], "hatchet_client_token in .env.local, line 2"),
}  # fmt: skip
GOOD_ENOUGH = {"good", "expires soon", "another gRPC address"}


@pytest.mark.parametrize("name", CASES)
def test_check_tells_what_is_wrong(spoiled: Stack, name: str) -> None:
    spoil, ids, words = CASES[name]
    spoil(spoiled)
    good = name in GOOD_ENOUGH
    document = spoiled.cli.json("token", "check", code=0 if good else 1)
    assert [f["id"] for f in document["findings"]] == ids, document["findings"]
    assert document["status"] == ("ok" if good else "failed")
    said = json.dumps(document["findings"])
    assert words in said
    assert all(f["hint"] for f in document["findings"] if f["level"] == "fail")
    for text in {*spoiled.cli.dotenv().values()} - {""}:
        assert len(text) < 60 or text not in spoiled.cli.history[-1].text


def test_what_check_says_on_the_screen(stack: Stack) -> None:
    said = stack.cli("token", "check")
    assert said.stdout.startswith("Good (")
    assert "ok: the token in .env is good" in said.stdout
    assert stack.cli("token", "check", "--quiet").text == ""


def test_what_the_engine_s_troubles_are_called(stack: Stack) -> None:
    """Its database away, or itself: no word against the token, and `up` mends it."""
    kept = stack.cli.secrets["token"]
    stack.process("postgres").send_signal(signal.SIGINT)
    end = time.monotonic() + 15
    # It remembers the token for some seconds, and is well until it asks its database again.
    while stack.grpc(kept) == "ok":
        assert time.monotonic() < end
        time.sleep(0.1)
    away = stack.cli.json("token", "check", code=1)
    assert [f["id"] for f in away["findings"]] == ["engine.database"]
    assert "our own login there" in away["findings"][0]["detail"]
    status = stack.cli.json("status", code=1)
    assert {f["id"] for f in status["findings"]} == {"status.postgres", "status.hatchet"}
    assert status["token"]["accepted"] is None
    assert stack.cli.json("token", "rotate", code=3)["error"]["code"] == "not-up"
    stack.cli.json("up", "--smoke", "none")

    kill(stack.process("engine").pid)
    gone = stack.cli.json("token", "check", code=1)
    assert [f["id"] for f in gone["findings"]] == ["engine.running"]
    stack.cli.json("up", "--smoke", "none")
    assert [f["id"] for f in stack.cli.json("token", "check")["findings"]] == ["token.good"]
    assert stack.cli.secrets["token"] == kept


def test_show(stack: Stack) -> None:
    kept = stack.cli.secrets["token"]
    claims = claims_of(kept)
    shown = stack.cli("token", "show")
    for text in (
        claims.tenant,
        claims.server_url,
        claims.grpc_address,
        claims.token_id,
        claims.expires_text,
        "days left",
    ):
        assert text in shown.stdout
    assert kept not in shown.text
    document = stack.cli.json("token", "show")
    assert document["value"] == "eyJ***"
    assert document["token"]["token_id"] == claims.token_id
    assert document["token"]["issued_at"] == claims.issued_text
    for more in ((), ("--quiet",)):
        assert stack.cli("token", "show", "--reveal", *more).stdout == f"{kept}\n"
    assert stack.cli.json("token", "show", "--reveal")["value"] == kept


def test_rotate_while_clients_work(stack: Stack) -> None:
    """Whatever a client reads from the dotenv file is good at that moment; afterwards only the new one is."""
    old, stop, refused, calls = stack.cli.secrets["token"], threading.Event(), list[str](), list[str]()

    def client() -> None:
        while not stop.is_set():
            token = stack.cli.dotenv()["HATCHET_CLIENT_TOKEN"]
            calls.append(token)
            if (state := stack.grpc(token)) != "ok":
                refused.append(state)

    thread = threading.Thread(target=client)
    thread.start()
    try:
        rotated = stack.cli.json("token", "rotate")
    finally:
        stop.set()
        thread.join()
    new = stack.cli.secrets["token"]
    assert refused == []
    assert set(calls) == {old, new}
    assert [(s["id"], s["action"], s["status"]) for s in rotated["steps"]] == [
        ("token", "update", "done"), ("env_file", "update", "done"), ("token.proof", "run", "done"), ("token.old", "remove", "done"),
    ]  # fmt: skip
    assert "gRPC refuses it" in rotated["steps"][-1]["detail"]
    assert rotated["previous"] == {
        "token_id": claims_of(old).token_id, "expires_at": claims_of(old).expires_text, "kept": False,
    }  # fmt: skip
    assert (stack.grpc(old), stack.grpc(new)) == ("refused-token", "ok")
    assert stack.alive() == {claims_of(new).token_id}
    assert stack.cli.secrets["superseded"] == []
    assert {stack.cli.dotenv()[k] for k in ("HATCHET_CLIENT_TOKEN", "HATCHET_API_TOKEN")} == {new}
    assert all(r["done"] for r in stack.cli.state["receipts"])
    assert old not in stack.cli.history[-1].text
    stack.cli.assert_no_leak()
    stack.before = stack.env_path.read_bytes()
    assert {s["action"] for s in stack.cli.json("plan", "--smoke", "none")["steps"]} <= {"unchanged", "skip"}


def test_killed_at_any_moment_a_rotation_ends_well(stack: Stack) -> None:
    """Each time the dotenv file's token is good at once, and the next command revokes what is left over."""
    moments: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
        "while it is minted": (
            lambda: [r for r in stack.cli.state["receipts"] if "request" in r["identity"]], ("token", "rotate"),
        ),
        "before the file is written": (lambda: stack.cli.secrets["superseded"], ("up", "--smoke", "none")),
        "once the file is written": (
            lambda: stack.cli.dotenv()["HATCHET_CLIENT_TOKEN"] != before, ("up", "--smoke", "none"),
        ),
        "while the old one is still remembered": (lambda: claims_of(before).token_id not in stack.alive(), ("token", "rotate")),
    }  # fmt: skip
    for moment, (seen, finish) in moments.items():
        before = stack.cli.secrets["token"]
        child = stack.cli.start("token", "rotate")
        end = time.monotonic() + 20
        while not seen():
            assert child.poll() is None, (moment, child.communicate())
            assert time.monotonic() < end, moment
        child.kill()
        child.communicate(timeout=10)
        assert stack.grpc(stack.cli.dotenv()["HATCHET_CLIENT_TOKEN"]) == "ok", moment
        # A tool that was orphaned in the middle may still write its row.
        time.sleep(0.3)
        stack.cli.json(*finish)
        token = stack.cli.secrets["token"]
        assert stack.cli.dotenv()["HATCHET_CLIENT_TOKEN"] == token
        assert stack.grpc(token) == "ok"
        assert stack.alive() == {claims_of(token).token_id}, moment
        assert stack.cli.secrets["superseded"] == []
        assert all(r["done"] for r in stack.cli.state["receipts"] if r["kind"] == "token")
    stack.before = stack.env_path.read_bytes()


def test_a_token_near_its_end_is_renewed_and_an_old_one_may_be_kept(stack: Stack) -> None:
    old = stack.cli.secrets["token"]
    kept = stack.cli("token", "rotate", "--keep-old", OWLCLAW_UP_TOKEN_LIFETIME="48h")
    assert "the old one stays good until" in kept.stdout
    short = stack.cli.secrets["token"]
    assert 47 < (claims_of(short).expires - time.time()) / 3600 <= 48
    # With a short life wanted, a short one is no reason to worry.
    checked = stack.cli.json("token", "check", OWLCLAW_UP_TOKEN_LIFETIME="48h")
    assert [f["id"] for f in checked["findings"]] == ["token.good"]
    assert [f["id"] for f in stack.cli.json("token", "check")["findings"]] == ["token.good", "token.expires"]
    planned = {s["id"]: s for s in stack.cli.json("plan", "--smoke", "none")["steps"]}
    assert (planned["token"]["action"], planned["token.old"]["action"]) == ("update", "remove")
    assert "it expires on" in planned["token"]["detail"]
    assert "revoke the old one" in planned["token"]["detail"]

    done = {s["id"]: s for s in stack.cli.json("up", "--smoke", "none")["steps"]}
    assert [done[i]["action"] for i in ("token", "env_file", "token.old")] == ["update", "update", "remove"]
    new = stack.cli.secrets["token"]
    assert (claims_of(new).expires - time.time()) / 86400 > 300
    assert [stack.grpc(text) for text in (old, short, new)] == ["ok", "refused-token", "ok"]
    assert stack.alive() == {claims_of(old).token_id, claims_of(new).token_id}

    stack.cli.json("token", "rotate")
    assert stack.alive() == {claims_of(stack.cli.secrets["token"]).token_id}
    stack.before = stack.env_path.read_bytes()


def test_a_clock_that_is_behind(stack: Stack) -> None:
    """The stand-in alone can have another time than this machine."""
    if stack.engine == Path(REAL_ENGINE_DIR):
        return
    fault = stack.engine / "fault"
    fault.write_text("lite.clock=-100000000")
    try:
        said = stack.cli.json("token", "check", code=1)["findings"]
    finally:
        fault.unlink()
    assert [f["id"] for f in said] == ["token.clock"]
    assert "s behind the moment when the token in .env was made" in said[0]["title"]


def test_where_there_is_nothing_to_show(mock_cli: Cli) -> None:
    for command in ("show", "check", "rotate"):
        assert mock_cli.json("token", command, code=3)["error"]["code"] == "no-environment"
    mock_cli.json("up", "--smoke", "none")
    for command in ("show", "rotate"):
        error = mock_cli.json("token", command, code=3)["error"]
        assert (error["code"], "only a placeholder" in error["message"]) == ("no-token", True)
    assert mock_cli("token", "show", "--reveal").stdout == ""
    assert [f["id"] for f in mock_cli.json("token", "check", code=1)["findings"]] == ["token.none"]


def test_a_purge_revokes_what_it_does_not_drop(
    new_cli: Callable[..., Cli], standin_dir: Path, debian_postgres: Callable[..., DebianPostgres]
) -> None:
    """The user's own database stays, with no token of ours in it that anybody could use."""
    server = debian_postgres()
    server.sql("create role hatchet login password 'hatchet'")
    server.sql("create database hatchet owner hatchet")
    cli = new_cli(standin_dir, OWLCLAW_UP_ADMIN_URL=server.url())
    cli.json("up", "--smoke", "none")
    cli.json("token", "rotate", "--keep-old")
    ours = """select count(*) from "APIToken" where name like 'owlclaw-up-%' and not revoked"""
    assert server.sql(ours, "hatchet") == [(2,)]
    steps = {s["id"]: s for s in cli.json("down", "--purge")["steps"]}
    assert (steps["token"]["action"], steps["token"]["detail"]) == ("remove", "2 revoked")
    assert server.sql(ours, "hatchet") == [(0,)]
    assert not os.path.lexists(cli.root / ".owlclaw-up")
