"""The sample project of `examples/`, as its README says: brought up, migrated, tested; in mock, on the stand-in, on a real engine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REAL_ENGINE_DIR, Cli, command_lines

EXAMPLE = Path(__file__).parents[2] / "examples" / "orders"
ENGINES = ["none", "standin", *(["real"] if REAL_ENGINE_DIR else [])]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_shop_comes_up_migrates_and_passes_its_tests(
    new_cli: Callable[..., Cli], standin_dir: Path, engine: str
) -> None:
    cli = new_cli({"none": "", "standin": standin_dir, "real": REAL_ENGINE_DIR}[engine])
    shutil.copytree(EXAMPLE, cli.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".env*"))
    mode = "mock" if engine == "none" else "native"
    assert cli.json("up", "--mode", mode)["smoke"]["status"] == "passed"
    assert cli("db", "migrate").code == 0

    tested = pytest_in(cli, *([] if engine == "none" else ["--require-hatchet"]))
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert ("6 passed, 3 skipped" if engine == "none" else "9 passed") in tested.stdout
    if engine == "none":
        # Where an engine is wanted, nothing is skipped silently.
        strict = pytest_in(cli, "--require-hatchet", "tests/test_engine.py")
        assert strict.returncode == 1
        assert "3 failed" in strict.stdout
        assert "this environment is a mock" in strict.stdout

    standing = cli.json("db", "status")
    assert standing["exit_code"] == 0
    left = [line for line in command_lines(cli.root) if "orders.py" in line]
    assert not left, "the worker has ended with its tests"
    for text in cli.secret_texts():
        assert text not in tested.stdout + tested.stderr


def pytest_in(cli: Cli, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
    return subprocess.run(command, cwd=cli.root, env=cli.env, text=True, capture_output=True, timeout=200, check=False)
