"""Probe of what the engine serves over HTTP: the dashboard's first page, and REST for the kept token."""

from __future__ import annotations

from owlclaw_up.facts.values import WebLook
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Absent, Fact, Found, Secret
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import HEADLESS_PAGE
from owlclaw_up.token_claims import decode

# Seconds, for each of connecting and reading.
_TIMEOUT = 1.0


def look_at_web(host: Host, ledger: Ledger) -> Fact[WebLook]:
    """GET / and one question over REST on the dashboard's port, as far as an engine was set up."""
    port = ledger.state.ports.get("dashboard")
    if not ledger.recall("engine") or port is None:
        return Absent("no engine was set up here yet")
    page = host.hatchet.get(port, "/", _TIMEOUT)
    status, kind, body = page or (0, "", "")
    token = ledger.vault.token
    claims = decode(token)
    rest = None
    if claims is not None:
        rest = host.hatchet.rest_tenant(f"http://localhost:{port}", claims.tenant, Secret(token), _TIMEOUT)
    headless = body.strip() == HEADLESS_PAGE.decode().strip()
    return Found(WebLook(port, status, status == 200 and "html" in kind, headless, rest))
