"""A folder made by `prefetch`, on disk: read, verified, and written so that a run which was killed can go on.

What a manifest names is opened only inside the folder, never by way of a link, and used only once its bytes are right.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from owlclaw_up.errors import BundleUnusable, PrefetchFailed
from owlclaw_up.host.bundle_base import (
    ENGINE,
    IMAGES,
    LONGEST,
    MANIFEST,
    PARTS,
    UNFINISHED,
    WHEELS,
    Bundle,
    BundleFile,
    parse,
)
from owlclaw_up.host.oci import sha256_of

PARTIAL, NOTE, _LOCK = ".partial", "README.txt", ".lock"
# What a disk that was just made has in its root.
_OF_A_DISK = {"lost+found"}
_CHUNK = 1 << 20


def read_bundle(folder: Path) -> Bundle:
    """The folder's manifest; images and engine are there, in their sizes. No digest is looked at yet.

    Raises:
        BundleUnusable: it is no such folder, is not finished, or something is missing.
    """
    again = f"where there is a network: owlclaw-up prefetch {folder}"
    try:
        if not folder.is_dir():
            raise BundleUnusable("bundle-missing", f"{folder} is no folder", hint=f"ls -ld {folder}")
        data = _manifest(folder / MANIFEST)
        if data is None and (folder / UNFINISHED).exists():
            raise BundleUnusable("bundle-unfinished", f"{folder} is not finished", hint=f"go on with it, {again}")
    except OSError as error:
        raise BundleUnusable(
            "bundle-manifest", f"{folder / MANIFEST} cannot be read: {error.strerror}", hint=f"ls -l {folder}"
        ) from None
    if data is None:
        raise BundleUnusable("bundle-missing", f"{folder} has no {MANIFEST}: prefetch did not make it", hint=again)
    bundle = parse(folder, data)
    # Wheels are pip's to look at.
    for file in (*bundle.below(IMAGES), *bundle.below(ENGINE)):
        with open_file(bundle, file):
            pass
    return bundle


def _manifest(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(LONGEST)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def open_file(bundle: Bundle, file: BundleFile) -> Iterator[BinaryIO]:
    """A file of the folder, open, in the size that the manifest says.

    Raises:
        BundleUnusable: it is not there, or lies elsewhere.
    """
    path = bundle.folder / file.name
    try:
        # A link may lead anywhere, also one half way.
        if path.parent.resolve() != (bundle.folder.resolve() / file.name).parent:
            raise BundleUnusable(
                "bundle-manifest", f"{path} lies behind a link, out of the folder", hint=f"ls -l {path.parent}"
            )
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BundleUnusable("bundle-manifest", f"{path} is a link", hint=f"ls -l {path}") from None
        raise _damaged(bundle, file, str(error.strerror).lower()) from None
    with os.fdopen(handle, "rb") as opened:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode) or info.st_size != file.size:
            raise _damaged(bundle, file, f"it has {info.st_size} bytes, {file.size} are on record")
        yield opened


@contextlib.contextmanager
def verified(bundle: Bundle, file: BundleFile) -> Iterator[BinaryIO]:
    """A file of the folder, open at its beginning, once every byte of it was seen to be right.

    Raises:
        BundleUnusable: it is not as it was made.
    """
    with open_file(bundle, file) as opened:
        digest = hashlib.sha256()
        try:
            while chunk := opened.read(_CHUNK):
                digest.update(chunk)
            opened.seek(0)
        except OSError as error:
            raise _damaged(bundle, file, str(error.strerror)) from None
        if digest.hexdigest() != file.sha256:
            raise _damaged(bundle, file, "its bytes are not those on record")
        yield opened


def copy_verified(bundle: Bundle, file: BundleFile, target: Path) -> None:
    """Copy a file out of the folder; what is copied is what was verified.

    Raises:
        BundleUnusable: it is not as it was made.
        OSError: the target cannot be written.
    """
    digest = hashlib.sha256()
    with open_file(bundle, file) as opened, target.open("wb") as copy:
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
            copy.write(chunk)
    if digest.hexdigest() != file.sha256:
        raise _damaged(bundle, file, "its bytes are not those on record")


def _damaged(bundle: Bundle, file: BundleFile, why: str) -> BundleUnusable:
    return BundleUnusable(
        "bundle-damaged", f"{bundle.folder / file.name} is damaged: {why}",
        hint=f"copy the folder again; or mend it, where there is a network: owlclaw-up prefetch {bundle.folder}",
    )  # fmt: skip


@dataclasses.dataclass
class BundleFolder:
    """The folder while it is being made.

    Attributes:
        kept: what is whole, and right; the platform and whatever else is wanted is put in by whoever makes it.
        complete: whether nothing was missing when it was looked at, and nothing was put in since.
    """

    path: Path
    kept: Bundle
    complete: bool = False

    @property
    def partial(self) -> Path:
        """Where things are put together; gone at the end."""
        return self.path / PARTIAL

    def put(self, **changes: object) -> None:
        """Something is whole: put it on record, so that a run that is killed after this goes on behind it."""
        self.kept = dataclasses.replace(self.kept, **changes)  # type: ignore[arg-type]
        self.complete = False
        _write(self.path / UNFINISHED, self.kept)
        (self.path / MANIFEST).unlink(missing_ok=True)

    def record(self, *names: str) -> tuple[BundleFile, ...]:
        """The files of the folder with these names, as they are now, beside what is kept of others."""
        made = []
        for name in names:
            path = self.path / name
            made.append(BundleFile(name, path.stat().st_size, sha256_of(path)))
        others = (file for file in self.kept.files if file.name not in names)
        return tuple(sorted((*others, *made), key=lambda file: file.name))

    def take(self, part: str, staged: Path) -> tuple[BundleFile, ...]:
        """Put a part that was made in `partial` in the place of the one before it; gives the files that there are then."""
        target = self.path / part
        shutil.rmtree(target, ignore_errors=True)
        staged.replace(target)
        others = tuple(file for file in self.kept.files if not file.name.startswith(f"{part}/"))
        self.kept = dataclasses.replace(self.kept, files=others)
        return self.record(*(p.relative_to(self.path).as_posix() for p in sorted(target.rglob("*")) if p.is_file()))

    def finish(self, note: str) -> None:
        """Nothing is missing any more: remove what does not belong to it, and write the manifest, last of all."""
        names = {file.name for file in self.kept.files}
        for part in PARTS:
            for path in sorted((self.path / part).rglob("*"), reverse=True):
                if path.is_dir() and not path.is_symlink():
                    with contextlib.suppress(OSError):
                        path.rmdir()
                elif path.relative_to(self.path).as_posix() not in names:
                    path.unlink()
            with contextlib.suppress(OSError):
                (self.path / part).rmdir()
        (self.path / NOTE).write_text(note, encoding="utf-8")
        shutil.rmtree(self.partial, ignore_errors=True)
        _write(self.path / MANIFEST, self.kept)
        (self.path / UNFINISHED).unlink(missing_ok=True)
        self.complete = True


def _write(path: Path, bundle: Bundle) -> None:
    """As a whole, and on the disk: such a folder is pulled out of machines."""
    staged = path.with_name(f".{path.name}")
    with staged.open("w", encoding="utf-8") as file:
        json.dump(bundle.document(), file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)


@contextlib.contextmanager
def making(path: Path, wanted: Bundle) -> Iterator[BundleFolder]:
    """The folder, ours alone while it is being made, with what is right of an earlier run.

    Args:
        wanted: what is to be made: platform, Python, who makes it. What was made otherwise is not kept.

    Raises:
        PrefetchFailed: it is somebody else's, another run works in it, or it cannot be written.
    """
    import filelock

    try:
        path.mkdir(parents=True, exist_ok=True)
        _refuse_foreign(path)
        lock = filelock.FileLock(path / _LOCK)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise PrefetchFailed(
            "prefetch-folder", f"another prefetch works in {path}", hint="wait for it to end, or take another folder"
        ) from None
    except OSError as error:
        raise cannot_write(path, error) from None
    try:
        folder = _begun(path, wanted)
        if not folder.complete:
            # From now on it is known as ours, and as not finished.
            folder.put()
        yield folder
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        lock.release()
        (path / _LOCK).unlink(missing_ok=True)


def _begun(path: Path, wanted: Bundle) -> BundleFolder:
    """With what is right of an earlier run; every byte of it is looked at."""
    before = _before(path)
    if before is None or before.platform != wanted.platform:
        return BundleFolder(path, wanted)
    there = tuple(file for file in before.files if _is_right(path, file))
    names = {file.name for file in there}
    whole = {part for part in PARTS if before.below(part) and all(f.name in names for f in before.below(part))}
    kept = dataclasses.replace(
        before, made_at=wanted.made_at, made_by=wanted.made_by,
        engine=before.engine if ENGINE in whole else "", wheels_of=before.wheels_of if WHEELS in whole else "",
        images=tuple(image for image in before.images if image.file in names),
        files=tuple(f for f in there if f.name.startswith(f"{IMAGES}/") or f.name.partition("/")[0] in whole),
    )  # fmt: skip
    return BundleFolder(path, kept, complete=kept.files == before.files and (path / MANIFEST).exists())


def _before(path: Path) -> Bundle | None:
    for name in (MANIFEST, UNFINISHED):
        data = _manifest(path / name)
        if data is not None:
            with contextlib.suppress(BundleUnusable):
                return parse(path, data)
    return None


def _is_right(path: Path, file: BundleFile) -> bool:
    try:
        with verified(Bundle(path, "", files=(file,)), file):
            return True
    except BundleUnusable:
        return False


def _refuse_foreign(path: Path) -> None:
    ours = {MANIFEST, UNFINISHED, PARTIAL, NOTE, _LOCK, *PARTS}
    there = {each.name for each in path.iterdir()} - _OF_A_DISK
    marked = _before(path) is not None
    if there - {_LOCK} and not marked:
        foreign = sorted(there - ours) or sorted(there)
        raise PrefetchFailed(
            "prefetch-folder", f"{path} holds something else: {', '.join(foreign[:3])}",
            hint="name an empty folder, or one that is not there yet: owlclaw-up prefetch DIR",
        )  # fmt: skip


def cannot_write(path: Path, error: OSError) -> PrefetchFailed:
    """What became of writing, in words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PrefetchFailed(
            "prefetch-disk-full", f"the disk of {path} is full", hint=f"df -h {path}; then the same command goes on"
        )
    what = os.strerror(error.errno) if error.errno else str(error)
    return PrefetchFailed(
        "prefetch-folder", f"{path} cannot be written: {what}", hint=f"ls -ld {path}", detail=str(error)
    )
