"""Programs that run in some folders, whoever started them and whether or not anybody recorded it. Reads only."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from owlclaw_up.host.base import ProcessId

# An interpreter's options, and its way to start a program, stand before the program's name.
_FIRST_WORDS = 3
_INTERPRETERS = re.compile(r"(ba|da|z)?sh|python[\d.]*")


@dataclass(frozen=True)
class RunningProgram:
    """A process.

    Attributes:
        name: of the program.
        place: the folder by which it was found: where it works, or the one that its command line names.
        command: its command line, cut off.
    """

    process: ProcessId
    name: str
    place: Path
    command: str


def programs_in(folders: Collection[Path], names: Collection[str]) -> list[RunningProgram]:
    """Programs of certain names that work below one of the folders, or are told of one on their command line.

    Args:
        names: of programs; whoever only reads a file of that name is none of them.
    """
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            words = process.cmdline()
            name = _program(words, names)
            if name not in names or process.status() == psutil.STATUS_ZOMBIE:
                continue
            places = [Path(word) for word in (process.cwd(), *words[1:]) if word.startswith("/")]
            place = next((p for p in places if any(p.is_relative_to(folder) for folder in folders)), None)
            if place is not None:
                who = ProcessId(process.pid, float(process.create_time()))
                found.append(RunningProgram(who, name, place, " ".join(words)[:200]))
    return found


def _program(words: Sequence[str], names: Collection[str]) -> str:
    """The name of the program of a command line; of a script its own, not its interpreter's."""
    first = Path(words[0]).name if words else ""
    if not _INTERPRETERS.fullmatch(first):
        return first
    # What a shell is given as a text may name anything.
    script = () if "-c" in words else words[1 : 1 + _FIRST_WORDS]
    return next((name for name in (Path(word).name for word in script) if name in names), "")
