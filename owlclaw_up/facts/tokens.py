"""Everything that decides whether a token is good: where programs get it, the engine's record of it, and asking the engine.

Reads only; `token_checks` judges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from owlclaw_up.facts.place import EnginePlace, engine_place
from owlclaw_up.facts.servers import hatchet_login
from owlclaw_up.facts.stack import look_at_engine
from owlclaw_up.facts.values import EnvPlace
from owlclaw_up.host.base import GrpcLook, RestLook, ServerLogin, Tls, TokenRow
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Absent, Fact, Found, Mode, Secret, Unknown
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings
from owlclaw_up.spec import TENANT_ID
from owlclaw_up.token_claims import Claims, decode

T = TypeVar("T")
_GRPC_SECONDS = 4.0


@dataclass(frozen=True)
class Dials:
    """Where a program dials, as hatchet-sdk works it out of its variables.

    Attributes:
        host_port: gRPC; empty where only the token's own claim says it.
        server_url: REST; empty likewise.
        tls: whether gRPC is spoken over TLS.
        root_ca: file of the only root certificate that is trusted; empty for the usual ones.
        server_name: the name that the certificate must have; the host's own where empty.
    """

    host_port: str
    server_url: str
    tls: bool
    root_ca: str = ""
    server_name: str = ""


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
    """

    tenant: str
    server_url: str
    grpc_address: str
    state: str
    says: str
    reaches_database: bool | None
    tenant_known: Fact[bool]
    elsewhere: bool = False


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


def look_at_tokens(
    host: Host, settings: Settings, ledger: Ledger, found: Sequence[tuple[Secret, tuple[EnvPlace, ...], bool]], dials: Dials
) -> TokenFacts:  # fmt: skip
    """Ask the database and the engine about every token that programs use, side by side.

    Args:
        found: each token with its places, and whether they win over the dotenv file.
    """
    place = engine_place(ledger) or EnginePlace("", "", TENANT_ID)
    login = hatchet_login(settings, ledger)

    def tenant_known(at: ServerLogin) -> Fact[bool]:
        return Found(host.postgres.tenant_exists(at, TENANT_ID))

    with ThreadPoolExecutor(max_workers=8) as pool:
        sight = pool.submit(_look_at_engine, host, ledger)
        tenant: Future[Fact[bool]] = pool.submit(_ask_database, host, login, tenant_known)
        asked = [(t, places, shadow, _ask(pool, host, login, t, dials)) for t, places, shadow in found]
        state, says, reaches = sight.result()
        uses = tuple(
            TokenUse(t, places, shadow, decode(t.reveal()), row.result(), grpc.result(), rest.result())
            for t, places, shadow, (row, grpc, rest) in asked
        )
        engine = EngineSight(
            place.tenant,
            _identity(place, ledger),
            place.grpc_address,
            state,
            says,
            reaches,
            tenant.result(),
            place.elsewhere,
        )
    lifetime = settings.token_lifetime.value * 3600.0
    return TokenFacts(uses, Secret(ledger.vault.token), dials, engine, host.clock.now(), lifetime)


def _ask(
    pool: ThreadPoolExecutor, host: Host, login: ServerLogin | None, token: Secret, dials: Dials
) -> tuple[Future[Fact[TokenRow]], Future[GrpcLook | None], Future[RestLook | None]]:
    claims = decode(token.reveal())

    def row(at: ServerLogin) -> Fact[TokenRow]:
        seen = host.postgres.token_row(at, claims.token_id) if claims else None
        return Found(seen) if seen else Absent("the engine's database has no record of it")

    def grpc() -> GrpcLook | None:
        if claims is None:
            return None
        address = dials.host_port or claims.grpc_address
        tls = Tls(dials.root_ca, dials.server_name) if dials.tls else None
        return host.hatchet.grpc_version(address, token, _GRPC_SECONDS, tls=tls)

    def rest() -> RestLook | None:
        if claims is None:
            return None
        url = dials.server_url or claims.server_url
        return host.hatchet.rest_tenant(url, claims.tenant, token, root_ca=dials.root_ca)

    return pool.submit(_ask_database, host, login, row), pool.submit(grpc), pool.submit(rest)


def _ask_database(host: Host, login: ServerLogin | None, ask: Callable[[ServerLogin], Fact[T]]) -> Fact[T]:
    if login is None:
        return Unknown("the login of Hatchet's database is not known")
    refusal = host.postgres.login_works(login, 2.0)
    return Unknown(refusal.detail) if refusal else ask(login)


def _identity(place: EnginePlace, ledger: Ledger) -> str:
    """The SERVER_URL that the engine compares with a token's: of one elsewhere, what the token that it takes says."""
    claims = decode(ledger.vault.token) if place.elsewhere else None
    return claims.server_url if claims else place.server_url


def _look_at_engine(host: Host, ledger: Ledger) -> tuple[str, str, bool | None]:
    process, ready, says = look_at_engine(host, ledger)
    if ledger.state.mode == Mode.REMOTE.value:
        # Whether it reaches its database is its own affair.
        return "ready" if ready else "not ready", says, None
    api = host.hatchet.get(ledger.state.ports.get("dashboard", 0), "/api/ready", 2.0)
    reaches = None
    if api is not None and "html" not in api[1]:
        # It asks its own database each time: hatchet, api/v1/server/handlers/metadata/health.go.
        reaches = True if api[0] == 200 else False if "repository" in api[2] else None
    native = ledger.recall("engine").get("container") is None
    stopped = process is None and (native or api is None)
    return "ready" if ready else "stopped" if stopped else "not ready", says, reaches
