"""Probe of the running engine: its process, what each of its ports says, who reaches them, and its last words. Reads only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from owlclaw_up.facts.machine import INNER_PORTS
from owlclaw_up.facts.place import serves_by_sidecar
from owlclaw_up.facts.side_by_side import ask
from owlclaw_up.facts.stack import running_engine
from owlclaw_up.host.base import ProcessId
from owlclaw_up.host.machine import Host
from owlclaw_up.host.ports import answers_tcp
from owlclaw_up.host.process_look import is_suspended, listening_everywhere
from owlclaw_up.model import Absent, Fact, Found, Mode, Secret
from owlclaw_up.receipts import Ledger
from owlclaw_up.spec import ADMIN_EMAIL

# The password that Hatchet documents, and gives where none is named: hatchet, pkg/config/database/config.go.
DOCUMENTED = "Admin123!!"
# Seconds: for one request, and for everything, which is asked side by side.
_REQUEST, _ALL = 1.0, 2.0
_LOG_LINES = 400


@dataclass(frozen=True)
class HttpLook:
    """Attributes: `kind` is the content type; `body` its first 4 KiB. A status of 0: nobody answered in time."""

    status: int
    kind: str = ""
    body: str = ""

    @property
    def html(self) -> bool:
        return "html" in self.kind


@dataclass(frozen=True)
class EngineHealth:
    """The engine that was set up, as far as it can be asked without a token.

    Attributes:
        container: whether it is to run in a container; what is of a process is then empty.
        process: the one that runs.
        recorded: pid of the one on record, whether it runs or not.
        suspended: whether the process is stopped by a signal.
        stopped_at: when `down` stopped it, as ISO 8601; empty where it has not since the last start.
        ready: of `/ready` on the health port; None for a container, which does not publish it, and for a sidecar, which has none.
        api: of `/api/ready` on the dashboard's port.
        version: what it says it is; empty where it says nothing.
        open_to_all: whether it asks nobody for a token or a login.
        grpc: whether anybody accepts connections on the gRPC port.
        everywhere: purposes of its ports that listen beyond loopback.
        documented_password: whether that one lets in; None where that is not known.
        words: the end of its log, of a process.
    """

    container: bool
    process: ProcessId | None
    recorded: int | None
    suspended: bool
    stopped_at: str
    ready: HttpLook | None
    api: HttpLook
    version: str
    open_to_all: bool
    grpc: bool
    everywhere: tuple[str, ...]
    documented_password: bool | None
    words: tuple[str, ...]


@dataclass(frozen=True)
class _Said:
    """What the API says without asking who asks."""

    api: HttpLook
    meta: Mapping[str, Any]
    version: str
    documented_password: bool | None


def look_at_engine_health(host: Host, ledger: Ledger) -> Fact[EngineHealth]:
    """Ask the engine on record, whatever its state is."""
    kept, ports = ledger.recall("engine"), ledger.state.ports
    if not (kept.get("started_at") or kept.get("container")) or ledger.state.mode == Mode.MOCK.value:
        return Absent("no engine was set up here yet")
    container = kept.get("container") is not None
    silent = container or serves_by_sidecar(ledger)
    process = None if container else running_engine(host, ledger)
    purposes = ("dashboard", "grpc", *INNER_PORTS)

    def everywhere() -> tuple[str, ...]:
        open_ports = listening_everywhere(process, ledger.process("sidecar")) if process else frozenset()
        return tuple(purpose for purpose in purposes if ports.get(purpose) in open_ports)

    answers = ask(
        {
            "said": lambda: _ask_api(host, ports.get("dashboard", 0), ledger.vault.passwords.get("dashboard")),
            "ready": lambda: None if silent else _get(host, ports.get("health", 0), "/ready"),
            "grpc": lambda: answers_tcp("127.0.0.1", ports.get("grpc", 0)),
            "everywhere": everywhere,
            "words": lambda: () if container else tuple(host.files.tail(ledger.logs / "hatchet.log", _LOG_LINES)),
        },
        _ALL,
    )
    said: _Said = answers.get("said", _Said(HttpLook(0), {}, "", None))
    recorded = ledger.process("engine")
    return Found(
        EngineHealth(
            container, process, recorded.pid if recorded else None,
            process is not None and is_suspended(process), str(kept.get("stopped_at") or ""),
            answers.get("ready", None if silent else HttpLook(0)), said.api, said.version,
            said.meta.get("authDisabled") is True, answers.get("grpc", False), answers.get("everywhere", ()),
            said.documented_password, answers.get("words", ()),
        )
    )  # fmt: skip


def _get(host: Host, port: int, path: str) -> HttpLook:
    return HttpLook(*(host.hatchet.get(port, path, _REQUEST) or (0,)))


def _ask_api(host: Host, port: int, kept_password: str | None) -> _Said:
    """`/api/ready`; and where that is the API's own answer, what it is, and whether the documented password lets in.

    Args:
        kept_password: where it is known to be another one, the documented one is not tried: a login that fails is work
            for the engine, and looks like an attack.
    """
    api = _get(host, port, "/api/ready")
    documented = None if kept_password in (None, DOCUMENTED) else False
    if api.html or api.status not in (200, 500):
        return _Said(api, {}, "", documented)
    if api.status == 200 and documented is None:
        documented = host.hatchet.lets_in(port, ADMIN_EMAIL, Secret(DOCUMENTED), _REQUEST)
    version = str(_document(_get(host, port, "/api/v1/version")).get("version", ""))
    return _Said(api, _document(_get(host, port, "/api/v1/meta")), version, documented)


def _document(look: HttpLook) -> Mapping[str, Any]:
    try:
        read = json.loads(look.body)
    except ValueError:
        return {}
    return read if look.status == 200 and isinstance(read, dict) else {}
