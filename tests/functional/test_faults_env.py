"""Faults of the dotenv file, each made to happen in an environment that stands: what the doctor says, and what mends it."""

from __future__ import annotations

import re
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from owlclaw_up.environment import up
from tests.conftest import Cli
from tests.faults import Patient

FAMILY = (
    "env.file", "env.missing", "env.permissions", "env.ignored", "env.backup", "env.stale", "env.shadow", "env.elsewhere",
    "env.duplicates", "env.line-ends",
)  # fmt: skip


@pytest.fixture(scope="module")
def standing(new_module_cli: Callable[..., Cli], standin_dir: Path) -> Cli:
    cli = new_module_cli(standin_dir)
    cli.json("up", "--smoke", "none")
    return cli


@pytest.fixture
def patient(standing: Cli) -> Iterator[Patient]:
    """An environment whose dotenv file each test finds as `up` wrote it, and may do anything to."""
    path, ignore = standing.root / ".env", standing.root / ".gitignore"
    before = path.read_bytes()
    yield Patient(standing)
    subprocess.run(["git", "-C", str(standing.root), "rm", "-q", "--cached", "--ignore-unmatch", ".env"], check=True)
    if path.is_dir():
        path.rmdir()
    (standing.root / ".env.local").unlink(missing_ok=True)
    path.write_bytes(before)
    path.chmod(0o600)
    ignore.write_text(".env\n")


def test_a_healthy_file_is_silent(patient: Patient) -> None:
    assert patient.well(*FAMILY)
    assert patient.last is not None
    assert {f.id for f in patient.last.findings if f.level == "ok"} == set(FAMILY) - {"env.backup"}


def test_what_cannot_be_edited_is_said_in_the_words_of_up(patient: Patient) -> None:
    path = patient.cli.root / ".env"

    def said(*words: str) -> None:
        finding = patient.first()
        assert (finding.id, finding.level) == ("env.file", "fail")
        error = up(patient.project(), dry_run=True).error
        assert (finding.title, finding.hint) == (error.message, error.hint)
        for word in words:
            assert word in finding.title + finding.hint

    before = path.read_bytes()
    subprocess.run(["git", "-C", str(patient.cli.root), "add", "-f", ".env"], check=True)
    said("git tracks it", "git rm --cached .env")
    subprocess.run(["git", "-C", str(patient.cli.root), "rm", "-q", "--cached", ".env"], check=True)
    path.chmod(0o400)
    said("read-only", f"chmod u+w {path}")
    path.chmod(0o600)
    path.write_bytes(b"NAME=Gr\xfc\xdfe\n" + before)
    said("not UTF-8", "save it as UTF-8")
    # A key without a value, which hides the one that is to be added above it.
    path.write_bytes(re.sub(rb"OWLCLAW_PG_PORT=.*\n", b"", before) + b"\nOWLCLAW_PG_PORT\n")
    said("OWLCLAW_PG_PORT without '=' hides", "mend that line")
    path.unlink()
    path.mkdir()
    said("it is a directory", "--env-file")


def test_one_that_is_gone_or_emptied(patient: Patient) -> None:
    path = patient.cli.root / ".env"
    before = path.read_bytes()
    for break_it, words in (
        (path.unlink, f"{path} is gone"),
        (lambda: path.write_text("OTHER=1\n"), f"{path} has none of the keys that up wrote"),
    ):
        break_it()
        finding = patient.first()
        assert (finding.id, finding.level, finding.title) == ("env.missing", "fail", words)
        assert finding.command == "owlclaw-up" and "HATCHET_API_TOKEN" in finding.detail
        assert patient.last is not None
        assert ("token.none", "env.missing") in {(f.id, f.cause) for f in patient.last.findings}
        patient.mend("env.missing", smoke="none")
        # Of the file that somebody else had put there.
        (path.parent / ".env.owlclaw-up.bak").unlink(missing_ok=True)
        assert patient.well(*FAMILY)
        assert set(before.splitlines()) <= set(path.read_bytes().splitlines())


def test_rights_for_others_are_taken_away(patient: Patient) -> None:
    path = patient.cli.root / ".env"
    path.chmod(0o644)
    finding = patient.finding("env.permissions")
    assert (finding.level, finding.command) == ("warn", f"chmod 600 {path}")
    assert "0644" in finding.detail and "HATCHET_API_TOKEN" in finding.detail
    before = path.read_bytes()
    patient.mend("env.permissions")
    assert (stat.S_IMODE(path.stat().st_mode), path.read_bytes()) == (0o600, before)
    assert patient.well(*FAMILY)


def test_one_that_git_does_not_ignore(patient: Patient) -> None:
    (patient.cli.root / ".gitignore").write_text("other\n")
    finding = patient.finding("env.ignored")
    assert (finding.level, finding.title) == ("warn", "git does not ignore .env, which holds secrets")
    subprocess.run(["/bin/sh", "-c", finding.command], cwd=patient.cli.root, check=True)
    assert patient.well(*FAMILY)


def test_values_that_up_would_write_otherwise(patient: Patient) -> None:
    path = patient.cli.root / ".env"
    before = path.read_text()
    path.write_text(re.sub("(?m)^HATCHET_GRPC_HOST_PORT=.*$", "HATCHET_GRPC_HOST_PORT=far.example:1", before))
    finding = patient.finding("env.stale")
    assert (finding.level, finding.command) == ("warn", "owlclaw-up")
    assert "for HATCHET_GRPC_HOST_PORT" in finding.title
    assert "far.example" not in finding.title + finding.detail + finding.hint
    path.write_text(re.sub("(?m)^(OWLCLAW_PG_PORT|HATCHET_API_TOKEN)=.*\n", "", before))
    finding = patient.finding("env.stale")
    assert finding.detail == "not there, or empty: HATCHET_API_TOKEN, OWLCLAW_PG_PORT"
    patient.mend("env.stale", smoke="none")
    assert patient.well(*FAMILY)
    assert sorted(path.read_text().splitlines()) == sorted(before.splitlines())


def test_a_setting_that_moves_a_port_is_no_fault_of_the_file(patient: Patient) -> None:
    from tests.ports import free_port

    assert patient.well(*FAMILY, grpc_port=free_port())


def test_what_wins_over_it(patient: Patient) -> None:
    finding = patient.finding("env.shadow", env={"DATABASE_URL": "an-old-one", "HATCHET_CLIENT_TOKEN": ""})
    assert (finding.level, finding.title) == ("warn", "2 keys in the shell win over .env")
    assert finding.command == "unset DATABASE_URL HATCHET_CLIENT_TOKEN"
    assert "empty, which counts as well: HATCHET_CLIENT_TOKEN" in finding.detail
    (patient.cli.root / ".env.local").write_text("# mine\nHATCHET_CLIENT_HOST_PORT=elsewhere:1\n")
    finding = patient.finding("env.shadow")
    assert finding.title == "HATCHET_CLIENT_HOST_PORT in .env.local, line 2 wins over .env"
    assert finding.hint == "remove line 2 of .env.local"
    # The same value shadows nothing: what `up` would write is what counts.
    value = patient.cli.dotenv()["HATCHET_CLIENT_HOST_PORT"]
    (patient.cli.root / ".env.local").write_text(f"HATCHET_CLIENT_HOST_PORT={value}\n")
    assert patient.well(*FAMILY)


def test_a_folder_from_which_nobody_reads_it(patient: Patient, tmp_path: Path) -> None:
    finding = patient.finding("env.elsewhere", cwd=tmp_path)
    assert (finding.level, finding.hint) == ("info", f"start it in {patient.cli.root}")
    assert str(tmp_path) in finding.title
    assert patient.well(*FAMILY, cwd=tmp_path), "worth knowing, and no fault"


def test_a_key_that_stands_twice(patient: Patient) -> None:
    path = patient.cli.root / ".env"
    path.write_text("OWLCLAW_PG_PORT=1\n" + path.read_text())
    finding = patient.finding("env.duplicates")
    assert (finding.level, finding.hint) == ("warn", "remove line 1 of .env")
    assert "more than one OWLCLAW_PG_PORT" in finding.title
    assert patient.bad() == {"env.duplicates": f"warn: {finding.title}"}


def test_line_ends_that_a_shell_hands_on(patient: Patient) -> None:
    path = patient.cli.root / ".env"
    good = path.read_bytes()
    lines = good.splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if line.startswith(b"HATCHET_SERVER_URL="))
    path.write_bytes(b"".join([*lines[:first], lines[first].replace(b"\n", b"\r\n"), *lines[first + 1 :]]))
    finding = patient.finding("env.line-ends")
    assert (finding.level, finding.title) == ("warn", f".env mixes line ends: 1 in CRLF, {len(lines) - 1} in LF")
    assert finding.detail.endswith("at the end of HATCHET_SERVER_URL")
    ran = subprocess.run(
        ["/bin/sh", "-c", '. ./.env; printf %s "$HATCHET_SERVER_URL"'], cwd=path.parent, check=True, capture_output=True
    )
    assert ran.stdout.endswith(b"\r")
    # A whole file of that kind was made so on purpose.
    path.write_bytes(good.replace(b"\n", b"\r\n"))
    finding = patient.finding("env.line-ends")
    assert (finding.level, finding.title) == ("info", "the lines of .env end in CRLF")
    assert patient.well(*FAMILY)
    subprocess.run(["/bin/sh", "-c", finding.command], cwd="/", check=True)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (good, 0o600)
    # And one that Python too reads with it.
    path.write_bytes(good + b'MINE="x\\r"\n')
    assert patient.finding("env.line-ends").title == ".env has values that end in a carriage return"


def test_before_the_first_up_nothing_is_a_fault_and_the_copy_of_a_users_file_is_one_after_it(mock_cli: Cli) -> None:
    path, ignore = mock_cli.root / ".env", mock_cli.root / ".gitignore"
    path.write_bytes(b"SECRET_OF_MINE=hunter2\r\nDATABASE_URL=a\nDATABASE_URL=b\n")
    path.chmod(0o644)
    ignore.write_text("")
    patient = Patient(mock_cli)
    assert patient.finding("env.ignored").level == "warn", "DATABASE_URL is one of our keys"
    ignore.write_text(".env\n")
    assert patient.well(*FAMILY, env={"DATABASE_URL": "c"})
    assert {f.id for f in patient.look(*FAMILY).findings if f.level == "info"} == {"env.duplicates", "env.line-ends"}

    path.write_bytes(b"SECRET_OF_MINE=hunter2\n")
    mock_cli.json("up", "--smoke", "none")
    assert (mock_cli.root / ".env.owlclaw-up.bak").exists()
    finding = patient.finding("env.backup")
    assert finding.level == "warn" and "SECRET_OF_MINE" in finding.detail and "hunter2" not in finding.detail
    assert finding.command == "echo .env.owlclaw-up.bak >> .gitignore"
    assert [f.id for f in patient.look(*FAMILY).findings if f.level == "warn"] == ["env.backup"]
    subprocess.run(["/bin/sh", "-c", finding.command], cwd=mock_cli.root, check=True)
    assert patient.well(*FAMILY)
