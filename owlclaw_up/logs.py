"""Reading our log files: the last lines, since when, and what comes next. Reads only; the caller redacts."""

from __future__ import annotations

import contextlib
import queue
import re
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from owlclaw_up.errors import UsageError

FILES = {
    "postgres": ("postgres.log",),
    "hatchet": ("migrate.log", "hatchet.log"),
    "up": ("up.log", "compose.log", "smoke.log"),
}
_RELATIVE = re.compile(r"(\d+)\s*([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
# Postgres and our own log: 2026-11-23 01:16:11.1 or T; goose: 2026/11/23 01:16:11; all of them UTC.
_STAMP = re.compile(r"^(?:\x1b\[\d+m)*(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d):(\d\d):(\d\d)")
_FOLLOW_POLL = 0.2


def parse_since(text: str, now: datetime) -> datetime:
    """`10m`, `2h`, or a time as ISO 8601 (UTC where it names no zone).

    Raises:
        UsageError: it is neither.
    """
    match = _RELATIVE.fullmatch(text.strip())
    try:
        if match:
            return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except (ValueError, OverflowError):
        raise UsageError(f"--since {text!r} is no time", hint="10m, 2h, or 2026-01-31T12:00:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def paths(folder: Path, name: str | None) -> list[tuple[str, Path]]:
    """The log files of a name, or all of them, each with its label; those that exist."""
    names = [name] if name else list(FILES)
    pairs = [(label, folder / file) for label in names for file in FILES[label]]
    if "hatchet" in names:
        # The engines beside the first, each by its name.
        last = max(n for n, (label, _) in enumerate(pairs) if label == "hatchet") + 1
        pairs[last:last] = [(path.stem, path) for path in sorted(folder.glob("hatchet-*.log"))]
    return [(label, path) for label, path in pairs if path.exists()]


def read(path: Path, tail: int | None, since: datetime | None) -> list[str]:
    """Lines of a log; a line without a time of its own belongs to the one before."""
    lines = path.read_bytes().decode("utf-8", "replace").splitlines()
    if since is not None:
        kept, wanted = [], False
        for line in lines:
            stamp = _time_of(line)
            wanted = stamp >= since if stamp else wanted
            if wanted:
                kept.append(line)
        lines = kept
    return lines if tail is None else lines[-tail:] if tail else []


def follow(
    files: Sequence[tuple[str, Path]], streams: Sequence[tuple[str, Iterator[str]]] = ()
) -> Iterator[tuple[str, str]]:  # fmt: skip
    """New lines as they are written, until the caller stops.

    Args:
        streams: what gives lines by itself, such as the log of a container; each is read beside the others.
    """
    coming: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    def read_on(label: str, lines: Iterator[str]) -> None:
        for line in lines:
            coming.put((label, line))

    for label, lines in streams:
        threading.Thread(target=read_on, args=(label, lines), daemon=True).start()
    offsets = {path: path.stat().st_size for _, path in files}
    rests: dict[Path, bytes] = {path: b"" for _, path in files}
    while True:
        for label, path in files:
            size = path.stat().st_size if path.exists() else 0
            if size < offsets[path]:
                offsets[path] = 0
            if size > offsets[path]:
                with path.open("rb") as file:
                    file.seek(offsets[path])
                    data = rests[path] + file.read(size - offsets[path])
                offsets[path] = size
                *whole, rests[path] = data.split(b"\n")
                for line in whole:
                    yield label, line.decode("utf-8", "replace")
        with contextlib.suppress(queue.Empty):
            yield coming.get(timeout=_FOLLOW_POLL)
            while True:
                yield coming.get_nowait()


def _time_of(line: str) -> datetime | None:
    match = _STAMP.match(line)
    if not match:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups())
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        # Digits that look like a time, and no calendar has it.
        return None
