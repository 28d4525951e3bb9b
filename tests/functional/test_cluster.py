"""A small cluster of native engines: started, killed one by one, more and fewer; and what is handed over to a bigger one."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from owlclaw_up.host.hatchet import HatchetEngine
from owlclaw_up.model import Secret
from owlclaw_up.spec import EMBEDDED_MAX_CONNECTIONS
from tests.conftest import Cli, DebianPostgres, command_lines, kill
from tests.faults import Patient
from tests.standin import install


@pytest.fixture(scope="module")
def environment(new_module_cli: Callable[..., Cli], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Two engines, of a stand-in whose ghosts hold work back for a moment only."""
    engine = install(tmp_path_factory.mktemp("engine"))
    lite = engine / "hatchet-lite"
    lite.write_text(lite.read_text().replace("export STANDIN_HOME", "export STANDIN_GHOST_SECONDS=1 STANDIN_HOME"))
    cli = new_module_cli(engine)
    cli.json("up", "--engines", "2")
    yield cli


@pytest.fixture
def cluster(environment: Cli) -> Cli:
    """Both run, whatever the test before has done."""
    environment.json("up", "--engines", "2", "--smoke", "none")
    return environment


def services(cli: Cli, code: int = 0) -> dict[str, dict[str, Any]]:
    return {s["id"]: s for s in cli.json("status", code=code)["services"]}


def engines(cli: Cli) -> dict[int, dict[str, Any]]:
    """What `status` says of each engine, by its number."""
    return {e["number"]: e for e in cli.json("status", code=None)["engines"]}


def pids(cli: Cli) -> dict[int, int]:
    return {number: engine["pid"] for number, engine in engines(cli).items()}


def actions(document: dict[str, Any]) -> dict[str, str]:
    return {s["id"]: s["action"] for s in document["steps"] if s["id"].startswith("engine.")}


def ask(cli: Cli, query: str) -> Any:
    password, port = cli.secrets["passwords"]["hatchet"], cli.state["ports"]["postgres"]
    with psycopg.connect(f"postgresql://hatchet:{password}@127.0.0.1:{port}/hatchet") as connection:
        row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None


def test_both_answer_and_take_the_one_token(cluster: Cli) -> None:
    seen = services(cluster)
    assert [seen[name]["state"] for name in ("hatchet", "hatchet-2")] == ["running", "running"]
    assert seen["hatchet"]["pid"] != seen["hatchet-2"]["pid"]
    both = engines(cluster)
    assert both[1]["grpc"] == f"localhost:{cluster.state['ports']['grpc']}"
    token = Secret(cluster.dotenv()["HATCHET_CLIENT_TOKEN"])
    for engine in both.values():
        assert HatchetEngine().grpc_version(engine["grpc"], token).state == "ok"
        assert (
            HatchetEngine().rest_tenant(engine["dashboard"], cluster.dotenv()["HATCHET_CLIENT_TENANT_ID"], token).state
            == "ok"
        )
    assert cluster.dotenv()["HATCHET_CLIENT_HOST_PORT"] == both[1]["grpc"], "the first one's, as ever"
    # Room for every pool of both, and more.
    assert int(ask(cluster, "show max_connections")) == EMBEDDED_MAX_CONNECTIONS
    again = cluster.json("up", "--smoke", "none")
    assert set(actions(again).values()) == {"unchanged"}
    assert Patient(cluster).well(), "two engines of ours are no others', and no leftovers"


def test_a_killed_fellow_is_missed_by_nobody_and_started_again(cluster: Cli) -> None:
    before = pids(cluster)
    kill(before[2])
    document = cluster.json("status", code=1)
    assert {s["id"]: s["state"] for s in document["services"]}["hatchet-2"] == "stopped"
    assert not [f for f in document["findings"] if f["id"] == "status.engines"]
    found = Patient(cluster).finding("engine.running")
    assert (found.level, found.title, found.command) == ("warn", "engine 2 of 2 is not running", "owlclaw-up")
    alive = ask(cluster, 'select count(*) from "SchedulerPartition"')
    # Work goes on by the first one's addresses.
    assert cluster.json("smoke")["smoke"]["status"] == "passed"
    back = cluster.json("up", "--smoke", "none")
    assert actions(back)["engine.server"] == "unchanged"
    assert actions(back)["engine.server.2"] == "create"
    after = pids(cluster)
    assert after[1] == before[1] and after[2] != before[2]
    # The living one's rows are still there.
    assert ask(cluster, 'select count(*) from "SchedulerPartition"') >= alive >= 1


def test_without_the_first_one_status_says_where_the_other_is(cluster: Cli) -> None:
    before = engines(cluster)
    kill(before[1]["pid"])
    document = cluster.json("status", code=1)
    finding = next(f for f in document["findings"] if f["id"] == "status.engines")
    assert "engine 1" in finding["title"]
    assert before[2]["grpc"] in finding["detail"] and before[2]["dashboard"] in finding["detail"]
    assert "HATCHET_CLIENT_HOST_PORT" in finding["detail"]
    back = cluster.json("up")
    assert (actions(back)["engine.server"], actions(back)["engine.server.2"]) == ("create", "unchanged")
    assert back["smoke"]["status"] == "passed"
    assert pids(cluster)[2] == before[2]["pid"]


def test_more_and_fewer_without_touching_the_first(cluster: Cli) -> None:
    before, ports = pids(cluster), cluster.state["data"]["engine.2"]["ports"]
    more = cluster.json("up", "--engines", "3", "--smoke", "none")
    assert actions(more) == {**dict.fromkeys(actions(more), "unchanged"), "engine.server.3": "create"}
    three = pids(cluster)
    assert (three[1], three[2]) == (before[1], before[2])
    # The number stays until another one is asked for.
    assert set(actions(cluster.json("up", "--smoke", "none")).values()) == {"unchanged"}
    fewer = cluster.json("up", "--engines", "1", "--smoke", "none")
    assert actions(fewer)["engine.server.2"] == actions(fewer)["engine.server.3"] == "remove"
    document = cluster.json("status")
    assert "engines" not in document
    assert {s["id"]: s["pid"] for s in document["services"]}["hatchet"] == before[1]
    assert not [r for r in cluster.state["receipts"] if r["identity"].get("name") in ("engine.2", "engine.3")]
    cluster.json("up", "--engines", "2", "--smoke", "none")
    assert cluster.state["data"]["engine.2"]["ports"] == ports


def test_logs_name_the_engine(environment: Cli) -> None:
    shown = environment("logs", "hatchet", "--tail", "3")
    assert {line.split(" | ")[0].strip() for line in shown.stdout.splitlines()} >= {"hatchet", "hatchet-2"}


def test_down_ends_them_all_and_up_brings_as_many_back(cluster: Cli) -> None:
    done = cluster.json("down")
    assert [s["id"] for s in done["steps"]][-3:] == ["engine.server.2", "engine.server", "postgres.server"]
    assert not [line for line in command_lines(cluster.root) if "hatchet" in line]
    assert {n: e["state"] for n, e in engines(cluster).items()} == {1: "stopped", 2: "stopped"}
    up = cluster.json("up", "--smoke", "none")
    assert actions(up)["engine.server.2"] == "create"
    # Nobody was alive any more, so the first one cleared what the dead had left.
    assert "leases cleared" in next(s["detail"] for s in up["steps"] if s["id"] == "engine.server")
    assert {s["state"] for s in services(cluster).values()} == {"running"}


def test_what_cannot_be_several_is_refused(
    mock_cli: Cli, standin_dir: Path, debian_postgres: Callable[..., DebianPostgres]
) -> None:
    refused = mock_cli.json("up", "--mode", "mock", "--engines", "2", code=3)
    assert refused["error"]["code"] == "engines-native"
    assert mock_cli.json("up", "--engines", "9", code=2)["error"]["code"] == "bad-setting"
    server = debian_postgres(max_connections="100")
    few = mock_cli.json(
        "up", "--engines", "2", "--engine-dir", str(standin_dir), "--admin-url", server.url(), code=3
    )  # fmt: skip
    assert few["error"]["code"] == "postgres-connections"
    assert "110" in few["error"]["message"] and "100" in few["error"]["message"]
    assert not (mock_cli.root / ".owlclaw-up").exists()


def test_what_a_cluster_needs_is_written(environment: Cli) -> None:
    done = environment.json(
        "export", "helm", "--server-url", "https://hatchet.example.com", "--grpc-address", "e.example.com:443"
    )
    assert (done["chart"], done["image_tag"], done["tokens_stay_good"]) == ("hatchet-ha", "v0.107.2", False)
    paths = {name: environment.root / done[name] for name in ("values", "secret")}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in paths.values())
    values, keys = (yaml.safe_load(path.read_text()) for path in paths.values())
    assert values["sharedConfig"]["serverUrl"] == "https://hatchet.example.com"
    for name, kept in environment.secrets["engine"].items():
        assert keys["stringData"][name] == kept
    assert keys["stringData"]["ADMIN_PASSWORD"] == environment.secrets["passwords"]["dashboard"]
    assert environment.secrets["passwords"]["hatchet"] in keys["stringData"]["DATABASE_URL"]
    assert not [secret for secret in environment.secret_texts() if secret in paths["values"].read_text()]
    # The database is on this machine, and that is said.
    assert [f for f in done["findings"] if "DATABASE_URL" in f["title"]]

    shown = environment("export", "helm", "--yes", "--chart", "hatchet-stack")
    assert shown.code == 0 and "hatchet-stack" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) < 160 and len(shown.stdout.splitlines()) <= 24
    printed = environment("export", "helm", "--output", "-", "--yes")
    assert (
        yaml.safe_load(printed.stdout)["sharedConfig"]["serverUrl"]
        == f"http://localhost:{environment.state['ports']['dashboard']}"
    )
    environment.assert_no_leak()


def test_nothing_is_overwritten_and_no_key_is_lost_to_git(environment: Cli) -> None:
    mine = environment.root / "values.yaml"
    mine.write_text("# mine\n")
    here = ("--output", "values.yaml")
    refused = environment.json("export", "helm", *here, code=3)
    assert refused["error"]["code"] == "export" and mine.read_text() == "# mine\n"
    environment.json("export", "helm", *here, "--yes")
    # The same again is no other file.
    environment.json("export", "helm", *here)
    assert "git" in environment.json("export", "helm", *here, "--secret", "keys.yaml", code=3)["error"]["message"]
    assert not (environment.root / "keys.yaml").exists()
    assert environment.json("export", "helm", "--secret", "-", code=2)["error"]["code"] == "usage"
    revealed = environment("export", "helm", *here, "--secret", "-", "--reveal")
    assert yaml.safe_load(revealed.stdout)["kind"] == "Secret"
    mine.unlink()
    environment.assert_no_leak()


def test_mock_has_nothing_to_hand_over(mock_cli: Cli) -> None:
    assert mock_cli.json("export", "helm", code=3)["error"]["code"] == "no-environment"
    mock_cli.json("up", "--smoke", "none")
    assert mock_cli.json("export", "helm", code=3)["error"]["code"] == "export"
