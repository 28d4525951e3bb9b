"""A histogram of how long many runs took, as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_WIDTH = 40
_PERCENTILES = ("p50", "p90", "p95", "p99", "max")


def latency_lines(data: Mapping[str, Any], block: str = "█") -> Sequence[str]:
    """Throughput, percentiles and a bar for each span of time.

    Args:
        data: of the proof: `runs`, `seconds`, `per_second`, `latency_seconds` by percentile, and `histogram`, a list of
            `from`, `to` (seconds) and `count`.
        block: what bars are made of.
    """
    latency = data["latency_seconds"]
    lines = [
        f"{data['runs']} runs in {data['seconds']:.1f} s, {data['per_second']:.0f} a second; from enqueued to begun:",
        "   ".join(f"{name} {latency[name]:.2f} s" for name in _PERCENTILES),
    ]
    most = max((span["count"] for span in data["histogram"]), default=0)
    for span in data["histogram"]:
        # A span with anything in it shows something.
        length = -(-_WIDTH * span["count"] // most) if most else 0
        lines.append(f"{span['from']:6.2f} - {span['to']:6.2f} s  {block * length:<{_WIDTH}}  {span['count']}")
    return lines
