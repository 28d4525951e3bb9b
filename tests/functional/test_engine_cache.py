"""The user's engine cache: what is imported comes as a whole or not at all, and `up` finds it without any setting."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli
from tests.standin import PROGRAMS, install

NewCli = Callable[..., Cli]


@pytest.fixture
def cli(new_cli: NewCli) -> Cli:
    """A user of whom nothing says where an engine is."""
    return new_cli(OWLCLAW_UP_ENGINE_DIR="", OWLCLAW_UP_OFFLINE="true")


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return install(tmp_path / "engine", version="v0.107.2")


def cache_of(cli: Cli) -> Path:
    return Path(cli.json("engine", "list")["cache"])


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, hidden files as well."""
    if not folder.exists():
        return {}
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def engines(cli: Cli) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli.json("engine", "list")["engines"]
    return found


def test_an_imported_engine_is_found_without_a_setting(cli: Cli, engine: Path) -> None:
    cache = cache_of(cli)
    assert cache.is_relative_to(cli.root.parent), "the cache is this user's"
    assert engines(cli) == []
    assert "engine import DIR" in cli("engine", "list").stdout
    assert cli.json("plan")["mode"] == "mock"

    imported = cli.json("engine", "import", str(engine))
    assert imported["new"] is True and imported["version"] == "v0.107.2"
    assert Path(imported["directory"]) == cache / "v0.107.2"
    assert sorted(p.name for p in cache.iterdir()) == ["v0.107.2"]
    for name in PROGRAMS:
        assert (cache / "v0.107.2" / name).read_bytes() == (engine / name).read_bytes()
        assert (cache / "v0.107.2" / name).stat().st_mode & 0o111 == 0o111
    (row,) = engines(cli)
    assert row["usable"] and row["source"] == "engine cache" and row["version"] == "v0.107.2"

    # The folder it came from is needed no more.
    shutil.rmtree(engine)
    document = cli.json("up")
    assert document["mode"] == "native" and document["status"] == "ok"
    assert "engine cache" in document["decision"]["why"]
    assert document["smoke"]["status"] == "passed"
    assert cli.state["data"]["engine"]["directory"] == str(cache / "v0.107.2")
    # Another checkout of the same user finds it too; a purge here leaves it.
    assert cli("down", "--purge", "--yes").code == 0
    assert cli.json("plan")["mode"] == "native"


def test_imported_again_and_replaced(cli: Cli, engine: Path) -> None:
    cache = cache_of(cli)
    relative = engine.parent
    first = cli.json("engine", "import", engine.name, "--project-dir", str(cli.root), cwd=relative)
    before = {p: p.stat().st_mtime_ns for p in (cache / "v0.107.2").iterdir()}
    again = cli.json("engine", "import", str(engine))
    assert first["new"] is True and again["new"] is False
    assert before == {p: p.stat().st_mtime_ns for p in (cache / "v0.107.2").iterdir()}, "nothing was copied"
    assert "was already in" in cli("engine", "import", str(engine)).stdout

    # The same version, built anew: the whole of it takes the place of the old.
    with (engine / "hatchet-admin").open("a") as file:
        file.write("# built again\n")
    (engine / "static-assets").mkdir()
    (engine / "static-assets/index.html").write_text("<!doctype html>")
    assert cli.json("engine", "import", str(engine))["new"] is True
    assert tree(cache / "v0.107.2") == tree(engine)
    assert sorted(p.name for p in cache.iterdir()) == ["v0.107.2"]
    # Only the dashboard's files differ.
    (engine / "static-assets/index.html").write_text("<!doctype html><title>new</title>")
    assert cli.json("engine", "import", str(engine))["new"] is True
    assert tree(cache / "v0.107.2") == tree(engine)

    # The newest of several is taken, by number and not by letter.
    for version in ("v0.99.1", "v0.110.0"):
        cli.json("engine", "import", str(install(engine.with_name(version), version=version)))
    assert [row["version"] for row in engines(cli)] == ["v0.110.0", "v0.107.2", "v0.99.1"]
    assert "v0.110.0" in cli.json("plan")["decision"]["why"]


def without_one(engine: Path) -> None:
    (engine / "hatchet-migrate").unlink()


def not_executable(engine: Path) -> None:
    (engine / "hatchet-admin").chmod(0o600)


def a_folder_for_a_program(engine: Path) -> None:
    (engine / "hatchet-admin").unlink()
    (engine / "hatchet-admin").mkdir()


def says_no_version(engine: Path) -> None:
    (engine / "hatchet-lite").write_text("#!/bin/sh\necho hello\n")


def says_a_path(engine: Path) -> None:
    """A version becomes a folder's name."""
    (engine / "hatchet-lite").write_text("#!/bin/sh\necho '../../../escaped v0.107.2'\n")


def says_a_path_after_a_version(engine: Path) -> None:
    (engine / "hatchet-lite").write_text("#!/bin/sh\necho 'v0.107.2/../../../escaped'\n")


def assets_that_cannot_be_read(engine: Path) -> None:
    """Met half-way through the copy."""
    (engine / "static-assets").mkdir()
    (engine / "static-assets/index.html").write_text("<!doctype html>")
    (engine / "static-assets/logo.png").symlink_to("nowhere")


BROKEN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "without a program": (without_one, "engine-incomplete", "hatchet-migrate"),
    "not executable": (not_executable, "engine-not-executable", "hatchet-admin"),
    "a folder for a program": (a_folder_for_a_program, "engine-incomplete", "hatchet-admin"),
    "no version": (says_no_version, "engine-not-runnable", "hello"),
    "a path for a version": (says_a_path, "engine-not-runnable", "escaped"),
    "a path behind a version": (says_a_path_after_a_version, "engine-not-runnable", "escaped"),
    "unreadable assets": (assets_that_cannot_be_read, "engine-import", "as it was"),
    "absent": (shutil.rmtree, "engine-missing", "engine"),
}


def test_a_broken_folder_changes_nothing(cli: Cli, engine: Path, tmp_path: Path) -> None:
    cache = cache_of(cli)
    good = install(tmp_path / "good", version="v0.107.2")
    for kept in ({}, {"v0.107.2": good}):
        for folder in kept.values():
            cli.json("engine", "import", str(folder))
        before = tree(cache.parent)
        for name, (damage, code, word) in BROKEN.items():
            shutil.rmtree(engine, ignore_errors=True)
            install(engine, version="v0.107.2")
            # Not the good one's bytes, so that a copy would be needed.
            with (engine / "hatchet-admin").open("a") as file:
                file.write("# another build\n")
            damage(engine)
            error = cli.json("engine", "import", str(engine), code=3)["error"]
            assert error["code"] == code, (name, error)
            assert word in error["message"] and str(engine) in error["message"], (name, error)
            assert error["hint"]
            assert tree(cache.parent) == before or (not kept and tree(cache) == {}), name
    assert not list(cli.root.parent.rglob("escaped*"))
    assert [row["version"] for row in engines(cli)] == ["v0.107.2"]


def test_a_cache_that_cannot_be_written(cli: Cli, engine: Path) -> None:
    cache = cache_of(cli)
    cache.parent.parent.mkdir(parents=True, exist_ok=True)
    cache.parent.write_text("a file where a folder should be")
    error = cli.json("engine", "import", str(engine), code=3)["error"]
    assert error["code"] == "engine-import" and str(cache) in error["message"]
    assert error["hint"] and error["detail"]
    assert cache.parent.read_text() == "a file where a folder should be"


def test_a_damaged_engine_in_the_cache_is_passed_over(cli: Cli, engine: Path) -> None:
    cache = cache_of(cli)
    for version in ("v0.107.2", "v0.108.0"):
        cli.json("engine", "import", str(install(engine.with_name(version), version=version)))
    (cache / "v0.108.0/hatchet-migrate").unlink()
    # What an import that was killed leaves is no engine.
    shutil.copytree(cache / "v0.107.2", cache / ".import-left")
    rows = engines(cli)
    assert [(r["usable"], Path(r["directory"]).name) for r in rows] == [(False, "v0.108.0"), (True, "v0.107.2")]
    assert "hatchet-migrate" in rows[0]["why"]
    document = cli.json("plan")
    assert document["mode"] == "native" and "v0.107.2" in document["decision"]["why"]

    # What was named is used or refused, never replaced by what is at hand.
    error = cli.json("up", "--mode", "native", "--engine-dir", str(cache / "v0.108.0"), code=3)["error"]
    assert error["code"] == "engine-incomplete"
