"""The stand-in engine: three small programs that honour the operational contract of Hatchet's native binaries.

Tests install it with :func:`install` and point ``OWLCLAW_UP_ENGINE_DIR`` at the directory. It takes the same
environment, binds the same five ports, prints the same texts, ends with the same exit codes, and speaks enough gRPC
and REST for an unmodified hatchet-sdk to run a task, a durable sleep and a scheduled run and to list what ran.

It is never shipped and never chosen by the product. A result on it is not a result on Hatchet: it only says that the
product does the right thing with programs that behave like this. What keeps it honest are the tests in
``tests/contract``, whose one body also runs against a real engine wherever there is one.

Misbehaviour is switched on by the environment variable ``STANDIN_FAULT`` (comma-separated) or by a file named
``fault`` beside the launchers (the same words, separated by commas or white space). The file is read again at every
decision, so a test can break and mend a running engine. ``STANDIN_FAULT_TEXT`` has a file of its own likewise,
``fault-text``.

======================== =============================================================================================
fault                    what it does
======================== =============================================================================================
``lite.exit-at-start``   prints log lines and the text in ``STANDIN_FAULT_TEXT``, then exit 1
``lite.never-ready``     ``/ready`` and ``/live`` answer 503 for ever
``lite.api-down``        ``/api/*`` on the runtime port answers 502 for ever; SERVER_PORT is not bound
``lite.no-grpc``         the gRPC port is never bound; everything else is well
``lite.auth-disabled``   ``/api/v1/meta`` says so, as builds do that ask nobody for a token; it asks all the same
``lite.reject-tokens``   every token is refused: gRPC UNAUTHENTICATED, REST 403
``lite.no-dispatch``     runs are accepted and stay QUEUED
``lite.fail-runs``       what workers complete is taken for failed
``lite.ignore-sigterm``  SIGTERM changes nothing; only SIGKILL ends it
``lite.clock=S``         its clock is S seconds off the machine's
``lite.die-after=S``     S seconds after the start it prints a panic and ends with exit code 2, cleaning up nothing
``admin.garbage-token``  ``token create`` prints something that is no token, exit 0
``admin.token-fails``    ``token create`` fails with ``STANDIN_FAULT_TEXT`` on stderr, exit 1
``admin.token-two-lines`` ``token create`` prints a notice line before the token, exit 0
``admin.wrong-address``  the token carries ``host.docker.internal:7077`` as its gRPC address
``admin.keyset-fails``   ``keyset create-local-keys`` fails, exit 1
``seed.fails``           ``seed`` fails with ``STANDIN_FAULT_TEXT``, exit 1
``migrate.fails``        ``hatchet-migrate`` fails half-way, in migration 20240216133745, exit 1
``migrate.fails-late``   the same in the last of the two migrations that v0.108.0 adds
``migrate.hangs``        ``hatchet-migrate`` prints two lines and then nothing, until it is ended
``sidecar.exit-at-start``  prints the text in ``STANDIN_FAULT_TEXT``, then exit 1
``sidecar.never-ready``  neither starts an engine nor writes a handshake
``sidecar.no-api``       its handshake has no ``api_url``
``sidecar.garbage-handshake`` its handshake is no JSON
``sidecar.deaf``         neither SIGTERM nor the end of its standard input changes anything
``sidecar.die-after=S``  from S seconds after its handshake on it prints a panic and ends with exit code 2
``version=vX``           the version that ``--version`` (lite, migrate), REST, health and GetVersion say
======================== =============================================================================================

``STANDIN_GHOST_SECONDS`` (default 59) is how long dispatch is held back when the partition rows of a dead engine are
younger than a minute at the start; lease rows alone hold it for half of that, as the real engine's 30 seconds.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

PROGRAMS = ("hatchet-lite", "hatchet-admin", "hatchet-migrate")
# Nearly every command asks for it, and to start Python takes longer than all that a real engine does then.
_ANSWER_VERSION = (
    '[ "$*" != --version ] || [ -n "$STANDIN_FAULT" ] || [ -e "$STANDIN_HOME/fault" ] || [ -e "${0%/*}/fault" ] ||\n'
    '  { echo "$STANDIN_VERSION"; exit; }\n'
)
SIDECAR = "hatchet-sidecar"


def install(
    directory: Path, *, python: str = sys.executable, version: str = "v0.107.2", static_assets: bool = False
) -> Path:
    """Write the three launchers into a directory.

    Args:
        directory: Where to; made when absent. Launchers that are there already are replaced.
        python: The interpreter that runs them; it needs psycopg, and for ``hatchet-lite`` grpcio and hatchet-sdk.
        version: What the engine says it is, unless the fault ``version=vX`` says otherwise.
        static_assets: Also write ``static-assets/index.html``, which the real image carries beside its binaries.

    Returns:
        The directory, absolute.
    """
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        _write_launcher(directory, program, python, STANDIN_VERSION=version)
    if static_assets:
        assets = directory / "static-assets"
        assets.mkdir(exist_ok=True)
        (assets / "index.html").write_text("<!doctype html><title>stand-in</title>\n", encoding="utf-8")
    return directory


def install_sidecar(directory: Path, engine: Path, *, python: str = sys.executable) -> Path:
    """Write the launcher of a stand-in for hatchet-embedded's sidecar.

    Args:
        directory: Where to; made when absent. Its file `fault` switches misbehaviour of the sidecar's.
        engine: Folder of the three binaries that it runs: a stand-in's, or a real engine's.

    Returns:
        The launcher, absolute.
    """
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    return _write_launcher(directory, SIDECAR, python, STANDIN_ENGINE=str(engine))


def _write_launcher(directory: Path, program: str, python: str, **variables: str) -> Path:
    launch = Path(__file__).resolve().with_name("launch.py")
    script = directory / program
    script.unlink(missing_ok=True)
    named = {"STANDIN_HOME": str(directory), **variables}
    script.write_text(
        "#!/bin/sh\n"
        f"{' '.join(f'{name}={shlex.quote(value)}' for name, value in named.items())}\n"
        f"export {' '.join(named)}\n"
        # The real hatchet-admin says that of another package.
        + (_ANSWER_VERSION if program in ("hatchet-lite", "hatchet-migrate") else "")
        + f'exec {shlex.quote(python)} -I {shlex.quote(str(launch))} {program} "$0" "$@"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    return script
