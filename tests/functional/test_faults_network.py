"""Faults between programs and the engine, made to happen: proxies, names, and a hatchet-sdk that does not fit."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from owlclaw_up.checks.network import grpc_proxy
from tests.conftest import Cli
from tests.faults import Patient
from tests.functional.machine import another_etc_hosts, doctor_in, finding_of
from tests.standin import install
from tests.unit.fakes import make_token

FAMILY = ("network.proxy", "network.localhost", "network.names", "sdk.installed", "sdk.engine", "sdk.tls")
PROXY = "http://127.0.0.1:9"
NOWHERE = "hatchet-engine.invalid"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine whose faults can be switched."""
    return install(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module")
def standing(new_module_cli: Callable[..., Cli], engine: Path) -> Cli:
    """An environment that is up."""
    cli = new_module_cli(engine)
    cli.json("up", "--smoke", "none")
    return cli


@pytest.fixture
def patient(standing: Cli) -> Iterator[Patient]:
    """It, with its dotenv file put back afterwards."""
    env = standing.root / ".env"
    before = env.read_bytes()
    yield Patient(standing)
    env.write_bytes(before)


def edit(patient: Patient, key: str, value: str | None) -> None:
    """Give a key of the dotenv file another value, or take it away."""
    env = patient.cli.root / ".env"
    lines = [line for line in env.read_text().splitlines() if not line.startswith(f"{key}=")]
    env.write_text("\n".join([*lines, *([f"{key}={value}"] if value is not None else []), ""]))


def followers(patient: Patient, cause: str) -> set[str]:
    """What the last look told as a consequence of a finding."""
    assert patient.last is not None
    return {f.id for f in patient.last.findings if f.cause == cause}


def test_a_healthy_environment_is_silent(patient: Patient) -> None:
    assert patient.well(), patient.bad()
    assert patient.last is not None
    assert set(FAMILY) <= {f.id for f in patient.last.findings if f.level == "ok"}


def test_a_proxy_that_catches_grpc(patient: Patient) -> None:
    found = patient.first(env={"http_proxy": PROXY, "NO_PROXY": "localhost,.example.com"})
    assert (found.id, found.level) == ("network.proxy", "warn")
    assert found.title == "http_proxy will catch your worker's gRPC to localhost"
    assert "gRPC does not read NO_PROXY" in found.detail
    assert found.command == 'export no_proxy="$NO_PROXY,localhost,127.0.0.1"'
    # `up` says it in the same words.
    said = patient.cli.json("plan", http_proxy=PROXY, NO_PROXY="localhost,.example.com")["findings"]
    assert [(f["title"], f["detail"], f["command"]) for f in said if f["id"] == "network.proxy"] == [
        (found.title, found.detail, found.command)
    ]
    # The command, pasted.
    env = {"http_proxy": PROXY, "NO_PROXY": "localhost,.example.com", "PATH": os.environ["PATH"]}
    ran = subprocess.run(
        ["sh", "-c", f"{found.command}; echo $no_proxy"], env=env, check=True, capture_output=True, text=True
    )  # fmt: skip
    assert patient.well("network.proxy", env={**env, "no_proxy": ran.stdout.strip()})
    found = patient.finding("network.proxy", env={"HTTP_PROXY": PROXY})
    assert found.title == "HTTP_PROXY will catch HTTP to localhost"


ASK = """
import json, os, sys
import grpc
for line in sys.stdin:
    case = json.loads(line)
    for name in [n for n in os.environ if n.lower().endswith("proxy")]:
        del os.environ[name]
    os.environ.update(case["env"])
    with grpc.insecure_channel(case["target"]) as channel:
        try:
            channel.unary_unary("/a/b")(b"", timeout=5)
        except grpc.RpcError:
            print("asked", flush=True)
"""
# Variables, URL for a proxy that listens; and the host that is dialled.
CASES: tuple[tuple[dict[str, str], str], ...] = (
    ({"http_proxy": "URL"}, "localhost"),
    ({"HTTP_PROXY": "URL"}, "localhost"),
    ({"https_proxy": "URL"}, "localhost"),
    ({"grpc_proxy": "URL"}, "localhost"),
    ({"all_proxy": "URL"}, "localhost"),
    ({"grpc_proxy": "", "http_proxy": "URL"}, "localhost"),
    ({"https_proxy": "socks5://127.0.0.1:9", "http_proxy": "URL"}, "localhost"),
    ({"http_proxy": "URL", "no_proxy": "example.com, localhost"}, "localhost"),
    ({"http_proxy": "URL", "no_proxy": ".LOCALHOST"}, "localhost"),
    ({"http_proxy": "URL", "no_proxy": "*"}, "localhost"),
    ({"http_proxy": "URL", "no_proxy": "host"}, "localhost"),
    ({"http_proxy": "URL", "no_proxy": "127.0.0.1"}, "localhost"),
    ({"http_proxy": "URL", "NO_PROXY": "localhost"}, "localhost"),
    ({"http_proxy": "URL", "no_grpc_proxy": "localhost"}, "localhost"),
    ({"http_proxy": "URL", "no_grpc_proxy": "", "no_proxy": "localhost"}, "localhost"),
    ({"http_proxy": "URL", "no_proxy": "127.0.0.0/8"}, "127.0.0.1"),
    ({"http_proxy": "URL", "no_proxy": "127.0.0.1"}, "127.0.0.1"),
)


class Listener:
    """Somebody who hears that he was called, and says nothing."""

    def __init__(self) -> None:
        self.calls = 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self) -> None:
        while True:
            try:
                self.server.accept()[0].close()
            except OSError:
                return
            self.calls += 1


def test_grpc_takes_a_proxy_where_it_is_said_to() -> None:
    """What the check rests on: gRPC itself, asked."""
    said, really = [], []
    child = subprocess.Popen(
        [sys.executable, "-c", ASK], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert child.stdin is not None and child.stdout is not None
    with child:
        for variables, host in CASES:
            # Of their own for each case: gRPC waits before it calls the same one again.
            proxy, target = Listener(), Listener()
            env = {k: v.replace("URL", f"http://127.0.0.1:{proxy.port}") for k, v in variables.items()}
            said.append(bool(grpc_proxy(env, host)))
            child.stdin.write(json.dumps({"env": env, "target": f"{host}:{target.port}"}) + "\n")
            child.stdin.flush()
            assert child.stdout.readline() == "asked\n"
            assert (proxy.calls > 0) != (target.calls > 0), variables
            really.append(proxy.calls > 0)
            proxy.server.close()
            target.server.close()
        child.stdin.close()
    assert said == really


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("", "localhost does not resolve here"),
        ("::1 localhost", "localhost means ::1 here, and not 127.0.0.1"),
        ("10.9.8.7 localhost", "localhost means 10.9.8.7 here, and not 127.0.0.1"),
    ],
)
def test_localhost_is_something_else(patient: Patient, tmp_path: Path, line: str, title: str) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(f"{line}\n")
    within = another_etc_hosts(hosts)
    document = doctor_in(patient.cli, within)
    found = finding_of(document, "network.localhost")
    assert (found["level"], found["title"]) == ("fail", title)
    assert document["findings"][0] == found
    if line.startswith("10."):
        assert found["command"] == "grep -n localhost /etc/hosts" and "that line" in found["hint"]
        return
    assert found["command"] == "echo '127.0.0.1 localhost' | sudo tee -a /etc/hosts"
    subprocess.run([*within, "sh", "-c", found["command"].replace("sudo ", "")], check=True, capture_output=True)
    assert hosts.read_text().endswith("127.0.0.1 localhost\n")
    again = doctor_in(patient.cli, within, "--only", "network.localhost")
    assert finding_of(again, "network.localhost")["level"] == "ok"


def test_a_name_that_means_nothing_here(patient: Patient) -> None:
    """The top-level domain `invalid` has no names, whatever DNS there is."""
    edit(patient, "HATCHET_CLIENT_HOST_PORT", f"{NOWHERE}:7070")
    found = patient.first()
    assert (found.id, found.level, found.command) == ("network.names", "fail", "owlclaw-up")
    assert followers(patient, "network.names") == {"engine.grpc"}
    assert found.title.startswith(f"{NOWHERE} in HATCHET_CLIENT_HOST_PORT (.env, line ")
    assert found.title.endswith(" does not resolve here") and found.detail
    patient.cli.json("up", "--smoke", "none")
    assert patient.well("network.names")
    here = {"HATCHET_CLIENT_SERVER_URL": f"http://{NOWHERE}:8888"}
    found = patient.finding("network.names", env=here)
    assert (found.level, found.command) == ("fail", "unset HATCHET_CLIENT_SERVER_URL")
    later = patient.cli.root / ".env.local"
    later.write_text(f"\nHATCHET_CLIENT_HOST_PORT={NOWHERE}:7070\n")
    try:
        found = patient.finding("network.names")
        assert (found.command, found.hint) == ("", "remove line 2 of .env.local")
    finally:
        later.unlink()


def test_a_token_that_names_another_place(patient: Patient) -> None:
    edit(patient, "HATCHET_CLIENT_TOKEN", make_token(grpc_broadcast_address=f"{NOWHERE}:7070"))
    assert patient.well("network.names"), "HATCHET_CLIENT_HOST_PORT says where to dial"
    edit(patient, "HATCHET_CLIENT_HOST_PORT", None)
    found = patient.finding("network.names")
    assert (found.level, found.command) == ("fail", "owlclaw-up")
    assert found.title.startswith(f"{NOWHERE} in HATCHET_CLIENT_TOKEN (.env, line ")


def test_a_python_without_hatchet_sdk(patient: Patient, mock_cli: Cli) -> None:
    for cli, level in ((patient.cli, "warn"), (mock_cli, "info")):
        venv = cli.root / ".venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
        try:
            found = Patient(cli).finding("sdk.installed")
            assert (found.level, found.title) == (level, ".venv/bin/python has no hatchet-sdk")
            assert found.command == "uv pip install --python .venv/bin/python hatchet-sdk"
            folder = next(Path(p) for p in sys.path if (Path(p) / "hatchet_sdk").is_dir())
            (next(venv.glob("lib/python*/site-packages")) / "here.pth").write_text(f"{folder}\n")
            assert Patient(cli).finding("sdk.installed").level == "ok"
        finally:
            shutil.rmtree(venv)


def test_an_engine_that_is_too_old(patient: Patient, engine: Path, new_cli: Callable[..., Cli]) -> None:
    (engine / "fault").write_text("version=v0.1.0-alpha.0")
    try:
        found = patient.first()
        assert (found.id, found.level) == ("sdk.engine", "fail")
        assert "(v0.1.0-alpha.0) was built without a version stamp: hatchet-sdk" in found.title
        assert "take a newer engine" in found.hint
        stopped = patient.cli.json("up", "--mode", "native", code=3)["error"]
        assert (stopped["code"], stopped["message"]) == ("engine-too-old", found.title)
        # The binaries are new ones by now, and the old engine runs on.
        at_hand = new_cli(install(engine.with_name("newer")))
        found = patient.first(env={"OWLCLAW_UP_ENGINE_DIR": at_hand.env["OWLCLAW_UP_ENGINE_DIR"]})
        assert (found.id, found.level) == ("sdk.engine", "fail")
        assert found.title.startswith("the engine that runs (v0.1.0-alpha.0) ")
        assert "DeprecationError" in found.detail
    finally:
        (engine / "fault").unlink()
    assert patient.well("sdk.engine")


def test_programs_that_speak_tls(patient: Patient) -> None:
    edit(patient, "HATCHET_CLIENT_TLS_STRATEGY", "tls")
    found = patient.first()
    assert (found.id, found.level, found.command) == ("sdk.tls", "fail", "owlclaw-up")
    assert followers(patient, "sdk.tls") == {"engine.grpc"}
    assert "HATCHET_CLIENT_TLS_STRATEGY (.env, line " in found.title and "WRONG_VERSION_NUMBER" in found.detail
    patient.mend("sdk.tls", smoke="none")
    assert patient.well("sdk.tls")
    edit(patient, "HATCHET_CLIENT_TLS_STRATEGY", None)
    assert "is not set" in patient.finding("sdk.tls").title
    patient.cli.json("up", "--smoke", "none")
    found = patient.finding("sdk.tls", env={"HATCHET_CLIENT_TLS_STRATEGY": "tls"})
    assert (found.level, found.command) == ("fail", "unset HATCHET_CLIENT_TLS_STRATEGY")
    # Another engine may well speak it.
    other = {"HATCHET_CLIENT_TLS_STRATEGY": "tls", "HATCHET_CLIENT_HOST_PORT": "127.0.0.1:443"}
    assert "sdk.tls" in patient.look("sdk.tls", env=other).data["idle"]
