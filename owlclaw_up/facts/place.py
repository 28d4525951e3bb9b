"""Where the engine of an environment is, by what the state remembers of it."""

from __future__ import annotations

from dataclasses import dataclass

from owlclaw_up.host.base import Tls
from owlclaw_up.model import Mode
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import TENANT_ID, own_grpc_address

# What `remote` keeps of its server.
REMOTE = "remote"


@dataclass(frozen=True)
class EnginePlace:
    """Addresses of an engine.

    Attributes:
        tls: how TLS is spoken over gRPC; None for plain text.
        root_ca: file of the only root certificate that is trusted; empty for the usual ones.
        elsewhere: whether it runs on a server that is not ours.
    """

    server_url: str
    grpc_address: str
    tenant: str
    tls: Tls | None = None
    root_ca: str = ""
    elsewhere: bool = False


def engine_place(ledger: Ledger) -> EnginePlace | None:
    """Where the engine of the last `up` is; None where no port was chosen yet."""
    if ledger.state.mode == Mode.REMOTE.value:
        return kept_remote(ledger)
    ports = ledger.state.ports
    if "dashboard" not in ports or "grpc" not in ports:
        return None
    grpc = own_grpc_address(ports["grpc"], sidecar=serves_by_sidecar(ledger))
    return EnginePlace(f"http://localhost:{ports['dashboard']}", grpc, TENANT_ID)


def serves_by_sidecar(ledger: Ledger) -> bool:
    """Whether the engine that was started last is Hatchet's embedded one."""
    kept = ledger.recall("engine")
    return bool(kept.get("sidecar")) and not kept.get("container")


def kept_remote(ledger: Ledger) -> EnginePlace | None:
    """The server elsewhere that was used last, whatever is used now."""
    kept = ledger.recall(REMOTE)
    if not kept.get("grpc_address"):
        return None
    root_ca = str(kept.get("root_ca", ""))
    files = kept.get("cert_file", ""), kept.get("key_file", "")
    tls = Tls(root_ca, kept.get("server_name", ""), *files) if kept.get("tls") else None
    return EnginePlace(kept["server_url"], kept["grpc_address"], kept["tenant"], tls, root_ca, elsewhere=True)
