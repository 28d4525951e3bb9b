"""The native Hatchet engine: its admin tool, migration, seed, the process; and stopping it."""

from __future__ import annotations

import dataclasses
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from owlclaw_up.errors import ApplyFailed, ProcessDied, TimedOut
from owlclaw_up.facts import Facts
from owlclaw_up.facts.machine import port_range
from owlclaw_up.facts.stack import running_engine
from owlclaw_up.host.base import ProcessId, Ran, wait_until
from owlclaw_up.host.local import answers_tcp, exit_status, look_at_port, processes_in
from owlclaw_up.model import Action, Change, unchanged
from owlclaw_up.receipts import Ledger, now_text
from owlclaw_up.spec import HATCHET_DATABASE, HEADLESS_PAGE, NativeEngine, StackSpec
from owlclaw_up.steps.base import Applied, Run
from owlclaw_up.steps.engine_env import diagnose, engine_env, fingerprint, token_arguments
from owlclaw_up.steps.ghost import clear_ghost
from owlclaw_up.upgrade_record import mark_serving, server_key

_STARTING = "owlclaw-up starts hatchet-lite"
_MIGRATE_SECONDS = 600.0
_STARTS = 4
_PROGRAMS = ("hatchet-lite", "hatchet-admin", "hatchet-migrate")
_KEY_FILES = ("master.key", "private_ec256.key", "public_ec256.key")


class _EngineStep:
    """What the steps of the engine share: its environment and its errors."""

    def __init__(self, spec: StackSpec, ledger: Ledger) -> None:
        assert isinstance(spec.engine, NativeEngine)
        self.spec, self.ledger = spec, ledger
        self.engine: NativeEngine = spec.engine

    @property
    def home(self) -> Path:
        """The working directory of the engine: what runs there is ours."""
        return self.ledger.directory / "engine"

    @property
    def assets(self) -> Path:
        return self.engine.binaries.assets or self.home / "static-assets"

    def env(self, environ: Mapping[str, str]) -> dict[str, str]:
        return engine_env(self.spec, self.engine, self.ledger.vault.engine, environ, self.assets)

    @property
    def log(self) -> Path:
        """What the running engine says."""
        return self.ledger.logs / "hatchet.log"

    def watch(self, run: Run) -> tuple[Callable[[], str], Callable[[], None]]:
        """For waits on the running engine: its last words, and a look that raises once it has died."""
        process = self.ledger.process("engine")
        assert process is not None, "StartEngine comes first"

        def lines() -> Sequence[str]:
            return since_last_start(run.host.files.tail(self.log, 400))

        def tail() -> str:
            return _last(lines())

        def dead() -> None:
            if run.host.processes.alive(process):
                return
            # The last lines may be written a moment after the end.
            known = diagnose("\n".join(lines()[-40:]))
            self.ledger.forget("process", name="engine")
            self.ledger.remember("engine", pid=None, started=None)
            raise ProcessDied(
                "hatchet-lite",
                exit_status(process) + (f" ({known.cause})" if known else ""),
                hint=known.hint if known else "owlclaw-up logs hatchet",
                log=tail(),
            )

        return tail, dead

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


def engine_failure(what: str, ran: Ran, limit: float) -> ApplyFailed:
    """The error for a binary that failed, with the cause where its words are known.

    Args:
        limit: seconds that it was given.
    """
    words = f"{ran.stderr}\n{ran.stdout}".strip()
    lines = words.splitlines()
    if ran.exit_code == -signal.SIGKILL and ran.seconds >= limit:
        return TimedOut(f"the end of {what}", limit, lines[-1] if lines else "no word of it", detail=_last(lines))
    known = diagnose(words)
    code = ran.exit_code
    how = f"with exit code {code}" if code > 0 else f"by signal {signal.Signals(-code).name}"
    return ApplyFailed(
        known.code if known else "engine-failed",
        f"{what} ended {how}" + (f": {known.cause}" if known else ""),
        hint=known.hint if known else "owlclaw-up logs hatchet",
        detail=_last(lines),
    )


def since_last_start(lines: Sequence[str]) -> Sequence[str]:
    """What the last engine to be started has said: what ended an earlier one would mislead.

    Args:
        lines: the end of its log.
    """
    starts = [number for number, line in enumerate(lines) if line.endswith(_STARTING)]
    return lines[starts[-1] + 1 :] if starts else lines


def _last(lines: Sequence[str]) -> str:
    return "\n".join(lines[-15:])


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

    def _fingerprint(self) -> str:
        return fingerprint(self.env({}), self.engine.binaries.directory, self.engine.binaries.version)

    def check(self, facts: Facts) -> Change:
        stack, version = facts.our_stack, self.engine.binaries.version
        same = self.ledger.recall("engine").get("fingerprint") == self._fingerprint()
        if stack.engine_process is not None and stack.engine_ready and same:
            return unchanged(f"{version} answers, pid {stack.engine_process.pid}")
        if stack.engine_process is not None:
            why = stack.engine_answers if same else "it was started with other settings"
            return Change(Action.UPDATE, f"restart {version}", why)
        ports = self.spec.ports
        return Change(
            Action.CREATE,
            f"start {version}, dashboard on {ports.dashboard}, gRPC on {ports.grpc}",
            touches=tuple(f"port {p}" for p in ports.of_engine.values()),
        )

    def apply(self, run: Run) -> Applied:
        ledger, processes = self.ledger, run.host.processes
        run.host.files.make_dir(self.home)
        old = running_engine(run.host, ledger)
        action = Action.CREATE
        if old is not None:
            processes.stop(old, signal=signal.SIGTERM, timeout=10)
            action = Action.UPDATE
        end_leftovers(run, ledger)
        # One that was killed before it was remembered left the receipt of its intent.
        known = bool(ledger.recall("engine").get("started_at") or ledger.receipts("process", name="engine"))
        cleared = clear_ghost(run, self.spec, ledger, known=known)
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
        run.host.files.append(self.log, f"{now_text(run.host.clock)} {_STARTING}\n")
        mark_serving(ledger, self.spec.postgres)
        with ledger.creating("process", name="engine"):
            process = run.host.processes.start(
                [str(self.engine.binaries.lite)], env=self.env(run.host.environ), cwd=self.home, log=self.log
            )
            ledger.keep(
                "engine",
                pid=process.pid,
                started=process.started,
                started_at=now_text(run.host.clock),
                stopped_at=None,
                container=None,
                directory=str(self.engine.binaries.directory),
                version=self.engine.binaries.version,
                fingerprint=self._fingerprint(),
            )
        return process

    def _move_inner_ports(self, run: Run) -> bool:
        """Choose those of the engine's inner ports anew that somebody took since they were chosen.

        They stand in no token and no dotenv file; another checkout that comes up at the same time chooses alike.
        """
        ports = self.spec.ports
        taken = set(dataclasses.asdict(ports).values())
        moved: dict[str, int] = {}
        for purpose in ("api", "frontend", "health"):
            port = getattr(ports, purpose)
            if look_at_port(port, everywhere=True).state == "free":
                continue
            for other in port_range(port)[1:]:
                if other not in taken and look_at_port(other, everywhere=True).state == "free":
                    moved[purpose] = other
                    taken.add(other)
                    break
        if not moved:
            return False
        run.say(", ".join(f"port {getattr(ports, p)} was taken meanwhile, {n} instead" for p, n in moved.items()))
        self.spec = dataclasses.replace(self.spec, ports=dataclasses.replace(ports, **moved))
        self.ledger.state.ports = dataclasses.asdict(self.spec.ports)
        self.ledger.save()
        return True

    def _wait(self, run: Run) -> None:
        """Ready: 8733/ready, then /api/ready with an empty body that is no page; gRPC is proved with the token."""
        ports, hatchet = self.spec.ports, run.host.hatchet

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


class StopEngine:
    """Stop the native engine."""

    id = "engine.server"
    title = "Hatchet engine"

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def check(self, facts: Facts) -> Change:
        process = facts.our_stack.engine_process
        if process is not None:
            return Change(Action.REMOVE, f"stop the engine, pid {process.pid}")
        if self.ledger.receipts("process", name="engine"):
            return Change(Action.REMOVE, "clear up after an engine that has ended")
        if (self.ledger.directory / "engine").exists():
            return Change(Action.RUN, "nothing of it may run on")
        return unchanged("is not running")

    def apply(self, run: Run) -> Applied:
        process = running_engine(run.host, self.ledger)
        how = "was not running"
        if process is not None:
            how = run.host.processes.stop(process, signal=signal.SIGTERM, timeout=10)
        ended = end_leftovers(run, self.ledger)
        if process is None and not ended and not self.ledger.receipts("process", name="engine"):
            return Applied(Action.UNCHANGED, "is not running")
        self.ledger.remember("engine", pid=None, started=None, stopped_at=now_text(run.host.clock))
        self.ledger.forget("process", name="engine")
        return Applied(Action.REMOVE, how)


def end_leftovers(run: Run, ledger: Ledger) -> int:
    """End what an `up` that was killed has left behind: a migration or a seed that went on without it.

    The recorded engine is left alone.
    """
    engine = ledger.process("engine")
    ours = processes_in(ledger.directory / "engine", _PROGRAMS)
    left = [p for p in ours if engine is None or p.pid != engine.pid]
    for process in left:
        run.host.processes.stop(process, signal=signal.SIGTERM, timeout=5)
    return len(left)
