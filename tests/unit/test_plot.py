"""The histogram of the long proof, as it stands on the screen."""

from __future__ import annotations

from typing import Any

from owlclaw_up.views.plot import latency_lines

DATA: dict[str, Any] = {
    "runs": 1000, "seconds": 4.04, "per_second": 247.5,
    "latency_seconds": {"p50": 1.9, "p90": 3.6, "p95": 3.8, "p99": 4.0, "max": 4.04},
    "histogram": [
        {"from": 0.0, "to": 2.0, "count": 800},
        {"from": 2.0, "to": 4.0, "count": 1},
        {"from": 4.0, "to": 6.0, "count": 0},
    ],
}  # fmt: skip


def test_it_has_throughput_percentiles_and_a_bar_for_each_span() -> None:
    lines = latency_lines(DATA, "#")
    assert lines[0] == "until they began:  p50 1.9 s  p90 3.6 s  p95 3.8 s  p99 4.0 s  max 4.0 s"
    assert [line.count("#") for line in lines[1:]] == [40, 1, 0]
    assert [line.split()[-1] for line in lines[1:]] == ["800", "1", "0"]
    assert max(map(len, lines)) < 78


def test_nothing_ran() -> None:
    lines = latency_lines({**DATA, "histogram": []}, "#")
    assert len(lines) == 1
