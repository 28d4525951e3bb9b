"""The screen of `prefetch`: what the folder holds, and what to type on the other machine."""

from __future__ import annotations

from collections.abc import Callable

from owlclaw_up.model import Outcome


def show(outcome: Outcome, put: Callable[..., None]) -> None:
    """Print it."""
    data = outcome.data
    word = "Ready" if data["new"] else "Ready, nothing to fetch"
    put(f"{word}: {data['folder']}, {_megabytes(data['bytes'])} in {outcome.seconds:.1f} s", "bold green")
    put()
    for image in data["images"]:
        put(f"  image    {image['name']}")
    if data["engine"]:
        put(f"  engine   {data['engine']}, {_megabytes(data['parts']['engine'])}")
    put(f"  wheels   {data['wheels']} for Python {data['python']}, {_megabytes(data['parts']['wheels'])}")
    put(f"  for      {data['platform']}")
    put()
    put("  On the other machine, with this folder as DIR:", "dim")
    put("  python3 -m venv .venv", "dim")
    put("  .venv/bin/pip install --no-index --find-links DIR/wheels owlclaw-up", "dim")
    put("  .venv/bin/owlclaw-up up --offline --from DIR", "dim")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
