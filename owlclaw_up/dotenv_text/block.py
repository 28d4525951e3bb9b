"""Our block of a ``.env`` file: its header, and the lines under it up to the first blank one. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from owlclaw_up.dotenv_text.grammar import BOM, DotenvError, Statement
from owlclaw_up.dotenv_text.splicing import Edit, ends_line, line_end


class Block(NamedTuple):
    """Header and lines, by offsets of characters."""

    start: int
    end: int
    body: list[Statement]


def header_lines(header: str) -> list[str]:
    """The lines of a header.

    Raises:
        DotenvError: one of them is no comment.
    """
    if header == "":
        return []
    lines = header.rstrip("\n").split("\n")
    if any(not line.startswith("#") or "\r" in line or "\0" in line for line in lines):
        raise DotenvError("every line of the header must begin with '#'")
    return [line.rstrip() for line in lines]


def find_block(text: str, items: Sequence[Statement], header: Sequence[str]) -> Block | None:
    """Find the last place of the header, and the lines under it up to the first blank line."""
    if not header:
        return None
    size = len(header)
    for first in range(len(items) - size, -1, -1):
        heads = items[first : first + size]
        if all(
            item.kind == "comment"
            and text[item.line_start : item.end].rstrip() == line
            and (index == 0 or item.line_start == heads[index - 1].end)
            for index, (item, line) in enumerate(zip(heads, header, strict=True))
        ):
            end = heads[-1].end
            body = []
            for item in items[first + size :]:
                if item.line_start != end:
                    break
                body.append(item)
                end = item.end
            return Block(heads[0].line_start, end, body)
    return None


def header_removal(text: str, ours: Block) -> Edit:
    """The edit that takes the header away, with the blank line above it."""
    end = ours.body[0].line_start if ours.body else ours.end
    start = ours.start - len(line_end(text[max(0, ours.start - 2) : ours.start]))
    # The blank line is ours only if it is one: something else may have been put before the header.
    blank = start < ours.start and (ends_line(text[max(0, start - 1) : start]) or text[:start] in ("", BOM))
    return Edit(start if blank else ours.start, end, "")
