"""Files that hold secrets: private from their first byte, whole or as before."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from owlclaw_up.host.local import LocalFiles

FILES = LocalFiles()


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """The most careless umask there is."""
    previous = os.umask(0)
    yield
    os.umask(previous)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_private_file_is_0600(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    FILES.write_private(path, b"one")
    assert (path.read_bytes(), mode(path)) == (b"one", 0o600)
    path.chmod(0o644)
    FILES.write_private(path, b"two")
    assert (path.read_bytes(), mode(path)) == (b"two", 0o600)
    assert names(tmp_path) == ["secrets.json"]


def test_the_temporary_file_is_private_before_its_first_byte(tmp_path: Path) -> None:
    """mkstemp makes it 0600 whatever the umask; what a reader could see in between is either old or nothing."""
    path = tmp_path / ".env"
    path.write_bytes(b"old")
    before = path.stat().st_ino
    with path.open("rb") as reader:
        FILES.write_private(path, b"new")
        assert reader.read() == b"old", "the old file was not written into"
    assert path.stat().st_ino != before


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "dev.env", tmp_path / ".env"
    target.write_bytes(b"old")
    link.symlink_to("real/dev.env")
    FILES.write_private(link, b"new")
    assert link.is_symlink()
    assert (target.read_bytes(), mode(target)) == (b"new", 0o600)
    assert (names(tmp_path), names(target.parent)) == ([".env", "real"], ["dev.env"])


def test_a_link_to_what_is_not_there_yet(tmp_path: Path) -> None:
    link = tmp_path / ".env"
    link.symlink_to(tmp_path / "later.env")
    FILES.write_private(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "later.env").read_bytes() == b"new"


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "inside").touch()
    with pytest.raises(OSError):
        FILES.write_private(taken, b"new")
    assert names(tmp_path) == ["taken"]
    assert names(taken) == ["inside"]


def test_a_write_that_is_cut_off_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        FILES.write_private(path, "no bytes at all")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == [".env"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FILES.write_private(tmp_path / "gone" / ".env", b"new")


def test_folders_are_private_and_made_with_their_parents(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    FILES.make_dir(path)
    assert mode(path) == 0o700
    FILES.make_dir(path, 0o755)
    assert mode(path) == 0o755
    path.chmod(0o777)
    FILES.make_dir(path)
    assert mode(path) == 0o700


def test_a_log_is_private_and_grows(tmp_path: Path) -> None:
    path = tmp_path / "up.log"
    FILES.append(path, "eins\n")
    FILES.append(path, "二\n")
    assert (path.read_text(encoding="utf-8"), mode(path)) == ("eins\n二\n", 0o600)
    assert FILES.tail(path, 1) == ["二"]
    assert FILES.tail(path, 9) == ["eins", "二"]


def test_the_tail_of_a_long_log_is_short(tmp_path: Path) -> None:
    path = tmp_path / "hatchet.log"
    path.write_bytes(b"".join(b"line %d\n" % n for n in range(100_000)))
    assert FILES.tail(path, 2) == ["line 99998", "line 99999"]
    assert len(FILES.tail(path, 10**9)) < 30_000


def test_what_is_not_there(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    (tmp_path / "file").touch()
    assert FILES.read(gone) is None
    assert FILES.read(tmp_path / "file" / "below") is None
    assert FILES.tail(gone, 5) == []
    assert FILES.tail(tmp_path / "file" / "below", 5) == []
    assert not FILES.exists(gone)
    FILES.remove(gone)
    FILES.remove_tree(gone)


def test_removing(tmp_path: Path) -> None:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "file").touch()
    FILES.remove_tree(tmp_path / "tree")
    FILES.remove(tmp_path / "file")
    assert names(tmp_path) == []


def test_a_folder_behind_a_link_is_emptied_and_stays(tmp_path: Path) -> None:
    disk, link, elsewhere = tmp_path / "disk", tmp_path / "link", tmp_path / "elsewhere"
    (disk / "deep" / "down").mkdir(parents=True)
    elsewhere.mkdir()
    (disk / "file").touch()
    (elsewhere / "kept").touch()
    (disk / "out").symlink_to(elsewhere)
    link.symlink_to(disk)
    FILES.remove_tree(link)
    assert link.is_symlink() and names(disk) == [] and names(elsewhere) == ["kept"]
    disk.rmdir()
    FILES.remove_tree(link)
    assert link.is_symlink()
