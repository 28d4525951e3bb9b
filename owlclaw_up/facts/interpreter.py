"""Probes of the Python that runs the project: each has a short program of ours do the thing, in a process of its own.

Importing hatchet-sdk takes more than a second, and a library may end the process that imports it: neither is done here.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from owlclaw_up.errors import BinaryNotRunnable
from owlclaw_up.facts.machine import sdk_in
from owlclaw_up.facts.values import PythonLook, Tried
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Absent, Fact, Found, Unknown
from owlclaw_up.spec import TENANT_ID
from owlclaw_up.token_claims import placeholder

_PROGRAM = Path(__file__).parent.parent / "proof" / "interpreter.py"
_ABOUT = _PROGRAM.with_name("about.py")
_ABOUT_SECONDS = 2.4
# Seconds: a machine at rest needs two, a busy one was seen to need twelve.
PATIENCE = 25.0
# What each look is about -> the package that it needs first.
_NEEDS = {"pytest": "pytest", "client": "owlclaw_up", "mock_run": "hatchet_sdk"}
_PYTHON = Path("Scripts/python.exe") if sys.platform == "win32" else Path("bin/python")


def project_python(environ: Mapping[str, str], project: Path) -> Path:
    """The interpreter of the virtual environment that is active, else of the project's own, else the one that runs us."""
    return next((python for python in _candidates(environ, project) if python.is_file()), Path(sys.executable))


def _candidates(environ: Mapping[str, str], project: Path) -> list[Path]:
    active = environ.get("VIRTUAL_ENV", "")
    folders = [Path(active)] if active else []
    return [folder / _PYTHON for folder in (*folders, project / ".venv", project / "venv")]


def look_at_python(host: Host, project: Path) -> Fact[PythonLook]:
    """What the project's interpreter is, by its own words; absent where it cannot be run, though it should be there."""
    for python in _candidates(host.environ, project):
        if python.is_symlink() and not python.exists():
            why = f"{_shown(python, project)} is a link to {python.readlink()}, which is not there any more"
            return Absent(why, _make_anew(host, project, python))
        if python.is_file():
            break
    python = project_python(host.environ, project)
    shown = _shown(python, project)
    try:
        ran = host.processes.run(
            [str(python), str(_ABOUT)], env=dict(host.environ), cwd=project, timeout=_ABOUT_SECONDS
        )  # fmt: skip
    except BinaryNotRunnable as error:
        return Absent(error.message, _make_anew(host, project, python))
    said = _last_line(ran.stdout)
    if not said.get("version"):
        if ran.seconds >= _ABOUT_SECONDS:
            return Unknown(f"{shown} did not say what it is within {_ABOUT_SECONDS:.0f} s", f"{shown} --version")
        words = (ran.stderr.strip().splitlines() or [f"exit code {ran.exit_code}"])[-1]
        return Absent(f"{shown} does not run: {words[:200]}", _make_anew(host, project, python))
    return Found(
        PythonLook(
            shown, python != Path(sys.executable), str(said["version"]), int(said["bits"]), str(said["machine"]),
            str(said["emulated"]), str(said["zones"]), str(said["semaphores"]), sdk_in(Path(said["sdk"])) if said["sdk"] else None,
            _installer(shown, pip=bool(said["pip"])), _make_anew(host, project, python),
        )
    )  # fmt: skip


def _make_anew(host: Host, project: Path, python: Path) -> str:
    """The command that makes an interpreter's virtual environment anew; its file says what made it before."""
    venv = python.parent.parent
    uv = b"uv = " in (host.files.read(venv / "pyvenv.cfg") or b"")
    return f"{'uv venv' if uv else 'python3 -m venv'} --clear {shlex.quote(_shown(venv, project))}"


def _shown(path: Path, project: Path) -> str:
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)


def try_out(host: Host, project: Path, what: str) -> Fact[Tried]:
    """Have the project's interpreter do something.

    Args:
        what: `pytest` (import it), `client` (configure a client, register tasks, have mistakes refused) or `mock_run`.
    """
    python = project_python(host.environ, project)
    shown = _shown(python, project)
    server, grpc = "http://localhost:8888", "localhost:17077"
    env = {
        **host.inherited,
        "HATCHET_CLIENT_TOKEN": placeholder(TENANT_ID, server, grpc),
        "HATCHET_CLIENT_SERVER_URL": server,
        "HATCHET_CLIENT_HOST_PORT": grpc,
        "HATCHET_CLIENT_TLS_STRATEGY": "none",
    }
    try:
        # hatchet-sdk reads dotenv files of the working directory: the program's own has none.
        ran = host.processes.run([str(python), str(_PROGRAM), what], env=env, cwd=_PROGRAM.parent, timeout=PATIENCE)
    except BinaryNotRunnable as error:
        return Absent(error.message, f"{shlex.quote(shown)} --version")
    said = _last_line(ran.stdout)
    if said.get("version"):
        return Found(Tried(shown, str(said["version"]), ran.seconds))
    mend = _install(shown, str(said.get("missing") or _NEEDS[what]), pip=bool(said.get("pip", True)))
    if ran.seconds >= PATIENCE:
        return Unknown(f"{shown} was not done with it within {PATIENCE:.0f} s", mend)
    if said.get("missing"):
        return Absent(f"{shown} has no {_name(str(said['missing']))}", mend)
    words = (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]
    return Absent(str(said.get("why") or f"{shown} ended with exit code {ran.exit_code}: {words[:200]}"), mend)


def _last_line(stdout: str) -> dict[str, Any]:
    """The program's answer: what a library prints while it is imported comes before it."""
    try:
        said = json.loads((stdout.strip().splitlines() or ["{}"])[-1])
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _name(module: str) -> str:
    return module.replace("_", "-")


def _install(python: str, module: str, *, pip: bool) -> str:
    """The command that puts a package into an interpreter; owlclaw-up itself from where this one lies."""
    package = _name(module)
    checkout = Path(__file__).parents[2]
    if module == "owlclaw_up" and (checkout / "pyproject.toml").is_file():
        package = shlex.quote(str(checkout))
    return f"{_installer(python, pip=pip)} {package}"


def _installer(python: str, *, pip: bool) -> str:
    quoted = shlex.quote(python)
    return f"{quoted} -m pip install" if pip else f"uv pip install --python {quoted}"
