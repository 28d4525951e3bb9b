"""Containers and volumes of a checkout whose state was lost, in a real Docker engine."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest

from owlclaw_up.facts.containers import DATABASE, ENGINE, compose_project
from tests.conftest import Cli
from tests.docker.conftest import POSTGRES_IMAGE, docker_names, remove_compose_projects
from tests.docker.registry import docker
from tests.faults import Patient

FAMILY = ("leftovers.containers", "leftovers.volumes", "leftovers.receipts", "leftovers.processes", "leftovers.files")


@pytest.fixture
def patient(docker_project: Callable[..., Cli]) -> Iterator[Patient]:
    """A checkout that has never been up, with what compose made of it before its folder was lost."""
    cli = docker_project()
    project = compose_project(cli.root)
    label = ("--label", f"com.docker.compose.project={project}")
    volume = f"{project}_owlclaw-db-data"
    docker("volume", "create", *label, "--label", "com.docker.compose.volume=owlclaw-db-data", volume)
    for service, more in ((DATABASE, ("-v", f"{volume}:/data")), (ENGINE, ())):
        name, what = f"{project}-{service}-1", ("--label", f"com.docker.compose.service={service}")
        docker(
            "run", "-d", "--init", "--name", name, *label, *what, *more, "--entrypoint", "sleep", POSTGRES_IMAGE, "300"
        )
    yield Patient(cli)
    remove_compose_projects({project})


def test_what_a_lost_state_has_left_in_docker(patient: Patient) -> None:
    project = compose_project(patient.cli.root)
    volume = f"{project}_owlclaw-db-data"
    first = patient.finding("leftovers.containers", *FAMILY)
    assert (first.level, first.command) == ("fail", "owlclaw-up doctor --fix"), "nobody has the passwords of its data"
    for service in (DATABASE, ENGINE):
        assert f"{project}-{service}-1" in first.title
        assert f"{project}-{service}-1: {POSTGRES_IMAGE}, running" in first.detail
    assert patient.last is not None
    second = next(f for f in patient.last.findings if f.id == "leftovers.volumes")
    assert (second.cause, second.fix) == ("leftovers.containers", "")
    assert volume in second.title

    patient.mend("leftovers.containers")
    left = docker_names(project)
    assert (left["containers"], left["volumes"]) == (set(), {volume}), "data is not removed"
    finding = patient.finding("leftovers.volumes", *FAMILY)
    assert shlex.split(finding.command)[-1] == volume and finding.level == "fail" and not finding.fix
    if shutil.which("docker"):
        subprocess.run(["/bin/sh", "-c", finding.command], check=True, env=patient.cli.env, capture_output=True)
    assert docker_names(project)["volumes"] == set()
    assert patient.well(*FAMILY)
