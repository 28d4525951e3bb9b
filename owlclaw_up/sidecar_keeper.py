"""The program that holds Hatchet's embedded engine: `python -m owlclaw_up.sidecar_keeper FILE`, in a session of its own.

The sidecar ends when its standard input closes, so somebody must hold that for as long as the engine shall run: this
process, which outlives the command that started it. It starts the sidecar by hatchet-sdk's own code, which reads what it
needs from `HATCHET_CLIENT_EMBEDDED_*`; it hands FILE over, 0600, once there is something to say; it ends the sidecar
gracefully at SIGTERM, and ends when the sidecar does. What both say goes to its own output, which is the engine's log.

FILE is JSON: `token`, `tenant_id`, `grpc_address`, `api_url`, `pid` of a sidecar that is ready; else `failed` and `words`.
"""

from __future__ import annotations

import http.client
import json
import signal
import sys
import types
import urllib.error
from pathlib import Path
from typing import Any

from owlclaw_up.host.local import LocalFiles

_FILES = LocalFiles()


def main(handshake: Path) -> int:
    """Hold a sidecar until it ends, or until SIGTERM; gives the exit code.

    Args:
        handshake: the file to hand over; its folder is there.
    """
    signal.signal(signal.SIGTERM, _leave)
    from hatchet_sdk.config import EmbeddedHatchetConfig
    from hatchet_sdk.embedded import start_embedded_sidecar

    options = EmbeddedHatchetConfig()
    try:
        sidecar = start_embedded_sidecar(options)
    except Exception as error:  # whatever it is, `up` waits for a word of it
        _hand_over(
            handshake, {"failed": kind_of(error, options.binary_path), "words": f"{type(error).__name__}: {error}"}
        )
        return 1
    with sidecar:
        try:
            _hand_over(handshake, {**sidecar.handshake.model_dump(), "pid": sidecar.process.pid})
            code = sidecar.process.wait()
        finally:
            _FILES.remove(handshake)
    sys.stderr.write(f"the sidecar has ended with exit code {code}\n")
    return 1


def kind_of(error: Exception, binary: str | None) -> str:
    """What hatchet-sdk failed at, by its words: hatchet_sdk/embedded.py.

    Args:
        binary: the program that it was given, where it was given one.

    Returns:
        `checksum`, `died`, `late`, `release`, `not-runnable`, `unreachable` or `other`.
    """
    words = str(error)
    if isinstance(error, urllib.error.HTTPError) and error.code == 404:
        return "release"
    said = (
        ("did not become ready", "late"), ("checksum mismatch", "checksum"), ("before becoming ready", "died"),
        ("no checksum for", "release"),
    )  # fmt: skip
    known = next((kind for text, kind in said if text in words), "")
    if known:
        return known
    if isinstance(error, (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException)):
        return "unreachable"
    program = str(getattr(error, "filename", None) or "")
    is_it = program == binary or Path(program).name.startswith("hatchet-embedded-sidecar")
    return "not-runnable" if program and is_it else "other"


def _hand_over(path: Path, said: dict[str, Any]) -> None:
    _FILES.write_private(path, json.dumps(said).encode())


def _leave(number: int, frame: types.FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
