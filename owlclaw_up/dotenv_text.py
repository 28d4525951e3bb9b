"""Text stage: read and edit the bytes of a ``.env`` file in place.

In: the bytes of a ``.env`` file and the keys to set.  Out: the new bytes, in which every line that is not ours stays
byte for byte (comments, order, quotes, ``export``, BOM, line ends, a missing last newline).  This module is pure: it
opens no file, reads no environment variable, and logs nothing (values may be secrets, and no error quotes one).

The grammar is python-dotenv's (its ``parser.py``, version 1.2): hatchet-sdk reads ``.env`` through pydantic-settings,
which calls ``dotenv_values``.  Newlines inside a quoted value are read as ``\\n``, as when a file is opened as text.

Course of a set-up and its way back::

    shape_before = shape(data, header)           # keep both, e.g. as JSON
    originals = raw_values(data, updates)
    data = edit(data, updates, header=header)    # as often as needed
    data = restore(data, originals, header=header, shape=shape_before)
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = [
    "Assignment",
    "DotenvError",
    "Shape",
    "edit",
    "parse",
    "raw_values",
    "render_value",
    "restore",
    "shape",
    "values",
]

Quote = Literal["", "'", '"']

_BOM = "\ufeff"
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

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Read alike by POSIX sh, docker compose and python-dotenv.  `&` ends a command and `~` is expanded in sh.
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+=,?-]+")


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


@dataclass(frozen=True)
class Shape:
    """What `restore` has to know about the file before the first edit, besides the values.

    Attributes:
        final_newline: whether the file ended with a newline (or was empty).
        header: whether the block's header line was there already.
    """

    final_newline: bool = True
    header: bool = False


class _Statement(NamedTuple):
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


class _Block(NamedTuple):
    start: int
    end: int
    body: list[_Statement]


class _Edit(NamedTuple):
    start: int
    end: int
    text: str


def parse(data: bytes) -> tuple[Assignment, ...]:
    """Give the assignments of a ``.env`` file, in order.

    A key without ``=``, a commented line and a line python-dotenv cannot parse are no assignments.

    Args:
        data: the file's bytes, UTF-8 with or without BOM.

    Raises:
        DotenvError: not UTF-8, or a NUL byte.
    """
    text = _decode(data)
    ascii_only = text.isascii()
    found = []
    chars = offset = 0
    for item in _scan(text):
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
    return {key: item.value for key, item in _effective(_scan(_decode(data))).items()}


def broken_lines(data: bytes) -> tuple[int, ...]:
    """Give the lines that python-dotenv cannot read and leaves out, with a line in its log.

    Args:
        data: the file's bytes.

    Raises:
        DotenvError: see `parse`.
    """
    return tuple(item.line for item in _scan(_decode(data)) if item.kind == "broken")


def raw_values(data: bytes, keys: Iterable[str]) -> dict[str, str | None]:
    """Give the text of the keys' values as written, for `restore`; None for a key that has no value.

    Args:
        data: the file's bytes before the first edit.
        keys: the keys to record.

    Raises:
        DotenvError: see `parse`.
    """
    text = _decode(data)
    found = _effective(_scan(text))
    return {key: text[found[key].value_start : found[key].value_end] if key in found else None for key in keys}


def shape(data: bytes, header: str) -> Shape:
    """Record what `restore` needs besides `raw_values`.

    Args:
        data: the file's bytes before the first edit.
        header: the header that `edit` will be given.

    Raises:
        DotenvError: see `parse`; or the header is no comment.
    """
    text = _decode(data)
    return Shape(
        final_newline=_ends_line(text) or text in ("", _BOM),
        header=_find_block(text, _scan(text), _header_lines(header)) is not None,
    )


def render_value(value: str) -> str:
    """Write a value for the right side of ``KEY=``.

    Plain where POSIX sh, docker compose and python-dotenv read the plain text alike; otherwise in single quotes; in
    double quotes with ``\\\\`` and ``\\"`` when single quotes cannot hold it (a single quote, a backslash that would
    be read as an escape).  No style keeps python-dotenv's default interpolation off a ``${NAME}``, and in double
    quotes a shell expands ``$`` as well.

    Args:
        value: the value as readers shall get it.

    Raises:
        DotenvError: the value has a newline, a NUL, or a character that UTF-8 cannot encode.
    """
    return _render(value, "", None)


def edit(
    data: bytes,
    updates: Mapping[str, str],
    *,
    removals: Collection[str] = (),
    block: Sequence[str] = (),
    header: str = "",
    shape: Shape = Shape(),
) -> bytes:
    """Set keys, and remove keys from our block.

    A key that has a value is changed where readers take it from, its last assignment; only the value's text changes,
    and nothing if it is equal already.  Other keys are appended in one block under `header` at the end, or at the end
    of the block that is there.  The block ends at the first blank line.

    Args:
        data: the file's bytes.
        updates: values by key; the order is the order of appended lines.
        removals: keys whose assignments inside the block are removed, and the header with its blank line when the
            block is empty then.  A key that is also in `updates` is set.
        block: keys known to be ours even if the header was deleted from the file: `removals` also removes their last
            assignment outside the block.
        header: comment line(s) that mark the block, with or without the last newline; "" for no header and no blank line.
        shape: the record from before the first edit, used when the block is removed.

    Raises:
        DotenvError: see `parse` and `render_value`; a key is no shell name; the header is no comment; a ``KEY``
            without ``=`` further down would hide the new line; or an unclosed quote elsewhere would swallow it.
    """
    text = _decode(data)
    lines = _header_lines(header)
    for key in updates:
        if not _KEY.fullmatch(key):
            raise DotenvError(f"{key!r} is not a name of letters, digits and underscores")
    before = _scan(text)
    wanted = {key for key in removals if key not in updates}
    # An unclosed quote elsewhere in the file ends at the next mark of its kind: then the other kind may do.
    preferences: tuple[Quote | None, ...] = (None, '"', "'")
    for prefer in preferences:
        result, expected = _edited(text, before, updates, wanted, block, lines, shape, prefer)
        if result == text or _reads_as(result, before, updates, wanted, lines, expected):
            return _encode(result)
    broken = [
        item.line
        for item in before
        if item.kind == "broken" and any(mark in text[item.line_start : item.end] for mark in "'\"")
    ]
    raise DotenvError("a quote is not closed, so that no line can be added safely", broken[0] if broken else None)


def restore(
    data: bytes,
    originals: Mapping[str, str | None],
    *,
    header: str,
    shape: Shape = Shape(),
) -> bytes:
    """Undo all edits: ``restore(edit(data)) == data``; lines the user added in between stay.

    A key that has gone from the file meanwhile stays away.  If the user appended another assignment of a key that had
    a value, the original goes to that last one.

    Args:
        data: the file's bytes now.
        originals: the record of `raw_values` from before the first edit.  Keys with None are removed wherever they
            are, except assignments that a later ``KEY`` without ``=`` hides.
        header: the header given to `edit`.
        shape: the record of `shape` from before the first edit.

    Raises:
        DotenvError: see `parse`; the header is no comment; an original is not encodable.
    """
    text = _decode(data)
    items = _scan(text)
    found = _effective(items)
    edits = []
    hidden = {item.key: item.line_start for item in items if item.kind == "bare"}
    for item in items:
        if item.kind != "assignment" or item.key not in originals:
            continue
        raw = originals[item.key]
        if raw is None:
            if item.line_start > hidden.get(item.key, -1):
                edits.append(_Edit(item.line_start, item.end, ""))
        elif found.get(item.key) is item:
            edits.append(_Edit(item.value_start, item.value_end, raw))
    ours = _find_block(text, items, _header_lines(header))
    if ours is not None and not shape.header:
        edits.append(_header_removal(text, ours))
    return _encode(_apply(text, edits, shape.final_newline))


def _decode(data: bytes) -> str:
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


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise DotenvError("a value has a character that UTF-8 cannot encode") from None


def _line_of(data: bytes, offset: int) -> int:
    head = data[:offset]
    return 1 + head.count(b"\n") + head.count(b"\r") - head.count(b"\r\n")


def _scan(text: str) -> list[_Statement]:
    """Split the text into statements, as python-dotenv's ``parse_binding`` does."""
    items: list[_Statement] = []
    add = items.append
    has_cr = "\r" in text
    position = counted = 1 if text.startswith(_BOM) else 0
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
            add(_Statement(kind, "", "", "", False, line, line_start, start, start, position))
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
                    add(_Statement("broken", "", "", "", False, line, line_start, start, start, position))
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
            add(_Statement("broken", "", "", "", False, line, line_start, start, start, position))
            continue
        position = tail.end()
        if head[4] is None:
            add(_Statement("bare", key, "", "", exported, line, line_start, start, start, position))
        else:
            add(
                _Statement(
                    "assignment", key, value, quote, exported, line, line_start, value_start, value_end, position
                )
            )
    return items


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


def _effective(items: Iterable[_Statement]) -> dict[str, _Statement]:
    """Give the assignment readers take each key from."""
    found: dict[str, _Statement] = {}
    for item in items:
        if item.kind == "assignment":
            found[item.key] = item
        elif item.kind == "bare":
            found.pop(item.key, None)
    return found


def _render(value: str, quote: Quote, prefer: Quote | None) -> str:
    """Write a value in the style of `quote` if that can hold it; `prefer` is the mark to use for new quotes."""
    if "\n" in value or "\r" in value:
        raise DotenvError("a value must be one line")
    if "\0" in value:
        raise DotenvError("a value must not have a NUL")
    _encode(value)
    if quote == "" and _PLAIN.fullmatch(value):
        return value
    # In single quotes a backslash before a backslash, a quote or the end is an escape for python-dotenv only.
    fits_single = "'" not in value and "\\\\" not in value and not value.endswith("\\")
    if prefer == '"':
        single = False
    elif prefer == "'" or quote != '"':
        single = fits_single
    else:
        single = fits_single and ("$" in value or "`" in value)
    if single:
        return f"'{value}'"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _header_lines(header: str) -> list[str]:
    if header == "":
        return []
    lines = header.rstrip("\n").split("\n")
    if any(not line.startswith("#") or "\r" in line or "\0" in line for line in lines):
        raise DotenvError("every line of the header must begin with '#'")
    return [line.rstrip() for line in lines]


def _find_block(text: str, items: Sequence[_Statement], header: Sequence[str]) -> _Block | None:
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
            return _Block(heads[0].line_start, end, body)
    return None


def _header_removal(text: str, ours: _Block) -> _Edit:
    end = ours.body[0].line_start if ours.body else ours.end
    start = ours.start - len(_line_end(text[max(0, ours.start - 2) : ours.start]))
    # The blank line is ours only if it is one: something else may have been put before the header.
    blank = start < ours.start and (_ends_line(text[max(0, start - 1) : start]) or text[:start] in ("", _BOM))
    return _Edit(start if blank else ours.start, end, "")


def _ends_line(text: str) -> bool:
    return text.endswith(("\n", "\r"))


def _line_end(text: str) -> str:
    return next((end for end in ("\r\n", "\n", "\r") if text.endswith(end)), "")


def _dominant_line_end(text: str) -> str:
    pairs = text.count("\r\n")
    counts = {"\n": text.count("\n") - pairs, "\r\n": pairs, "\r": text.count("\r") - pairs}
    return max(counts, key=lambda end: counts[end])


def _edited(
    text: str,
    before: Sequence[_Statement],
    updates: Mapping[str, str],
    wanted: Collection[str],
    owned: Sequence[str],
    header: Sequence[str],
    shape: Shape,
    prefer: Quote | None,
) -> tuple[str, int]:
    """Give the edited text and the number of statements it must have."""
    found = _effective(before)
    ours = _find_block(text, before, header)
    edits: list[_Edit] = []
    expected = len(before)
    appended: dict[str, str] = {}
    for key, value in updates.items():
        item = found.get(key)
        if item is None:
            appended[key] = _render(value, "", prefer)
        elif item.value != value:
            edits.append(_Edit(item.value_start, item.value_end, _render(value, item.quote, prefer)))

    body = ours.body if ours is not None else []
    removed = [item for item in body if item.kind == "assignment" and item.key in wanted]
    in_block = {item.line_start for item in removed}
    removed += [found[key] for key in wanted if key in owned and key in found and found[key].line_start not in in_block]
    edits += [_Edit(item.line_start, item.end, "") for item in removed]
    expected -= len(removed)

    if appended:
        last = body[-1] if body else None
        if ours is not None:
            end = _line_end(text[max(0, ours.end - 2) : ours.end]) or _dominant_line_end(text)
            unfinished = not _ends_line(text[ours.end - 1 : ours.end])
            prefix = end if unfinished and (last is None or last.line_start not in in_block) else ""
            position = ours.end
        else:
            # After a lone CR an LF would not be a blank line but the second half of one CRLF.
            end = "\r" if text.endswith("\r") else _dominant_line_end(text)
            empty = text in ("", _BOM)
            prefix = "" if empty or _ends_line(text) else end
            if header:
                prefix += ("" if empty else end) + "".join(line + end for line in header)
                expected += len(header)
            position = len(text)
        for item in before:
            if item.kind == "bare" and item.key in appended and item.line_start >= position:
                raise DotenvError(f"{item.key} without '=' hides the value of the same name above it", item.line)
        edits.append(_Edit(position, position, prefix + "".join(f"{key}={raw}{end}" for key, raw in appended.items())))
        expected += len(appended)
    elif ours is not None and body and len(in_block) == len(body) and not shape.header:
        edits.append(_header_removal(text, ours))
        expected -= len(header)
    return _apply(text, edits, shape.final_newline), expected


def _apply(text: str, edits: Iterable[_Edit], final_newline: bool) -> str:
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
        result = result[: len(result) - len(_line_end(result))]
    return result


def _reads_as(
    result: str,
    before: Sequence[_Statement],
    updates: Mapping[str, str],
    wanted: Collection[str],
    header: Sequence[str],
    expected: int,
) -> bool:
    """Tell whether readers get the new values, and everything else as before."""
    after = _scan(result)
    old = {key: item.value for key, item in _effective(before).items() if key not in wanted}
    new = {key: item.value for key, item in _effective(after).items() if key not in wanted}
    grown = expected > len(before)
    return (
        len(after) == expected
        and new == {**old, **updates}
        and (not grown or not header or _find_block(result, after, header) is not None)
    )
