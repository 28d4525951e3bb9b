"""What is made of what was seen of Docker and of our containers, where that cannot be had here: other platforms, what only
time brings, and each threshold. Made faults are in `tests/docker/test_faults_docker.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.checks import BY_ID
from owlclaw_up.checks.base import Evidence, Seen
from owlclaw_up.facts import DatabasesLook, DockerFacts, StackLook
from owlclaw_up.facts.containers import DATABASE, ENGINE
from owlclaw_up.facts.docker_health import DockerHealth
from owlclaw_up.host.base import Ran
from owlclaw_up.host.docker_base import Compose, ContainerLook, DockerLook, EngineInfo, ImageLook
from owlclaw_up.model import Absent, Decision, Found, Mode, Unknown
from owlclaw_up.settings import DEFAULT_HATCHET_IMAGE, DEFAULT_POSTGRES_IMAGE, load
from tests.unit.fakes import NOW, make_facts, make_ledger, make_server

LOOK = DockerLook(
    "unix:///var/run/docker.sock", "28.2.2", "the system's engine", Compose(("/usr/bin/docker", "compose"), "2.29.1"),
    "amd64", "172.17.0.1", "172.17.0.0/16",
)  # fmt: skip
INFO = EngineInfo("vm", "Debian GNU/Linux 12 (bookworm)", "/var/lib/docker", rootless=False)
IMAGES: Mapping[str, ImageLook | None] = {
    DEFAULT_HATCHET_IMAGE: ImageLook("sha256:1", "amd64"), DEFAULT_POSTGRES_IMAGE: ImageLook("sha256:2", "amd64"),
}  # fmt: skip


def container(service: str, **values: Any) -> ContainerLook:
    """One that has run for a day."""
    usual: dict[str, Any] = {
        "id": service, "name": f"stack-{service}-1", "service": service, "state": "running", "exit_code": 0,
        "oom_killed": False, "restarts": 0, "started_at": began(86400), "image": "", "ports": {}, "environment": {},
        "labels": {},
    }  # fmt: skip
    return ContainerLook(**{**usual, **values})


def began(seconds: float) -> str:
    """So long ago, as Docker says it."""
    return datetime.fromtimestamp(NOW - seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")


def evidence(
    root: Path, *containers: ContainerLook, mode: Mode = Mode.FULL, health: DockerHealth | None = None,
    images: Mapping[str, ImageLook | None] = IMAGES, env: Mapping[str, str] | None = None, **facts: Any,
) -> Evidence:  # fmt: skip
    """An environment that stands on an engine that is well, with these containers in place of those that are."""
    services = {c.service: c for c in (container(DATABASE), container(ENGINE), *containers)}
    docker = DockerFacts(LOOK, images, "stack", services, {"stack_owlclaw-db-data": "owlclaw-db-data"})
    usual: dict[str, Any] = {"docker": Found(docker), "docker_health": Found(health or DockerHealth(INFO))}
    seen = make_facts(root, **{**usual, **facts})
    return Evidence(seen, load(root, {}, env or {}), make_ledger(root), mode, True, None, None, (), None, NOW)


def look(check: str, seen: Evidence) -> list[Seen]:
    return list(BY_ID[check].look(seen))


def only(check: str, seen: Evidence) -> Seen:
    (one,) = look(check, seen)
    return one


# The reasons why an engine cannot be driven, and whose fault each is.
KINDS = {
    "missing": "docker.installed", "stopped": "docker.running", "mute": "docker.running", "odd": "docker.running",
    "permission": "docker.permission", "host": "docker.context", "elsewhere": "docker.context",
    "context": "docker.context", "old": "docker.version", "compose": "docker.compose",
}  # fmt: skip


class TestReached:
    @pytest.mark.parametrize("kind", KINDS)
    def test_each_reason_is_one_check_s(self, tmp_path: Path, kind: str) -> None:
        why = Unknown("it does not answer", "sudo systemctl start docker", kind)
        seen = evidence(tmp_path, docker=why, docker_health=why)
        said = {name: look(name, seen) for name in set(KINDS.values())}
        assert {name: [s.level for s in looks] for name, looks in said.items() if looks} == {KINDS[kind]: ["fail"]}

    @pytest.mark.parametrize(
        ("hint", "command"),
        [
            ("sudo systemctl start docker", "sudo systemctl start docker"),
            ("open -a Docker (Docker Desktop), or: colima start", ""),
            ("start Docker Desktop", ""),
        ],
    )
    def test_the_way_to_start_it_is_a_command_on_linux(self, tmp_path: Path, hint: str, command: str) -> None:
        seen = only("docker.running", evidence(tmp_path, docker=Absent("it is not running", hint, "stopped")))
        assert (seen.title, seen.hint, seen.command) == ("It is not running", hint, command)

    @pytest.mark.parametrize(("durable", "levels"), [(False, ["info"]), (True, [])])
    def test_a_mode_without_docker_hears_of_it_where_it_would_help(
        self, tmp_path: Path, durable: bool, levels: list[str]
    ) -> None:
        mode = Mode.NATIVE if durable else Mode.MOCK
        seen = evidence(tmp_path, mode=mode, docker=Absent("it is not installed", "install it", "missing"))
        seen = dataclasses.replace(seen, decision=Decision(mode, "auto", "", (), durable))
        assert [s.level for s in look("docker.installed", seen)] == levels

    def test_a_context_that_was_passed_over(self, tmp_path: Path) -> None:
        health = DockerHealth(INFO, context="colima")
        seen = only("docker.context", evidence(tmp_path, health=health))
        assert (seen.level, seen.command) == ("info", "docker context use default")
        assert "colima" in seen.title


@pytest.mark.parametrize(
    ("named", "level"),
    [("", "ok"), ("linux/amd64", "ok"), ("linux/x86_64", "ok"), ("linux/arm64/v8", "warn"), ("nonsense", "ok")],
)
def test_platform(tmp_path: Path, named: str, level: str) -> None:
    assert only("docker.platform", evidence(tmp_path, health=DockerHealth(INFO, platform=named))).level == level


def test_an_image_for_another_machine_that_runs_is_emulated(tmp_path: Path) -> None:
    images = {**IMAGES, DEFAULT_HATCHET_IMAGE: ImageLook("sha256:1", "arm64")}
    assert only("docker.images", evidence(tmp_path, images=images)).level == "warn"
    ended = evidence(tmp_path, container(ENGINE, state="exited"), images=images)
    assert only("docker.images", ended).level == "fail"


@pytest.mark.parametrize(
    ("helpers", "level"),
    [
        ({}, "ok"),
        ({"": "docker-credential-desktop"}, "warn"),
        ({"ghcr.io": "docker-credential-x"}, "warn"),
        ({"https://index.docker.io/v1/": "docker-credential-x"}, "warn"),
        ({"registry.example:5000": "docker-credential-x"}, "ok"),
    ],
)
def test_login(tmp_path: Path, helpers: Mapping[str, str], level: str) -> None:
    health = DockerHealth(INFO, config=Path("/home/me/.docker/config.json"), helpers=helpers)
    assert only("docker.login", evidence(tmp_path, health=health)).level == level


@pytest.mark.parametrize(
    ("free", "pulled", "level"),
    [(5000, False, "ok"), (1500, False, "ok"), (1500, True, "fail"), (1000, False, "warn"), (100, False, "fail")],
)
def test_storage(tmp_path: Path, free: int, pulled: bool, level: str) -> None:
    seen = evidence(tmp_path, health=DockerHealth(INFO, free_mib=free), images={} if pulled else IMAGES)
    assert only("docker.storage", seen).level == level


def test_storage_on_another_machine_is_not_judged(tmp_path: Path) -> None:
    assert look("docker.storage", evidence(tmp_path)) == []


def test_rootless_that_lingers_is_well(tmp_path: Path) -> None:
    info = dataclasses.replace(INFO, rootless=True)
    assert only("docker.rootless", evidence(tmp_path, health=DockerHealth(info, lingers=True))).level == "ok"
    assert only("docker.rootless", evidence(tmp_path, health=DockerHealth(info, lingers=False))).level == "info"


def test_docker_desktop_that_mounts_the_project_all_the_same(tmp_path: Path) -> None:
    """On macOS: Docker Desktop there is another program, and its folders are those of that system."""
    health = DockerHealth(INFO, shared=(Path("/Users"), Path("/Volumes")))
    assert look("docker.file-sharing", evidence(tmp_path, health=health)) == []
    gone = evidence(tmp_path, container(DATABASE, state="exited"), health=health)
    assert "/Users, /Volumes" in only("docker.file-sharing", gone).detail


@pytest.mark.parametrize(
    ("values", "level"),
    [
        ({"restarts": 1, "started_at": began(5)}, "fail"),
        ({"restarts": 5, "state": "exited", "exit_code": 1}, "fail"),
        ({"restarts": 2, "state": "restarting", "started_at": ""}, "fail"),
        ({"restarts": 1, "started_at": began(600)}, "warn"),
        ({"restarts": 1, "started_at": began(86400)}, "info"),
    ],
)
def test_restarts(tmp_path: Path, values: dict[str, Any], level: str) -> None:
    seen = evidence(tmp_path, container(ENGINE, **values))
    assert only("container.restarts", seen).level == level
    assert [s.level for s in look("container.stopped", seen)] == ["ok"]


def test_restarts_show_the_line_that_says_why(tmp_path: Path) -> None:
    words = ("starting", "FATAL: password authentication failed for user", "bye")
    health = DockerHealth(INFO, words={ENGINE: words})
    seen = only("container.restarts", evidence(tmp_path, container(ENGINE, restarts=5, state="exited"), health=health))
    assert words[1] in seen.detail and words[2] not in seen.detail
    assert (seen.command, seen.fix) == ("owlclaw-up status", None)


@pytest.mark.parametrize(
    ("values", "level", "command"),
    [
        ({"state": "exited"}, "fail", "owlclaw-up"),
        ({"state": "running", "started_at": began(5)}, "fail", "owlclaw-up"),
        ({"state": "running"}, "warn", "owlclaw-up"),
        ({"state": "exited", "memory_limit": 64}, "fail", f"docker rm -f stack-{DATABASE}-1 && owlclaw-up"),
    ],
)
def test_out_of_memory(tmp_path: Path, values: dict[str, Any], level: str, command: str) -> None:
    seen = only("container.out-of-memory", evidence(tmp_path, container(DATABASE, oom_killed=True, **values)))
    assert (seen.level, seen.command) == (level, command)


def test_created_and_never_started(tmp_path: Path) -> None:
    seen = only("container.stopped", evidence(tmp_path, container(ENGINE, state="created", started_at="")))
    assert seen.title.endswith("is made, and was never started")


def test_exposed_in_a_stack_that_was_lifted_by_hand(tmp_path: Path) -> None:
    seen = evidence(tmp_path, container(DATABASE, exposed={5432: "::"}))
    seen.ledger.directory.mkdir()
    seen.ledger.remember("compose", adopted=True, project="owlclaw-lite", file="deploy/x.yml")
    one = only("container.exposed", seen)
    assert (one.level, one.fix) == ("warn", None)
    assert "5432 on ::" in one.title and one.command == "docker compose -p owlclaw-lite -f deploy/x.yml up -d"


class TestFromContainer:
    def seen(self, root: Path, engine: ContainerLook, *, ready: bool = False, **health: Any) -> Evidence:
        environment = {
            "DATABASE_URL": "postgresql://hatchet:secret-word@host.docker.internal:5433/hatchet?sslmode=prefer"
        }
        stack = StackLook(on_server=DatabasesLook(Found(make_server())), engine_ready=ready)
        return evidence(
            root, dataclasses.replace(engine, environment=environment), mode=Mode.HATCHET_ONLY,
            health=DockerHealth(INFO, **health), stack=stack,
        )  # fmt: skip

    def test_well(self, tmp_path: Path) -> None:
        assert only("postgres.from-container", self.seen(tmp_path, container(ENGINE), ready=True)).level == "ok"

    @pytest.mark.parametrize(
        ("code", "words", "levels"),
        [
            (0, "", ["ok"]),
            (2, 'FATAL:  password authentication failed for user "hatchet"', ["ok"]),
            (126, "executable file not found", ["ok"]),
            (2, "connection to server failed: Connection refused\n\tIs the server running there?", ["fail"]),
            (-9, "", ["fail"]),
        ],
    )
    def test_asked_from_inside(self, tmp_path: Path, code: int, words: str, levels: list[str]) -> None:
        asked = Ran(("psql",), code, "", words, 1.8)
        seen = look("postgres.from-container", self.seen(tmp_path, container(ENGINE), from_inside=asked))
        assert [s.level for s in seen] == levels

    def test_by_the_last_words_of_one_that_ends_again_and_again(self, tmp_path: Path) -> None:
        words = ("failed during connect: dial error (dial tcp 172.17.0.1:5433: connect: connection refused)", "bye")
        engine = container(ENGINE, state="restarting", restarts=3)
        one = only("postgres.from-container", self.seen(tmp_path, engine, words={ENGINE: words}))
        assert (one.level, one.command) == ("fail", "owlclaw-up")
        assert "host.docker.internal:5433" in one.title and words[0] in one.detail
        assert "listen_addresses = 'localhost, 172.17.0.1'" in one.hint
        assert "host hatchet hatchet 172.17.0.0/16 scram-sha-256" in one.hint
        assert "secret-word" not in f"{one}"

    def test_a_server_that_nobody_reaches_is_another_check_s(self, tmp_path: Path) -> None:
        seen = self.seen(tmp_path, container(ENGINE, state="exited"))
        stack = StackLook(on_server=DatabasesLook(Absent("nobody listens")))
        seen = dataclasses.replace(seen, facts=dataclasses.replace(seen.facts, stack=Found(stack)))
        assert look("postgres.from-container", seen) == []
