"""What foreign code gets around it while it runs in this process: folder, import path, environment, output, logging.

Everything is as before afterwards. For one run at a time: all of it belongs to the process.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO, cast

from owlclaw_up.redaction import Redactor


@contextlib.contextmanager
def surroundings(
    folder: Path, imports: Path, variables: Mapping[str, str | None], output: io.TextIOBase
) -> Iterator[None]:
    """Run the body elsewhere.

    Args:
        folder: the working directory.
        imports: where its imports are looked for first.
        variables: of the environment; None takes one away.
        output: what is printed goes there, and never to our own screen.
    """
    environ, path, here = dict(os.environ), list(sys.path), Path.cwd()
    stream = cast("TextIO", output)
    try:
        for name, value in variables.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        sys.path[:0] = [str(imports)]
        os.chdir(folder)
        printed = contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream)
        with printed[0], printed[1], _logging_kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.chdir(here)
        sys.path[:] = path
        for name in os.environ.keys() - environ.keys():
            del os.environ[name]
        os.environ.update(environ)


class PrivateLog(io.TextIOBase):
    """A file, 0600, for what is printed; line by line, secrets masked."""

    def __init__(self, path: Path, redact: Redactor) -> None:
        self._path, self._redact, self._rest = path, redact, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        if lines:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(handle, "a", encoding="utf-8") as file:
                file.writelines(f"{self._redact(line)}\n" for line in lines)
        return len(text)


@contextlib.contextmanager
def _logging_kept() -> Iterator[None]:
    """Logging as it was, whatever an env.py makes of it."""
    root, manager = logging.getLogger(), logging.getLogger().manager

    def loggers() -> list[logging.Logger]:
        return [root, *(one for one in manager.loggerDict.values() if isinstance(one, logging.Logger))]

    before = {one: (list(one.handlers), one.level, one.propagate, one.disabled) for one in loggers()}
    try:
        yield
    finally:
        for one in loggers():
            handlers, level, propagate, disabled = before.get(one, ([], logging.NOTSET, True, False))
            one.handlers[:], one.propagate, one.disabled = handlers, propagate, disabled
            one.setLevel(level)
