"""What is on record of the engine that left Hatchet's database as it is, and of an upgrade that has begun.

The phases of an upgrade, each on record before what it names is done:

    dumping     the old engine is stopped; nothing is migrated
    dumped      the dump is whole; the database may be migrated, and no engine has served on it since
    serving     the new engine may have served, so what is newer than the dump may be somebody's work
    restoring   the dump takes the database's place; no engine serves
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from owlclaw_up.errors import EngineUnusable
from owlclaw_up.host.base import DatabaseLook
from owlclaw_up.host.engines import version_tuple
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import HATCHET_DATABASE, PostgresSpec

DUMPING, DUMPED, SERVING, RESTORING = "dumping", "dumped", "serving", "restoring"


@dataclass(frozen=True)
class OpenUpgrade:
    """An upgrade that has begun and not ended.

    Attributes:
        before, to: versions.
        dump: path of the dump, empty while there is none.
        migration: the database's at that time.
        directory, image: where the old engine's binaries are; the id of its image.
        sidecar, checksum: the old engine's program, where it was a sidecar that somebody named.
        run: the command that reached this phase.
    """

    before: str
    to: str
    phase: str
    run: str
    dump: str = ""
    migration: int | None = None
    directory: str = ""
    image: str = ""
    sidecar: str = ""
    checksum: str = ""


def server_key(server: PostgresSpec) -> str:
    """What tells the server that holds our databases from others that this project used."""
    return server.identity or server.kind


def left_by(ledger: Ledger, server: PostgresSpec) -> str:
    """Version of the engine that migrated the database of that server last; empty where it is not on record."""
    kept = ledger.recall("engine")
    same = kept.get("migrated_on") in (None, server_key(server))
    return str(kept.get("migrated_by") or "") if same else ""


def open_upgrade(ledger: Ledger, server: PostgresSpec) -> OpenUpgrade | None:
    """The upgrade on that server that has not ended."""
    kept: Mapping[str, Any] = ledger.recall("upgrade")
    if not kept.get("phase") or kept.get("server") != server_key(server):
        return None
    return OpenUpgrade(**{name: value for name, value in kept.items() if name != "server"})


def mark_serving(ledger: Ledger, server: PostgresSpec) -> None:
    """Put on record that an engine of the new version serves from now on; the database counts as its from now on."""
    begun = open_upgrade(ledger, server)
    if begun is not None and begun.phase == DUMPED:
        ledger.keep("engine", migrated_by=begun.to, migrated_on=server_key(server))
        ledger.remember("upgrade", phase=SERVING, run=ledger.run)


def refuse_older(
    ledger: Ledger, server: PostgresSpec, version: str, source: str, seen: DatabaseLook | None
) -> None:  # fmt: skip
    """Refuse an engine that is older than the one that migrated the database, unless nothing of the newer one has served.

    Args:
        source: where the engine is, for the reader.
        seen: the database, where the server runs.

    Raises:
        EngineUnusable: it is older.
    """
    before, begun = left_by(ledger, server), open_upgrade(ledger, server)
    if not before or (seen is not None and not seen.migration):
        return
    if not (0, 0, 0) < version_tuple(version) < version_tuple(before):
        return
    if begun is not None and begun.phase in (DUMPED, RESTORING) and begun.before == version:
        return
    way_back = f"; or the data of before: owlclaw-up db restore {begun.dump}" if begun and begun.dump else ""
    raise EngineUnusable(
        "engine-downgrade",
        f"database {HATCHET_DATABASE} was migrated by Hatchet {before}, and {version} ({source}) is older; "
        "migrations go one way",
        hint=f"take {before} or a newer one (engine_dir, hatchet_image; owlclaw-up engine list); or give the data up: owlclaw-up reset{way_back}",
    )
