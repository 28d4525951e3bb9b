"""`owlclaw-up report` on real projects: well, broken, half made, damaged; never a secret, nothing replaced that is not ours."""

from __future__ import annotations

import html
import itertools
import json
import re
import signal
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.host.machine import Host
from owlclaw_up.report import Gathered, gather_report
from owlclaw_up.views.report import page
from tests.conftest import Cli
from tests.standin import install
from tests.unit.fakes import make_token

# Tokens and passwords that were never ours, as programs leave them in files and logs.
STALE = make_token(sub="somebody-else")
FOREIGN = "postgresql://app:foreign-pw-1@db.example/app"
HOSTILE = f"</pre></script><script>alert(1)</script><img src=x onerror=alert(1)> {STALE} {FOREIGN}"
NAME = "owlclaw-up-report"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine of this module's own, whose faults can be switched on."""
    return install(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module")
def well(new_module_cli: Callable[..., Cli], engine: Path) -> Cli:
    """An environment that is up; its logs and dotenv files hold what nobody else should see."""
    cli = new_module_cli(engine, SERVICE_TOKEN="foreign-pw-2")
    (cli.root / ".env").write_text("STRIPE_SECRET=foreign-pw-3\nGREETING=hello-from-env\n")
    cli.json("up", "--smoke", "none")
    (cli.root / ".env.local").write_text(f"HATCHET_CLIENT_TOKEN={STALE}\n")
    secrets = " ".join(sorted(cli.secret_texts()))
    with (cli.root / ".owlclaw-up/logs/hatchet.log").open("a") as log:
        log.write(f"{HOSTILE}\n{secrets} foreign-pw-2 foreign-pw-3\n")
    return cli


def look(cli: Cli, *, raw: bool = False) -> tuple[Gathered, str]:
    """A report in this process, and its page, free of secrets."""
    gathered = gather_report(cli.root, raw=raw, host=Host(environ=cli.env, cwd=cli.root))
    made = page(gathered.report)
    assert_clean(cli, made)
    return gathered, made


def assert_clean(cli: Cli, *texts: str) -> None:
    foreign = {STALE, STALE.split(".")[1], "foreign-pw-1", "foreign-pw-2", "foreign-pw-3"}
    secrets = foreign | (cli.secret_texts() if (cli.root / ".owlclaw-up/secrets.json").exists() else set())
    for text in texts:
        for secret in secrets:
            assert secret not in text
            assert html.escape(secret) not in text


def words(made: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>|\s+", " ", made.partition("<body>")[2]))


def test_the_page_of_what_stands(well: Cli) -> None:
    shown = well("report")
    assert shown.code == 0
    assert f"Written: {NAME}.html" in shown.stdout
    assert "secrets are masked" in shown.stdout
    path = well.root / f"{NAME}.html"
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert_clean(well, text)
    assert "<script" not in text
    assert "<img" not in text
    assert (
        "</pre></script><script>alert(1)</script><img src=x onerror=alert(1)> *** postgresql://app:***@db.example/app"
        in html.unescape(text)
    )
    ports = well.state["ports"]
    said = words(text)
    for wanted in (
        "Hatchet engine", "v0.107.2", f":{ports['grpc']}", f":{ports['dashboard']}", f":{ports['postgres']}", "PostgreSQL data",
        "engine_dir", "OWLCLAW_UP_ENGINE_DIR", "STRIPE_SECRET", "hatchet-sdk", "DOCKER_HOST is unix:///nonexistent.sock",
        ".env.local", "postgres.log",
    ):  # fmt: skip
        assert wanted in said, wanted
    assert "hello-from-env" not in text


def test_when_each_step_of_the_last_up_began(well: Cli) -> None:
    kept = json.loads((well.root / ".owlclaw-up/logs/last-up.json").read_text())
    steps = [s for s in kept["steps"] if s["status"] == "done" and s["seconds"]]
    assert len(steps) > 8
    for before, after in itertools.pairwise(steps):
        assert before["began"] + before["seconds"] <= after["began"] + 0.002
    assert steps[-1]["began"] + steps[-1]["seconds"] <= kept["seconds"] + 0.002
    early = [s for s in steps if s["early"] is not None]
    assert early
    assert all(s["early"] < s["began"] for s in early)
    _, made = look(well)
    assert "began early, beside the steps before it" in made


def test_the_bundle_has_the_files_behind_it_and_no_secret(well: Cli) -> None:
    made = well.json("report", "--bundle")
    assert made["path"] == str(well.root / f"{NAME}.zip")
    assert made["bytes"] == Path(made["path"]).stat().st_size
    assert Path(made["path"]).stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(made["path"]) as opened:
        files = {name: opened.read(name).decode() for name in opened.namelist()}
    assert list(files) == made["files"]
    assert_clean(well, *files.values())
    assert {
        "plan.json",
        "status.json",
        "doctor.json",
        "state.json",
        "last-up.json",
        "logs/hatchet.log",
        "env-keys.txt",
    } <= set(files)
    for name in ("plan.json", "status.json", "doctor.json"):
        assert json.loads(files[name])["schema"] == "owlclaw-up/1"
    assert json.loads(files["state.json"])["mode"] == "native"
    assert "STRIPE_SECRET=***" in files["env-keys.txt"]
    assert "hello-from-env" not in "".join(files.values())
    assert files[f"{NAME}.html"].startswith("<!doctype html>")


def test_a_file_of_somebody_else_s_is_refused_before_anything_is_looked_at(well: Cli) -> None:
    mine = well.root / "notes.html"
    mine.write_text("<p>mine</p>")
    refused = well.json("report", "--output", "notes.html", code=2)
    assert refused["error"]["code"] == "output-refused"
    assert "--force" in refused["error"]["hint"]
    assert mine.read_text() == "<p>mine</p>"


def test_a_page_on_stdout(well: Cli) -> None:
    printed = well("report", "--output", "-")
    assert printed.code == 0
    assert printed.stdout.startswith("<!doctype html>")
    assert printed.stdout.rstrip().endswith("</html>")
    assert_clean(well, printed.text)


@pytest.mark.parametrize("cut", [0, 40, 400])
def test_a_damaged_state(cut: int, well: Cli) -> None:
    state = well.root / ".owlclaw-up/state.json"
    whole = state.read_bytes()
    try:
        state.write_bytes(whole[:cut])
        gathered, made = look(well, raw=True)
    finally:
        state.write_bytes(whole)
    assert gathered.report.verdict.title.startswith("This project cannot be opened:")
    assert "environment.state" in made
    assert "PostgreSQL data" in made, "the last up is known all the same"
    assert "hatchet.log" in made
    assert_clean(well, *gathered.texts.values())


def test_secrets_that_cannot_be_read_are_masked_all_the_same(well: Cli) -> None:
    path = well.root / ".owlclaw-up/secrets.json"
    whole = path.read_bytes()
    secrets = well.secret_texts()
    try:
        path.write_bytes(whole[:-20])
        gathered = gather_report(well.root, raw=True, host=Host(environ=well.env, cwd=well.root))
    finally:
        path.write_bytes(whole)
    for text in (page(gathered.report), *gathered.texts.values()):
        assert not [secret for secret in secrets if secret in text]


def test_a_setting_that_cannot_be_used(well: Cli) -> None:
    settings = well.root / "owlclaw-up.toml"
    settings.write_text("grpc_prot = 1\n")
    try:
        made = well("report", "--quiet")
        assert (made.code, made.text) == (0, "")
    finally:
        settings.unlink()
    text = (well.root / f"{NAME}.html").read_text()
    assert "grpc_prot" in text
    assert "environment.settings" in text
    assert_clean(well, text)


def test_a_folder_in_which_nothing_is(mock_cli: Cli) -> None:
    gathered, made = look(mock_cli, raw=True)
    assert gathered.report.verdict.title == "Nothing is set up here yet, and nothing is in the way"
    assert "not set up" in made
    assert set(gathered.outcomes) == {"plan.json", "doctor.json", "status.json"}
    assert not (mock_cli.root / ".owlclaw-up").exists(), "a report changes nothing"


def test_no_project_is_an_error_of_usage(mock_cli: Cli) -> None:
    assert mock_cli.json("report", "--project-dir", "nowhere", code=2)["error"]["code"] == "project-missing"


def last_up(cli: Cli) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads((cli.root / ".owlclaw-up/logs/last-up.json").read_text())
    return kept


def test_an_up_that_fails_one_that_is_interrupted_and_all_down(well: Cli, engine: Path) -> None:
    fault = engine / "fault"
    well.json("down")
    gathered, made = look(well)
    assert gathered.report.verdict.level == "fail"
    assert "stopped" in words(made)
    fault.write_text("lite.exit-at-start")
    failed = well.json("up", "--smoke", "none", code=4)
    gathered, made = look(well, raw=True)
    assert gathered.report.verdict.level == "fail"
    assert [s["id"] for s in last_up(well)["steps"] if s["status"] == "failed"] == ["engine.server"]
    assert last_up(well)["error"]["code"] == failed["error"]["code"]
    assert failed["error"]["message"] in words(made)
    assert_clean(well, *gathered.texts.values())
    fault.write_text("lite.never-ready")
    log = well.root / ".owlclaw-up/logs/hatchet.log"
    before, end = log.stat().st_size, time.monotonic() + 60
    child = well.start("up", "--smoke", "none")
    while log.stat().st_size == before and time.monotonic() < end:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert child.returncode == 130
    kept = last_up(well)
    assert (kept["exit_code"], kept["error"]["code"], kept["steps"][-1]["id"]) == (130, "interrupted", "engine.server")
    _, made = look(well)
    assert "interrupted" in words(made)
    assert_clean(well, json.dumps(kept))
    fault.unlink()
    well.json("up", "--smoke", "none")
