"""The registry of these tests against the real daemon: it serves, it spoils, and the gate refuses as it is told."""

from __future__ import annotations

import socket
import subprocess
import time

import pytest

from tests.docker.registry import Gate, Part, Registry, Spoiled, docker


@pytest.fixture
def reference(registry: Registry, request: pytest.FixtureRequest) -> str:
    """A small image that this machine does not have."""
    name = request.node.name.partition("[")[0].replace("_", "-")
    return registry.push("scratch", f"owlclaw/{name}:1")


def is_here(reference: str) -> bool:
    return docker("image", "inspect", reference, check=False).returncode == 0


def refused(reference: str) -> str:
    """Pull in vain and give what the daemon said."""
    ran = docker("pull", reference, check=False)
    assert ran.returncode != 0, ran.stdout
    assert not is_here(reference)
    return ran.stdout + ran.stderr


def test_a_pull_gives_what_was_pushed(registry: Registry, reference: str) -> None:
    assert not is_here(reference)
    said = docker("pull", reference).stdout
    assert "Downloaded newer image" in said
    assert is_here(reference)
    docker("rmi", reference)


def test_a_pushed_image_runs_and_fetches_its_own_layer_only(registry: Registry) -> None:
    reference = registry.push("owlclaw-up-test/postgres:17", "owlclaw/postgres:1")
    said = docker("pull", reference).stdout
    assert said.count("Pull complete") == 1
    assert "Already exists" in said
    assert "PostgreSQL" in docker("run", "--rm", reference, "postgres", "--version").stdout
    docker("rmi", reference)


@pytest.mark.parametrize("how", ["truncated", "appended", "changed", "wrong-digest"])
def test_a_spoiled_layer_is_refused_until_it_is_mended(registry: Registry, reference: str, how: Spoiled) -> None:
    registry.corrupt(reference, how)
    assert "filesystem layer verification failed for digest sha256:" in refused(reference)
    registry.mend(reference)
    docker("pull", reference)
    docker("rmi", reference)


def test_a_layer_may_be_spoiled_twice_and_is_mended_to_its_first_state(registry: Registry, reference: str) -> None:
    registry.corrupt(reference, "truncated")
    registry.corrupt(reference, "appended")
    assert "filesystem layer verification failed" in refused(reference)
    registry.mend(reference)
    docker("pull", reference)
    docker("rmi", reference)


def test_an_open_gate_is_not_noticed(gate: Gate, reference: str) -> None:
    assert not gate.asked
    behind = gate.reference(reference)
    ran = docker("pull", behind)
    assert not ran.stderr
    assert "WARNING" not in ran.stdout
    assert behind.partition("/")[2] in gate.references
    assert any(asked.part == "layers" for asked in gate.asked)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (401, "unauthorized"),
        (403, "denied"),
        (404, "manifest unknown"),
        (429, "toomanyrequests: You have reached your pull rate limit."),
        (500, "received unexpected HTTP status: 500 Internal Server Error"),
    ],
)
def test_a_gate_refuses_for_ever(gate: Gate, reference: str, status: int, text: str) -> None:
    gate.answer(status)
    behind = gate.reference(reference)
    for _ in range(2):
        assert text in refused(behind)
    assert gate.references == {behind.partition("/")[2]}
    gate.open()
    docker("pull", behind)


@pytest.mark.parametrize("status", [429, 500])
def test_a_gate_refuses_some_pulls_then_lets_pass(gate: Gate, reference: str, status: int) -> None:
    gate.answer(status, 2, retry_after=1)
    behind = gate.reference(reference)
    refused(behind)
    refused(behind)
    docker("pull", behind)


def test_a_login_is_asked_for_before_anything_else(gate: Gate, reference: str) -> None:
    gate.answer(401, part="everything")
    assert "no basic auth credentials" in refused(gate.reference(reference))
    assert not gate.references


def test_the_daemon_goes_on_after_a_gate_that_hung_up_in_the_middle(gate: Gate, reference: str) -> None:
    gate.drop(1)
    behind = gate.reference(reference)
    docker("pull", behind)
    assert sum(asked.part == "layers" and asked.method == "GET" for asked in gate.asked) == 2


def test_a_gate_that_hangs_up_on_the_manifest(gate: Gate, reference: str) -> None:
    gate.drop(part="manifests")
    assert "EOF" in refused(gate.reference(reference))


@pytest.mark.parametrize("part", ["manifests", "layers"])
def test_a_stalled_pull_waits_until_the_gate_opens(gate: Gate, reference: str, part: Part) -> None:
    gate.stall(part=part)
    behind = gate.reference(reference)
    with subprocess.Popen(
        ["docker", "pull", behind], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pull:
        try:
            deadline = time.monotonic() + 20
            while not any(asked.part == part for asked in gate.asked):
                assert pull.poll() is None
                assert time.monotonic() < deadline, gate.asked
                time.sleep(0.02)
            with pytest.raises(subprocess.TimeoutExpired):
                pull.wait(0.4)
        finally:
            pull.kill()
    assert not is_here(behind)
    gate.open()
    docker("pull", behind)


def test_nothing_is_left_behind(registry: Registry, reference: str) -> None:
    with Gate(registry) as gate:
        behind = gate.reference(reference)
        docker("pull", behind)
        assert is_here(behind)
    assert gate.address not in docker("images", "--digests").stdout
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", gate.port)):
        pass
