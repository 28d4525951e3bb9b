"""What may be asked of a Hatchet server elsewhere, beside what is asked of every engine. Protocol and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from owlclaw_up.host.base import Tls
from owlclaw_up.model import Secret

# How nginx says over HTTP what others say while they shake hands: it misses a certificate, or does not like the one shown.
HANDSHAKE_STATUSES = (400, 495, 496)
# In each of those pages: src/http/ngx_http_special_response.c.
HANDSHAKE_WORDS = "SSL certificate"


@dataclass(frozen=True)
class ReachLook:
    """Why a server does not answer as it is asked: a look made after a call has failed.

    Attributes:
        fault: `name`, `refused`, `timeout`, `unreachable`, `proxy`, `tls-missing`, `tls-unexpected`, `certificate-name`,
            `certificate-root`, `certificate-expired`, `certificate`; `client-certificate-missing`,
            `client-certificate-refused`; `no-http2`; empty where connection and TLS are as they are expected.
        detail: the words of whoever refused.
    """

    fault: str = ""
    detail: str = ""


@dataclass(frozen=True)
class CertificateLook:
    """The files of a client's certificate.

    Attributes:
        trouble: why they cannot be used; empty where they can.
        open_to_others: whether others than its owner may read the key.
    """

    trouble: str = ""
    open_to_others: bool = False


@dataclass(frozen=True)
class Tenant:
    """A tenant that a login is a member of."""

    id: str
    name: str
    slug: str


@dataclass(frozen=True)
class AccountLook:
    """What came of a login over REST.

    Attributes:
        state: `ok`, `refused`, `unavailable` (nobody, or no Hatchet, answers).
    """

    state: str
    tenants: tuple[Tenant, ...] = ()
    detail: str = ""


class RemoteHatchet(Protocol):
    """The door to it: looks, and its REST API as one of its people."""

    def reach_grpc(self, address: str, tls: Tls | None, timeout: float = 4.0) -> ReachLook: ...
    def reach_rest(self, url: str, root_ca: str, timeout: float = 4.0) -> ReachLook: ...
    def certificate(self, certificate: str, key: str) -> CertificateLook: ...
    def account(self, url: str, root_ca: str, email: str, password: Secret) -> AccountLook: ...
    def create_token(
        self, url: str, root_ca: str, email: str, password: Secret, tenant: str, name: str, hours: int
    ) -> Secret: ...
    def revoke_tokens(
        self, url: str, root_ca: str, email: str, password: Secret, tenant: str, *, ids: Sequence[str],
        names: Sequence[str] = (),
    ) -> int: ...  # fmt: skip
