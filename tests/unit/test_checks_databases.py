"""What is said of PostgreSQL and of Hatchet's database by facts alone: states that nobody can make happen in a test."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.checks import BY_ID
from owlclaw_up.checks.base import Evidence, Seen
from owlclaw_up.checks.databases import session_timezone
from owlclaw_up.checks.hatchet_database import foreign_partitions, foreign_sessions
from owlclaw_up.checks.psql import by_psql
from owlclaw_up.facts import DatabasesLook, DockerFacts, LoginLook, StackLook
from owlclaw_up.facts.containers import DATABASE, ENGINE
from owlclaw_up.facts.inside import InsideLook
from owlclaw_up.host.base import DatabaseLook, ProcessId, ServerRefusal
from owlclaw_up.host.docker_base import Compose, ContainerLook, DockerLook
from owlclaw_up.host.postgres_clients import Client
from owlclaw_up.host.postgres_inspection import DatabaseInside, HatchetInside, Partition, Session, TenantRow
from owlclaw_up.model import Found, Mode, Secret, Unknown
from owlclaw_up.settings import load
from owlclaw_up.spec import TENANT_ID
from tests.unit.fakes import NOW, make_facts, make_ledger, make_server

STARTED = 100.0
INSIDE = DatabaseInside("UTC", False, "", True, True, 10)
EXTENSIONS = frozenset({"vector", "pgcrypto", "btree_gist"})
THERE = {
    name: DatabaseLook(True, True, name, "UTF8", "UTC", EXTENSIONS, 20260820185000) for name in ("hatchet", "owlclaw")
}
LOGINS = {name: LoginLook(Secret("password")) for name in THERE}
DOCKER = DockerLook("unix:///x.sock", "28.0", "DOCKER_HOST", Compose(("docker", "compose"), "2.0"))


def session(port: int, application: str = "server", **values: Any) -> Session:
    usual: dict[str, Any] = {
        "pid": port, "user": "hatchet", "application": application, "client": "127.0.0.1", "port": port, "age": 60.0,
        "idle": 1.0, "migrates": False, "waits_for": (), "query": "select 1",
    }  # fmt: skip
    return Session(**{**usual, **values})


def container(service: str, **values: Any) -> ContainerLook:
    started = "2026-09-21T14:11:40.5Z"
    return ContainerLook(
        "id", f"app-{service}-1", service, "running", 0, False, 0, started, "image", {}, {}, {}, **values
    )


def evidence_of(
    root: Path, mode: Mode = Mode.NATIVE, kind: str = "embedded", server: dict[str, Any] | None = None,
    hatchet: HatchetInside | None = None, look: dict[str, Any] | None = None, **on_server: Any,
) -> Evidence:  # fmt: skip
    """An environment that is well, but for what is given."""
    ledger = make_ledger(root)
    ledger.state.mode, ledger.state.ports = mode.value, {"postgres": 5432}
    ledger.state.data["postgres"] = {"kind": kind, "where": "localhost:5432", "bin_dir": "/pg/bin"}
    ledger.state.data["engine"] = {"migration": 20260820185000, "migrated_by": "v0.107.2"}
    ledger.vault.passwords.update(hatchet="h", owlclaw="o", postgres="p")
    ledger.vault.admin_url = "postgresql://steward:s@localhost:5432/postgres" if kind == "local" else ""
    usual: dict[str, Any] = {"server": Found(make_server(**(server or {}))), "databases": THERE, "logins": LOGINS}
    stack = StackLook(on_server=DatabasesLook(**{**usual, **on_server}), engine_process=ProcessId(1, NOW - STARTED))
    if mode is not Mode.NATIVE:
        stack = dataclasses.replace(stack, engine_process=None)
    tenants = (TenantRow(TENANT_ID, "default", "V1"),)
    inside = InsideLook(
        **{
            "databases": dict.fromkeys(THERE, INSIDE),
            "hatchet": hatchet or HatchetInside(tenants=tenants),
            **(look or {}),
        }
    )
    services = {name: container(name) for name in (DATABASE, ENGINE)}
    facts = make_facts(root, stack=stack, docker=Found(DockerFacts(DOCKER, containers=services)))
    facts = dataclasses.replace(facts, inside=Found(inside))
    return Evidence(facts, load(root, {}, {}), ledger, mode, True, None, None, (), None, NOW)


def see(check: str, root: Path, **values: Any) -> list[Seen]:
    return list(BY_ID[check].look(evidence_of(root, **values)))


@pytest.mark.parametrize("check", [name for name in BY_ID if name.startswith(("postgres.", "hatchet."))])
def test_a_good_one(tmp_path: Path, check: str) -> None:
    assert {s.level for s in see(check, tmp_path)} <= {"ok"}


def test_a_server_newer_than_any_that_was_seen(tmp_path: Path) -> None:
    (seen,) = see("postgres.version", tmp_path, server={"version_num": 190001, "version": "19.1 (Debian)"})
    assert seen.level == "info" and "19.1 is newer" in seen.title and "18" in seen.title


def test_a_kept_server_that_nobody_can_make_older(tmp_path: Path) -> None:
    (seen,) = see("postgres.version", tmp_path, server={"version_num": 130009, "version": "13.9"})
    assert seen.level == "fail" and "13.9 is too old" in seen.title


def test_btree_gist_that_was_taken_away(tmp_path: Path) -> None:
    (seen,) = see("postgres.btree_gist", tmp_path, server={"extensions": frozenset()})
    assert seen.level == "warn" and "any more" in seen.title and "postgresql-contrib" in seen.hint


def test_an_extension_that_the_admin_may_not_create(tmp_path: Path) -> None:
    """Whether pgvector is a trusted one depends on its package."""
    databases = {**THERE, "owlclaw": dataclasses.replace(THERE["owlclaw"], extensions=frozenset())}
    (seen,) = see("postgres.vector", tmp_path, server={"superuser": False}, databases=databases)
    assert seen.level == "warn" and 'psql -d owlclaw -c "CREATE EXTENSION vector"' in seen.hint
    (seen,) = see("postgres.vector", tmp_path, server={"extensions": frozenset()}, databases=databases)
    assert seen.level == "info" and "does not have it" in seen.detail


@pytest.mark.parametrize(
    ("kind", "check", "words"),
    [
        ("login", "postgres.login", "secrets.json"),
        ("unreachable", "postgres.reach", "owlclaw-up down"),
        ("starting", "postgres.reach", "wait for that server"),
        ("too-many-connections", "postgres.connections", "max_connections"),
        ("other", "postgres.reach", "see the detail"),
    ],
)
def test_our_own_server_runs_and_lets_us_not_in(tmp_path: Path, kind: str, check: str, words: str) -> None:
    refusal = ServerRefusal(kind, "its own words")
    away: dict[str, Any] = {"server": Unknown("its own words"), "refusal": refusal, "databases": {}, "logins": {}}
    evidence = evidence_of(tmp_path)
    stack = dataclasses.replace(evidence.facts.our_stack, on_server=DatabasesLook(**away))
    evidence = dataclasses.replace(evidence, facts=dataclasses.replace(evidence.facts, stack=Found(stack)))
    (seen,) = BY_ID[check].look(evidence)
    assert seen.level == "fail" and seen.detail == "its own words" and words in seen.hint
    others = [n for n in BY_ID if n.startswith("postgres.") and n != check]
    assert not [s for n in others for s in BY_ID[n].look(evidence) if s.level not in ("ok", "info")]


def test_tables_that_its_own_role_may_not_read(tmp_path: Path) -> None:
    """As after a dump was restored by somebody else."""
    refused = {"hatchet": ServerRefusal("privilege", "permission denied for table Tenant"), "owlclaw": INSIDE}
    (seen,) = see("postgres.privileges", tmp_path, look={"databases": refused})
    assert seen.level == "fail" and "may not read" in seen.title and "GRANT ALL ON ALL TABLES" in seen.command


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("embedded", "/pg/bin/psql -h 127.0.0.1 -p 5432 -U postgres -d hatchet -c 'SELECT \"A\"'"),
        ("local", "psql -h localhost -p 5432 -U steward -d hatchet -c 'SELECT \"A\"'"),
        ("container", f"docker exec app-{DATABASE}-1 psql -U postgres -d hatchet -c 'SELECT \"A\"'"),
    ],
)
def test_the_command_fits_the_server(tmp_path: Path, kind: str, command: str) -> None:
    assert by_psql(evidence_of(tmp_path, kind=kind), "hatchet", 'SELECT "A"') == command
    assert shlex.split(command)[-1] == 'SELECT "A"'
    assert " -U postgres " in by_psql(
        evidence_of(tmp_path, kind=kind, server={"superuser": False}), "hatchet", "SELECT 1"
    )


def test_what_a_session_is_in() -> None:
    seen = DatabaseLook(True, True, role_timezone="")
    server = make_server(timezone="Asia/Shanghai")
    assert session_timezone(seen, server, INSIDE) == "UTC", "it said so itself"
    assert session_timezone(seen, server, dataclasses.replace(INSIDE, timezone="")) == "Asia/Shanghai"
    assert session_timezone(dataclasses.replace(seen, role_timezone="UTC"), server, None) == "UTC"


class TestTwoEngines:
    def test_sessions_are_told_by_the_ports_of_our_process(self) -> None:
        hatchet = HatchetInside(sessions=(session(1), session(2, "server:ddl"), session(3), session(4, "psql")))
        assert foreign_sessions(InsideLook(hatchet=hatchet, engine_ports=frozenset({1, 2}))) == (session(3),)
        assert foreign_sessions(InsideLook(hatchet=hatchet, engine_ports=frozenset({9}))) is None, "NAT, or a socket"
        assert foreign_sessions(InsideLook(hatchet=hatchet)) is None

    @pytest.mark.parametrize(
        ("age", "partitions", "foreign"),
        [
            (100.0, [("ours", 99.8, 5.0)], []),
            # Its predecessor's row: silent since before ours began.
            (10.0, [("dead", 300.0, 12.0), ("ours", 9.8, 9.8)], []),
            (10.0, [("other", 300.0, 3.0), ("ours", 9.8, 9.8)], ["other"]),
            (100.0, [("ours", 99.8, 5.0), ("other", 30.0, 10.0)], ["other"]),
            # One that was stopped meanwhile.
            (100.0, [("ours", 99.8, 5.0), ("other", 90.0, 40.0)], []),
            (None, [("other", 300.0, 3.0)], []),
        ],
    )
    def test_heartbeats(
        self, age: float | None, partitions: list[tuple[str, float, float]], foreign: list[str]
    ) -> None:
        assert [p.id for p in foreign_partitions([Partition(*p) for p in partitions], age)] == foreign

    def test_in_a_container_heartbeats_decide(self, tmp_path: Path) -> None:
        sessions = (session(1, client="172.20.0.3"), session(2, client="172.20.0.9"))
        ours = NOW - 1_789_999_900.0
        alive = (Partition("other", ours + 500, 4.0), Partition("ours", ours - 0.2, 4.0))
        (seen,) = see("hatchet.two-engines", tmp_path, mode=Mode.FULL, hatchet=HatchetInside((), sessions, alive))
        assert seen.level == "warn" and "172.20.0.3, 172.20.0.9" in seen.title and "2 rows" in seen.detail
        (seen,) = see("hatchet.two-engines", tmp_path, mode=Mode.FULL, hatchet=HatchetInside((), sessions[:1], alive))
        assert seen.level == "ok", "the other one has just ended"
        dead = (Partition("other", ours + 500, ours + 3), alive[1])
        (seen,) = see("hatchet.two-engines", tmp_path, mode=Mode.FULL, hatchet=HatchetInside((), sessions, dead))
        assert seen.level == "ok"

    def test_a_tool_of_hatchet_s_is_no_engine(self, tmp_path: Path) -> None:
        """`hatchet-admin token create` names its sessions as the engine does, and has no partition."""
        hatchet = HatchetInside((), (session(1), session(2)), (Partition("ours", 90.0, 5.0),))
        (seen,) = see("hatchet.two-engines", tmp_path, hatchet=hatchet, look={"engine_ports": frozenset({1})})
        assert seen.level == "ok"


class TestMigrationLock:
    def test_one_that_is_held_for_a_moment(self, tmp_path: Path) -> None:
        hatchet = HatchetInside(sessions=(session(7, "", migrates=True, age=0.5),))
        assert [s.level for s in see("hatchet.migration-lock", tmp_path, hatchet=hatchet)] == ["ok"]

    def test_one_of_a_role_of_which_the_server_tells_nothing(self, tmp_path: Path) -> None:
        strange = session(7, "", user="other", client="", migrates=True, age=float("inf"), query="")
        (seen,) = see("hatchet.migration-lock", tmp_path, hatchet=HatchetInside(sessions=(strange,)))
        assert seen.level == "fail" and "(backend pid 7)" in seen.title and "does not tell" in seen.title

    def test_the_process_at_the_other_end_is_named(self, tmp_path: Path) -> None:
        hatchet = HatchetInside(sessions=(session(7, "", migrates=True),))
        look = {"clients": {7: Client(99, "hatchet-migrate", "/srv/app")}}
        (seen,) = see("hatchet.migration-lock", tmp_path, hatchet=hatchet, look=look)
        assert seen.title.startswith("hatchet-migrate (pid 99) holds the lock of Hatchet's migrations since ")
        assert "pg_terminate_backend(7)" in seen.command


def test_a_tenant_that_only_a_restart_brings_back(tmp_path: Path) -> None:
    """The image seeds when it starts."""
    (seen,) = see("hatchet.tenant", tmp_path, mode=Mode.FULL, kind="container", hatchet=HatchetInside(tenants=()))
    assert seen.level == "fail" and seen.command == f"docker restart app-{ENGINE}-1" and seen.fix is None


def test_an_index_whose_migration_comes_again_is_dropped(tmp_path: Path) -> None:
    behind = {**THERE, "hatchet": dataclasses.replace(THERE["hatchet"], migration=20260101000000)}
    (seen,) = see(
        "hatchet.invalid-index", tmp_path, hatchet=HatchetInside(("a", "b", "c", "d")), databases=behind
    )  # fmt: skip
    assert "4 indexes" in seen.title and "and 1 more" in seen.detail and "DROP INDEX CONCURRENTLY a" in seen.hint
    assert seen.fix is not None and seen.fix.up and len(seen.fix.steps) == 4
