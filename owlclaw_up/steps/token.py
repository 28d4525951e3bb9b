"""The API token: one good token is kept; a new one is minted only where the kept one is dead or about to be."""

from __future__ import annotations

import re
import socket
from datetime import datetime, timezone

from owlclaw_up.errors import ApplyFailed, UpError
from owlclaw_up.facts import Facts
from owlclaw_up.host.base import GrpcLook, wait_until
from owlclaw_up.model import Action, Change, Secret, unchanged
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import StackSpec
from owlclaw_up.steps.base import Applied, HatchetAdmin, Run
from owlclaw_up.token_claims import Claims, decode

RENEW_BELOW_DAYS = 14


class EnsureToken:
    """A token that the engine accepts, for the right tenant and addresses, with more than 14 days left."""

    id = "token"
    title = "API token"

    def __init__(self, spec: StackSpec, ledger: Ledger, admin: HatchetAdmin) -> None:
        assert spec.engine is not None
        self.spec, self.ledger, self.admin, self.engine = spec, ledger, admin, spec.engine

    def _fault(self, claims: Claims | None, now: float) -> str:
        """Why a token must not be kept; empty for a good one."""
        if claims is None:
            return "there is none yet"
        if claims.tenant != self.engine.tenant:
            return "it is for another tenant"
        if claims.server_url != self.spec.server_url:
            return f"it is for {claims.server_url}, the engine is {self.spec.server_url}"
        # In seconds: whole days would have a token of a day or less made anew each time.
        if claims.expires - now < min(RENEW_BELOW_DAYS * 86400, self.spec.token_lifetime_hours * 3600 / 2):
            return f"it expires on {claims.expires_text}"
        return ""

    def _moves(self) -> bool:
        """Whether the engine that answers now is another one, or on another server, than the one to come."""
        server = self.ledger.recall("postgres")
        kept = (self.ledger.state.mode, server.get("kind"), server.get("identity"))
        return kept != (self.spec.mode.value, self.spec.postgres.kind, self.spec.postgres.identity)

    def check(self, facts: Facts) -> Change:
        look = facts.our_stack.token
        fault = self._fault(look.claims if look else None, datetime.now(timezone.utc).timestamp())
        if fault:
            return Change(Action.UPDATE if look else Action.CREATE, f"mint one ({fault})", touches=("secrets.json",))
        assert look is not None
        if look.grpc is None or look.grpc.state == "unavailable" or self._moves():
            return Change(Action.RUN, "kept if the engine accepts it")
        if look.grpc.state == "refused-token":
            return Change(Action.UPDATE, "mint one (the engine refuses the kept one)", touches=("secrets.json",))
        return unchanged(f"accepted, until {look.claims.expires_text[:10]}")

    def apply(self, run: Run) -> Applied:
        kept = self.ledger.vault.token
        fault = self._fault(decode(kept), run.host.clock.now())
        if not fault:
            look = self._ask(run, Secret(kept))
            if look.state == "ok":
                claims = decode(kept)
                assert claims is not None
                return Applied(Action.UNCHANGED, f"accepted, until {claims.expires_text[:10]}")
            fault = "the engine refuses the kept one"
        token, claims, route = self._mint(run)
        look = self._ask(run, token)
        if look.state != "ok":
            raise ApplyFailed(
                "token-refused",
                "the engine refuses the token that its own admin tool has just made",
                hint="owlclaw-up logs hatchet; owlclaw-up reset",
                detail=look.detail,
            )
        self.ledger.vault.token = token.reveal()
        self.ledger.save_secrets()
        self.ledger.record("token", id=claims.token_id, tenant=claims.tenant)
        by = "" if route == self.admin.token_routes[0][0] else f" by {route}"
        return Applied(Action.UPDATE if kept else Action.CREATE, f"minted{by}, until {claims.expires_text[:10]}")

    def _ask(self, run: Run, token: Secret) -> GrpcLook:
        """GetVersion with the token; an engine that does not listen yet is waited for."""

        def look() -> tuple[GrpcLook | None, str]:
            seen = run.host.hatchet.grpc_version(self.spec.grpc_address, token, timeout=2.0)
            return (None, seen.detail) if seen.state == "unavailable" else (seen, "")

        tail, dead = self.admin.watch(run)
        return wait_until("the engine's gRPC port answering", look, deadline=run.deadline, dead=dead, log_tail=tail)

    def _mint(self, run: Run) -> tuple[Secret, Claims, str]:
        """A new token by the first route that gives a good one, and the route's name.

        Raises:
            ApplyFailed: no route does; the first one's error.
        """
        host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
        name = f"owlclaw-up-{host}-{datetime.now(timezone.utc):%Y%m%d}"
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


def parse_token_output(stdout: str) -> tuple[Claims | None, str]:
    """The token in the output of `hatchet-admin token create`: exactly one line that is a JWT; logs go to stderr."""
    lines = [line.strip() for line in stdout.splitlines() if line.strip()]
    tokens = [(claims, line) for line in lines if (claims := decode(line)) is not None]
    if len(tokens) != 1:
        return None, ""
    return tokens[0]
