"""The steps of a plan: one file per resource, each step beside its removal twin.

`build` lists what `up` does, in order; `removals` lists what `down` takes back, from receipts.
"""

from __future__ import annotations

import dataclasses

from owlclaw_up.facts.containers import DATABASE, ENGINE
from owlclaw_up.facts.stack import known_engines
from owlclaw_up.model import Mode
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import ContainerEngine, NativeEngine, RemoteLogin, SidecarEngine, StackSpec, engine_key
from owlclaw_up.steps import (
    containers,
    database,
    dotenv,
    engine,
    engine_stop,
    image_load,
    images,
    keys,
    postgres,
    project,
    reach,
    remote,
    sidecar,
    smoke,
    token,
    upgrade,
)
from owlclaw_up.steps.base import HatchetAdmin, Step, TokenMaker


def build(spec: StackSpec, ledger: Ledger) -> list[Step]:
    """The steps that bring a stack up, in their order; what another mode left running is stopped first."""
    steps: list[Step] = []
    if spec.compose and spec.compose.bundled:
        steps.append(image_load.LoadImages(spec.compose, ledger))
    steps += [images.PullImages(spec.compose, ledger)] if spec.compose else []
    steps += upgrade.version_steps(spec, ledger)
    if spec.compose and spec.postgres.kind == "local":
        # Found out before anything is made: a server that no container reaches is a precondition.
        steps.append(reach.ReachPostgres(spec, ledger))
    steps += [project.PrepareProject(spec, ledger), *_stops(spec, ledger)]
    if spec.postgres.embedded:
        steps += [postgres.CreateCluster(spec, ledger), postgres.StartServer(spec, ledger)]
    elif spec.postgres.kind == "container":
        steps += _container_server(spec, ledger)
    steps += [database.EnsureDatabase(spec.postgres, ledger, wanted) for wanted in spec.databases]
    if isinstance(spec.engine, NativeEngine):
        native = engine.NativeAdmin(spec, ledger)
        steps += [
            keys.CreateKeys(ledger, native),
            *upgrade.steps(spec, ledger),
            engine.Migrate(spec, ledger),
            engine.Seed(spec, ledger),
            *engine.start_steps(spec, ledger),
            token.EnsureToken(spec, ledger, native),
        ]
    elif isinstance(spec.engine, SidecarEngine):
        steps += [
            *upgrade.steps(spec, ledger),
            sidecar.StartSidecar(spec, ledger),
            token.EnsureToken(spec, ledger, sidecar.SidecarTokens(spec, ledger)),
        ]
    elif isinstance(spec.engine, ContainerEngine):
        steps += _container_engine(spec, ledger)
    elif spec.remote:
        steps += remote.steps(spec, ledger)
    newer = [step for step in steps if isinstance(step, token.EnsureToken)]
    proved = dataclasses.replace(spec, smoke_again=spec.smoke_again or upgrade.is_due(spec, ledger))
    steps += [dotenv.WriteDotenv(spec, ledger), smoke.Prove(proved, ledger)]
    if ledger.vault.token or ledger.receipts("token"):
        steps += [token.RevokeTokens(spec, ledger, step.admin, step) for step in newer]
    if spec.remote and spec.remote.login:
        steps.append(remote.RevokeRemoteTokens(ledger, spec.remote.login, but_kept=True))
    return steps


def rotation(spec: StackSpec, ledger: Ledger, *, keep_old: bool) -> list[Step]:
    """The steps that put a new token in the place of the kept one; at every moment between them the dotenv file has a good one.

    Args:
        keep_old: leave the one before it alone.
    """
    if spec.remote:
        return remote.rotation(spec, ledger, spec.remote, keep_old=keep_old)
    admin = _token_maker(spec, ledger)
    newer = token.RotateToken(spec, ledger, admin, keep_old=keep_old)
    steps: list[Step] = [newer, dotenv.WriteDotenv(spec, ledger), token.ProveToken(spec, ledger, admin)]
    return steps if keep_old else [*steps, token.RevokeTokens(spec, ledger, admin, newer, all_earlier=True)]


def _token_maker(spec: StackSpec, ledger: Ledger) -> TokenMaker:
    if isinstance(spec.engine, SidecarEngine):
        return sidecar.SidecarTokens(spec, ledger)
    native = isinstance(spec.engine, NativeEngine)
    return engine.NativeAdmin(spec, ledger) if native else containers.ContainerAdmin(spec, ledger)


def _container_server(spec: StackSpec, ledger: Ledger) -> list[Step]:
    """The PostgreSQL container; the keys, and a first engine's container, come while it initialises itself."""
    assert spec.compose is not None
    beside: list[Step] = []
    if not spec.compose.adopted:
        # A stack lifted by hand keeps the keys of its own volume: its tokens hang on them.
        admin = containers.ContainerAdmin(spec, ledger)
        beside = [keys.CreateKeys(ledger, admin), containers.LiftEngine(spec, ledger)]
    return [containers.LiftDatabase(spec, ledger), *beside, containers.AwaitDatabase(spec, ledger)]


def _container_engine(spec: StackSpec, ledger: Ledger) -> list[Step]:
    assert spec.compose is not None
    admin: HatchetAdmin = containers.ContainerAdmin(spec, ledger)
    steps: list[Step] = []
    if spec.postgres.embedded:
        steps.append(reach.ReachPostgres(spec, ledger))
    if spec.postgres.kind != "container":
        steps.append(keys.CreateKeys(ledger, admin))
    steps += upgrade.steps(spec, ledger)
    return [*steps, containers.StartContainerEngine(spec, ledger), token.EnsureToken(spec, ledger, admin)]


def _stops(spec: StackSpec, ledger: Ledger) -> list[Step]:
    """Steps that stop what ran for another mode and would be in this one's way."""
    steps: list[Step] = []
    fellows = spec.engine.fellows if isinstance(spec.engine, NativeEngine) else ()
    wanted = 1 + len(fellows) if isinstance(spec.engine, (NativeEngine, SidecarEngine)) else 0
    surplus = [n for n in reversed(known_engines(ledger)) if n > wanted]
    steps += [
        engine_stop.StopEngine(ledger, number)
        for number in surplus
        if ledger.process(engine_key(number)) or ledger.receipts("process", name=engine_key(number))
    ]
    if not spec.postgres.embedded and ledger.process("postgres"):
        steps.append(postgres.StopServer(ledger))
    if ledger.recall("compose"):
        idle = [] if spec.compose else [ENGINE]
        idle += [] if spec.postgres.kind == "container" else [DATABASE]
        if idle:
            steps.append(containers.StopContainers(ledger, idle))
    if ledger.state.mode == Mode.REMOTE.value and not spec.remote:
        steps.append(remote.LeaveRemote(ledger))
    return steps


def removals(ledger: Ledger, *, purge: bool, login: RemoteLogin | None = None) -> list[Step]:
    """The steps that take back what receipts name: processes and containers, and with `purge` everything else too.

    Args:
        login: of a Hatchet server elsewhere, to revoke the tokens that we made there.
    """
    steps: list[Step] = [*token.revocations(ledger), *remote.revocations(ledger, login)] if purge else []
    steps += [engine_stop.StopEngine(ledger, number) for number in reversed(known_engines(ledger))]
    if ledger.recall("compose"):
        steps.append(containers.StopContainers(ledger, doomed=purge))
    local = ledger.recall("postgres").get("kind") == "local"
    if purge and local:
        steps += database.drops(ledger)
    steps.append(postgres.StopServer(ledger))
    if purge and ledger.recall("compose"):
        steps.append(containers.RemoveContainers(ledger))
    if purge:
        steps += [dotenv.RestoreDotenv(ledger), postgres.RemoveCluster(ledger), project.RemoveState(ledger)]
    return steps
