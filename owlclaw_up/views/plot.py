"""A histogram of how long many runs took, as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_WIDTH = 40
_PERCENTILES = ("p50", "p90", "p95", "p99", "max")


def latency_lines(data: Mapping[str, Any], block: str = "█") -> Sequence[str]:
    """Percentiles, and a bar for each span of time.

    Args:
        data: of the proof: `latency_seconds` by percentile, and `histogram`, a list of `from`, `to` (seconds) and `count`.
        block: what bars are made of.
    """
    latency = data["latency_seconds"]
    lines = ["until they began:  " + "  ".join(f"{name} {latency[name]:.1f} s" for name in _PERCENTILES)]
    most = max((span["count"] for span in data["histogram"]), default=0)
    for span in data["histogram"]:
        # A span with anything in it shows something.
        length = -(-_WIDTH * span["count"] // most) if most else 0
        lines.append(f"{span['from']:5.1f} - {span['to']:5.1f} s  {block * length:<{_WIDTH}}  {span['count']}")
    return lines
