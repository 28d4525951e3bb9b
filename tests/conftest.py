"""What the tests share: throwaway projects with a home of their own, the installed command, real PostgreSQL servers.

Nothing here mocks: `Cli` runs the real command as a process; `DebianPostgres` is a real server from Debian's packages.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import psutil
import pytest
from dotenv import dotenv_values

from owlclaw_up.host.engines import cached
from owlclaw_up.host.local import LocalProcesses
from owlclaw_up.spec import EngineBinaries
from tests.forked import Loaded
from tests.ports import free_port, free_ports
from tests.standin import install

KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONDONTWRITEBYTECODE", "SSL_CERT_FILE")


def real_engine_dir() -> str:
    """A real Hatchet engine of this machine: OWLCLAW_UP_ENGINE_DIR, else the newest in the user's engine cache."""
    named = os.environ.get("OWLCLAW_UP_ENGINE_DIR", "")
    if named:
        return named if (Path(named) / "hatchet-lite").exists() else ""
    usable = [e for e in cached(LocalProcesses()) if isinstance(e, EngineBinaries)]
    return str(usable[0].directory) if usable else ""


REAL_ENGINE_DIR = real_engine_dir()


def kept_env() -> dict[str, str]:
    """What a command has of the environment of the tests."""
    return {name: value for name, value in os.environ.items() if name in KEPT}


_LOADED: dict[tuple[str, ...], Loaded] = {}
_LOADING = threading.Lock()


def loaded(before: tuple[str, ...] = ()) -> Loaded:
    """The process that commands are forked from.

    Args:
        before: what goes before its command line.
    """
    with _LOADING:
        if before not in _LOADED:
            _LOADED[before] = Loaded(kept_env(), before)
        return _LOADED[before]


def pytest_configure() -> None:
    # What runs in the background of a script has SIGINT ignored, and everything started by it too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A skipped test is a failed one where CI could have run it, and CI installs what it needs."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure() -> None:
    """Not before: where the tests are interrupted, projects are purged after `pytest_sessionfinish`."""
    for process in _LOADED.values():
        process.close()


@dataclass
class Result:
    """One finished run of the command."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.stdout)
        return document

    @property
    def text(self) -> str:
        return self.stdout + self.stderr


@dataclass
class Cli:
    """A user's project and the command run in it.

    Attributes:
        root: the project's folder, a git checkout that ignores `.env`.
        env: the whole environment of the command: nothing of the developer's own.
        fresh: whether every run is loaded anew, by Python itself.
    """

    root: Path
    env: dict[str, str]
    history: list[Result] = field(default_factory=list)
    fresh: bool = False

    @property
    def before(self) -> tuple[str, ...]:
        """What goes before its command line."""
        return ()

    def __call__(self, *args: str, timeout: float = 150, cwd: Path | None = None, **env: str) -> Result:
        begun = time.monotonic()
        folder, environ = cwd or self.root, {**self.env, **env}
        if self.fresh or not loaded(self.before).can_run(environ):
            ran = subprocess.run(
                [*self.before, sys.executable, "-m", "owlclaw_up", *args],
                cwd=folder, env=environ, timeout=timeout, text=True, capture_output=True, stdin=subprocess.DEVNULL,
                check=False,
            )  # fmt: skip
            code, stdout, stderr = ran.returncode, ran.stdout, ran.stderr
        else:
            code, stdout, stderr = loaded(self.before).run(args, cwd=folder, env=environ, timeout=timeout)
        result = Result(args, code, stdout, stderr, time.monotonic() - begun)
        self.history.append(result)
        return result

    def json(self, *args: str, code: int | None = 0, **more: Any) -> dict[str, Any]:
        """Run with `--json`, expect an exit code, give the document."""
        result = self(*args, "--json", **more)
        assert code is None or result.code == code, f"{args} ended {result.code}: {result.text[-3000:]}"
        return result.json

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        """Start it without waiting; the test ends it."""
        return subprocess.Popen(
            [*self.before, sys.executable, "-m", "owlclaw_up", *args], cwd=self.root, env={**self.env, **env},
            text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    @property
    def state(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.root / ".owlclaw-up/state.json").read_text())
        return document

    @property
    def secrets(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.root / ".owlclaw-up/secrets.json").read_text())
        return document

    def dotenv(self, name: str = ".env") -> dict[str, str]:
        return {k: v or "" for k, v in dotenv_values(self.root / name, interpolate=False).items()}

    def secret_texts(self) -> set[str]:
        """Every secret of this project, for leak checks."""
        kept = self.secrets
        texts = {
            *kept["passwords"].values(),
            *kept["engine"].values(),
            kept["token"],
            *kept["superseded"],
            kept["admin_url"],
        }
        return {t for t in texts if len(t) > 5}

    def assert_no_leak(self) -> None:
        """No secret stands in anything the command has printed, nor in its logs and state."""
        secrets = self.secret_texts()
        printed = [r.text for r in self.history if "--reveal" not in r.argv]
        for file in [self.root / ".owlclaw-up/state.json", *(self.root / ".owlclaw-up/logs").glob("*")]:
            if file.exists():
                printed.append(file.read_text(errors="replace"))
        for text in printed:
            for secret in secrets:
                assert secret not in text


def processes_in(root: Path) -> list[psutil.Process]:
    """Processes whose command line or working directory lies under a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            if str(root) in " ".join(process.cmdline()) or process.cwd().startswith(str(root)):
                found.append(process)
    return found


def command_lines(root: Path) -> list[str]:
    """Those of the processes of a folder, each as one text; without one that ends while it is looked at."""
    lines = []
    for process in processes_in(root):
        with contextlib.suppress(psutil.Error):
            lines.append(" ".join(process.cmdline()))
    return lines


def kill(pid: int, how: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a process that `up` started, and see it ended (or frozen): it does not follow at once."""
    process = psutil.Process(pid)
    process.send_signal(how)
    end = time.monotonic() + 10
    wanted = {psutil.STATUS_STOPPED} if how == signal.SIGSTOP else {psutil.STATUS_ZOMBIE}
    while time.monotonic() < end:
        try:
            if process.status() in wanted:
                return
        except psutil.NoSuchProcess:
            return
        time.sleep(0.02)
    raise AssertionError(f"{process} did not follow {how.name}")


@contextlib.contextmanager
def projects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Cli]]:
    """A maker of projects; each is purged at the end, whatever the test did."""
    made: list[Cli] = []

    def make(engine: str | Path = "", **env: str) -> Cli:
        home = tmp_path_factory.mktemp("home")
        root = home / "app"
        root.mkdir()
        if shutil.which("git"):
            subprocess.run(["git", "init", "-q", str(root)], check=True)
        (root / ".gitignore").write_text(".env\n")
        base = {**kept_env(), "HOME": str(home), "CI": "true", "NO_COLOR": "1"}
        base["DOCKER_HOST"] = "unix:///nonexistent.sock"
        # Ports of their own: nothing else on this machine may decide what a test sees.
        for name, port in zip(("DASHBOARD", "GRPC", "POSTGRES"), free_ports(3), strict=True):
            base[f"OWLCLAW_UP_{name}_PORT"] = str(port)
        base["OWLCLAW_UP_ENGINE_DIR"] = str(engine or home / "none")
        made.append(Cli(root, {**base, **env}))
        return made[-1]

    yield make
    for cli in made:
        if (cli.root / ".owlclaw-up").exists():
            with contextlib.suppress(subprocess.TimeoutExpired):
                cli("down", "--purge", "--yes", timeout=60)
        for process in processes_in(cli.root):
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        shutil.rmtree(cli.root.parent, ignore_errors=True)


@pytest.fixture
def default_ports() -> Iterator[None]:
    """Alone with the ports that owlclaw-up looks for by itself: tests of other processes would see ours come and go."""
    with filelock.FileLock(Path(tempfile.gettempdir()) / "owlclaw-up-tests.default-ports"):
        yield


@pytest.fixture
def new_cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Cli]]:
    """A maker of projects for one test."""
    with projects(tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="module")
def new_module_cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Cli]]:
    """A maker of projects that the tests of a module share."""
    with projects(tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="session")
def standin_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in engine, shared; a test that wants faults sets STANDIN_FAULT in its environment, or installs its own."""
    return install(tmp_path_factory.mktemp("standin"))


@pytest.fixture
def mock_cli(new_cli: Callable[..., Cli]) -> Cli:
    """A project on a machine with no engine."""
    return new_cli()


@pytest.fixture
def cli(new_cli: Callable[..., Cli], standin_dir: Path) -> Cli:
    """A project with the stand-in engine at hand."""
    return new_cli(standin_dir)


class DebianPostgres:
    """A user's own PostgreSQL server, from Debian's packages, on a loopback port, with scram passwords."""

    def __init__(self, folder: Path, password: str = "postgres", **settings: str) -> None:
        self.folder, self.password, self.port = folder, password, free_port()
        self.bin = self.find_bin()
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        pwfile = folder / "pw"
        pwfile.write_text(password)
        if os.geteuid() == 0:
            shutil.chown(pwfile, "postgres")
        self.tool(
            "initdb", "-D", str(folder / "data"), "-U", "postgres", "-A", "scram-sha-256", f"--pwfile={pwfile}",
            "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        options = {"timezone": "Asia/Shanghai", "listen_addresses": "127.0.0.1", "fsync": "off", **settings}
        words = " ".join(f"-c {k}={v}" for k, v in options.items())
        self.tool(
            "pg_ctl", "-D", str(folder / "data"), "-w", "-l", str(folder / "log"),
            "-o", f"-p {self.port} -k {folder} {words}", "start",
        )  # fmt: skip

    @staticmethod
    def find_bin() -> Path:
        """The newest server installation of the machine; the test is skipped where there is none (CI installs one)."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
        if not found:
            pytest.skip("no PostgreSQL server on this machine: apt-get install postgresql")
        return found[-1].parent

    def tool(self, name: str, *args: str) -> str:
        """Run one of the server's tools as a user that may; never as root."""
        switch: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        ran = subprocess.run(
            [str(self.bin / name), *args], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/",
            stdin=subprocess.DEVNULL, check=False, timeout=60, **switch,
        )  # fmt: skip
        assert ran.returncode == 0, f"{name}: {ran.stdout}"
        return str(ran.stdout)

    def url(
        self,
        user: str = "postgres",
        password: str | None = None,
        database: str = "postgres",
        scheme: str = "postgresql",
    ) -> str:
        from urllib.parse import quote

        text = quote(self.password if password is None else password, safe="")
        return f"{scheme}://{user}:{text}@localhost:{self.port}/{database}"

    def sql(self, query: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        import psycopg

        with psycopg.connect(self.url(database=database), autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            return list(cursor.fetchall()) if cursor.description else []

    def dump(self) -> str:
        """Everything in the server as SQL, for before-and-after comparisons."""
        env = {**os.environ, "PGPASSWORD": self.password}
        ran = subprocess.run(
            [str(self.bin / "pg_dumpall"), "-h", "localhost", "-p", str(self.port), "-U", "postgres"],
            env=env, text=True, capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        # A random token of newer pg_dump versions, not content.
        return "\n".join(l for l in ran.stdout.splitlines() if not l.startswith(("\\restrict", "\\unrestrict")))

    def stop(self) -> None:
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self.tool("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def debian_postgres() -> Iterator[Callable[..., DebianPostgres]]:
    """A maker of the user's own servers."""
    import tempfile

    made: list[DebianPostgres] = []

    def make(**how: Any) -> DebianPostgres:
        DebianPostgres.find_bin()
        made.append(DebianPostgres(Path(tempfile.mkdtemp(prefix="owlclaw-pg-", dir="/var/tmp")), **how))
        return made[-1]

    yield make
    for server in made:
        server.stop()
