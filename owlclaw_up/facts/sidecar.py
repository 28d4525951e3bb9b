"""Probe of Hatchet's embedded engine: which one could be started here, and whether it is what runs or ran last. Reads only."""

from __future__ import annotations

from pathlib import Path

from owlclaw_up.facts.place import serves_by_sidecar
from owlclaw_up.facts.values import SidecarLook
from owlclaw_up.host import sidecars
from owlclaw_up.host.engines import EngineRefused
from owlclaw_up.host.machine import Host
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings
from owlclaw_up.spec import Sidecar


def look_for_sidecar(host: Host, settings: Settings, ledger: Ledger) -> SidecarLook:
    """The sidecar that the settings name, else the one that served last, else the release of the settings."""
    served = "version" in ledger.recall("sidecar")
    return SidecarLook(_find(host, settings, ledger), serves_by_sidecar(ledger) and served)


def _find(host: Host, settings: Settings, ledger: Ledger) -> Sidecar | EngineRefused:
    version, binary = settings.sidecar_version, settings.sidecar_binary.value
    checksum, kept = settings.sidecar_checksum.value, ledger.recall("sidecar")
    if binary is not None:
        said = version.value if version.explicit else ""
        return sidecars.named(binary.expanduser().absolute(), said, checksum, settings.sidecar_binary.origin)
    if version.explicit or "version" not in kept:
        return sidecars.of_release(version.value, checksum, host.environ, offline=settings.offline.value)
    if kept.get("binary"):
        checksum = checksum or kept.get("checksum", "")
        return sidecars.named(Path(kept["binary"]), kept["version"], checksum, "last run")
    return sidecars.of_release(kept["version"], checksum, host.environ, offline=settings.offline.value)
