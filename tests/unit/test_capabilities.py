"""The table of capabilities, over many sights of a machine: yes, no, proved, and the way out of every no."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.capabilities import CAPABILITIES, Row, Situation, table
from owlclaw_up.facts import DatabasesLook, LoginLook, StackLook, TokenLook, Tried, WebLook, gather
from owlclaw_up.facts.interpreter import project_python, try_out
from owlclaw_up.host.base import DatabaseLook, GrpcLook, Ran, RestLook, ServerRefusal
from owlclaw_up.host.migrations import MigrationsLook
from owlclaw_up.model import Absent, Found, Mode, Outcome, Proof, Secret, Smoke, Unknown
from owlclaw_up.modes import shortest_way
from owlclaw_up.settings import Settings, load, wanted_databases
from owlclaw_up.token_claims import decode
from owlclaw_up.views.human import Screen
from tests.unit.fakes import (
    NOW,
    FakeProcesses,
    make_engine,
    make_facts,
    make_host,
    make_ledger,
    make_server,
    make_token,
)

IN_PROCESS = ("unit_tests", "client", "mock_run")
BY_ENGINE = ("durable_timers", "cron", "delayed", "queue", "shared_work", "e2e_tests")
OF_ENGINE = (*BY_ENGINE, "dashboard", "token")
FULL = (
    "sql", "connect", "register", "run", "durable_sleep", "rest", "worker_killed", "delayed", "cron", "cancel", "shared",
    "throughput", "engine_restarted",
)  # fmt: skip
QUICK = FULL[:6]
AT = "2026-11-25T23:19:30+00:00"
WAY = "OWLCLAW_UP_ENGINE_DIR=DIR owlclaw-up"


def smoke(level: str, *ids: str, **statuses: str) -> Smoke:
    proofs = tuple(Proof(name, statuses.get(name, "passed"), 0.1, f"about {name}") for name in ids)
    return Smoke(level, "failed" if "failed" in statuses.values() else "passed", proofs, AT)


def databases(**values: Any) -> DatabasesLook:
    usual: dict[str, Any] = {
        "server": Found(make_server()),
        "databases": {"owlclaw": DatabaseLook(True, True)},
        "logins": {"owlclaw": LoginLook(Secret("a"))},
    }
    return DatabasesLook(**{**usual, **values})


TAKEN = GrpcLook("ok", "v0.107.2")


def token(grpc: GrpcLook | None = TAKEN, **claims: Any) -> TokenLook:
    text = make_token(**claims)
    decoded = decode(text)
    assert decoded is not None
    return TokenLook(Secret(text), decoded, grpc)


def web(**values: Any) -> WebLook:
    return WebLook(
        **{"port": 8888, "status": 200, "html": True, "headless": False, "rest": RestLook("ok", 200), **values}
    )


UP = StackLook(on_server=databases(), engine_ready=True, engine_answers="ready", token=token())


def situation(mode: Mode | None = Mode.NATIVE, **values: Any) -> Situation:
    facts: dict[str, Any] = {
        "stack": UP,
        "web": Found(web()),
        "migrations": Absent("not looked at"),
        "pytest": Found(Tried(".venv/bin/python", "9.2.0", 0.4)),
        "client": Found(Tried(".venv/bin/python", "0.1.0", 0.5)),
        "mock_run": Found(Tried(".venv/bin/python", "1.43.1", 1.5)),
    }
    facts |= {name: values.pop(name) for name in list(values) if name in facts}
    usual: dict[str, Any] = {
        "facts": make_facts(Path("/project"), **facts),
        "mode": mode,
        "begun": True,
        "smoke": None,
        "proofs_hold": False,
        "way": WAY,
        "application": next(d for d in wanted_databases(Settings()) if d.name == "owlclaw"),
        "now": NOW,
    }
    return Situation(**{**usual, **values})


def rows(mode: Mode | None = Mode.NATIVE, **values: Any) -> dict[str, Row]:
    return {row.id: row for row in table(situation(mode, **values))}


def yes(seen: Mapping[str, Row]) -> set[str]:
    return {name for name, row in seen.items() if row.yes}


NOTHING = {"begun": False, "stack": StackLook(), "web": Absent("no engine was set up here yet")}
NO_SERVER = databases(server=Absent("our PostgreSQL is not running"), databases={}, logins={})
SITUATIONS: dict[str, Situation] = {
    "before up": situation(None, **NOTHING),
    "begun": situation(None, stack=StackLook(on_server=NO_SERVER)),
    "mock": situation(Mode.MOCK, stack=StackLook(on_server=databases())),
    "native": situation(),
    "full": situation(Mode.FULL),
    "proved": situation(smoke=smoke("full", *FULL), proofs_hold=True),
    "proved once": situation(smoke=smoke("full", *FULL)),
    "quick": situation(smoke=smoke("quick", *QUICK), proofs_hold=True),
    "down": situation(stack=StackLook(on_server=NO_SERVER, token=token(None)), web=Found(web(status=0, html=False, rest=None))),
    "nothing was seen": situation(
        stack=Unknown("no answer within 10.0 s"), web=Unknown("x"), pytest=Unknown("x"), client=Unknown("x"),
        mock_run=Unknown("x"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_row_is_whole(name: str) -> None:
    made = table(SITUATIONS[name])
    assert [r.id for r in made] == [c.id for c in CAPABILITIES]
    for row in made:
        assert row.how and "\n" not in row.how and row.title
        assert bool(row.command) is not row.yes, "a command for every no, and for no yes"
        assert row.yes or not row.proved


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("before up", {*IN_PROCESS}),
        ("begun", {*IN_PROCESS}),
        ("mock", {*IN_PROCESS, "database"}),
        ("native", {*IN_PROCESS, "database", *OF_ENGINE}),
        ("full", {*IN_PROCESS, "database", *OF_ENGINE}),
        ("down", {*IN_PROCESS}),
        ("nothing was seen", set()),
    ],
)
def test_what_works(name: str, expected: set[str]) -> None:
    assert {r.id for r in table(SITUATIONS[name]) if r.yes} == expected


def test_before_the_first_up_the_way_out_is_up() -> None:
    seen = rows(None, **NOTHING, way="owlclaw-up")
    assert {seen[name].command for name in (*OF_ENGINE, "database")} == {"owlclaw-up"}
    assert seen["cron"].how == "nothing was set up here yet"
    assert rows(None, stack=StackLook())["cron"].how == "an `up` has begun and not ended"


def test_mock_names_the_way_to_a_durable_mode() -> None:
    seen = rows(Mode.MOCK)
    assert {(seen[name].how, seen[name].command) for name in OF_ENGINE} == {("no engine runs in mock", WAY)}


def test_databases_made_alone_work_without_any_mode() -> None:
    made = StackLook(on_server=databases())
    assert rows(None, stack=made)["database"].yes
    lacking = rows(None, stack=StackLook(on_server=databases(databases={})))["database"]
    assert (lacking.yes, lacking.command) == (False, "owlclaw-up db init")


@pytest.mark.parametrize(
    ("look", "says"),
    [
        (MigrationsLook("baseline", ("b",), (), ("b",)), ""),
        (MigrationsLook("alembic.ini", ("2",), ("2",)), "; its migrations are at head"),
        (MigrationsLook("alembic.ini", ("2",), (), ("1", "2")), "; 2 to run: owlclaw-up db migrate"),
        (MigrationsLook("alembic.ini", problem="it cannot be read"), "; migrations: it cannot be read"),
    ],
)
def test_where_the_migrations_stand_is_said(look: MigrationsLook, says: str) -> None:
    row = rows(migrations=Found(look))["database"]
    assert row.yes and row.how == f"owlclaw answers role owlclaw{says}"


def test_a_role_that_is_refused_is_no_database() -> None:
    refused = LoginLook(None, ServerRefusal("login", "password authentication failed"))
    row = rows(stack=dataclasses.replace(UP, on_server=databases(logins={"owlclaw": refused})))["database"]
    assert not row.yes and "password authentication failed" in row.how


@pytest.mark.parametrize(
    ("look", "says"),
    [
        (None, "no token"),
        (token(GrpcLook("refused-token", hop="token")), "refuses the token"),
        (token(GrpcLook("unavailable", hop="gRPC", detail="UNAVAILABLE: nobody")), "breaks at gRPC"),
        (token(None), "could not be asked"),
    ],
)
def test_an_engine_that_takes_no_token_does_no_work(look: TokenLook | None, says: str) -> None:
    seen = rows(stack=dataclasses.replace(UP, token=look))
    assert yes(seen) == {*IN_PROCESS, "database", "dashboard"}
    assert says in seen["queue"].how and seen["queue"].command == "owlclaw-up"
    assert seen["token"].command == "owlclaw-up"


@pytest.mark.parametrize("rest", [None, RestLook("refused-token", 403, "token"), RestLook("unavailable", hop="REST")])
def test_an_engine_whose_rest_fails_does_no_work(rest: RestLook | None) -> None:
    seen = rows(web=Found(web(rest=rest)))
    assert not yes(seen) & set(BY_ENGINE) and "REST" in seen["cron"].how
    assert seen["token"].yes


def test_a_token_that_has_expired_is_no_token() -> None:
    row = rows(stack=dataclasses.replace(UP, token=token(exp=int(NOW) - 60)))["token"]
    assert not row.yes and "expired" in row.how
    good = token(exp=int(NOW) + 365 * 86400 - 9)
    assert "364 days left" in rows(stack=dataclasses.replace(UP, token=good))["token"].how


def test_an_engine_that_died_leaves_the_database() -> None:
    dead = dataclasses.replace(UP, engine_ready=False, engine_answers="not running", token=token(None))
    seen = rows(stack=dead, web=Found(web(status=0, html=False, rest=RestLook("unavailable"))))
    assert yes(seen) == {*IN_PROCESS, "database"}
    assert {seen[name].command for name in OF_ENGINE} == {"owlclaw-up"}


def test_a_placeholder_is_no_dashboard() -> None:
    row = rows(web=Found(web(headless=True)))["dashboard"]
    assert not row.yes and "placeholder" in row.how and "OWLCLAW_UP_ENGINE_DIR" in row.command
    elsewhere = rows(Mode.REMOTE, web=Found(web(headless=True, url="https://h.example.com")))["dashboard"]
    assert "that server" in elsewhere.how and "ENGINE_DIR" not in elsewhere.command
    assert not rows(web=Found(web(html=False)))["dashboard"].yes
    embedded = rows(web=Found(web(html=False, sidecar=True)))["dashboard"]
    assert (embedded.yes, embedded.how) == (False, "Hatchet's embedded engine has none")


def test_what_the_long_proof_showed_is_proved() -> None:
    seen = rows(smoke=smoke("full", *FULL), proofs_hold=True)
    assert all(seen[name].proved and seen[name].how == f"proved at {AT} by smoke --full" for name in BY_ENGINE)


def test_the_quick_proof_shows_end_to_end_work_alone() -> None:
    seen = rows(smoke=smoke("quick", *QUICK), proofs_hold=True)
    assert [name for name in BY_ENGINE if seen[name].proved] == ["e2e_tests"]
    assert "proved by: owlclaw-up smoke --full" in seen["cron"].how


def test_a_proof_of_another_environment_shows_nothing() -> None:
    for record in (None, smoke("full", *FULL), smoke("full", *FULL, cron="failed")):
        seen = rows(smoke=record, proofs_hold=False)
        assert not any(seen[name].proved for name in BY_ENGINE)
        assert all(seen[name].yes for name in BY_ENGINE)


def test_a_proof_that_failed_is_a_no() -> None:
    seen = rows(smoke=smoke("full", *FULL, cron="failed"), proofs_hold=True)
    assert not seen["cron"].yes and seen["cron"].command == "owlclaw-up smoke --full"
    assert seen["cron"].how == f"cron failed at {AT}: about cron"
    assert seen["delayed"].proved


def test_where_no_worker_registers_nothing_works() -> None:
    seen = rows(smoke=smoke("quick", "sql", "connect", "register", register="failed"), proofs_hold=True)
    assert not yes(seen) & set(BY_ENGINE)
    assert seen["e2e_tests"].command == "owlclaw-up smoke" and "register failed" in seen["e2e_tests"].how


def test_a_proof_that_was_skipped_proves_nothing() -> None:
    row = rows(smoke=smoke("full", *FULL, engine_restarted="skipped"), proofs_hold=True)["durable_timers"]
    assert row.yes and not row.proved and row.how.startswith("engine_restarted was skipped")


# The shortest way to a durable mode


def settings(tmp_path: Path, **flags: str) -> Settings:
    return load(tmp_path, {}, flags)


def test_the_way_is_up_where_a_durable_mode_is_open(tmp_path: Path) -> None:
    facts = make_facts(tmp_path, engines=Found((make_engine(),)))
    assert shortest_way(facts, settings(tmp_path)) == "owlclaw-up"
    assert shortest_way(facts, settings(tmp_path, mode="native")) == "owlclaw-up"
    for asked in ("mock", "full"):
        assert shortest_way(facts, settings(tmp_path, mode=asked)) == "owlclaw-up --mode native"


def test_the_way_names_an_engine_where_there_is_none(tmp_path: Path) -> None:
    assert shortest_way(make_facts(tmp_path), settings(tmp_path)) == WAY


def test_the_way_is_what_stands_in_it_where_no_one_command_helps(tmp_path: Path) -> None:
    facts = make_facts(
        tmp_path, engines=Found((make_engine(),)), postgres_binaries=Absent("none"),
        docker=Absent("Docker is not installed", "install Docker"),
    )  # fmt: skip
    assert shortest_way(facts, settings(tmp_path)).startswith("install Docker; or: owlclaw-up --admin-url")


# What the project's Python is asked


def test_a_look_on_request_is_made_only_where_it_is_asked_for(tmp_path: Path) -> None:
    looked = [
        set(gather(make_host(), settings(tmp_path), make_ledger(tmp_path), only=("proxies",), also=also).seconds)
        for also in ((), ("web",))
    ]
    assert looked == [{"proxies"}, {"proxies", "web"}]


def interpreter(project: Path, where: str = ".venv") -> Path:
    python = project / where / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    return python


def test_the_active_environment_comes_before_the_project_s_own(tmp_path: Path) -> None:
    import sys

    assert project_python({}, tmp_path) == Path(sys.executable)
    plain = interpreter(tmp_path, "venv")
    assert project_python({}, tmp_path) == plain
    own = interpreter(tmp_path)
    active = interpreter(tmp_path / "elsewhere")
    assert project_python({}, tmp_path) == own
    assert project_python({"VIRTUAL_ENV": str(tmp_path / "elsewhere/.venv")}, tmp_path) == active
    assert project_python({"VIRTUAL_ENV": str(tmp_path / "gone")}, tmp_path) == own


def says(project: Path, said: str, exit_code: int = 0, stderr: str = "", seconds: float = 0.3) -> Any:
    python = interpreter(project)
    host = make_host()
    assert isinstance(host.processes, FakeProcesses)
    host.processes.programs[str(python)] = lambda argv: Ran(tuple(argv), exit_code, said, stderr, seconds)
    return try_out(host, project, "mock_run")


def test_what_was_done_is_found(tmp_path: Path) -> None:
    look = says(tmp_path, "a library greets\n" + json.dumps({"version": "1.43.1"}))
    assert look == Found(Tried(".venv/bin/python", "1.43.1", 0.3))


@pytest.mark.parametrize(
    ("pip", "command"),
    [
        (True, ".venv/bin/python -m pip install hatchet-sdk"),
        (False, "uv pip install --python .venv/bin/python hatchet-sdk"),
    ],
)
def test_a_missing_package_is_named_with_its_installation(tmp_path: Path, pip: bool, command: str) -> None:
    look = says(tmp_path, json.dumps({"why": "ModuleNotFoundError", "missing": "hatchet_sdk", "pip": pip}))
    assert look == Absent(".venv/bin/python has no hatchet-sdk", command)


def test_owlclaw_up_itself_is_installed_from_where_it_lies(tmp_path: Path) -> None:
    look = says(tmp_path, json.dumps({"why": "ModuleNotFoundError", "missing": "owlclaw_up", "pip": True}))
    assert look.hint == f".venv/bin/python -m pip install {Path(__file__).parents[2]}"


@pytest.mark.parametrize(
    ("said", "exit_code", "stderr", "why"),
    [
        ('{"why": "ImportError: cannot import name x", "missing": "", "pip": true}', 0, "", "cannot import name x"),
        ("", -11, "", "exit code -11: it said nothing"),
        ("no JSON", 1, "Traceback\nOSError: broken", "OSError: broken"),
        ("[1]", 0, "", "exit code 0"),
    ],
)
def test_a_look_that_crashes_says_why(tmp_path: Path, said: str, exit_code: int, stderr: str, why: str) -> None:
    look = says(tmp_path, said, exit_code, stderr)
    assert isinstance(look, Absent) and why in look.why and look.hint


def test_a_look_that_hangs_is_unknown(tmp_path: Path) -> None:
    assert isinstance(says(tmp_path, "", -9, seconds=60.0), Unknown)


def test_an_interpreter_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    interpreter(tmp_path)
    look = try_out(make_host(), tmp_path, "client")
    assert isinstance(look, Absent) and look.hint == ".venv/bin/python --version"


# The screen


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_table_fits_one_screen(name: str) -> None:
    made = [dataclasses.asdict(row) for row in table(SITUATIONS[name])]
    stream = io.StringIO()
    Screen(stream, colour=False).show(
        Outcome("can", "ok", 0, SITUATIONS[name].mode, data={"capabilities": made}), quiet=False, verbose=False
    )
    lines = stream.getvalue().splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    for row in made:
        line = next(line for line in lines if row["title"] in line)
        assert line.split()[0] == ("yes" if row["yes"] else "no")
        assert not row["command"] or row["command"] in stream.getvalue()


def test_a_long_reason_is_cut_and_shown_whole_if_asked() -> None:
    rows = [{"id": "a", "title": "a", "yes": False, "proved": False, "how": "word " * 40 + "end", "command": "do it"}]
    outcome = Outcome("can", "ok", 0, data={"capabilities": rows})
    shown = []
    for verbose in (False, True):
        stream = io.StringIO()
        Screen(stream, colour=False).show(outcome, quiet=False, verbose=verbose)
        shown.append(stream.getvalue())
    assert "..." in shown[0] and "end" not in shown[0] and "end" in shown[1]
