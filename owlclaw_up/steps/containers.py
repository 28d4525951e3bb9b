"""The containers of a compose stack: PostgreSQL, the engine with its admin tool; stopping and removing them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial

from owlclaw_up.errors import ApplyFailed, PreconditionError, UpError
from owlclaw_up.facts import Facts
from owlclaw_up.facts.containers import DATABASE, ENGINE
from owlclaw_up.host.base import wait_until
from owlclaw_up.host.docker_base import ContainerLook
from owlclaw_up.model import Absent, Action, Change, Unknown, found, unchanged
from owlclaw_up.receipts import Ledger, now_text
from owlclaw_up.spec import HATCHET_DATABASE, StackSpec
from owlclaw_up.steps.base import Applied, Run
from owlclaw_up.steps.compose import OF_PROJECT, ComposeStep, container_name, end_leftovers
from owlclaw_up.steps.compose_env import HOST, fingerprint
from owlclaw_up.steps.engine_env import token_arguments
from owlclaw_up.steps.engine_process import engine_failure
from owlclaw_up.steps.ghost import clear_ghost
from owlclaw_up.upgrade_record import mark_serving, server_key

_TOKEN_SECONDS = 20.0
# As `stop_grace_period` of the compose files.
_GRACE_SECONDS = 30
_DOOMED_SECONDS = 2


class _DatabaseStep(ComposeStep):
    """What the steps of the PostgreSQL container share."""

    title = "PostgreSQL"

    def __init__(self, spec: StackSpec, ledger: Ledger) -> None:
        super().__init__(spec, ledger, DATABASE)

    def runs_as_wanted(self, facts: Facts) -> bool:
        container = facts.containers.get(DATABASE)
        return container is not None and container.running and self.as_wanted(container)

    def as_wanted(self, container: ContainerLook) -> bool:
        if self.compose.adopted:
            return True
        wanted = (self.compose.images["postgres"], self.spec.ports.postgres)
        return (container.image, container.ports.get(5432)) == wanted and not container.exposed


class LiftDatabase(_DatabaseStep):
    """Have the PostgreSQL container started; while it initialises itself, other steps go on."""

    id = "postgres.container"
    title = "PostgreSQL container"

    def check(self, facts: Facts) -> Change:
        container = facts.containers.get(DATABASE)
        port, image = self.spec.ports.postgres, self.compose.images["postgres"]
        on_record = self.compose.adopted or self.ledger.receipts("container", name=self.name)
        if container is not None and self.runs_as_wanted(facts) and on_record:
            return unchanged(f"container {container.name} of {image}")
        if container is not None and not self.as_wanted(container):
            return Change(Action.UPDATE, f"container of {image} on 127.0.0.1:{port}", "it has other settings")
        if container is not None and container.running:
            return Change(Action.RUN, f"container {container.name}, which nothing here has on record")
        if container is not None:
            return Change(Action.UPDATE, f"container {container.name}", f"it is {container.state}")
        docker = found(facts.docker)
        volume = database_volume(self.compose.project)
        kept = f"on volume {volume}, which is there already" if docker and volume in docker.volumes else ""
        return Change(
            Action.CREATE, f"container of {image} on 127.0.0.1:{port}", kept,
            touches=(f"port {port}", f"volume {volume}"),
        )  # fmt: skip

    def apply(self, run: Run) -> Applied:
        before = self.docker(run).container(self.name)
        if before is not None and before.active and not before.running:
            # Compose starts nothing that is paused.
            self.docker(run).stop(before.id, timeout=10)
        run.say(f"starting a container of {self.compose.images['postgres']}")
        container = self.lift(run)
        return Applied(Action.UPDATE if before else Action.CREATE, f"{container.name} started")


class AwaitDatabase(_DatabaseStep):
    """Have the PostgreSQL container answering SQL on its published port."""

    id = "postgres.server"

    def check(self, facts: Facts) -> Change:
        if self.runs_as_wanted(facts) and found(facts.our_stack.on_server.server) is not None:
            return unchanged(f"answers on port {self.spec.ports.postgres}")
        return Change(Action.RUN, f"until it answers on 127.0.0.1:{self.spec.ports.postgres}")

    def apply(self, run: Run) -> Applied:
        tail, dead = self.watch_container(run, self.name)
        admin = self.spec.postgres.admin

        def answers() -> tuple[bool | None, str]:
            refusal = run.host.postgres.login_works(admin)
            if refusal is not None and refusal.kind == "login":
                raise self._other_password(refusal.detail)
            return (True, "ready") if refusal is None else (None, refusal.detail)

        run.say("waiting for it to answer")
        wait_until("PostgreSQL answering", answers, deadline=run.deadline, dead=dead, log_tail=tail)
        return Applied(Action.RUN, f"answers on 127.0.0.1:{self.spec.ports.postgres}, container {self.name}")

    def _other_password(self, words: str) -> ApplyFailed:
        """A server that is up refuses the password it was made with: then it was not made with that one."""
        volume = database_volume(self.compose.project)
        return ApplyFailed(
            "volume-password",
            f"volume {volume} holds a PostgreSQL that was made earlier, with another password than is kept here",
            hint=(
                f"bring {self.ledger.secrets_path} of that time back; or give the data up: owlclaw-up reset "
                f"(it removes volume {volume})"
            ),
            detail=words,
        )


class _ContainerEngineStep(ComposeStep):
    """What the steps of the engine's container share."""

    def __init__(self, spec: StackSpec, ledger: Ledger) -> None:
        super().__init__(spec, ledger, ENGINE)

    def remember(self, container: ContainerLook, **more: object) -> None:
        """Keep which container is the engine, and what it was told."""
        self.ledger.remember(
            "engine", container=container.id, image=self.engine.image,
            fingerprint=fingerprint(self.values()), pid=None, started=None, tenant=self.engine.tenant, **more,
        )  # fmt: skip


class LiftEngine(_ContainerEngineStep):
    """Have a first engine's container started beside a PostgreSQL that initialises itself: it waits for that by itself.

    Only a first one: what a predecessor left in the database must be cleared between the two.
    """

    id = "engine.container"
    title = "Engine container"

    def check(self, facts: Facts) -> Change:
        docker = found(facts.docker)
        if ENGINE in facts.containers:
            return unchanged("is there")
        if docker is None or database_volume(self.compose.project) in docker.volumes:
            return unchanged("started once PostgreSQL answers")
        return Change(Action.CREATE, f"container of {self.engine.image}, beside PostgreSQL's")

    def apply(self, run: Run) -> Applied:
        run.say(f"starting a container of {self.engine.image}")
        container = self.lift(run)
        self.remember(container, lifted_in=self.ledger.run)
        return Applied(Action.CREATE, f"{container.name} started, waits for PostgreSQL")


class StartContainerEngine(_ContainerEngineStep):
    """Have the engine's container running and answering: it migrates, seeds, and serves."""

    id = "engine.server"
    title = "Hatchet engine"

    def check(self, facts: Facts) -> Change:
        container, kept = facts.containers.get(ENGINE), self.ledger.recall("engine")
        same = self.compose.adopted or self._same(container)
        if container is not None and container.running and facts.our_stack.engine_ready and same:
            return unchanged(f"{kept.get('version')} answers, container {container.name}")
        ports = self.spec.ports
        what = f"container of {self.engine.image}, dashboard on {ports.dashboard}, gRPC on {ports.grpc}"
        touches = (f"port {ports.dashboard}", f"port {ports.grpc}")
        if container is None:
            return Change(Action.CREATE, what, touches=touches)
        if not container.running:
            return Change(Action.UPDATE, what, f"it is {container.state}", touches)
        if self.compose.adopted and not kept:
            return Change(Action.RUN, f"take over container {container.name}, lifted by hand")
        return Change(Action.UPDATE, what, facts.our_stack.engine_answers if same else "it has other settings", touches)

    def _same(self, container: ContainerLook | None) -> bool:
        kept = self.ledger.recall("engine")
        return (
            container is not None
            and kept.get("container") == container.id
            and kept.get("fingerprint") == fingerprint(self.values())
            and not container.exposed
        )

    def apply(self, run: Run) -> Applied:
        docker = self.docker(run)
        before = docker.container(self.name)
        keeps_running = before is not None and before.running and (self.compose.adopted or self._same(before))
        cleared = 0
        if not keeps_running:
            if before is not None and before.active:
                # It goes anyway; its rows in the database can only be cleared once it is dead.
                docker.stop(before.id, timeout=10)
            run.say("looking for what its predecessor left")
            kept = self.ledger.recall("engine")
            cleared = clear_ghost(run, self.spec, self.ledger, known=bool(kept.get("started_at") or before))
            run.say(f"starting a container of {self.engine.image}")
            # It migrates by itself, and serves at once.
            mark_serving(self.ledger, self.spec.postgres)
        container = before if keeps_running and before is not None else self.lift(run)
        self._wait(run, container)
        version = self._version(run)
        fresh = self.ledger.recall("engine").get("lifted_in") == self.ledger.run
        since = container.started_at if keeps_running and not fresh else now_text(run.host.clock)
        self.remember(container, version=version, started_at=since, **self._migrated(run, version))
        self.ledger.vault.passwords["dashboard"] = self.engine.admin_password.reveal()
        self.ledger.save_secrets()
        made = Action.UPDATE if before and not fresh else Action.CREATE
        action = Action.UNCHANGED if keeps_running and not fresh else made
        detail = f"{version} ready, container {container.name}" + (
            ", on this machine's network" if self.network == HOST else ""
        )
        return Applied(action, detail + (", its predecessor's leases cleared" if cleared else ""))

    def _migrated(self, run: Run, version: str) -> dict[str, object]:
        """What the database is now, for the upgrade to come."""
        image = self.docker(run).image(self.engine.image)
        if image is not None:
            self.ledger.keep("engine_image", id=image.id, version=version)
        migration = run.host.postgres.migration_version(self.spec.login(self.spec.database(HATCHET_DATABASE)))
        return {
            "migrated_by": version, "migration": migration, "migrated_on": server_key(self.spec.postgres),
            "image_id": image.id if image else None,
        }  # fmt: skip

    def _wait(self, run: Run, container: ContainerLook) -> None:
        """Ready: /api/ready with an empty body that is no page. It asks the database and the queue; gRPC is proved with the
        token, since Docker accepts connections for a port that nobody listens on yet.
        """
        tail, dead = self.watch_container(run, container.name)

        def api() -> tuple[bool | None, str]:
            answer = run.host.hatchet.get(self.spec.ports.dashboard, "/api/ready")
            good = answer is not None and answer[0] == 200 and "html" not in answer[1]
            return (True, "") if good else (None, f"/api/ready says {answer[0] if answer else 'nothing'}")

        run.say("migrating, seeding, starting")
        wait_until("the engine's API", api, deadline=run.deadline, dead=dead, log_tail=tail)

    def _version(self, run: Run) -> str:
        answer = run.host.hatchet.get(self.spec.ports.dashboard, "/api/v1/version")
        try:
            return str(json.loads(answer[2])["version"]) if answer else ""
        except (ValueError, KeyError, TypeError):
            return ""


class ContainerAdmin(ComposeStep):
    """`HatchetAdmin` by the tool in the engine's image: in a container of its own for the keysets, by exec for tokens."""

    def __init__(self, spec: StackSpec, ledger: Ledger) -> None:
        super().__init__(spec, ledger, ENGINE)

    @property
    def about(self) -> str:
        return f"docker exec {self.name} /hatchet-admin --help"

    @property
    def may_begin(self) -> bool:
        return True

    @property
    def token_routes(self) -> Sequence[tuple[str, Callable[[Run, str], str]]]:
        return (
            ("hatchet-admin token create", self._token_by_exec),
            ("REST login", self._token_by_login),
        )

    def create_keysets(self, run: Run) -> list[str]:
        ran = self.docker(run).run(
            self.engine.image, ["/hatchet-admin", "keyset", "create-local-keys"],
            env={}, network="none", labels={OF_PROJECT: self.compose.project}, timeout=run.deadline.left(60),
        )  # fmt: skip
        if ran.exit_code:
            raise engine_failure("hatchet-admin keyset create-local-keys", ran, run.deadline.left(60))
        # Pairs of a label and a value; the fourth is the public keyset in clear, which nobody needs.
        return [line.strip() for line in ran.stdout.splitlines()][1:6:2]

    def watch(self, run: Run) -> tuple[Callable[[], str], Callable[[], None]]:
        return self.watch_container(run, self.name)

    def _token_by_exec(self, run: Run, name: str) -> str:
        # Half of the time that is left is the other route's.
        limit = min(_TOKEN_SECONDS, run.deadline.left() / 2)
        arguments = token_arguments(self.spec, self.engine, name)
        ran = self.docker(run).execute(self.name, ["/hatchet-admin", *arguments, "--config", "/config"], limit)
        if ran.exit_code:
            raise engine_failure("hatchet-admin token create", ran, limit)
        return ran.stdout

    def _token_by_login(self, run: Run, name: str) -> str:
        run.say("by REST, as the dashboard's admin")
        return run.host.hatchet.token_by_login(
            self.spec.ports.dashboard, self.engine.admin_email, self.engine.admin_password, self.engine.tenant, name,
            self.spec.token_lifetime_hours,
        ).reveal()  # fmt: skip


class StopContainers:
    """Stop our containers; they and their data stay. Those of a stack lifted by hand run on, unless `up` started them.

    Args:
        services: which of them.
        doomed: they and their data are removed next.
    """

    id = "containers"
    title = "Containers"

    def __init__(
        self, ledger: Ledger, services: Sequence[str] = (ENGINE, DATABASE), *, doomed: bool = False
    ) -> None:  # fmt: skip
        self.ledger, self.services, self.doomed = ledger, services, doomed

    def _running(self, facts: Facts) -> list[str]:
        return [
            s for s in self.services if s in facts.containers and facts.containers[s].state not in ("exited", "created")
        ]

    def check(self, facts: Facts) -> Change:
        kept = self.ledger.recall("compose")
        if not kept:
            return unchanged("none of ours")
        if isinstance(facts.docker, (Absent, Unknown)):
            return unchanged(f"Docker does not answer, so none of ours runs ({facts.docker.why})")
        running = self._running(facts)
        if kept.get("adopted"):
            by_hand = [s for s in running if not self.ledger.receipts("started", service=s)]
            running = [s for s in running if s not in by_hand]
            if by_hand and not running:
                command = f"docker compose -p {kept['project']} -f {kept['file']} down"
                return unchanged("lifted by hand, and left running", f"to stop it: {command}")
        if not running:
            return unchanged("none runs")
        return Change(Action.REMOVE, f"stop {' and '.join(running)}")

    def apply(self, run: Run) -> Applied:
        begun = run.host.clock.monotonic()
        docker = run.host.docker(self.ledger.recall("compose")["address"])
        # By the engine itself: no compose file has to be there for it, and services of another mode's file stop too.
        end_leftovers(run, self.ledger)
        there = docker.containers(self.ledger.recall("compose")["project"])
        adopted = bool(self.ledger.recall("compose").get("adopted"))
        for service in self.services:
            if service in there and (not adopted or self.ledger.receipts("started", service=service)):
                # A PostgreSQL that initialises itself hears no signal; where its data goes too, nobody waits for it.
                grace = _DOOMED_SECONDS if self.doomed and not adopted else _GRACE_SECONDS
                docker.stop(there[service].id, timeout=grace)
                self.ledger.forget("started", service=service)
        return Applied(Action.REMOVE, f"stopped in {run.host.clock.monotonic() - begun:.1f} s")


class RemoveContainers:
    """Remove the containers, volumes and networks that receipts name."""

    id = "containers.data"
    title = "Containers' data"

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def _names(self, kind: str) -> list[str]:
        return [r.identity["name"] for r in self.ledger.receipts(kind)]

    def check(self, facts: Facts) -> Change:
        volumes = self._names("volume")
        if not (volumes or self._names("container")):
            return unchanged("none of ours")
        return Change(Action.REMOVE, f"our containers, and volumes {', '.join(volumes)}", touches=tuple(volumes))

    def apply(self, run: Run) -> Applied:
        kept = self.ledger.recall("compose")
        docker, project = run.host.docker(kept["address"]), kept["project"]
        end_leftovers(run, self.ledger)
        try:
            there: dict[str, dict[str, Callable[[], None]]] = {
                "container": {
                    c.name: partial(docker.remove_container, c.id) for c in docker.containers(project).values()
                },
                "volume": {name: partial(docker.remove_volume, name) for name in docker.volumes(project)},
                "network": {name: partial(docker.remove_network, name) for name in docker.networks(project)},
            }
        except UpError as refused:
            raise PreconditionError(
                f"Docker does not answer at {kept['address']}, and holds containers and volumes of ours",
                hint="start it, then: owlclaw-up down --purge",
                detail=refused.message,
            ) from None
        gone = 0
        for left in docker.labelled(f"{OF_PROJECT}={project}"):
            # A one-off container of a command that was killed.
            docker.remove_container(left.id)
        for kind, removals in there.items():
            names = self._names(kind)
            if kind == "container" and not kept.get("adopted"):
                # One of an earlier state, which was lost, holds on to volumes that are ours.
                names += [container_name(project, service) for service in (DATABASE, ENGINE)]
            for name in dict.fromkeys(names):
                if name in removals:
                    removals[name]()
                    gone += 1
                self.ledger.forget(kind, name=name)
        return Applied(Action.REMOVE, f"{gone} removed")


def database_volume(project: str) -> str:
    """Name of the volume that has PostgreSQL's data."""
    return f"{project}_owlclaw-db-data"
