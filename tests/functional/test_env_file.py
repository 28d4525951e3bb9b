"""The dotenv file through the real command: refused where it must be, edited byte for byte, and given back as it was."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values

from owlclaw_up.token_claims import decode
from tests.conftest import Cli

ORIGINAL = (
    "# settings of the team; keep the order\r\n"
    "\r\n"
    'export GREETING="hello # world"  # a comment\r\n'
    "EMPTY=\r\n"
    "  INDENTED = 'single $HOME'\r\n"
    'HATCHET_API_TOKEN=""\r\n'
    "export DATABASE_URL='postgresql://me:secret-of-mine@db.example/app'\r\n"
    "no assignment at all\r\n"
    'MULTI="first\r\nsecond"\r\n'
    "UMLAUT=Grüße\r\n"
    "LAST=1"
).encode()
OURS = {
    "HATCHET_API_TOKEN", "HATCHET_SERVER_URL", "HATCHET_GRPC_HOST_PORT", "HATCHET_GRPC_TLS_STRATEGY",
    "HATCHET_CLIENT_TOKEN", "HATCHET_CLIENT_HOST_PORT", "HATCHET_CLIENT_SERVER_URL", "HATCHET_CLIENT_TLS_STRATEGY",
    "HATCHET_CLIENT_TENANT_ID", "DATABASE_URL", "OWLCLAW_DATABASE_URL", "OWLCLAW_PG_PORT",
}  # fmt: skip


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def git(cli: Cli, *args: str) -> None:
    subprocess.run(["git", "-C", str(cli.root), *args], check=True, capture_output=True)


def shell(cli: Cli, script: str) -> str:
    """The output of a real POSIX shell in the project."""
    ran = subprocess.run(
        ["/bin/sh", "-eu", "-c", script],
        cwd=cli.root,
        env=cli.env,
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def refused(cli: Cli, *args: str) -> tuple[str, str]:
    """`up` ends with 3 and the code of the dotenv file, and makes nothing; gives message and hint."""
    error = cli.json("--mode", "mock", "--smoke", "none", *args, code=3)["error"]
    assert error["code"] == "env-file"
    assert not (cli.root / ".owlclaw-up").exists()
    return error["message"], error["hint"]


def test_a_file_that_cannot_be_edited_safely_is_left_alone(mock_cli: Cli) -> None:
    path = mock_cli.root / ".env"
    path.mkdir()
    message, hint = refused(mock_cli)
    assert str(path) in message
    assert "directory" in message
    assert "--env-file" in hint
    path.rmdir()

    os.mkfifo(path)
    message, _ = refused(mock_cli)
    assert "no regular file" in message
    path.unlink()

    unreadable: list[tuple[bytes, str]] = [
        ("A=1\nNAME=Grüße\n".encode("latin-1"), "not UTF-8"),
        ("A=1\n".encode("utf-16"), "UTF-16"),
        (b"A=1\nB=\0\n", "NUL"),
    ]
    for data, why in unreadable:
        path.write_bytes(data)
        message, hint = refused(mock_cli)
        assert why in message
        assert "UTF-8" in hint
        assert path.read_bytes() == data

    path.write_bytes(b"A=1\n")
    path.chmod(0o444)
    message, hint = refused(mock_cli)
    assert "read-only" in message
    assert f"chmod u+w {path}" in hint
    assert (path.read_bytes(), mode_of(path)) == (b"A=1\n", 0o444)
    path.chmod(0o644)

    git(mock_cli, "add", "-f", ".env")
    message, hint = refused(mock_cli)
    assert "git tracks it" in message
    assert "git rm --cached .env" in hint
    assert path.read_bytes() == b"A=1\n"
    assert not path.with_name(".env.owlclaw-up.bak").exists()

    # The way out that the hint names.
    assert mock_cli.json("--mode", "mock", "--smoke", "none", "--env-file", ".env.up")["env_file"] == ".env.up"
    assert path.read_bytes() == b"A=1\n"
    assert mock_cli.dotenv(".env.up").keys() == OURS - {"HATCHET_API_TOKEN"}
    mock_cli.assert_no_leak()


def test_a_folder_for_the_file_that_is_missing_is_said_before_anything_is_made(mock_cli: Cli) -> None:
    message, hint = refused(mock_cli, "--env-file", "other/.env.x")
    assert f"no folder {mock_cli.root / 'other'}" in message
    assert "--env-file" in hint


@pytest.fixture
def own_file(cli: Cli) -> Path:
    """A user's own dotenv file, with everything in it that such files have."""
    path = cli.root / ".env"
    path.write_bytes(ORIGINAL)
    path.chmod(0o640)
    return path


def test_a_users_file_goes_through_up_down_up_purge(cli: Cli, own_file: Path) -> None:
    cli.json("--smoke", "none")
    first = own_file.read_bytes()
    backup = own_file.with_name(".env.owlclaw-up.bak")
    assert (backup.read_bytes(), mode_of(backup), mode_of(own_file)) == (ORIGINAL, 0o600, 0o600)
    check_foreign_lines(first)

    now = cli.dotenv()
    assert now.keys() >= OURS
    assert not [key for key in now if key.startswith("OWLCLAW_UP_")]
    assert now["HATCHET_API_TOKEN"] == now["HATCHET_CLIENT_TOKEN"] == cli.secrets["token"]
    ports = cli.state["ports"]
    assert now["HATCHET_SERVER_URL"] == f"http://localhost:{ports['dashboard']}"
    assert now["HATCHET_GRPC_HOST_PORT"] == f"localhost:{ports['grpc']}"
    assert now["DATABASE_URL"] == now["OWLCLAW_DATABASE_URL"]
    assert now["DATABASE_URL"].startswith("postgresql+asyncpg://owlclaw:")
    assert now["DATABASE_URL"].endswith(f"@localhost:{ports['postgres']}/owlclaw")
    assert now["OWLCLAW_PG_PORT"] == str(ports["postgres"])
    claims = decode(now["HATCHET_API_TOKEN"])
    assert claims is not None
    assert claims.tenant == now["HATCHET_CLIENT_TENANT_ID"]

    check_shell(cli, now)
    check_diff(cli, own_file)

    cli.json("down")
    assert own_file.read_bytes() == first
    cli.json("--smoke", "none")
    assert own_file.read_bytes() == first
    assert backup.read_bytes() == ORIGINAL
    cli.assert_no_leak()
    cli.json("down", "--purge")
    assert (own_file.read_bytes(), mode_of(own_file)) == (ORIGINAL, 0o640)
    assert sorted(p.name for p in cli.root.iterdir()) == [".env", ".git", ".gitignore"]


def check_foreign_lines(data: bytes) -> None:
    """Every line but the two values of ours stands as it stood, in its order, with its line end."""
    lines = data.split(b"\r\n")
    at = [lines.index(line) for line in ORIGINAL.split(b"\r\n") if not line.startswith((b"HATCHET_", b"export DATAB"))]
    assert at[:6] == [0, 1, 2, 3, 4, 7]
    assert lines[5].startswith(b'HATCHET_API_TOKEN="ey')
    assert lines[6].startswith(b"export DATABASE_URL='postgresql+asyncpg://owlclaw:")
    assert b"\n" not in data.replace(b"\r\n", b"")
    assert data.endswith(b"\r\n")


def check_shell(cli: Cli, wanted: dict[str, str]) -> None:
    """`env --export`, in a real shell, gives a child the true values, and shows no secret itself."""
    command = f"{sys.executable} -m owlclaw_up env --export"
    printed = shell(cli, command)
    for key in ("HATCHET_API_TOKEN", "DATABASE_URL"):
        assert wanted[key] not in printed
    seen = shell(cli, f'set +u; eval "$({command})"; env -0')
    child = dict(pair.split("=", 1) for pair in seen.split("\0") if "=" in pair)
    assert {key: child[key] for key in OURS & wanted.keys()} == {key: wanted[key] for key in OURS & wanted.keys()}
    shown = cli("env")
    assert shown.code == 0
    assert "HATCHET_API_TOKEN=***" in shown.stdout.splitlines()
    assert f"HATCHET_SERVER_URL={wanted['HATCHET_SERVER_URL']}" in shown.stdout.splitlines()
    revealed = cli.json("env", "--reveal")["variables"]
    assert revealed == {key: wanted[key] for key in OURS & wanted.keys()}
    assert cli.json("env")["variables"]["DATABASE_URL"] == "***"


def check_diff(cli: Cli, path: Path) -> None:
    """`env --diff` says what the file has otherwise; `up` mends it, and what the user wrote besides stays."""
    good = path.read_bytes()
    assert cli.json("env", "--diff")["differences"] == {}
    server = next(line for line in good.split(b"\r\n") if line.startswith(b"HATCHET_SERVER_URL="))
    port = next(line for line in good.split(b"\r\n") if line.startswith(b"OWLCLAW_PG_PORT="))
    path.write_bytes(
        good.replace(server, b"HATCHET_SERVER_URL=http://elsewhere").replace(port + b"\r\n", b"") + b"OWN=2\r\n"
    )
    differs = cli("env", "--diff")
    assert differs.code == 1
    assert "HATCHET_SERVER_URL: differs" in differs.stdout
    assert "OWLCLAW_PG_PORT: missing" in differs.stdout
    step = next(s for s in cli.json("--smoke", "none")["steps"] if s["id"] == "env_file")
    assert (step["action"], step["status"]) == ("update", "done")
    assert cli.json("env", "--diff")["differences"] == {}
    assert b"OWN=2\r\n" in path.read_bytes()
    # The next edit of the user takes it out again, so that the way back can be told byte for byte.
    path.write_bytes(good)


def test_a_file_of_ours_is_made_anew_with_the_same_token(cli: Cli) -> None:
    path = cli.root / ".env"
    cli.json("--smoke", "none")
    assert mode_of(path) == 0o600
    before = path.read_bytes()
    path.unlink()
    cli.json("--smoke", "none")
    assert (path.read_bytes(), mode_of(path)) == (before, 0o600)
    path.chmod(0o644)
    cli.json("--smoke", "none")
    assert (path.read_bytes(), mode_of(path)) == (before, 0o600)

    # Without an engine the token goes, so that test suites which skip without a server still skip; and it comes back.
    assert cli.json("--mode", "mock", "--smoke", "none")["mode"] == "mock"
    assert "HATCHET_API_TOKEN" not in path.read_text()
    assert cli.secrets["token"] not in path.read_text()
    assert cli.dotenv().keys() == OURS - {"HATCHET_API_TOKEN"}
    cli.json("--mode", "native", "--smoke", "none")
    assert cli.dotenv() == {k: v or "" for k, v in dotenv_values(stream=io.StringIO(before.decode())).items()}
    cli.assert_no_leak()
    cli.json("down", "--purge")
    assert sorted(p.name for p in cli.root.iterdir()) == [".git", ".gitignore"]


def test_names_of_the_users_choice(cli: Cli) -> None:
    own = b"DB=mine\n"
    (cli.root / ".env").write_bytes(own)
    (cli.root / "owlclaw-up.toml").write_text(
        'hatchet_server_url = "grpc"\n'
        '[env_names]\nHATCHET_API_TOKEN = "TOKEN"\nDATABASE_URL = "DB"\nOWLCLAW_PG_PORT = "PGPORT_OF_MINE"\n'
    )
    cli.json("--smoke", "none")
    now = cli.dotenv()
    assert now.keys() == OURS - {"HATCHET_API_TOKEN", "DATABASE_URL", "OWLCLAW_PG_PORT"} | {
        "TOKEN",
        "DB",
        "PGPORT_OF_MINE",
    }
    assert now["TOKEN"] == cli.secrets["token"]
    assert now["DB"] == now["OWLCLAW_DATABASE_URL"]
    ports = cli.state["ports"]
    assert now["HATCHET_SERVER_URL"] == f"http://localhost:{ports['grpc']}"
    # The SDK's own variable is always the REST address.
    assert now["HATCHET_CLIENT_SERVER_URL"] == f"http://localhost:{ports['dashboard']}"
    shown = cli("env").stdout.splitlines()
    assert {"TOKEN=***", "DB=***"} <= set(shown)
    cli.json("--mode", "mock", "--smoke", "none")
    assert "TOKEN" not in cli.dotenv()
    # Names that are taken back: the file is still given back as it was.
    (cli.root / "owlclaw-up.toml").unlink()
    cli.json("--mode", "mock", "--smoke", "none")
    assert cli.dotenv().keys() >= OURS - {"HATCHET_API_TOKEN"}
    cli.assert_no_leak()
    cli.json("down", "--purge")
    assert (cli.root / ".env").read_bytes() == own


def test_a_blank_token_of_the_users_stays_blank_in_mock(mock_cli: Cli) -> None:
    path = mock_cli.root / ".env"
    path.write_bytes(b"HATCHET_API_TOKEN=\nA=1\n")
    mock_cli.json("--smoke", "none")
    assert path.read_bytes().startswith(b"HATCHET_API_TOKEN=\nA=1\n")
    assert mock_cli.dotenv()["HATCHET_API_TOKEN"] == ""
    mock_cli.json("down", "--purge")
    assert path.read_bytes() == b"HATCHET_API_TOKEN=\nA=1\n"


def test_other_files_and_links(mock_cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "shared.env"
    target.write_bytes(b"A=1\n")
    link = mock_cli.root / ".env"
    link.symlink_to(target)
    (mock_cli.root / "other").mkdir()
    mock_cli.json("--smoke", "none")
    assert link.is_symlink()
    assert mode_of(target) == 0o600
    assert target.read_bytes().startswith(b"A=1\n")
    assert mock_cli.dotenv().keys() == OURS - {"HATCHET_API_TOKEN"} | {"A"}

    assert mock_cli.json("--smoke", "none", "--env-file", "other/.env.x")["env_file"] == "other/.env.x"
    other = mock_cli.root / "other/.env.x"
    assert mode_of(other) == 0o600
    assert mock_cli.dotenv("other/.env.x").keys() == OURS - {"HATCHET_API_TOKEN"}
    # Git does not ignore that one, and that is said.
    findings = {f["id"]: f for f in mock_cli.json("--smoke", "none", "--env-file", "new.env")["findings"]}
    assert "new.env" in findings["env.ignored"]["title"]
    assert "new.env >> .gitignore" in findings["env.ignored"]["command"]
    mock_cli.json("--smoke", "none")
    mock_cli.assert_no_leak()

    # Every file that was written is given back, not only the last one.
    mock_cli.json("down", "--purge")
    assert link.is_symlink()
    assert target.read_bytes() == b"A=1\n"
    assert not other.exists()
    assert sorted(p.name for p in mock_cli.root.iterdir()) == [".env", ".git", ".gitignore", "other"]
