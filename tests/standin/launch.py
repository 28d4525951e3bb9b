"""Run one of the three programs; the launchers call this file with the program's name and their own path.

It is a file outside any import path because the launchers start Python isolated (``-I``): neither a test's working
directory nor PYTHONPATH can change what runs.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main() -> None:
    """Import the package that this file lies in and hand over to the program's module."""
    package = Path(__file__).resolve().parent
    sys.path.insert(0, str(package.parent))
    program, launcher, *arguments = sys.argv[1:]
    sys.argv = [launcher, *arguments]
    module = importlib.import_module(f"{package.name}.{program.removeprefix('hatchet-')}")
    sys.exit(module.main(arguments))


if __name__ == "__main__":
    main()
