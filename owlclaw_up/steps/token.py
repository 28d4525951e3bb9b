"""The API token: one good token is kept; a new one is minted only where the kept one is dead or about to be, or where
somebody asks for it. The one that it takes the place of is revoked once the new one is proved, never before.
"""

from __future__ import annotations

import re
import socket
from datetime import datetime, timezone

from owlclaw_up.errors import ApplyFailed, TimedOut, UpError
from owlclaw_up.facts import Facts
from owlclaw_up.facts.place import serves_by_sidecar
from owlclaw_up.facts.servers import admin_login
from owlclaw_up.host.base import Deadline, GrpcLook, RestLook, ServerLogin, wait_until
from owlclaw_up.model import Action, Change, Finding, Secret, unchanged
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import HATCHET_DATABASE, SidecarEngine, StackSpec
from owlclaw_up.steps.base import Applied, Run, Step, TokenMaker
from owlclaw_up.token_claims import Claims, decode, renewal_due

# A program that read the dotenv file just before it was written anew has its first calls through by then.
_GRACE_SECONDS = 2.0
# The engine remembers a token for 5 s: hatchet, pkg/config/database/config.go, CacheDuration.
_FORGETS_WITHIN = 12.0
_REST_SECONDS = 20.0


class _TokenStep:
    """What the steps share that ask a running engine about tokens."""

    def __init__(self, spec: StackSpec, ledger: Ledger, admin: TokenMaker) -> None:
        assert spec.engine is not None
        self.spec, self.ledger, self.admin, self.engine = spec, ledger, admin, spec.engine

    def _ask(self, run: Run, token: Secret) -> GrpcLook:
        """GetVersion with the token; an engine that does not listen yet is waited for."""

        def look() -> tuple[GrpcLook | None, str]:
            seen = run.host.hatchet.grpc_version(self.spec.grpc_address, token, timeout=2.0)
            return (None, seen.detail) if seen.state == "unavailable" else (seen, "")

        tail, dead = self.admin.watch(run)
        return wait_until("the engine's gRPC port answering", look, deadline=run.deadline, dead=dead, log_tail=tail)

    def _prove(self, run: Run) -> Claims:
        """See the kept token accepted by gRPC and by REST.

        Raises:
            ApplyFailed: it is not.
        """
        token = Secret(self.ledger.vault.token)
        claims = decode(token.reveal())
        grpc = self._ask(run, token)

        def look() -> tuple[RestLook | None, str]:
            seen = run.host.hatchet.rest_tenant(self.spec.server_url, self.engine.tenant, token)
            return (None, seen.detail) if seen.state in ("unavailable", "failed") else (seen, "")

        tail, dead = self.admin.watch(run)
        deadline = Deadline(run.deadline.left(_REST_SECONDS), run.host.clock)
        rest = wait_until("the engine's REST answering", look, deadline=deadline, dead=dead, log_tail=tail)
        if claims is None or grpc.state != "ok" or rest.state != "ok":
            said = f"gRPC says {grpc.detail or grpc.state}, REST {rest.status}"
            raise ApplyFailed(
                "token-refused", "the engine does not accept the token that is kept now, so no older one is revoked",
                hint="owlclaw-up token check", detail=said,
            )  # fmt: skip
        return claims

    def _replace(self, run: Run, *, keep_old: bool = False) -> tuple[Claims, str]:
        """Mint a token and keep it; the one before it is remembered, for its revocation, in the same moment.

        The request is on record before it is made: what a crash leaves behind is found by its name.

        Args:
            keep_old: leave the one before it alone.

        Returns:
            The new one's claims, and the route by which it came.

        Raises:
            ApplyFailed: no route gives a token, or the engine refuses the one that came.
        """
        ledger, vault, before = self.ledger, self.ledger.vault, self.ledger.vault.token
        login = self.spec.login(self.spec.database(HATCHET_DATABASE))
        at = {"server": self.spec.postgres.identity, "database": login.database, "role": login.user}
        host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
        name = f"owlclaw-up-{host}-{datetime.now(timezone.utc):%Y%m%d}-{ledger.run}"
        ledger.intend("token", request=name, **at)
        token, claims, route = self._mint(run, name)
        look = self._ask(run, token)
        if look.state != "ok":
            raise ApplyFailed(
                "token-refused",
                "the engine refuses the token that its own admin tool has just made",
                hint="owlclaw-up logs hatchet; owlclaw-up reset",
                detail=look.detail,
            )
        if before and not keep_old:
            vault.superseded = [*vault.superseded, before]
        vault.token = token.reveal()
        ledger.save_secrets()
        ledger.record("token", id=claims.token_id, tenant=claims.tenant, **at)
        ledger.forget("token", request=name)
        return claims, route

    def _mint(self, run: Run, name: str) -> tuple[Secret, Claims, str]:
        """A new token by the first route that gives a good one, and the route's name.

        Raises:
            ApplyFailed: no route does; the first one's error.
        """
        failures: list[UpError] = []
        for route, create in self.admin.token_routes:
            try:
                claims, text = self._checked(route, create(run, name))
            except UpError as failure:
                failures.append(failure)
                continue
            return Secret(text), claims, route
        error = failures[0]
        error.detail = "\n".join([error.detail, *(f.message for f in failures[1:])]).strip()
        raise error

    def _checked(self, route: str, printed: str) -> tuple[Claims, str]:
        claims, text = parse_token_output(printed)
        if claims is None:
            raise ApplyFailed(
                "token-garbage",
                f"{route} printed no token",
                hint=f"{self.admin.about}; is it Hatchet's own?",
                detail=printed[:200],
            )
        # A new token has its whole life before it, so expiry cannot be its fault.
        wanted = (self.spec.server_url, self.spec.grpc_address, self.engine.tenant)
        got = (claims.server_url, claims.grpc_address, claims.tenant)
        if got != wanted:
            raise ApplyFailed(
                "token-garbage",
                f"{route} gave a token for {got[0]}, gRPC {got[1]} and tenant {got[2]}, "
                f"not for {wanted[0]}, gRPC {wanted[1]} and {wanted[2]}",
                hint=f"{self.admin.about}; is it Hatchet's own?",
            )
        return claims, text

    def _minted(self, claims: Claims, route: str) -> str:
        by = "" if route == self.admin.token_routes[0][0] else f" by {route}"
        return f"minted{by}, until {claims.expires_text[:10]}"


class EnsureToken(_TokenStep):
    """A token that the engine accepts, for the right tenant and addresses, with more than 14 days left."""

    id = "token"
    title = "API token"

    def _fault(self, claims: Claims | None, now: float) -> str:
        """Why a token must not be kept; empty for a good one."""
        if claims is None:
            return "there is none yet"
        if claims.tenant != self.engine.tenant:
            return "it is for another tenant"
        if claims.server_url != self.spec.server_url:
            return f"it is for {claims.server_url}, the engine is {self.spec.server_url}"
        if renewal_due(claims, now, self.spec.token_lifetime_hours * 3600):
            return f"it expires on {claims.expires_text}"
        return ""

    def _moves(self) -> bool:
        """Whether the engine that answers now is another one, or on another server, than the one to come."""
        server = self.ledger.recall("postgres")
        # Keys of a sidecar's own are no other engine's.
        kept = (self.ledger.state.mode, server.get("kind"), server.get("identity"), serves_by_sidecar(self.ledger))
        own = isinstance(self.engine, SidecarEngine)
        return kept != (self.spec.mode.value, self.spec.postgres.kind, self.spec.postgres.identity, own)

    def check(self, facts: Facts) -> Change:
        look = facts.our_stack.token
        fault = self._fault(look.claims if look else None, datetime.now(timezone.utc).timestamp())
        if look is None:
            return Change(Action.CREATE, f"mint one ({fault})", touches=("secrets.json",))
        if not fault and (look.grpc is None or look.grpc.state == "unavailable" or self._moves()):
            return Change(Action.RUN, "kept if the engine accepts it")
        if not fault and look.grpc is not None and look.grpc.state == "refused-token":
            fault = "the engine refuses the kept one"
        if fault:
            summary = f"mint one ({fault}), and revoke the old one afterwards"
            return Change(Action.UPDATE, summary, touches=("secrets.json",))
        return unchanged(f"accepted, until {look.claims.expires_text[:10]}")

    def apply(self, run: Run) -> Applied:
        kept = self.ledger.vault.token
        claims = decode(kept)
        fits = claims is not None and not self._fault(claims, run.host.clock.now())
        if claims is not None and fits and self._ask(run, Secret(kept)).state == "ok":
            return Applied(Action.UNCHANGED, f"accepted, until {claims.expires_text[:10]}")
        claims, route = self._replace(run)
        return Applied(Action.UPDATE if kept else Action.CREATE, self._minted(claims, route))


class RotateToken(_TokenStep):
    """A new token in any case.

    Args:
        keep_old: leave the one before it alone.
    """

    id = "token"
    title = "API token"

    def __init__(self, spec: StackSpec, ledger: Ledger, admin: TokenMaker, *, keep_old: bool) -> None:
        super().__init__(spec, ledger, admin)
        self.keep_old = keep_old

    def check(self, facts: Facts) -> Change:
        return Change(Action.UPDATE, "mint a new one", touches=("secrets.json",))

    def apply(self, run: Run) -> Applied:
        return Applied(Action.UPDATE, self._minted(*self._replace(run, keep_old=self.keep_old)))


class ProveToken(_TokenStep):
    """See the kept token accepted over both channels."""

    id = "token.proof"
    title = "Proof"

    def check(self, facts: Facts) -> Change:
        return Change(Action.RUN, "gRPC and REST take the new one")

    def apply(self, run: Run) -> Applied:
        self._prove(run)
        return Applied(Action.RUN, "gRPC and REST take it")


class RevokeTokens(_TokenStep):
    """Revoke tokens of ours that have been superseded, once the kept one is seen to be good.

    By the same statement in the database as the engine's own REST API: the engine needs no telling, and no login.

    Args:
        newer: the step that may supersede the kept one.
        all_earlier: also those that were kept on purpose when they were superseded.
    """

    id = "token.old"
    title = "Old token"

    def __init__(
        self, spec: StackSpec, ledger: Ledger, admin: TokenMaker, newer: EnsureToken | RotateToken, *,
        all_earlier: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(spec, ledger, admin)
        self.newer, self.all_earlier = newer, all_earlier
        self._token = ledger.vault.token

    def outdated(self) -> bool:
        return self._pending()

    def _pending(self) -> bool:
        return bool(self.ledger.vault.superseded or self._requests() or (self.all_earlier and self._earlier()))

    def _requests(self) -> list[str]:
        """Names of tokens that were asked for, and of which nothing more is known."""
        return [r.identity["request"] for r in self.ledger.receipts("token") if "request" in r.identity]

    def _earlier(self) -> list[str]:
        """Ids of every token of ours on this server but the kept one."""
        kept, server = decode(self.ledger.vault.token), self.spec.postgres.identity
        return [
            r.identity["id"]
            for r in self.ledger.receipts("token")
            if r.identity.get("server", server) == server and r.identity.get("id") not in (None, kept and kept.token_id)
        ]

    def check(self, facts: Facts) -> Change:
        if self._pending() or self.newer.check(facts).action is Action.UPDATE:
            return Change(
                Action.REMOVE, "revoke it once the new one is proved", touches=("its record in Hatchet's database",)
            )
        return unchanged("none to revoke")

    def apply(self, run: Run) -> Applied:
        if run.smoke is not None and run.smoke.status == "failed":
            return Applied(Action.SKIP, "not before a smoke test has passed with the new one")
        run.say("proving the new one")
        kept = self._prove(run)
        old = {claims.token_id: text for text in self.ledger.vault.superseded if (claims := decode(text)) is not None}
        old.pop(kept.token_id, None)
        if old and self.ledger.vault.token != self._token:
            run.say(f"leaving programs that start just now {_GRACE_SECONDS:.0f} s")
            run.host.clock.sleep(_GRACE_SECONDS)
        login, postgres = self.spec.login(self.spec.database(HATCHET_DATABASE)), run.host.postgres
        ids = list(dict.fromkeys([*old, *(self._earlier() if self.all_earlier else ())]))
        requests = self._requests()
        ids += [i for name in requests for i in postgres.tokens_named(login, name) if i not in (kept.token_id, *ids)]
        known = [token_id for token_id in ids if postgres.revoke_token(login, token_id)]
        accepted = [text for text in old.values() if not self._wait_refused(run, text)]
        self.ledger.vault.superseded = []
        self.ledger.save_secrets()
        for token_id in ids:
            self.ledger.forget("token", id=token_id, server=self.spec.postgres.identity)
        for name in requests:
            self.ledger.forget("token", request=name)
        if not known:
            return Applied(Action.UNCHANGED, "none is on record any more")
        what, last = ("revoked", "it") if len(known) == 1 else (f"{len(known)} revoked", "the last one")
        return Applied(Action.REMOVE, what + (f", gRPC refuses {last}" if old and not accepted else ""))

    def _wait_refused(self, run: Run, text: str) -> bool:
        """Whether the engine refuses a revoked token by now, or within its memory's time; says so where it does not."""

        def look() -> tuple[bool | None, str]:
            seen = run.host.hatchet.grpc_version(self.spec.grpc_address, Secret(text), timeout=2.0)
            return (None, "accepted") if seen.state == "ok" else (True, "")

        run.say("waiting until the engine refuses it")
        deadline = Deadline(run.deadline.left(_FORGETS_WITHIN), run.host.clock)
        try:
            return wait_until("the engine refusing the old token", look, deadline=deadline)
        except TimedOut:
            run.findings.append(
                Finding(
                    "token.old-accepted", "warn", "the old token is revoked, and the engine still accepts it",
                    f"after {deadline.seconds:.0f} s; it reads the record anew at its next start",
                    "owlclaw-up down; owlclaw-up", "owlclaw-up down; owlclaw-up",
                )
            )  # fmt: skip
            return False


def revocations(ledger: Ledger) -> list[Step]:
    """What a purge does about tokens: revoke those in a database that it does not drop. Others go with theirs."""
    stays = ledger.recall("postgres").get("kind") == "local" or ledger.recall("compose").get("adopted")
    kept = [
        r
        for r in ledger.receipts("token")
        if not ledger.receipts("database", name=r.identity.get("database"), server=r.identity.get("server"))
    ]
    return [RevokeOurs(ledger)] if stays and kept else []


class RevokeOurs:
    """Revoke every token of ours in a database that stays: one that was there before us."""

    id = "token"
    title = "API tokens"

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def check(self, facts: Facts) -> Change:
        count = len(self.ledger.receipts("token"))
        return Change(Action.REMOVE, f"revoke {count} of ours" if count else "revoke ours")

    def apply(self, run: Run) -> Applied:
        admin, postgres = admin_login(self.ledger), run.host.postgres
        server = self.ledger.recall("postgres").get("identity")
        revoked = 0
        for receipt in self.ledger.receipts("token"):
            at = receipt.identity
            password = self.ledger.vault.passwords.get(at.get("role", ""))
            if admin is None or password is None or at.get("server") != server:
                continue
            login = ServerLogin(admin.host, admin.port, at["role"], Secret(password), at["database"], admin.options)
            refusal = postgres.login_works(login)
            if refusal is not None:
                # Their keys go with the state, so no engine of ours takes them any more.
                return Applied(Action.SKIP, f"could not be revoked: {refusal.detail.splitlines()[0]}")
            ids = [at["id"]] if "id" in at else postgres.tokens_named(login, at["request"])
            revoked += sum(postgres.revoke_token(login, token_id) for token_id in ids)
        self.ledger.forget("token")
        return Applied(Action.REMOVE, f"{revoked} revoked")


def parse_token_output(stdout: str) -> tuple[Claims | None, str]:
    """The token in the output of `hatchet-admin token create`: exactly one line that is a JWT; logs go to stderr."""
    lines = [line.strip() for line in stdout.splitlines() if line.strip()]
    tokens = [(claims, line) for line in lines if (claims := decode(line)) is not None]
    if len(tokens) != 1:
        return None, ""
    return tokens[0]
