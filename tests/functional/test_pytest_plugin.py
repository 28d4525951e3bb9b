"""The pytest plugin in sessions of its users: real pytest processes in projects of their own, with and without an engine."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from owlclaw_up.testing.databases import PREFIX
from owlclaw_up.testing.owner import FOLDER
from tests.conftest import Cli, Result, processes_in
from tests.ports import free_port

NewCli = Callable[..., Cli]
# Hypothesis takes a second at every start.
INI = "[pytest]\naddopts = --strict-markers --strict-config -p no:cacheprovider -p no:hypothesispytest -p no:syrupy\n"
OURS = "owlclaw-up: "


class Suite:
    """A project's tests, and pytest run on them.

    Attributes:
        temporary: the folder for temporary files of its sessions.
    """

    def __init__(self, cli: Cli) -> None:
        self.cli, self.root = cli, cli.root
        self.temporary = cli.root.parent / "tmp"
        self.temporary.mkdir(exist_ok=True)
        cli.env["TMPDIR"] = str(self.temporary)
        self.write("pytest.ini", INI)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def argv(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "pytest", *args]

    def run(self, *args: str, cwd: Path | None = None, **env: str) -> Result:
        begun = time.monotonic()
        ran = subprocess.run(
            self.argv(*args), cwd=cwd or self.root, env={**self.cli.env, **env}, timeout=120, text=True,
            capture_output=True, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        result = Result(tuple(args), ran.returncode, ran.stdout, ran.stderr, time.monotonic() - begun)
        self.cli.history.append(result)
        return result

    def outcomes(self, *args: str, **env: str) -> tuple[dict[str, int], str]:
        """How many passed, failed and so on, and the whole output."""
        result = self.run(*args, cwd=None, **env)
        return pytest.RunResult.parse_summary_nouns(result.stdout.splitlines()), result.text

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(*args), cwd=self.root, env=self.cli.env, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def left(self) -> list[Path]:
        """Folders of throwaway environments."""
        return list(self.temporary.glob(f"{FOLDER}*"))


def said(text: str) -> list[str]:
    """The plugin's own lines."""
    return [line.removeprefix(OURS) for line in text.splitlines() if line.startswith(OURS)]


def wait_for(path: Path, child: subprocess.Popen[str]) -> str:
    """What a test writes when it has come so far."""
    end = time.monotonic() + 60
    while not path.exists() or not path.read_text():
        assert child.poll() is None and time.monotonic() < end, child.communicate()[0]
        time.sleep(0.05)
    return path.read_text()


@pytest.fixture
def suite(mock_cli: Cli) -> Suite:
    """A project where nothing is set up, on a machine without an engine."""
    return Suite(mock_cli)


MARKED = """
import pytest

@pytest.mark.hatchet
def test_on_an_engine(hatchet_client):
    assert not hatchet_client.config.mock

@pytest.mark.hatchet
def test_of_an_engine(): pass

@pytest.mark.hatchet
@pytest.mark.skip(reason="not now")
def test_skipped_anyway(): pass

def test_anywhere(hatchet_client):
    @hatchet_client.task
    def greet(input, ctx):
        return {"hello": input["name"]}

    assert hatchet_client.sync.result(hatchet_client.sync.run_task_now(greet, {"name": "owl"})) == {"hello": "owl"}

@pytest.mark.anyio
async def test_with_a_loop(hatchet_client, anyio_backend):
    assert await hatchet_client.list_tasks() == []

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


def test_where_nothing_is_set_up_a_marked_test_is_skipped_and_the_reason_said(suite: Suite) -> None:
    suite.write("test_app.py", MARKED)
    outcomes, text = suite.outcomes("-rs")
    assert outcomes == {"passed": 2, "skipped": 3}
    assert "HATCHET_CLIENT_TOKEN is empty. What helps: owlclaw-up" in said(text)[0]
    assert len(said(text)) == 1
    assert re.search(r"SKIPPED \[2\] .*: no Hatchet engine: nothing is set up", text)
    assert "hatchet: wants a Hatchet engine" in suite.run("--markers").stdout


@pytest.mark.parametrize(
    ("args", "env"),
    [
        (["--require-hatchet"], {}),
        (["-o", "owlclaw_require_hatchet=true", "-n", "1"], {}),
        ([], {"OWLCLAW_UP_REQUIRE": "durable"}),
    ],
)
def test_where_an_engine_is_required_it_fails_with_the_same_words(
    suite: Suite, args: list[str], env: dict[str, str]
) -> None:
    suite.write("test_app.py", MARKED)
    outcomes, text = suite.outcomes(*args, **env)
    assert outcomes == {"passed": 2, "failed": 2, "skipped": 1}
    assert re.search(r"FAILED test_app.py::test_on_an_engine - EngineMissing: no Hatchet engine", text)


def test_a_project_without_a_use_for_it_hears_nothing_and_pays_nothing(suite: Suite) -> None:
    suite.write(
        "test_app.py",
        "import sys\ndef test_loaded():\n"
        "    assert {m for m in sys.modules if m.startswith('owlclaw_up.')} "
        "== {'owlclaw_up.pytest_plugin', 'owlclaw_up.testing', 'owlclaw_up.testing.env_file'}\n",
    )
    outcomes, text = suite.outcomes("-W", "error")
    assert outcomes == {"passed": 1}
    assert not said(text)


READS_ENV = """
import os
SEEN = {name: os.environ.get(name) for name in ("FRUIT", "SHELL_WINS", "OTHER")}
def pytest_report_header(): return f"seen {SEEN}"
"""


def test_the_dotenv_file_is_there_before_any_conftest_and_the_shell_wins(suite: Suite) -> None:
    suite.write(".env", "FRUIT=plum\nSHELL_WINS=no\n")
    suite.write("test.env", "OTHER=geheim\n")
    suite.write("inner/pytest.ini", INI)
    suite.write("inner/conftest.py", READS_ENV)
    suite.write("inner/test_app.py", "def test_nothing(): pass\n")
    found = suite.run(cwd=suite.root / "inner", SHELL_WINS="yes")
    assert "seen {'FRUIT': 'plum', 'SHELL_WINS': 'yes', 'OTHER': None}" in found.stdout, "from the nearest parent"
    assert said(found.stdout) == [f"{suite.root}/.env loaded, 1 variable; the shell's own SHELL_WINS won"]
    off = suite.run("-o", "owlclaw_env_file=", "inner")
    assert "seen {'FRUIT': None" in off.stdout and not said(off.stdout)
    other = suite.run("-o", "owlclaw_env_file=../test.env", cwd=suite.root / "inner")
    assert "'OTHER': 'geheim'" in other.stdout
    assert said(other.stdout) == ["../test.env loaded, 1 variable"]


def test_a_broken_dotenv_file_ends_no_session(suite: Suite) -> None:
    suite.write("test_app.py", "import os\ndef test_nothing(): assert os.environ.get('GOOD') == 'yes'\n")
    suite.write(".env", "GOOD=yes\nBAD='geheim\n")
    outcomes, text = suite.outcomes()
    assert outcomes == {"passed": 1, "warnings": 1}
    assert said(text) == [".env loaded, 1 variable", ".env: line 2 cannot be read"]
    assert f"PytestWarning: owlclaw-up: {suite.root}/.env: line 2 cannot be read" in text
    assert suite.outcomes("-W", "error")[0] == {"passed": 1}
    missing = suite.run("-o", "owlclaw_env_file=a/b.env")
    assert "owlclaw-up: a/b.env: there is no such file" in missing.stdout
    assert "geheim" not in text


@pytest.fixture(scope="module")
def durable(new_module_cli: NewCli, standin_dir: Path) -> Iterator[Suite]:
    """A project with an environment whose engine answers."""
    made = Suite(new_module_cli(standin_dir))
    assert made.cli("up", "--mode", "native", "--smoke", "none").code == 0
    yield made
    assert not made.left(), "its sessions used the server of the environment"
    made.cli.assert_no_leak()


def test_on_an_engine_marked_tests_run(durable: Suite) -> None:
    asked = durable.root / "asked"
    durable.write(
        "conftest.py",
        "from owlclaw_up.testing import engine\n"
        "ask = engine.ask\n"
        "def counted(environ):\n"
        f"    with open({str(asked)!r}, 'a') as file: print('asked', file=file)\n"
        "    return ask(environ)\n"
        "engine.ask = counted\n",
    )
    durable.write("test_app.py", MARKED.replace("def test_anywhere", "def not_here"))
    outcomes, text = durable.outcomes("-rA", "--showlocals")
    assert outcomes["passed"] == 3
    assert said(text) == [".env loaded, 12 variables; mode native", f"the engine at {grpc(durable)} answers"]
    assert asked.read_text().split() == ["asked"]
    asked.unlink()
    outcomes, _ = durable.outcomes("-n", "2", "-k", "engine")
    assert outcomes["passed"] == 2
    assert 1 <= len(asked.read_text().split()) <= 2, "each worker once at most"
    (durable.root / "conftest.py").unlink()


def grpc(suite: Suite) -> str:
    return suite.cli.dotenv()["HATCHET_CLIENT_HOST_PORT"]


def refused_token(suite: Suite) -> str:
    """The token with another signature."""
    head, _, tail = suite.cli.dotenv()["HATCHET_CLIENT_TOKEN"].rpartition(".")
    return f"{head}.{tail[::-1]}"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HATCHET_CLIENT_HOST_PORT", lambda suite: f"localhost:{free_port()}", "does not answer (gRPC)"),
        ("HATCHET_CLIENT_HOST_PORT", lambda suite: "engine.invalid:7077", "does not answer (name resolution)"),
        ("HATCHET_CLIENT_TLS_STRATEGY", lambda suite: "tls", "does not answer (TLS)"),
        ("HATCHET_CLIENT_TOKEN", refused_token, "refuses the token"),
        ("HATCHET_CLIENT_TOKEN", lambda suite: "geheim", "token = *** (from environment variable HATCHET_CLIENT_TOKEN)"),
    ],
)  # fmt: skip
def test_an_engine_that_does_not_serve_says_where_it_broke(
    durable: Suite, variable: str, value: Callable[[Suite], str], words: str
) -> None:
    durable.write("test_app.py", MARKED)
    outcomes, text = durable.outcomes("-k", "engine or anywhere", **{variable: value(durable)})
    assert outcomes["skipped"] == 3, "an unmarked test that asks for a client of a real environment wants one too"
    loaded, answer = said(text)
    assert f"the shell's own {variable} won" in loaded
    assert words in answer and "What helps: " in answer
    assert "geheim" not in text and refused_token(durable) not in text


DATABASES = """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_own(owlclaw_database, number):
    with owlclaw_database.connect() as connection:
        row = connection.execute(
            "select current_user, current_setting('timezone'), to_regclass('mine') is null,"
            " array(select extname::text from pg_extension order by 1)").fetchone()
        assert row == ("owlclaw", "UTC", True, ["pgcrypto", "plpgsql", "vector"])
        connection.execute("create table mine (id int)")
        connection.commit()
    # Nobody closes this one, and it is dropped all the same.
    owlclaw_database.connect().execute("select * from mine")
    assert owlclaw_database.async_url.startswith("postgresql+asyncpg://owlclaw:")

def test_shared(owlclaw_session_database, owlclaw_database):
    assert owlclaw_session_database.name != owlclaw_database.name

def test_that_fails(owlclaw_database):
    assert owlclaw_database is None
"""


def databases(suite: Suite) -> set[str]:
    with psycopg.connect(suite.cli.dotenv()["DATABASE_URL"].replace("+asyncpg", "")) as connection:
        rows = connection.execute("select datname from pg_database where starts_with(datname, %s)", [PREFIX])
        return {row[0] for row in rows.fetchall()}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_each_test_has_a_database_of_its_own_on_the_environment_s_server(durable: Suite, workers: str) -> None:
    durable.write("test_app.py", DATABASES)
    outcomes, text = durable.outcomes("-n", workers, "--showlocals")
    assert outcomes == {"passed": 4, "failed": 1}
    assert re.search(rf"owlclaw_database = <database {PREFIX}\w+ on localhost:\d+>", text)
    assert not databases(durable), "dropped, also after a failure"


WAITS = """
import time
from pathlib import Path

def test_slow(request, owlclaw_database):
    Path(request.config.rootpath, "come").write_text(owlclaw_database.name)
    time.sleep(60)

def test_quick(owlclaw_database): pass
"""


def test_the_next_session_drops_what_a_killed_one_left_and_nothing_of_a_living_one(durable: Suite) -> None:
    durable.write("test_app.py", WAITS)
    come = durable.root / "come"
    left = []
    children = []
    for _ in range(2):
        come.unlink(missing_ok=True)
        children.append(durable.start("-k", "slow"))
        left.append(wait_for(come, children[-1]))
    killed, living = children
    killed.kill()
    killed.communicate()
    assert set(left) <= databases(durable)
    assert durable.outcomes("-k", "quick")[0]["passed"] == 1
    assert databases(durable) == {left[1], re.sub(r"_\d+$", "_template", left[1])}
    living.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in living.communicate()[0]
    assert not databases(durable), "an interrupted session drops its own"


ALEMBIC = {
    "alembic.ini": "[alembic]\nscript_location = migrations\n",
    "migrations/env.py": (
        "import os\nfrom alembic import context\nfrom sqlalchemy import create_engine, pool\n"
        "open('ran', 'a').write('x')\n"
        "engine = create_engine(os.environ['OWLCLAW_DATABASE_URL'], poolclass=pool.NullPool)\n"
        "with engine.connect() as connection:\n"
        "    context.configure(connection=connection)\n"
        "    with context.begin_transaction():\n"
        "        context.run_migrations()\n"
    ),
    "migrations/versions/one.py": (
        "from alembic import op\nrevision = 'one'\ndown_revision = None\n"
        "def upgrade(): op.execute('create table migrated (id int)')\n"
    ),
}
MIGRATED = """
import pytest

@pytest.mark.parametrize("number", range(2))
def test_table(owlclaw_database, number):
    with owlclaw_database.connect() as connection:
        assert connection.execute("select to_regclass('migrated')::text").fetchone() == (%r,)
"""


def test_test_databases_are_migrated_once(durable: Suite) -> None:
    for name, text in ALEMBIC.items():
        durable.write(name, text)
    durable.write("test_app.py", MIGRATED % "migrated")
    outcomes, _ = durable.outcomes()
    assert outcomes == {"passed": 2}
    assert (durable.root / "ran").read_text() == "x"
    durable.write("test_app.py", MIGRATED % None)
    assert durable.outcomes("-o", "owlclaw_database_migrate=false")[0] == {"passed": 2}
    broken = ALEMBIC["migrations/versions/one.py"].replace("create table migrated", "creat table migrated")
    durable.write("migrations/versions/one.py", broken)
    outcomes, text = durable.outcomes()
    assert outcomes == {"errors": 2}
    assert "creat" in text and "pytest_plugin.py" not in text, "the error's own words, and no trace of ours"
    assert not databases(durable)


ENVIRONMENTS = """
import psycopg, pytest

def answers(environment):
    url = environment.variables["DATABASE_URL"].replace("+asyncpg", "")
    with psycopg.connect(url) as connection:
        return connection.execute("select 1").fetchone() == (1,)

@pytest.mark.owlclaw_environment(mode="mock")
def test_two_side_by_side(owlclaw_environment, owlclaw_environments):
    other = owlclaw_environments("mock")
    assert owlclaw_environment.mode == other.mode == "mock"
    assert answers(owlclaw_environment) and answers(other)
    assert owlclaw_environment.variables["DATABASE_URL"] != other.variables["DATABASE_URL"]
    assert owlclaw_environment.client().sync.list_tasks() == []
    assert owlclaw_environment.project != other.project
    assert owlclaw_environment.outcome.status == "degraded"
    assert 0, "it fails, and they go all the same"

def test_the_best(owlclaw_module_environment):
    assert owlclaw_module_environment.mode == "native"
    assert answers(owlclaw_module_environment)
    client = owlclaw_module_environment.client()
    assert client.connected and not client.config.mock

@pytest.mark.owlclaw_environment(mode="full")
def test_no_such_mode(owlclaw_environment): pass

@pytest.mark.owlclaw_environment(smokey="none")
def test_no_such_setting(owlclaw_environment): pass
"""


def test_throwaway_environments_are_gone_afterwards(new_cli: NewCli, standin_dir: Path) -> None:
    made = Suite(new_cli(standin_dir))
    made.write("test_app.py", ENVIRONMENTS)
    # A shell with settings of its own, which are the developer's and not theirs.
    outcomes, text = made.outcomes("-n", "2", "--showlocals", OWLCLAW_UP_MODE="mock", PGHOST="nowhere.invalid")
    assert outcomes == {"passed": 1, "failed": 1, "errors": 2}, text
    assert "a throwaway environment cannot be 'full'" in text
    assert "did you mean 'smoke'?" in text
    assert not re.search("eyJ|postgresql[+a-z]*://[^ ]*:[^* ]*@", text), "no secret"
    assert not made.left()
    assert not processes_in(made.temporary)


def test_without_an_engine_a_test_that_wants_one_of_its_own_is_skipped(suite: Suite) -> None:
    suite.write(
        "test_app.py",
        "import pytest\n@pytest.mark.owlclaw_environment(mode='native')\ndef test_own(owlclaw_environment): pass\n",
    )
    suite.cli.env |= {"OWLCLAW_UP_ENGINE_DIR": "", "OWLCLAW_UP_OFFLINE": "true"}
    outcomes, text = suite.outcomes("-rs")
    assert outcomes == {"skipped": 1}
    assert "no Hatchet engine: mode native cannot be used here" in text
    outcomes, _ = suite.outcomes("--require-hatchet")
    assert outcomes == {"failed": 1}


def test_the_next_session_removes_environments_that_a_killed_one_left(suite: Suite) -> None:
    suite.write(
        "test_app.py",
        WAITS.replace("test_slow(request, owlclaw_database", "test_slow(request, owlclaw_environments, owlclaw_database")
        .replace("    Path(", "    owlclaw_environments('mock')\n    Path("),
    )  # fmt: skip
    child = suite.start("-k", "slow")
    wait_for(suite.root / "come", child)
    child.kill()
    child.communicate()
    (folder,) = suite.left()
    names = {path.name for path in folder.iterdir()}
    assert len(names) == 2 and "server" in names, "one for its databases, and one of its own"
    assert suite.outcomes("-k", "quick")[0]["passed"] == 1
    assert not suite.left()
