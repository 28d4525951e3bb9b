"""Probe of what the engine serves over HTTP: the dashboard's first page, and REST for the kept token."""

from __future__ import annotations

from owlclaw_up.facts.place import engine_place, serves_by_sidecar
from owlclaw_up.facts.values import WebLook
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Absent, Fact, Found, Secret
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import HEADLESS_PAGE
from owlclaw_up.token_claims import decode

# Seconds, for each of connecting and reading.
_TIMEOUT = 1.0
_ELSEWHERE = 4.0


def look_at_web(host: Host, ledger: Ledger) -> Fact[WebLook]:
    """GET / and one question over REST where the dashboard is, as far as an engine was set up."""
    place, port = engine_place(ledger), ledger.state.ports.get("dashboard")
    if place is None or port is None or not (ledger.recall("engine") or place.elsewhere):
        return Absent("no engine was set up here yet")
    if place.elsewhere:
        page = host.hatchet.page(place.server_url, _ELSEWHERE, root_ca=place.root_ca)
    else:
        page = host.hatchet.get(port, "/", _TIMEOUT)
    status, kind, body = page or (0, "", "")
    token = ledger.vault.token
    claims = decode(token)
    rest = None
    if claims is not None:
        seconds = _ELSEWHERE if place.elsewhere else _TIMEOUT
        rest = host.hatchet.rest_tenant(
            place.server_url, claims.tenant, Secret(token), seconds, root_ca=place.root_ca
        )  # fmt: skip
    headless = body.strip() == HEADLESS_PAGE.decode().strip()
    html = status == 200 and "html" in kind
    return Found(WebLook(port, status, html, headless, rest, place.server_url, serves_by_sidecar(ledger)))
