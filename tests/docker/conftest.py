"""What the Docker tests share: an engine that answers, projects that use it, a registry of their own.

The images are made by `build-images` beside this file, from Debian packages, without any image registry.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.docker.registry import Gate, Registry, docker

STANDIN_IMAGE = "owlclaw-up-test/hatchet-lite:standin"
POSTGRES_IMAGE = "owlclaw-up-test/postgres:17"
_REAL = "ghcr.io/hatchet-dev/hatchet/hatchet-lite:v0.107.2"
_WORKING_DIR = "com.docker.compose.project.working_dir"
_PROJECT = "com.docker.compose.project"


def _real_image() -> str:
    """The real engine's image, where somebody has put it on this machine; nobody is asked for it."""
    try:
        ran = docker("image", "inspect", "--format", "{{.Id}}", _REAL, seconds=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return _REAL if ran.returncode == 0 else ""


REAL_IMAGE = _real_image()
# For `pytest.mark.parametrize("image", ENGINE_IMAGES)`: on a machine without the real one it is not collected.
ENGINE_IMAGES = [
    pytest.param(STANDIN_IMAGE, id="standin"),
    *([pytest.param(REAL_IMAGE, id="real", marks=pytest.mark.real_engine)] if REAL_IMAGE else []),
]
# Half a minute each: with the real engine where there is one, else with the stand-in, which `test_images` holds to it.
BEST_IMAGE = ENGINE_IMAGES[-1:]


@pytest.fixture(scope="session")
def need_docker() -> None:
    """Skip where no Docker engine answers or its test images are missing (CI has both, and fails on skips)."""
    if shutil.which("docker") is None or docker("version", seconds=20, check=False).returncode != 0:
        pytest.skip("no Docker engine answers: .ci/docker")
    for image in (STANDIN_IMAGE, POSTGRES_IMAGE):
        if docker("image", "inspect", image, check=False).returncode != 0:
            pytest.skip(f"no image {image}: tests/docker/build-images")


def docker_names(project: str = "") -> dict[str, set[str]]:
    """What the engine has that can be left behind, for before-and-after comparisons.

    Args:
        project: only of this compose project. Without it, tests that run beside this one are seen too.
    """
    only = ("--filter", f"label={_PROJECT}={project}") if project else ()
    return {
        "containers": set(docker("ps", "-aq", "--no-trunc", *only).stdout.split()),
        "volumes": set(docker("volume", "ls", "-q", *only).stdout.split()),
        "networks": set(docker("network", "ls", "-q", "--no-trunc", *only).stdout.split()),
    }


def _labels(*listing: str) -> dict[str, dict[str, str]]:
    """The labels of everything in a listing, by name."""
    inspect = {"ps": "container", "volume": "volume", "network": "network"}[listing[0]]
    names = docker(*listing).stdout.split()
    if not names:
        return {}
    # Something may be gone since the listing; the rest is printed all the same.
    said = json.loads(docker(inspect, "inspect", *names, check=False).stdout or "[]")
    found: dict[str, dict[str, str]] = {}
    for each in said:
        labels: dict[str, str] = (each["Config"] if inspect == "container" else each).get("Labels") or {}
        found[each["Id"] if inspect == "container" else each["Name"]] = labels
    return found


def compose_projects_of(root: Path) -> set[str]:
    """The compose projects of a folder: what containers say, and what its own files say of volumes and networks."""
    below = {
        labels[_PROJECT]
        for labels in _labels("ps", "-aq").values()
        if Path(labels.get(_WORKING_DIR, "/")).is_relative_to(root)
    }
    notes = root / ".owlclaw-up"
    text = "".join(f.read_text(errors="replace") for f in notes.glob("*") if f.suffix in (".json", ".yml", ".env"))
    both = {**_labels("volume", "ls", "-q"), **_labels("network", "ls", "-q")}
    named = {labels[_PROJECT] for labels in both.values() if _PROJECT in labels}
    return below | {name for name in named if name in text}


def remove_compose_projects(names: set[str]) -> None:
    """Remove containers, volumes and networks of compose projects; nothing else."""
    for listing, removal in (
        (("ps", "-aq"), ("rm", "-f", "-v")),
        (("volume", "ls", "-q"), ("volume", "rm")),
        (("network", "ls", "-q"), ("network", "rm")),
    ):
        doomed = [name for name, labels in _labels(*listing).items() if labels.get(_PROJECT) in names]
        if doomed:
            docker(*removal, *doomed, check=False)


@contextlib.contextmanager
def docker_projects(new_cli: Callable[..., Cli]) -> Iterator[Callable[..., Cli]]:
    """A maker of projects on a machine with Docker and no PostgreSQL; purged at the end, with all that is theirs."""
    made: list[Cli] = []

    def make(image: str = STANDIN_IMAGE, **env: str) -> Cli:
        cli = new_cli(
            PGHOST="/nonexistent", OWLCLAW_UP_HATCHET_IMAGE=image, OWLCLAW_UP_POSTGRES_IMAGE=POSTGRES_IMAGE, **env
        )
        if "DOCKER_HOST" not in env:
            # As the tests themselves have it.
            del cli.env["DOCKER_HOST"]
            cli.env |= {
                k: v for k, v in os.environ.items() if k in ("DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY")
            }
        made.append(cli)
        return cli

    yield make
    for cli in made:
        projects = compose_projects_of(cli.root)
        with contextlib.suppress(subprocess.TimeoutExpired):
            cli("down", "--purge", "--yes", timeout=120)
        remove_compose_projects(projects | compose_projects_of(cli.root))


@pytest.fixture
def docker_project(need_docker: None, new_cli: Callable[..., Cli]) -> Iterator[Callable[..., Cli]]:
    """A maker of projects for one test."""
    with docker_projects(new_cli) as make:
        yield make


@pytest.fixture(scope="module")
def docker_module_project(need_docker: None, new_module_cli: Callable[..., Cli]) -> Iterator[Callable[..., Cli]]:
    """A maker of projects that the tests of a module share."""
    with docker_projects(new_module_cli) as make:
        yield make


@pytest.fixture(scope="session")
def registry(need_docker: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry for the session: an image's large layers travel once."""
    if shutil.which("docker-registry") is None:
        pytest.skip("no image registry to test with: apt-get install docker-registry")
    with Registry(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture
def gate(registry: Registry) -> Iterator[Gate]:
    """A gate before the registry, open at first."""
    with Gate(registry) as started:
        yield started
