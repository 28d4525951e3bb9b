"""An engine of another version on the same database: a dump before it migrates, and the way back when it fails.

A killed upgrade goes on at the next run. The dump is put back only while no engine of the new version can have served on the
database since, or by the very command that started it: nothing newer is ever lost.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from owlclaw_up.errors import ApplyFailed, UpError
from owlclaw_up.facts import Facts
from owlclaw_up.facts.containers import ENGINE
from owlclaw_up.facts.stack import known_engines
from owlclaw_up.host.engines import cached, inspect
from owlclaw_up.host.sidecars import named, of_release
from owlclaw_up.model import Action, Change, Secret, found, unchanged
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import (
    HATCHET_DATABASE,
    ContainerEngine,
    EngineBinaries,
    EngineSpec,
    NativeEngine,
    Sidecar,
    SidecarEngine,
    StackSpec,
)
from owlclaw_up.steps.base import Applied, Run, Step
from owlclaw_up.steps.compose import OF_PROJECT, ComposeStep, container_name
from owlclaw_up.steps.containers import StartContainerEngine
from owlclaw_up.steps.dotenv import WriteDotenv
from owlclaw_up.steps.dumps import Kept, keep_dump, restore_dump, tools_for
from owlclaw_up.steps.engine import start_steps
from owlclaw_up.steps.engine_stop import StopEngine
from owlclaw_up.steps.sidecar import StartSidecar
from owlclaw_up.upgrade_record import (
    DUMPED,
    DUMPING,
    RESTORING,
    SERVING,
    OpenUpgrade,
    left_by,
    open_upgrade,
    refuse_older,
    server_key,
)

_GRACE_SECONDS = 30
_VERSION_SECONDS = 20.0


class KnowEngineImage(ComposeStep):
    """Know which version the engine's image has, before anything is changed for it; an older one is refused."""

    id = "engine.version"
    title = "Engine version"

    def __init__(self, spec: StackSpec, ledger: Ledger) -> None:
        super().__init__(spec, ledger, ENGINE)

    def check(self, facts: Facts) -> Change:
        docker = found(facts.docker)
        image = docker.images.get(self.engine.image) if docker else None
        kept = self.ledger.recall("engine_image")
        if image is not None and kept.get("id") == image.id:
            return unchanged(f"{kept['version']}, of {self.engine.image}")
        return Change(Action.RUN, f"asked of {self.engine.image}")

    def apply(self, run: Run) -> Applied:
        docker = self.docker(run)
        image = docker.image(self.engine.image)
        assert image is not None, "PullImages comes first"
        kept = self.ledger.recall("engine_image")
        version = str(kept.get("version") or "") if kept.get("id") == image.id else ""
        if not version:
            ran = docker.run(
                self.engine.image, ["/hatchet-lite", "--version"], env={}, network="none",
                labels={OF_PROJECT: self.compose.project}, timeout=run.deadline.left(_VERSION_SECONDS),
            )  # fmt: skip
            version = ran.stdout.strip().splitlines()[-1].strip() if ran.stdout.strip() else ""
        refuse_older(self.ledger, self.spec.postgres, version, self.engine.image, None)
        self.ledger.remember("engine_image", id=image.id, version=version)
        return Applied(Action.RUN, f"{version or 'it says none'}, of {self.engine.image}")


class BeginUpgrade:
    """Stop the old engine and dump its database, before a new one migrates it."""

    id = "engine.upgrade"
    title = "Engine upgrade"

    def __init__(self, spec: StackSpec, ledger: Ledger) -> None:
        self.spec, self.ledger = spec, ledger

    def _to(self) -> str:
        """The version to come; for an image, once it is known."""
        engine = self.spec.engine
        if isinstance(engine, EngineSpec) and not isinstance(engine, ContainerEngine):
            # Of a sidecar that does not say its release, nothing is known before it has migrated.
            return engine.version or left_by(self.ledger, self.spec.postgres)
        return str(self.ledger.recall("engine_image").get("version") or "")

    def check(self, facts: Facts) -> Change:
        before, to, begun = left_by(self.ledger, self.spec.postgres), self._to(), self._open()
        if isinstance(self.spec.engine, ContainerEngine):
            docker = found(facts.docker)
            image = docker.images.get(self.spec.engine.image) if docker else None
            if image is None or self.ledger.recall("engine_image").get("id") != image.id:
                return Change(Action.RUN, f"from {before}, where the image is of another version")
        if begun is not None:
            return Change(
                Action.UPDATE, f"from {begun.before} to {to}", f"it had begun, and got as far as {begun.phase!r}"
            )
        if to == before:
            return unchanged(f"none: the database is of {before}")
        return Change(Action.UPDATE, f"from {before} to {to}", "its database is dumped first", (".owlclaw-up/dumps/",))

    def _open(self) -> OpenUpgrade | None:
        return open_upgrade(self.ledger, self.spec.postgres)

    def apply(self, run: Run) -> Applied:
        spec, ledger = self.spec, self.ledger
        before, to, begun = left_by(ledger, spec.postgres), self._to(), self._open()
        if begun is None and to == before:
            return Applied(Action.UNCHANGED, f"none: the database is of {before}")
        if begun is not None and begun.phase == SERVING and to == begun.to:
            return Applied(Action.UPDATE, f"goes on from {begun.before} to {to}, which may have served already")
        # Without tools for a dump nothing is stopped.
        tools_for(run, ledger, spec.postgres)
        run.say("stopping the engine")
        stop_engine(run, spec, ledger)
        back = begun is not None and (begun.phase == RESTORING or (begun.phase == DUMPED and begun.before == to))
        if begun is not None and back:
            put_back(run, spec, ledger, begun)
            if begun.before == to:
                return Applied(Action.UPDATE, f"the one to {begun.to} is taken back, {to} goes on")
            begun = None
        if begun is not None and begun.phase == DUMPED:
            # Its dump is the way back; one of a database that is migrated half-way would be none.
            ledger.remember("upgrade", to=to, run=ledger.run)
            return Applied(Action.UPDATE, f"goes on from {begun.before} to {to}, with {Path(begun.dump).name}")
        before = left_by(ledger, spec.postgres)
        return Applied(Action.UPDATE, f"from {before} to {to}, {self._dump(run, before, to).name}")

    def _dump(self, run: Run, before: str, to: str) -> Path:
        spec, ledger = self.spec, self.ledger
        login = spec.login(spec.database(HATCHET_DATABASE))
        migration = run.host.postgres.migration_version(login)
        kept, sidecar = ledger.recall("engine"), ledger.recall("sidecar")
        ledger.state.data["upgrade"] = {}
        ledger.remember(
            "upgrade", server=server_key(spec.postgres), before=before, to=to, phase=DUMPING, run=ledger.run,
            migration=migration, directory=str(kept.get("directory") or ""), image=str(kept.get("image_id") or ""),
            sidecar=str(sidecar.get("binary") or ""), checksum=str(sidecar.get("checksum") or ""),
        )  # fmt: skip
        wanted = Kept(spec.postgres, login, f"{before}-to-{to}")
        path = keep_dump(run, ledger, wanted, engine=before, migration=migration)
        ledger.remember("upgrade", phase=DUMPED, dump=str(path))
        return path


class TakeBack:
    """Put the database of before an upgrade back, and have the old engine running on it again.

    Args:
        token: the API token of before.
    """

    id = "engine.back"
    title = "Upgrade taken back"

    def __init__(self, spec: StackSpec, ledger: Ledger, begun: OpenUpgrade, token: str) -> None:
        self.spec, self.ledger, self.begun, self._token = spec, ledger, begun, Secret(token)

    def check(self, facts: Facts) -> Change:
        return Change(Action.UPDATE, f"to {self.begun.before}")

    def apply(self, run: Run) -> Applied:
        run.say("stopping the new engine")
        stop_engine(run, self.spec, self.ledger)
        if self.begun.phase == DUMPING:
            end_upgrade(self.ledger)
        else:
            put_back(run, self.spec, self.ledger, self.begun)
        if self.ledger.vault.token != self._token.reveal():
            # The new one is in a database that is gone.
            self.ledger.vault.token = self._token.reveal()
            self.ledger.save_secrets()
            WriteDotenv(self.spec, self.ledger).apply(run)
        old = self._old(run)
        if old is None:
            return Applied(
                Action.UPDATE,
                f"the database is of {self.begun.before} again; that engine is not at hand any more, so none runs",
            )
        start_engine(run, dataclasses.replace(self.spec, engine=old), self.ledger)
        return Applied(Action.UPDATE, f"{self.begun.before} runs again, on its database of before")

    def _old(self, run: Run) -> NativeEngine | SidecarEngine | ContainerEngine | None:
        """The engine of before, where it still is, or in the user's cache."""
        engine = self.spec.engine
        if isinstance(engine, ContainerEngine):
            docker = run.host.docker(self.spec.compose.docker.address) if self.spec.compose else None
            there = docker is not None and self.begun.image and docker.image(self.begun.image) is not None
            return dataclasses.replace(engine, image=self.begun.image) if there else None
        assert isinstance(engine, (NativeEngine, SidecarEngine))
        told = {field.name: getattr(engine, field.name) for field in dataclasses.fields(EngineSpec)}
        if not self.begun.directory:
            # It was a sidecar: only those have no folder of binaries.
            before, program = self.begun.before, self.begun.sidecar
            back = (
                named(Path(program), before, self.begun.checksum, "before the upgrade")
                if program
                else of_release(before, "", run.host.environ, offline=True)
            )
            return SidecarEngine(**told, sidecar=back) if isinstance(back, Sidecar) else None
        looked = [inspect(Path(self.begun.directory), "before the upgrade", run.host.processes)]
        for one in [*looked, *cached(run.host.processes)]:
            if isinstance(one, EngineBinaries) and one.version == self.begun.before:
                fellows = engine.fellows if isinstance(engine, NativeEngine) else ()
                return NativeEngine(**told, binaries=one, fellows=fellows)
        return None


def is_due(spec: StackSpec, ledger: Ledger) -> bool:
    """Whether an engine of another version than the database's is to start, as far as that is known before any step."""
    before = left_by(ledger, spec.postgres)
    to = (spec.engine.version if isinstance(spec.engine, EngineSpec) else "") or before
    return open_upgrade(ledger, spec.postgres) is not None or bool(before and before != to)


def steps(spec: StackSpec, ledger: Ledger) -> list[Step]:
    """The step of an upgrade, where one may be due: for a container that is known only once its image is here."""
    if spec.compose is not None and spec.compose.adopted:
        return []
    possible = isinstance(spec.engine, ContainerEngine) and left_by(ledger, spec.postgres)
    return [BeginUpgrade(spec, ledger)] if possible or is_due(spec, ledger) else []


def version_steps(spec: StackSpec, ledger: Ledger) -> list[Step]:
    """What must be known of an engine's image before anything is changed."""
    known = isinstance(spec.engine, ContainerEngine) and spec.compose is not None and not spec.compose.adopted
    return [KnowEngineImage(spec, ledger)] if known and left_by(ledger, spec.postgres) else []


def way_back(spec: StackSpec, ledger: Ledger, token: str) -> TakeBack | None:
    """The step that undoes an upgrade that this command has begun, or gone on with; none where that could lose something.

    Args:
        token: the API token of before.
    """
    begun = open_upgrade(ledger, spec.postgres)
    if begun is None or begun.run != ledger.run:
        # Not reached by this command, or an earlier one's new engine may have served.
        return None
    if begun.phase != DUMPING and not Path(begun.dump).is_file():
        return None
    return TakeBack(spec, ledger, begun, token)


def end_upgrade(ledger: Ledger) -> None:
    """The new engine is proved: there is nothing to go back to any more. The dump stays among the last few."""
    if ledger.state.data.pop("upgrade", None):
        ledger.save()


def put_back(run: Run, spec: StackSpec, ledger: Ledger, begun: OpenUpgrade) -> None:
    """Put the dump in the database's place; nothing serves on it.

    Raises:
        ApplyFailed: it could not be done; the next run tries again.
    """
    login = spec.login(spec.database(HATCHET_DATABASE))
    ledger.remember("upgrade", phase=RESTORING, run=ledger.run)
    try:
        restore_dump(run, ledger, spec.postgres, login, Path(begun.dump))
    except UpError as error:
        raise ApplyFailed(
            "engine-upgrade-stuck",
            f"the database of before the upgrade could not be put back: {error.message}",
            hint=f"owlclaw-up (it tries again); by hand: owlclaw-up db restore {begun.dump}",
            detail=error.detail,
        ) from None
    ledger.state.data.pop("upgrade", None)
    ledger.remember(
        "engine", migrated_by=begun.before, migration=begun.migration, migrated_on=server_key(spec.postgres)
    )  # fmt: skip


def stop_engine(run: Run, spec: StackSpec, ledger: Ledger) -> None:
    """Stop whatever engine of this project runs."""
    for number in reversed(known_engines(ledger)):
        StopEngine(ledger, number).apply(run)
    if spec.compose is not None:
        docker = run.host.docker(spec.compose.docker.address)
        container = docker.container(container_name(spec.compose.project, ENGINE))
        if container is not None and container.active:
            docker.stop(container.id, timeout=_GRACE_SECONDS)


def start_engine(run: Run, spec: StackSpec, ledger: Ledger) -> None:
    """Start the engine of a spec, until it answers."""
    steps: list[Step] = [StartContainerEngine(spec, ledger)] if isinstance(spec.engine, ContainerEngine) else []
    steps += start_steps(spec, ledger) if isinstance(spec.engine, NativeEngine) else []
    steps += [StartSidecar(spec, ledger)] if isinstance(spec.engine, SidecarEngine) else []
    for step in steps:
        step.apply(run)
