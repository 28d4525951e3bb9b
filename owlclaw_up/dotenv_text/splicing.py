"""Places of a text -> the text with something else there: line ends are those of the file. Pure."""

from collections.abc import Iterable
from typing import NamedTuple


class Edit(NamedTuple):
    """What shall stand between two offsets."""

    start: int
    end: int
    text: str


def apply(text: str, edits: Iterable[Edit], final_newline: bool) -> str:
    """The text with all of them.

    Args:
        final_newline: whether the text ended with one before anything was appended to it.
    """
    # Stable: at one place, the value of the last line comes before the lines appended to it.
    ordered = sorted(edits, key=lambda item: (item.start, item.end))
    parts = []
    position = 0
    for start, end, new in ordered:
        parts += [text[position:start], new]
        position = end
    parts.append(text[position:])
    result = "".join(parts)
    cut = len(text)
    for start, end, new in reversed(ordered):
        if end != cut or start == end or new:
            break
        cut = start
    # The line end before our lines was added with them.
    if cut < len(text) and not final_newline:
        result = result[: len(result) - len(line_end(result))]
    return result


def ends_line(text: str) -> bool:
    """Whether the last line is whole."""
    return text.endswith(("\n", "\r"))


def line_end(text: str) -> str:
    """The end of the last line, empty where it is not whole."""
    return next((end for end in ("\r\n", "\n", "\r") if text.endswith(end)), "")


def dominant_line_end(text: str) -> str:
    """The end that most lines have."""
    pairs = text.count("\r\n")
    counts = {"\n": text.count("\n") - pairs, "\r\n": pairs, "\r": text.count("\r") - pairs}
    return max(counts, key=lambda end: counts[end])
