"""What the tests of running stacks share: what Docker has of a project, images with a fault in them, what `up` did."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from tests.conftest import Cli
from tests.docker.registry import docker

DATABASE, ENGINE = "owlclaw-db", "hatchet-lite"
PORT_NAMES = ("DASHBOARD", "GRPC", "POSTGRES")


def actions(document: dict[str, Any]) -> dict[str, str]:
    return {s["id"]: s["action"] for s in document["steps"]}


def details(document: dict[str, Any]) -> dict[str, str]:
    return {s["id"]: s["detail"] for s in document["steps"]}


def lift(cli: Cli, *args: str, **how: Any) -> dict[str, Any]:
    """`up` without a proof; give the document."""
    return cli.json("up", "--smoke", "none", *args, **how)


def fails(cli: Cli, *args: str, code: int = 4, **how: Any) -> dict[str, Any]:
    """`up` fails with an error that says what happened and what to do."""
    document = lift(cli, *args, code=code, **how)
    error: dict[str, Any] = document["error"]
    assert document["status"] == "failed"
    assert error["message"] and error["hint"]
    return error


def project_of(cli: Cli) -> str:
    name: str = cli.state["data"]["compose"]["project"]
    return name


def container_of(cli: Cli, service: str) -> str:
    return f"{project_of(cli)}-{service}-1"


def inspect(container: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(docker("container", "inspect", container).stdout)
    return found[0]


def identity(container: str) -> tuple[str, str]:
    """Changes when a container is another one, or was started anew."""
    seen = inspect(container)
    return seen["Id"], seen["State"]["StartedAt"]


def state_of(container: str) -> str:
    return str(inspect(container)["State"]["Status"])


def ask(cli: Cli, query: str, database: str = "hatchet") -> str:
    """What the stack's PostgreSQL answers its superuser."""
    words = ("exec", container_of(cli, DATABASE), "psql", "-U", "postgres", "-d", database, "-Atqc", query)
    return docker(*words).stdout.strip()


def service(cli: Cli, id: str, code: int | None = 0) -> dict[str, Any]:
    document = cli.json("status", code=code)
    found: dict[str, Any] = next(s for s in document["services"] if s["id"] == id)
    return found


def listening(port: int) -> set[str]:
    """The addresses of this machine on which somebody listens."""
    return {
        c.laddr.ip for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port
    }


def wait_for(what: str, good: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not good():
        assert time.monotonic() < end, f"{what} did not happen within {seconds} s"
        time.sleep(0.05)


@contextlib.contextmanager
def derived(image: str, *recipe: str, **files: str) -> Iterator[str]:
    """An image made from another one; gone at the end, when nobody uses it any more.

    Args:
        recipe: lines of a Dockerfile after FROM.
        files: texts by name, for COPY.
    """
    import tempfile

    name = f"owlclaw-up-test/derived:{uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as folder:
        for file, text in files.items():
            (Path(folder) / file).write_text(text)
        (Path(folder) / "Dockerfile").write_text("\n".join([f"FROM {image}", *recipe, ""]))
        docker("build", "--quiet", "--network", "none", "--tag", name, folder)
    try:
        yield name
    finally:
        docker("rmi", "--force", name, check=False)


def faulty(image: str, faults: str, text: str = "") -> contextlib.AbstractContextManager[str]:
    """The stand-in engine with faults switched on, by the files that it reads at every decision."""
    return derived(image, "COPY fault /standin/fault", "COPY text /standin/fault-text", fault=faults, text=text)


def assert_nothing_left(cli: Cli, project: str, volumes: Sequence[str] = ()) -> None:
    """A purge took everything of the project, in Docker and in the folder."""
    from tests.docker.conftest import docker_names

    assert docker_names(project) == {"containers": set(), "volumes": set(volumes), "networks": set()}
    assert sorted(p.name for p in cli.root.iterdir()) == [".git", ".gitignore"]
