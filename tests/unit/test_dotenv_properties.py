"""The dotenv editor on any bytes at all: foreign bytes stay, an edit twice is one, the way back, and what readers get."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pytest
from dotenv import dotenv_values
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from owlclaw_up.dotenv_text import DotenvError, broken_lines, edit, parse, raw_values, restore, shape, values

HEADER = "# Written by owlclaw-up\n# and kept up to date"
KEYS = ("DATABASE_URL", "TOKEN", "A")
BOM = b"\xef\xbb\xbf"
# Bytes that make a difference to somebody: ends of lines, quotes, what Unicode calls a blank or an end of a line, the
# marks of other encodings, halves of characters.
PIECES = st.one_of(
    st.sampled_from(
        [b"\n", b"\r\n", b"\r", b"\n\n", b"=", b"'", b'"', b"\\", b"#", b" # ", b"$", b"export ", b" ", b"\t"]
    ),
    st.sampled_from([key.encode() for key in KEYS]),
    st.sampled_from(
        [b"A=1\n", b"TOKEN='a b'\r\n", b'DATABASE_URL="x" # kept\n', b"export A = 2\r", b"B\n", b"# TOKEN=1\n"]
    ),
    st.sampled_from([HEADER.encode(), HEADER.encode() + b"\n", b"# Written by owlclaw-up\r\n"]),
    st.sampled_from(
        [text.encode() for text in ("\x0b", "\x0c", "\x1c", "\x85", "\xa0", "\u2028", "\u3000", "\ufeff", "密")]
    ),
    st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xff\xfe", b"\x00"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4).map(str.encode),
)
FILES = st.one_of(
    st.binary(max_size=40),
    st.tuples(st.sampled_from([b"", b"", BOM]), st.lists(PIECES, max_size=14).map(b"".join)).map(b"".join),
)
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), max_size=8)
UPDATES = st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=3)


def edited(data: bytes, updates: Mapping[str, str]) -> bytes:
    """One edit as `up` does it; a file that is refused is none of this test's."""
    try:
        return edit(data, updates, header=HEADER, shape=shape(data, HEADER))
    except DotenvError:
        assume(False)
        raise


def read_by_python_dotenv(data: bytes) -> dict[str, str]:
    stream = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
    return {k: v for k, v in dotenv_values(stream=stream, interpolate=False).items() if v is not None}


def around(data: bytes, keys: Mapping[str, str]) -> list[bytes]:
    """What stands before, between and behind the values that readers take those keys from."""
    effective = {item.key: item for item in parse(data) if values(data).get(item.key) is not None}
    spans = sorted(effective[key].span for key in keys if key in effective)
    ends = [0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), len(data)]
    return [data[end:start] for end, start in zip(ends, starts, strict=True)]


@settings(max_examples=300)
@given(FILES)
def test_any_bytes_are_read_or_refused_by_every_function_alike(data: bytes) -> None:
    calls = (
        lambda: parse(data), lambda: values(data), lambda: broken_lines(data), lambda: raw_values(data, KEYS),
        lambda: shape(data, HEADER), lambda: restore(data, {}, header=HEADER), lambda: edit(data, {}, header=HEADER),
    )  # fmt: skip
    reasons = set()
    for call in calls:
        try:
            call()
        except DotenvError as error:
            reasons.add(str(error))
        else:
            reasons.add("")
    assert len(reasons) == 1
    if reasons == {""}:
        assert edit(data, {}, header=HEADER) == data
        assert values(data) == read_by_python_dotenv(data)


@settings(max_examples=400)
@given(FILES, UPDATES)
@example(b"A=1\r\nB=2\r\n", {"A": "2"})
def test_foreign_bytes_stay(data: bytes, updates: dict[str, str]) -> None:
    """Where every key is there already, only values change; new keys make one block, and nothing else moves."""
    after = edited(data, updates)
    there = {key: value for key, value in updates.items() if key in values(data)}
    if len(there) == len(updates):
        assert around(after, updates) == around(data, updates)
        return
    # Cut out what was added: the rest is what was there.
    before_parts, after_parts = around(data, there), around(after, there)
    assert len(before_parts) == len(after_parts)
    grown = [(b, a) for b, a in zip(before_parts, after_parts, strict=True) if a != b]
    assert len(grown) == 1, "one place, and no more"
    was, now = grown[0]
    length = len(now) - len(was)
    assert length > 0
    assert any(now[:at] + now[at + length :] == was for at in range(len(was) + 1))


@settings(max_examples=400)
@given(FILES, UPDATES)
def test_an_edit_twice_is_one(data: bytes, updates: dict[str, str]) -> None:
    once = edited(data, updates)
    assert edit(once, updates, header=HEADER, shape=shape(data, HEADER)) == once


@settings(max_examples=400)
@given(FILES, st.lists(UPDATES, min_size=1, max_size=3))
def test_the_way_back(data: bytes, steps: list[dict[str, str]]) -> None:
    try:
        kept, originals = shape(data, HEADER), raw_values(data, KEYS)
        after = data
        for updates in steps:
            after = edit(after, updates, header=HEADER, shape=kept)
    except DotenvError:
        assume(False)
        raise
    touched = {key: originals[key] for updates in steps for key in updates}
    assert restore(after, touched, header=HEADER, shape=kept) == data


@settings(max_examples=400)
@given(FILES, UPDATES)
def test_python_dotenv_reads_what_was_written(data: bytes, updates: dict[str, str]) -> None:
    assert read_by_python_dotenv(edited(data, updates)) == {**read_by_python_dotenv(data), **updates}


@settings(max_examples=200)
@given(FILES, st.text(max_size=8))
def test_a_refusal_shows_no_value(data: bytes, value: str) -> None:
    secret = f"hunter2{value}\n"
    with pytest.raises(DotenvError) as caught:
        edit(data, {"TOKEN": secret}, header=HEADER)
    assert "hunter2" not in f"{caught.value} {caught.value!r}"
