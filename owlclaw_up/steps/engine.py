"""The native Hatchet engine: its admin tool, migration, seed, the process; and stopping it."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from owlclaw_up.errors import ApplyFailed, ProcessDied
from owlclaw_up.facts import Facts
from owlclaw_up.facts.machine import port_range
from owlclaw_up.facts.stack import known_engines, running_engine
from owlclaw_up.host.base import ProcessId, Ran, wait_until
from owlclaw_up.host.ports import answers_tcp, look_at_port
from owlclaw_up.model import Action, Change, unchanged
from owlclaw_up.receipts import Ledger, now_text
from owlclaw_up.spec import HATCHET_DATABASE, HEADLESS_PAGE, Fellow, NativeEngine, Ports, StackSpec
from owlclaw_up.steps.base import Applied, Run
from owlclaw_up.steps.engine_env import engine_env, fingerprint, token_arguments
from owlclaw_up.steps.engine_process import STARTING, EngineProcess, engine_failure
from owlclaw_up.steps.engine_stop import end_leftovers, names, stop_process
from owlclaw_up.steps.ghost import clear_ghost
from owlclaw_up.upgrade_record import mark_serving, server_key

_MIGRATE_SECONDS = 600.0
_STARTS = 4
_KEY_FILES = ("master.key", "private_ec256.key", "public_ec256.key")


class _EngineStep(EngineProcess):
    """What the steps of an engine from binaries share: its environment and its errors.

    Args:
        fellow: the engine beside the first that is meant; None for the first.
    """

    def __init__(self, spec: StackSpec, ledger: Ledger, fellow: Fellow | None = None) -> None:
        assert isinstance(spec.engine, NativeEngine)
        super().__init__(ledger, fellow.number if fellow else 1, "hatchet-lite")
        self.spec, self.fellow = spec, fellow
        self.engine: NativeEngine = spec.engine

    @property
    def ports(self) -> Ports:
        return self.fellow.ports if self.fellow else self.spec.ports

    @property
    def assets(self) -> Path:
        return self.engine.binaries.assets or self.home / "static-assets"

    def env(self, environ: Mapping[str, str]) -> dict[str, str]:
        return engine_env(self.spec, self.engine, self.ledger.vault.engine, environ, self.assets, self.fellow)

    def run_binary(self, run: Run, binary: Path, *args: str, log: Path, seconds: float = 60.0) -> Ran:
        """Run one of the short-lived binaries.

        Raises:
            ApplyFailed: it failed; names the symptom where its words are known.
        """
        count = 0

        def progress(line: str) -> None:
            nonlocal count
            if " OK " in line:
                count += 1
                run.say(f"{count} migrations")

        limit = min(seconds, run.deadline.left())
        ran = run.host.processes.run(
            [str(binary), *args], env=self.env(run.host.environ), cwd=self.home, log=log, timeout=limit, on_line=progress
        )  # fmt: skip
        if ran.exit_code:
            raise engine_failure(f"{binary.name} {' '.join(args)}".strip(), ran, limit)
        return ran


class NativeAdmin(_EngineStep):
    """`HatchetAdmin` by the engine's own binary, run as a child with the engine's environment."""

    @property
    def about(self) -> str:
        return f"{self.engine.binaries.admin} --version"

    @property
    def may_begin(self) -> bool:
        # It writes into our folder, which is made first, and takes a tenth of a second.
        return False

    @property
    def token_routes(self) -> Sequence[tuple[str, Callable[[Run, str], str]]]:
        return (("hatchet-admin token create", self._create_token),)

    def create_keysets(self, run: Run) -> list[str]:
        run.host.files.make_dir(self.home)
        with tempfile.TemporaryDirectory(prefix=".keys-", dir=self.home) as folder:
            ran = run.host.processes.run(
                [str(self.engine.binaries.admin), "keyset", "create-local-keys", "--key-dir", folder],
                env={k: run.host.environ[k] for k in ("PATH", "HOME") if k in run.host.environ},
                cwd=self.home,
                timeout=30,
            )
            keys = [run.host.files.read(Path(folder) / name) for name in _KEY_FILES]
        if ran.exit_code:
            raise ApplyFailed(
                "keys-failed",
                f"hatchet-admin made no keysets (exit code {ran.exit_code})",
                hint=f"{self.engine.binaries.admin} keyset create-local-keys",
                detail=ran.stderr[-500:],
            )
        return [key.decode("ascii", "replace").strip() for key in keys if key]

    def _create_token(self, run: Run, name: str) -> str:
        argv = [str(self.engine.binaries.admin), *token_arguments(self.spec, self.engine, name)]
        limit = run.deadline.left(60)
        ran = run.host.processes.run(argv, env=self.env(run.host.environ), cwd=self.home, timeout=limit)
        if ran.exit_code:
            raise engine_failure("hatchet-admin token create", ran, limit)
        return ran.stdout


class Migrate(_EngineStep):
    """Hatchet's own migrations, as a step of their own with the whole output in the log."""

    id = "engine.migrate"
    title = "Engine migrations"

    def check(self, facts: Facts) -> Change:
        kept = self.ledger.recall("engine")
        seen = facts.our_stack.on_server.databases.get(HATCHET_DATABASE)
        version = self.engine.binaries.version
        if seen is None:
            return Change(Action.RUN, "looked at once the server runs")
        if seen.migration and kept.get("migrated_by") == version and kept.get("migration") == seen.migration:
            return unchanged(f"at {seen.migration}, as {version} left it")
        action = Action.UPDATE if seen.migration else Action.CREATE
        return Change(action, f"schema of Hatchet {version}", touches=(f"database {HATCHET_DATABASE}",))

    def apply(self, run: Run) -> Applied:
        spec, ledger = self.spec, self.ledger
        login = spec.login(spec.database(HATCHET_DATABASE))
        # hatchet-migrate hides the cause of a failed login for 30 s, so it is looked at here first.
        refusal = run.host.postgres.login_works(login)
        if refusal is not None:
            raise ApplyFailed(
                f"postgres-{refusal.kind}",
                f"role {login.user!r} cannot use database {login.database!r} on {login.where}",
                hint="owlclaw-up status",
                detail=refusal.detail,
            )
        before = run.host.postgres.migration_version(login)
        kept = ledger.recall("engine")
        version = self.engine.binaries.version
        if before and kept.get("migrated_by") == version and kept.get("migration") == before:
            return Applied(Action.UNCHANGED, f"at {before}")
        run.host.files.make_dir(self.home)
        end_leftovers(run, ledger)
        self.run_binary(run, self.engine.binaries.migrate, log=ledger.logs / "migrate.log", seconds=_MIGRATE_SECONDS)
        after = run.host.postgres.migration_version(login)
        ledger.remember("engine", migrated_by=version, migration=after, migrated_on=server_key(spec.postgres))
        if before == after:
            return Applied(Action.UNCHANGED, f"at {after}")
        return Applied(Action.UPDATE if before else Action.CREATE, f"at {after}")


class Seed(_EngineStep):
    """The default tenant and the dashboard's admin, with a generated password."""

    id = "engine.seed"
    title = "Tenant and admin"

    def check(self, facts: Facts) -> Change:
        if facts.our_stack.on_server.tenant and self.ledger.recall("engine").get("tenant") == self.engine.tenant:
            return unchanged(f"tenant default, login {self.engine.admin_email}")
        if not facts.our_stack.on_server.databases and self.ledger.recall("engine").get("tenant"):
            return Change(Action.RUN, "looked at once the server runs")
        return Change(Action.CREATE, f"tenant default, login {self.engine.admin_email} with a generated password")

    def apply(self, run: Run) -> Applied:
        login = self.spec.login(self.spec.database(HATCHET_DATABASE))
        kept = self.ledger.recall("engine")
        if kept.get("tenant") == self.engine.tenant and run.host.postgres.tenant_exists(login, self.engine.tenant):
            return Applied(Action.UNCHANGED, "there")
        self.ledger.vault.passwords["dashboard"] = self.engine.admin_password.reveal()
        self.ledger.save_secrets()
        self.run_binary(run, self.engine.binaries.admin, "seed", log=self.ledger.logs / "migrate.log")
        if not run.host.postgres.tenant_exists(login, self.engine.tenant):
            raise ApplyFailed(
                "seed-failed",
                f"hatchet-admin seed ended well, and tenant {self.engine.tenant} is not there",
                hint="another tenant has the slug `default` in that database; name another one for Hatchet",
            )
        self.ledger.remember("engine", tenant=self.engine.tenant)
        return Applied(Action.CREATE, f"login {self.engine.admin_email}")


class StartEngine(_EngineStep):
    """Have hatchet-lite running in a session of its own, and answering."""

    id = "engine.server"
    title = "Hatchet engine"

    def __init__(self, spec: StackSpec, ledger: Ledger, fellow: Fellow | None = None) -> None:
        super().__init__(spec, ledger, fellow)
        self.id, self.title = names(self.number)

    def _fingerprint(self) -> str:
        return fingerprint(self.env({}), self.engine.binaries.directory, self.engine.binaries.version)

    def check(self, facts: Facts) -> Change:
        look, version, ports = facts.our_stack.engine(self.number), self.engine.binaries.version, self.ports
        kept = self.ledger.recall(self.key)
        same = kept.get("fingerprint") == self._fingerprint()
        if look.process is not None and look.ready and same:
            return unchanged(f"{version} answers, pid {look.process.pid}")
        if look.process is not None:
            why = look.answers if same else "it was started with other settings"
            share = self.fellow.max_conns if self.fellow else self.engine.max_conns
            if not same and kept.get("max_conns", share) != share:
                why = f"its pools shrink from {kept['max_conns']} to {share} connections, so that all engines have some"
            return Change(Action.UPDATE, f"restart {version}", why)
        return Change(
            Action.CREATE,
            f"start {version}, dashboard on {ports.dashboard}, gRPC on {ports.grpc}",
            touches=tuple(f"port {p}" for p in ports.of_engine.values()),
        )

    def apply(self, run: Run) -> Applied:
        ledger = self.ledger
        run.host.files.make_dir(self.home)
        old = running_engine(run.host, ledger, self.number)
        action = Action.CREATE
        if old is not None:
            stop_process(run, ledger, old)
            action = Action.UPDATE
        end_leftovers(run, ledger, self.number)
        # One that was killed before it was remembered left the receipt of its intent.
        known = bool(ledger.recall(self.key).get("started_at") or ledger.receipts("process", name=self.key))
        others = (n for n in known_engines(ledger) if n != self.number)
        company = any(running_engine(run.host, ledger, n) is not None for n in others)
        cleared = clear_ghost(run, self.spec, ledger, known=known, company=company)
        if self.engine.binaries.assets is None:
            # Headless builds panic without a page to serve.
            run.host.files.make_dir(self.assets)
            run.host.files.write_private(self.assets / "index.html", HEADLESS_PAGE)
        for start in range(_STARTS):
            process = self._start(run)
            try:
                self._wait(run)
                break
            except ProcessDied:
                if start == _STARTS - 1 or not self._move_inner_ports(run):
                    raise
        detail = f"{self.engine.binaries.version} ready, pid {process.pid}"
        return Applied(action, detail + (", its predecessor's leases cleared" if cleared else ""))

    def _start(self, run: Run) -> ProcessId:
        ledger = self.ledger
        run.host.files.append(self.log, f"{now_text(run.host.clock)} {STARTING} {self.program}\n")
        mark_serving(ledger, self.spec.postgres)
        with ledger.creating("process", name=self.key):
            process = run.host.processes.start(
                [str(self.engine.binaries.lite)], env=self.env(run.host.environ), cwd=self.home, log=self.log
            )
            ledger.keep(
                self.key,
                pid=process.pid,
                started=process.started,
                started_at=now_text(run.host.clock),
                stopped_at=None,
                container=None,
                sidecar=None,
                directory=str(self.engine.binaries.directory),
                version=self.engine.binaries.version,
                fingerprint=self._fingerprint(),
                max_conns=self.fellow.max_conns if self.fellow else self.engine.max_conns,
            )
        return process

    def _move_inner_ports(self, run: Run) -> bool:
        """Choose those of the engine's ports anew that somebody took since they were chosen, and that are written nowhere.

        Another checkout that comes up at the same time chooses alike. A fellow's ports stand in no token and no dotenv file.
        """
        ports = self.ports
        taken = {port for of in (self.spec.ports, *(f.ports for f in self.engine.fellows)) for port in of.all.values()}
        moved: dict[str, int] = {}
        for purpose in ("api", "frontend", "health", *(("dashboard", "grpc") if self.fellow else ())):
            port, everywhere = getattr(ports, purpose), purpose != "grpc"
            if look_at_port(port, everywhere=everywhere).state == "free":
                continue
            for other in port_range(port)[1:]:
                if other not in taken and look_at_port(other, everywhere=everywhere).state == "free":
                    moved[purpose] = other
                    taken.add(other)
                    break
        if not moved:
            return False
        run.say(", ".join(f"port {getattr(ports, p)} was taken meanwhile, {n} instead" for p, n in moved.items()))
        ports = dataclasses.replace(ports, **moved)
        if self.fellow:
            self.fellow = dataclasses.replace(self.fellow, ports=ports)
            self.ledger.remember(self.key, ports=ports.of_engine)
        else:
            self.spec = dataclasses.replace(self.spec, ports=ports)
            self.ledger.state.ports = dataclasses.asdict(ports)
            self.ledger.save()
        return True

    def _wait(self, run: Run) -> None:
        """Ready: 8733/ready, then /api/ready with an empty body that is no page; gRPC is proved with the token."""
        ports, hatchet = self.ports, run.host.hatchet

        tail, dead = self.watch(run)

        def health() -> tuple[bool | None, str]:
            answer = hatchet.get(ports.health, "/ready")
            return (
                (True, "")
                if answer and answer[0] == 200
                else (None, f"/ready says {answer[0] if answer else 'nothing'}")
            )

        def api() -> tuple[bool | None, str]:
            answer = hatchet.get(ports.dashboard, "/api/ready")
            good = answer is not None and answer[0] == 200 and "html" not in answer[1]
            return (True, "") if good else (None, f"/api/ready says {answer[0] if answer else 'nothing'}")

        run.say("waiting for its health check")
        wait_until("the engine's health check", health, deadline=run.deadline, dead=dead, log_tail=tail)
        run.say("waiting for its API")
        wait_until("the engine's API", api, deadline=run.deadline, dead=dead, log_tail=tail)

        def grpc() -> tuple[bool | None, str]:
            return (
                (True, "") if answers_tcp("127.0.0.1", ports.grpc) else (None, f"nobody listens on port {ports.grpc}")
            )

        wait_until("the engine's gRPC port listening", grpc, deadline=run.deadline, dead=dead, log_tail=tail)


def start_steps(spec: StackSpec, ledger: Ledger) -> list[StartEngine]:
    """A step for every engine that is wanted, the first one's first: it alone may find rows of dead ones to clear."""
    assert isinstance(spec.engine, NativeEngine)
    return [StartEngine(spec, ledger, fellow) for fellow in (None, *spec.engine.fellows)]
