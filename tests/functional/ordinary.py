"""Projects of an ordinary user, also where the tests themselves run as root."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import Cli, kept_env
from tests.ports import free_port

ACCOUNT = "nobody"
# Also that it is the same interpreter: one that cannot reach its own library takes another's.
_SAYS = "import sys, owlclaw_up; print(sys.version_info, sys.base_prefix)"


@functools.cache
def as_ordinary_user() -> tuple[str, ...]:
    """What goes before a command line so that an ordinary user runs it; nothing where one runs the tests.

    The interpreter may lie under a home that is closed to everybody else. Then the user gets the one right to read and
    walk everywhere; to write, to bind and to signal it has an ordinary user's rights either way.
    """
    if os.geteuid() != 0:
        return ()
    entry = pwd.getpwnam(ACCOUNT)
    switch = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
    plain = [*switch, "--bounding-set=-all"]
    said = subprocess.run([*plain, sys.executable, "-c", _SAYS], check=False, capture_output=True, text=True, cwd="/")
    if said.returncode == 0 and said.stdout.strip() == f"{sys.version_info} {sys.base_prefix}":
        return tuple(plain)
    read = "-all,+dac_read_search"
    return (*switch, f"--inh-caps={read}", f"--ambient-caps={read}", f"--bounding-set={read}")


@dataclass
class OrdinaryCli(Cli):
    """The command, run by an ordinary user."""

    @property
    def before(self) -> tuple[str, ...]:
        return as_ordinary_user()

    def own(self, path: Path) -> Path:
        """Give a file or folder to the user who runs the command."""
        if os.geteuid() == 0:
            shutil.chown(path, ACCOUNT)
        return path


@contextlib.contextmanager
def ordinary_project(**env: str) -> Iterator[OrdinaryCli]:
    """A project that belongs to an ordinary user, in a place that everybody can reach; purged at the end."""
    home = Path(tempfile.mkdtemp(prefix="owlclaw-user-", dir="/var/tmp"))
    root = home / "app"
    root.mkdir()
    base = {**kept_env(), "HOME": str(home), "CI": "true", "NO_COLOR": "1", "DOCKER_HOST": "unix:///nonexistent.sock"}
    for name in ("DASHBOARD", "GRPC", "POSTGRES"):
        base[f"OWLCLAW_UP_{name}_PORT"] = str(free_port())
    base["OWLCLAW_UP_ENGINE_DIR"] = str(home / "none")
    cli = OrdinaryCli(root, {**base, **env})
    for path in (home, root):
        path.chmod(0o755)
        cli.own(path)
    try:
        yield cli
    finally:
        cli("down", "--purge", "--yes", timeout=60)
        shutil.rmtree(home, ignore_errors=True)
