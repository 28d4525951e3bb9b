"""The grammar of a ``.env`` file: its bytes as statements, each with its place in the text. Pure.

It is python-dotenv's (its ``parser.py``, version 1.2): hatchet-sdk reads ``.env`` through pydantic-settings, which calls
``dotenv_values``.  Newlines inside a quoted value are read as ``\\n``, as when a file is opened as text.
"""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

Quote = Literal["", "'", '"']

BOM = "\ufeff"
_SPACE = re.compile(r"\s*")
# `export` and its blanks are never given back to the key: python-dotenv reads `export =x` as an error.
_HEAD = re.compile(
    r"(?:(export[^\S\r\n]+)|(?!export[^\S\r\n]))"
    r"(?:'([^']+)'|(?!')([^=#\s]+))[^\S\r\n]*(=[^\S\r\n]*)?"
)
_COMMENT = re.compile(r"(?:export[^\S\r\n]+)?(#[^\r\n]*)")
_SINGLE = re.compile(r"'([^'\\]*(?:\\.[^'\\]*)*)'", re.DOTALL)
_DOUBLE = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
_TAIL = re.compile(r"(?:[^\S\r\n]*#[^\r\n]*)?[^\S\r\n]*(?:\r\n|[\r\n]|\Z)")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|[\r\n])?")
_INLINE_COMMENT = re.compile(r"\s#")
_SINGLE_ESCAPE = re.compile(r"\\([\\'])")
_DOUBLE_ESCAPE = re.compile(r"\\([\\'\"abfnrtv])")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class DotenvError(ValueError):
    """The bytes, a key or a value cannot be handled.

    Args:
        reason: what is wrong, without any value from the file.
        line: 1-based line of the file, or None when no line is to blame.
    """

    reason: str
    line: int | None

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason if line is None else f"line {line}: {reason}")
        self.reason = reason
        self.line = line


class Statement(NamedTuple):
    """One line of the file, or several where a value has them.

    Attributes:
        kind: `bare` is a key alone, `broken` what python-dotenv cannot read.
        line: 1-based.
        line_start, value_start, value_end, end: offsets of characters; blank lines before it are left out.
    """

    kind: Literal["assignment", "bare", "comment", "broken"]
    key: str
    value: str
    quote: Quote
    exported: bool
    line: int
    line_start: int
    value_start: int
    value_end: int
    end: int


def decode(data: bytes) -> str:
    """The text of the bytes.

    Raises:
        DotenvError: not UTF-8, or a NUL byte.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DotenvError("the file is UTF-16 (its byte order mark says so), not UTF-8", 1)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DotenvError("the file is not UTF-8", _line_of(data, error.start)) from None
    nul = data.find(b"\0")
    if nul >= 0:
        raise DotenvError("the file has a NUL byte", _line_of(data, nul))
    return text


def encode(text: str) -> bytes:
    """The bytes of the text.

    Raises:
        DotenvError: a character that UTF-8 cannot encode.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise DotenvError("a value has a character that UTF-8 cannot encode") from None


def _line_of(data: bytes, offset: int) -> int:
    head = data[:offset]
    return 1 + head.count(b"\n") + head.count(b"\r") - head.count(b"\r\n")


def scan(text: str) -> list[Statement]:
    """Split the text into statements, as python-dotenv's ``parse_binding`` does."""
    items: list[Statement] = []
    add = items.append
    has_cr = "\r" in text
    position = counted = 1 if text.startswith(BOM) else 0
    line = 1
    length = len(text)
    while position < length:
        start = position
        position = _end(_SPACE, text, start)
        if position == length:
            break
        line_start = start
        if position != start:
            line_start = max(start, text.rfind("\n", start, position) + 1, text.rfind("\r", start, position) + 1)
        line += text.count("\n", counted, position)
        if has_cr:
            line += text.count("\r", counted, position) - text.count("\r\n", counted, position)
        counted = position

        head = _HEAD.match(text, position)
        if head is None:
            comment = _COMMENT.match(text, position)
            kind: Literal["comment", "broken"] = "comment" if comment else "broken"
            position = _end(_LINE, text, position)
            add(Statement(kind, "", "", "", False, line, line_start, start, start, position))
            continue
        exported = head[1] is not None
        key = head[3] if head[2] is None else _newlines(head[2])
        position = value_start = value_end = head.end()
        value = ""
        quote: Quote = ""
        if head[4] is not None:
            first = text[position : position + 1]
            if first == "'" or first == '"':
                quoted = (_SINGLE if first == "'" else _DOUBLE).match(text, position)
                if quoted is None:
                    position = _end(_LINE, text, position)
                    add(Statement("broken", "", "", "", False, line, line_start, start, start, position))
                    continue
                quote = "'" if first == "'" else '"'
                value = _unescape(_newlines(quoted[1]) if has_cr else quoted[1], quote)
                position = value_end = quoted.end()
            elif first == "#" and len(head[4]) > 1:
                # `KEY= # comment`: a value must go before the blank that makes it a comment.
                value_start = value_end = head.start(4) + 1
            elif first not in ("", "\r", "\n"):
                value = _unquoted(text, position)
                value_end = position + len(value)
                position = value_end
        tail = _TAIL.match(text, position)
        if tail is None:
            position = _end(_LINE, text, position)
            add(Statement("broken", "", "", "", False, line, line_start, start, start, position))
            continue
        position = tail.end()
        if head[4] is None:
            add(Statement("bare", key, "", "", exported, line, line_start, start, start, position))
        else:
            add(
                Statement("assignment", key, value, quote, exported, line, line_start, value_start, value_end, position)
            )
    return items


def effective(items: Iterable[Statement]) -> dict[str, Statement]:
    """Give the assignment readers take each key from."""
    found: dict[str, Statement] = {}
    for item in items:
        if item.kind == "assignment":
            found[item.key] = item
        elif item.kind == "bare":
            found.pop(item.key, None)
    return found


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return position if match is None else match.end()


def _unquoted(text: str, position: int) -> str:
    part = text[position : _end(_LINE, text, position)]
    # A `#` begins a comment only after a blank: `KEY=a#b` is a value.
    comment = _INLINE_COMMENT.search(part) if "#" in part else None
    return (part[: comment.start()] if comment else part).rstrip()


def _newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _unescape(text: str, quote: Quote) -> str:
    if "\\" not in text:
        return text
    if quote == "'":
        return _SINGLE_ESCAPE.sub(r"\1", text)
    return _DOUBLE_ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), text)
