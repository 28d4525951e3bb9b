"""What readers get of a ``.env`` file: its assignments, its values, and the lines that nobody can read. Pure."""

from dataclasses import dataclass

from owlclaw_up.dotenv_text.grammar import Quote, decode, effective, scan


@dataclass(frozen=True)
class Assignment:
    """One ``KEY=value``.

    Attributes:
        key: the name, without quotes and ``export``.
        value: the value as python-dotenv decodes it with ``interpolate=False``.
        line: 1-based line on which the assignment begins.
        exported: whether ``export`` stands before the key.
        quote: the quotation mark around the value, or "".
        span: byte offsets (start, end) of the value's text in the file, quotation marks included.
    """

    key: str
    value: str
    line: int
    exported: bool
    quote: Quote
    span: tuple[int, int]


def parse(data: bytes) -> tuple[Assignment, ...]:
    """Give the assignments of a ``.env`` file, in order.

    A key without ``=``, a commented line and a line python-dotenv cannot parse are no assignments.

    Args:
        data: the file's bytes, UTF-8 with or without BOM.

    Raises:
        DotenvError: not UTF-8, or a NUL byte.
    """
    text = decode(data)
    ascii_only = text.isascii()
    found = []
    chars = offset = 0
    for item in scan(text):
        if item.kind != "assignment":
            continue
        if ascii_only:
            span = (item.value_start, item.value_end)
        else:
            start = offset + len(text[chars : item.value_start].encode())
            offset = start + len(text[item.value_start : item.value_end].encode())
            chars = item.value_end
            span = (start, offset)
        found.append(Assignment(item.key, item.value, item.line, item.exported, item.quote, span))
    return tuple(found)


def values(data: bytes) -> dict[str, str]:
    """Give the values a reader gets: the last assignment of a key wins.

    As ``dotenv.dotenv_values(..., interpolate=False)`` without the keys it reports as None: a later ``KEY`` without
    ``=`` hides an earlier assignment there, so it does here.

    Args:
        data: the file's bytes.

    Raises:
        DotenvError: see `parse`.
    """
    return {key: item.value for key, item in effective(scan(decode(data))).items()}


def broken_lines(data: bytes) -> tuple[int, ...]:
    """Give the lines that python-dotenv cannot read and leaves out, with a line in its log.

    Args:
        data: the file's bytes.

    Raises:
        DotenvError: see `parse`.
    """
    return tuple(item.line for item in scan(decode(data)) if item.kind == "broken")
