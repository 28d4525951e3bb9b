"""Hatchet's embedded engine: its keeper, the handshake, and the tokens that its starts give. `engine_stop` stops it.

Migrations and seed are in the sidecar, its keysets in its database; each start gives a token that lives for 90 days.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from owlclaw_up.errors import ApplyFailed, SidecarFailed, UpError
from owlclaw_up.facts import Facts
from owlclaw_up.facts.stack import running_engine
from owlclaw_up.host.base import ProcessId, wait_until
from owlclaw_up.host.local import start_time
from owlclaw_up.host.sidecars import by_hand, cache
from owlclaw_up.model import Action, Change, unchanged
from owlclaw_up.receipts import Ledger, now_text
from owlclaw_up.spec import HANDSHAKE, HATCHET_DATABASE, SIDECAR_KEEPER, SidecarEngine, StackSpec
from owlclaw_up.steps.base import Applied, Run
from owlclaw_up.steps.engine_env import diagnose, sidecar_env, sidecar_fingerprint
from owlclaw_up.steps.engine_process import STARTING, EngineProcess
from owlclaw_up.steps.engine_stop import StopEngine, end_leftovers, stop_process
from owlclaw_up.steps.ghost import clear_ghost
from owlclaw_up.token_claims import decode, renewal_due
from owlclaw_up.upgrade_record import mark_serving, server_key

# Of what `up` may take, kept for what comes after the engine.
_REST_OF_UP = 5.0
_LIFETIME = 90 * 86400.0
_PROGRESS = "hatchet-embedded"


@dataclass(frozen=True)
class Handshake:
    """What a sidecar that is ready said of itself. Attributes: `pid` is its own; `api_url` is empty without an API."""

    token: str
    tenant_id: str
    grpc_address: str
    api_url: str
    pid: int


class _SidecarStep(EngineProcess):
    """What the step and the maker of tokens share."""

    def __init__(self, spec: StackSpec, ledger: Ledger) -> None:
        assert isinstance(spec.engine, SidecarEngine)
        super().__init__(ledger, 1, "Hatchet's embedded engine")
        self.spec = spec
        self.engine: SidecarEngine = spec.engine

    @property
    def handshake_path(self) -> Path:
        return self.home / HANDSHAKE

    def read_handshake(self, run: Run) -> Handshake | None:
        """What the running keeper has handed over; None where there is nothing yet.

        Raises:
            SidecarFailed: what it has handed over is that it failed, or no handshake.
        """
        data = run.host.files.read(self.handshake_path)
        if data is None:
            return None
        try:
            said = json.loads(data)
            if "failed" not in said:
                return Handshake(**said)
            kind, words = str(said["failed"]), str(said["words"])
        except (ValueError, TypeError, KeyError):
            raise self.failed(run, "handshake", "the keeper's file is none of ours") from None
        raise self.failed(run, kind, words)

    def failed(self, run: Run, kind: str, words: str) -> SidecarFailed:
        """The error, with the cause where the sidecar's last words are known, and with these words."""
        tail, _ = self.watch(run)
        sidecar, version = self.engine.sidecar, self.engine.version
        said = tail()
        known = diagnose(said) if kind in ("died", "late") else None
        return SidecarFailed(
            sidecar.title, kind, f"{words}\n{said}".strip(),
            program=str(sidecar.binary or cache(version, run.host.environ) / sidecar.program),
            by_hand=by_hand(version), cause=known.cause if known else "", hint=known.hint if known else "",
        )  # fmt: skip


class StartSidecar(_SidecarStep):
    """Have the sidecar migrated, seeded and answering, held by a keeper in a session of its own."""

    id = "engine.server"
    title = "Hatchet engine"

    def _env(self, run: Run) -> dict[str, str]:
        seconds = max(1.0, run.deadline.left() - _REST_OF_UP)
        network = {} if self.engine.sidecar.binary else run.host.network
        return {
            **run.host.inherited,
            **network,
            **sidecar_env(self.spec, self.engine, self.ledger.vault.engine, run.host.environ),
            "HATCHET_CLIENT_EMBEDDED_READY_TIMEOUT_SECONDS": f"{seconds:.1f}",
        }

    def _fingerprint(self) -> str:
        env = sidecar_env(self.spec, self.engine, self.ledger.vault.engine, {})
        return sidecar_fingerprint(env, self.engine.sidecar.identity)

    def check(self, facts: Facts) -> Change:
        stack, ports, version = facts.our_stack, self.spec.ports, self.engine.version
        same = self.ledger.recall("engine").get("fingerprint") == self._fingerprint()
        # An `up` that was killed while it waited has not seen what came of that start.
        same = same and self.ledger.process("sidecar") is not None
        if stack.engine_process is not None and stack.engine_ready and same:
            return unchanged(f"{self.ledger.recall('engine').get('version')} answers, pid {stack.engine_process.pid}")
        if stack.engine_process is not None:
            why = stack.engine_answers if same else "it was started with other settings"
            return Change(Action.UPDATE, f"restart {version}".strip(), why)
        sidecar = self.engine.sidecar
        where = f"{sidecar.source}, by hatchet-sdk" if sidecar.here else f"fetched from {sidecar.source} by hatchet-sdk"
        return Change(
            Action.CREATE, f"start {sidecar.title} ({where}), REST on {ports.dashboard}, gRPC on {ports.grpc}",
            touches=(f"port {ports.dashboard}", f"port {ports.grpc}"),
        )  # fmt: skip

    def apply(self, run: Run) -> Applied:
        ledger, spec = self.ledger, self.spec
        login = spec.login(spec.database(HATCHET_DATABASE))
        # The sidecar hides the cause of a failed login for 30 s, so it is looked at here first.
        refusal = run.host.postgres.login_works(login)
        if refusal is not None:
            raise ApplyFailed(
                f"postgres-{refusal.kind}", f"role {login.user!r} cannot use database {login.database!r} on {login.where}",
                hint="owlclaw-up status", detail=refusal.detail,
            )  # fmt: skip
        run.host.files.make_dir(self.home)
        old = running_engine(run.host, ledger)
        if old is not None:
            run.say("stopping the one that runs")
            stop_process(run, ledger, old)
        end_leftovers(run, ledger)
        run.host.files.remove(self.handshake_path)
        known = bool(ledger.recall("engine").get("started_at") or ledger.receipts("process", name=self.key))
        cleared = clear_ghost(run, spec, ledger, known=known)
        ledger.vault.passwords["dashboard"] = self.engine.admin_password.reveal()
        ledger.save_secrets()
        keeper = self._start(run)
        try:
            handshake = self._await_handshake(run)
            self._await_answers(run)
        except UpError:
            # One that is not ready is held by nobody's wish; what it has fetched so far is its own to clear up.
            StopEngine(ledger).apply(run)
            raise
        self._remember(run, handshake)
        what = f"{ledger.recall('engine')['version']} ready, pid {keeper.pid} holds it"
        return Applied(
            Action.UPDATE if old else Action.CREATE, what + (", its predecessor's leases cleared" if cleared else "")
        )

    def _start(self, run: Run) -> ProcessId:
        ledger, sidecar = self.ledger, self.engine.sidecar
        run.host.files.append(self.log, f"{now_text(run.host.clock)} {STARTING} {_PROGRESS}\n")
        mark_serving(ledger, self.spec.postgres)
        with ledger.creating("process", name=self.key):
            process = run.host.processes.start(
                [sys.executable, "-m", SIDECAR_KEEPER, str(self.handshake_path)], env=self._env(run), cwd=self.home,
                log=self.log,
            )  # fmt: skip
            ledger.keep("sidecar", program=sidecar.program, pid=None, started=None)
            ledger.keep(
                self.key, pid=process.pid, started=process.started, started_at=now_text(run.host.clock), stopped_at=None,
                container=None, sidecar=True, directory="", version=sidecar.version, fingerprint=self._fingerprint(),
                max_conns=self.engine.max_conns,
            )  # fmt: skip
        return process

    def _await_handshake(self, run: Run) -> Handshake:
        """What the sidecar says of itself once it listens.

        Raises:
            SidecarFailed: hatchet-sdk failed at something, or the sidecar is not as it was asked for.
        """
        tail, dead = self.watch(run)

        def look() -> tuple[Handshake | None, str]:
            run.say(self._progress(run))
            return self.read_handshake(run), "no handshake"

        def gone() -> None:
            # It may have handed over why, a moment before its end.
            self.read_handshake(run)
            dead()

        handshake = wait_until("the handshake of the sidecar", look, deadline=run.deadline, dead=gone, log_tail=tail)
        said = (handshake.tenant_id, handshake.api_url, handshake.grpc_address)
        wanted = (self.engine.tenant, self.spec.server_url, self.spec.grpc_address)
        if said != wanted:
            lacks = "" if handshake.api_url else "without a REST API no lists, schedules and proof work; "
            raise self.failed(run, "handshake", f"{lacks}it says {said}, and {wanted} was asked for")
        return handshake

    def _progress(self, run: Run) -> str:
        """How much of a download has come; else what is waited for."""
        sidecar = self.engine.sidecar
        if not sidecar.here:
            parts = [
                _size(p) for p in cache(self.engine.version, run.host.environ).glob(f"{sidecar.program}.*.download")
            ]
            if parts:
                return f"fetching it from {sidecar.source}: {max(parts) / 1e6:.1f} MB so far"
        return "waiting until it has migrated its database and listens"

    def _await_answers(self, run: Run) -> None:
        tail, dead = self.watch(run)
        port = self.spec.ports.dashboard

        def api() -> tuple[bool | None, str]:
            answer = run.host.hatchet.get(port, "/api/ready")
            good = answer is not None and answer[0] == 200 and "html" not in answer[1]
            return (True, "") if good else (None, f"/api/ready says {answer[0] if answer else 'nothing'}")

        run.say("waiting for its API")
        wait_until("the engine's API", api, deadline=run.deadline, dead=dead, log_tail=tail)

    def _remember(self, run: Run, handshake: Handshake) -> None:
        """Keep what it is, what it did to the database, and the token that this start gave."""
        ledger, spec = self.ledger, self.spec
        login = spec.login(spec.database(HATCHET_DATABASE))
        answer = run.host.hatchet.get(spec.ports.dashboard, "/api/v1/version")
        version = _version(answer[2] if answer and answer[0] == 200 else "") or self.engine.version
        # A release of the sidecar's alone has a name of its own for the same engine.
        ledger.keep("engine", migrated_by=self.engine.version or version, migrated_on=server_key(spec.postgres))
        ledger.keep("engine", migration=run.host.postgres.migration_version(login))
        sidecar = self.engine.sidecar
        ledger.keep("sidecar", pid=handshake.pid, started=start_time(handshake.pid) or 0.0, version=sidecar.version)
        named = {"binary": str(sidecar.binary), "checksum": sidecar.checksum} if sidecar.named else {"binary": ""}
        ledger.keep("sidecar", **named)
        ledger.remember("engine", version=version, tenant=handshake.tenant_id)
        at = {"server": spec.postgres.identity, "database": login.database, "role": login.user}
        before, kept = ledger.recall("sidecar").get("token"), decode(ledger.vault.token)
        if before and (kept is None or kept.token_id != before):
            # Nobody was ever given that one: the one before it was still good.
            run.host.postgres.revoke_token(login, before)
            ledger.forget("token", id=before, server=spec.postgres.identity)
        claims = decode(handshake.token)
        if claims is not None:
            ledger.record("token", id=claims.token_id, tenant=claims.tenant, **at)
            ledger.remember("sidecar", token=claims.token_id)


class SidecarTokens(_SidecarStep):
    """`TokenMaker` by the sidecar's starts: there is no other way to a token of its keys."""

    @property
    def about(self) -> str:
        return "owlclaw-up logs hatchet"

    @property
    def token_routes(self) -> Sequence[tuple[str, Callable[[Run, str], str]]]:
        return (("a start of Hatchet's embedded engine", self._take),)

    def _take(self, run: Run, name: str) -> str:
        """The token of the last start, where it is a fresh one; else that of another start."""
        handshake = self.read_handshake(run)
        claims = decode(handshake.token) if handshake else None
        known = (self.ledger.vault.token, *self.ledger.vault.superseded)
        old = claims is not None and renewal_due(claims, run.host.clock.now(), _LIFETIME)
        if handshake is None or handshake.token in known or old:
            run.say("restarting the engine, as each of its starts gives a token")
            StartSidecar(self.spec, self.ledger).apply(run)
            handshake = self.read_handshake(run)
        return handshake.token if handshake else ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _version(body: str) -> str:
    try:
        said = json.loads(body)
    except ValueError:
        return ""
    return str(said.get("version", "")) if isinstance(said, dict) else ""
