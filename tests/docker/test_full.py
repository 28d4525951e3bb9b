"""Mode `full`: PostgreSQL and the engine in containers, from an empty folder to a proven stack and back to nothing."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg
import pytest

from tests.conftest import Cli, processes_in
from tests.docker.conftest import BEST_IMAGE, POSTGRES_IMAGE, docker_names, remove_compose_projects
from tests.docker.registry import docker
from tests.docker.stacks import (
    DATABASE,
    ENGINE,
    PORT_NAMES,
    actions,
    ask,
    assert_nothing_left,
    container_of,
    details,
    identity,
    inspect,
    lift,
    listening,
    project_of,
    service,
    state_of,
)
from tests.e2e.test_native import FOREIGN, stranger

NewProject = Callable[..., Cli]
BOTH = (DATABASE, ENGINE)


class CommandLines:
    """Every command line that this machine sees while the block runs."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        known: set[int] = set()
        while not self._end.wait(0.01):
            living = set(psutil.pids())
            for pid in living - known:
                try:
                    self.seen.add(Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace"))
                except OSError:
                    continue
            known = living

    def __enter__(self) -> CommandLines:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


@pytest.fixture
def bystander(need_docker: None, tmp_path: Path) -> Iterator[str]:
    """Somebody else's stack, by compose, with a container that runs, a volume and a network; give its project's name."""
    name = f"owlclaw-bystander-{uuid4().hex[:8]}"
    file = tmp_path / "compose.yml"
    each = {"image": POSTGRES_IMAGE, "command": ["sleep", "600"], "volumes": ["kept:/kept"], "init": True}
    file.write_text(json.dumps({"services": {DATABASE: each}, "volumes": {"kept": {}}}))
    docker("compose", "-p", name, "-f", str(file), "up", "-d")
    yield name
    remove_compose_projects({name})


def assert_published_on_loopback_only(cli: Cli) -> None:
    ports = cli.state["ports"]
    published = {}
    for service_name in BOTH:
        for inside, bindings in inspect(container_of(cli, service_name))["NetworkSettings"]["Ports"].items():
            for binding in bindings or ():
                assert binding["HostIp"] == "127.0.0.1"
                published[inside] = int(binding["HostPort"])
    assert published == {"8888/tcp": ports["dashboard"], "7077/tcp": ports["grpc"], "5432/tcp": ports["postgres"]}
    for port in published.values():
        assert listening(port) == {"127.0.0.1"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("image", BEST_IMAGE)
def test_from_an_empty_folder_to_a_proven_stack_and_back(
    docker_project: NewProject, bystander: str, image: str
) -> None:
    others = docker_names(bystander)
    theirs = identity(f"{bystander}-{DATABASE}-1")
    cli = docker_project(image)
    (cli.root / ".env").write_bytes(FOREIGN)
    plan = cli.json("plan")
    assert (plan["mode"], plan["decision"]["source"]) == ("full", "auto")
    assert (cli.root / ".env").read_bytes() == FOREIGN
    assert not (cli.root / ".owlclaw-up").exists()

    with CommandLines() as lines:
        first = cli.json("up", "--require", "durable")
    assert (first["status"], first["mode"], first["smoke"]["status"]) == ("ok", "full", "passed")
    assert [p["id"] for p in first["smoke"]["proofs"]] == ["sql", "connect", "register", "run", "durable_sleep", "rest"]
    assert first["decision"]["source"] == "auto"
    project, state = project_of(cli), cli.state
    assert any("compose" in line and project in line for line in lines.seen)
    for secret in cli.secret_texts():
        assert not [line for line in lines.seen if secret in line]
    assert_published_on_loopback_only(cli)
    token = cli.dotenv()["HATCHET_CLIENT_TOKEN"]
    assert token == cli.dotenv()["HATCHET_API_TOKEN"]
    assert stranger(cli)["nap"] == {"slept": "1"}
    with psycopg.connect(cli.dotenv()["DATABASE_URL"].replace("+asyncpg", "")) as connection:
        extensions = {row[0] for row in connection.execute("select extname from pg_extension").fetchall()}
        connection.execute("create table kept ()")
    assert {"vector", "pgcrypto"} <= extensions

    containers = {s: identity(container_of(cli, s)) for s in BOTH}
    again = cli.json("up")
    assert set(actions(again).values()) == {"unchanged"}
    assert again["smoke"]["kept_since"]
    plan = cli.json("plan")
    assert set(actions(plan).values()) == {"unchanged"} and plan["changes"] is False
    assert {s: identity(container_of(cli, s)) for s in BOTH} == containers
    assert cli.dotenv()["HATCHET_CLIENT_TOKEN"] == token

    stopped = cli.json("down")
    assert stopped["seconds"] <= 6
    assert {state_of(container_of(cli, s)) for s in BOTH} == {"exited"}
    assert docker_names(project)["volumes"] == {f"{project}_owlclaw-db-data", f"{project}_hatchet-config"}
    # The token's keys come by environment: what else the engine has written down may go.
    docker("rm", container_of(cli, ENGINE))
    docker("volume", "rm", f"{project}_hatchet-config")
    back = lift(cli)
    assert actions(back)["token"] == "unchanged"
    assert "leases cleared" in details(back)["engine.server"]
    assert cli.state["ports"] == state["ports"]
    assert cli.dotenv()["HATCHET_CLIENT_TOKEN"] == token
    # The leases of the engine that was stopped would hold this back for a minute.
    assert stranger(cli)["first"] < 20
    assert ask(cli, "select to_regclass('public.kept')", "owlclaw") == "kept"
    cli.assert_no_leak()

    # What has our project's name and was not made by us is not ours.
    docker("volume", "create", "--label", f"com.docker.compose.project={project}", f"{project}_theirs")
    docker("volume", "create", f"{project}_owlclaw-db-data-old")
    try:
        cli.json("down", "--purge", "--yes")
        assert_nothing_left_but(cli, project)
        assert f"{project}_owlclaw-db-data-old" in docker("volume", "ls", "-q").stdout.split()
    finally:
        docker("volume", "rm", f"{project}_theirs", f"{project}_owlclaw-db-data-old", check=False)
    assert docker_names(bystander) == others
    assert identity(f"{bystander}-{DATABASE}-1") == theirs
    for port in state["ports"].values():
        assert not listening(port)


def assert_nothing_left_but(cli: Cli, project: str) -> None:
    """Everything is gone but the user's own `.env` and volume."""
    assert docker_names(project) == {"containers": set(), "volumes": {f"{project}_theirs"}, "networks": set()}
    assert (cli.root / ".env").read_bytes() == FOREIGN
    assert not (cli.root / ".owlclaw-up").exists()
    assert processes_in(cli.root) == []


@pytest.mark.timeout(200)
def test_every_command_knows_a_stack_in_containers(docker_project: NewProject) -> None:
    cli = docker_project()
    lift(cli)
    project, ports = project_of(cli), cli.state["ports"]

    shown = cli.json("status")
    assert shown["mode"] == "full" and shown["token"]["accepted"]
    seen = {s["id"]: s for s in shown["services"]}
    assert seen["postgres"]["container"] == container_of(cli, DATABASE)
    assert seen["hatchet"]["container"] == container_of(cli, ENGINE)
    assert {s["state"] for s in seen.values()} == {"running"}
    assert (seen["hatchet"]["port"], seen["postgres"]["port"]) == (ports["dashboard"], ports["postgres"])
    assert shown["endpoints"]["dashboard"] == f"http://localhost:{ports['dashboard']}"

    whole = cli("logs", "postgres", "--tail", "100000").stdout.splitlines()
    assert any("database system is ready to accept connections" in line for line in whole)
    assert cli("logs", "postgres", "--tail", "2").stdout.splitlines() == whole[-2:]
    assert cli("logs", "postgres", "--since", "2000-01-01").stdout.splitlines()[-2:] == whole[-2:]
    assert not cli("logs", "postgres", "--since", "2100-01-01").stdout.strip()
    assert any("goose" in line for line in cli("logs", "hatchet", "--tail", "100000").stdout.splitlines())
    everything = cli("logs").stdout
    assert all(label in everything for label in ("postgres", "hatchet", "up"))

    exported = cli("env", "--export").stdout
    assert cli.dotenv()["HATCHET_CLIENT_TOKEN"] not in exported
    revealed = cli("env", "--export", "--reveal").stdout
    assert cli.dotenv()["HATCHET_CLIENT_TOKEN"] in revealed
    assert cli("env", "--diff").code == 0
    opened = cli("open", "--no-browser")
    assert opened.code == 0 and f"http://localhost:{ports['dashboard']}" in opened.stdout
    assert cli.secrets["passwords"]["dashboard"] in cli("open", "--no-browser", "--reveal").stdout
    assert_reported(cli)
    containers = {s: identity(container_of(cli, s)) for s in BOTH}
    proved = cli.json("smoke")
    assert proved["smoke"]["status"] == "passed"
    assert {s: identity(container_of(cli, s)) for s in BOTH} == containers

    cli("down")
    assert service(cli, "hatchet", code=1)["state"] == "stopped"
    assert service(cli, "postgres", code=1)["state"] == "stopped"
    lift(cli)
    cli.assert_no_leak()

    ask(cli, "create table doomed ()", "owlclaw")
    token, before = cli.dotenv()["HATCHET_CLIENT_TOKEN"], docker_names(project)
    fresh = cli.json("reset", "--yes", "--smoke", "none")
    assert fresh["status"] == "ok" and fresh["mode"] == "full"
    assert cli.dotenv()["HATCHET_CLIENT_TOKEN"] != token
    assert not before["containers"] & docker_names(project)["containers"]
    assert ask(cli, "select to_regclass('public.doomed')", "owlclaw") == ""
    cli.json("down", "--purge", "--yes")
    assert_nothing_left(cli, project)
    assert cli.json("down", "--purge", "--yes")["nothing"] is True


def assert_reported(cli: Cli) -> None:
    """A bundle has the containers' logs and the compose file as it is rendered, and no secret in it."""
    with zipfile.ZipFile(cli.json("report", "--bundle", "--output", str(cli.root.parent))["path"]) as opened:
        files = {name: opened.read(name).decode() for name in opened.namelist()}
    rendered = files["compose.yml"]
    assert f"name: {project_of(cli)}" in rendered
    assert "POSTGRES_PASSWORD: '***'" in rendered
    assert "postgresql://hatchet:***@owlclaw-db:5432/hatchet" in rendered
    assert "ready to accept connections" in files[f"logs/container-{container_of(cli, DATABASE)}.log"]
    assert container_of(cli, ENGINE) in files["owlclaw-up-report.html"]
    for secret in cli.secret_texts():
        assert not [name for name, text in files.items() if secret in text]


def test_two_checkouts_side_by_side(docker_project: NewProject) -> None:
    """With the default ports free for all: each gets its own, and neither's purge touches the other."""
    both = [docker_project(), docker_project()]
    for cli in both:
        for name in PORT_NAMES:
            del cli.env[f"OWLCLAW_UP_{name}_PORT"]
    # At one moment: both see the same ports free, and where one comes too late it may go on with others.
    children = [cli.start("up", "--smoke", "none", "--json") for cli in both]
    for child in children:
        document = json.loads(child.communicate(timeout=100)[0])
        assert document["status"] == "ok" or document["error"]["code"] == "port-taken", document
    one, other = both
    for cli in both:
        lift(cli)
    theirs = [
        {n: p for n, p in cli.state["ports"].items() if n in ("dashboard", "grpc", "postgres")} for cli in (one, other)
    ]
    assert len({*theirs[0].values(), *theirs[1].values()}) == 6
    assert project_of(one) != project_of(other)
    kept = {s: identity(container_of(other, s)) for s in BOTH}
    kept_names, token, project = (
        docker_names(project_of(other)),
        other.dotenv()["HATCHET_CLIENT_TOKEN"],
        project_of(one),
    )

    one.json("down", "--purge", "--yes")
    assert_nothing_left(one, project)
    assert docker_names(project_of(other)) == kept_names
    assert {s: identity(container_of(other, s)) for s in BOTH} == kept
    assert other.json("status")["token"]["accepted"]
    assert set(actions(lift(other)).values()) - {"skipped", "skip"} == {"unchanged"}
    assert other.dotenv()["HATCHET_CLIENT_TOKEN"] == token
