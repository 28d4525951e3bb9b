"""The proof: SQL as the application's role, then real work through the engine, or a mock run where there is none."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import queue
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from owlclaw_up.errors import UpError
from owlclaw_up.facts import Facts
from owlclaw_up.facts.stack import running_engine
from owlclaw_up.host.base import Child, Deadline
from owlclaw_up.model import Action, Change, Proof, Smoke, found, unchanged
from owlclaw_up.receipts import Ledger, now_text
from owlclaw_up.spec import Fellow, NativeEngine, StackSpec, engine_key
from owlclaw_up.steps.base import Applied, Run
from owlclaw_up.steps.dotenv import env_values
from owlclaw_up.steps.ghost import GHOST_SECONDS
from owlclaw_up.steps.restart import kill_engine, restart_engine, start_again, why_not

# What a proof may take, by level. The long one waits half a minute for Hatchet to miss a worker that was killed.
_SECONDS = {"quick": 45.0, "full": 170.0}
# The same for each engine of a small cluster that is killed: a minute until the others take its share of the work over.
_SECONDS_OF_KILL = 200.0
_PROGRAM = Path(__file__).parent.parent / "proof" / "program.py"


class Prove:
    """Prove the environment, unless a proof of the very same one is kept."""

    id = "smoke"
    title = "Smoke test"

    def __init__(self, spec: StackSpec, ledger: Ledger) -> None:
        self.spec, self.ledger = spec, ledger
        self._rests_on = self._fingerprint("")
        self._child: Child | None = None
        self._proofs: list[Proof] = []
        self._asks: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._say: Callable[[str], None] = lambda text: None
        self._killed: set[int] = set()

    def _fingerprint(self, sdk: str) -> str:
        """Changes when anything the proof rests on does: the processes, the token, the addresses, the SDK."""
        spec, kept = self.spec, self.ledger
        parts = [
            kept.recall("postgres").get("identity"),
            [kept.recall("postgres").get(k) for k in ("pid", "started")],
            [kept.recall("engine").get(k) for k in ("pid", "started", "container")] if spec.engine else None,
            env_values(spec, kept.vault.token if spec.engine else ""),
            sdk,
            *([kept.recall(engine_key(f.number)).get(k) for k in ("pid", "started")] for f in self._fellows),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def _fellows(self) -> tuple[Fellow, ...]:
        return self.spec.engine.fellows if isinstance(self.spec.engine, NativeEngine) else ()

    def of_this_environment(self, facts: Facts) -> bool:
        """Whether nothing that the proof on record rests on has changed since."""
        sdk = found(facts.sdk)
        return bool(self.ledger.recall("smoke").get("fingerprint") == self._fingerprint(sdk.version if sdk else ""))

    def outdated(self) -> bool:
        return self._fingerprint("") != self._rests_on

    def check(self, facts: Facts) -> Change:
        if self.spec.smoke == "none":
            return Change(Action.SKIP, "not asked for")
        kept = self.ledger.recall("smoke")
        stands = facts.our_stack.engine_ready or self.spec.engine is None
        stands = stands and all(facts.our_stack.engine(f.number).ready for f in self._fellows)
        if (
            not self.spec.smoke_again
            and stands
            and kept.get("status") == "passed"
            # The long proof holds what the quick one does.
            and kept.get("level") in (self.spec.smoke, "full")
            and self.of_this_environment(facts)
        ):
            return unchanged(f"proved at {kept['at']}, and nothing it rests on has changed")
        return Change(Action.RUN, self._what())

    def _what(self) -> str:
        if self.spec.engine is None:
            return "SQL, and a mock run of a task"
        if self.spec.smoke == "full" and self._fellows:
            return "the long proof: workers killed, one engine after another killed, a thousand runs"
        if self.spec.smoke == "full":
            return "the long proof: workers killed, the engine restarted, a thousand runs"
        return "a worker runs a task and a durable sleep"

    def apply(self, run: Run) -> Applied:
        from owlclaw_up.facts.machine import look_at_sdk

        sdk = found(look_at_sdk())
        proofs = [self._sql(run), *(self._all_run(run) or self._work(run))]
        good = all(p.status != "failed" for p in proofs)
        run.smoke = Smoke(self.spec.smoke, "passed" if good else "failed", tuple(proofs))
        self.ledger.remember(
            "smoke",
            status=run.smoke.status,
            level=self.spec.smoke,
            at=now_text(run.host.clock),
            fingerprint=self._fingerprint(sdk.version if sdk else ""),
            proofs=[dataclasses.asdict(p) for p in proofs],
        )
        passed = sum(p.status == "passed" for p in proofs)
        return Applied(
            Action.RUN, f"{passed} of {len(proofs)} proofs passed" if not good else f"{passed} proofs passed"
        )

    def _sql(self, run: Run) -> Proof:
        run.say("SQL as the application's role")
        login = self.spec.login(self.spec.application)
        begun = run.host.clock.monotonic()
        refusal = run.host.postgres.login_works(login)
        seconds = run.host.clock.monotonic() - begun
        if refusal is None:
            return Proof("sql", "passed", seconds, f"{login.database} answers role {login.user}")
        return Proof("sql", "failed", seconds, refusal.detail, "SQL")

    def _all_run(self, run: Run) -> list[Proof]:
        """A failed proof where the long one would have fewer engines to kill than there shall be."""
        if self.spec.smoke != "full":
            return []
        dead = [f.number for f in self._fellows if running_engine(run.host, self.ledger, f.number) is None]
        numbers = " and ".join(map(str, dead))
        why = f"engine {numbers} does not run, and the long proof kills them one by one; owlclaw-up starts it"
        return [Proof("engines", "failed", 0.0, why, "gRPC")] if dead else []

    def begin(self, run: Run) -> None:
        """Have hatchet-sdk imported while the other steps work: that alone takes a second or more."""
        self._child = self._start(run)

    def _start(self, run: Run) -> Child:
        """The program of the proof, waiting for its values; its working directory is empty and goes with it."""
        self.ledger.prepare()
        empty = self.ledger.directory / "smoke"
        # A proof that was killed has left its own.
        run.host.files.remove_tree(empty)
        run.host.files.make_dir(empty)
        child = run.host.processes.open(
            [sys.executable, str(_PROGRAM), self.spec.smoke if self.spec.engine else "mock"],
            # A server elsewhere is reached as an application would reach it.
            env=run.host.inherited | (run.host.network if self.spec.remote else {}),
            cwd=empty,
            log=self.ledger.logs / "smoke.log",
            on_line=self._line,
            talk=True,
        )
        run.closers += [partial(run.host.files.remove_tree, empty), child.close]
        return child

    def _serve(self, run: Run, child: Child, seconds: float) -> None:
        """Do what the program asks for, until it ends: only this side can end an engine, and start one."""
        limit = Deadline(seconds, run.host.clock)
        while not child.ended and not limit.over:
            with contextlib.suppress(queue.Empty):
                child.send(json.dumps(self._done(run, self._asks.get(timeout=0.1))))
        # A proof that failed in the middle leaves nothing dead.
        for number in sorted(self._killed):
            start_again(run, self.spec, self.ledger, number)

    def _done(self, run: Run, asked: str) -> dict[str, str]:
        """Do one thing: `restart`, `kill N` or `start N`, of the engine of that number."""
        refused = why_not(self.spec)
        if refused:
            return {"refused": refused}
        what, _, number = asked.partition(" ")
        try:
            if what == "kill":
                self._killed.add(int(number))
                kill_engine(run, self.ledger, int(number))
            elif what == "start":
                start_again(run, self.spec, self.ledger, int(number))
                self._killed.discard(int(number))
            else:
                restart_engine(run, self.spec, self.ledger)
        except UpError as error:
            return {"failed": error.message}
        return {}

    def _line(self, text: str) -> None:
        """One line of the program: a proof, what it is at, or something that it wants done."""
        try:
            said = json.loads(text)
        except ValueError:
            return
        if not isinstance(said, dict):
            return
        if "say" in said:
            self._say(str(said["say"]))
        elif "ask" in said:
            self._asks.put(str(said["ask"]))
        elif "id" in said:
            self._proofs.append(Proof(**said))
            self._say(f"{said['id']} {said['status']}")

    def _patience(self) -> float:
        """Seconds more until the first task: what a predecessor left behind may have to run out. Of a server elsewhere nobody knows."""
        return GHOST_SECONDS if self.spec.remote or self.ledger.recall("engine").get("patience") else 0.0

    def _work(self, run: Run) -> list[Proof]:
        values = env_values(dataclasses.replace(self.spec, env_names={}), self.ledger.vault.token)
        env = {k: v for k, v in values.items() if k.startswith("HATCHET_CLIENT_")}
        env["HATCHET_CLIENT_NAMESPACE"] = "owlclaw-up"
        patience = self._patience()
        if self.spec.smoke == "full" and self._fellows:
            more = _SECONDS_OF_KILL * (1 + len(self._fellows))
            patience += more
            run.deadline.extend(more)
        seconds = min(_SECONDS[self.spec.smoke] + patience, run.deadline.left())
        run.say("a worker is starting" if self.spec.engine else "mock run")
        self._say = run.say
        child = self._child or self._start(run)
        told = {"env": env, "seconds": seconds, "level": self.spec.smoke, "engines": engine_addresses(self.spec)}
        child.send(json.dumps(told))
        if self.spec.smoke == "full":
            self._serve(run, child, seconds + 15)
        ran = child.wait(seconds + 15)
        proofs = [_with_cause(proof, ran.stderr) for proof in self._proofs]
        if not proofs or (ran.exit_code and all(p.status != "failed" for p in proofs)):
            detail = f"the proof ended with exit code {ran.exit_code}: {_last_words(ran.stderr or ran.stdout)}"
            proofs.append(Proof("worker", "failed", ran.seconds, detail, "worker"))
        return proofs


def _with_cause(proof: Proof, stderr: str) -> Proof:
    """The same, with what a worker said that has ended by itself."""
    if "worker_exit_code" not in proof.data:
        return proof
    return dataclasses.replace(proof, detail=f"{proof.detail}: {_last_words(stderr)[:300]}")


def _last_words(output: str) -> str:
    """The error that ended a Python program, without the way to it; else its last lines."""
    lines = output.strip().splitlines()
    errors = [number for number, line in enumerate(lines) if re.match(r"[A-Za-z_][\w.]*: ", line)]
    return "\n".join(lines[errors[-1] :] if errors else lines[-3:])


def engine_addresses(spec: StackSpec) -> list[dict[str, str]]:
    """Where the engines are over which the workers of a proof are spread: the one that programs are led to, then its fellows."""
    fellows = spec.engine.fellows if isinstance(spec.engine, NativeEngine) else ()
    return [
        {"host_port": spec.grpc_address, "server_url": spec.server_url},
        *(
            {"host_port": f"localhost:{f.ports.grpc}", "server_url": f"http://localhost:{f.ports.dashboard}"}
            for f in fellows
        ),
    ]


def kept_smoke(ledger: Ledger) -> Smoke | None:
    """The last proof on record, marked with its time."""
    kept = ledger.recall("smoke")
    if not kept.get("proofs"):
        return None
    return Smoke(kept["level"], kept["status"], tuple(Proof(**p) for p in kept["proofs"]), kept["at"])
