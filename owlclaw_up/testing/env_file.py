"""The dotenv file of the project under test, into the environment of the session: what is there already wins."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

# `receipts` names it too, and costs what a session without a use for it would not want to pay.
STATE = Path(".owlclaw-up") / "state.json"


@dataclass(frozen=True)
class Loaded:
    """What became of a dotenv file.

    Attributes:
        names: of the variables that it gave.
        kept: of those that the environment had already, with another value.
        problems: why the file, or a line of it, could not be used; never a value.
    """

    path: Path
    names: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def find(name: str, start: Path) -> Path | None:
    """The dotenv file that is meant: a name is looked for in a folder and its parents, a path is that file."""
    folders = (start, *start.parents) if Path(name).name == name else (start,)
    return next((path for folder in folders if (path := folder / Path(name).expanduser()).is_file()), None)


def load(path: Path, environ: MutableMapping[str, str]) -> Loaded:
    """Put a file's values into an environment, as `dotenv.load_dotenv` does: without overriding, `${NAME}` replaced."""
    # Imported here: a project without a dotenv file pays nothing.
    from dotenv.main import DotEnv

    from owlclaw_up import dotenv_text

    try:
        data = path.read_bytes()
        problems = tuple(f"line {line} cannot be read" for line in dotenv_text.broken_lines(data))
    except OSError as error:
        return Loaded(path, problems=(os.strerror(error.errno or 0),))
    except dotenv_text.DotenvError as error:
        return Loaded(path, problems=(str(error),))
    with _unlogged():
        read = DotEnv(None, StringIO(data.decode("utf-8-sig")), override=False).dict()
    values = {name: value for name, value in read.items() if name and value is not None}
    new = {name: value for name, value in values.items() if name not in environ}
    kept = tuple(name for name, value in values.items() if environ.get(name, value) != value)
    environ.update(new)
    return Loaded(path, tuple(new), kept, problems)


def unload(loaded: Loaded, environ: MutableMapping[str, str]) -> None:
    """Take out again what a file gave."""
    for name in loaded.names:
        environ.pop(name, None)


def describe(loaded: Loaded, root: Path) -> list[str]:
    """For the reader: what was loaded, what was not, and which mode the environment beside the file has."""
    path = loaded.path
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    lines = [f"{shown}: {problem}" for problem in loaded.problems]
    if loaded.names or loaded.kept or not loaded.problems:
        text = f"{shown} loaded, {len(loaded.names)} variable{'' if len(loaded.names) == 1 else 's'}"
        if loaded.kept:
            text += f"; the shell's own {', '.join(loaded.kept)} won"
        mode = _mode(path.parent)
        lines.insert(0, f"{text}; mode {mode}" if mode else text)
    return lines


def _mode(folder: Path) -> str:
    try:
        return str(json.loads((folder / STATE).read_bytes()).get("mode") or "")
    except (OSError, ValueError, AttributeError):
        return ""


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Without what python-dotenv logs of broken lines, at a time when nobody has configured logging."""

    def refuse(record: logging.LogRecord) -> bool:
        return False

    logger = logging.getLogger("dotenv.main")
    logger.addFilter(refuse)
    try:
        yield
    finally:
        logger.removeFilter(refuse)
