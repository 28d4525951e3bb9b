"""What is wrong with a token, from facts alone: one row per cause, and which one is believed where several fit."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from owlclaw_up.checks.tokens import token_findings
from owlclaw_up.facts.tokens import Dials, EngineSight, TokenFacts, TokenUse, dials, tokens_in_use
from owlclaw_up.facts.values import EnvPlace, EnvPlaces
from owlclaw_up.host.base import GrpcLook, RestLook, TokenRow
from owlclaw_up.model import Absent, Found, Secret, Unknown
from owlclaw_up.spec import TENANT_ID
from owlclaw_up.token_claims import decode
from tests.unit.fakes import NOW, make_token

URL, GRPC = "http://localhost:8888", "localhost:17077"
ENGINE = EngineSight(TENANT_ID, URL, GRPC, "ready", "ready", True, Found(True))
REFUSED: dict[str, Any] = {"grpc": GrpcLook("refused-token", hop="token", detail="invalid auth token")}
AWAY = Unknown("connection refused\nis the server running?")


def place(key: str, value: str, where: str = ".env", line: int | None = 3) -> EnvPlace:
    return EnvPlace(key, where, line, Secret(value))


def use(text: str | None = None, **values: Any) -> TokenUse:
    """A good token of the dotenv file, but for what is given; claims go into the token."""
    names = {f.name for f in dataclasses.fields(TokenUse)}
    text = make_token(**{k: v for k, v in values.items() if k not in names}) if text is None else text
    claims = decode(text)
    row = TokenRow(claims.token_id, claims.tenant, "n", False, claims.expires) if claims else None
    usual: dict[str, Any] = {
        "token": Secret(text),
        "places": (place("HATCHET_CLIENT_TOKEN", text),),
        "shadow": False,
        "claims": claims,
        "row": Found(row) if row else Absent("not there"),
        "grpc": GrpcLook("ok", "v0.107.2"),
        "rest": RestLook("ok", 200, clock=NOW),
    }
    return TokenUse(**{**usual, **{k: v for k, v in values.items() if k in names}})


def found(*uses: TokenUse, kept: str | None = None, **engine: Any) -> list[str]:
    """Ids of what is found, first the verdict."""
    text = next((u.token.reveal() for u in uses), "") if kept is None else kept
    facts = TokenFacts(
        uses, Secret(text), Dials(GRPC, URL, False), dataclasses.replace(ENGINE, **engine), NOW, 8760 * 3600
    )
    findings = token_findings(facts, ".env")
    for finding in findings:
        assert finding.title
        assert finding.hint or finding.level == "ok"
        assert not any(u.token.reveal() in f"{finding}" for u in uses if u.token)
    return [finding.id for finding in findings]


def test_a_good_one() -> None:
    assert found(use()) == ["token.good"]


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"text": "eyJhbGciOiJub25lIn0"}, "token.malformed"),
        ({"exp": int(NOW) - 1}, "token.expired"),
        ({"sub": "another"}, "token.tenant"),
        ({"server_url": f"{URL}/"}, "token.server-url"),
        ({"row": Absent("not there")}, "token.database-reset"),
        ({"row": Found(TokenRow("i", TENANT_ID, "n", True, NOW))}, "token.revoked"),
        ({"row": Found(TokenRow("i", "another", "n", False, NOW))}, "token.tenant"),
        (REFUSED, "token.keys"),
        ({**REFUSED, "iat": int(NOW) + 90}, "token.clock"),
        ({**REFUSED, "row": AWAY}, "token.refused"),
        ({"rest": RestLook("refused-token", 403, "token")}, "token.rest"),
        ({"rest": RestLook("unavailable", None, "REST", "refused")}, "engine.api"),
        ({"rest": RestLook("failed", 502, "REST", "")}, "engine.api"),
        ({"grpc": GrpcLook("unavailable", hop="gRPC", detail="x")}, "engine.grpc"),
    ],
)
def test_what_is_wrong(values: dict[str, Any], wrong: str) -> None:
    assert found(use(**values)) == [wrong]


@pytest.mark.parametrize(
    ("engine", "values", "wrong"),
    [
        ({"reaches_database": False, "tenant_known": AWAY}, {**REFUSED, "row": AWAY}, ["engine.database"]),
        # It remembers the token for some seconds.
        ({"reaches_database": False, "tenant_known": AWAY}, {"row": AWAY}, ["engine.database"]),
        ({"state": "stopped", "reaches_database": None}, {"grpc": GrpcLook("unavailable")}, ["engine.running"]),
        # What is certain without the engine is said all the same.
        ({"state": "stopped"}, {"exp": int(NOW) - 1}, ["token.expired", "engine.running"]),
        ({"tenant_known": Found(False)}, {**REFUSED, "row": Absent("not there")}, ["token.database-reset"]),
        # Our own login does not work, which says nothing of the engine's record.
        ({"tenant_known": AWAY}, {"row": AWAY}, ["token.good"]),
    ],
)
def test_the_engine_is_asked_before_the_token_is_blamed(
    engine: dict[str, Any], values: dict[str, Any], wrong: list[str]
) -> None:
    assert found(use(**values), **engine) == wrong


def test_several_reasons_are_all_said() -> None:
    both = use(exp=int(NOW) - 1, server_url="http://localhost:9")
    assert found(both, kept=make_token()) == ["token.expired", "token.server-url", "token.differs"]


def test_warnings_leave_it_good() -> None:
    assert found(use(exp=int(NOW) + 13 * 86400)) == ["token.good", "token.expires"]
    assert found(use(grpc_broadcast_address="elsewhere:1")) == ["token.good", "token.grpc-address"]
    assert found(use(), kept=make_token(iat=1)) == ["token.good", "token.differs"]


def test_where_none_is() -> None:
    assert found() == ["token.none"]
    assert found(use("")) == ["token.none"]


def test_the_engine_s_clock_decides() -> None:
    ahead = RestLook("ok", 200, clock=NOW + 400 * 86400)
    assert found(use(rest=ahead)) == ["token.expired"]
    # Whole seconds of HTTP are no clock that is behind.
    assert found(use(**REFUSED, iat=int(NOW) + 1)) == ["token.keys"]


def test_tls_where_plain_text_is_spoken() -> None:
    broken = use(grpc=GrpcLook("unavailable", hop="TLS", detail="WRONG_VERSION_NUMBER"))
    facts = TokenFacts((broken,), broken.token, Dials(GRPC, URL, True), ENGINE, NOW, 1e9)
    (finding,) = token_findings(facts, ".env")
    assert finding.title == f"gRPC to {GRPC} breaks at TLS: the engine speaks plain text"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, ["token.good"]),
        ({"grpc": GrpcLook("unavailable", hop="TLS", detail="x")}, ["remote.tls"]),
        ({"grpc": GrpcLook("unavailable", hop="gRPC", detail="x")}, ["remote.reach"]),
        ({"rest": RestLook("failed", 502, "REST", "")}, ["remote.reach"]),
        (REFUSED, ["token.refused"]),
        ({"exp": int(NOW) + 13 * 86400}, ["token.good", "remote.token-expires"]),
        # Its server may broadcast an address that is not the one by which it is reached from here.
        ({"grpc_broadcast_address": "elsewhere:1"}, ["token.good"]),
    ],
)
def test_of_a_server_elsewhere_its_own_checks_speak(values: dict[str, Any], said: list[str]) -> None:
    unknown = Unknown("it is on a server elsewhere")
    assert found(use(row=unknown, **values), elsewhere=True, reaches_database=None, tenant_known=unknown) == said


@pytest.mark.parametrize(
    ("engine", "command", "hint"),
    [
        ({"login": True}, "owlclaw-up", "owlclaw-up"),
        ({"login": True, "made": True}, "owlclaw-up", "owlclaw-up"),
        ({"made": True, "email": "me@h"}, "", "OWLCLAW_UP_REMOTE_LOGIN=me@h OWLCLAW_UP_REMOTE_PASSWORD=... owlclaw-up"),
        ({}, "", "make a new one in the dashboard"),
    ],
)
def test_a_refused_token_of_a_server_elsewhere_is_mended_by_up_only_with_a_login(
    engine: dict[str, Any], command: str, hint: str
) -> None:
    bad = use(row=Unknown("it is on a server elsewhere"), **REFUSED)
    sight = dataclasses.replace(ENGINE, elsewhere=True, reaches_database=None, **engine)
    facts = TokenFacts((bad,), bad.token, Dials(GRPC, URL, False), sight, NOW, 1e9)
    (finding,) = token_findings(facts, ".env")
    assert (finding.id, finding.command, hint in finding.hint) == ("token.refused", command, True), finding.hint


def test_the_tokens_in_use() -> None:
    own = (place("HATCHET_CLIENT_TOKEN", "a"), place("HATCHET_API_TOKEN", "a", line=4))
    assert tokens_in_use(EnvPlaces(own), {}) == [(Secret("a"), own, False)]
    again = place("HATCHET_CLIENT_TOKEN", "b", line=9)
    assert [t for t, _, _ in tokens_in_use(EnvPlaces((*own, again)), {})] == [Secret("b"), Secret("a")]
    shell, local = place("HATCHET_API_TOKEN", "c", "the shell", None), place("hatchet_client_token", "d", ".env.local")
    third = place("HATCHET_CLIENT_TOKEN", "e", ".env.dev")
    used = tokens_in_use(EnvPlaces(own, (shell, local, third)), {})
    assert [(t, shadow) for t, _, shadow in used] == [(Secret("a"), False), (Secret("d"), True), (Secret("c"), True)]
    assert tokens_in_use(EnvPlaces((place("MY_TOKEN", "m"),)), {"HATCHET_API_TOKEN": "MY_TOKEN"})[0][0] == Secret("m")
    assert tokens_in_use(EnvPlaces(), {}) == []


def test_where_a_program_dials() -> None:
    assert dials(EnvPlaces(), {}) == Dials("", "", True)
    with_root = (place("HATCHET_CLIENT_TLS_ROOT_CA_FILE", "/r.pem"), place("HATCHET_CLIENT_TLS_SERVER_NAME", "h"))
    assert dials(EnvPlaces(with_root), {}) == Dials("", "", True, "/r.pem", "h")
    own = (place("HATCHET_CLIENT_HOST_PORT", GRPC), place("HATCHET_CLIENT_TLS_STRATEGY", "None"))
    assert dials(EnvPlaces(own), {}) == Dials(GRPC, "", False)
    over = (
        place("HATCHET_CLIENT_HOST_PORT", "a:1", "the shell", None),
        place("HATCHET_CLIENT_HOST_PORT", "b:2", ".env.dev"),
    )
    assert dials(EnvPlaces(own, over), {}).host_port == "a:1"
