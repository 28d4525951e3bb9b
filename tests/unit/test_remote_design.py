"""What was seen of a server elsewhere, judged: what needs an odd server, or one that nobody has, to happen for real."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up import remote_design
from owlclaw_up.checks.preconditions import check_of
from owlclaw_up.errors import RemoteUnusable
from owlclaw_up.facts.values import RemoteLook, RemoteTarget
from owlclaw_up.host.base import GrpcLook, RestLook, Tls
from owlclaw_up.host.remote_base import AccountLook, ReachLook, Tenant
from owlclaw_up.model import Absent, Found, Secret
from owlclaw_up.remote_design import remote_engine, remote_findings
from owlclaw_up.setting_values import Sourced
from owlclaw_up.settings import Settings
from owlclaw_up.spec import TENANT_ID, RemoteEngine, RemoteLogin
from owlclaw_up.token_claims import decode
from tests.unit.fakes import NOW, make_facts, make_token

TOKEN = make_token(server_url="https://h.example.com", grpc_broadcast_address="h.example.com:443")
LOGIN = RemoteLogin("me@example.com", Secret("pw"))
TARGET = RemoteTarget(
    Secret(TOKEN), "OWLCLAW_UP_REMOTE_TOKEN", False, decode(TOKEN), "", Sourced("https://h.example.com", "token", "the token"),
    Sourced("h.example.com:443", "token", "the token"), Tls(), "default", "", "", None,
)  # fmt: skip
TAKEN, WELL = GrpcLook("ok", "v0.107.2"), RestLook("ok", 200)
ONE, OTHER = Tenant(TENANT_ID, "Default", "default"), Tenant("2", "Team", "team")


def judged(settings: Settings | None = None, **values: Any) -> RemoteEngine:
    target = {name: values.pop(name) for name in list(values) if name in RemoteTarget.__dataclass_fields__}
    usual: dict[str, Any] = {"grpc": TAKEN, "rest": WELL, **values}
    look = RemoteLook(dataclasses.replace(TARGET, **target), NOW, **usual)
    return remote_engine(make_facts(Path("/p"), remote=Found(look)), settings or Settings())


def refused(**values: Any) -> RemoteUnusable:
    with pytest.raises(RemoteUnusable) as caught:
        judged(**values)
    return caught.value


def test_a_server_that_answers_is_taken_as_it_is() -> None:
    engine = judged()
    assert (engine.server_url, engine.grpc_address, engine.tls) == ("https://h.example.com", "h.example.com:443", Tls())
    assert (engine.tenant, engine.version, engine.token, engine.made) == (TENANT_ID, "v0.107.2", Secret(TOKEN), False)


def test_a_token_for_another_address_of_the_same_server_is_good() -> None:
    assert judged(server_url=Sourced("https://10.0.0.7")).server_url == "https://10.0.0.7"


@pytest.mark.parametrize(
    ("values", "code", "hint"),
    [
        ({"grpc": GrpcLook("unavailable", hop="TLS", detail="CERTIFICATE_VERIFY_FAILED")}, "remote-certificate-root", "CA_FILE"),
        ({"grpc": GrpcLook("unavailable", detail="UNIMPLEMENTED: unknown method")}, "remote-engine-too-old", "upgrade"),
        ({"grpc": GrpcLook("ok", "v0.70.1")}, "remote-engine-too-old", "upgrade"),
        ({"rest": RestLook("failed", 404, "REST", "not found")}, "remote-split", "OWLCLAW_UP_REMOTE_GRPC"),
        ({"rest": RestLook("failed", 500, "REST", "oh no")}, "remote-not-hatchet", "OWLCLAW_UP_REMOTE_URL"),
        ({"rest": RestLook("failed", 502, "REST", "bad gateway")}, "remote-no-upstream", "start that server"),
        ({"grpc": GrpcLook("refused-token", hop="token")}, "remote-split", "OWLCLAW_UP_REMOTE_GRPC"),
        (
            {"grpc": GrpcLook("unavailable"), "grpc_reach": ReachLook("timeout", "did not answer within 3 s")},
            "remote-unreachable", "VPN",
        ),
        ({"grpc": GrpcLook("unavailable"), "grpc_reach": ReachLook("certificate", "unsuitable purpose")}, "remote-certificate", ""),
    ],
)  # fmt: skip
def test_what_keeps_it_from_being_used(values: dict[str, Any], code: str, hint: str) -> None:
    error = refused(**values)
    assert error.code == code and hint in error.hint and error.exit_code == 3


def test_what_was_never_looked_at_is_said() -> None:
    with pytest.raises(RemoteUnusable, match="no answer within"):
        remote_engine(make_facts(Path("/p"), remote=Absent("no answer within 30 s")), Settings())


def test_a_login_with_several_tenants_has_to_choose() -> None:
    seen: dict[str, Any] = {
        "token": None, "claims": None, "email": LOGIN.email, "login": LOGIN, "grpc": None, "rest": None,
        "account": AccountLook("ok", (ONE, OTHER)),
    }  # fmt: skip
    error = refused(**seen)
    assert error.code == "remote-tenant" and "is in 2 tenants" in error.message and "Team (team): 2" in error.detail
    chosen = dataclasses.replace(Settings(), remote_tenant=Sourced("team"))
    assert judged(chosen, **seen).tenant == "2"
    assert judged(chosen, **seen, version="v0.107.2").version == "v0.107.2"
    old = refused(**{**seen, "account": AccountLook("ok", (ONE,))}, version="v0.70.0")
    assert old.code == "remote-engine-too-old"
    none = refused(**{**seen, "account": AccountLook("ok")})
    assert none.code == "remote-tenant" and "no tenant" in none.message
    away = refused(**{**seen, "grpc_reach": ReachLook("refused", "nobody")})
    assert away.code == "remote-unreachable" and "gRPC" in away.message


def test_a_token_of_ours_is_renewed_by_the_login_and_kept_where_that_fails() -> None:
    due: dict[str, Any] = {"made": True, "email": LOGIN.email, "login": LOGIN, "due": True}
    assert judged(**due, account=AccountLook("ok", (ONE,))).token is None
    assert judged(**due, account=AccountLook("refused")).token == Secret(TOKEN)


def test_an_expired_token_of_ours_names_the_login() -> None:
    claims = decode(make_token(exp=int(NOW) - 1))
    assert "OWLCLAW_UP_REMOTE_LOGIN=EMAIL" in refused(claims=claims, made=True).hint
    assert "dashboard" in refused(claims=claims).hint
    renewed = judged(claims=claims, made=True, login=LOGIN, grpc=None, rest=None, account=AccountLook("ok", (ONE,)))
    assert renewed.token is None


def test_a_good_server_may_still_be_warned_of() -> None:
    def told(token: str, tls: Tls | None) -> set[str]:
        look = RemoteLook(dataclasses.replace(TARGET, tls=tls, claims=decode(token)), NOW, TAKEN, WELL)
        facts = make_facts(Path("/p"), remote=Found(look))
        return {finding.id for finding in remote_findings(facts, remote_engine(facts, Settings()))}

    assert told(TOKEN, Tls()) == set()
    assert told(TOKEN, None) == {"remote.plain"}
    assert told(make_token(exp=int(NOW) + 3 * 86400), None) == {"remote.plain", "remote.token-expires"}


def test_the_doctor_has_a_check_for_each_of_them() -> None:
    codes = set(re.findall(r'"(remote-[a-z-]+)"', Path(remote_design.__file__).read_text(encoding="utf-8")))
    assert len(codes) > 15
    for code in codes:
        assert check_of(RemoteUnusable(code, "", hint="")).startswith("remote."), code
