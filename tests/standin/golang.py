"""What Go programs do that the real engine's users see: log lines, durations, flag errors."""

from __future__ import annotations

import re
import sys
from datetime import datetime, timezone

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class DurationError(ValueError):
    """A duration that Go's ``time.ParseDuration`` refuses; the text is Go's."""


def parse_duration(text: str) -> float:
    """Read a Go duration such as ``1h30m`` or ``-1.5h``.

    Returns:
        Seconds.

    Raises:
        DurationError: With the text Go prints, which names the unit ``d`` as unknown.
    """
    rest = text
    sign = 1.0
    if rest[:1] in ("+", "-"):
        sign, rest = (-1.0 if rest[0] == "-" else 1.0), rest[1:]
    if rest == "0":
        return 0.0
    if not rest:
        raise DurationError(f'time: invalid duration "{text}"')
    seconds = 0.0
    while rest:
        number = re.match(r"\d+\.?\d*|\.\d+", rest)
        if number is None:
            raise DurationError(f'time: invalid duration "{text}"')
        rest = rest[number.end() :]
        unit = re.match(r"[^\d.]+", rest)
        if unit is None:
            raise DurationError(f'time: missing unit in duration "{text}"')
        if unit.group() not in _UNITS:
            raise DurationError(f'time: unknown unit "{unit.group()}" in duration "{text}"')
        seconds += float(number.group()) * _UNITS[unit.group()]
        rest = rest[unit.end() :]
    return sign * seconds


def log(text: str) -> None:
    """Print one line to stderr the way Go's ``log`` does: local date, time, text."""
    print(f"{datetime.now().astimezone():%Y/%m/%d %H:%M:%S} {text}", file=sys.stderr, flush=True)


def log_event(level: str, text: str, **fields: str) -> None:
    """Print one structured log line to stderr with the colours of the real engine's console logger."""
    stamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    colour = {"ERR": 31, "WRN": 33}.get(level, 32)
    tail = "".join(f" \x1b[36m{key}=\x1b[0m{value}" for key, value in fields.items())
    print(
        f"\x1b[90m{stamp}\x1b[0m \x1b[{colour}m{level}\x1b[0m \x1b[1m{text}\x1b[0m{tail}", file=sys.stderr, flush=True
    )


def flag_error(text: str, usage: str) -> int:
    """Print a flag error as the real programs do: the text on stdout too, the usage on stderr; give the exit code."""
    print(text)
    print(f"Error: {text}\n{usage}", file=sys.stderr)
    return 1
