"""Wheels of owlclaw-up and of everything it needs, by pip: for this Python, and for this platform or another one.

Pip is asked as the user has set it up: index, certificates, proxies, logins. Versions are those that are installed here,
so that what was tried here is what runs there.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from owlclaw_up.errors import PrefetchFailed
from owlclaw_up.host.base import Processes
from owlclaw_up.host.oci import sha256_of

_US = "owlclaw-up"
_PACKAGE = Path(__file__).parent.parent
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# Tags that pip takes for another platform, from the oldest glibc on: PEP 600.
_TAGS = ("manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28", "manylinux_2_34")
# A slow index, and a checkout whose build tool has to come first.
_SECONDS = 1800.0
_VENV_SECONDS = 120.0


def python_version() -> str:
    """Of the Python that runs us, as wheels are made for it."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Wheels:
    """One set of wheels.

    Attributes:
        machine: as images name it.
        here: whether that is this machine's own platform.
        say: told in a few words what happens.
    """

    machine: str
    here: bool
    processes: Processes
    environ: Mapping[str, str]
    say: Callable[[str], None] = lambda text: None

    @property
    def identity(self) -> str:
        """Changes with owlclaw-up's own code, with any version that is installed here, with Python, with the platform."""
        digest = hashlib.sha256(f"{python_version()} {self.machine} {platform.python_implementation()}\n".encode())
        digest.update("\n".join(_pins()).encode())
        for path in sorted(_PACKAGE.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(_PACKAGE)} {sha256_of(path)}\n".encode())
        return digest.hexdigest()

    def collect(self, folder: Path) -> None:
        """Put them all into a folder; what an earlier run has put there is not fetched again.

        Raises:
            PrefetchFailed: there is no pip, or it did not get them, or what owlclaw-up was installed from is gone.
            OSError: the folder cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("owlclaw_up-*"):
            old.unlink()
        pins = folder / "constraints.txt"
        pins.write_text("\n".join(_pins()) + "\n", encoding="utf-8")
        only = [] if self.here else self._other_platform()
        with self.python_with_pip() as python:
            self.say("owlclaw-up itself")
            wanted = self._ourselves(python, folder)
            self.say("asking the package index")
            self._pip(
                python, "download", "--dest", str(folder), "--only-binary", ":all:", *only, "--constraint", str(pins), wanted
            )  # fmt: skip
        pins.unlink()

    @contextlib.contextmanager
    def python_with_pip(self) -> Iterator[str]:
        """A Python of this version that has pip: the one that runs us, else one of an environment made for now, since what uv
        and pipx install has no pip.

        Raises:
            PrefetchFailed: there is none to be had.
        """
        if importlib.util.find_spec("pip") is not None:
            yield sys.executable
            return
        self.say("making an environment that has pip")
        with tempfile.TemporaryDirectory(prefix="owlclaw-up-pip-") as made:
            ran = self.processes.run(
                [sys.executable, "-m", "venv", made], env=dict(self.environ), timeout=_VENV_SECONDS
            )
            if ran.exit_code:
                why = "the Python that runs owlclaw-up has no pip, and can make no environment that has one"
                said = f"{ran.stdout}\n{ran.stderr}".strip()
                raise _failed(why, "on Debian and Ubuntu: apt-get install python3-venv", said)
            yield str(Path(made) / "bin" / "python")

    def _other_platform(self) -> list[str]:
        tags = [f"{tag}_{_MACHINES[self.machine]}" for tag in _TAGS]
        return ["--python-version", python_version(), *(word for tag in tags for word in ("--platform", tag))]

    def _ourselves(self, python: str, folder: Path) -> str:
        """What pip is to be asked for: our own wheel once it is in the folder, or our version on the index."""
        came_from = _origin()
        url = str(came_from.get("url", ""))
        path = Path(unquote(urlsplit(url).path)) if url.startswith("file:") else None
        if not url:
            return f"{_US}=={importlib.metadata.version(_US)}"
        if path is not None and not path.exists():
            raise _failed(
                f"owlclaw-up was installed from {path}, which is not there any more", "pip install owlclaw-up anew"
            )
        if path is not None and path.suffix == ".whl":
            shutil.copyfile(path, folder / path.name)
        else:
            vcs = came_from.get("vcs_info")
            pinned = f"{vcs['vcs']}+{url}@{vcs['commit_id']}" if isinstance(vcs, dict) else url
            self._pip(python, "wheel", "--no-deps", "--wheel-dir", str(folder), str(path) if path else pinned)
        made = next(folder.glob("owlclaw_up-*.whl"), None)
        if made is None:
            raise _failed(f"{path or url} gave no wheel of owlclaw-up", "pip install owlclaw-up anew")
        return str(made)

    def _pip(self, python: str, command: str, *words: str) -> None:
        argv = [python, "-m", "pip", command, "--disable-pip-version-check", "--no-input", *words]
        ran = self.processes.run(argv, env=dict(self.environ), timeout=_SECONDS, on_line=self._heard)
        if ran.exit_code:
            said = [line for line in ran.stderr.splitlines() if line.strip()]
            errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
            what = (errors or said or [f"exit code {ran.exit_code}"])[-1]
            if "No space left" in ran.stderr:
                raise PrefetchFailed("prefetch-disk-full", "the disk is full", hint="df -h", detail=ran.stderr)
            raise _failed(
                f"pip did not get them: {what[:300]}",
                "check index, network and proxy: python -m pip config list", "\n".join(said[-12:]),
            )  # fmt: skip

    def _heard(self, line: str) -> None:
        what, _, rest = line.strip().partition(" ")
        if what in ("Collecting", "Downloading", "Building"):
            self.say(f"{what} {rest}"[:70])
        elif what == "Saved":
            self.say(Path(rest).name)


def _origin() -> dict[str, object]:
    """Where owlclaw-up was installed from, where that is not an index: PEP 610."""
    try:
        text = importlib.metadata.distribution(_US).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        raise _failed("owlclaw-up is not installed in the Python that runs it", "pip install owlclaw-up") from None
    document = json.loads(text) if text else {}
    return document if isinstance(document, dict) else {}


def _pins() -> Iterator[str]:
    """Every version that is installed here, but of what did not come from an index."""
    found = {}
    for each in importlib.metadata.distributions():
        name = each.metadata["Name"]
        if name and name.lower() not in (_US, "pip", "setuptools") and not each.read_text("direct_url.json"):
            found[name.lower()] = f"{name}=={each.version}"
    yield from (found[name] for name in sorted(found))


def _failed(why: str, hint: str, detail: str = "") -> PrefetchFailed:
    return PrefetchFailed("prefetch-wheels", f"the wheels cannot be had: {why}", hint=hint, detail=detail)
