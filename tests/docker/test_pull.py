"""Images that have to be pulled: from a registry that serves, spoils, refuses, stalls, or is not there.

What never runs is pulled as an image of next to nothing. Commands that mostly wait, wait side by side.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from owlclaw_up.facts.containers import compose_project
from owlclaw_up.steps.images import PAUSES
from tests.conftest import Cli
from tests.docker.conftest import POSTGRES_IMAGE, STANDIN_IMAGE, docker_names
from tests.docker.registry import Gate, Part, Registry, Spoiled, docker
from tests.docker.stacks import bridge_of_ones_own
from tests.ports import free_port

T = TypeVar("T")
Push = Callable[..., str]
Projects = Callable[..., Cli]
SPOILED: tuple[Spoiled, ...] = ("truncated", "appended", "changed", "wrong-digest")
FULL = ("up", "--mode", "full")


@pytest.fixture
def push(registry: Registry, request: pytest.FixtureRequest) -> Push:
    """Put an image into the registry under a name of this test's own; by default one of next to nothing."""
    of_test = request.node.name.partition("[")[0].replace("_", "-")

    def push(name: str, image: str = "scratch", **how: int) -> str:
        return registry.push(image, f"{of_test}/{name}:1", **how)

    return push


@pytest.fixture
def gates(registry: Registry) -> Iterator[Callable[[], Gate]]:
    """A maker of gates."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(Gate(registry))


@pytest.fixture
def project(gates: object, gate: Gate, docker_project: Projects) -> Iterator[Projects]:
    """A maker of projects by their two images; gone before the gates are, and the images with these."""
    made: list[Cli] = []

    def make(*, hatchet: str = STANDIN_IMAGE, postgres: str = POSTGRES_IMAGE, **env: str) -> Cli:
        cli = docker_project(hatchet)
        cli.env |= {"OWLCLAW_UP_POSTGRES_IMAGE": postgres, **env}
        made.append(cli)
        return cli

    yield make
    standing = [cli for cli in made if (cli.root / ".owlclaw-up").exists()]
    if standing:
        together(*(partial(cli, "down", "--purge", "--yes") for cli in standing))


def together(*calls: Callable[[], T]) -> list[T]:
    """Call all at once; what each gave, in their order."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def wait_for(what: str, seen: Callable[[], Any], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end, f"{what} did not happen in {seconds} s"
        time.sleep(0.02)


def step(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(s for s in document["steps"] if s["id"] == name)
    return found


def pulls(gate: Gate) -> int:
    """How often an image was asked for."""
    # By HEAD, then GET, unless one of them fails, or the daemon knows the manifest from an earlier pull.
    return max(sum(a.part == "manifests" and a.method == method for a in gate.asked) for method in ("HEAD", "GET"))


def is_here(reference: str) -> bool:
    return docker("image", "inspect", reference, check=False).returncode == 0


def assert_nothing_left(cli: Cli) -> None:
    assert sorted(path.name for path in cli.root.iterdir()) == [".git", ".gitignore"]
    assert not any(docker_names(compose_project(cli.root)).values())


def assert_refused(document: dict[str, Any], cli: Cli, code: str) -> None:
    """It ended there, in the mode that it had chosen, and left nothing."""
    assert document["error"]["code"] == code
    assert document["error"]["hint"]
    assert document["decision"]["moves"] == []
    assert step(document, "images")["status"] == "failed"
    assert_nothing_left(cli)


def moved_from(document: dict[str, Any]) -> list[str]:
    return [move["mode"] for move in document["decision"]["moves"]]


class TestServed:
    def test_images_at_hand_are_not_asked_for(self, gate: Gate, project: Projects) -> None:
        named = {"hatchet": STANDIN_IMAGE, "postgres": POSTGRES_IMAGE}
        names = {what: f"{gate.address}/at-hand/{what}:1" for what in named}
        for what, image in named.items():
            docker("tag", image, names[what])
        cli = project(**names)
        document = cli.json("up", "--smoke", "none")
        assert document["mode"] == "full"
        assert step(document, "images")["action"] == "unchanged"
        assert gate.asked == []

    def test_an_image_that_is_named_by_its_digest_comes_from_there(
        self, gate: Gate, project: Projects, push: Push
    ) -> None:
        image = push("pg", POSTGRES_IMAGE)
        docker("pull", image)
        digest = docker("inspect", "--format", "{{index .RepoDigests 0}}", image).stdout.strip().partition("@")[2]
        docker("rmi", image)
        named = f"{gate.reference(image)}@{digest}"
        cli = project(postgres=named, OWLCLAW_UP_REGISTRY_MIRROR=f"127.0.0.1:{free_port()}")
        document = cli.json("up", "--smoke", "none")
        assert document["mode"] == "full"
        assert cli.state["data"]["images"][named].endswith(f"@{digest}")
        assert step(cli.json("plan"), "images")["action"] == "unchanged"

    def test_a_mirror_stands_in_for_every_registry(self, gate: Gate, project: Projects, registry: Registry) -> None:
        names = {"postgres": "owlclaw-test-x/pg:1", "hatchet": "ghcr.io/owlclaw-test-x/lite:1"}
        registry.push(POSTGRES_IMAGE, "owlclaw-test-x/pg:1")
        registry.push(STANDIN_IMAGE, "owlclaw-test-x/lite:1")
        cli = project(**names, OWLCLAW_UP_REGISTRY_MIRROR=gate.address)
        try:
            planned = step(cli.json("plan"), "images")["detail"]
            assert planned == f"pull {names['hatchet']} and {names['postgres']} from {gate.address}"
            assert not gate.asked
            document = cli.json("up", "--smoke", "none")
            assert document["mode"] == "full"
            assert {asked.reference.partition("@")[0].partition(":")[0] for asked in gate.asked} == {
                "", "owlclaw-test-x/pg", "owlclaw-test-x/lite",
            }  # fmt: skip
            assert all(is_here(name) for name in names.values())
            kept = cli.state["data"]["images"]
            assert kept.keys() == set(names.values())
            assert all("@sha256:" in digest for digest in kept.values())
            assert step(cli.json("plan"), "images")["action"] == "unchanged"
        finally:
            cli("down", "--purge", "--yes")
            docker("rmi", *names.values(), check=False)


class TestSpoiled:
    """One cause in the eyes of who waits: what came is not what was promised, and so it is again."""

    def test_another_postgresql_serves_unless_the_mode_was_asked_for(
        self, registry: Registry, project: Projects, push: Push
    ) -> None:
        images = {how: push(how) for how in SPOILED}
        for how, image in images.items():
            registry.corrupt(image, how)
        auto = [project(postgres=image) for image in images.values()]
        asked = [project(postgres=image) for image in images.values()]
        # One of them proves that it works; for four there are not enough hands.
        proofs = ("quick", "none", "none", "none")
        documents = together(
            *(partial(cli.json, *FULL, code=3) for cli in asked),
            *(partial(cli.json, "up", "--smoke", proof) for cli, proof in zip(auto, proofs, strict=True)),
        )
        for cli, document in zip(asked, documents, strict=False):
            assert_refused(document, cli, "pull-broken")
            assert "filesystem layer verification failed" in document["error"]["detail"]
        assert documents[4]["smoke"]["status"] == "passed"
        for cli, document in zip(auto, documents[4:], strict=True):
            assert document["mode"] == "hatchet-only"
            assert document["status"] == "ok"
            assert moved_from(document) == ["full"]
            why = document["decision"]["moves"][0]["why"]
            assert "its transfer came out wrong again and again" in why
            assert cli.env["OWLCLAW_UP_POSTGRES_IMAGE"] in why
            assert step(document, "postgres.data")["action"] == "create"
            assert (cli.root / ".env").exists()

    def test_without_the_engine_s_image_there_is_no_mode_with_docker(
        self, registry: Registry, project: Projects, push: Push, standin_dir: Path
    ) -> None:
        image = push("lite")
        registry.corrupt(image, "changed")
        native = project(hatchet=image, OWLCLAW_UP_ENGINE_DIR=str(standin_dir))
        mock, durable = project(hatchet=image), project(hatchet=image)
        by_engine, without, refused = together(
            partial(native.json, "up"), partial(mock.json, "up", "--smoke", "none"),
            partial(durable.json, "up", "--require", "durable", code=3),
        )  # fmt: skip
        assert (by_engine["mode"], by_engine["status"]) == ("native", "ok")
        assert by_engine["smoke"]["status"] == "passed"
        assert (without["mode"], without["status"]) == ("mock", "degraded")
        assert moved_from(by_engine) == moved_from(without) == ["full", "hatchet-only"]
        assert refused["error"]["code"] == "durable-required"
        assert "its transfer came out wrong" in refused["error"]["detail"]
        assert_nothing_left(durable)


class TestRefused:
    def test_what_passes_is_asked_for_again(self, gates: Callable[[], Gate], project: Projects, push: Push) -> None:
        image = push("pg", POSTGRES_IMAGE)
        for_a_while = {429: gates(), 500: gates()}
        for status, gate in for_a_while.items():
            gate.answer(status, 2)
        clis = [project(postgres=gate.reference(image)) for gate in for_a_while.values()]
        for document in together(*(partial(cli.json, "up", "--smoke", "none") for cli in clis)):
            assert document["mode"] == "full"
            assert moved_from(document) == []
        assert [pulls(gate) for gate in for_a_while.values()] == [3, 3]

    def test_what_does_not_pass_is_gone_around(self, gates: Callable[[], Gate], project: Projects, push: Push) -> None:
        image = push("pg")
        limited, ill = gates(), gates()
        limited.answer(429)
        ill.answer(500)
        auto, asked = project(postgres=ill.reference(image)), project(postgres=limited.reference(image))
        document, refused = together(partial(auto.json, "up", "--smoke", "none"), partial(asked.json, *FULL, code=3))
        assert document["mode"] == "hatchet-only"
        assert moved_from(document) == ["full"]
        assert "answers with an error of its own" in document["decision"]["moves"][0]["why"]
        assert_refused(refused, asked, "pull-rate-limit")
        assert "docker login" in refused["error"]["hint"]
        assert (pulls(ill), pulls(limited)) == (4, 4)

    def test_nobody_there_is_not_asked_twice(self, project: Projects) -> None:
        image = f"127.0.0.1:{free_port()}/nobody/pg:1"
        asked, auto = project(postgres=image), project(postgres=image)
        # Two in one project: who comes while the other one moves on waits for it.
        refused, *documents = together(
            partial(asked.json, *FULL, code=3), *[partial(auto.json, "up", "--smoke", "none")] * 2
        )
        assert_refused(refused, asked, "pull-network")
        assert "connection refused" in refused["error"]["detail"]
        assert step(refused, "images")["seconds"] < sum(PAUSES)
        assert [document["mode"] for document in documents] == ["hatchet-only"] * 2
        assert sorted(step(document, "postgres.data")["action"] for document in documents) == ["create", "unchanged"]
        assert ["full"] in [moved_from(document) for document in documents]

    @pytest.mark.parametrize(
        ("status", "part", "code", "hint"),
        [
            (401, "manifests", "pull-login", "docker logout 127.0.0.1:"),
            (401, "everything", "pull-login", "docker logout 127.0.0.1:"),
            (403, "manifests", "pull-login", "docker logout 127.0.0.1:"),
            (404, "manifests", "pull-missing", "postgres_image"),
        ],
    )
    def test_what_only_the_user_can_mend_ends_it(
        self, gate: Gate, project: Projects, push: Push, status: int, part: Part, code: str, hint: str
    ) -> None:
        gate.answer(status, part=part)
        cli = project(postgres=gate.reference(push("pg")))
        document = cli.json("up", code=3)
        assert_refused(document, cli, code)
        assert hint in document["error"]["hint"]
        assert pulls(gate) <= 1

    def test_a_failure_that_decides_ends_the_other_pull(self, gate: Gate, project: Projects, push: Push) -> None:
        gate.stall()
        cli = project(hatchet=gate.reference(push("lite")), postgres=push("pg").replace("/pg:", "/none:"))
        document = cli.json("up", code=3)
        assert_refused(document, cli, "pull-missing")
        assert step(document, "images")["seconds"] < sum(PAUSES)

    def test_a_login_that_cannot_be_read(self, gate: Gate, project: Projects, push: Push) -> None:
        cli = project(postgres=gate.reference(push("pg")))
        config = cli.root.parent / ".docker/config.json"
        config.parent.mkdir()
        config.write_text(json.dumps({"credsStore": "of-somebody-else"}))
        document = cli.json("up", code=3)
        assert_refused(document, cli, "pull-credentials")
        assert "docker-credential-of-somebody-else" in document["error"]["detail"]
        assert gate.asked == []


class TestOffline:
    def test_nothing_is_asked_for(self, gate: Gate, project: Projects, push: Push) -> None:
        image = gate.reference(push("pg"))
        cli = project(postgres=image)
        document = cli.json("plan", "--offline", "--mode", "full", code=3)
        assert document["error"]["code"] == "mode-blocked"
        assert f"{image} is not on this machine, and offline pulls nothing" in document["error"]["message"]
        assert f"docker load -i FILE, from docker save {image}" in document["error"]["hint"]
        assert cli.json(*FULL, "--offline", code=3)["error"] == document["error"]
        assert_nothing_left(cli)
        document = cli.json("up", "--offline", "--smoke", "none")
        assert document["mode"] == "hatchet-only"
        assert document["decision"]["moves"] == []
        full = next(r for r in document["decision"]["rejected"] if r["mode"] == "full")
        assert "offline pulls nothing" in full["why"]
        assert gate.asked == []


class TestHeldUp:
    """A registry that says nothing more, and a command that is ended in the middle."""

    def test_silence_is_bounded(self, gates: Callable[[], Gate], project: Projects, push: Push) -> None:
        image = push("pg")
        before, within = gates(), gates()
        before.stall(part="manifests")
        within.stall(part="layers")
        asked = [project(postgres=gate.reference(image)) for gate in (before, within)]
        auto = project(postgres=before.reference(image))
        document, *refused = together(
            partial(auto.json, "up", "--smoke", "none", "--timeout", "20"),
            *(partial(cli.json, *FULL, "--timeout", "3", code=3) for cli in asked),
        )
        for cli, each in zip(asked, refused, strict=True):
            assert_refused(each, cli, "pull-network")
            assert "says nothing" in each["error"]["message"]
            assert each["error"]["detail"] == "no word from it for 3 s"
            assert 3 <= step(each, "images")["seconds"] < 3 + sum(PAUSES)
        # The mode that comes after it has its time all the same.
        assert document["mode"] == "hatchet-only"
        assert moved_from(document) == ["full"]

    def test_after_sigkill_it_begins_again(self, gates: Callable[[], Gate], project: Projects, push: Push) -> None:
        image = push("pg", POSTGRES_IMAGE)

        def killed(part: Part) -> dict[str, Any]:
            gate = gates()
            gate.stall(part=part)
            cli = project(postgres=gate.reference(image))
            with cli.start("up") as command:
                wait_for("the pull", lambda: any(asked.part == part for asked in gate.asked))
                command.kill()
            gate.open()
            return cli.json("up", "--smoke", "none")

        for document in together(partial(killed, "manifests"), partial(killed, "layers")):
            assert document["mode"] == "full"


class Relay:
    """A socket before the engine's, which passes everything on until it hangs up.

    Attributes:
        path: of the socket.
    """

    def __init__(self, folder: Path, engine: str) -> None:
        self.path, self._engine = folder / "relay.sock", engine
        self._open: list[socket.socket] = [socket.socket(socket.AF_UNIX)]
        self._open[0].bind(str(self.path))
        self._open[0].listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def hang_up(self) -> None:
        """Nobody is here any more."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, far = self._open[0].accept()[0], socket.socket(socket.AF_UNIX)
                self._open += [near, far]
                far.connect(self._engine)
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    @staticmethod
    def _pass_on(here: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := here.recv(65536):
                there.sendall(data)
            there.shutdown(socket.SHUT_WR)


@pytest.fixture
def relay(need_docker: None) -> Iterator[Relay]:
    address = docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}").stdout.strip()
    if not address.startswith("unix://"):
        pytest.skip(f"the Docker engine answers at {address}, which is no socket")
    folder = Path(tempfile.mkdtemp(prefix="owlclaw-"))
    relay = Relay(folder, address.removeprefix("unix://"))
    yield relay
    relay.hang_up()
    shutil.rmtree(folder)


@pytest.mark.parametrize("part", ["manifests", "layers"])
def test_the_engine_goes_away(relay: Relay, gate: Gate, project: Projects, push: Push, part: Part) -> None:
    """In the middle of a pull: that is no registry's fault, and no other mode with Docker is tried."""
    gate.stall(part=part)
    cli = project(postgres=gate.reference(push("pg")), DOCKER_HOST=f"unix://{relay.path}")
    with cli.start("up", "--json") as command:
        wait_for("the pull", lambda: any(asked.part == part for asked in gate.asked))
        relay.hang_up()
        document = json.loads(command.communicate(timeout=30)[0])
    # What ran there when it went away can be removed by nobody but us.
    left = docker("ps", "-aq", "--filter", f"label=dev.owlclaw.project={compose_project(cli.root)}").stdout.split()
    if left:
        docker("rm", "-f", *left)
    assert command.returncode == 4
    assert document["error"]["code"] == "docker"
    assert document["error"]["message"].startswith(f"Docker did not pull {cli.env['OWLCLAW_UP_POSTGRES_IMAGE']}: ")
    assert document["decision"]["moves"] == []


class TestProgress:
    def test_on_a_terminal_each_image_has_a_bar(self, gate: Gate, project: Projects, push: Push) -> None:
        images = [gate.reference(push(name, size=3 << 20)) for name in ("lite", "pg")]
        cli = project(hatchet=images[0], postgres=images[1], TERM="xterm-256color", COLUMNS="120")
        gate.stall(part="layers")
        ours, theirs = pty.openpty()
        command = subprocess.Popen(
            [sys.executable, "-m", "owlclaw_up", "up"], cwd=cli.root, env=cli.env,
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        shown = b""
        try:
            end = time.monotonic() + 20
            while not all(re.search(rb"%s:1 .* of 3 MB" % name, shown) for name in (b"lite", b"pg")):
                assert time.monotonic() < end, shown.decode()
                shown += os.read(ours, 65536)
            command.send_signal(signal.SIGINT)
            while time.monotonic() < end and command.poll() is None:
                with contextlib.suppress(OSError):
                    os.read(ours, 65536)
        finally:
            command.kill()
            command.wait()
            os.close(ours)
        assert command.returncode == 130

    def test_elsewhere_there_are_lines_and_json_is_alone(self, gate: Gate, project: Projects, push: Push) -> None:
        image = gate.reference(push("pg", POSTGRES_IMAGE, size=3 << 20))
        plain, machine = project(postgres=image), project(postgres=push("none").replace("/none", "/nothing"))
        result = plain("up", "--smoke", "none")
        assert result.code == 0, result.text
        assert re.search(r"^  pg:1 .*3 MB", result.stderr, re.MULTILINE), result.stderr
        assert "\x1b" not in result.text
        result = machine("up", "--json")
        assert result.json["error"]["code"] == "pull-missing"
        assert result.stderr == ""


@contextlib.contextmanager
def engine_with_a_small_disk(folder: Path, megabytes: int, bridge: str) -> Iterator[str]:
    """A Docker engine of the test's own, by its address; it has a disk of so many megabytes."""
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    disk, pidfile = folder / "disk", folder / "pid"
    disk.mkdir()
    program = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip("no dockerd of one's own can be started here: .ci/docker")
    subprocess.run([*root, "mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(disk)], check=True)
    address = f"unix://{folder / 'docker.sock'}"
    try:
        (folder / "settings").write_text("{}")
        with (folder / "log").open("wb") as log:
            engine = subprocess.Popen(
                [*root, program, "--data-root", str(disk), "--exec-root", str(folder / "run"), "--pidfile", str(pidfile),
                 "--config-file", str(folder / "settings"), "-H", address, "--group", str(os.getgid()),
                 f"--bridge={bridge}", "--iptables=false", "--storage-driver=vfs"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            wait_for(
                "an engine",
                lambda: engine.poll() is not None or docker("-H", address, "version", check=False).returncode == 0,
            )
            assert engine.poll() is None, (folder / "log").read_text()
            yield address
        finally:
            if engine.poll() is None:
                subprocess.run([*root, "kill", str(engine.pid)], check=True)
                engine.wait(30)
    finally:
        subprocess.run([*root, "umount", str(disk)], check=True)


def test_a_full_disk(registry: Registry, project: Projects, push: Push) -> None:
    folder = Path(tempfile.mkdtemp(prefix="owlclaw-engine-"))
    try:
        with bridge_of_ones_own() as bridge, engine_with_a_small_disk(folder, 24, bridge) as address:
            cli = project(hatchet=push("lite"), postgres=push("pg", size=40 << 20), DOCKER_HOST=address)
            document = cli.json("up", code=3)
            assert document["error"]["code"] == "pull-disk-full"
            assert "docker system df" in document["error"]["hint"]
            assert document["decision"]["moves"] == []
    finally:
        shutil.rmtree(folder, ignore_errors=True)
