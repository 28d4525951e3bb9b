"""The compose files lifted by hand, as their first lines say, and what owlclaw-up makes of a stack that it finds there."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from owlclaw_up.facts.containers import compose_project
from owlclaw_up.spec import ADMIN_EMAIL, TENANT_ID
from tests.conftest import Cli, DebianPostgres
from tests.docker.conftest import BEST_IMAGE, docker_names, remove_compose_projects
from tests.docker.stacks import (
    DATABASE,
    ENGINE,
    actions,
    bridge,
    identity,
    inspect,
    lift,
    listening,
    state_of,
)

NewProject = Callable[..., Cli]
DEPLOY = Path(__file__).parents[2] / "deploy"
FULL, HATCHET_ONLY = "docker-compose.lite.yml", "docker-compose.lite.hatchet-only.yml"
TOKEN = ("exec", "-T", ENGINE, "/hatchet-admin", "token", "create", "--config", "/config")
PASSWORDS = {"LITE_POSTGRES_PASSWORD": "super-1", "LITE_HATCHET_PASSWORD": "hat-2", "LITE_OWLCLAW_PASSWORD": "owl_3"}


class Hand:
    """A person in a checkout, with `docker compose` and nothing else.

    The project has a name of its own, so that two runs of these tests do not meet.
    """

    def __init__(self, cli: Cli, file: str, **env: str) -> None:
        self.cli, self.file, self.env = cli, file, {**cli.env, **env}
        self.project = f"owlclaw-lite-{uuid4().hex[:8]}"
        shutil.copytree(DEPLOY, cli.root / "deploy", dirs_exist_ok=True)

    def compose(self, *words: str) -> str:
        ran = subprocess.run(
            ["docker", "compose", "-p", self.project, "-f", f"deploy/{self.file}", *words],
            cwd=self.cli.root, env=self.env, text=True, capture_output=True, timeout=120, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def container(self, service: str) -> str:
        return f"{self.project}-{service}-1"

    def identities(self, *services: str) -> dict[str, tuple[str, str]]:
        return {s: identity(self.container(s)) for s in services}

    def asks(self, path: str, *, token: str = "", body: object = None) -> int:
        """The status of a request to the engine's API."""
        url = f"http://localhost:{self.env['OWLCLAW_UP_DASHBOARD_PORT']}{path}"
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code

    def logs_in(self, password: str) -> int:
        return self.asks("/api/v1/users/login", body={"email": ADMIN_EMAIL, "password": password})

    def accepts(self, token: str) -> bool:
        return self.asks(f"/api/v1/tenants/{TENANT_ID}", token=token) == 200


@pytest.fixture
def hand(docker_project: NewProject) -> Iterator[Callable[..., Hand]]:
    """A maker of persons; what they lifted is removed at the end."""
    made: list[Hand] = []

    def make(image: str, file: str, **env: str) -> Hand:
        made.append(Hand(docker_project(image), file, **env))
        return made[-1]

    yield make
    remove_compose_projects({each.project for each in made})


def assert_on_loopback_only(hand: Hand, *services: str) -> None:
    published = [
        binding
        for service in services
        for bindings in inspect(hand.container(service))["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    ]
    assert {b["HostIp"] for b in published} == {"127.0.0.1"}
    names = ("DASHBOARD", "GRPC", "POSTGRES") if DATABASE in services else ("DASHBOARD", "GRPC")
    wanted = {int(hand.env[f"OWLCLAW_UP_{name}_PORT"]) for name in names}
    assert {int(b["HostPort"]) for b in published} == wanted
    for port in wanted:
        assert listening(port) == {"127.0.0.1"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("image", BEST_IMAGE)
def test_both_in_containers(hand: Callable[..., Hand], image: str) -> None:
    person = hand(image, FULL, **PASSWORDS)
    cli = person.cli
    person.compose("up", "-d", "--wait")
    before = person.identities(DATABASE, ENGINE)
    person.compose("up", "-d", "--wait")
    assert person.identities(DATABASE, ENGINE) == before
    assert_on_loopback_only(person, DATABASE, ENGINE)
    token = person.compose(*TOKEN).strip()
    assert token.count(".") == 2 and person.accepts(token)
    assert person.logs_in("Admin123!!") == 200
    assert person.logs_in("Admin123!?") != 200
    names = docker_names(person.project)

    up = cli.json("up")
    assert (up["status"], up["mode"], up["smoke"]["status"]) == ("ok", "full", "passed")
    assert "lifted by hand" in up["decision"]["why"]
    assert person.identities(DATABASE, ENGINE) == before
    assert docker_names(person.project) == names
    assert not any(docker_names(compose_project(cli.root.resolve())).values()), "no second stack"
    kept = cli.secrets["passwords"]
    assert (kept["postgres"], kept["hatchet"], kept["owlclaw"]) == tuple(PASSWORDS.values())
    assert kept["dashboard"] == "Admin123!!"
    assert "owl_3" in cli.dotenv()["DATABASE_URL"]
    assert person.accepts(cli.dotenv()["HATCHET_CLIENT_TOKEN"]) and person.accepts(token)
    assert set(actions(cli.json("up")).values()) == {"unchanged"}
    assert set(actions(cli.json("plan")).values()) == {"unchanged"}
    assert cli.json("status")["token"]["accepted"]

    # It was lifted by hand, and is ended by hand.
    result = cli("down")
    assert result.code == 0
    assert f"docker compose -p {person.project}" in result.text and f"{FULL} down" in result.text
    assert person.identities(DATABASE, ENGINE) == before
    assert set(actions(lift(cli)).values()) - {"skip"} == {"unchanged"}

    # A stopped one is started by `up`, and stopped by `down`.
    person.compose("stop")
    assert {s["state"] for s in cli.json("status", code=1)["services"]} == {"stopped"}
    back = lift(cli)
    assert actions(back)["token"] == "unchanged"
    assert person.accepts(token)
    ids = {s: i[0] for s, i in before.items()}
    assert {s: i[0] for s, i in person.identities(DATABASE, ENGINE).items()} == ids
    assert cli.json("down")["seconds"] < 10
    assert {state_of(person.container(s)) for s in (DATABASE, ENGINE)} == {"exited"}
    cli.assert_no_leak()

    cli.json("down", "--purge", "--yes")
    assert docker_names(person.project) == names
    assert sorted(p.name for p in cli.root.iterdir()) == [".git", ".gitignore", "deploy"]

    # With nothing on record, and the stack at rest, it is found again.
    again = lift(cli)
    assert again["mode"] == "full" and {s: i[0] for s, i in person.identities(DATABASE, ENGINE).items()} == ids
    ours = cli.dotenv()["HATCHET_CLIENT_TOKEN"]
    assert person.accepts(token) and person.accepts(ours)
    cli.json("down", "--purge", "--yes")
    assert {state_of(person.container(s)) for s in (DATABASE, ENGINE)} == {"exited"}
    # Its database stays, and with it their token, not ours.
    person.compose("up", "-d", "--wait")
    assert person.accepts(token) and not person.accepts(ours)
    person.compose("down", "-v")
    assert docker_names(person.project) == {"containers": set(), "volumes": set(), "networks": set()}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("image", BEST_IMAGE)
def test_the_engine_alone(
    hand: Callable[..., Hand], debian_postgres: Callable[..., DebianPostgres], image: str
) -> None:
    gateway, subnet = bridge()
    server = debian_postgres(listen_addresses=f"127.0.0.1,{gateway}")
    with (server.folder / "data/pg_hba.conf").open("a") as hba:
        hba.write(f"host hatchet hatchet {subnet} scram-sha-256\n")
    server.sql("select pg_reload_conf()")
    person = hand(image, HATCHET_ONLY, LITE_POSTGRES_PORT=str(server.port))
    cli = person.cli

    def init() -> None:
        subprocess.run(
            ["psql", "-h", "localhost", "-p", str(server.port), "-U", "postgres", "-f", "deploy/init-db.sql"],
            cwd=cli.root, env={**person.env, "PGPASSWORD": server.password}, capture_output=True, check=True,
        )  # fmt: skip

    init()
    person.compose("up", "-d", "--wait")
    before = person.identities(ENGINE)
    init()
    person.compose("up", "-d", "--wait")
    assert person.identities(ENGINE) == before
    assert_on_loopback_only(person, ENGINE)
    token = person.compose(*TOKEN).strip()
    assert token.count(".") == 2 and person.accepts(token)
    assert person.logs_in("Admin123!!") == 200
    names = docker_names(person.project)
    made_by_hand = server.dump()

    up = cli.json("up", "--admin-url", server.url())
    assert (up["status"], up["mode"], up["smoke"]["status"]) == ("ok", "hatchet-only", "passed")
    assert "lifted by hand" in up["decision"]["why"]
    assert person.identities(ENGINE) == before
    assert not any(docker_names(compose_project(cli.root.resolve())).values()), "no second stack"
    kept = cli.secrets["passwords"]
    assert (kept["hatchet"], kept["owlclaw"], kept["dashboard"]) == ("hatchet", "owlclaw", "Admin123!!")
    assert person.accepts(cli.dotenv()["HATCHET_CLIENT_TOKEN"]) and person.accepts(token)
    assert set(actions(cli.json("up")).values()) == {"unchanged"}
    result = cli("down")
    assert f"docker compose -p {person.project}" in result.text and f"{HATCHET_ONLY} down" in result.text
    assert person.identities(ENGINE) == before

    person.compose("stop")
    assert actions(lift(cli))["token"] == "unchanged"
    assert person.accepts(token)
    cli.json("down")
    assert state_of(person.container(ENGINE)) == "exited"
    cli.json("down", "--purge", "--yes")
    assert docker_names(person.project) == names
    assert sorted(p.name for p in cli.root.iterdir()) == [".git", ".gitignore", "deploy"]
    # Roles and databases of the script are the user's.
    assert server.sql("select count(*) from pg_database where datname in ('hatchet', 'owlclaw')") == [(2,)]
    assert made_by_hand.count("CREATE ROLE") == server.dump().count("CREATE ROLE")
