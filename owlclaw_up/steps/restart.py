"""Stopping an engine and starting it again, for the proof that work outlives it."""

from __future__ import annotations

import signal

from owlclaw_up.facts.containers import ENGINE
from owlclaw_up.facts.stack import running_engine
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import NativeEngine, SidecarEngine, StackSpec
from owlclaw_up.steps.base import Run
from owlclaw_up.steps.compose import container_name
from owlclaw_up.steps.containers import StartContainerEngine
from owlclaw_up.steps.engine import StartEngine, start_steps
from owlclaw_up.steps.sidecar import StartSidecar

_STOP_SECONDS = 30


def why_not(spec: StackSpec) -> str:
    """Why the engine may not be restarted by us; empty where it may."""
    if spec.remote:
        return "the engine runs elsewhere, and is not ours to restart"
    if spec.compose is not None and spec.compose.adopted:
        return "the engine was lifted by hand, and is left running"
    return ""


def restart_engine(run: Run, spec: StackSpec, ledger: Ledger) -> None:
    """Stop the running engine and have it ready again, on the same database, ports and keys.

    Raises:
        UpError: it does not come up again.
    """
    if isinstance(spec.engine, SidecarEngine):
        StartSidecar(spec, ledger).apply(run)
        return
    if isinstance(spec.engine, NativeEngine):
        StartEngine(spec, ledger).apply(run)
        return
    assert spec.compose is not None
    docker = run.host.docker(spec.compose.docker.address)
    docker.stop(container_name(spec.compose.project, ENGINE), timeout=_STOP_SECONDS)
    StartContainerEngine(spec, ledger).apply(run)


def kill_engine(run: Run, ledger: Ledger, number: int) -> None:
    """End one engine of a small cluster as a crash would."""
    process = running_engine(run.host, ledger, number)
    if process is not None:
        run.host.processes.stop(process, signal=signal.SIGKILL, timeout=5)


def start_again(run: Run, spec: StackSpec, ledger: Ledger, number: int) -> None:
    """Have that engine ready again, on the same ports and keys.

    Raises:
        UpError: it does not come up again.
    """
    start_steps(spec, ledger)[number - 1].apply(run)
