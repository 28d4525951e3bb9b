"""Every error a user can meet: a stable code, the promised exit code, a message, and what to do."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from owlclaw_up import errors
from owlclaw_up.environment import NoEnvironment
from owlclaw_up.errors import (
    ApplyFailed,
    BadSetting,
    BinaryNotRunnable,
    CheckFailed,
    ConfirmationNeeded,
    ContainerDied,
    DatabaseNotOurs,
    DockerAway,
    DockerRefused,
    DumpUnusable,
    DurableRequired,
    EnginePullFailed,
    EngineUnusable,
    EnvFileRefused,
    ExportRefused,
    InternalError,
    Interrupted,
    LockHeld,
    MigrationBlocked,
    MigrationFailed,
    MigrationsUnusable,
    ModeBlocked,
    NoFreePort,
    NotATestDatabase,
    OutputRefused,
    PortDenied,
    PortLost,
    PortTaken,
    PostgresMissing,
    PostgresUnreachableFromContainer,
    PostgresUnusable,
    PreconditionError,
    ProcessDied,
    ProjectMissing,
    ProjectNotWritable,
    PullFailed,
    RemoteUnusable,
    RolePasswordUnknown,
    SidecarFailed,
    SidecarRefused,
    StateUnusable,
    TimedOut,
    UnknownSetting,
    UpError,
    UsageError,
)
from owlclaw_up.tokens import NoToken, NotUp

PATH = Path("/home/user/app")
CASES: list[tuple[UpError, str, int, str, str]] = [
    (UpError("it failed"), "error", 4, "it failed", ""),
    (UsageError("no such command", hint="owlclaw-up --help"), "usage", 2, "no such command", "--help"),
    (UnknownSetting("mdoe", "owlclaw-up.toml", "mode"), "unknown-setting", 2, "'mdoe'", "did you mean 'mode'?"),
    (OutputRefused(PATH, "it is there", "--force replaces it"), "output-refused", 2, "it is there", "--output PATH"),
    (UnknownSetting("x", "the environment", None), "unknown-setting", 2, "the environment", "docs/reference/settings.md"),
    (BadSetting("mode", "x", "--mode", "one of a, b is wanted"), "bad-setting", 2, "(from --mode)", "settings.md"),
    (ProjectMissing(PATH, "does not exist"), "project-missing", 2, f"{PATH} does not exist", "--project-dir DIR"),
    (ConfirmationNeeded("--purge"), "confirmation-needed", 2, "--purge asks before", "--yes"),
    (PreconditionError("in the way", hint="x"), "precondition", 3, "in the way", "x"),
    (NoToken("mock"), "no-token", 3, "mode mock has no token of an engine, only a placeholder", "owlclaw-up plan"),
    (NotUp("Hatchet engine: start it"), "not-up", 3, "not up as it should be (Hatchet engine: start it)", "owlclaw-up"),
    (
        CheckFailed("platform.disk", "0 MiB of disk are free", hint="df -h"), "platform-disk", 3,
        "0 MiB of disk are free", "df -h",
    ),
    (ModeBlocked("full", "no Docker", "owlclaw-up"), "mode-blocked", 3, "mode full cannot be used here: no Docker", "owlclaw-up"),
    (DurableRequired([("full", "no Docker")], "do this"), "durable-required", 3, "a durable mode is required", "do this"),
    (NotATestDatabase("shop", "it is yours", "x"), "not-a-test-database", 3, "database 'shop' is not dropped: it is yours", "x"),
    (
        PortLost(5432, "127.0.0.1", "PostgreSQL", log="could not bind"), "port-taken", 4,
        "port 5432 of 127.0.0.1 was taken by somebody while PostgreSQL was starting", "ss -ltnp 'sport = :5432'; then: owlclaw-up",
    ),
    (PostgresMissing([("h:5432", "it refuses")]), "postgres-missing", 3, "no PostgreSQL answers", "owlclaw-up --mode mock"),
    (ProjectNotWritable(PATH, "Read-only file system"), "project-not-writable", 3, "Read-only", f"ls -ld {PATH}"),
    (LockHeld("owlclaw-up up, pid 7", 12.4), "lock-held", 3, "pid 7; waited 12 s", "--timeout SECONDS"),
    (StateUnusable(PATH, "is damaged", hint="mv"), "state-unusable", 3, f"{PATH} is damaged", "mv"),
    (PortTaken(5432, "our PostgreSQL", "postgres (pid 812)", "postgres-port"), "port-taken", 3, "postgres (pid 812)", "--postgres-port PORT"),
    (PullFailed("pgvector/pgvector:pg16", "pgvector/pgvector:pg16", "broken", "EOF"), "pull-broken", 3, "has not the size or digest", "OWLCLAW_UP_REGISTRY_MIRROR"),
    (PullFailed("ghcr.io/a/b:1", "ghcr.io/a/b:1", "login", "denied"), "pull-login", 3, "the registry refuses access", "docker logout ghcr.io"),
    (PullFailed("a/b:1", "mirror:5000/a/b:1", "missing", "manifest unknown"), "pull-missing", 3, "(from mirror:5000/a/b:1)", "docker manifest inspect mirror:5000/a/b:1"),
    (PostgresUnreachableFromContainer("localhost:5432", ["pg_hba.conf:  host a b c"], ["network bridge: refused"]), "postgres-unreachable-from-container", 3, "cannot reach localhost:5432", "pg_hba.conf:  host a b c"),
    (DockerRefused("list containers", "unix:///x.sock", "no"), "docker", 4, "Docker did not list containers: no", "docker -H unix:///x.sock info"),
    (DockerAway("list containers", "unix:///x.sock", "refused"), "docker-away", 4, "at unix:///x.sock does not answer any more", "owlclaw-up"),
    (ContainerDied("hatchet-lite", "with exit code 1", "timezone", "not UTC", hint="owlclaw-up", log="x"), "timezone", 4, "container hatchet-lite ended with exit code 1 while it was starting: not UTC", "owlclaw-up"),
    (PortDenied(80, "gRPC", "Permission denied", "grpc-port"), "port-denied", 3, "port 80 (gRPC): Permission denied", "--grpc-port PORT"),
    (NoFreePort("gRPC", 1, 200), "no-free-port", 3, "between 1 and 200", "ss -ltnp"),
    (PostgresUnusable("postgres-login", "refused", hint="x"), "postgres-login", 3, "refused", "x"),
    (RolePasswordUnknown("hatchet", "hatchet", "localhost:5432", PATH), "role-password-unknown", 3, "role 'hatchet'", '"hatchet_up"'),
    (DatabaseNotOurs("d", "alice", "bob", "h:1"), "database-owner", 3, "'alice', not to 'bob'", "ALTER DATABASE d OWNER TO bob"),
    (EnvFileRefused(PATH, "git tracks it", "git rm"), "env-file", 3, f"{PATH} is not touched: git tracks it", "git rm"),
    (
        EnginePullFailed("ghcr.io/a/b:1", "ghcr.io/a/b:1", "network", "no route"), "pull-network", 3,
        "its registry cannot be reached", "owlclaw-up engine pull",
    ),
    (EngineUnusable("engine-missing", "no folder", hint="ls"), "engine-missing", 3, "no folder", "ls"),
    (ExportRefused("it is there already", "--yes"), "export", 3, "it is there already", "--yes"),
    (SidecarRefused("sidecar-engines", "2 engines", hint="--engines 1"), "sidecar-engines", 3, "2 engines", "--engines 1"),
    (
        SidecarFailed("it v1", "unreachable", "URLError", program="/p", by_hand="bring it"), "sidecar-unreachable", 4,
        "it v1 could not be fetched: GitHub cannot be reached", "HTTPS_PROXY; or bring it",
    ),
    (
        SidecarFailed("it", "died", "log", program="/p", by_hand="", cause="not UTC", hint="set UTC"), "process-died", 4,
        "it ended before it was ready: not UTC", "set UTC",
    ),
    (SidecarFailed("it", "late", "", program="/p", by_hand=""), "timeout", 4, "was not ready in time", "--timeout"),
    (SidecarFailed("it", "not-runnable", "", program="/p", by_hand=""), "sidecar-not-runnable", 4, "cannot be run", "file /p"),
    (RemoteUnusable("remote-name", "no such name", hint="DNS"), "remote-name", 3, "no such name", "DNS"),
    (MigrationsUnusable("migrations-import", "no module x", hint="pip install x"), "migrations-import", 3, "no module x", "pip install x"),
    (DumpUnusable("dump-missing", "not there", hint="ls"), "dump-missing", 3, "not there", "ls"),
    (MigrationFailed("a1 -> b2", "division by zero", "22012", "words"), "migration-failed", 4, "migration a1 -> b2 failed: division by zero", "owlclaw-up db migrate"),
    (MigrationFailed("a1 -> b2", "permission denied", "42501", "words"), "migration-failed", 4, "permission denied", "owlclaw-up db init"),
    (MigrationBlocked("a1 -> b2", 30.0, "session 7", "owlclaw"), "migration-blocked", 4, "migration a1 -> b2 waited 30 s for a lock of session 7", "psql -d owlclaw"),
    (BinaryNotRunnable("/x/y", "no such file"), "binary-not-runnable", 3, "/x/y cannot be run: no such file", "file /x/y"),
    (ApplyFailed("seed-failed", "it failed", hint="logs"), "seed-failed", 4, "it failed", "logs"),
    (TimedOut("the API", 60.4, "502"), "timeout", 4, "the API did not happen within 60 s; last seen: 502", "--timeout"),
    (TimedOut("the API", 60, "502", hint="look there"), "timeout", 4, "502", "look there"),
    (ProcessDied("PostgreSQL", "by signal SIGKILL", hint="df -h", log="x"), "process-died", 4, "PostgreSQL ended by signal SIGKILL", "df -h"),
    (Interrupted(), "interrupted", 130, "interrupted", "run the same command again"),
    (InternalError("KeyError: 'x'", "Traceback"), "bug", 70, "a bug in owlclaw-up: KeyError: 'x'", ".owlclaw-up/logs/up.log"),
    (NoEnvironment(PATH), "no-environment", 3, "nothing was set up", "owlclaw-up"),
]  # fmt: skip
CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, UpError)]


@pytest.mark.parametrize(("error", "code", "exit_code", "message", "hint"), CASES, ids=lambda v: type(v).__name__)
def test_error(error: UpError, code: str, exit_code: int, message: str, hint: str) -> None:
    assert (error.code, error.exit_code) == (code, exit_code)
    assert message in error.message
    assert str(error) == error.message
    assert hint in error.hint
    assert "\n" not in error.message
    assert not error.message.endswith(".")
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", error.code)


def test_every_class_is_in_the_table() -> None:
    assert {type(case[0]) for case in CASES} >= set(CLASSES)


def test_every_error_of_a_user_says_what_to_do() -> None:
    assert not [case[0] for case in CASES if not case[0].hint and type(case[0]) is not UpError]


def test_a_code_belongs_to_one_class() -> None:
    codes = [c.code for c in CLASSES if "code" in vars(c)]
    assert len(set(codes)) == len(codes)


def test_exit_codes_are_those_of_the_contract() -> None:
    assert {c.exit_code for c in CLASSES} == {2, 3, 4, 70, 130}
    for base, exit_code in ((UsageError, 2), (PreconditionError, 3), (ApplyFailed, 4)):
        assert {c.exit_code for c in CLASSES if issubclass(c, base)} == {exit_code}


def test_the_words_of_others_are_kept_apart() -> None:
    assert DurableRequired([("full", "a"), ("native", "b")], "x").detail == "full: a\nnative: b"
    assert ProcessDied("it", "how", hint="x", log="last words").detail == "last words"
    assert InternalError("x", "Traceback").detail == "Traceback"
    assert TimedOut("it", 1, "x", detail="tail").detail == "tail"


def test_errors_import_nothing_of_ours() -> None:
    tree = ast.parse(Path(errors.__file__).read_text(encoding="utf-8"))
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not [name for name in modules if name.startswith("owlclaw_up")]
    assert modules == {"__future__", "collections.abc", "pathlib", "typing"}
