"""Everything that decides whether a token is good: where programs get it, the engine's record of it, and asking the engine.

Reads only; `checks.tokens` judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from owlclaw_up.facts.dotenv import look_for_shadows, meant
from owlclaw_up.facts.place import EnginePlace, engine_place
from owlclaw_up.facts.remote import given_login, made_by_login
from owlclaw_up.facts.servers import hatchet_login
from owlclaw_up.facts.side_by_side import ask
from owlclaw_up.facts.stack import look_at_engine
from owlclaw_up.facts.values import EnvPlace, EnvPlaces
from owlclaw_up.host.base import GrpcLook, RestLook, ServerLogin, ServerRefusal, Tls, TokenRow
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Absent, Fact, Found, Mode, Secret, Unknown
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings
from owlclaw_up.spec import TENANT_ID
from owlclaw_up.token_claims import Claims, decode

TOKEN_KEYS = ("HATCHET_CLIENT_TOKEN", "HATCHET_API_TOKEN")
# A token, the places from which a program gets it, and whether they win over the dotenv file.
InUse = tuple[Secret, tuple[EnvPlace, ...], bool]
# Seconds for all questions, which are asked side by side; and where the engine is reached over a network.
_ALL, _ELSEWHERE = 2.0, 6.0
# What one of them may take of that; REST takes it twice, for connecting and for reading.
_QUESTION_PART, _REST_PART = 0.75, 0.4


@dataclass(frozen=True)
class Dials:
    """Where a program dials, as hatchet-sdk works it out of its variables.

    Attributes:
        host_port: gRPC; empty where only the token's own claim says it.
        server_url: REST; empty likewise.
        tls: whether gRPC is spoken over TLS.
        root_ca: file of the only root certificate that is trusted; empty for the usual ones.
        server_name: the name that the certificate must have; the host's own where empty.
        certificate, key: files of the client's own certificate; empty where none is shown.
    """

    host_port: str
    server_url: str
    tls: bool
    root_ca: str = ""
    server_name: str = ""
    certificate: str = ""
    key: str = ""


@dataclass(frozen=True)
class TokenUse:
    """One token that programs use, and what came of looking at it.

    Attributes:
        places: from where they get it, the strongest first.
        shadow: whether one of those places wins over the dotenv file.
        row: the engine's record of it; `Absent` where there is none.
        grpc, rest: None where there was nothing to ask, or nobody.
    """

    token: Secret
    places: tuple[EnvPlace, ...]
    shadow: bool
    claims: Claims | None
    row: Fact[TokenRow]
    grpc: GrpcLook | None = None
    rest: RestLook | None = None


@dataclass(frozen=True)
class EngineSight:
    """The engine of the environment, as a token must fit it.

    Attributes:
        state: `ready`, `not ready` or `stopped`.
        says: what it answers, for the reader.
        reaches_database: what it says of that itself; None where it says nothing.
        tenant_known: whether the environment's tenant is in its database, as our own login sees it.
        elsewhere: whether it runs on a server that is not ours.
        made: whether the kept token is one that a login made there.
        email: of a login there that is given; empty where none is.
        login: whether its password is given, too, so that the next `up` may have it make a token.
    """

    tenant: str
    server_url: str
    grpc_address: str
    state: str
    says: str
    reaches_database: bool | None
    tenant_known: Fact[bool]
    elsewhere: bool = False
    made: bool = False
    email: str = ""
    login: bool = False


@dataclass(frozen=True)
class TokenFacts:
    """What is known of the tokens in use.

    Attributes:
        uses: each token once; that of the dotenv file first.
        kept: the token that owlclaw-up keeps.
        now: our own clock, in seconds since the epoch.
        lifetime: of the next token, in seconds.
    """

    uses: tuple[TokenUse, ...]
    kept: Secret
    dials: Dials
    engine: EngineSight
    now: float
    lifetime: float


def tokens_in_use(places: EnvPlaces, names: Mapping[str, str]) -> list[InUse]:
    """Each token that a program would get, once: its text, its places, and whether they win over the dotenv file.

    Args:
        names: the setting `env_names`.
    """
    keys = [names.get(key, key) for key in TOKEN_KEYS]
    in_file = {meant(place.key): place for place in places.written}
    first = [in_file[key] for key in keys if key in in_file]
    over = [place for key in keys for place in [p for p in places.over if meant(p.key) == key][:1]]
    by_text: dict[Secret, list[EnvPlace]] = {}
    for place in [*first, *over]:
        by_text.setdefault(place.value, []).append(place)
    return [(text, tuple(where), where[0] not in first) for text, where in by_text.items()]


def dials(places: EnvPlaces, names: Mapping[str, str]) -> Dials:
    """Where a program would dial with the variables that it gets."""

    def value(key: str) -> str:
        name = names.get(key, key)
        winning = [p for p in places.over if meant(p.key) == name][:1]
        own = [p for p in places.written if meant(p.key) == name][-1:]
        return next((p.value.reveal().strip() for p in [*winning, *own]), "")

    # hatchet-sdk speaks TLS where nothing tells it otherwise.
    strategy = value("HATCHET_CLIENT_TLS_STRATEGY").lower()
    shown = [value(f"HATCHET_CLIENT_TLS_{what}_FILE") for what in ("CERT", "KEY") if strategy == "mtls"]
    return Dials(
        value("HATCHET_CLIENT_HOST_PORT"), value("HATCHET_CLIENT_SERVER_URL"), strategy != "none",
        value("HATCHET_CLIENT_TLS_ROOT_CA_FILE"), value("HATCHET_CLIENT_TLS_SERVER_NAME"), *shown,
    )  # fmt: skip


def look_for_tokens(host: Host, settings: Settings, ledger: Ledger) -> Fact[TokenFacts]:
    """The tokens that programs of this project would use now, as far as the environment has an engine."""
    mode = ledger.state.mode
    if mode in ("", Mode.MOCK.value) or (mode != Mode.REMOTE.value and not ledger.recall("engine")):
        return Absent("no engine was set up here yet")
    places, names = look_for_shadows(host, settings, ledger.project), settings.env_names.value
    return Found(look_at_tokens(host, settings, ledger, tokens_in_use(places, names), dials(places, names), _ALL))


def look_at_tokens(
    host: Host, settings: Settings, ledger: Ledger, found: Sequence[InUse], where: Dials, elsewhere: float = _ELSEWHERE
) -> TokenFacts:  # fmt: skip
    """Ask the database and the engine about every token that programs use, side by side.

    Args:
        elsewhere: seconds for all of it, of an engine that is not ours.
    """
    place = engine_place(ledger) or EnginePlace("", "", TENANT_ID)
    end = elsewhere if place.elsewhere else _ALL
    question, of_rest = _QUESTION_PART * end, (_REST_PART if place.elsewhere else _QUESTION_PART) * end
    claims = [decode(token.reveal()) for token, _, _ in found]
    ids = tuple(c.token_id for c in claims if c is not None)
    questions: dict[str, Callable[[], Any]] = {
        "engine": lambda: look_at_engine(host, ledger, of_rest),
    }
    if not place.elsewhere:
        port, login = ledger.state.ports.get("dashboard", 0), hatchet_login(settings, ledger)
        questions["api"] = lambda: host.hatchet.get(port, "/api/ready", question)
        questions["records"] = lambda: _look_at_records(host, login, ids, question)
    for number, ((token, _, _), said) in enumerate(zip(found, claims, strict=True)):
        if said is not None:
            questions[f"grpc {number}"] = _grpc(host, where, said, token, question)
            questions[f"rest {number}"] = _rest(host, where, said, token, of_rest)
    answers = ask(questions, end)
    late = f"no answer within {end:.1f} s"
    unasked = Unknown("it is on a server elsewhere" if place.elsewhere else late)
    tenant, rows = answers.get("records", (unasked, {}))
    no_grpc, no_rest = (
        GrpcLook("unavailable", hop="gRPC", detail=late),
        RestLook("unavailable", hop="REST", detail=late),
    )
    uses = tuple(
        TokenUse(
            token, places, shadow, said, _row(tenant, rows, said),
            answers.get(f"grpc {number}", no_grpc) if said else None,
            answers.get(f"rest {number}", no_rest) if said else None,
        )
        for number, ((token, places, shadow), said) in enumerate(zip(found, claims, strict=True))
    )  # fmt: skip
    process, ready, says = answers.get("engine", (None, False, late))
    api = answers.get("api")
    native = ledger.recall("engine").get("container") is None
    stopped = "engine" in answers and process is None and (native or api is None) and not place.elsewhere
    engine = EngineSight(
        place.tenant, _identity(place, ledger), place.grpc_address,
        "ready" if ready else "stopped" if stopped else "not ready", says, _reaches_database(api), tenant, place.elsewhere,
        made_by_login(ledger, decode(ledger.vault.token)), settings.remote_login.value, given_login(settings) is not None,
    )  # fmt: skip
    lifetime = settings.token_lifetime.value * 3600.0
    return TokenFacts(uses, Secret(ledger.vault.token), where, engine, host.clock.now(), lifetime)


def _identity(place: EnginePlace, ledger: Ledger) -> str:
    """The SERVER_URL that the engine compares with a token's: of one elsewhere, what the token that it takes says."""
    claims = decode(ledger.vault.token) if place.elsewhere else None
    return claims.server_url if claims else place.server_url


def _grpc(host: Host, where: Dials, claims: Claims, token: Secret, seconds: float) -> Callable[[], GrpcLook]:
    address = where.host_port or claims.grpc_address
    tls = Tls(where.root_ca, where.server_name, where.certificate, where.key) if where.tls else None
    return lambda: host.hatchet.grpc_version(address, token, seconds, tls=tls)


def _rest(host: Host, where: Dials, claims: Claims, token: Secret, seconds: float) -> Callable[[], RestLook]:
    url = where.server_url or claims.server_url
    return lambda: host.hatchet.rest_tenant(url, claims.tenant, token, seconds, root_ca=where.root_ca)


def _look_at_records(
    host: Host, login: ServerLogin | None, ids: Sequence[str], seconds: float
) -> tuple[Fact[bool], Mapping[str, TokenRow]]:
    """Whether the environment's tenant is in the engine's database, and what is on record there of tokens, by their id."""
    if login is None:
        return Unknown("the login of Hatchet's database is not known"), {}
    records = host.postgres.token_records(login, TENANT_ID, ids, seconds)
    if isinstance(records, ServerRefusal):
        return Unknown(records.detail), {}
    return Found(records[0]), records[1]


def _row(asked: Fact[bool], rows: Mapping[str, TokenRow], claims: Claims | None) -> Fact[TokenRow]:
    if isinstance(asked, Unknown):
        return Unknown(asked.why)
    row = rows.get(claims.token_id) if claims else None
    return Found(row) if row else Absent("the engine's database has no record of it")


def _reaches_database(api: tuple[int, str, str] | None) -> bool | None:
    """What the engine's `/api/ready` says of its database; None where it says nothing.

    It asks its own database each time: hatchet, api/v1/server/handlers/metadata/health.go.
    """
    if api is None or "html" in api[1]:
        return None
    return True if api[0] == 200 else False if "repository" in api[2] else None
