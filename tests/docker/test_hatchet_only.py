"""Mode `hatchet-only`: the engine in a container, on a PostgreSQL of this machine, the user's own or one of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli, DebianPostgres, processes_in
from tests.docker.conftest import BEST_IMAGE, docker_names
from tests.docker.registry import docker
from tests.docker.stacks import (
    ENGINE,
    actions,
    assert_nothing_left,
    bridge,
    container_of,
    details,
    fails,
    identity,
    inspect,
    lift,
    listening,
    project_of,
    state_of,
)
from tests.e2e.test_native import FOREIGN, stranger

NewProject = Callable[..., Cli]
NewServer = Callable[..., DebianPostgres]


@pytest.fixture
def gateway(need_docker: None) -> str:
    """The address of this machine on Docker's bridge."""
    return bridge()[0]


@pytest.fixture
def subnet(need_docker: None) -> str:
    """Where containers on Docker's bridge are."""
    return bridge()[1]


def pg_variables(server: DebianPostgres) -> dict[str, str]:
    return {"PGHOST": "localhost", "PGPORT": str(server.port), "PGUSER": "postgres", "PGPASSWORD": server.password}


def admit(server: DebianPostgres, text: str) -> None:
    """Replace the lines of pg_hba.conf."""
    (server.folder / "data/pg_hba.conf").write_text(text)
    server.sql("select pg_reload_conf()")


def findings(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f["id"]: f for f in document["findings"]}


def exposed(cli: Cli) -> set[int]:
    """The engine's ports on which somebody listens beyond loopback."""
    ports = {port for purpose, port in cli.state["ports"].items() if purpose != "postgres"}
    return {port for port in ports if listening(port) - {"127.0.0.1", "::1"}}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("image", BEST_IMAGE)
def test_on_the_users_own_server_that_listens_on_loopback_only(
    docker_project: NewProject, debian_postgres: NewServer, image: str
) -> None:
    server = debian_postgres(password="密码 p@ss/w:rd")
    server.sql("create database theirs")
    server.sql("create table kept as select generate_series(1, 100) as n", "theirs")
    before = server.dump()
    cli = docker_project(image)
    cli.env |= pg_variables(server)
    (cli.root / ".env").write_bytes(FOREIGN)

    up = cli.json("up", "--require", "durable")
    assert (up["status"], up["mode"], up["smoke"]["status"]) == ("ok", "hatchet-only", "passed")
    assert up["decision"]["source"] == "auto"
    order = [s["id"] for s in up["steps"]]
    assert actions(up)["database.hatchet"] == "create"
    assert order.index("postgres.reach") < order.index("database.hatchet") < order.index("engine.server")
    assert "this machine's own network" in details(up)["postgres.reach"]
    ports = cli.state["ports"]
    said = findings(up)["docker.host-network"]
    for purpose in ("dashboard", "api", "frontend", "health"):
        assert str(ports[purpose]) in said["title"]
    assert str(ports["grpc"]) not in said["title"]
    assert listening(ports["grpc"]) == {"127.0.0.1"}
    assert inspect(container_of(cli, ENGINE))["HostConfig"]["NetworkMode"] == "host"
    assert exposed(cli) == {ports[p] for p in ("dashboard", "api", "frontend", "health")}
    assert server.sql("show timezone") == [("Asia/Shanghai",)]
    token, project = cli.dotenv()["HATCHET_CLIENT_TOKEN"], project_of(cli)
    assert cli.dotenv()["OWLCLAW_PG_PORT"] == str(server.port)

    container = identity(container_of(cli, ENGINE))
    again = cli.json("up")
    assert set(actions(again).values()) == {"unchanged"}
    assert identity(container_of(cli, ENGINE)) == container
    assert cli.json("status")["token"]["accepted"]

    stopped = cli.json("down")
    assert stopped["seconds"] <= 6, stopped["steps"]
    assert state_of(container_of(cli, ENGINE)) == "exited"
    back = lift(cli)
    assert "leases cleared" in details(back)["engine.server"]
    assert cli.state["ports"] == ports
    assert cli.dotenv()["HATCHET_CLIENT_TOKEN"] == token
    ran = stranger(cli)
    assert ran["nap"] == {"slept": "1"} and ran["first"] < 20
    cli.assert_no_leak()

    cli.json("down", "--purge", "--yes")
    assert server.dump() == before
    assert docker_names(project) == {"containers": set(), "volumes": set(), "networks": set()}
    assert (cli.root / ".env").read_bytes() == FOREIGN
    assert not (cli.root / ".owlclaw-up").exists()


def test_on_a_server_that_lets_docker_s_bridge_in(
    docker_project: NewProject, debian_postgres: NewServer, gateway: str, subnet: str
) -> None:
    server = debian_postgres(listen_addresses=f"127.0.0.1,{gateway}")
    admit(
        server,
        f"host all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 scram-sha-256\n"
        f"host hatchet hatchet {subnet} scram-sha-256\n",
    )
    before = server.dump()
    cli = docker_project()
    up = lift(cli, "--admin-url", server.url())
    assert (up["status"], up["mode"]) == ("ok", "hatchet-only")
    assert "host.docker.internal" in details(up)["postgres.reach"]
    assert "docker.host-network" not in findings(up)
    assert exposed(cli) == set()
    assert inspect(container_of(cli, ENGINE))["HostConfig"]["NetworkMode"] == "bridge"
    assert set(actions(lift(cli)).values()) - {"skip"} == {"unchanged"}

    # The server goes back to loopback: the way is looked for anew, and the token stays.
    token = cli.dotenv()["HATCHET_CLIENT_TOKEN"]
    cli.json("down")
    admit(server, "host all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 scram-sha-256\n")
    moved = lift(cli)
    assert "docker.host-network" in findings(moved)
    assert cli.dotenv()["HATCHET_CLIENT_TOKEN"] == token
    cli.assert_no_leak()
    cli.json("down", "--purge", "--yes")
    assert server.dump() == before


def test_a_server_that_lets_no_container_in(
    docker_project: NewProject, debian_postgres: NewServer, gateway: str, subnet: str
) -> None:
    server = debian_postgres()
    admit(server, "host all postgres 127.0.0.1/32 scram-sha-256\n")
    before = server.dump()
    cli = docker_project()
    error = fails(cli, "--admin-url", server.url(), code=3)
    assert error["code"] == "postgres-unreachable-from-container"
    lines = error["hint"].splitlines()
    data = server.folder / "data"
    assert f"  {data}/postgresql.conf:  listen_addresses = 'localhost, {gateway}'" in lines
    assert f"  {data}/pg_hba.conf:  host hatchet hatchet {subnet} scram-sha-256" in lines
    assert "no pg_hba.conf entry" in error["detail"] and "network bridge" in error["detail"]
    assert server.dump() == before
    assert_nothing_left_behind(cli)

    # The lines of the hint, as a user puts them there, are enough.
    with (data / "postgresql.conf").open("a") as conf:
        conf.write(f"listen_addresses = 'localhost, {gateway}'\n")
    server.tool("pg_ctl", "-D", str(data), "-m", "fast", "-w", "stop")
    server.tool(
        "pg_ctl", "-D", str(data), "-w", "-l", str(server.folder / "log"),
        "-o", f"-p {server.port} -k {server.folder} -c fsync=off", "start",
    )  # fmt: skip
    error = fails(cli, "--admin-url", server.url(), code=3)
    assert "listen_addresses" not in error["hint"], "it listens already"
    wanted = f"host hatchet hatchet {subnet} scram-sha-256"
    assert f"  {data}/pg_hba.conf:  {wanted}" in error["hint"].splitlines()
    admit(
        server,
        f"host all postgres 127.0.0.1/32 scram-sha-256\n{wanted}\n"
        "host owlclaw owlclaw 127.0.0.1/32 scram-sha-256\nhost hatchet hatchet 127.0.0.1/32 scram-sha-256\n",
    )
    up = lift(cli, "--admin-url", server.url())
    assert "host.docker.internal" in details(up)["postgres.reach"]
    cli.json("down", "--purge", "--yes")
    assert server.dump() == before


def assert_nothing_left_behind(cli: Cli) -> None:
    assert sorted(p.name for p in cli.root.iterdir()) == [".git", ".gitignore"]
    asked = docker("ps", "-aq", "--filter", "label=dev.owlclaw.one-off").stdout.split()
    labels = [inspect(c)["Config"]["Labels"].get("dev.owlclaw.project", "") for c in asked]
    assert not [label for label in labels if cli.root.name in label]


@pytest.mark.timeout(300)
def test_on_an_embedded_server_with_native_before_and_after(
    docker_project: NewProject, standin_dir: Path, gateway: str, subnet: str
) -> None:
    """The data, the keys and the token are the same, whoever runs the engine."""
    cli = docker_project(OWLCLAW_UP_ENGINE_DIR=str(standin_dir))

    up = cli.json("up", "--mode", "hatchet-only")
    assert (up["status"], up["mode"], up["smoke"]["status"]) == ("ok", "hatchet-only", "passed")
    ports, project = cli.state["ports"], project_of(cli)
    base = Path(cli.state["data"]["postgres"]["base"])
    hba = base / "data/pg_hba.conf"
    assert listening(ports["postgres"]) >= {"127.0.0.1", gateway}
    assert "0.0.0.0" not in listening(ports["postgres"])
    ours = [line for line in hba.read_text().splitlines() if subnet in line]
    assert len(ours) == 1 and ours[0].startswith(f"host hatchet hatchet {subnet} scram-sha-256")
    assert "docker.host-network" not in findings(up)
    assert exposed(cli) == set()
    token = cli.dotenv()["HATCHET_CLIENT_TOKEN"]
    assert set(actions(cli.json("up")).values()) == {"unchanged"}
    assert cli.json("up", "--smoke", "none")["mode"] == "hatchet-only"

    native = lift(cli, "--mode", "native")
    assert native["mode"] == "native" and actions(native)["token"] == "unchanged"
    assert state_of(container_of(cli, ENGINE)) == "exited"
    assert cli.dotenv()["HATCHET_CLIENT_TOKEN"] == token
    assert cli.json("status")["token"]["accepted"]
    assert set(actions(lift(cli, "--mode", "native")).values()) - {"skip"} == {"unchanged"}
    # From its next start on, nothing but loopback leads to the server.
    cli.json("down")
    lift(cli, "--mode", "native")
    assert subnet not in hba.read_text()
    assert listening(ports["postgres"]) <= {"127.0.0.1", "::1"}

    back = lift(cli, "--mode", "hatchet-only")
    assert back["mode"] == "hatchet-only" and actions(back)["token"] == "unchanged"
    assert "leases cleared" in details(back)["engine.server"]
    assert cli.dotenv()["HATCHET_CLIENT_TOKEN"] == token
    assert cli.state["ports"]["postgres"] == ports["postgres"]
    assert stranger(cli)["first"] < 20
    cli.assert_no_leak()

    # Mock needs no engine: it does not run on unnoticed.
    assert lift(cli, "--mode", "mock")["mode"] == "mock"
    assert state_of(container_of(cli, ENGINE)) == "exited"

    cli.json("down", "--purge", "--yes")
    (cli.root / "stranger.log").unlink()
    assert_nothing_left(cli, project)
    assert not base.exists()
    assert processes_in(cli.root) == []
