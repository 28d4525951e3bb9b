"""How the engine's container reaches a PostgreSQL outside of Docker: asked from inside, before the engine starts."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from owlclaw_up.errors import DockerRefused, PostgresUnreachableFromContainer
from owlclaw_up.facts import Facts
from owlclaw_up.facts.containers import ENGINE
from owlclaw_up.host.base import on_this_machine
from owlclaw_up.model import Action, Change, Finding, unchanged
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import StackSpec
from owlclaw_up.steps.base import Applied, Run
from owlclaw_up.steps.compose import OF_PROJECT, ComposeStep
from owlclaw_up.steps.compose_env import BRIDGE, HOST, database_from_container

_SECONDS = 15.0
# psql's words when a server was reached that lets connections from there in, whatever it says of this one: the role and
# its database may not be there yet.
LET_IN = re.compile(
    r"password authentication failed|no password supplied|role \"[^\"]*\" does not exist|database \"[^\"]*\" does not exist"
)


@dataclass(frozen=True)
class _Answer:
    """What a container on one network was told."""

    network: str
    good: bool
    words: str


class ReachPostgres(ComposeStep):
    """Find the network by which a container reaches PostgreSQL: Docker's bridge, else this machine's own."""

    id = "postgres.reach"
    title = "Container to PostgreSQL"

    def __init__(self, spec: StackSpec, ledger: Ledger) -> None:
        super().__init__(spec, ledger, ENGINE)

    def _question(self) -> str:
        """What the kept answer is an answer to."""
        login = self.spec.login(self.spec.database("hatchet"))
        return f"{login.where} {self.compose.docker.address} {self.spec.postgres.bridge}"

    def check(self, facts: Facts) -> Change:
        kept = self.ledger.recall("engine")
        container = facts.containers.get(ENGINE)
        asked_before = kept.get("network") and kept.get("reach") == self._question()
        # One that runs and does not answer may have lost its way to the server meanwhile.
        answers = container is not None and container.running and facts.our_stack.engine_ready
        if self.compose.adopted or (asked_before and answers):
            return unchanged("by Docker's bridge" if self.network == BRIDGE else "by this machine's own network")
        return Change(Action.RUN, "asked from inside a container of the engine's image")

    def apply(self, run: Run) -> Applied:
        run.say("asking from inside two containers")
        # Both at once: each takes a container, and the second answer is needed wherever the first is no.
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(partial(self._ask, run), (BRIDGE, HOST)))
        network = next((answer.network for answer in answers if answer.good), "")
        if not network:
            raise self._unreachable(run, answers)
        self.ledger.keep("engine", network=network, reach=self._question())
        if network == BRIDGE:
            return Applied(Action.RUN, f"by {database_from_container(self.spec, BRIDGE).host}")
        ports = self.spec.ports
        exposed = ", ".join(str(p) for p in (ports.dashboard, ports.api, ports.frontend, ports.health))
        run.findings.append(
            Finding(
                "docker.host-network", "warn", f"the engine's ports {exposed} listen on every interface of this machine",
                f"{self.spec.postgres.admin.where} lets nobody in from Docker's bridge, so the container shares this "
                "machine's network; gRPC stays on loopback, the dashboard has a password",
                "a firewall; or have PostgreSQL listen on Docker's bridge too: docs/how-to/docker.md",
            )
        )  # fmt: skip
        return Applied(Action.RUN, "over this machine's own network: from Docker's bridge it lets nobody in")

    def _ask(self, run: Run, network: str) -> _Answer:
        login = database_from_container(self.spec, network)
        env = {
            "PGHOST": login.host, "PGPORT": str(login.port), "PGUSER": login.user, "PGDATABASE": login.database,
            "PGPASSWORD": login.password.reveal() if login.password else "", "PGCONNECT_TIMEOUT": "4", "LC_ALL": "C",
            "PGSSLMODE": dict(login.options).get("sslmode", "prefer"),
        }  # fmt: skip
        try:
            ran = self.docker(run).run(
                self.engine.image, ["psql", "-XAtqwc", "select 1"], env=env, network=network,
                labels={OF_PROJECT: self.compose.project}, timeout=run.deadline.left(_SECONDS),
            )  # fmt: skip
        except DockerRefused as refused:
            # A network that this engine cannot give is one by which nothing is reached.
            return _Answer(network, False, refused.detail)
        words = (ran.stderr or ran.stdout).strip() or f"exit code {ran.exit_code}"
        return _Answer(network, ran.exit_code == 0 or bool(LET_IN.search(words)), words)

    def _unreachable(self, run: Run, answers: list[_Answer]) -> PostgresUnreachableFromContainer:
        spec, docker = self.spec, self.compose.docker
        role, subnet = spec.database("hatchet").role, docker.subnet or "172.17.0.0/16"
        files = run.host.postgres.configuration_files(spec.postgres.admin)
        lines = []
        # A server that names its pg_hba.conf was reached: it listens there already.
        listens_there = any(a.network == BRIDGE and "pg_hba.conf" in a.words for a in answers)
        if on_this_machine(spec.postgres.admin.host) and not listens_there:
            listens = f"listen_addresses = 'localhost, {docker.gateway or '172.17.0.1'}'"
            lines.append(f"{files[0] or 'postgresql.conf'}:  {listens}")
        lines.append(f"{files[1] or 'pg_hba.conf'}:  host hatchet {role} {subnet} scram-sha-256")
        said = [f"network {a.network}: {a.words.splitlines()[-1]}" for a in answers]
        return PostgresUnreachableFromContainer(spec.postgres.admin.where, lines, said)
