"""The steps of a plan: one file per resource, each step beside its removal twin.

`build` lists what `up` does, in order; `removals` lists what `down` takes back, from receipts.
"""

from __future__ import annotations

from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import StackSpec
from owlclaw_up.steps import database, dotenv, engine, postgres, project, smoke, token
from owlclaw_up.steps.base import Step


def build(spec: StackSpec, ledger: Ledger) -> list[Step]:
    """The steps that bring a stack up, in their order."""
    steps: list[Step] = [project.PrepareProject(spec, ledger)]
    if spec.postgres.embedded:
        steps += [postgres.CreateCluster(spec, ledger), postgres.StartServer(spec, ledger)]
    steps += [database.EnsureDatabase(spec, ledger, wanted) for wanted in spec.databases]
    if spec.engine is not None:
        steps += [
            engine.CreateKeys(spec, ledger),
            engine.Migrate(spec, ledger),
            engine.Seed(spec, ledger),
            engine.StartEngine(spec, ledger),
            token.EnsureToken(spec, ledger),
        ]
    elif ledger.process("engine"):
        steps.append(engine.StopEngine(ledger))
    return [*steps, dotenv.WriteDotenv(spec, ledger), smoke.Prove(spec, ledger)]


def removals(ledger: Ledger, *, purge: bool) -> list[Step]:
    """The steps that take back what receipts name: processes, and with `purge` everything else too."""
    steps: list[Step] = [engine.StopEngine(ledger)]
    local = ledger.recall("postgres").get("kind") == "local"
    if purge and local:
        steps += database.drops(ledger)
    steps.append(postgres.StopServer(ledger))
    if purge:
        steps += [dotenv.RestoreDotenv(ledger), postgres.RemoveCluster(ledger), project.RemoveState(ledger)]
    return steps
