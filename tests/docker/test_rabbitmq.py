"""RabbitMQ as the engine's queue, on this machine, for an engine in a container. The stand-in knows no queue."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.conftest import Cli, DebianPostgres
from tests.docker.conftest import REAL_IMAGE
from tests.docker.stacks import bridge, wait_for
from tests.ports import free_port

_PROGRAMS = Path("/usr/lib/rabbitmq/bin")


class RabbitMQ:
    """A broker of the test's own: ports, data, cookie and port mapper too; its user may log in from anywhere.

    Args:
        folder: of the test.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.password = "rabbit-Secret_1"
        self.mapper = free_port()
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 0.0.0.0:{self.port}\nloopback_users = none\ndefault_user = owl\n"
            f"default_pass = {self.password}\n"
        )
        self.env = {
            "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "HOME": str(folder), "LC_ALL": "C.UTF-8",
            "RABBITMQ_NODENAME": f"owl{uuid4().hex[:8]}@localhost", "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"), "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"), "RABBITMQ_NODE_IP_ADDRESS": "",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"), "ERL_EPMD_PORT": str(self.mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1", "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        }  # fmt: skip
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [str(_PROGRAMS / "rabbitmq-server")], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        wait_for("a broker", lambda: self.process.poll() is not None or self._listens(), 60)
        assert self.process.poll() is None, (folder / "log").read_text()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def url(self) -> str:
        return f"amqp://owl:{self.password}@localhost:{self.port}/"

    def queues(self) -> set[str]:
        ran = subprocess.run(
            [str(_PROGRAMS / "rabbitmqctl"), "-q", "-n", self.env["RABBITMQ_NODENAME"], "list_queues", "name"],
            env=self.env, text=True, capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        return set(ran.stdout.split()) - {"name"}

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        subprocess.run(["epmd", "-port", str(self.mapper), "-kill"], env=self.env, capture_output=True, check=False)


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitMQ]:
    if not (_PROGRAMS / "rabbitmq-server").exists():
        pytest.skip("no RabbitMQ on this machine: apt-get install rabbitmq-server")
    folder = Path(tempfile.mkdtemp(prefix="owlclaw-rabbit-"))
    started = RabbitMQ(folder)
    yield started
    started.stop()
    shutil.rmtree(folder, ignore_errors=True)


if REAL_IMAGE:

    @pytest.mark.real_engine
    def test_in_full(docker_project: Callable[..., Cli], broker: RabbitMQ) -> None:
        cli = docker_project(REAL_IMAGE, OWLCLAW_UP_RABBITMQ_URL=broker.url)
        up = cli.json("up")
        assert (up["status"], up["mode"], up["smoke"]["status"]) == ("ok", "full", "passed")
        assert broker.queues(), "Hatchet's queues are in RabbitMQ"
        assert_kept_secret(cli, broker)

    @pytest.mark.real_engine
    @pytest.mark.parametrize("network", ["bridge", "host"])
    def test_in_hatchet_only(
        docker_project: Callable[..., Cli],
        debian_postgres: Callable[..., DebianPostgres],
        broker: RabbitMQ,
        network: str,
    ) -> None:
        gateway, subnet = bridge()
        addresses = "127.0.0.1" if network == "host" else f"127.0.0.1,{gateway}"
        server = debian_postgres(listen_addresses=addresses)
        with (server.folder / "data/pg_hba.conf").open("a") as hba:
            hba.write(f"host hatchet hatchet {subnet} scram-sha-256\n")
        server.sql("select pg_reload_conf()")
        before = broker.queues()
        cli = docker_project(REAL_IMAGE, OWLCLAW_UP_RABBITMQ_URL=broker.url)
        up = cli.json("up", "--admin-url", server.url())
        assert (up["status"], up["mode"], up["smoke"]["status"]) == ("ok", "hatchet-only", "passed")
        assert cli.state["data"]["engine"]["network"] == network
        assert broker.queues() - before
        assert_kept_secret(cli, broker)


def assert_kept_secret(cli: Cli, broker: RabbitMQ) -> None:
    """The broker's password stands in nothing that was printed or written down in clear."""
    cli.assert_no_leak()
    texts = [r.text for r in cli.history]
    texts += [f.read_text(errors="replace") for f in (cli.root / ".owlclaw-up/logs").glob("*")]
    texts.append((cli.root / ".owlclaw-up/state.json").read_text())
    assert not [text for text in texts if broker.password in text]
