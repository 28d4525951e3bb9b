"""Reading logs: the last lines, since when, and what is written while one looks."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path

import pytest

from owlclaw_up import logs
from owlclaw_up.errors import UsageError

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30s", NOON - timedelta(seconds=30)),
        ("10m", NOON - timedelta(minutes=10)),
        (" 2 h ", NOON - timedelta(hours=2)),
        ("1d", NOON - timedelta(days=1)),
        ("0s", NOON),
        ("2026-11-23T11:00:00", NOON - timedelta(hours=1)),
        ("2026-11-23 11:00", NOON - timedelta(hours=1)),
        ("2026-11-23T11:00:00Z", NOON - timedelta(hours=1)),
        ("2026-11-23T19:00:00+08:00", NOON - timedelta(hours=1)),
        ("2026-11-23", NOON - timedelta(hours=12)),
    ],
)
def test_since(text: str, moment: datetime) -> None:
    assert logs.parse_since(text, NOON) == moment


@pytest.mark.parametrize("text", ["", "soon", "10", "10x", "-5m", "2026-13-01", "25:00", "9" * 30 + "d", "9999999d"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        logs.parse_since(text, NOON)
    assert str(caught.value) == f"--since {text!r} is no time"
    assert (caught.value.exit_code, caught.value.hint) == (2, "10m, 2h, or 2026-01-31T12:00:00")


LOG = """\
a line before any time
2026/11/23 11:58:00 OK   20240115180414_init.sql (89.57ms)
\x1b[90m2026-11-23T11:59:00.796Z\x1b[0m \x1b[31mERR\x1b[0m error binding queue
    a line of the same message
2026-11-23 12:00:00.123 UTC [77] LOG:  database system is ready
2026-99-99 12:00:00 is no time
\u6570\u636e\u5e93 ready
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "hatchet.log"
    path.write_text(LOG, encoding="utf-8")
    return path


def test_everything(log: Path) -> None:
    assert logs.read(log, None, None) == LOG.splitlines()


@pytest.mark.parametrize(("tail", "lines"), [(0, 0), (1, 1), (3, 3), (7, 7), (99, 7)])
def test_tail(tail: int, lines: int, log: Path) -> None:
    assert logs.read(log, tail, None) == LOG.splitlines()[7 - lines :]


@pytest.mark.parametrize(("seconds", "first"), [(0, 4), (60, 2), (61, 2), (120, 1), (3600, 1)])
def test_a_line_without_a_time_belongs_to_the_one_before(seconds: int, first: int, log: Path) -> None:
    assert logs.read(log, None, NOON - timedelta(seconds=seconds)) == LOG.splitlines()[first:]


def test_since_and_tail_together(log: Path) -> None:
    assert logs.read(log, 1, NOON - timedelta(hours=1)) == ["\u6570\u636e\u5e93 ready"]
    assert logs.read(log, 5, NOON + timedelta(seconds=1)) == []


def test_bytes_that_are_no_text_do_not_hurt(log: Path) -> None:
    log.write_bytes(b"\xff\xfe broken\nfine\n")
    assert logs.read(log, None, None) == ["\ufffd\ufffd broken", "fine"]


def test_the_files_of_a_name(tmp_path: Path) -> None:
    for name in ("postgres.log", "migrate.log", "hatchet.log", "up.log", "smoke.log", "other.log"):
        (tmp_path / name).touch()
    assert logs.paths(tmp_path, "postgres") == [("postgres", tmp_path / "postgres.log")]
    assert [p.name for _, p in logs.paths(tmp_path, "hatchet")] == ["migrate.log", "hatchet.log"]
    assert [label for label, _ in logs.paths(tmp_path, None)] == ["postgres", "hatchet", "hatchet", "up", "up"]
    (tmp_path / "up.log").unlink()
    assert [p.name for _, p in logs.paths(tmp_path, "up")] == ["smoke.log"]
    assert logs.paths(tmp_path / "gone", None) == []


class Growing(type(Path())):  # type: ignore[misc]
    """A log that somebody writes to whenever one looks at its size: `None` begins it anew."""

    chunks: list[bytes | None]

    def stat(self, *, follow_symlinks: bool = True) -> object:
        if self.chunks:
            chunk = self.chunks.pop(0)
            with Path(str(self)).open("wb" if chunk is None else "ab") as file:
                file.write(chunk or b"")
        return super().stat(follow_symlinks=follow_symlinks)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking again at once."""
    monkeypatch.setattr(logs, "_FOLLOW_POLL", 0)


def growing(path: Path, *chunks: bytes | None) -> Path:
    path.write_bytes(b"an old line, longer than what comes\n")
    made: Path = Growing(str(path))
    made.chunks = list(chunks)  # type: ignore[attr-defined]
    return made


@pytest.mark.usefixtures("eager")
def test_following_gives_new_lines_whole(tmp_path: Path) -> None:
    path = growing(tmp_path / "up.log", b"", b"one\ntw", b"o\n", b"\xe4\xb8\xad\n", b"end\n", b"more\n")
    assert list(islice(logs.follow([("up", path)]), 4)) == [("up", "one"), ("up", "two"), ("up", "中"), ("up", "end")]


@pytest.mark.usefixtures("eager")
def test_following_a_log_that_begins_anew(tmp_path: Path) -> None:
    path = growing(tmp_path / "up.log", b"", None, b"new\n", b"x\n", b"y\n")
    assert next(logs.follow([("up", path)])) == ("up", "new")
