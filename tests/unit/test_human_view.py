"""Screens for people: the same words with and without colour, errors in one form, nothing secret."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import pytest

from owlclaw_up.cli.terminal import Ui
from owlclaw_up.errors import ApplyFailed, PortTaken
from owlclaw_up.model import (
    Action,
    Decided,
    Event,
    Finding,
    Mode,
    Move,
    Note,
    Outcome,
    Proof,
    Service,
    Smoke,
    StepFinished,
    StepProgress,
    StepReport,
    StepStarted,
    Transfer,
)
from owlclaw_up.views.human import Progress, Screen, problem
from tests.unit.test_json_document import DECISION, DEGRADED, FAILED, OK, PLAN

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_COLOURS = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|9[0-7])(?:;[0-9;]*)?m")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def able_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


UNCHANGED = dataclasses.replace(
    OK, steps=(StepReport("project", "State", Action.UNCHANGED, "done", 0, "as it should be"),),
    smoke=Smoke("quick", "passed", OK.smoke.proofs if OK.smoke else (), "2026-11-23T01:16:11+00:00"),
)  # fmt: skip
SAID_NO = dataclasses.replace(
    OK, status="failed", exit_code=1,
    smoke=Smoke("quick", "failed", (Proof("run", "failed", 20.0, "no answer", "dispatch"),)),
)  # fmt: skip
NOT_UP = Outcome(
    "status", "failed", 1, Mode.NATIVE,
    services=(Service("hatchet", "stopped", "not running", 8888), Service("postgres", "running", "answers", 5432, 77)),
    findings=(Finding("status.hatchet", "fail", "hatchet is stopped", "not running", "owlclaw-up"),),
)  # fmt: skip
OUTCOMES = {
    "ok": OK,
    "unchanged": UNCHANGED,
    "said no": SAID_NO,
    "degraded": DEGRADED,
    "plan": dataclasses.replace(PLAN, data={"changes": True, "notes": ["port 8888 is taken by jupyter"]}),
    "plan, nothing": dataclasses.replace(PLAN, data={"changes": False}),
    "dry run": dataclasses.replace(PLAN, command="up"),
    "status": dataclasses.replace(OK, command="status"),
    "not up": NOT_UP,
    "down": Outcome("down", "ok", 0, data={"purge": False}),
    "purge": Outcome("down", "ok", 0, data={"purge": True}),
    "nothing": Outcome("down", "ok", 0, data={"nothing": True}),
    "smoke": dataclasses.replace(OK, command="smoke"),
    "smoke failed": dataclasses.replace(SAID_NO, command="smoke"),
    "reset": dataclasses.replace(OK, command="reset"),
}


def shown(outcome: Outcome, stream: io.StringIO, *, colour: bool, quiet: bool = False, verbose: bool = False) -> str:
    Screen(stream, colour=colour).show(outcome, quiet=quiet, verbose=verbose)
    return stream.getvalue()


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_screen_says_the_same_with_and_without_colour(name: str) -> None:
    plain = shown(OUTCOMES[name], io.StringIO(), colour=True)
    colourless = shown(OUTCOMES[name], Terminal(), colour=False)
    coloured = shown(OUTCOMES[name], Terminal(), colour=True)
    assert plain
    assert plain == colourless == _ESCAPE.sub("", coloured)
    assert "\x1b" not in plain
    assert name == "nothing" or "\x1b" in coloured
    assert "geheim" not in coloured


PARTS = {
    "ok": ["Ready: native in 2.9 s", "dashboard   http://localhost:8888   login admin@example.com", "ok       run",
           "variables   .env", "warning: git does not ignore .env", "echo .env >> .gitignore", "owlclaw-up open"],
    "unchanged": ["Ready, nothing to change: native", "Proved at 2026-11-23T01:16:11+00:00"],
    "said no": ["FAILED   run", "at: dispatch", "The environment is up, and the smoke test failed", "owlclaw-up logs hatchet"],
    "degraded": ["Degraded: mock", "timers, schedules and queues are not durable"],
    "plan": ["Mode native (auto): engine v0.107.2 is at hand", "not full          Docker is not installed",
             "note: port 8888 is taken by jupyter", "+ database.hatchet   role, database", "do it: owlclaw-up"],
    "plan, nothing": ["Nothing to change"],
    "dry run": ["Mode native (auto)"],
    "status": ["Up: native", "postgres 18.6", "port 5432  pid 77  since", "accepted   until 2027-11-23 (365 days)"],
    "not up": ["Not up: native", "stopped", "FAILURE: hatchet is stopped"],
    "down": ["Stopped; data stays", "owlclaw-up down --purge"],
    "purge": ["Removed: processes, data, roles, our keys"],
    "nothing": ["Nothing of owlclaw-up is here"],
    "smoke": ["Smoke test passed in 2.9 s"],
    "smoke failed": ["Smoke test failed"],
    "reset": ["Ready: native"],
}  # fmt: skip


@pytest.mark.parametrize("name", OUTCOMES)
def test_what_a_screen_says(name: str) -> None:
    text = shown(OUTCOMES[name], io.StringIO(), colour=False)
    for part in PARTS[name]:
        assert part in text


def test_quiet_says_nothing_of_what_went_well() -> None:
    assert shown(OK, io.StringIO(), colour=False, quiet=True) == ""
    assert "Not up" in shown(NOT_UP, io.StringIO(), colour=False, quiet=True)


def test_an_error_has_no_screen_but_its_own() -> None:
    assert shown(FAILED, io.StringIO(), colour=False) == ""


def test_details_of_what_runs_are_for_the_verbose() -> None:
    text = dataclasses.replace(OK, command="status")
    assert "answers" not in shown(text, io.StringIO(), colour=False)
    assert "answers" in shown(text, io.StringIO(), colour=False, verbose=True)


def test_the_form_of_an_error() -> None:
    stream = io.StringIO()
    problem(PortTaken(8888, "the dashboard", "jupyter", "dashboard-port"), stream, colour=True, verbose=False)
    assert stream.getvalue() == (
        "error: port 8888, kept for the dashboard, is taken by jupyter\n"
        "\n"
        "hint: stop jupyter, or move with --dashboard-port PORT (then: owlclaw-up)\n"
        "\n"
        "[port-taken] exit 3\n"
    )


def test_an_error_keeps_the_last_words_of_whoever_refused() -> None:
    error = ApplyFailed("engine-failed", "hatchet-migrate ended", detail="\n".join(f"line {n}" for n in range(40)))
    short, long, coloured = io.StringIO(), io.StringIO(), Terminal()
    problem(error, short, colour=False, verbose=False)
    problem(error, long, colour=False, verbose=True)
    problem(error, coloured, colour=True, verbose=False)
    assert "  line 39\n" in short.getvalue()
    assert "line 27" not in short.getvalue()
    assert "  line 0\n" in long.getvalue()
    assert "hint" not in short.getvalue()
    assert "\x1b[31merror\x1b[0m: " in coloured.getvalue()
    assert _ESCAPE.sub("", coloured.getvalue()) == short.getvalue()


EVENTS: list[Event] = [
    Decided(DECISION, ()),
    Note("waiting for another owlclaw-up"),
    StepStarted("a", "Database"),
    StepProgress("a", "12 migrations"),
    StepFinished(StepReport("a", "Database", Action.CREATE, "done", 0.25, "role, database")),
    StepFinished(StepReport("b", "Engine keys", Action.UNCHANGED, "done", 0, "made once, kept")),
    StepFinished(StepReport("c", "Engine", Action.CREATE, "failed", 1.5, "it died")),
]


def told(stream: io.StringIO, *, colour: bool = False, quiet: bool = False, verbose: bool = False) -> str:
    with Progress(stream, colour=colour, quiet=quiet, verbose=verbose) as progress:
        for event in EVENTS:
            progress(event)
    return stream.getvalue()


def test_progress_in_a_log_is_plain_lines() -> None:
    assert told(io.StringIO(), colour=True) == (
        "native: engine v0.107.2 is at hand\n"
        "note: waiting for another owlclaw-up\n"
        f"  + {'Database':<22}  0.25 s  role, database\n"
        f"  ! {'Engine':<22}  1.50 s  it died\n"
    )


def test_progress_of_what_stays_is_for_the_verbose() -> None:
    assert f"  = {'Engine keys':<22}  0.00 s  made once, kept\n" in told(io.StringIO(), verbose=True)


def test_quiet_progress_is_none() -> None:
    assert told(Terminal(), colour=True, quiet=True) == ""


def test_progress_on_a_terminal_has_colours_only_where_they_are_wanted() -> None:
    coloured, plain = told(Terminal(), colour=True), told(Terminal(), colour=False)
    assert _COLOURS.search(coloured)
    assert not _COLOURS.search(plain)
    for text in (coloured, plain):
        assert "role, database" in _ESCAPE.sub("", text)
        assert "it died" in _ESCAPE.sub("", text)


def test_an_interrupted_progress_gives_the_terminal_back() -> None:
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), Progress(stream, colour=True, quiet=False, verbose=False) as progress:
        progress(StepStarted("a", "Database"))
        raise KeyboardInterrupt
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


@pytest.mark.parametrize(
    ("environ", "flag", "colour"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, False, True),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_who_decides_about_colour(
    environ: dict[str, str], flag: bool, colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert Ui("up", False, False, False, flag).colour is colour


def test_a_json_outcome_is_one_document_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    assert Ui("up", True, False, False, False).finish(FAILED) == 3
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"]["code"] == "port-taken"
    assert captured.err == ""


def test_an_error_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert Ui("up", False, False, False, False).finish(FAILED) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: port 8888")
    assert Path("/home/user/app") == OK.project


def test_a_download_has_a_bar_on_a_terminal_and_a_line_for_each_quarter_elsewhere() -> None:
    plain, terminal = io.StringIO(), Terminal()
    for stream in (plain, terminal):
        with Progress(stream, colour=False, quiet=False, verbose=False) as progress:
            progress(StepStarted("images", "Images"))
            for done in range(0, 101, 5):
                progress(Transfer("images", "pgvector:pg16", done * 10**6, 100 * 10**6))
            progress(Transfer("images", "hatchet-lite:v0.107.2", 0, 0))
    lines = plain.getvalue().splitlines()
    assert [line.split("  ")[-1] for line in lines] == [
        "25 of 100 MB", "50 of 100 MB", "75 of 100 MB", "100 MB are here, being unpacked",
    ]  # fmt: skip
    assert all("pgvector:pg16" in line for line in lines)
    shown = _ESCAPE.sub("", terminal.getvalue())
    assert "━" in shown
    assert "asking the registry" in shown


def test_the_modes_that_were_left_are_told_with_the_reason() -> None:
    left = dataclasses.replace(DECISION, moves=(Move(Mode.FULL, "image x could not be pulled"),))
    for command in ("up", "plan"):
        stream = io.StringIO()
        outcome = dataclasses.replace(OK if command == "up" else PLAN, decision=left)
        Screen(stream, colour=False).show(outcome, quiet=False, verbose=False)
        assert "left full: image x could not be pulled" in stream.getvalue()


def test_status_names_the_container() -> None:
    stream = io.StringIO()
    service = Service("hatchet", "running", "ready", 8888, None, "", "v0.107.2", "owlclaw-app-1-hatchet-lite-1")
    Screen(stream, colour=False).show(
        Outcome("status", "ok", 0, Mode.FULL, services=(service,)), quiet=False, verbose=False
    )
    assert "port 8888  owlclaw-app-1-hatchet-lite-1" in stream.getvalue()
