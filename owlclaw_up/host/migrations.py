"""The application's migrations: the one file that knows Alembic and SQLAlchemy.

The project's own `alembic.ini` (or `[tool.alembic]`) and `env.py` are used as they are; a project without them gets the
baseline shipped here. `look_at_migrations` runs no `env.py`; `Migrations.run` does, in a thread, while this one watches
for locks and for the deadline.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from owlclaw_up.errors import MigrationBlocked, MigrationFailed, MigrationsUnusable, TimedOut, UpError
from owlclaw_up.host.base import Deadline, ServerLogin
from owlclaw_up.host.migration_errors import before_the_first, import_error, of_server, words_of
from owlclaw_up.host.migration_route import Graph, Route
from owlclaw_up.host.postgres_url import url_of
from owlclaw_up.host.surroundings import PrivateLog, surroundings
from owlclaw_up.host.version_table import Blocker, blockers, current_revisions, end_sessions
from owlclaw_up.redaction import Redactor

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

BASELINE = Path(__file__).parent.parent / "baseline"
# The one revision of the baseline: a database that holds it and nothing else has seen no migration of a project's.
BASELINE_REVISION = "owlclaw_up_baseline"
# Names under which an env.py looks for its URL, besides `sqlalchemy.url`.
URL_NAMES = ("OWLCLAW_DATABASE_URL", "DATABASE_URL")
# psycopg 3 is both: a plain env.py and one of async engines can take the same URL.
_SCHEME = "postgresql+psycopg"
_PROGRESS = "alembic.runtime.migration"
_POLL = 0.05
_LOOK_EVERY = 0.5
_LOCK_NOT_AVAILABLE = "55P03"
_RUNNING = re.compile(r"Running (?:upgrade|downgrade) (?P<step>.*)")


@dataclass(frozen=True)
class MigrationsLook:
    """Where a database stands.

    Attributes:
        source: the configuration, from the project; `baseline` for the one shipped here.
        heads: the newest revisions there are.
        current: the revisions that the database holds; none for one that was never migrated.
        pending: what an upgrade would run, in order.
        problem: why that cannot be said, or could not be done.
    """

    source: str
    heads: tuple[str, ...] = ()
    current: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    problem: str = ""


def find_config(setting: Path | None, project: Path) -> Path | None:
    """The project's Alembic configuration: the named one, `alembic.ini`, or pyproject.toml with `[tool.alembic]`.

    Raises:
        MigrationsUnusable: the named one is not there.
    """
    if setting is not None:
        path = project / setting
        if not path.is_file():
            raise MigrationsUnusable(
                "migrations-config",
                f"alembic_config names {path}, and there is no such file",
                hint=f"ls -l {path.parent}",
            )
        return path
    if (project / "alembic.ini").is_file():
        return project / "alembic.ini"
    pyproject = project / "pyproject.toml"
    if pyproject.is_file():
        from alembic.config import Config

        with _as_unusable(pyproject):
            return pyproject if Config(toml_file=pyproject).toml_alembic_config else None
    return None


def look_at_migrations(config_path: Path | None, project: Path, login: ServerLogin) -> MigrationsLook:
    """Heads, current revisions and what is pending, by reading the scripts and one table; runs no `env.py`.

    Args:
        config_path: the setting `alembic_config`.
        login: to the application's database.
    """
    source = str(config_path or "")
    try:
        migrations = Migrations.of(config_path, project)
        source = migrations.source
        graph = migrations.graph()
        current = current_revisions(login)
        look = MigrationsLook(source, graph.heads, current)
        strange = graph.unknown(current)
        if strange:
            return MigrationsLook(source, graph.heads, current, problem=unknown_text(strange, source))
        return MigrationsLook(source, look.heads, current, graph.route(current, "heads").steps)
    except UpError as error:
        return MigrationsLook(source, problem=error.message)


def unknown_text(strange: Sequence[str], source: str) -> str:
    """What is wrong with a database that holds revisions of somebody else's."""
    return f"the database is at {', '.join(strange)}, which {source} does not know"


@dataclass(frozen=True)
class Migrations:
    """One set of migrations.

    Attributes:
        config: its `alembic.ini` or pyproject.toml; None for the baseline.
        project: the project's folder.
    """

    config: Path | None
    project: Path

    @classmethod
    def of(cls, setting: Path | None, project: Path) -> Migrations:
        """The project's own, else the baseline.

        Raises:
            MigrationsUnusable: a named configuration is not there, or cannot be read.
        """
        return cls(find_config(setting, project), project)

    @property
    def source(self) -> str:
        """For the reader: the configuration's path from the project, or `baseline`."""
        if self.config is None:
            return "baseline"
        inside = self.config.is_relative_to(self.project)
        return str(self.config.relative_to(self.project) if inside else self.config)

    def graph(self) -> Graph:
        """Every revision and what it rests on.

        Raises:
            MigrationsUnusable: the scripts cannot be read; the message names what is missing.
        """
        with self._inside({}, io.StringIO()), _as_unusable(self.config or BASELINE):
            return _graph(_scripts(self._alembic()))

    def sql(self, url_login: ServerLogin, target: str, names: Mapping[str, str]) -> str:
        """The SQL of an upgrade as a script, from nothing or, with `FROM:TO`, from a revision. Connects to nothing.

        Args:
            names: other names for the variables that hold the URL.

        Raises:
            MigrationsUnusable: the scripts, or `env.py`, cannot be used so.
        """
        from alembic import command

        into = io.StringIO()
        config = self._alembic(url_login, into)
        with self._inside(_variables(url_login, names, 0), io.StringIO()), _as_unusable(self.config or BASELINE):
            try:
                command.upgrade(config, target, sql=True)
            except Exception as error:
                raise before_the_first(error, self.source, url_login) from None
        return into.getvalue()

    def run(
        self, login: ServerLogin, admin: ServerLogin, route: Route, names: Mapping[str, str], deadline: Deadline,
        log: Path, say: Callable[[str], None],
    ) -> None:  # fmt: skip
        """Run `env.py`, upwards or downwards.

        Args:
            login: the application role's, to its database.
            admin: a login to the same database that may see other sessions.
            names: other names for the variables that hold the URL.
            log: what env.py and the migrations print goes there.
            say: told which migration runs, and what it waits for.

        Raises:
            MigrationsUnusable: it failed before the first migration, so nothing was changed.
            MigrationFailed, MigrationBlocked, TimedOut: a migration failed.
        """
        from alembic import command

        longest = min(30.0, max(1.0, deadline.left() * 0.8))
        name = f"owlclaw-up db migrate {os.getpid()}"
        variables = _variables(login, names, longest) | {"PGAPPNAME": name}
        sink = PrivateLog(log, Redactor([login.password.reveal()] if login.password else []))
        watch = _Watch(say)
        failed: list[BaseException] = []

        def work() -> None:
            try:
                run = command.downgrade if route.down else command.upgrade
                run(config, route.target)
            except (Exception, SystemExit) as error:
                failed.append(error)

        config = self._alembic(login, sink)
        with self._inside(variables, sink), watch:
            thread = threading.Thread(target=work, name="alembic", daemon=True)
            thread.start()
            try:
                timed_out = _attend(thread, login, admin, name, deadline, watch)
            except BaseException:
                _end(thread, login, name)
                raise
        if timed_out:
            raise _late(watch, deadline, login)
        if failed:
            raise self._failure(failed[0], login, watch, longest)

    def _failure(self, error: BaseException, login: ServerLogin, watch: _Watch, longest: float) -> UpError:
        if not watch.step:
            return before_the_first(error, self.source, login)
        state, words = of_server(error, login)
        if state == _LOCK_NOT_AVAILABLE and watch.blockers:
            return MigrationBlocked(watch.step, longest, watch.blockers[0], login.database)
        words = words or words_of(error, login)
        return MigrationFailed(watch.step, words.splitlines()[0], state, words)

    def _alembic(self, login: ServerLogin | None = None, output: io.TextIOBase | None = None) -> Config:
        """Alembic's configuration, with the URL in place where there is one."""
        from alembic.config import Config

        config = Config(
            None if self.config is None or self.config.suffix == ".toml" else self.config,
            toml_file=self.project / "pyproject.toml" if self.config else None,
            output_buffer=cast("TextIO", output),
            stdout=cast("TextIO", output or io.StringIO()),
        )
        if self.config is None:
            config.set_main_option("script_location", str(BASELINE).replace("%", "%%"))
            config.set_main_option("path_separator", "os")
        if login is not None:
            # configparser takes a single % for the start of a reference.
            config.set_main_option("sqlalchemy.url", url_of(login, _SCHEME).reveal().replace("%", "%%"))
        return config

    def _folder(self) -> Path:
        """Where the scripts' relative paths begin: at the configuration, else at the project."""
        if self.config is None:
            return self.project
        location = self._alembic().get_alembic_option("script_location") or ""
        if ":" in location or (self.config.parent / location).exists():
            return self.config.parent
        return self.project if (self.project / location).exists() else self.config.parent

    @contextlib.contextmanager
    def _inside(self, variables: Mapping[str, str | None], output: io.TextIOBase) -> Iterator[None]:
        """What `alembic` would have around it at a prompt there; everything as before afterwards."""
        with _as_unusable(self.config or BASELINE):
            folder = self._folder()
        with surroundings(folder, self.project, variables, output):
            yield


def _scripts(config: Config) -> ScriptDirectory:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(config)


def _graph(scripts: ScriptDirectory) -> Graph:
    below: dict[str, tuple[str, ...]] = {}
    about: dict[str, str] = {}
    labels: dict[str, str] = {}
    for script in reversed(list(scripts.walk_revisions())):
        down, needs = script.down_revision or (), script.dependencies or ()
        names = ((down,) if isinstance(down, str) else tuple(down)) + (
            (needs,) if isinstance(needs, str) else tuple(needs)
        )
        # A dependency may be a label of a branch.
        found = [scripts.get_revision(name) for name in names]
        below[script.revision] = tuple(one.revision for one in found if one is not None)
        about[script.revision] = script.doc or ""
        labels |= dict.fromkeys(script.branch_labels or (), script.revision)
    return Graph(below, about, tuple(scripts.get_heads()), labels)


def _variables(login: ServerLogin, names: Mapping[str, str], longest: float) -> dict[str, str | None]:
    """The environment of a run: the URL under every name it may be looked for, and libpq's words without the shell's."""
    url = url_of(login, _SCHEME).reveal()
    kept: dict[str, str | None] = {name: None for name in os.environ if name.startswith("PG")}
    kept |= {names.get(name, name): url for name in URL_NAMES} | dict.fromkeys(URL_NAMES, url)
    # A wait for a lock holds up everybody behind it, so it ends long before the command does.
    return kept | {"PGCONNECT_TIMEOUT": "10", "PGOPTIONS": f"-c lock_timeout={int(longest * 1000)}"}


class _Watch:
    """What is known of a run while it goes on: which migration runs, by Alembic's own log; and who holds it up."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.step = ""
        self.count = 0
        self.blockers: tuple[Blocker, ...] = ()

    def __enter__(self) -> None:
        # A filter, since fileConfig of an env.py takes handlers away and leaves filters.
        logger = logging.getLogger(_PROGRESS)
        logger.setLevel(logging.INFO)
        logger.addFilter(self._see)

    def __exit__(self, *_: object) -> None:
        logging.getLogger(_PROGRESS).removeFilter(self._see)

    def _see(self, record: logging.LogRecord) -> bool:
        match = _RUNNING.match(record.getMessage())
        if match:
            self.step, self.count = match["step"], self.count + 1
            self._say(self.step)
        return True

    def held_up(self, by: tuple[Blocker, ...]) -> None:
        if by and by != self.blockers:
            self._say(f"waits for {by[0]}")
        self.blockers = by or self.blockers


def _attend(
    thread: threading.Thread, login: ServerLogin, admin: ServerLogin, name: str, deadline: Deadline, watch: _Watch
) -> bool:
    """Wait for the end of a run; True where the deadline came first, and its sessions were ended."""
    clock = deadline.clock
    looked = clock.monotonic()
    while thread.is_alive():
        thread.join(_POLL)
        if deadline.over:
            watch.held_up(blockers(admin, name))
            _end(thread, login, name)
            return True
        if clock.monotonic() - looked >= _LOOK_EVERY:
            looked = clock.monotonic()
            watch.held_up(blockers(admin, name))
    return False


def _end(thread: threading.Thread, login: ServerLogin, name: str) -> None:
    """End the sessions of a run, so that it ends too; one that hangs elsewhere dies with this process."""
    with contextlib.suppress(UpError):
        end_sessions(login, name)
    thread.join(3)


def _late(watch: _Watch, deadline: Deadline, login: ServerLogin) -> UpError:
    if watch.blockers:
        return MigrationBlocked(watch.step, deadline.seconds, watch.blockers[0], login.database)
    return TimedOut(
        f"the end of migration {watch.step or 'scripts'}", deadline.seconds, "it still ran, and was cancelled",
        hint="give it longer: owlclaw-up db migrate --timeout SECONDS",
    )  # fmt: skip


@contextlib.contextmanager
def _as_unusable(where: Path) -> Iterator[None]:
    """Whatever reading a configuration or scripts raises, as ours."""
    import alembic.util

    try:
        yield
    except (UpError, KeyboardInterrupt):
        raise
    except alembic.util.CommandError as error:
        raise MigrationsUnusable("migrations-config", f"{where.name}: {error}", hint=f"correct {where}") from None
    except Exception as error:
        missing = import_error(error, where.name)
        if missing is not None:
            raise missing from None
        raise MigrationsUnusable(
            "migrations-config",
            f"{where.name} cannot be used: {type(error).__name__}: {error}",
            hint=f"correct {where}",
        ) from None
