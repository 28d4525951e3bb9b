"""Is the token that programs use good, and if not, why: `TokenFacts` -> findings. Pure.

The engine says `invalid auth token` to everything, also when only its database is away; so the reason is found out from
what the token says of itself, from the engine's record of it, and from the engine's own state, in this order.
"""

from __future__ import annotations

from owlclaw_up.facts.tokens import EngineSight, TokenFacts, TokenUse
from owlclaw_up.model import Absent, Finding, Found, Unknown, found
from owlclaw_up.remote_design import new_token
from owlclaw_up.token_claims import renewal_due

# An engine whose clock is as close as this takes a new token; HTTP tells its time in whole seconds.
_CLOCK_SECONDS = 2.0
_AGAIN = "owlclaw-up"
_ROTATE = "owlclaw-up token rotate"
_DOCTOR = "owlclaw-up doctor"
_LOOK = "owlclaw-up; what the engine said: owlclaw-up logs hatchet"


def token_findings(facts: TokenFacts, env_name: str) -> tuple[Finding, ...]:
    """Everything there is to say of the tokens in use, each one's verdict first.

    Args:
        env_name: the dotenv file, for the reader.
    """
    missing = []
    if not any(use.token and not use.shadow for use in facts.uses):
        why = "owlclaw-up keeps one, and writes it there" if facts.kept else "programs that read it get none"
        missing = [_fault("token.none", f"there is no token in {env_name}", why, _AGAIN)]
    findings = [*missing, *(f for use in facts.uses for f in _of_one(use, facts))]
    # The engine's own state is said once, however many tokens ask it.
    return tuple(dict.fromkeys(findings))


def _of_one(use: TokenUse, facts: TokenFacts) -> list[Finding]:
    place = use.places[0]
    # Two keys of one file may hold two tokens.
    where = f"{place.key} in {place.where}" if len(facts.uses) > 1 else f"in {place.where}"
    mend = _mend(use, facts.engine)
    if not use.token:
        empty = _fault("token.none", f"the token {where} is empty", "a program takes the empty one", mend)
        return [empty] if use.shadow else []
    if use.claims is None:
        detail = "a Hatchet token is three parts of base64 with points between them; this is something else, or cut off"
        return [_fault("token.malformed", f"the token {where} is malformed", detail, mend)]
    findings = [*_by_claims(use, facts, where), *_by_record(use, facts, where), *_engine(facts.engine)]
    if not findings:
        findings = _by_asking(use, facts, where)
    if not any(f.level == "fail" for f in findings):
        findings += _warnings(use, facts, where)
    if not use.shadow and facts.kept and use.token != facts.kept:
        # Of a server elsewhere it is the user who says which token counts.
        takes = (
            "takes it instead, where no setting gives one" if facts.engine.elsewhere else "writes the kept one over it"
        )
        findings.append(
            Finding(
                "token.differs", "warn", f"the token {where} is not the one that owlclaw-up keeps",
                f"the next owlclaw-up {takes}", _AGAIN, _AGAIN,
            )
        )  # fmt: skip
    return findings


def _mend(use: TokenUse, engine: EngineSight) -> str:
    """What to do about a token that is no good: away with one that shadows, a new one for ours."""
    if not use.shadow:
        return new_token(engine.made, engine.email) if engine.elsewhere and not engine.login else _AGAIN
    place = use.places[0]
    return f"unset {place.key}" if place.line is None else f"remove line {place.line} of {place.where}"


def _fault(code: str, title: str, detail: str, mend: str, hint: str = "") -> Finding:
    """A finding that fails.

    Args:
        mend: the command that mends it, or what else to do.
        hint: said in its place, where there is more to say.
    """
    return Finding(code, "fail", title, detail, hint or mend, mend if mend.startswith(("owlclaw-up", "unset")) else "")


def _by_claims(use: TokenUse, facts: TokenFacts, where: str) -> list[Finding]:
    """What the token says of itself, and that the engine takes no such one, whatever its state."""
    claims, engine, mend = use.claims, facts.engine, _mend(use, facts.engine)
    assert claims is not None
    findings = []
    if claims.expires <= _engine_now(use, facts):
        title = f"the token {where} expired on {claims.expires_text[:10]}"
        findings.append(_fault("token.expired", title, "nothing of the engine is at fault", mend))
    if claims.tenant != engine.tenant:
        title, detail = f"the token {where} is for another tenant", f"{claims.tenant}, the engine's is {engine.tenant}"
        findings.append(_fault("token.tenant", title, detail, mend))
    if claims.server_url != engine.server_url:
        title = f"the token {where} is for another SERVER_URL"
        detail = f"for {claims.server_url}, the engine is {engine.server_url}; compared as exact strings"
        findings.append(_fault("token.server-url", title, detail, mend))
    return findings


def _by_record(use: TokenUse, facts: TokenFacts, where: str) -> list[Finding]:
    """What the engine's database says of it, where we can read that."""
    claims, mend = use.claims, _mend(use, facts.engine)
    assert claims is not None
    if isinstance(use.row, Absent) and not isinstance(facts.engine.tenant_known, Unknown):
        gone = facts.engine.tenant_known == Found(False)
        detail = "that database has no such tenant either" if gone else f"token id {claims.token_id}"
        title = f"the token {where} is not on record in the engine's database: it was reset, or is another one"
        return [_fault("token.database-reset", title, detail, mend)]
    row = found(use.row)
    if row is not None and row.revoked:
        taken = use.grpc is not None and use.grpc.state == "ok"
        detail = "the engine may go on accepting it for 5 s" if taken else ""
        # As long as it is taken, `up` keeps it.
        mend = _ROTATE if taken and not use.shadow else mend
        return [_fault("token.revoked", f"the token {where} was revoked", detail, mend)]
    if row is not None and row.tenant != claims.tenant:
        title = f"the token {where} is on record for another tenant"
        return [_fault("token.tenant", title, f"it says {claims.tenant}, the record {row.tenant}", mend)]
    return []


def _engine(engine: EngineSight) -> list[Finding]:
    """What keeps the engine from judging any token."""
    if engine.state == "stopped":
        return [_fault("engine.running", "the engine is not running", engine.says, _AGAIN)]
    if engine.reaches_database is False:
        own = engine.tenant_known
        detail = "it refuses every token meanwhile" + (
            f"; our own login there: {own.why.splitlines()[0]}" if isinstance(own, Unknown) else ""
        )
        return [_fault("engine.database", "the engine cannot reach its database", detail, _AGAIN, _LOOK)]
    return []


def _by_asking(use: TokenUse, facts: TokenFacts, where: str) -> list[Finding]:
    """What came of using it as a program would."""
    claims, grpc, rest, at = use.claims, use.grpc, use.rest, facts.dials
    assert claims is not None
    assert grpc is not None
    assert rest is not None
    url = at.server_url or claims.server_url
    if grpc.state == "unavailable":
        return [_no_way(facts, grpc.hop, grpc.detail, at.host_port or claims.grpc_address, "gRPC")]
    if grpc.state == "refused-token":
        return [_refused(use, facts, where)]
    if rest.state == "refused-token":
        title = f"REST refuses the token {where}, gRPC takes it"
        other = "; is another engine there?" if url != facts.engine.server_url else ""
        return [_fault("token.rest", title, f"{url} says {rest.status}{other}", _AGAIN)]
    if rest.state != "ok":
        return [_no_way(facts, rest.hop, rest.detail or f"HTTP {rest.status}", url, "REST")]
    until = f"until {claims.expires_text[:10]}, {claims.days_left(facts.now)} days"
    return [Finding("token.good", "ok", f"the token {where} is good", f"gRPC and REST take it; {until}")]


def _refused(use: TokenUse, facts: TokenFacts, where: str) -> Finding:
    """It fits, as far as can be seen, and is refused all the same."""
    claims, mend = use.claims, _mend(use, facts.engine)
    assert claims is not None
    behind = claims.issued - _engine_now(use, facts)
    if behind > _CLOCK_SECONDS:
        return _fault(
            "token.clock", f"the engine's clock is {behind:.0f} s behind the moment when the token {where} was made",
            "it refuses a token from the future; a virtual machine's clock stands still while the laptop sleeps",
            "set that clock right, or start that machine (Docker Desktop, Colima, WSL) again",
        )  # fmt: skip
    if facts.engine.elsewhere:
        title = f"{facts.engine.server_url} refuses the token {where}"
        return _fault("token.refused", title, "it was revoked, or is another installation's", mend)
    if isinstance(use.row, Unknown):
        title = f"the engine refuses the token {where}, and its database could not be asked why"
        return _fault("token.refused", title, use.row.why.splitlines()[0] if use.row.why else "", mend)
    return _fault(
        "token.keys", f"the token {where} was signed with other keys",
        "addresses, tenant and record fit, the engine reaches its database, and refuses it", mend,
    )  # fmt: skip


def _no_way(facts: TokenFacts, hop: str, words: str, address: str, channel: str) -> Finding:
    """No answer at the place that the variables, or the token, name."""
    engine, at = facts.engine, facts.dials
    ours = engine.grpc_address if channel == "gRPC" else engine.server_url
    detail = words.splitlines()[0][:160] if words else ""
    if channel == "gRPC" and at.tls and hop == "TLS" and not engine.elsewhere:
        title = f"gRPC to {address} breaks at TLS: the engine speaks plain text"
        hint = f"{_AGAIN} (it writes HATCHET_CLIENT_TLS_STRATEGY=none)"
    elif address != ours:
        title = f"{channel} to {address} breaks at {hop}; the engine is at {ours}"
        hint = ""
    else:
        title = f"{channel} to {address} breaks at {hop}"
        hint = "" if engine.elsewhere else _LOOK
    code = "engine.grpc" if channel == "gRPC" else "engine.api"
    if engine.elsewhere:
        code = "remote.tls" if hop == "TLS" else "remote.reach"
    # Where the address is the right one, no `up` gets there either.
    mend = _DOCTOR if engine.elsewhere and address == ours else _AGAIN
    return _fault(code, title, detail or engine.says, mend, hint)


def _warnings(use: TokenUse, facts: TokenFacts, where: str) -> list[Finding]:
    claims, engine = use.claims, facts.engine
    assert claims is not None
    findings = []
    title = f"the token {where} expires in {claims.days_left(facts.now)} days"
    if renewal_due(claims, facts.now, facts.lifetime) and engine.elsewhere:
        again = f"{_AGAIN} (it says how it is renewed)"
        findings.append(Finding("remote.token-expires", "warn", title, f"on {claims.expires_text[:10]}", again, _AGAIN))
    elif renewal_due(claims, facts.now, facts.lifetime):
        findings.append(
            Finding(
                "token.expires", "warn", title,
                f"on {claims.expires_text[:10]}; the next owlclaw-up renews it", _AGAIN, _AGAIN,
            )
        )  # fmt: skip
    if claims.grpc_address != engine.grpc_address and not engine.elsewhere:
        detail = f"it says {claims.grpc_address}, the engine is {engine.grpc_address}; only programs without HATCHET_CLIENT_HOST_PORT dial there"
        title = f"the token {where} names another gRPC address"
        findings.append(Finding("token.grpc-address", "warn", title, detail, _ROTATE, _ROTATE))
    return findings


def _engine_now(use: TokenUse, facts: TokenFacts) -> float:
    """The engine's clock decides, where it is known."""
    return use.rest.clock if use.rest and use.rest.clock is not None else facts.now
