"""Set and remove keys of a ``.env`` file, and take all of it back: every other byte stays as it is. Pure."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from owlclaw_up.dotenv_text.block import find_block, header_lines, header_removal
from owlclaw_up.dotenv_text.grammar import BOM, DotenvError, Quote, Statement, decode, effective, encode, scan
from owlclaw_up.dotenv_text.rendering import render
from owlclaw_up.dotenv_text.splicing import Edit, apply, dominant_line_end, ends_line, line_end

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Shape:
    """What `restore` has to know about the file before the first edit, besides the values.

    Attributes:
        final_newline: whether the file ended with a newline (or was empty).
        header: whether the block's header line was there already.
    """

    final_newline: bool = True
    header: bool = False


def raw_values(data: bytes, keys: Iterable[str]) -> dict[str, str | None]:
    """Give the text of the keys' values as written, for `restore`; None for a key that has no value.

    Args:
        data: the file's bytes before the first edit.
        keys: the keys to record.

    Raises:
        DotenvError: see `parse`.
    """
    text = decode(data)
    found = effective(scan(text))
    return {key: text[found[key].value_start : found[key].value_end] if key in found else None for key in keys}


def shape(data: bytes, header: str) -> Shape:
    """Record what `restore` needs besides `raw_values`.

    Args:
        data: the file's bytes before the first edit.
        header: the header that `edit` will be given.

    Raises:
        DotenvError: see `parse`; or the header is no comment.
    """
    text = decode(data)
    return Shape(
        final_newline=ends_line(text) or text in ("", BOM),
        header=find_block(text, scan(text), header_lines(header)) is not None,
    )


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
    text = decode(data)
    lines = header_lines(header)
    for key in updates:
        if not _KEY.fullmatch(key):
            raise DotenvError(f"{key!r} is not a name of letters, digits and underscores")
    before = scan(text)
    wanted = {key for key in removals if key not in updates}
    # An unclosed quote elsewhere in the file ends at the next mark of its kind: then the other kind may do.
    preferences: tuple[Quote | None, ...] = (None, '"', "'")
    for prefer in preferences:
        result, expected = _edited(text, before, updates, wanted, block, lines, shape, prefer)
        if result == text or _reads_as(result, before, updates, wanted, lines, expected):
            return encode(result)
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
    text = decode(data)
    items = scan(text)
    found = effective(items)
    edits = []
    hidden = {item.key: item.line_start for item in items if item.kind == "bare"}
    for item in items:
        if item.kind != "assignment" or item.key not in originals:
            continue
        raw = originals[item.key]
        if raw is None:
            if item.line_start > hidden.get(item.key, -1):
                edits.append(Edit(item.line_start, item.end, ""))
        elif found.get(item.key) is item:
            edits.append(Edit(item.value_start, item.value_end, raw))
    ours = find_block(text, items, header_lines(header))
    if ours is not None and not shape.header:
        edits.append(header_removal(text, ours))
    return encode(apply(text, edits, shape.final_newline))


def _edited(
    text: str,
    before: Sequence[Statement],
    updates: Mapping[str, str],
    wanted: Collection[str],
    owned: Sequence[str],
    header: Sequence[str],
    shape: Shape,
    prefer: Quote | None,
) -> tuple[str, int]:
    """Give the edited text and the number of statements it must have."""
    found = effective(before)
    ours = find_block(text, before, header)
    edits: list[Edit] = []
    expected = len(before)
    appended: dict[str, str] = {}
    for key, value in updates.items():
        item = found.get(key)
        if item is None:
            appended[key] = render(value, "", prefer)
        elif item.value != value:
            edits.append(Edit(item.value_start, item.value_end, render(value, item.quote, prefer)))

    body = ours.body if ours is not None else []
    removed = [item for item in body if item.kind == "assignment" and item.key in wanted]
    in_block = {item.line_start for item in removed}
    removed += [found[key] for key in wanted if key in owned and key in found and found[key].line_start not in in_block]
    edits += [Edit(item.line_start, item.end, "") for item in removed]
    expected -= len(removed)

    if appended:
        last = body[-1] if body else None
        if ours is not None:
            end = line_end(text[max(0, ours.end - 2) : ours.end]) or dominant_line_end(text)
            unfinished = not ends_line(text[ours.end - 1 : ours.end])
            prefix = end if unfinished and (last is None or last.line_start not in in_block) else ""
            position = ours.end
        else:
            # After a lone CR an LF would not be a blank line but the second half of one CRLF.
            end = "\r" if text.endswith("\r") else dominant_line_end(text)
            empty = text in ("", BOM)
            prefix = "" if empty or ends_line(text) else end
            if header:
                prefix += ("" if empty else end) + "".join(line + end for line in header)
                expected += len(header)
            position = len(text)
        for item in before:
            if item.kind == "bare" and item.key in appended and item.line_start >= position:
                raise DotenvError(f"{item.key} without '=' hides the value of the same name above it", item.line)
        edits.append(Edit(position, position, prefix + "".join(f"{key}={raw}{end}" for key, raw in appended.items())))
        expected += len(appended)
    elif ours is not None and body and len(in_block) == len(body) and not shape.header:
        edits.append(header_removal(text, ours))
        expected -= len(header)
    return apply(text, edits, shape.final_newline), expected


def _reads_as(
    result: str,
    before: Sequence[Statement],
    updates: Mapping[str, str],
    wanted: Collection[str],
    header: Sequence[str],
    expected: int,
) -> bool:
    """Tell whether readers get the new values, and everything else as before."""
    after = scan(result)
    old = {key: item.value for key, item in effective(before).items() if key not in wanted}
    new = {key: item.value for key, item in effective(after).items() if key not in wanted}
    grown = expected > len(before)
    return (
        len(after) == expected
        and new == {**old, **updates}
        and (not grown or not header or find_block(result, after, header) is not None)
    )
