"""What Alembic, an env.py or a driver has raised, as an error of ours; their words kept, without secrets and values."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from typing import Any

from owlclaw_up.errors import MigrationsUnusable, UpError
from owlclaw_up.host.base import ServerLogin
from owlclaw_up.redaction import Redactor

# Module to the package that one installs for it, where the two have other names.
_PACKAGES = {"psycopg2": "psycopg2-binary"}


def before_the_first(error: BaseException, source: str, login: ServerLogin) -> UpError:
    """The error for a run that failed before its first migration: nothing was changed.

    Args:
        source: the configuration, for the reader.
    """
    if isinstance(error, UpError):
        return error
    missing = import_error(error, source)
    if missing is not None:
        return missing
    _, words = of_server(error, login)
    if words:
        return MigrationsUnusable(
            "migrations-database", f"PostgreSQL refused what env.py asked first: {words.splitlines()[0]}",
            hint="owlclaw-up db status", detail=words,
        )  # fmt: skip
    import alembic.util

    words = _masked(str(error), login)
    if isinstance(error, alembic.util.CommandError):
        return MigrationsUnusable(
            "migrations-revision", f"Alembic refuses: {words.splitlines()[0]}", hint="owlclaw-up db migrate --dry-run"
        )
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return MigrationsUnusable(
        "migrations-env",
        f"env.py of {source} failed before its first migration: {words_of(error, login).splitlines()[0]}",
        hint="mend env.py, then: owlclaw-up db migrate",
        detail=_masked("".join(lines[-3:]).strip(), login),
    )


def import_error(error: BaseException, source: str) -> MigrationsUnusable | None:
    """The error for a module that is not there, where that is the cause."""
    missing = next((e for e in _chain(error) if isinstance(e, ImportError)), None)
    if missing is None:
        return None
    name = missing.name or str(missing)
    package = _PACKAGES.get(name)
    hint = (
        f"{sys.executable} -m pip install {package}"
        if package
        else "run owlclaw-up from the project's own environment: pip install owlclaw-up there, "
        "then: python -m owlclaw_up db migrate"
    )
    return MigrationsUnusable(
        "migrations-import",
        f"the migrations of {source} import {name}, which this Python does not have ({sys.executable})",
        hint=hint, detail=str(missing),
    )  # fmt: skip


def of_server(error: BaseException, login: ServerLogin) -> tuple[str, str]:
    """SQLSTATE and words of the server, of whichever driver; both empty for an error that is not the database's."""
    for one in _chain(error):
        original: Any = getattr(one, "orig", None)
        state = getattr(one, "sqlstate", None) or getattr(one, "pgcode", None)
        # Not SQLAlchemy's own text, which has the statement's values.
        if state and original is None:
            return str(state), _masked(str(one).strip(), login)
        if original is not None and not (getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)):
            return "", _masked(str(original).strip(), login)
    return "", ""


def words_of(error: BaseException, login: ServerLogin) -> str:
    """Kind and text of any error."""
    return _masked(f"{type(error).__name__}: {error}", login)


def _masked(text: str, login: ServerLogin) -> str:
    return Redactor([login.password.reveal()] if login.password else [])(text)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what it wraps, and what caused it."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        original = getattr(seen, "orig", None)
        seen = original if isinstance(original, BaseException) else seen.__cause__
