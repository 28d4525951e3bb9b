"""Probe of the host names that programs are given: whether they mean anything on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from urllib.parse import urlsplit

from owlclaw_up.facts.dotenv import look_for_shadows, meant
from owlclaw_up.facts.side_by_side import ask
from owlclaw_up.facts.tokens import TOKEN_KEYS
from owlclaw_up.host.base import on_this_machine
from owlclaw_up.host.machine import Host
from owlclaw_up.host.names import Resolved, resolve
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings
from owlclaw_up.token_claims import decode

LOCALHOST = "localhost"
# Seconds for all names together: a DNS that is away must not hold up the doctor.
_PATIENCE = 1.5
# In which an address can be found: the others hold a strategy, a tenant, a port.
_ADDRESSES = (
    "HATCHET_CLIENT_HOST_PORT", "HATCHET_CLIENT_SERVER_URL", "HATCHET_SERVER_URL", "HATCHET_GRPC_HOST_PORT",
    "DATABASE_URL", "OWLCLAW_DATABASE_URL",
)  # fmt: skip


def host_in(key: str, value: str, names: Mapping[str, str]) -> str:
    """The host of which a value speaks: `host:port`, a URL, or a token with its gRPC address; empty where there is none.

    Args:
        names: the setting `env_names`.
    """
    text = value.strip()
    if key in {names.get(k, k) for k in TOKEN_KEYS}:
        claims = decode(text)
        text = claims.grpc_address if claims else ""
    elif key not in {names.get(k, k) for k in _ADDRESSES}:
        return ""
    try:
        return urlsplit(text if "://" in text else f"//{text}").hostname or ""
    except ValueError:
        return ""


def look_at_names(host: Host, settings: Settings, ledger: Ledger) -> Mapping[str, Resolved]:
    """`localhost`, and every other name in the values that programs may read, also where that is a token of theirs."""
    places = look_for_shadows(host, settings, ledger.project)
    hosts = {
        host_in(meant(place.key), place.value.reveal(), settings.env_names.value)
        for place in (*places.written, *places.over)
    }
    wanted = {LOCALHOST, *(name for name in hosts if not on_this_machine(name))}
    answers = ask({name: partial(resolve, name) for name in wanted}, _PATIENCE)
    late = Resolved(error=f"no answer within {_PATIENCE:.1f} s")
    return {name: answers.get(name, late) for name in wanted}
