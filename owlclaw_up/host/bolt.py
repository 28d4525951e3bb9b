"""One value out of a bolt database, read from its file: containerd keeps there which image has which name. Changes nothing.

Source: etcd-io/bbolt, internal/common/page.go, meta.go, bucket.go; the file has this machine's byte order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

_MAGIC, _VERSION = 0xED0CDAED, 2
_PAGE, _BUCKET = struct.Struct("=QHHI"), struct.Struct("=QQ")
_META = struct.Struct("=IIIIQQQQQQ")
_LEAF, _BRANCH = struct.Struct("=IIII"), struct.Struct("=IIQ")
_IS_BRANCH, _IS_LEAF, _HOLDS_BUCKET = 0x01, 0x02, 0x01
# Pages in pages: no real tree is this deep.
_DEPTH = 64


class NotBolt(Exception):
    """A file that is no bolt database, or was written to while it was read."""


def bolt_value(file: Path, *path: bytes) -> bytes | None:
    """The value at the end of a path of buckets; None where there is none.

    Raises:
        NotBolt: the file cannot be understood.
        OSError: it cannot be read.
    """
    data = file.read_bytes()
    try:
        return _Reader(data).find(path)
    except (struct.error, IndexError, RecursionError) as error:
        raise NotBolt(f"{file}: {type(error).__name__}: {error}") from None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        metas = [meta for meta in self._metas() if meta[0] == _MAGIC and meta[1] == _VERSION]
        if not metas:
            raise NotBolt("no page says that it is bolt's")
        # Of the two, the one of the later transaction.
        newest = max(metas, key=lambda meta: meta[8])
        self._page_size, self._root = newest[2], newest[4]

    def _metas(self) -> Iterator[tuple[int, ...]]:
        first = _META.unpack_from(self._data, _PAGE.size)
        yield first
        if first[0] == _MAGIC:
            yield _META.unpack_from(self._data, first[2] + _PAGE.size)

    def find(self, path: tuple[bytes, ...]) -> bytes | None:
        start = self._root * self._page_size
        for key in path[:-1]:
            found = self._in(start, key)
            if found is None or not found[0] & _HOLDS_BUCKET:
                return None
            root, _ = _BUCKET.unpack_from(self._data, found[1])
            # A small bucket has no page of its own, and lies here.
            start = root * self._page_size if root else found[1] + _BUCKET.size
        found = self._in(start, path[-1])
        return None if found is None else self._data[found[1] : found[1] + found[2]]

    def _in(self, start: int, key: bytes, depth: int = 0) -> tuple[int, int, int] | None:
        """Flags, place and size of a key's value in the tree whose page begins there."""
        _, flags, count, _ = _PAGE.unpack_from(self._data, start)
        if depth > _DEPTH or not flags & (_IS_BRANCH | _IS_LEAF):
            raise NotBolt("a page is neither branch nor leaf")
        if flags & _IS_LEAF:
            for number in range(count):
                at = start + _PAGE.size + number * _LEAF.size
                holds, position, key_size, size = _LEAF.unpack_from(self._data, at)
                if self._data[at + position : at + position + key_size] == key:
                    return holds, at + position + key_size, size
            return None
        child = None
        for number in range(count):
            at = start + _PAGE.size + number * _BRANCH.size
            position, key_size, page = _BRANCH.unpack_from(self._data, at)
            # A branch says of each child the first key in it.
            if number and self._data[at + position : at + position + key_size] > key:
                break
            child = page
        return None if child is None else self._in(child * self._page_size, key, depth + 1)
