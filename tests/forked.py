"""The command, forked from a process that has loaded it already: to load it takes longer than most commands do.

What runs is the real command in a process of its own, from `owlclaw_up.__main__` on, with its own arguments, environment,
folder, standard input and pipes. Shared is only what Python would load before that, every time alike; where something of it
may depend on the environment, `can_run` says no. The suite is shorter by a quarter.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# What the command itself loads for nearly everything it does. No library that a project may have a folder named after.
_LOADED = (
    "owlclaw_up.cli.main",
    "owlclaw_up.environment",
    "owlclaw_up.views.human",
    "owlclaw_up.views.machine",
    "psycopg",
    "httpx",
    "grpc",
)
# By these Python, or the dynamic linker, is another one from its first moment on.
_DECIDING = ("PYTHON", "LANG", "LC_", "TZ", "LD_", "DYLD_", "MALLOC")


def _deciding(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_DECIDING)}


class Loaded:
    """The process that has loaded the command; ended by `close`, and when the process that started it is gone.

    Args:
        env: the environment in which it is loaded.
        before: what goes before its command line, to make it another user's.
    """

    def __init__(self, env: Mapping[str, str], before: Sequence[str] = ()) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="owlclaw-up-loaded-")
        if before:
            Path(self._folder.name).chmod(0o777)
        self._address = str(Path(self._folder.name) / "socket")
        self._deciding = _deciding(env)
        self._process = subprocess.Popen(
            [*before, sys.executable, "-m", "tests.forked", self._address],
            cwd=Path(__file__).parents[1], env=dict(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"loaded\n"

    def can_run(self, env: Mapping[str, str]) -> bool:
        """Whether the command would be loaded in the same way with this environment."""
        return _deciding(env) == self._deciding

    def run(self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float) -> tuple[int, str, str]:
        """Exit code, stdout and stderr, as of `subprocess.run`.

        Raises:
            subprocess.TimeoutExpired: it was killed after this many seconds.
        """
        assert cwd.is_dir(), f"no folder {cwd}"
        texts = {"stdout": "", "stderr": ""}
        end = time.monotonic() + timeout
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._address)
            readers = []
            pipes = {name: os.pipe() for name in texts}
            request = json.dumps({"argv": list(argv), "cwd": str(cwd), "env": dict(env)}).encode() + b"\n"
            socket.send_fds(connection, [b"!"], [write for _, write in pipes.values()])
            connection.sendall(request)
            for name, (read, write) in pipes.items():
                os.close(write)
                readers.append(threading.Thread(target=_read, args=(read, texts, name), daemon=True))
                readers[-1].start()
            with connection.makefile("r") as answers:
                pid = int(answers.readline())
                # Who holds its pipes open keeps this side waiting, as with any command.
                for reader in readers:
                    reader.join(max(0.0, end - time.monotonic()))
                if any(reader.is_alive() for reader in readers):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(list(argv), timeout)
                code = int(answers.readline())
        return code, texts["stdout"], texts["stderr"]

    def close(self) -> None:
        # Closes both pipes, and waits.
        with self._process:
            pass
        self._folder.cleanup()


def _read(pipe: int, texts: dict[str, str], name: str) -> None:
    with open(pipe) as stream:
        texts[name] = stream.read()


def _serve(address: str) -> bool:
    """Fork for each that connects, until nobody holds the other end of stdin any more; True in the command that was forked."""
    for module in _LOADED:
        importlib.import_module(module)
    # Else the collector writes its marks into memory that is shared as long as nobody does.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(16)
        print("loaded", flush=True)
        while listening in select.select([listening, sys.stdin], [], [])[0]:
            connection, _ = listening.accept()
            with connection:
                if os.fork() == 0:
                    listening.close()
                    _start(connection)
                    return True
    return False


def _start(connection: socket.socket) -> None:
    """Fork the command that is asked for; say its process id, then its exit code. Returns in the command alone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, (stdout, stderr), _, _ = socket.recv_fds(connection, 1, 2)
    with connection.makefile("r") as asked:
        request: dict[str, Any] = json.loads(asked.readline())
    pid = os.fork()
    if pid == 0:
        connection.close()
        _prepare(request, stdout, stderr)
        return
    os.close(stdout)
    os.close(stderr)
    # Who asked may have lost patience.
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(f"{pid}\n".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        connection.sendall(f"{code}\n".encode())
    os._exit(0)


def _prepare(request: dict[str, Any], stdout: int, stderr: int) -> None:
    """What Python has ready for a command before it begins. Nothing was read from these files, or is left to be written."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate((nothing, stdout, stderr)):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv[1:] = request["argv"]
    sys.path[0] = request["cwd"]


if __name__ == "__main__":
    if _serve(sys.argv[1]):
        # What `python -m owlclaw_up` does.
        runpy.run_module("owlclaw_up", run_name="__main__", alter_sys=True)
