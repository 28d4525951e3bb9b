"""What a Python interpreter is, run as a file by the one that the project uses: one line of JSON.

Any Python 3 can read this file: one that is too old must be able to say so.
"""

import importlib.util
import json
import os
import platform
import struct
import subprocess
import sys


def emulated() -> str:
    """The architecture of the machine where this interpreter is built for another one, as far as the system tells."""
    if sys.platform == "darwin":
        # Rosetta; the kernel answers an emulated process as if it were no Arm.
        asked = ["/usr/sbin/sysctl", "-in", "sysctl.proc_translated"]
        said = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout  # noqa: PLW1510
        return "arm64" if said.strip() == b"1" else ""
    return os.environ.get("PROCESSOR_ARCHITEW6432", "") if sys.platform == "win32" else ""


def zones() -> str:
    """Why no time zone can be had; empty where one can."""
    try:
        import zoneinfo

        zoneinfo.ZoneInfo("Europe/Berlin")
    except Exception as error:
        where = os.environ.get("PYTHONTZPATH")
        return str(error).strip("'") + ("" if where is None else "; PYTHONTZPATH is '" + where + "'")
    return ""


def semaphores() -> str:
    """Why processes can share no locks, which hatchet-sdk's worker has; empty where they can."""
    try:
        from multiprocessing import get_context

        get_context("spawn" if sys.platform == "win32" else "fork").Lock()
    except Exception as error:
        return type(error).__name__ + ": " + str(error)
    return ""


def folder_of(package: str) -> str:
    """Where a package lies, without importing it; empty where it is not installed."""
    spec = importlib.util.find_spec(package)
    return os.path.dirname(spec.origin) if spec is not None and spec.origin else ""  # noqa: PTH120


if __name__ == "__main__":
    # A file's own folder comes first on the path, and what lies there is not installed.
    sys.path.pop(0)
    about = {
        "version": platform.python_version(),
        "bits": struct.calcsize("P") * 8,
        "machine": platform.machine(),
        "emulated": emulated(),
        "zones": zones(),
        "semaphores": semaphores(),
        "sdk": folder_of("hatchet_sdk"),
        "pip": bool(folder_of("pip")),
    }
    print(json.dumps(about), flush=True)
