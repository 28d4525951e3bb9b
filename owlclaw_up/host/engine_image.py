"""Hatchet's engine out of the layers of its image: three static binaries and the dashboard's files, and nothing else.

In: layers as streams, from the bottom to the top. Out: a folder. An archive that is not what its digest says, that tries to write
anywhere else, or more than an engine can be, is refused as a whole. The layout of the image: hatchet, build/package/lite.dockerfile.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from owlclaw_up.host.engines import ASSETS, BINARIES
from owlclaw_up.host.held_image import HeldLayer, ImageUnfit

# What a layer may unpack to, what one file of the engine may be, and how many files a layer may have.
LAYER_BYTES, FILE_BYTES, MEMBERS = 4 << 30, 1 << 30, 500_000
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_CHUNK = 1 << 20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def unpack(layers: Sequence[HeldLayer], folder: Path, say: Callable[[str], None] = lambda text: None) -> None:
    """Lay the layers one over the other, as far as they are the engine's.

    Args:
        folder: empty; written to nowhere else, and worth nothing where this raises.

    Raises:
        ImageUnfit: a name, link, device or size that no engine's image has (`unsafe`), an archive that cannot be read or is not
            the one that was promised (`broken`), one that is packed in another way than with gzip (`other`), or no engine in
            all of them (`no-engine`).
        OSError: the folder cannot be written to.
    """
    for number, layer in enumerate(layers, 1):
        say(f"unpacking layer {number} of {len(layers)}")
        try:
            with layer.open() as packed:
                head = packed.peek(len(_ZSTD))
                if head.startswith(_ZSTD):
                    raise ImageUnfit("other", f"{layer.diff_id} is packed with zstd; only gzip can be read here")
                is_packed = head.startswith(_GZIP)
                source = gzip.GzipFile(fileobj=packed) if is_packed else packed  # type: ignore[call-overload]
                stream = _Limited(source.read)
                _lay(stream, folder)
                found = stream.digest()
        except (EOFError, zlib.error, tarfile.TarError, gzip.BadGzipFile) as error:
            raise ImageUnfit("broken", f"{layer.diff_id}: {type(error).__name__}: {error}") from None
        if found != layer.diff_id:
            raise ImageUnfit("broken", f"layer {layer.diff_id} came as {found}")
    missing = [name for name in BINARIES if not (folder / name).is_file()]
    if missing:
        raise ImageUnfit("no-engine", f"{', '.join(missing)} not in it")


class _Limited:
    """A stream that ends with an error where it gives more than a layer may hold: a few bytes can unpack to anything."""

    def __init__(self, source: Callable[[int], bytes]) -> None:
        self._source, self._left = source, LAYER_BYTES
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source(size)
        self._left -= len(data)
        if self._left < 0:
            raise ImageUnfit("unsafe", f"a layer unpacks to more than {LAYER_BYTES >> 30} GiB")
        self._digest.update(data)
        return data

    def digest(self) -> str:
        """Of everything, to the end: an archive may go on behind its last entry."""
        while self.read(_CHUNK):
            pass
        return f"sha256:{self._digest.hexdigest()}"


def _lay(stream: _Limited, folder: Path) -> None:
    # A stream is read once, from its beginning to its end.
    with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]
        for count, member in enumerate(archive):
            if count >= MEMBERS:
                raise ImageUnfit("unsafe", f"a layer holds more than {MEMBERS} entries")
            path = inside(member.name)
            if member.islnk() and _is_ours(inside(member.linkname)):
                # A second name for a file of ours could be opened, and written, under that name.
                raise ImageUnfit("unsafe", f"{member.name} is a hard link to {member.linkname}")
            if path.name.startswith(_WHITEOUT):
                _remove(folder, path)
            elif _is_ours(path):
                _extract(archive, member, path, folder)


def inside(name: str) -> PurePosixPath:
    """A member's path, from the image's root.

    Raises:
        ImageUnfit: it leads out of it.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name:
        raise ImageUnfit("unsafe", f"an entry is named {name!r}")
    return path


def _is_ours(path: PurePosixPath) -> bool:
    return bool(path.parts) and (path.parts[0] == ASSETS or (len(path.parts) == 1 and path.name in BINARIES))


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, path: PurePosixPath, folder: Path) -> None:
    target = folder / path
    if member.isdir():
        if path.name in BINARIES and len(path.parts) == 1:
            raise ImageUnfit("unsafe", f"{member.name} is a folder")
        if target.exists() and not target.is_dir():
            target.unlink()
        target.mkdir(parents=True, exist_ok=True)
        return
    if not member.isreg():
        raise ImageUnfit("unsafe", f"{member.name} is no regular file")
    if member.size > FILE_BYTES:
        raise ImageUnfit("unsafe", f"{member.name} says it has {member.size} bytes")
    source = archive.extractfile(member)
    assert source is not None
    if target.is_dir():
        shutil.rmtree(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ImageUnfit("unsafe", f"{member.name} lies in something that is no folder") from None
    with source, target.open("wb") as file:
        shutil.copyfileobj(source, file, _CHUNK)
    # Nobody's bits but these: no setuid, and nobody else writes there.
    target.chmod(0o755 if len(path.parts) == 1 else 0o644)


def _remove(folder: Path, path: PurePosixPath) -> None:
    """What a layer takes away from those below it."""
    if path.name == _OPAQUE:
        if path.parent.parts and _is_ours(path.parent):
            target = folder / path.parent
            for each in target.iterdir() if target.is_dir() else ():
                shutil.rmtree(each) if each.is_dir() else each.unlink()
        return
    gone = path.with_name(path.name.removeprefix(_WHITEOUT))
    if _is_ours(gone):
        target = folder / gone
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
