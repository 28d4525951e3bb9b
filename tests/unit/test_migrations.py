"""A project's Alembic configuration, read without a database and without env.py; and everything as before afterwards."""

from __future__ import annotations

import io
import logging
import logging.config
import os
import sys
from pathlib import Path

import pytest

from owlclaw_up.errors import MigrationsUnusable
from owlclaw_up.host.base import ServerLogin
from owlclaw_up.host.migration_errors import before_the_first, of_server, words_of
from owlclaw_up.host.migrations import BASELINE_REVISION, Migrations, find_config, look_at_migrations
from owlclaw_up.host.surroundings import PrivateLog, surroundings
from owlclaw_up.model import Secret
from owlclaw_up.redaction import Redactor

LOGIN = ServerLogin("localhost", 5432, "owlclaw", Secret("p%40ss-word"), "owlclaw")
REVISION = '"""makes {name}"""\nrevision = {name!r}\ndown_revision = {below!r}\n{more}\ndef upgrade(): pass\ndef downgrade(): pass\n'
ENV = "raise AssertionError('nobody asked for env.py')\n"


def scripts(folder: Path, *, more: str = "") -> None:
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(ENV)
    (folder / "versions/one.py").write_text(REVISION.format(name="a1", below=None, more=""))
    (folder / "versions/two.py").write_text(REVISION.format(name="b2", below="a1", more=more))


def ini(path: Path, location: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[alembic]\nscript_location = {location}\n")
    return path


@pytest.mark.parametrize("location", ["migrations", "%(here)s/migrations", "./migrations"])
def test_alembic_ini_in_the_root(tmp_path: Path, location: str) -> None:
    ini(tmp_path / "alembic.ini", location)
    scripts(tmp_path / "migrations")
    migrations = Migrations.of(None, tmp_path)
    assert migrations.source == "alembic.ini"
    graph = migrations.graph()
    assert (graph.heads, graph.below, graph.about["a1"]) == (("b2",), {"a1": (), "b2": ("a1",)}, "makes a1")


@pytest.mark.parametrize(
    ("where", "location", "folder"),
    [
        ("db/alembic.ini", "migrations", "db/migrations"),
        ("db/alembic.ini", "db/migrations", "db/migrations"),
        ("conf/alembic.ini", "app_package_of_tests:migrations", "app_package_of_tests/migrations"),
    ],
)
def test_a_named_one_elsewhere(tmp_path: Path, where: str, location: str, folder: str) -> None:
    ini(tmp_path / where, location)
    scripts(tmp_path / folder)
    (tmp_path / folder).parent.joinpath("__init__.py").touch()
    migrations = Migrations.of(Path(where), tmp_path)
    assert migrations.source == where
    assert migrations.graph().heads == ("b2",)
    sys.modules.pop("app_package_of_tests", None)


def test_pyproject(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert find_config(None, tmp_path) is None
    (tmp_path / "pyproject.toml").write_text("[tool.alembic]\nscript_location = '%(here)s/migrations'\n")
    scripts(tmp_path / "migrations")
    migrations = Migrations.of(None, tmp_path)
    assert migrations.source == "pyproject.toml"
    assert migrations.graph().heads == ("b2",)


def test_without_one_there_is_the_baseline(tmp_path: Path) -> None:
    migrations = Migrations.of(None, tmp_path)
    assert migrations.source == "baseline"
    assert migrations.graph().heads == (BASELINE_REVISION,)
    sql = migrations.sql(LOGIN, "heads", {})
    assert "CREATE TABLE alembic_version" in sql
    assert sql.count("CREATE") == 1


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    def code(setting: Path | None = None) -> MigrationsUnusable:
        with pytest.raises(MigrationsUnusable) as raised:
            Migrations.of(setting, tmp_path).graph()
        return raised.value

    assert code(Path("nowhere.ini")).code == "migrations-config"
    path = ini(tmp_path / "alembic.ini", "migrations")
    assert code().code == "migrations-config"
    scripts(tmp_path / "migrations", more="import nowhere_to_be_found")
    assert code().code == "migrations-import"
    assert "nowhere_to_be_found" in look_at_migrations(None, tmp_path, LOGIN).problem
    path.write_text("[alembic]\n")
    assert "script_location" in code().message
    path.write_text("no ini at all")
    assert code().code == "migrations-config"


def test_everything_is_as_before(tmp_path: Path) -> None:
    environ, path, here = dict(os.environ), list(sys.path), Path.cwd()
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    known = logging.getLogger("known.before")
    said = io.StringIO()
    with pytest.raises(KeyError), surroundings(tmp_path, tmp_path, {"NEW": "1", "HOME": None}, said):
        assert (os.environ["NEW"], "HOME" in os.environ, Path.cwd()) == ("1", False, tmp_path)
        assert sys.path[0] == str(tmp_path)
        sys.path.append("/more")
        os.environ["MORE"] = "1"
        logging.config.dictConfig({"version": 1, "root": {"level": "DEBUG", "handlers": []}})
        assert known.disabled
        print("to nobody's screen")
        raise KeyError
    assert (dict(os.environ), sys.path, Path.cwd()) == (environ, path, here)
    assert (list(root.handlers), root.level, known.disabled) == (*before, False)
    assert said.getvalue() == "to nobody's screen\n"


def test_the_log_is_private_and_without_secrets(tmp_path: Path) -> None:
    log = PrivateLog(tmp_path / "alembic.log", Redactor(["p%40ss-word"]))
    log.write("one, p%40s")
    log.write("s-word\ntwo\nhalf")
    assert (tmp_path / "alembic.log").read_text() == "one, ***\ntwo\n"
    assert (tmp_path / "alembic.log").stat().st_mode & 0o777 == 0o600


class DriverError(Exception):
    sqlstate = "42501"


class WrappedError(Exception):
    """As SQLAlchemy wraps what a driver raised, with the statement's values in its own text."""

    def __init__(self, orig: Exception) -> None:
        super().__init__("[parameters: {'name': 'somebody'}]")
        self.orig = orig


def test_words_of_the_server_without_values_and_secrets() -> None:
    assert of_server(WrappedError(DriverError("no right, p%40ss-word")), LOGIN) == ("42501", "no right, ***")
    assert of_server(WrappedError(OSError("connection refused")), LOGIN) == ("", "connection refused")
    assert of_server(ValueError("x"), LOGIN) == ("", "")
    assert words_of(ValueError("p%40ss-word"), LOGIN) == "ValueError: ***"
    early = before_the_first(WrappedError(OSError("connection refused")), "alembic.ini", LOGIN)
    assert (early.code, early.exit_code) == ("migrations-database", 3)
