"""A Hatchet server elsewhere: its addresses and the token are kept; nothing of it is started, stopped or changed.

A token that was given is never changed or revoked. One that we made by a login has a receipt, and is revoked by a login.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from datetime import datetime, timezone

from owlclaw_up.errors import ApplyFailed, RemoteUnusable, UpError
from owlclaw_up.facts import Facts
from owlclaw_up.facts.place import REMOTE
from owlclaw_up.facts.remote import TOKEN
from owlclaw_up.host.base import GrpcLook, wait_until
from owlclaw_up.model import Action, Change, Secret, unchanged
from owlclaw_up.receipts import Ledger, Receipt
from owlclaw_up.spec import RemoteEngine, RemoteLogin, StackSpec
from owlclaw_up.steps.base import Applied, Run, Step
from owlclaw_up.steps.dotenv import WriteDotenv
from owlclaw_up.token_claims import decode


class UseRemote:
    """Keep the addresses at which the server has just been seen to answer."""

    id = "remote"
    title = "Remote Hatchet"

    def __init__(self, spec: StackSpec, ledger: Ledger) -> None:
        assert spec.remote is not None
        self.remote, self.ledger = spec.remote, ledger

    def _values(self) -> dict[str, object]:
        remote = self.remote
        return {
            "server_url": remote.server_url, "grpc_address": remote.grpc_address, "tenant": remote.tenant,
            "tls": remote.tls is not None, "root_ca": remote.root_ca,
            "server_name": remote.tls.server_name if remote.tls else "",
            "cert_file": remote.tls.certificate if remote.tls else "", "key_file": remote.tls.key if remote.tls else "",
        }  # fmt: skip

    def _summary(self) -> str:
        remote = self.remote
        spoken = "over TLS" if remote.tls else "in plain text"
        spoken += ", with a client certificate" if remote.tls and remote.tls.certificate else ""
        version = f"{remote.version} at " if remote.version else ""
        return f"{version}{remote.server_url}, gRPC {remote.grpc_address} {spoken}"

    def check(self, facts: Facts) -> Change:
        kept = self.ledger.recall(REMOTE)
        if all(kept.get(name, "") == value for name, value in self._values().items()):
            return unchanged(f"{self._summary()}, answers")
        return Change(Action.UPDATE if kept else Action.CREATE, self._summary(), touches=(".owlclaw-up/state.json",))

    def apply(self, run: Run) -> Applied:
        kept = self.ledger.recall(REMOTE)
        self.ledger.remember(REMOTE, **self._values(), version=self.remote.version)
        return Applied(Action.UPDATE if kept else Action.CREATE, self._summary())


class KeepToken:
    """Keep the given token as it is; where there is only a login, have it make one.

    Args:
        anew: make one in any case.
    """

    id = "token"
    title = "API token"

    def __init__(self, spec: StackSpec, ledger: Ledger, *, anew: bool = False) -> None:
        assert spec.remote is not None
        self.spec, self.ledger, self.remote = spec, ledger, spec.remote
        self._given = None if anew else spec.remote.token

    def check(self, facts: Facts) -> Change:
        kept = self.ledger.vault.token
        action = Action.UPDATE if kept else Action.CREATE
        if self._given is None:
            email = self.remote.login.email if self.remote.login else ""
            return Change(action, f"made by the login of {email}", touches=("secrets.json", "a token at the server"))
        if kept == self._given.reveal():
            return unchanged(f"accepted, until {self._until()}")
        return Change(action, f"that of {self.remote.origin}, until {self._until()}", touches=("secrets.json",))

    def _until(self) -> str:
        claims = decode(self._given.reveal()) if self._given else None
        return claims.expires_text[:10] if claims else ""

    def apply(self, run: Run) -> Applied:
        ledger = self.ledger
        action = Action.UPDATE if ledger.vault.token else Action.CREATE
        if self._given is None:
            return Applied(action, self._make(run))
        ledger.vault.token = self._given.reveal()
        ledger.save_secrets()
        return Applied(action, f"that of {self.remote.origin}, until {self._until()}")

    def _make(self, run: Run) -> str:
        """A new one; its request is on record first, so that what a crash leaves behind is found by its name."""
        remote, ledger, login = self.remote, self.ledger, self.remote.login
        assert login is not None
        host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
        name = f"owlclaw-up-{host}-{datetime.now(timezone.utc):%Y%m%d}-{ledger.run}"
        at = {"server": remote.server_url, "tenant": remote.tenant}
        ledger.intend(TOKEN, request=name, **at)
        token = run.host.remote.create_token(
            remote.server_url, remote.root_ca, login.email, login.password, remote.tenant, name,
            self.spec.token_lifetime_hours,
        )  # fmt: skip
        claims = decode(token.reveal())
        look = self._ask(run, token)
        if claims is None or look.state != "ok":
            raise ApplyFailed(
                "token-refused",
                f"gRPC at {remote.grpc_address} does not take the token that {remote.server_url} has just made",
                hint="are both one server? OWLCLAW_UP_REMOTE_URL, OWLCLAW_UP_REMOTE_GRPC", detail=look.detail,
            )  # fmt: skip
        ledger.vault.token = token.reveal()
        ledger.save_secrets()
        ledger.record(TOKEN, id=claims.token_id, **at)
        ledger.forget(TOKEN, request=name)
        return f"made by the login of {login.email}, until {claims.expires_text[:10]}"

    def _ask(self, run: Run, token: Secret) -> GrpcLook:
        def look() -> tuple[GrpcLook | None, str]:
            seen = run.host.hatchet.grpc_version(self.remote.grpc_address, token, 5.0, tls=self.remote.tls)
            return (None, seen.detail) if seen.state == "unavailable" else (seen, "")

        return wait_until(f"gRPC at {self.remote.grpc_address} answering", look, deadline=run.deadline)


class RevokeRemoteTokens:
    """Revoke the tokens that we made by a login, all or all but the kept one.

    Args:
        login: by which it is done; None where none is given.
        but_kept: leave the kept one, and the others too unless the smoke test has passed with it.
    """

    def __init__(self, ledger: Ledger, login: RemoteLogin | None, *, but_kept: bool) -> None:
        self.ledger, self.login, self.but_kept = ledger, login, but_kept

    @property
    def id(self) -> str:
        return "token.old" if self.but_kept else "remote.tokens"

    @property
    def title(self) -> str:
        return "Old token" if self.but_kept else "Remote tokens"

    def outdated(self) -> bool:
        return bool(self._receipts())

    def _receipts(self) -> list[Receipt]:
        kept = decode(self.ledger.vault.token) if self.but_kept else None
        return [r for r in self.ledger.receipts(TOKEN) if kept is None or r.identity.get("id") != kept.token_id]

    def check(self, facts: Facts) -> Change:
        count = len(self._receipts())
        if not count:
            return unchanged("none to revoke")
        if self.login is None:
            return Change(Action.RUN, f"{count} of ours cannot be revoked without a login", "OWLCLAW_UP_REMOTE_LOGIN")
        return Change(Action.REMOVE, f"revoke {count} of ours", touches=("tokens at the server",))

    def apply(self, run: Run) -> Applied:
        receipts = self._receipts()
        if self.but_kept and run.smoke is not None and run.smoke.status == "failed":
            return Applied(Action.SKIP, "not before a smoke test has passed with the new one")
        if not receipts:
            return Applied(Action.UNCHANGED, "none to revoke")
        if self.login is None:
            return Applied(Action.RUN, self._left(receipts, "no login is given"))
        root_ca, revoked = str(self.ledger.recall(REMOTE).get("root_ca", "")), 0
        for place in dict.fromkeys((r.identity["server"], r.identity["tenant"]) for r in receipts):
            there = [r for r in receipts if (r.identity["server"], r.identity["tenant"]) == place]
            ids = [r.identity["id"] for r in there if "id" in r.identity]
            names = [r.identity["request"] for r in there if "request" in r.identity]
            try:
                revoked += run.host.remote.revoke_tokens(
                    place[0], root_ca, self.login.email, self.login.password, place[1], ids=ids, names=names
                )
            except UpError as error:
                return Applied(Action.RUN, self._left(receipts, error.message))
            for receipt in there:
                self.ledger.forget(TOKEN, **receipt.identity)
        return Applied(Action.REMOVE, f"{revoked} revoked")

    def _left(self, receipts: Sequence[Receipt], why: str) -> str:
        ids = ", ".join(str(r.identity.get("id") or r.identity.get("request")) for r in receipts)
        servers = ", ".join(dict.fromkeys(str(r.identity["server"]) for r in receipts))
        return f"could not be revoked: {why}; revoke in the dashboard of {servers}: {ids}"


class LeaveRemote:
    """Put the token of a server elsewhere away, before an engine of ours has one of its own."""

    id = "remote"
    title = "Remote Hatchet"

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def check(self, facts: Facts) -> Change:
        where = self.ledger.recall(REMOTE).get("server_url")
        return Change(Action.UPDATE, f"{where} is not used any more, and keeps what it has", touches=("secrets.json",))

    def apply(self, run: Run) -> Applied:
        self.ledger.vault.token = ""
        self.ledger.save_secrets()
        return Applied(Action.UPDATE, "its token is put away; the server is as it was")


def login_wanted(server_url: str, command: str) -> RemoteUnusable:
    """What stands against a new token in the place of one that a login made.

    Args:
        command: the one that wants it.
    """
    return RemoteUnusable(
        "remote-login", f"the token of {server_url} was made by a login, and a new one could not be made without it",
        hint=f"OWLCLAW_UP_REMOTE_LOGIN=EMAIL OWLCLAW_UP_REMOTE_PASSWORD=... {command}",
    )  # fmt: skip


def steps(spec: StackSpec, ledger: Ledger) -> list[Step]:
    """What `up` does about a server elsewhere, before the dotenv file is written."""
    return [UseRemote(spec, ledger), KeepToken(spec, ledger)]


def revocations(ledger: Ledger, login: RemoteLogin | None) -> list[Step]:
    """What a purge does about tokens at a server elsewhere."""
    return [RevokeRemoteTokens(ledger, login, but_kept=False)] if ledger.receipts(TOKEN) else []


def rotation(spec: StackSpec, ledger: Ledger, remote: RemoteEngine, *, keep_old: bool) -> list[Step]:
    """A new token in the place of one of ours.

    Raises:
        RemoteUnusable: it was given, or there is no login to make one.
    """
    if remote.login is None and remote.made:
        raise login_wanted(remote.server_url, "owlclaw-up token rotate")
    if remote.login is None:
        raise RemoteUnusable(
            "remote-token-given", f"the token of {remote.server_url} is not ours to change, since it was given",
            hint="with a login: OWLCLAW_UP_REMOTE_LOGIN=EMAIL OWLCLAW_UP_REMOTE_PASSWORD=... owlclaw-up token rotate; or "
            "make one in the dashboard, then: OWLCLAW_UP_REMOTE_TOKEN=... owlclaw-up",
        )  # fmt: skip
    made: list[Step] = [KeepToken(spec, ledger, anew=True), WriteDotenv(spec, ledger)]
    return made if keep_old else [*made, RevokeRemoteTokens(ledger, remote.login, but_kept=True)]
