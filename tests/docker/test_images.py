"""The images as such: what the product may count on, on the stand-in and, where it is on this machine, the real engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

import pytest

from owlclaw_up.spec import TENANT_ID
from tests.docker.conftest import ENGINE_IMAGES, POSTGRES_IMAGE
from tests.docker.registry import docker

READY_SECONDS = 60.0
MINE = "dev.owlclaw.images-test"
_ENGINE = {
    "DATABASE_URL": "postgresql://hatchet:p@db:5432/hatchet?sslmode=disable",
    "PGTZ": "UTC",
    "SERVER_URL": "http://localhost:8888",
    "SERVER_GRPC_BROADCAST_ADDRESS": "localhost:7077",
    "SERVER_GRPC_BIND_ADDRESS": "0.0.0.0",
    "SERVER_GRPC_PORT": "7077",
    "SERVER_GRPC_INSECURE": "t",
    "SERVER_AUTH_COOKIE_DOMAIN": "localhost",
    "SERVER_AUTH_COOKIE_INSECURE": "t",
    "SERVER_MSGQUEUE_KIND": "postgres",
    "SERVER_SECURITY_CHECK_ENABLED": "false",
}


@dataclass
class Stack:
    """Containers and volumes on a network of their own; no port is published."""

    name: str

    def run(
        self, service: str, image: str, *options: str, command: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> str:
        """Start a container that others know by its service; give its name."""
        variables = [word for key, value in (env or {}).items() for word in ("--env", f"{key}={value}")]
        container = f"{self.name}-{service}"
        docker(
            "run", "--detach", "--label", f"{MINE}={self.name}", "--name", container, "--network", self.name,
            "--network-alias", service, *options, *variables, image, *command,
        )  # fmt: skip
        return container

    def volume(self, name: str) -> str:
        docker("volume", "create", "--label", f"{MINE}={self.name}", f"{self.name}-{name}")
        return f"{self.name}-{name}"

    def inside(self, container: str, *words: str, check: bool = True) -> str:
        return docker("exec", container, *words, check=check).stdout.strip()

    def database(self, *, volume: str, **env: str) -> str:
        """Start PostgreSQL and wait until it answers by TCP, which it does not before it has initialised itself."""
        container = self.run("db", POSTGRES_IMAGE, "--volume", f"{volume}:/var/lib/postgresql/data", env=env)
        until(container, lambda: "accepting" in self.inside(container, "pg_isready", "-h", "127.0.0.1", check=False))
        return container

    def sql(self, container: str, query: str) -> str:
        return self.inside(container, "psql", "-U", "postgres", "-Atqc", query)

    def engine(self, image: str, *, volume: str, **env: str) -> str:
        """Start an engine and wait until its API answers."""
        container = self.run("engine", image, "--volume", f"{volume}:/config", env={**_ENGINE, **env})
        until(container, lambda: self.status(container, "http://127.0.0.1:8888/api/ready") == "200")
        return container

    def status(self, container: str, url: str, *options: str) -> str:
        return self.inside(container, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *options, url, check=False)

    def accepts(self, container: str, token: str) -> bool:
        """Whether the engine's API takes a token."""
        url = f"http://127.0.0.1:8888/api/v1/tenants/{TENANT_ID}"
        return self.status(container, url, "-H", f"Authorization: Bearer {token}") == "200"

    def token(self, container: str) -> str:
        return self.inside(container, "/hatchet-admin", "token", "create", "--config", "/config")

    def keys(self, container: str) -> str:
        return self.inside(container, "grep", "-E", "eyset: |secrets: ", "/config/server.yaml")

    def remove(self, container: str) -> None:
        docker("rm", "--force", "--volumes", container)


def until(container: str, good: Callable[[], bool]) -> None:
    """Wait for something, as long as the container that it is about runs."""
    deadline = time.monotonic() + READY_SECONDS
    while not good():
        running = docker("inspect", "--format", "{{.State.Running}}", container).stdout.strip()
        logs = docker("logs", container)
        assert running == "true", logs.stdout + logs.stderr
        assert time.monotonic() < deadline, logs.stdout + logs.stderr
        time.sleep(0.1)


def exit_code(container: str) -> int:
    return int(docker("wait", container, seconds=READY_SECONDS).stdout)


@pytest.fixture
def stack(need_docker: None) -> Iterator[Stack]:
    """An empty stack; whatever the test put into it is removed."""
    name = f"owlclaw-images-test-{uuid4().hex[:8]}"
    docker("network", "create", "--label", f"{MINE}={name}", name)
    yield Stack(name)
    for listing, removal in (("ps", ("rm", "-f", "-v")), ("volume", ("volume", "rm")), ("network", ("network", "rm"))):
        words = ("ps", "-aq") if listing == "ps" else (listing, "ls", "-q")
        doomed = docker(*words, "--filter", f"label={MINE}={name}").stdout.split()
        if doomed:
            docker(*removal, *doomed)


@pytest.fixture
def hatchet_database(stack: Stack) -> str:
    """A server with an empty database of the engine's."""
    container = stack.database(volume=stack.volume("data"), POSTGRES_PASSWORD="p")
    stack.sql(container, "CREATE ROLE hatchet LOGIN PASSWORD 'p'")
    stack.sql(container, "CREATE DATABASE hatchet OWNER hatchet")
    return container


class TestPostgres:
    def test_a_first_start_makes_what_the_environment_says(self, stack: Stack) -> None:
        container = stack.database(
            volume=stack.volume("data"), POSTGRES_USER="postgres", POSTGRES_PASSWORD="secret", POSTGRES_DB="mine"
        )
        assert stack.sql(container, "SELECT count(*) FROM pg_database WHERE datname = 'mine'") == "1"
        assert stack.sql(container, "SELECT name FROM pg_available_extensions WHERE name = 'vector'") == "vector"
        url = "postgresql://postgres:{}@db:5432/mine"
        assert stack.inside(container, "psql", url.format("secret"), "-Atqc", "SELECT 1") == "1"
        assert stack.inside(container, "psql", url.format("wrong"), "-Atqc", "SELECT 1", check=False) == ""

    def test_a_volume_that_has_data_is_used_as_it_is(self, stack: Stack) -> None:
        volume = stack.volume("data")
        container = stack.database(volume=volume, POSTGRES_PASSWORD="first")
        stack.sql(container, "CREATE TABLE kept (); CREATE ROLE kept")
        stack.remove(container)
        container = stack.database(volume=volume, POSTGRES_PASSWORD="second", POSTGRES_DB="other")
        assert stack.sql(container, "SELECT to_regclass('kept')") == "kept"
        assert stack.sql(container, "SELECT count(*) FROM pg_database WHERE datname = 'other'") == "0"
        wanted = stack.inside(container, "psql", "postgresql://postgres:first@db/postgres", "-Atqc", "SELECT 1")
        assert wanted == "1"

    def test_without_a_password_it_says_so(self, stack: Stack) -> None:
        container = stack.run("db", POSTGRES_IMAGE)
        assert exit_code(container) == 1
        assert "superuser password is not specified" in docker("logs", container).stderr

    def test_it_stops_at_once_and_well(self, stack: Stack) -> None:
        container = stack.database(volume=stack.volume("data"), POSTGRES_PASSWORD="p")
        docker("stop", container)
        assert exit_code(container) == 0
        assert "database system is shut down" in docker("logs", container).stderr


@pytest.mark.parametrize("image", ENGINE_IMAGES)
class TestEngine:
    def test_it_is_shaped_as_the_product_expects(self, stack: Stack, image: str) -> None:
        wanted = ("/hatchet-lite", "/hatchet-admin", "/hatchet-migrate", "/entrypoint.sh", "/static-assets/index.html")
        container = stack.run("engine", image, command=("test", "-s", "/static-assets/index.html"))
        assert exit_code(container) == 0
        stack.remove(container)
        tests = " && ".join(f"[ -s {file} ]" for file in wanted)
        tools = "command -v bash curl psql && [ $PWD = / ] && [ $LITE_RUNTIME_PORT = 8888 ]"
        container = stack.run("engine", image, command=("bash", "-c", f"{tests} && {tools}"))
        assert exit_code(container) == 0
        said = docker("inspect", "--format", "{{json .Config.ExposedPorts}} {{.Config.Cmd}}", image).stdout
        assert "7070/tcp" in said
        assert "8888/tcp" in said
        assert "[./entrypoint.sh]" in said

    def test_it_makes_its_keys_once_and_keeps_them_in_its_volume(
        self, stack: Stack, hatchet_database: str, image: str
    ) -> None:
        volume = stack.volume("config")
        first = stack.engine(image, volume=volume)
        token, keys = stack.token(first), stack.keys(first)
        assert keys.count("eyset: eyJ") == 3
        assert stack.accepts(first, token)
        assert not stack.accepts(first, f"{token}x")
        stack.remove(first)
        second = stack.engine(image, volume=volume)
        assert stack.keys(second) == keys
        assert stack.accepts(second, token)

    def test_a_new_volume_is_a_new_identity(self, stack: Stack, hatchet_database: str, image: str) -> None:
        first = stack.engine(image, volume=stack.volume("one"))
        token = stack.token(first)
        stack.remove(first)
        second = stack.engine(image, volume=stack.volume("other"))
        assert not stack.accepts(second, token)
        assert stack.accepts(second, stack.token(second))

    def test_keys_of_the_environment_win_over_those_of_the_volume(
        self, stack: Stack, hatchet_database: str, image: str
    ) -> None:
        volume = stack.volume("config")
        first = stack.engine(image, volume=volume)
        made = stack.inside(first, "/hatchet-admin", "keyset", "create-local-keys").splitlines()
        old = stack.token(first)
        stack.remove(first)
        given = {
            "SERVER_ENCRYPTION_MASTER_KEYSET": made[1],
            "SERVER_ENCRYPTION_JWT_PRIVATE_KEYSET": made[3],
            "SERVER_ENCRYPTION_JWT_PUBLIC_KEYSET": made[5],
            "SERVER_AUTH_COOKIE_SECRETS": f"{'a' * 16} {'b' * 16}",
        }
        second = stack.engine(image, volume=volume, **given)
        assert not stack.accepts(second, old)
        assert stack.accepts(second, stack.token(second))
        # They are written down too, so that the volume alone is enough from now on.
        assert made[1] in stack.keys(second)

    def test_what_cannot_migrate_ends(self, stack: Stack, image: str) -> None:
        database = stack.database(volume=stack.volume("data"), POSTGRES_PASSWORD="p")
        stack.sql(database, "CREATE ROLE hatchet LOGIN PASSWORD 'p'")
        stack.sql(database, "CREATE DATABASE hatchet")
        container = stack.run("engine", image, env=_ENGINE)
        assert exit_code(container) == 1
        logs = docker("logs", container)
        assert "Migration script failed. Exiting..." in logs.stdout
        assert "permission denied" in logs.stdout + logs.stderr

    def test_a_failing_quickstart_is_passed_over(self, stack: Stack, hatchet_database: str, image: str) -> None:
        container = stack.engine(image, volume=stack.volume("config"), ADMIN_PASSWORD="weak")
        logs = docker("logs", container)
        assert "Error running [quickstart]:could not run seed: ADMIN_PASSWORD does not meet" in logs.stdout
        assert stack.keys(container).count("eyset: eyJ") == 3

    def test_it_ends_at_once(self, stack: Stack, hatchet_database: str, image: str) -> None:
        container = stack.engine(image, volume=stack.volume("config"))
        begun = time.monotonic()
        docker("stop", container)
        assert time.monotonic() - begun < 8, "Docker kills after 10 s"
        assert exit_code(container) == 0
