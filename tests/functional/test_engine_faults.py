"""An engine that cannot be used, that fails on the way, or that ends while it should run: what is said, and the mending."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from tests.conftest import REAL_ENGINE_DIR, Cli, kill
from tests.standin import PROGRAMS, install

NewCli = Callable[..., Cli]
PARTITIONS = ("ControllerPartition", "TenantWorkerPartition", "SchedulerPartition")


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A stand-in engine of the test's own, to be broken."""
    return install(tmp_path / "engine")


def break_it(engine: Path, faults: str, text: str = "") -> None:
    (engine / "fault").write_text(faults)
    (engine / "fault-text").write_text(text)


def mend(engine: Path) -> None:
    (engine / "fault").unlink(missing_ok=True)
    (engine / "fault-text").unlink(missing_ok=True)


def fails(cli: Cli, *args: str, code: int = 4) -> dict[str, Any]:
    """`up` fails with an error that says what happened and what to do."""
    document = cli.json("up", "--smoke", "none", *args, code=code)
    error: dict[str, Any] = document["error"]
    assert document["status"] == "failed"
    assert error["message"] and error["hint"]
    failed = [s for s in document["steps"] if s["status"] == "failed"]
    assert len(failed) == 1 and failed[0]["detail"] == error["message"]
    return error


def service(cli: Cli, id: str, code: int | None = 0) -> dict[str, Any]:
    document = cli.json("status", code=code)
    found: dict[str, Any] = next(s for s in document["services"] if s["id"] == id)
    return found


def hatchet_url(cli: Cli) -> str:
    password, port = cli.secrets["passwords"]["hatchet"], cli.state["ports"]["postgres"]
    return f"postgresql://hatchet:{password}@127.0.0.1:{port}/hatchet"


def ask(cli: Cli, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(hatchet_url(cli)) as connection:
        return connection.execute(query.encode()).fetchall()


def assert_nothing_doubled(cli: Cli) -> None:
    """One tenant of ours, one admin, every migration once, one process of each kind."""
    assert ask(cli, "select count(*) from \"Tenant\" where slug = 'default'") == [(1,)]
    assert ask(cli, 'select count(*) from "User"') == [(1,)]
    assert ask(cli, "select version_id from goose_db_version group by 1 having count(*) > 1") == []
    running = [p for p in psutil.process_iter() if _works_in(p, cli.root / ".owlclaw-up/engine")]
    assert len(running) == 1
    receipts = [(r["kind"], tuple(sorted(r["identity"].items(), key=str))) for r in cli.state["receipts"]]
    assert len(receipts) == len(set(receipts))
    assert all(r["done"] for r in cli.state["receipts"])


def _works_in(process: psutil.Process, folder: Path) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE
    return False


# An engine that cannot be used is refused before anything is made


def without(name: str) -> Callable[[Path], object]:
    return lambda engine: (engine / name).unlink()


def not_executable(engine: Path) -> None:
    (engine / "hatchet-migrate").chmod(0o644)


def of_another_machine(engine: Path) -> None:
    """The first bytes of an ELF file for a machine that this one is not."""
    other = 0x3E if platform.machine() in ("aarch64", "arm64") else 0xB7
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + (2).to_bytes(2, "little") + other.to_bytes(2, "little")
    (engine / "hatchet-admin").write_bytes(header + bytes(44))


def says_nonsense(engine: Path) -> None:
    (engine / "hatchet-lite").write_text("#!/bin/sh\necho 'Segmentation fault' >&2\nexit 139\n")


def no_program(engine: Path) -> None:
    (engine / "hatchet-lite").write_bytes(b"\x00\x01\x02\x03")


BROKEN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    **{f"without {name}": (without(name), "engine-incomplete", name) for name in PROGRAMS},
    "not executable": (not_executable, "engine-not-executable", "hatchet-migrate"),
    "of another machine": (of_another_machine, "engine-architecture", "hatchet-admin"),
    "says nonsense": (says_nonsense, "engine-not-runnable", "Segmentation fault"),
    "no program": (no_program, "engine-not-runnable", "hatchet-lite"),
    "absent": (shutil.rmtree, "engine-missing", "engine"),
    "too old": (lambda engine: break_it(engine, "version=v0.70.0"), "engine-too-old", "v0.70.0"),
    "unstamped": (lambda engine: break_it(engine, "version=v0.1.0-alpha.0"), "engine-too-old", "version stamp"),
}


@pytest.mark.parametrize(("damage", "code", "word"), BROKEN.values(), ids=BROKEN.keys())
def test_an_engine_that_cannot_be_used(
    new_cli: NewCli, engine: Path, damage: Callable[[Path], object], code: str, word: str
) -> None:
    damage(engine)
    cli = new_cli(engine)
    error = cli.json("up", "--mode", "native", code=3)["error"]
    assert error["code"] == code
    assert word in error["message"] and str(engine) in error["message"]
    assert error["hint"]
    if code == "engine-not-executable":
        assert error["hint"].startswith(f"chmod +x {engine / 'hatchet-migrate'}")
    if code == "engine-architecture":
        assert platform.machine() in error["message"]
    if code == "engine-too-old":
        assert re.search(r"hatchet-sdk \d+\.\d+\.\d+ drives engines from v\d+\.\d+\.\d+ on", error["message"])
    assert sorted(p.name for p in cli.root.iterdir()) == [".git", ".gitignore"]

    # Left to itself it ends in mock, and says why not native and how to get there.
    plan = cli.json("plan")
    assert plan["status"] == "degraded" and plan["mode"] == "mock"
    rejected = {r["mode"]: r["why"] for r in plan["decision"]["rejected"]}
    assert rejected["native"] == error["message"]
    assert error["hint"] in plan["decision"]["hint"]
    required = cli.json("up", "--require", "durable", code=3)["error"]
    assert required["code"] == "durable-required"
    # Docker is the other way to a durable mode.
    assert error["message"] in required["detail"] and required["hint"].endswith(error["hint"])
    assert required["hint"].startswith("unset DOCKER_HOST")
    assert not (cli.root / ".owlclaw-up").exists()


def test_degraded_is_said_and_durable_once_it_can_be(new_cli: NewCli, engine: Path) -> None:
    not_executable(engine)
    cli = new_cli(engine)
    result = cli("up", "--smoke", "none")
    assert result.code == 0
    assert "hatchet-migrate is not executable" in result.text and "chmod +x" in result.text
    document = cli.json("up", "--smoke", "none")
    assert document["status"] == "degraded" and document["mode"] == "mock"
    assert "HATCHET_API_TOKEN" not in cli.dotenv()

    (engine / "hatchet-migrate").chmod(0o755)
    document = cli.json("up", "--smoke", "none")
    assert document["status"] == "ok" and document["mode"] == "native"
    assert cli.dotenv()["HATCHET_API_TOKEN"]
    cli.assert_no_leak()


# An engine that fails on the way: the same environment goes on once it is mended

ENDS = (
    ("primary database instance timezone is set to 'Europe/Berlin' but must be 'UTC'", "timezone Europe/Berlin", "UTC"),
    ("panic: listen tcp :8080: bind: address already in use", "port 8080 was taken", "ss -ltnp 'sport = :8080'"),
    ("keyset.Handle: decryption failed: aead_factory: decryption failed", "keysets do not belong", "secrets.json"),
    ("could not load encryption service: encryption is required", "a keyset is missing", "owlclaw-up reset"),
    ("FATAL: password authentication failed for user hatchet", "refuses the password", "owlclaw-up status"),
    ("FATAL: sorry, too many clients already (SQLSTATE 53300)", "no free connections", "max_connections"),
    ("dial tcp 127.0.0.1:5432: connect: connection refused", "does not answer it", "owlclaw-up logs postgres"),
    ("write /tmp/x: no space left on device", "the disk is full", "df -h"),
    ("the moon is in the wrong house", "", "owlclaw-up logs hatchet"),
)


def test_preparing_an_engine_that_fails(new_cli: NewCli, engine: Path) -> None:
    cli = new_cli(engine)
    break_it(engine, "admin.keyset-fails", "no entropy today")
    error = fails(cli)
    assert error["code"] == "keys-failed" and "no keysets" in error["message"]
    assert "no entropy today" in error["detail"]
    assert error["hint"] == f"{engine / 'hatchet-admin'} keyset create-local-keys"

    break_it(engine, "migrate.fails")
    error = fails(cli)
    assert error["code"] == "engine-failed"
    assert "hatchet-migrate ended with exit code 1" in error["message"]
    assert "20240216133745" in error["detail"] and "standin_fault" in error["detail"]
    break_it(engine, "migrate.fails", 'ERROR: extension "btree_gist" already exists (SQLSTATE 42710)')
    error = fails(cli)
    assert error["code"] == "btree-gist-exists" and "DROP EXTENSION btree_gist" in error["hint"]

    break_it(engine, "migrate.hangs")
    begun = time.monotonic()
    error = fails(cli, "--timeout", "10")
    assert time.monotonic() - begun < 25
    assert error["code"] == "timeout" and "hatchet-migrate" in error["message"]
    assert "v0_6_0.sql" in error["message"], "what was seen last"
    assert "--timeout" in error["hint"]
    assert not [p for p in psutil.process_iter() if _works_in(p, cli.root / ".owlclaw-up/engine")]

    break_it(engine, "seed.fails", "ERROR: deadlock detected (SQLSTATE 40P01)")
    error = fails(cli)
    assert error["code"] == "engine-failed" and "hatchet-admin seed ended with exit code 1" in error["message"]
    assert "deadlock detected" in error["detail"]

    keys = cli.secrets["engine"]
    mend(engine)
    document = cli.json("up", "--smoke", "none")
    assert document["status"] == "ok"
    assert {s["id"]: s["action"] for s in document["steps"]}["engine.keys"] == "unchanged"
    assert cli.secrets["engine"] == keys, "made once"
    assert_nothing_doubled(cli)
    cli.assert_no_leak()


def test_an_engine_that_dies_at_its_start(new_cli: NewCli, engine: Path) -> None:
    cli = new_cli(engine)
    for text, cause, hint in ENDS:
        break_it(engine, "lite.exit-at-start", text)
        begun = time.monotonic()
        error = fails(cli)
        assert time.monotonic() - begun < 20, "long before the deadline"
        assert error["code"] == "process-died"
        assert "hatchet-lite ended with exit code 1" in error["message"]
        # The cause is this end's, not that of the one before in the same log.
        assert cause in error["message"] and hint in error["hint"], (text, error)
        assert text in error["detail"]
        assert sum(other in error["detail"] for other, _, _ in ENDS) == 1
    assert service(cli, "postgres", 1)["state"] == "running"
    mend(engine)
    assert cli.json("up", "--smoke", "none")["status"] == "ok"
    assert_nothing_doubled(cli)
    cli.assert_no_leak()


def test_an_engine_that_does_not_get_ready(new_cli: NewCli, engine: Path) -> None:
    cli = new_cli(engine)
    break_it(engine, "lite.never-ready")
    error = fails(cli, "--timeout", "12")
    assert error["code"] == "timeout"
    assert "health check" in error["message"] and "within 12 s" in error["message"]
    assert "last seen: /ready says 503" in error["message"]
    assert "--timeout" in error["hint"] and "owlclaw-up logs" in error["hint"]
    assert cli("status").code == 1

    # What answers is never restarted, so each of the next faults gets an engine that starts with it.
    assert cli("down").code == 0
    break_it(engine, "lite.api-down")
    error = fails(cli, "--timeout", "10")
    assert error["code"] == "timeout" and "last seen: /api/ready says 502" in error["message"]

    assert cli("down").code == 0
    break_it(engine, "lite.no-grpc")
    error = fails(cli, "--timeout", "10")
    assert error["code"] == "timeout" and "gRPC" in error["message"]
    assert str(cli.state["ports"]["grpc"]) in error["message"]

    # One that dies while it is waited for is not waited for.
    break_it(engine, "lite.no-grpc lite.die-after=2")
    begun = time.monotonic()
    error = fails(cli)
    assert time.monotonic() - begun < 20
    assert error["code"] == "process-died" and "exit code 2" in error["message"]
    assert "nil pointer dereference" in error["detail"]

    mend(engine)
    assert cli.json("up", "--smoke", "none")["status"] == "ok"
    assert cli("status").code == 0
    assert_nothing_doubled(cli)
    cli.assert_no_leak()


def test_tokens_that_are_none_and_work_that_is_not_done(new_cli: NewCli, engine: Path) -> None:
    cli = new_cli(engine)
    break_it(engine, "admin.garbage-token")
    error = fails(cli)
    assert error["code"] == "token-garbage" and "printed no token" in error["message"]
    assert "token created, see the dashboard" in error["detail"]
    assert str(engine / "hatchet-admin") in error["hint"]

    break_it(engine, "admin.wrong-address")
    error = fails(cli)
    assert error["code"] == "token-garbage"
    assert "host.docker.internal:7077" in error["message"]
    assert f"localhost:{cli.state['ports']['grpc']}" in error["message"]

    break_it(engine, "admin.token-fails", 'violates foreign key constraint "APIToken_tenantId_fkey"')
    error = fails(cli)
    assert error["code"] == "tenant" and "hatchet-admin token create ended with exit code 1" in error["message"]
    assert error["hint"] == "owlclaw-up reset"

    break_it(engine, "lite.reject-tokens")
    error = fails(cli)
    assert error["code"] == "token-refused" and "refuses the token" in error["message"]
    assert "owlclaw-up logs hatchet" in error["hint"]
    assert cli.secrets["token"] == "", "a token that nobody takes is not kept"
    assert not (cli.root / ".env").exists()

    # A line before the token is no obstacle.
    break_it(engine, "admin.token-two-lines lite.no-dispatch")
    document = cli.json("up", "--timeout", "25", code=1)
    assert document["status"] == "failed" and document["error"] is None
    token = cli.secrets["token"]
    assert token.count(".") == 2 and cli.dotenv()["HATCHET_API_TOKEN"] == token
    assert document["smoke"]["status"] == "failed"
    proofs = {p["id"]: p for p in document["smoke"]["proofs"]}
    assert proofs["connect"]["status"] == proofs["register"]["status"] == "passed"
    assert proofs["run"]["status"] == "failed" and proofs["run"]["hop"] == "dispatch"
    assert "QUEUED" in proofs["run"]["detail"]

    mend(engine)
    document = cli.json("up")
    assert document["status"] == "ok" and document["smoke"]["status"] == "passed"
    assert cli.secrets["token"] == token
    assert_nothing_doubled(cli)
    cli.assert_no_leak()


# What runs is killed, frozen, moved


@pytest.fixture(params=["stand-in", *(["real"] if REAL_ENGINE_DIR else [])])
def any_engine(request: pytest.FixtureRequest, engine: Path) -> Iterator[Path]:
    yield engine if request.param == "stand-in" else Path(REAL_ENGINE_DIR)


def test_a_killed_engine_is_started_again_and_works_at_once(new_cli: NewCli, any_engine: Path) -> None:
    """The dead engine's rows would hold the first task back for a minute; they are cleared."""
    cli = new_cli(any_engine)
    assert cli.json("up")["smoke"]["status"] == "passed"
    ports, token, env = cli.state["ports"], cli.secrets["token"], (cli.root / ".env").read_bytes()
    pid = service(cli, "hatchet")["pid"]
    kill(pid)

    document = cli.json("status", code=1)
    states = {s["id"]: s["state"] for s in document["services"]}
    assert states == {"postgres": "running", "hatchet": "stopped"}
    (finding,) = (f for f in document["findings"] if f["id"] == "status.hatchet")
    assert finding["level"] == "fail" and finding["command"] == "owlclaw-up"

    again = cli.json("up")
    assert again["status"] == "ok" and again["smoke"]["status"] == "passed"
    assert again["seconds"] < 40, "the stand-in and the real one hold tasks back for 59 s where the rows stay"
    (started,) = (s for s in again["steps"] if s["id"] == "engine.server")
    assert started["action"] == "create" and "cleared" in started["detail"]
    assert cli.state["ports"] == ports and cli.secrets["token"] == token
    assert (cli.root / ".env").read_bytes() == env
    assert service(cli, "hatchet")["pid"] != pid
    assert ask(cli, "select count(*) from \"APIToken\" where name like 'owlclaw-up-%'") == [(1,)]
    cli.assert_no_leak()


def test_the_rows_of_an_engine_that_may_live_are_left_alone(new_cli: NewCli, engine: Path) -> None:
    cli = new_cli(engine)
    cli.json("up", "--smoke", "none")
    rows = {t: {r[0] for r in ask(cli, f'select id from "{t}"')} for t in PARTITIONS}
    assert all(rows.values())
    kill(service(cli, "hatchet")["pid"])
    with psycopg.connect(hatchet_url(cli), application_name="server:x") as other:
        other.execute("select 1")
        document = cli.json("up", "--smoke", "none")
        assert document["status"] == "ok"
        (finding,) = (f for f in document["findings"] if f["id"] == "engine.other")
        assert finding["level"] == "warn" and "sessions of another engine" in finding["detail"]
        assert "minute" in finding["title"] and finding["hint"]
        for table, ids in rows.items():
            assert ids <= {r[0] for r in ask(cli, f'select id from "{table}"')}, "not one of them was deleted"
    (started,) = (s for s in document["steps"] if s["id"] == "engine.server")
    assert "cleared" not in started["detail"]


def test_a_frozen_engine(new_cli: NewCli, engine: Path) -> None:
    cli = new_cli(engine)
    cli.json("up", "--smoke", "none")
    ports, token, pid = cli.state["ports"], cli.secrets["token"], service(cli, "hatchet")["pid"]
    kill(pid, signal.SIGSTOP)
    document = cli.json("status", code=1)
    states = {s["id"]: s["state"] for s in document["services"]}
    assert states == {"postgres": "running", "hatchet": "not ready"}
    assert "/ready says nothing" in next(s["detail"] for s in document["services"] if s["id"] == "hatchet")

    document = cli.json("up", "--smoke", "none")
    assert document["status"] == "ok"
    (started,) = (s for s in document["steps"] if s["id"] == "engine.server")
    assert started["action"] == "update"
    assert cli.state["ports"] == ports and cli.secrets["token"] == token
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert_nothing_doubled(cli)


def test_a_killed_postgres(new_cli: NewCli, engine: Path) -> None:
    cli = new_cli(engine)
    cli.json("up", "--smoke", "none")
    url = "postgresql://" + cli.dotenv()["DATABASE_URL"].partition("://")[2]
    with psycopg.connect(url) as connection:
        connection.execute("create table note as select 'kept' as text")
    token, pid = cli.secrets["token"], service(cli, "postgres")["pid"]
    kill(pid)
    document = cli.json("status", code=1)
    states = {s["id"]: s["state"] for s in document["services"]}
    assert states["postgres"] == "stopped" and states["hatchet"] != "running"
    assert {"status.postgres", "status.hatchet"} <= {f["id"] for f in document["findings"]}

    # Its lock stays behind, and by and by somebody else has its pid.
    lock = Path(cli.state["data"]["postgres"]["base"]) / "data/postmaster.pid"
    lock.write_text(lock.read_text().replace(f"{pid}\n", f"{os.getpid()}\n", 1))
    document = cli.json("up", "--smoke", "none")
    assert document["status"] == "ok"
    assert cli.secrets["token"] == token
    assert cli("status").code == 0
    with psycopg.connect(url) as connection:
        assert connection.execute("select text from note").fetchone() == ("kept",)
    assert_nothing_doubled(cli)
    cli.assert_no_leak()


def test_an_engine_that_moved(new_cli: NewCli, engine: Path) -> None:
    """Its folder has another name now: it is started from there, with the same ports and token."""
    cli = new_cli(engine)
    cli.json("up", "--smoke", "none")
    ports, token, pid = cli.state["ports"], cli.secrets["token"], service(cli, "hatchet")["pid"]
    # Without a setting, the last one used is taken.
    assert cli.json("up", "--smoke", "none", OWLCLAW_UP_ENGINE_DIR="")["mode"] == "native"
    assert service(cli, "hatchet")["pid"] == pid

    moved = install(engine.with_name("moved"))
    shutil.rmtree(engine)
    document = cli.json("up", "--smoke", "none", OWLCLAW_UP_ENGINE_DIR=str(moved))
    assert document["status"] == "ok"
    (started,) = (s for s in document["steps"] if s["id"] == "engine.server")
    assert started["action"] == "update"
    assert cli.state["data"]["engine"]["directory"] == str(moved)
    assert cli.state["ports"] == ports and cli.secrets["token"] == token
    assert_nothing_doubled(cli)

    # Gone altogether, and nothing else at hand: said, and nothing durable is claimed.
    shutil.rmtree(moved)
    error = cli.json("up", "--require", "durable", "--offline", code=3, OWLCLAW_UP_ENGINE_DIR="")["error"]
    assert error["code"] == "durable-required" and str(moved) in error["detail"]
    assert cli("status", OWLCLAW_UP_ENGINE_DIR="").code == 0, "what runs is left alone"
    assert os.path.lexists(cli.root / ".env")
