"""What the tests of running stacks share: what Docker has of a project, images with a fault in them, what `up` did."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

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
        c.laddr.ip.removeprefix("::ffff:")
        for c in psutil.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port
    }


def bridge() -> tuple[str, str]:
    """This machine's address on Docker's bridge (the first one, which not every engine says), and where containers are."""
    said = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}").stdout.strip()
    return str(next(ipaddress.ip_network(said).hosts())), said


@contextlib.contextmanager
def bridge_of_ones_own() -> Iterator[str]:
    """A network bridge for a second Docker engine beside the one that runs; give its name.

    With `--bridge=none`, with docker0 itself, or with `--default-address-pool`, the second engine takes docker0 from the first.
    """
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    name = f"owlup{uuid4().hex[:8]}"
    ip = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if ip is None:
        pytest.skip("no bridge can be made here: apt-get install iproute2")
    subprocess.run([*root, ip, "link", "add", name, "type", "bridge"], check=True)
    try:
        address = f"10.{220 + secrets.randbelow(30)}.{secrets.randbelow(250)}.1/24"
        subprocess.run([*root, ip, "addr", "add", address, "dev", name], check=True)
        yield name
    finally:
        subprocess.run([*root, ip, "link", "delete", name], check=True)


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
