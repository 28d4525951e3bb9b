"""The stack as a drawing: boxes, frames around them, and lines with words, laid out for a wide page and for a narrow one. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from owlclaw_up.report_values import Part, Stack

# State -> symbol and level: what a colour says, the symbol and the word say as well.
_SYMBOLS = {
    "running": ("✓", "ok"),
    "there": ("✓", "ok"),
    "stopped": ("✕", "fail"),
    "unreachable": ("✕", "fail"),
    "missing": ("✕", "fail"),
    "unreadable": ("✕", "fail"),
    "directory": ("✕", "fail"),
    "not ready": ("!", "warn"),
    "incomplete": ("!", "warn"),
    "not set up": ("–", "idle"),
    "not written yet": ("–", "idle"),
    "": ("", "idle"),
}
_OTHER = ("!", "warn")
# Width of a letter of the small lines, in units of the drawing; of what is inside a box beside its text.
_LETTER, _PADDING = 6.7, 30
_LINE = 18


@dataclass(frozen=True)
class Box:
    """Attributes: `level` is `ok`, `warn`, `fail` or `idle`; `lines` fit, `whole` says everything."""

    x: int
    y: int
    width: int
    height: int
    name: str
    state: str
    symbol: str
    level: str
    lines: tuple[str, ...]
    whole: str


@dataclass(frozen=True)
class Frame:
    x: int
    y: int
    width: int
    height: int
    label: str
    label_y: int
    whole: str


@dataclass(frozen=True)
class Line:
    """A line with an arrow at its end, and its label at a point; `turned` where that reads upwards."""

    path: str
    label: str
    x: int
    y: int
    anchor: str = "middle"
    turned: bool = False


@dataclass(frozen=True)
class Drawing:
    name: str
    width: int
    height: int
    boxes: tuple[Box, ...]
    frames: tuple[Frame, ...]
    lines: tuple[Line, ...]


def wide(stack: Stack) -> Drawing:
    """Programs on the left, servers on the right."""
    programs = _box(stack.programs, 1, 48, 212, 100)
    dotenv = _box(stack.env_file, 1, 216, 212, 82)
    lines = [Line("M107 216 V152", "variables", 117, 188, "start")]
    engine, postgres = stack.engine, stack.postgres
    at = 660 if engine is not None else 370
    boxes = [programs, dotenv, _box(postgres, at, 48, 222, 124)]
    if engine is None:
        lines.append(Line("M213 98 H366", _reached("SQL", stack.sql), 290, 90))
        return Drawing("wide", 900, 300, tuple(boxes), _frames(stack, [(postgres, boxes[2])], 14), tuple(lines))
    boxes.append(_box(engine, 350, 48, 222, 124))
    lines += [
        Line("M213 72 H346", _reached("gRPC", stack.grpc), 276, 64),
        Line("M213 104 H346", _reached("REST", stack.rest), 276, 96),
        Line("M572 98 H656", "SQL", 614, 90),
        Line("M213 134 H284 V246 H771 V176", _reached("SQL", stack.sql), 530, 238),
    ]
    frames = _frames(stack, [(engine, boxes[3]), (postgres, boxes[2])], 14)
    return Drawing("wide", 900, 300, tuple(boxes), frames, tuple(lines))


def narrow(stack: Stack) -> Drawing:
    """From top to bottom."""
    dotenv = _box(stack.env_file, 1, 1, 338, 78)
    programs = _box(stack.programs, 1, 120, 338, 78)
    lines = [Line("M170 79 V116", "variables", 180, 102, "start")]
    engine, postgres = stack.engine, stack.postgres
    if engine is None:
        box = _box(postgres, 15, 266, 310, 116)
        lines.append(Line("M170 198 V262", _reached("SQL", stack.sql), 180, 224, "start"))
        frames = _frames(stack, [(postgres, box)], 14, below=True)
        return Drawing("narrow", 340, 418, (dotenv, programs, box), frames, tuple(lines))
    above, below = _box(engine, 54, 266, 271, 114), _box(postgres, 54, 450, 271, 114)
    lines += [
        Line("M110 198 V262", _reached("gRPC", stack.grpc), 118, 224, "start"),
        Line("M225 198 V262", _reached("REST", stack.rest), 233, 224, "start"),
        Line("M296 380 V446", "SQL", 288, 429, "end"),
        Line("M20 198 V507 H50", _reached("SQL", stack.sql), 14, 350, "middle", True),
    ]
    frames = _frames(stack, [(engine, above), (postgres, below)], 14, below=True)
    return Drawing("narrow", 340, 600, (dotenv, programs, above, below), frames, tuple(lines))


def _box(part: Part, x: int, y: int, width: int, height: int) -> Box:
    symbol, level = _SYMBOLS.get(part.state, _OTHER)
    room = int((width - _PADDING) / _LETTER)
    fit = (height - 46) // _LINE
    whole = ", ".join(filter(None, (part.name, part.state, *part.lines)))
    return Box(
        x, y, width, height, part.name, part.state, symbol, level,
        tuple(shortened(line, room) for line in part.lines[: fit + (not part.state)]), whole,
    )  # fmt: skip


def _frames(
    stack: Stack, placed: list[tuple[Part, Box]], margin: int, *, below: bool = False
) -> tuple[Frame, ...]:  # fmt: skip
    """One frame around what runs in the same thing.

    Args:
        below: its label stands at its foot, left of what leads out there, and not at its head.
    """
    groups: dict[str, list[Box]] = {}
    for part, box in placed:
        if part.runs_in:
            groups.setdefault(part.runs_in, []).append(box)
    frames = []
    for where, boxes in groups.items():
        left, right = min(b.x for b in boxes) - margin, max(b.x + b.width for b in boxes) + margin
        top, bottom = min(b.y for b in boxes) - margin, max(b.y + b.height for b in boxes) + margin
        if below:
            bottom += _LINE
        else:
            top -= _LINE
        label = stack.docker or "Docker" if where == "container" else "processes of this machine"
        room = int((right - left - (80 if below else 20)) / _LETTER)
        at = bottom - 9 if below else top + _LINE
        frames.append(Frame(left, top, right - left, bottom - top, shortened(label, room), at, label))
    return tuple(frames)


def _reached(how: str, address: str) -> str:
    """`gRPC :17077`; a host that is not this machine is named in full."""
    host, _, port = address.rpartition(":")
    return f"{how} :{port}" if host == "localhost" else f"{how} {address}".rstrip()


def shortened(text: str, room: int) -> str:
    """A text in so many letters, its middle left out: names of containers differ at both ends."""
    if len(text) <= room:
        return text
    head = (room - 1) // 2
    return f"{text[:head]}…{text[len(text) - (room - 1 - head) :]}"
