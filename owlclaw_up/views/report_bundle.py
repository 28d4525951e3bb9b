"""The bundle of a report: the page, and the files behind it, in one zip archive."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

# By this an archive of ours is known: it may be replaced, any other file not.
COMMENT = b"owlclaw-up report"
_RIGHTS = 0o600 << 16


def archive(files: Mapping[str, str], moment: tuple[int, int, int, int, int, int]) -> bytes:
    """The archive.

    Args:
        files: text by name.
        moment: when it is made, for the entries.
    """
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archived:
        archived.comment = COMMENT
        for name, text in files.items():
            entry = zipfile.ZipInfo(name, moment)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = _RIGHTS
            archived.writestr(entry, encoded(text))
    return made.getvalue()


def encoded(text: str) -> bytes:
    """UTF-8; what stands for bytes that were none, in a path or a variable, becomes a question mark."""
    return text.encode("utf-8", "replace")
