"""Which faults are switched on; the table of them is in the package's docstring."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path


def _words() -> list[str]:
    text = os.environ.get("STANDIN_FAULT", "")
    for directory in {str(Path(sys.argv[0]).parent), os.environ.get("STANDIN_HOME", "")}:
        try:
            text += "," + (Path(directory) / "fault").read_text(encoding="utf-8") if directory else ""
        except OSError:
            continue
    return text.replace(",", " ").split()


def fault(name: str) -> bool:
    """Say whether a fault is on at this moment."""
    return name in _words()


def fault_value(name: str) -> str | None:
    """Give the value of a fault written ``name=value``, or None when it is off."""
    return next((word.partition("=")[2] for word in _words() if word.startswith(name + "=")), None)


def clock() -> float:
    """Give this engine's time, in seconds since the epoch: that of the machine, but for the fault ``lite.clock=S``."""
    return time.time() + float(fault_value("lite.clock") or 0)


def fault_text(default: str) -> str:
    """Give the text a failing program is to print: ``STANDIN_FAULT_TEXT``, else the file ``fault-text``, else the given one."""
    text = os.environ.get("STANDIN_FAULT_TEXT", "")
    file = Path(os.environ.get("STANDIN_HOME", "")) / "fault-text"
    if not text and file.is_file():
        text = file.read_text(encoding="utf-8").strip()
    return text or default


def version() -> str:
    """Give the version this engine claims to be."""
    return fault_value("version") or os.environ.get("STANDIN_VERSION") or "v0.107.2"
