"""The whole way, as a user goes it: an empty folder, `owlclaw-up`, a program of their own, again, down, up, purge.

One body for the stand-in and, wherever one is on the machine, the real engine.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import REAL_ENGINE_DIR, Cli, DebianPostgres, processes_in

STRANGER = Path(__file__).with_name("stranger.py")
FOREIGN = b"# mine\r\nFOO='bar baz'\nexport X=1 # keep\n\nHATCHET_API_TOKEN=\n"


@pytest.fixture(params=["standin", *(["real"] if REAL_ENGINE_DIR else [])])
def engine_dir(request: pytest.FixtureRequest, standin_dir: Path) -> Path:
    return standin_dir if request.param == "standin" else Path(REAL_ENGINE_DIR)


def stranger(cli: Cli) -> dict[str, Any]:
    env = {k: v for k, v in cli.env.items() if not k.startswith(("HATCHET", "OWLCLAW", "DATABASE"))}
    ran = subprocess.run(
        [sys.executable, str(STRANGER)], cwd=cli.root, env=env, text=True, capture_output=True, timeout=160, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def actions(document: dict[str, Any]) -> dict[str, str]:
    return {s["id"]: s["action"] for s in document["steps"]}


@pytest.mark.timeout(400)
def test_from_an_empty_folder_to_a_proven_environment_and_back(new_cli: Callable[..., Cli], engine_dir: Path) -> None:
    cli = new_cli(engine_dir)
    (cli.root / ".env").write_bytes(FOREIGN)

    first = cli.json("up", "--require", "durable")
    assert (first["status"], first["mode"], first["smoke"]["status"]) == ("ok", "native", "passed")
    assert [p["id"] for p in first["smoke"]["proofs"]] == ["sql", "connect", "register", "run", "durable_sleep", "rest"]
    token = cli.dotenv()["HATCHET_CLIENT_TOKEN"]
    assert token == cli.dotenv()["HATCHET_API_TOKEN"]
    text = (cli.root / ".env").read_bytes()
    for line in FOREIGN.splitlines(keepends=True)[:3]:
        assert line in text
    assert stranger(cli)["nap"] == {"slept": "1"}

    again = cli.json("up")
    assert set(actions(again).values()) == {"unchanged"}
    assert again["smoke"]["kept_since"]
    plan = cli.json("plan")
    assert set(actions(plan).values()) == {"unchanged"}
    assert cli.dotenv()["HATCHET_CLIENT_TOKEN"] == token
    state = cli.state
    assert cli("status").code == 0

    cli.json("down")
    assert cli("status").code == 1
    back = cli.json("up", "--smoke", "none")
    assert actions(back)["token"] == "unchanged"
    assert cli.state["ports"] == state["ports"]
    assert cli.dotenv()["HATCHET_CLIENT_TOKEN"] == token
    # The leases of the engine that was stopped would hold this back for a minute.
    assert stranger(cli)["first"] < 20

    database = cli.dotenv()["DATABASE_URL"].replace("+asyncpg", "")
    with psycopg.connect(database) as connection:
        extensions = {row[0] for row in connection.execute("select extname from pg_extension").fetchall()}
    assert {"vector", "pgcrypto"} <= extensions
    cli.assert_no_leak()

    cli.json("down", "--purge", "--yes")
    assert (cli.root / ".env").read_bytes() == FOREIGN
    assert not (cli.root / ".owlclaw-up").exists()
    assert not Path(state["data"]["postgres"]["base"]).exists()
    assert processes_in(cli.root) == []
    for port in state["ports"].values():
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.timeout(300)
def test_on_the_users_own_server(
    new_cli: Callable[..., Cli], engine_dir: Path, debian_postgres: Callable[..., DebianPostgres]
) -> None:
    server = debian_postgres(password="密码 p@ss/w:rd")
    server.sql("create database theirs")
    server.sql("create table kept as select generate_series(1, 100) as n", "theirs")
    before = server.dump()
    cli = new_cli(engine_dir)

    up = cli.json("up", "--admin-url", server.url(scheme="postgres"))
    assert (up["status"], up["mode"], up["smoke"]["status"]) == ("ok", "native", "passed")
    assert cli.dotenv()["OWLCLAW_PG_PORT"] == str(server.port)
    assert stranger(cli)["task"] == {"pong": "1"}
    assert server.sql("show timezone") == [("Asia/Shanghai",)]
    assert set(actions(cli.json("up")).values()) == {"unchanged"}
    cli.assert_no_leak()

    cli.json("down", "--purge", "--yes")
    assert server.dump() == before
