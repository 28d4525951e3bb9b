"""What the machine is: `gather` looks at everything side by side, each probe with its own deadline. Read-only.

A probe that crashes or runs out of time gives `Unknown`, and the others go on. One place to add a probe: `_probes`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, TypeVar

from owlclaw_up.facts.containers import look_at_docker
from owlclaw_up.facts.docker_health import look_at_docker_health
from owlclaw_up.facts.dotenv import look_at_dotenv, look_for_shadows
from owlclaw_up.facts.engine_health import look_at_engine_health
from owlclaw_up.facts.inside import look_at_inside
from owlclaw_up.facts.interpreter import PATIENCE, look_at_python, try_out
from owlclaw_up.facts.leftovers import look_for_leftovers
from owlclaw_up.facts.machine import (
    find_engines,
    look_at_fellow_ports,
    look_at_platform,
    look_at_ports,
    look_at_proxies,
    look_at_sdk,
    look_for_binaries,
)
from owlclaw_up.facts.message_queue import look_at_message_queue
from owlclaw_up.facts.migrations import look_at_application_migrations
from owlclaw_up.facts.network import look_at_names
from owlclaw_up.facts.remote import look_at_remote
from owlclaw_up.facts.resources import look_at_resources, look_at_usage
from owlclaw_up.facts.servers import look_for_servers
from owlclaw_up.facts.sidecar import look_for_sidecar
from owlclaw_up.facts.stack import look_at_stack
from owlclaw_up.facts.tokens import look_for_tokens
from owlclaw_up.facts.values import (
    ByHand,
    DatabasesLook,
    DockerFacts,
    DotenvLook,
    EngineLook,
    EnvPlace,
    EnvPlaces,
    Facts,
    LoginLook,
    PlatformLook,
    PortChoice,
    PythonLook,
    ResourcesLook,
    SdkLook,
    ServerCandidate,
    SidecarLook,
    StackLook,
    TokenLook,
    Tried,
    UsageLook,
    WebLook,
)
from owlclaw_up.facts.web import look_at_web
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Fact, Found, Unknown
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings

T = TypeVar("T")
# What the project's Python is asked to do.
TRIED = ("pytest", "client", "mock_run")
# Seconds, by probe. All together take well under one second on a machine at rest. What cannot hang may take longer on a
# busy one: without these facts a durable environment would pass for one that is not there, or a port for a closed one.
DEADLINES = {"docker": 5.0, "servers": 4.0, "remote": 30.0, **dict.fromkeys(TRIED, PATIENCE + 1)}
DEADLINE = 10.0
# Of a deadline, what a probe needs beside the part of it that may take long.
_SPARE = 0.5
# A server that was named is worth a slow network.
NAMED_SERVER_DEADLINE = 8.0
# Looks that take longer than all others together, or that no decision rests on: of `can`, and of `doctor`.
CAN = frozenset({"web", "migrations", *TRIED})
DOCTOR = frozenset(
    {
        "inside",
        "docker_health",
        "web",
        "leftovers",
        "migrations",
        "python",
        "usage",
        "names",
        "engine_health",
        "message_queue",
        "tokens",
    }
)
ON_REQUEST = CAN | DOCTOR

__all__ = [
    "ByHand",
    "DatabasesLook",
    "DockerFacts",
    "DotenvLook",
    "EngineLook",
    "EnvPlace",
    "EnvPlaces",
    "Facts",
    "LoginLook",
    "PlatformLook",
    "PortChoice",
    "PythonLook",
    "ResourcesLook",
    "SdkLook",
    "ServerCandidate",
    "SidecarLook",
    "StackLook",
    "TokenLook",
    "Tried",
    "UsageLook",
    "WebLook",
    "gather",
]


def gather(
    host: Host, settings: Settings, ledger: Ledger, only: Collection[str] = (), also: Collection[str] = (),
    without: Collection[str] = (), patience: Callable[[str], float] = lambda name: math.inf,
) -> Facts:  # fmt: skip
    """Look at everything, side by side.

    Args:
        host: only its read side is used.
        settings: which server, ports, folders are wanted.
        ledger: what an earlier run made.
        only: names of the probes to run; all but those on request where empty. The others' facts are unknown.
        also: names of probes on request.
        without: names of probes that are not run.
        patience: seconds that a probe may take at most, where that is less than its own deadline.
    """
    owner_seconds = min(DEADLINE, patience("ports")) - _SPARE
    every = _probes(host, settings, ledger, owner_seconds, brief=patience("remote") < math.inf)
    wanted = {*(only or every.keys() - ON_REQUEST), *also} - {*without}
    probes = {name: probe for name, probe in every.items() if name in wanted}
    named = settings.admin_url.value is not None
    results: dict[str, Fact[Any]] = {}
    seconds: dict[str, float] = {}
    broken: dict[str, str] = {}

    def run(name: str, probe: Callable[[], Fact[Any]]) -> None:
        begun = host.clock.monotonic()
        try:
            answer = probe()
        except Exception as error:  # a probe that crashes is an unknown fact, and the others go on
            broken[name] = f"the look failed: {type(error).__name__}: {error}"
            answer = Unknown(broken[name])
        results.setdefault(name, answer)
        seconds[name] = host.clock.monotonic() - begun

    begun = host.clock.monotonic()
    threads = {}
    for name, probe in probes.items():
        threads[name] = threading.Thread(target=run, args=(name, probe), daemon=True)
        threads[name].start()
    for name, thread in threads.items():
        limit = NAMED_SERVER_DEADLINE if named and name == "servers" else DEADLINES.get(name, DEADLINE)
        limit = min(limit, patience(name))
        thread.join(max(0.0, limit - (host.clock.monotonic() - begun)))
        if name not in results:
            broken[name] = f"no answer within {limit:.1f} s"
            results[name] = Unknown(broken[name])
    return Facts(
        ledger.project,
        seconds=dict(seconds),
        broken=broken,
        **{name: results.get(name, Unknown("not looked at")) for name in every},
    )


def _once(question: Callable[[], T]) -> Callable[[], T]:
    """A question that several probes ask side by side, and that is answered once."""
    lock = threading.Lock()
    answers: list[T] = []

    def ask() -> T:
        with lock:
            if not answers:
                answers.append(question())
        return answers[0]

    return ask


def _probes(
    host: Host, settings: Settings, ledger: Ledger, owner_seconds: float, *, brief: bool
) -> dict[str, Callable[[], Fact[Any]]]:  # fmt: skip
    """Every probe by its name.

    Args:
        brief: whether a server elsewhere that is slow is one that does not answer.
    """
    docker = _once(lambda: look_at_docker(host, settings, ledger))
    return {
        "stack": lambda: Found(look_at_stack(host, settings, ledger, brief=brief)),
        "servers": lambda: Found(look_for_servers(host, settings, ledger)),
        "engines": lambda: Found(tuple(find_engines(host, settings, ledger, docker))),
        "sidecar": lambda: Found(look_for_sidecar(host, settings, ledger)),
        "postgres_binaries": lambda: look_for_binaries(host, ledger),
        "docker": docker,
        "docker_health": lambda: look_at_docker_health(host, settings, ledger, docker()),
        "ports": lambda: Found(look_at_ports(host, settings, ledger, owner_seconds)),
        "fellow_ports": lambda: Found(look_at_fellow_ports(host, settings, ledger)),
        "platform": lambda: Found(look_at_platform(ledger.project)),
        "dotenv": lambda: Found(look_at_dotenv(host, ledger.project / settings.env_file.value)),
        "shadows": lambda: Found(look_for_shadows(host, settings, ledger.project)),
        "sdk": look_at_sdk,
        "proxies": lambda: Found(look_at_proxies(host.environ)),
        "leftovers": lambda: Found(look_for_leftovers(host, settings, ledger)),
        "web": lambda: look_at_web(host, ledger),
        "remote": lambda: look_at_remote(host, settings, ledger, brief=brief),
        "migrations": lambda: look_at_application_migrations(settings, ledger),
        "inside": lambda: look_at_inside(host, settings, ledger),
        "engine_health": lambda: look_at_engine_health(host, ledger),
        "message_queue": lambda: look_at_message_queue(settings),
        "tokens": lambda: look_for_tokens(host, settings, ledger),
        "python": lambda: look_at_python(host, ledger.project),
        "resources": lambda: Found(look_at_resources(ledger)),
        "usage": lambda: Found(look_at_usage(ledger)),
        "names": lambda: Found(look_at_names(host, settings, ledger)),
        **{what: partial(try_out, host, ledger.project, what) for what in TRIED},
    }
