"""The pytest plugin: loads `.env`, gives the mark `hatchet` its meaning, and has fixtures for a client, a database and a
throwaway environment. docs/reference/pytest.md has all of it.

pytest loads this file in every session that has owlclaw-up installed, so it imports nothing of ours until it is wanted.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from owlclaw_up.testing import NO_ENGINE

if TYPE_CHECKING:
    from pathlib import Path

    from owlclaw_up.client import HatchetClient
    from owlclaw_up.testing.databases import Database, Databases
    from owlclaw_up.testing.env_file import Loaded
    from owlclaw_up.testing.environments import Environment
    from owlclaw_up.testing.session import Session

_LOADED = pytest.StashKey["Loaded | None"]()
_SESSION = pytest.StashKey["Session"]()
_OWNER = pytest.StashKey[str]()
_SAID = pytest.StashKey[bool]()
_DEFAULT_FILE = ".env"


class EngineMissing(pytest.fail.Exception):  # type: ignore[name-defined,misc]
    """A test wants an engine, there is none, and one is required."""

    # As pytest's own outcomes: the short summary has place for the words instead.
    __module__ = "builtins"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("owlclaw-up")
    group.addoption(
        "--require-hatchet", action="store_true",
        help="fail the tests marked hatchet where no engine answers, instead of skipping them",
    )  # fmt: skip
    parser.addini("owlclaw_env_file", "dotenv file to load: a name, looked for upwards, or a path; empty for none",
                  default=_DEFAULT_FILE)  # fmt: skip
    parser.addini("owlclaw_require_hatchet", "as --require-hatchet", type="bool", default=False)
    parser.addini(
        "owlclaw_database_migrate", "run the project's migrations in test databases", type="bool", default=True
    )
    parser.addini(
        "owlclaw_environment_mode", "mode of throwaway environments: native, mock; empty for the best", default=""
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Load the dotenv file before any conftest of the project reads the environment."""
    named = early_config.getini("owlclaw_env_file")
    loaded = _load(named, early_config.rootpath, early_config) if named else None
    early_config.stash[_LOADED] = loaded
    if loaded is None or "PYTEST_XDIST_WORKER" in os.environ:
        return
    for problem in loaded.problems:
        # Where warnings are errors, the report's header has to say it alone: a dotenv file ends no session.
        with contextlib.suppress(pytest.PytestWarning):
            warning = pytest.PytestWarning(f"owlclaw-up: {loaded.path}: {problem}")
            early_config.issue_config_time_warning(warning, stacklevel=2)


def _load(named: str, root: Path, config: pytest.Config) -> Loaded | None:
    from owlclaw_up.testing import env_file

    path = env_file.find(named, root)
    if path is None:
        missing = env_file.Loaded(root / named, problems=("there is no such file",))
        return None if named == _DEFAULT_FILE else missing
    loaded = env_file.load(path, os.environ)
    config.add_cleanup(lambda: env_file.unload(loaded, os.environ))
    return loaded


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "hatchet: wants a Hatchet engine that answers; skipped, with the reason, where none does (--require-hatchet: fails)",
    )
    config.addinivalue_line(
        "markers", "owlclaw_environment(mode, **settings): what the throwaway environment of the test shall be"
    )


def pytest_report_header(config: pytest.Config) -> list[str] | None:
    loaded = config.stash.get(_LOADED, None)
    if loaded is None:
        return None
    from owlclaw_up.testing.env_file import describe

    return [f"owlclaw-up: {line}" for line in describe(loaded, config.rootpath)]


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str] | None:
    """Whether an engine answers, where a test asks; not under pytest-xdist, whose workers collect."""
    if config.option.collectonly or not any(item.get_closest_marker("hatchet") for item in items):
        return None
    config.stash[_SAID] = True
    return [f"owlclaw-up: {_session(config).verdict.text}"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("hatchet"):
        verdict = _session(item.config).verdict
        if verdict.reason:
            _without_engine(item.config, verdict.text)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that has no engine has failed, although its call was never reached; pytest would call that an error."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, EngineMissing):
        report.when = "call"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say why, where nobody has said it yet: pytest itself shows reasons of skipped tests only with -rs."""
    if config.stash.get(_SAID, False):
        return
    skipped = [report.longrepr for report in terminalreporter.stats.get("skipped", [])]
    texts = [longrepr[2].removeprefix("Skipped: ") for longrepr in skipped if isinstance(longrepr, tuple)]
    ours = [text for text in texts if text.startswith(NO_ENGINE)]
    for text in dict.fromkeys(ours):
        terminalreporter.write_line(f"owlclaw-up: {ours.count(text)} skipped, {text}")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Workers of pytest-xdist share what the session has."""
    node.workerinput["owlclaw_owner"] = _owner(node.config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the session's folder with its last process; a worker leaves that to its controller."""
    if _OWNER not in config.stash or hasattr(config, "workerinput"):
        return
    from owlclaw_up.testing.owner import session_folder

    folder = session_folder(config.stash[_OWNER])
    if folder.exists():
        from owlclaw_up.errors import UpError
        from owlclaw_up.testing.environments import remove_all

        # What cannot be removed now, the next session tries again.
        with contextlib.suppress(UpError, OSError):
            remove_all(folder)


@pytest.fixture
def hatchet_client(request: pytest.FixtureRequest) -> Iterator[HatchetClient]:
    """A connected client of the environment in `.env`; of the in-process one in mock, or where nothing is set up."""
    verdict = _session(request.config).verdict
    if verdict.config is None or (verdict.reason and not verdict.in_process):
        _without_engine(request.config, verdict.text)
    from owlclaw_up.client import HatchetClient

    client = HatchetClient(verdict.config)
    with _in_words():
        try:
            client.sync.connect()
            yield client
        finally:
            client.sync.close()


@pytest.fixture(scope="session")
def _owlclaw_databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    with _in_words(), _session(request.config).databases() as databases:
        yield databases


@pytest.fixture
def owlclaw_database(_owlclaw_databases: Databases) -> Iterator[Database]:
    """An empty database of the test's own, with the application's extensions and migrations."""
    with _in_words(), _owlclaw_databases.make() as database:
        yield database


@pytest.fixture(scope="session")
def owlclaw_session_database(_owlclaw_databases: Databases) -> Iterator[Database]:
    """As `owlclaw_database`, one for all tests of the process; a worker of pytest-xdist is a process of its own."""
    with _in_words(), _owlclaw_databases.make() as database:
        yield database


@pytest.fixture
def owlclaw_environment(request: pytest.FixtureRequest) -> Iterator[Environment]:
    """A throwaway environment of the test's own, as its mark `owlclaw_environment` says."""
    with _environment(request) as environment:
        yield environment


@pytest.fixture(scope="module")
def owlclaw_module_environment(request: pytest.FixtureRequest) -> Iterator[Environment]:
    """A throwaway environment for all tests of a module, as the module's mark `owlclaw_environment` says."""
    with _environment(request) as environment:
        yield environment


@pytest.fixture(scope="session")
def owlclaw_session_environment(request: pytest.FixtureRequest) -> Iterator[Environment]:
    """A throwaway environment for all tests of the process."""
    with _environment(request) as environment:
        yield environment


@pytest.fixture
def owlclaw_environments(request: pytest.FixtureRequest) -> Iterator[Callable[..., Environment]]:
    """Makes throwaway environments, as many as are wanted: `owlclaw_environments("mock")`."""
    with contextlib.ExitStack() as stack:

        def make(mode: str = "", **settings: Any) -> Environment:
            return stack.enter_context(_throwaway(request.config, mode, settings))

        yield make


@contextlib.contextmanager
def _environment(request: pytest.FixtureRequest) -> Iterator[Environment]:
    mark = request.node.get_closest_marker("owlclaw_environment")
    settings = dict(mark.kwargs) if mark else {}
    mode = settings.pop("mode", "") or (mark.args[0] if mark and mark.args else "")
    with _throwaway(request.config, mode, settings) as environment:
        yield environment


@contextlib.contextmanager
def _throwaway(config: pytest.Config, mode: str, settings: dict[str, Any]) -> Iterator[Environment]:
    from owlclaw_up.errors import ModeBlocked

    wanted = mode or config.getini("owlclaw_environment_mode") or ("native" if _engine_required(config) else "")
    blocked: ModeBlocked | None = None
    with _in_words():
        try:
            made = _session(config).environments.make(wanted, **settings)
        except ModeBlocked as error:
            blocked = error
        else:
            with made:
                yield made
    if blocked is not None:
        _without_engine(config, f"{NO_ENGINE}: {blocked.message}. What helps: {blocked.hint}")


def _without_engine(config: pytest.Config, text: str) -> NoReturn:
    """Skip for want of an engine; fail where one is required."""
    if _engine_required(config):
        raise EngineMissing(text, pytrace=False)
    pytest.skip(text)


def _engine_required(config: pytest.Config) -> bool:
    asked = config.option.require_hatchet or config.getini("owlclaw_require_hatchet")
    return bool(asked) or os.environ.get("OWLCLAW_UP_REQUIRE") == "durable"


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """An expected error of owlclaw-up fails the test by its own words, without a trace of our insides."""
    from owlclaw_up.errors import UpError

    failed: UpError | None = None
    try:
        yield
    except UpError as error:
        failed = error
    if failed is not None:
        lines = (failed.message, f"What helps: {failed.hint}" if failed.hint else "", failed.detail)
        pytest.fail("\n".join(line for line in lines if line), pytrace=False)


def _session(config: pytest.Config) -> Session:
    if _SESSION not in config.stash:
        from owlclaw_up.testing.session import Session

        config.stash[_SESSION] = Session(config.rootpath, _owner(config), config.getini("owlclaw_database_migrate"))
    return config.stash[_SESSION]


def _owner(config: pytest.Config) -> str:
    """The process that controls the session, as text."""
    if _OWNER not in config.stash:
        from owlclaw_up.testing.owner import Owner

        given = getattr(config, "workerinput", {}).get("owlclaw_owner")
        config.stash[_OWNER] = given or str(Owner.me())
    return config.stash[_OWNER]
