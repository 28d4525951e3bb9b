"""The pure parts of the pytest plugin: whose a thing is, dotenv files, what is shown, which server holds test databases."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.host.base import ServerLogin, ServerLook, ServerRefusal
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Secret
from owlclaw_up.project import open_project
from owlclaw_up.receipts import STATE_DIR
from owlclaw_up.spec import TENANT_ID
from owlclaw_up.testing import env_file
from owlclaw_up.testing.databases import PREFIX, Database, find_server
from owlclaw_up.testing.engine import ask
from owlclaw_up.testing.environments import Variables
from owlclaw_up.testing.owner import Owner, session_folder
from owlclaw_up.testing.session import project_of
from owlclaw_up.token_claims import placeholder


def test_an_owner_is_read_back_from_a_name() -> None:
    me = Owner.me()
    assert me.pid == os.getpid()
    assert Owner.named_in(f"{PREFIX}{me}_template") == me
    assert Owner.named_in(session_folder(str(me)).name) == me
    assert len(f"{PREFIX}{Owner('f' * 8, 4194304, 99999999999)}_9999999") <= 63, "PostgreSQL's longest name"
    for other in ("owlclaw", "owlclaw_test", "owlclaw_test_mine_1_2"):
        assert Owner.named_in(other) is None


def test_only_a_process_that_is_known_to_live_no_more_is_gone() -> None:
    me = Owner.me()
    parent = dataclasses.replace(me, pid=os.getppid())
    assert not me.gone
    assert not parent.gone
    assert dataclasses.replace(me, pid=2**22 + 1).gone, "there is no such process"
    assert dataclasses.replace(me, since=me.since - 60).gone, "an earlier process had our pid"
    assert dataclasses.replace(parent, since=1000).gone, "somebody younger has its pid"
    assert not dataclasses.replace(me, host="00000000", pid=2**22 + 1).gone, "another machine's pids mean nothing here"


def test_a_name_is_looked_for_upwards_and_a_path_is_that_file(tmp_path: Path) -> None:
    inner = tmp_path / "one" / "two"
    inner.mkdir(parents=True)
    (inner / ".env").mkdir()
    (tmp_path / ".env").write_text("A=1")
    (tmp_path / "one" / "test.env").write_text("A=2")
    assert env_file.find(".env", inner) == tmp_path / ".env", "a folder of that name is none"
    assert env_file.find("../test.env", inner) == inner / "../test.env"
    assert env_file.find("./.env", inner) is None
    assert env_file.find("other.env", inner) is None


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("\ufeffA=1\nexport B='two words'\nC=${A}-${HOME}\nD\nE=5\nF=same\n", encoding="utf-8")
    environ = {"HOME": "/home/x", "E": "4", "F": "same"}
    loaded = env_file.load(path, environ)
    assert environ == {
        "HOME": "/home/x",
        "A": "1",
        "B": "two words",
        "C": f"1-{os.environ['HOME']}",
        "E": "4",
        "F": "same",
    }
    assert (loaded.names, loaded.kept, loaded.problems) == (("A", "B", "C"), ("E",), ())
    assert env_file.describe(loaded, tmp_path) == [".env loaded, 3 variables; the shell's own E won"]
    env_file.unload(loaded, environ)
    assert environ == {"HOME": "/home/x", "E": "4", "F": "same"}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\xff\xfeA\x00=\x001\x00", "line 1: the file is UTF-16 (its byte order mark says so), not UTF-8"),
        (b"A=geheim\0", "line 1: the file has a NUL byte"),
        (b"\n\nA='geheim\n", "line 3 cannot be read"),
    ],
)
def test_a_broken_file_is_a_problem_in_words_without_values(tmp_path: Path, data: bytes, problem: str) -> None:
    path = tmp_path / ".env"
    path.write_bytes(data)
    environ: dict[str, str] = {}
    loaded = env_file.load(path, environ)
    assert (loaded.problems, environ) == ((problem,), {})
    shown = env_file.describe(loaded, tmp_path)
    assert shown == [f".env: {problem}"]
    assert "geheim" not in "".join(shown) + repr(loaded)


def test_the_mode_is_that_of_the_environment_beside_the_file(tmp_path: Path) -> None:
    assert env_file.STATE.parent.name == STATE_DIR
    path = tmp_path / ".env"
    path.write_text("A=1")
    (tmp_path / STATE_DIR).mkdir()
    (tmp_path / env_file.STATE).write_text('{"mode": "native"}')
    inner = tmp_path / "tests"
    loaded = env_file.load(path, {})
    assert env_file.describe(loaded, inner) == [f"{path} loaded, 1 variable; mode native"]
    assert project_of(inner) == tmp_path
    (tmp_path / env_file.STATE).write_text("[]")
    assert env_file.describe(loaded, tmp_path) == [".env loaded, 1 variable"]


def test_where_no_engine_is_meant_to_be_nobody_is_asked() -> None:
    nothing = ask({})
    mock = ask({"HATCHET_CLIENT_TOKEN": placeholder(TENANT_ID, "http://localhost:1", "localhost:2")})
    for verdict in (nothing, mock):
        assert verdict.in_process
        assert verdict.config is not None and verdict.config.mock
        assert verdict.text.startswith("no Hatchet engine: ")
        assert "owlclaw-up" in verdict.text
    broken = ask({"HATCHET_CLIENT_TOKEN": "geheim.geheim"})
    assert broken.config is None and not broken.in_process
    assert "HATCHET_CLIENT_TOKEN" in broken.text and "geheim" not in broken.text


def test_nothing_that_is_shown_holds_a_secret() -> None:
    variables = Variables({"HATCHET_API_TOKEN": "geheim", "DATABASE_URL": "geheim", "OWLCLAW_PG_PORT": "5432"})
    assert {**variables}["HATCHET_API_TOKEN"] == "geheim"
    database = Database("owlclaw_test_1", ServerLogin("127.0.0.1", 5433, "owlclaw", Secret("geheim"), "owlclaw_test_1"))
    assert database.url == "postgresql://owlclaw:geheim@127.0.0.1:5433/owlclaw_test_1"
    assert database.async_url == "postgresql+asyncpg://owlclaw:geheim@127.0.0.1:5433/owlclaw_test_1"
    assert "geheim" not in repr(variables) + repr(database) + repr({"v": variables})
    assert "5432" in repr(variables)


@dataclass
class FakeServers:
    """Servers that know some roles by (port, user): the rights of each."""

    roles: dict[tuple[int, str], str]

    def look(self, login: ServerLogin, source: str, timeout: float) -> ServerLook | ServerRefusal:
        rights = self.roles.get((login.port or 5432, login.user))
        if rights is None:
            return ServerRefusal("refused", "nobody there")
        return ServerLook(
            login, source, "1", 180000, "18.0", login.user, "super" in rights, "createdb" in rights,
            "createrole" in rights, "UTC", "", 100, frozenset(),
        )  # fmt: skip

    def has_role(self, admin: ServerLogin, role: str) -> bool:
        rights = self.roles[admin.port or 5432, admin.user]
        return "super" in rights or f"member of {role}" in rights or admin.user == role

    def login_works(self, login: ServerLogin, timeout: float = 3.0) -> ServerRefusal | None:
        return None if (login.port or 5432, login.user) in self.roles else ServerRefusal("login", "no")


ADMIN = "postgresql://boss:b@localhost:5432/postgres"
APP = "postgresql+asyncpg://app:a@localhost:5432/owlclaw"


@pytest.mark.parametrize(
    ("roles", "environ", "expected"),
    [
        ({"boss": "super", "app": ""}, {"OWLCLAW_UP_ADMIN_URL": ADMIN, "DATABASE_URL": APP}, ("boss", "app")),
        ({"boss": "super"}, {"OWLCLAW_UP_ADMIN_URL": ADMIN, "DATABASE_URL": APP}, ("boss", "boss")),
        ({"boss": "super"}, {"OWLCLAW_UP_ADMIN_URL": ADMIN}, ("boss", "boss")),
        ({"boss": "createdb", "app": ""}, {"OWLCLAW_UP_ADMIN_URL": ADMIN, "DATABASE_URL": APP}, ("boss", "boss")),
        (
            {"boss": "createdb, member of app", "app": ""}, {"OWLCLAW_ADMIN_URL": ADMIN, "OWLCLAW_DATABASE_URL": APP},
            ("boss", "app"),
        ),
        ({"app": "createdb"}, {"OWLCLAW_DATABASE_URL": APP}, ("app", "app")),
        ({"app": ""}, {"OWLCLAW_DATABASE_URL": APP}, None),
        ({"app": "createdb"}, {"DATABASE_URL": "sqlite:///x"}, None),
        ({"app": "createdb"}, {}, None),
    ],
)  # fmt: skip
def test_test_databases_are_made_where_a_login_may_make_them(
    tmp_path: Path, roles: dict[str, str], environ: dict[str, str], expected: tuple[str, str] | None
) -> None:
    servers: Any = FakeServers({(5432, user): rights for user, rights in roles.items()})
    server = find_server(open_project(tmp_path, {}, Host(environ=environ, postgres=servers)), environ)
    assert (server and (server.admin.user, server.owner.user)) == expected


def test_an_application_on_another_server_owns_nothing_there(tmp_path: Path) -> None:
    environ = {"OWLCLAW_UP_ADMIN_URL": ADMIN, "DATABASE_URL": APP.replace("5432", "5433")}
    servers: Any = FakeServers({(5432, "boss"): "super", (5433, "app"): ""})
    server = find_server(open_project(tmp_path, {}, Host(environ=environ, postgres=servers)), environ)
    assert server is not None and server.owner.user == "boss"
