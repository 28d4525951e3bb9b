"""Bars on an axis of time, in per cent of its length: where the time of an `up` went, and of the doctor's probes. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from owlclaw_up.report_values import LastUp

# Steps below this many seconds had nothing to do, or nothing worth a bar.
_NOTHING = 0.005
_TICKS = 5


@dataclass(frozen=True)
class Bar:
    """One row.

    Attributes:
        begin, length, early: per cent of the axis; `early` is where something of it began beside other steps, or None.
        began, seconds: for the reader.
    """

    name: str
    status: str
    begin: float
    length: float
    began: str
    seconds: str
    detail: str = ""
    early: float | None = None

    @property
    def about(self) -> str:
        """The bar in words."""
        return f"{self.name}: from {self.began}, {self.seconds} long"


@dataclass(frozen=True)
class Timeline:
    """Attributes: `ticks`, per cent and text; `idle`, names of what had nothing to do."""

    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    idle: tuple[str, ...] = ()


def of_up(run: LastUp) -> Timeline:
    """The steps of an `up`, what came before the first and after the last of them as rows of their own."""
    whole = max([run.seconds, *(s.began + s.seconds for s in run.spans)], default=0.0)
    worked = [s for s in run.spans if s.status != "skipped" and (s.seconds >= _NOTHING or s.status == "failed")]
    idle = tuple(s.name for s in run.spans if s not in worked)
    first = min((s.began for s in worked), default=whole)
    last = max((s.began + s.seconds for s in worked), default=whole)
    bars = [Bar("Looking, deciding, planning", "other", 0.0, _share(first, whole), "0.00 s", f"{first:.2f} s")]
    bars += [
        Bar(
            s.name, s.status, _share(s.began, whole), _share(s.seconds, whole), f"{s.began:.2f} s", f"{s.seconds:.2f} s",
            s.detail, None if s.early is None else _share(s.early, whole),
        )
        for s in worked
    ]  # fmt: skip
    if whole - last >= _NOTHING:
        rest = whole - last
        bars.append(Bar("Ending", "other", _share(last, whole), _share(rest, whole), f"{last:.2f} s", f"{rest:.2f} s"))
    return Timeline(tuple(bars), _ticks(whole), idle)


def of_probes(probes: Mapping[str, float]) -> Timeline:
    """The doctor's probes, all of which began at once; the slowest first."""
    whole = max(probes.values(), default=0.0)
    rows = sorted(probes.items(), key=lambda item: -item[1])
    bars = tuple(Bar(name, "done", 0.0, _share(s, whole), "0.00 s", f"{s:.2f} s") for name, s in rows)
    return Timeline(bars, _ticks(whole))


def of_counts(histogram: Sequence[Mapping[str, float]]) -> Timeline:
    """How many runs took how long; the axis is how many."""
    most = max((span["count"] for span in histogram), default=0)
    bars = tuple(
        Bar(f"{s['from']:.1f} to {s['to']:.1f} s", "done", 0.0, _share(s["count"], most), "0", f"{s['count']:.0f} runs")
        for s in histogram
    )
    return Timeline(bars, ())


def _share(part: float, whole: float) -> float:
    return round(100 * min(part, whole) / whole, 2) if whole > 0 else 0.0


def _ticks(whole: float) -> tuple[tuple[float, str], ...]:
    """Round numbers of seconds, five of them or fewer."""
    if whole <= 0:
        return ()
    rough = whole / _TICKS
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(scale * n for n in (1, 2, 5, 10) if scale * n >= rough * 0.999)
    digits = max(0, -math.floor(math.log10(step)))
    count = int(whole / step + 1e-9)
    return tuple((_share(n * step, whole), f"{n * step:.{digits}f} s") for n in range(count + 1))
