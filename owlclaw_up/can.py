"""The command `can`: what works here now, and what to do for what does not. Looks only."""

from __future__ import annotations

import dataclasses

from owlclaw_up.capabilities import Situation, table
from owlclaw_up.environment import arrange, silent
from owlclaw_up.errors import UpError
from owlclaw_up.facts import CAN, Facts, gather
from owlclaw_up.model import Listener, Mode, Outcome, StepStarted
from owlclaw_up.modes import MODES, shortest_way
from owlclaw_up.project import Project, application
from owlclaw_up.steps.smoke import Prove, kept_smoke


def can(project: Project, listener: Listener = silent) -> Outcome:
    """The table of capabilities. It is no verdict: `exit_code` is 0 whatever it says."""
    host, settings, ledger = project.host, project.settings, project.ledger
    begun = host.clock.monotonic()
    listener(StepStarted("can", "Looking at everything"))
    facts = gather(host, settings, ledger, also=CAN)
    mode = Mode(ledger.state.mode) if ledger.state.mode else None
    situation = Situation(
        facts, mode, ledger.exists, kept_smoke(ledger), _proofs_hold(project, facts, mode),
        shortest_way(facts, settings), application(project), host.clock.now(),
    )  # fmt: skip
    rows = [dataclasses.asdict(row) for row in table(situation)]
    for row in rows:
        row["how"] = project.redact(row["how"])
    return Outcome(
        "can", "ok", 0, mode, project=project.root, seconds=host.clock.monotonic() - begun,
        data={"capabilities": rows},
    )  # fmt: skip


def _proofs_hold(project: Project, facts: Facts, mode: Mode | None) -> bool:
    """Whether nothing that the last smoke test rests on has changed; no, where the environment cannot be described."""
    if mode is None or not MODES[mode].durable or kept_smoke(project.ledger) is None:
        return False
    kept = dataclasses.replace(project.settings.mode, value=mode)
    settings = dataclasses.replace(project.settings, mode=kept)
    try:
        facts, _, spec = arrange(dataclasses.replace(project, settings=settings), facts)
    except UpError:
        return False
    return Prove(spec, project.ledger).of_this_environment(facts)
