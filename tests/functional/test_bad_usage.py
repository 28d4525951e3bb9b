"""Wrong words, wrong settings, wrong folders: exit 2 or 3, one document under --json, and nothing is changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import owlclaw_up
from tests.conftest import KEPT, Cli
from tests.functional.ordinary import OrdinaryCli, ordinary_project


@pytest.fixture
def ordinary() -> Iterator[OrdinaryCli]:
    """A project of an ordinary user."""
    with ordinary_project() as cli:
        yield cli


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A project for commands that are refused; at the end it is as it was."""
    home = tmp_path_factory.mktemp("bare")
    root = home / "app"
    (root / ".git").mkdir(parents=True)
    env = {k: v for k, v in os.environ.items() if k in KEPT} | {"HOME": str(home), "CI": "true", "NO_COLOR": "1"}
    yield Cli(root, env)
    assert files(root) == set()


@pytest.fixture
def settings_file(bare: Cli) -> Iterator[Callable[[str, str], None]]:
    """A writer of settings files, which go with the test."""
    written: list[Path] = []

    def write(name: str, text: str) -> None:
        written.append(bare.root / name)
        written[-1].write_text(text)

    yield write
    for path in written:
        path.unlink(missing_ok=True)


def files(root: Path) -> set[str]:
    """Everything in a project but git's own."""
    return {str(p.relative_to(root)) for p in root.rglob("*") if ".git" not in p.parts}


def refused(cli: Cli, *args: str, code: int = 2, **env: str) -> dict[str, Any]:
    """Run it for a program: one document, nothing else on stdout, nothing changed; gives the error."""
    before = files(cli.root)
    document = cli.json(*args, code=code, **env)
    assert document["schema"] == "owlclaw-up/1"
    assert document["status"] == "failed"
    assert document["exit_code"] == code
    assert document["steps"] == []
    assert files(cli.root) == before
    error: dict[str, Any] = document["error"]
    assert error["message"]
    assert error["hint"]
    assert "Traceback" not in cli.history[-1].text
    return error


@pytest.mark.parametrize(
    ("args", "names"),
    [
        (["nosuch"], ["nosuch"]),
        (["stauts"], ["stauts", "status"]),
        (["--quiet", "nosuch"], ["nosuch"]),
        (["up", "--nosuch"], ["--nosuch"]),
        (["--nosuch"], ["--nosuch"]),
        (["up", "extra"], ["extra"]),
        (["down", "--purg"], ["--purg", "--purge"]),
        (["engine", "nosuch"], ["nosuch"]),
        (["logs", "nosuch"], ["nosuch"]),
        (["logs", "--tail", "x"], ["--tail", "integer"]),
        (["logs", "--since", "yesterday"], ["--since", "yesterday"]),
    ],
)
def test_a_wrong_word_is_named(bare: Cli, args: list[str], names: list[str]) -> None:
    error = refused(bare, *args)
    assert error["code"] == "usage"
    for name in names:
        assert name in error["message"] + error["hint"]


@pytest.mark.parametrize(
    ("args", "names"),
    [
        (["--mode", "nativ"], ["mode", "nativ", "native", "--mode"]),
        (["plan", "--mode", "cloud"], ["mode", "cloud", "hatchet-only"]),
        (["--smoke", "long"], ["smoke", "long", "quick, full, none"]),
        (["--require", "luck"], ["require", "luck", "durable"]),
        (["--timeout", "soon"], ["timeout", "soon", "seconds"]),
        (["--timeout", "0"], ["timeout", "0", "between 1 and 86400"]),
        (["--dashboard-port", "70000"], ["dashboard_port", "70000", "65535"]),
        (["--grpc-port", "x"], ["grpc_port", "port number"]),
    ],
)
def test_a_wrong_value_is_named(bare: Cli, args: list[str], names: list[str]) -> None:
    error = refused(bare, *args)
    assert error["code"] == "bad-setting"
    for name in names:
        assert name in error["message"]


def test_an_option_without_its_value_is_named(bare: Cli) -> None:
    result = bare("--json", "up", "--mode")
    assert result.code == 2
    assert "--mode" in result.json["error"]["message"]


def test_a_reader_is_told_on_stderr_and_stdout_stays_empty(bare: Cli) -> None:
    wrong: list[tuple[list[str], tuple[str, ...]]] = [
        (["stauts"], ("stauts", "status", "hint: owlclaw-up --help")),
        (["down", "--purg"], ("--purg", "hint: owlclaw-up down --help")),
        (["--mode", "nativ"], ("nativ", "native", "--mode", "hint: see docs/reference/settings.md")),
    ]
    for args, names in wrong:
        result = bare(*args)
        assert (result.code, result.stdout) == (2, "")
        for name in names:
            assert name in result.stderr


def test_one_port_for_two_servers_is_refused(bare: Cli) -> None:
    error = refused(bare, "--dashboard-port", "23456", "--grpc-port", "23456")
    assert error["code"] == "bad-setting"
    assert "23456" in error["message"]
    assert "--grpc-port" in error["message"]
    assert "--dashboard-port" in error["message"]


@pytest.mark.parametrize(
    ("name", "text", "nearest"),
    [
        ("owlclaw-up.toml", "dashbord_port = 9000\n", "dashboard_port"),
        ("owlclaw-up.toml", "databasis = []\n", "databases"),
        ("pyproject.toml", "[tool.owlclaw-up]\nmod = 'mock'\n", "mode"),
    ],
)
def test_an_unknown_setting_of_a_file_names_the_nearest(
    bare: Cli, settings_file: Callable[[str, str], None], name: str, text: str, nearest: str
) -> None:
    settings_file(name, text)
    error = refused(bare)
    assert error["code"] == "unknown-setting"
    assert name in error["message"]
    assert nearest in error["hint"]


def test_an_unknown_setting_of_the_environment_names_the_nearest(bare: Cli) -> None:
    error = refused(bare, "status", OWLCLAW_UP_DASHBORD_PORT="9000")
    assert error["code"] == "unknown-setting"
    assert "OWLCLAW_UP_DASHBORD_PORT" in error["message"]
    assert "OWLCLAW_UP_DASHBOARD_PORT" in error["hint"]


def test_an_unknown_setting_that_is_like_none_leads_to_the_list(bare: Cli) -> None:
    error = refused(bare, OWLCLAW_UP_XYZZY="1")
    assert "docs/reference/settings.md" in error["hint"]


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("owlclaw-up.toml", "mode = \n", ["owlclaw-up.toml", "TOML", "line 1"]),
        ("pyproject.toml", "[tool.owlclaw-up\n", ["pyproject.toml", "TOML"]),
        ("pyproject.toml", "[tool]\nowlclaw-up = 'native'\n", ["pyproject.toml", "table"]),
        ("owlclaw-up.toml", "mode = 'nativ'\n", ["owlclaw-up.toml", "nativ", "native"]),
        ("owlclaw-up.toml", "env_file = ''\n", ["owlclaw-up.toml", "env_file"]),
        ("owlclaw-up.toml", "databases = [{name = 'x', extensions = 3}]\n", ["owlclaw-up.toml", "databases"]),
        ("owlclaw-up.toml", "databases = [{name = 'X;'}]\n", ["owlclaw-up.toml", "X;"]),
        ("owlclaw-up.toml", "env_names = {DATABASE_URL = 'A-B'}\n", ["owlclaw-up.toml", "A-B"]),
        ("owlclaw-up.toml", "admin_password = 'hunter2'\n", ["owlclaw-up.toml", "admin_password", "8 to 64"]),
        ("owlclaw-up.toml", "token_lifetime = 'for ever'\n", ["owlclaw-up.toml", "for ever", "90d"]),
    ],
)
def test_a_wrong_value_of_a_file_is_named_with_its_place(
    bare: Cli, settings_file: Callable[[str, str], None], name: str, text: str, names: list[str]
) -> None:
    settings_file(name, text)
    error = refused(bare)
    assert error["code"] == "bad-setting"
    for word in names:
        assert word in error["message"]
    assert "hunter2" not in str(error)


def test_flag_over_environment_over_file_and_the_source_is_said(
    bare: Cli, settings_file: Callable[[str, str], None]
) -> None:
    settings_file("pyproject.toml", "[tool.owlclaw-up]\nmode = 'full'\nsmoke = 'wrong'\n")
    settings_file("owlclaw-up.toml", "mode = 'nosuch'\n")
    assert "pyproject.toml" in bare.json("plan", code=2)["error"]["message"]
    settings_file("pyproject.toml", "[tool.owlclaw-up]\nmode = 'full'\n")
    assert "owlclaw-up.toml" in bare.json("plan", code=2)["error"]["message"]
    settings_file("owlclaw-up.toml", "mode = 'mock'\n")
    assert bare.json("plan")["decision"]["source"] == "file"
    assert bare.json("plan", OWLCLAW_UP_MODE="mock")["decision"]["source"] == "env"
    assert bare.json("plan", "--mode", "mock", OWLCLAW_UP_MODE="full")["decision"]["source"] == "flag"


def test_a_project_that_is_missing_or_a_file_is_refused(bare: Cli, settings_file: Callable[[str, str], None]) -> None:
    settings_file("file", "")
    for name, why in (("missing", "does not exist"), ("file", "is a file")):
        error = refused(bare, "--project-dir", str(bare.root / name))
        assert error["code"] == "project-missing"
        assert str(bare.root / name) in error["message"]
        assert why in error["message"]
        assert "--project-dir" in error["hint"]


def test_a_project_that_cannot_be_written_is_refused(ordinary: OrdinaryCli) -> None:
    ordinary.root.chmod(0o555)
    error = refused(ordinary, "--smoke", "none", code=3)
    assert error["code"] == "project-not-writable"
    assert str(ordinary.root) in error["message"]
    assert "Permission denied" in error["message"]
    assert str(ordinary.root) in error["hint"]
    # What only looks works, and says that there is nothing.
    assert ordinary.json("plan", "--smoke", "none")["error"] is None
    assert ordinary.json("status", code=1)["error"]["code"] == "no-environment"
    assert ordinary.json("down")["status"] == "ok"
    assert files(ordinary.root) == set()
    ordinary.root.chmod(0o755)


def test_an_ordinary_user_brings_it_up_and_takes_it_down(ordinary: OrdinaryCli) -> None:
    """As root the server lives elsewhere; an ordinary user's is in the project, and goes with it."""
    assert ordinary.json("--smoke", "none")["status"] == "degraded"
    state = ordinary.state["data"]["postgres"]
    assert state["user"] is None
    assert Path(state["base"]).is_relative_to(ordinary.root / ".owlclaw-up")
    assert (ordinary.root / ".owlclaw-up").stat().st_uid == ordinary.root.stat().st_uid
    ordinary.assert_no_leak()
    ordinary.json("down", "--purge")
    assert files(ordinary.root) == set()


def test_shared_options_stand_before_or_after_the_command(bare: Cli) -> None:
    root, elsewhere = str(bare.root), Path("/")
    after = bare("status", "--json", "--project-dir", root, cwd=elsewhere)
    before = bare("--json", "--project-dir", root, "status", cwd=elsewhere)
    joined = bare(f"--project-dir={root}", "status", "--json", cwd=elsewhere)
    engines = bare("--json", "engine", "list", "--no-color", "--project-dir", root, cwd=elsewhere)
    for result in (after, before, joined):
        assert result.code == 1
        assert result.json["command"] == "status"
        assert result.json["project"] == root
    assert engines.code == 0
    assert engines.json["command"] == "engine list"


def test_alone_it_is_up(mock_cli: Cli) -> None:
    alone = mock_cli("--smoke", "none", "--mode", "mock", "--json")
    assert alone.code == 0
    assert alone.json["command"] == "up"
    assert alone.json["mode"] == "mock"
    assert (mock_cli.root / ".env").exists()
    nothing = mock_cli("--quiet", "--smoke", "none")
    assert nothing.code == 0
    assert nothing.text == ""
    mock_cli.assert_no_leak()


def test_a_folder_below_the_project_belongs_to_it(bare: Cli) -> None:
    below = bare.root / "src/deep"
    below.mkdir(parents=True)
    assert bare("status", "--json", cwd=below).json["project"] == str(bare.root)
    below.rmdir()
    below.parent.rmdir()


def test_version_is_one_line_and_needs_no_project(bare: Cli) -> None:
    result = bare("--version", cwd=Path("/"))
    assert (result.code, result.stdout, result.stderr) == (0, f"owlclaw-up {owlclaw_up.__version__}\n", "")


def test_the_installed_command_is_the_same(bare: Cli) -> None:
    command = Path(sys.executable).with_name("owlclaw-up")
    ran = subprocess.run(
        [str(command), "nosuch", "--json"], cwd=bare.root, env=bare.env, text=True, capture_output=True,
        check=False, timeout=30,
    )  # fmt: skip
    assert ran.returncode == 2
    assert ran.stdout == bare("nosuch", "--json").stdout


def test_help_costs_nothing_and_names_every_command(bare: Cli) -> None:
    result = bare("--help")
    assert result.code == 0
    for command in ("up", "plan", "status", "smoke", "down", "reset", "logs", "env", "open", "engine"):
        assert f"  {command} " in result.stdout
    assert bare("up", "--help").code == 0


def test_nothing_is_removed_without_a_yes(new_cli: Callable[..., Cli]) -> None:
    cli = new_cli()
    cli.json("--mode", "mock", "--smoke", "none")
    written = (cli.root / ".env").read_bytes()
    cli.env = {k: v for k, v in cli.env.items() if k != "CI"}
    for command in (["down", "--purge"], ["reset"]):
        error = refused(cli, *command)
        assert error["code"] == "confirmation-needed"
        assert command[-1] in error["message"]
        assert "--yes" in error["hint"]
    # A terminal is asked, and no is no.
    ours, theirs = os.openpty()
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "owlclaw_up", "down", "--purge"], cwd=cli.root, env=cli.env, text=True,
            stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        os.write(ours, b"n\n")
        _, asked = child.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert child.returncode == 0
    assert "Remove everything" in asked
    assert str(cli.root) in asked
    assert (cli.root / ".env").read_bytes() == written
    assert cli.json("status")["services"][0]["state"] == "running"
    cli.assert_no_leak()
