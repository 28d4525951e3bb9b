"""The stand-in for ``hatchet-migrate``: makes the tables, with the real one's stages, texts and exit codes."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from . import schema
from .errors import ConfigurationError
from .golang import flag_error, log
from .misbehave import fault, fault_text, version

if TYPE_CHECKING:
    import psycopg

    from .database import Dsn

CONNECT_SECONDS = 30.0
_USAGE = """Usage:
  hatchet-migrate [flags]

Flags:
      --down string         migrate down to a specific version (e.g., 20240115180414).
  -h, --help                help for hatchet-migrate
      --up-to string        migrate up to a specific goose version (e.g., 20260818184000).
      --up-to-penultimate   migrate up to the second-to-last migration version.
      --version             print version and exit.
"""


class _StageError(Exception):
    """A stage failed; the text is what the real program prints after its name."""


def _connect(dsn: Dsn) -> psycopg.Connection[tuple[Any, ...]]:
    """Try for 30 seconds, once a second; as with the real one the reason is hidden behind the deadline."""
    import psycopg

    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            return psycopg.connect("", **dsn.connect_keywords(""))
        except psycopg.OperationalError:
            left = deadline - time.monotonic()
            if left > 0:
                time.sleep(min(1.0, left))
                continue
            raise _StageError(f"connect on {dsn.redacted}: context deadline exceeded") from None


def _apply(connection: psycopg.Connection[tuple[Any, ...]], dsn: Dsn, target: int | None) -> None:
    import psycopg

    from .database import error_text

    row = connection.execute("SELECT max(version_id) FROM goose_db_version WHERE is_applied").fetchone()
    current = int(row[0]) if row and row[0] is not None else 0
    todo = [
        step for step in schema.migrations(version()) if step[0] > current and (target is None or step[0] <= target)
    ]
    if current == 0:
        print("Does existing atlas schema exist? false\nDoes existing prisma schema exist? false", flush=True)
        connection.execute("INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, true)")
    for number, name, statements in todo:
        started = time.monotonic()
        failing = (fault("migrate.fails") and number == 20240216133745) or (
            fault("migrate.fails-late") and number == schema.LATER[-1][1][0]
        )
        try:
            with connection.transaction():
                if failing:
                    connection.execute("SELECT standin_fault()")
                if statements:
                    connection.execute(statements.encode())
                connection.execute("INSERT INTO goose_db_version (version_id, is_applied) VALUES (%s, true)", (number,))
        except psycopg.Error as error:
            text = fault_text(error_text(error)) if failing else error_text(error)
            raise _StageError(
                f"apply migrations on {dsn.redacted}: ERROR {number}_{name}: failed to run SQL migration: "
                f"failed to execute SQL query {json.dumps(statements, ensure_ascii=False)}: {text}"
            ) from None
        log(f"OK   {number}_{name} ({(time.monotonic() - started) * 1000:.2f}ms)")
    if todo:
        log(f"goose: successfully migrated database to version: {todo[-1][0]}")
    else:
        log(f"goose: no migrations to run. current version: {current}")


def _run(target: int | None) -> None:
    if not os.environ.get("DATABASE_URL"):
        raise _StageError("read env on <empty DSN>: missing database environment variable")
    # Loading the driver takes ten times as long as answering --version, so only a migration does.
    import psycopg

    from .database import error_text, read_dsn

    try:
        dsn = read_dsn()
    except ConfigurationError:
        # The real one does not see at once that nothing can come of it either.
        time.sleep(CONNECT_SECONDS)
        raise _StageError("connect on <unparseable DSN>: context deadline exceeded") from None
    connection = _connect(dsn)
    try:
        if fault("migrate.hangs"):
            log("OK   20240115180414_init.sql (89.57ms)")
            log("OK   20240122014727_v0_6_0.sql (7.63ms)")
            time.sleep(3600)
        connection.execute("SELECT pg_advisory_lock(4097083626)")
        for stage, statements in (
            ("create goose_db_version table", schema.VERSION_TABLE),
            ("apply pgoutbox migrations", schema.OUTBOX),
        ):
            try:
                # One statement of its own each, so that a missing right is met where the real one meets it.
                connection.execute("SET client_min_messages = warning")
                connection.execute(statements.encode())
            except psycopg.Error as error:
                raise _StageError(f"{stage} on {dsn.redacted}: {error_text(error)}") from None
        _apply(connection, dsn, target)
    finally:
        connection.close()


def main(arguments: list[str]) -> int:
    """Run the program; give its exit code."""
    target: int | None = None
    words = iter(arguments)
    for word in words:
        name, has_value, value = word.partition("=")
        if name in ("-h", "--help"):
            print("hatchet-migrate runs database migrations for Hatchet.\n\n" + _USAGE, end="")
            return 0
        if name == "--version":
            print(version())
            return 0
        if name == "--up-to":
            text = value if has_value else next(words, "")
            try:
                target = int(text)
            except ValueError:
                print(f'invalid --up-to version "{text}": strconv.ParseInt: parsing "{text}": invalid syntax')
                return 1
        elif name == "--up-to-penultimate":
            target = schema.migrations(version())[-2][0]
        else:
            return flag_error(f"unknown flag: {name}", _USAGE)
    try:
        _run(target)
    except _StageError as error:
        sys.stderr.flush()
        print(f"hatchet-migrate[DATABASE_URL oss]: failed during {error}", flush=True)
        return 1
    return 0
