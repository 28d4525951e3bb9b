"""The running engine: does it answer, as whom, to whom."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from owlclaw_up.checks.base import UP, Check, Evidence, Fix, Seen, of_error, ok
from owlclaw_up.checks.token import findings_of, seen_of
from owlclaw_up.errors import EngineUnusable
from owlclaw_up.facts.containers import ENGINE
from owlclaw_up.facts.engine_health import EngineHealth
from owlclaw_up.facts.place import serves_by_sidecar
from owlclaw_up.facts.stack import wanted_engines
from owlclaw_up.host.engines import EngineRefused, version_tuple
from owlclaw_up.host.sidecars import by_hand
from owlclaw_up.model import Mode, found
from owlclaw_up.modes import wants_sidecar
from owlclaw_up.spec import ADMIN_EMAIL, EngineBinaries
from owlclaw_up.steps.engine_env import Diagnosis, diagnose
from owlclaw_up.steps.engine_process import since_last_start

_AGAIN = Fix("run owlclaw-up", up=True)
_LOGS = f"{UP} logs hatchet"
# Lines of a log: what is looked at for a known cause, and what is shown.
_LAST, _SHOWN = 40, 3
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_PANIC = re.compile(r"^(panic|fatal error): .*", re.MULTILINE)
# Causes that are gone once `up` has done its work; of the others it is stopped again.
_MENDED_BY_UP = frozenset({"timezone", "port-taken", "postgres-away", "not-migrated", "assets"})


def _health(evidence: Evidence) -> EngineHealth | None:
    """The engine, where one was started; also by an `up` that did not end well."""
    return found(evidence.facts.engine_health) if evidence.with_own_engine else None


def _words(health: EngineHealth) -> Sequence[str]:
    return [_ANSI.sub("", line) for line in since_last_start(health.words)[-_LAST:]]


def _known(health: EngineHealth) -> Diagnosis | None:
    return diagnose("\n".join(_words(health)))


def _shown(health: EngineHealth) -> str:
    """Its last words, without those that every start has."""
    said = [line[:200] for line in _words(health) if line.strip() and "http: proxy error" not in line]
    return "\n".join(["its last words:", *said[-_SHOWN:]]) if said else "it said nothing that tells why"


def _with_cause(title: str, detail: str, hint: str, known: Diagnosis | None) -> Seen:
    """A fault of level `fail`; what its known cause asks for comes before `up`, where `up` alone does not mend it."""
    if known is None or known.code in _MENDED_BY_UP:
        return Seen("fail", title, detail, hint, UP, _AGAIN)
    command = known.hint if known.hint.startswith(UP) else ""
    return Seen("fail", title, detail, known.hint if command else f"{known.hint}; then: {UP}", command, _AGAIN)


def _binaries(evidence: Evidence) -> Iterator[Seen]:
    """The folder that was named, or that served last: what `up` would start."""
    decision = evidence.decision
    named = decision is not None and not decision.durable and decision.source == "auto"
    if evidence.mode is not Mode.NATIVE and not named:
        return
    looked = found(evidence.facts.engines) or ()
    if wants_sidecar(evidence.facts, evidence.settings):
        yield from _sidecar(evidence)
        return
    usable = next((e for e in looked if isinstance(e, EngineBinaries)), None)
    for engine in looked:
        if isinstance(engine, EngineRefused) and engine.source in ("OWLCLAW_UP_ENGINE_DIR", "last run"):
            seen = of_error(EngineUnusable(engine.code, engine.why, hint=engine.hint))
            if usable is not None:
                instead = f"the next {UP} takes {usable.version} from {_where(usable)}"
                yield Seen("warn", seen.title, instead, seen.hint)
            else:
                yield Seen("fail" if evidence.mode is Mode.NATIVE else "warn", seen.title, "", seen.hint)
            return
    if usable is not None:
        yield ok(f"{usable.version} {'in' if usable.here else 'from'} {_where(usable)}")


def _sidecar(evidence: Evidence) -> Iterator[Seen]:
    """The embedded engine that `up` would start."""
    look = found(evidence.facts.sidecar)
    if look is None:
        return
    if isinstance(look.found, EngineRefused):
        seen = of_error(EngineUnusable(look.found.code, look.found.why, hint=look.found.hint))
        yield Seen("fail" if evidence.mode is Mode.NATIVE else "warn", seen.title, "", seen.hint)
    elif not look.found.here and evidence.standing:
        title = f"{look.found.title} is not on this machine any more"
        yield Seen(
            "warn",
            title,
            f"the next start fetches it from {look.found.source}",
            f"without a network: {by_hand(look.found.version)}",
            UP,
        )
    else:
        yield ok(f"{look.found.title} ({look.found.source})")


def _where(engine: EngineBinaries) -> str:
    return f"{engine.directory} ({engine.source})" if engine.here else f"{engine.source}, which is fetched then"


def _running(evidence: Evidence) -> Iterator[Seen]:
    health = _health(evidence)
    if health is None:
        return
    yield from _fellows(evidence)
    if health.container:
        yield from _container(evidence)
    elif health.suspended and health.process is not None:
        pid = health.process.pid
        yield Seen(
            "fail", f"the engine is frozen: process {pid} is suspended by a signal", "it holds its ports and answers nobody",
            f"wake it: kill -CONT {pid}; or start it again", UP, _AGAIN,
        )  # fmt: skip
    elif health.process is not None:
        yield ok(f"pid {health.process.pid}")
    elif health.stopped_at:
        title = f"the engine is not running: {UP} down stopped it at {health.stopped_at}"
        yield Seen("fail", title, "", "", UP, _AGAIN)
    else:
        known = _known(health)
        panic = _PANIC.search("\n".join(_words(health)))
        of = f"process {health.recorded} has ended" if health.recorded else "it ended while it was starting"
        if known is None and panic is None:
            detail = f"{_shown(health)}\nsomebody killed it, or the system did for want of memory"
            yield Seen(
                "fail", f"the engine is not running: {of}", detail, f"start it; if it ends again: {_LOGS}", UP, _AGAIN
            )
            return
        cause = known.cause if known else panic[0][:120] if panic else ""
        yield _with_cause(f"the engine is not running: {of}: {cause}", _shown(health), "", known)


def _fellows(evidence: Evidence) -> Iterator[Seen]:
    """The engines beside the first: what one leaves undone, the others take over."""
    fellows = evidence.facts.our_stack.fellows
    count = wanted_engines(evidence.settings, evidence.ledger)
    for number, look in sorted(fellows.items()):
        if look.process is None and number <= count and evidence.mode is Mode.NATIVE:
            logs = f"what it said: {_LOGS}"
            yield Seen("warn", f"engine {number} of {count} is not running", "the others do its work", logs, UP, _AGAIN)


def _container(evidence: Evidence) -> Iterator[Seen]:
    container = evidence.facts.containers.get(ENGINE)
    if container is not None and container.running:
        yield ok(f"container {container.name}")
    elif found(evidence.facts.docker) is not None:
        what = f"container {container.name} is {container.state}" if container else "its container is gone"
        yield Seen("fail", f"the engine is not running: {what}", "", f"why it ended: {_LOGS}", UP, _AGAIN)


def _ready(evidence: Evidence) -> Iterator[Seen]:
    health = _health(evidence)
    if health is None or health.process is None or health.ready is None or health.suspended:
        return
    if health.ready.status == 200:
        yield ok(f":{evidence.ours('health')}/ready says 200")
        return
    known = _known(health)
    says = str(health.ready.status or "nothing")
    title = f"the engine is not ready: :{evidence.ours('health')}/ready says {says}" + (
        f": {known.cause}" if known else ""
    )
    yield _with_cause(title, _shown(health), f"restart it; what it says: {_LOGS}", known)


def _api(evidence: Evidence) -> Iterator[Seen]:
    health, port = _health(evidence), evidence.ours("dashboard")
    if health is None:
        return
    api = health.api
    if api.status == 200 and not api.html:
        elsewhere = [seen_of(f) for f in findings_of(evidence) if f.id == "engine.api"]
        yield from elsewhere or [ok(f":{port}/api/ready says 200")]
    elif api.status == 500 and "repository" in api.body:
        # It answers well enough to say that its database is away.
        return
    elif api.status == 0:
        yield Seen(
            "fail", f"nobody answers on port {port}, the engine's dashboard and API", "GET /api/ready had no answer within 2 s",
            f"start it again; what it said: {_LOGS}", UP, _AGAIN,
        )  # fmt: skip
    elif api.html or api.status == 404:
        yield Seen(
            "fail", f"port {port} is answered by something that is not the engine's API",
            f"GET /api/ready came to HTTP {api.status}, {api.kind or 'without a content type'}: a page, or somebody else's server",
            f"who is it: ss -ltnp 'sport = :{port}'; stop that, then: {UP}",
        )  # fmt: skip
    elif api.status == 502:
        yield Seen(
            "fail", f"the engine's API is not up: its proxy on port {port} says 502",
            f"the part behind it, on port {evidence.ours('api')}, does not answer; {_shown(health)}",
            f"restart it; what it said: {_LOGS}", UP, _AGAIN,
        )  # fmt: skip
    else:
        body = api.body.strip()[:200]
        yield Seen(
            "fail", f":{port}/api/ready says {api.status}", body, f"restart it; what it said: {_LOGS}", UP, _AGAIN
        )


def _grpc(evidence: Evidence) -> Iterator[Seen]:
    health, port = _health(evidence), evidence.ours("grpc")
    if health is None:
        return
    if health.grpc:
        elsewhere = [seen_of(f) for f in findings_of(evidence) if f.id == "engine.grpc"]
        yield from elsewhere or [ok(f"port {port} accepts connections")]
        return
    yield Seen(
        "fail", f"nobody listens on port {port}, the engine's gRPC", _shown(health) if health.process else "",
        f"start it again; what it said: {_LOGS}", UP, _AGAIN,
    )  # fmt: skip


def _database(evidence: Evidence) -> Iterator[Seen]:
    health = _health(evidence)
    if health is None or health.api.html:
        return
    if health.api.status == 200:
        yield ok("it says that it reaches it")
    elif health.api.status == 500 and "repository" in health.api.body:
        ours = evidence.facts.our_stack.on_server
        we = any(login.password for login in ours.logins.values()) and found(ours.server) is not None
        known = _known(health)
        title = "the engine cannot reach its database" + (", though we can" if we else "")
        detail = f"it says: {known.cause}" if known else _shown(health)
        hint = "restart it with the login that is kept now" if we else ""
        yield Seen("fail", title, detail, hint, UP, _AGAIN)


def _version(evidence: Evidence) -> Iterator[Seen]:
    health = _health(evidence)
    if health is None or not health.version:
        return
    kept = str(evidence.ledger.recall("engine").get("version") or "")
    if kept and health.version != kept:
        yield Seen(
            "warn", f"the engine that answers is {health.version}, and {kept} is on record",
            f"it answers on port {evidence.ours('dashboard')}; its binaries were replaced, or it is another one",
            "have the one that is wanted started", UP,
        )  # fmt: skip
        return
    directory = str(evidence.ledger.recall("engine").get("directory") or "")
    engines = found(evidence.facts.engines) or ()
    at_hand = next((e for e in engines if isinstance(e, EngineBinaries) and e.here), None)
    embedded = serves_by_sidecar(evidence.ledger)
    if evidence.mode is Mode.NATIVE and not embedded and at_hand is not None and at_hand.version != health.version:
        newer = version_tuple(at_hand.version) > version_tuple(health.version)
        where = "its folder" if str(at_hand.directory) == directory else str(at_hand.directory)
        yield Seen(
            "info", f"the engine runs {health.version}, and {where} holds {at_hand.version}",
            f"the next {UP} {'upgrades to' if newer else 'starts'} that one", f"see it: {UP} plan", UP,
        )  # fmt: skip
        return
    yield ok(health.version)


def _message_queue(evidence: Evidence) -> Iterator[Seen]:
    queue = found(evidence.facts.message_queue)
    if queue is None or not evidence.with_own_engine:
        return
    if queue.answers:
        yield ok(f"{queue.where} accepts connections")
    elif not queue.where:
        hint = "rabbitmq_url = amqp://USER:PASSWORD@HOST:5672/"
        yield Seen("fail", "rabbitmq_url is no address of RabbitMQ", "it has no host, or no port", hint)
    else:
        port = queue.where.rpartition(":")[2]
        yield Seen(
            "fail", f"RabbitMQ does not answer on {queue.where}", "the setting rabbitmq_url has the engine use it as its queue",
            f"start it (ss -ltnp 'sport = :{port}'), or correct rabbitmq_url, or leave that setting out; then: {UP}",
        )  # fmt: skip


def _authentication(evidence: Evidence) -> Iterator[Seen]:
    health = _health(evidence)
    if health is None or not health.version:
        return
    if not health.open_to_all:
        yield ok("it asks for a token, and for a login")
        return
    yield Seen(
        "warn", "the engine asks nobody for a token or a login", "/api/v1/meta says authDisabled",
        f"take an engine that was not built so (an image without -dev in its tag): hatchet_image, engine_dir; then: {UP}",
    )  # fmt: skip


def _exposed(evidence: Evidence) -> Iterator[Seen]:
    """Of a process; what a container publishes is `container.exposed`'s."""
    health = _health(evidence)
    if health is None or health.process is None:
        return
    if not health.everywhere:
        yield ok("its ports listen on loopback alone")
        return
    numbers = ", ".join(str(evidence.ours(purpose)) for purpose in health.everywhere)
    title = f"the engine listens on every interface of this machine: ports {numbers}"
    detail = f"{', '.join(health.everywhere)}; Hatchet has no option that closes them"
    hint = "on an open network, close them in the firewall"
    bad = [
        *(["gRPC is plain text"] if "grpc" in health.everywhere else []),
        *(["its admin has the documented password"] if health.documented_password else []),
        *(["it asks nobody for a login"] if health.open_to_all else []),
    ]
    if bad:
        yield Seen("warn", f"{title}, and {', '.join(bad)}", detail, hint)
    else:
        login = "; the login has a password of its own" if health.documented_password is False else ""
        yield Seen("info", title, f"{detail}; gRPC is on loopback{login}", hint)


def _password(evidence: Evidence) -> Iterator[Seen]:
    health = _health(evidence)
    if health is None or health.documented_password is None:
        return
    if not health.documented_password:
        yield ok("it is another one than the documented")
        return
    container = evidence.facts.containers.get(ENGINE) if health.container else None
    # Our compose files publish on loopback alone.
    reached = container is None or container.network_mode == "host"
    where = "" if reached else "; only from this machine, as its ports are published on loopback"
    yield Seen(
        "warn" if reached else "info", f"{ADMIN_EMAIL} has the password that Hatchet's documentation gives",
        f"it was tried, and lets in{where}",
        f"change it in the dashboard: {UP} open; or leave admin_password out and start anew: {UP} reset",
    )  # fmt: skip


_POSTGRES_AWAY = (
    "postgres.reach", "postgres.tls", "postgres.login", "postgres.timezone", "postgres.connections", "postgres.read-only",
    "postgres.role", "postgres.database", "hatchet.migrations",
)  # fmt: skip
_CONTAINER_AWAY = (
    "container.missing",
    "container.stopped",
    "container.restarts",
    "container.out-of-memory",
    "docker.running",
)
_PORT_TAKEN = ("port.dashboard", "port.grpc", "port.inner")

CHECKS: tuple[Check, ...] = (
    Check(
        "engine.binaries", "the native engine that was named, or that served last, can be used",
        "`exec format error`, `permission denied`, `no such file`", "the folder was moved, emptied, or is another machine's",
        "native cannot come up without it", "`owlclaw-up engine list`", _binaries, ("engines", "sidecar", "platform"),
    ),
    Check(
        "engine.message-queue", "RabbitMQ answers, where it is the engine's queue", "`could not init rabbitmq`",
        "RabbitMQ is not running, or `rabbitmq_url` names another place", "without its queue the engine neither comes up nor works on",
        "start it, or leave `rabbitmq_url` out", _message_queue, ("message_queue",),
    ),
    Check(
        "engine.running", "the engine runs", "`failed to connect to all addresses ... Connection refused`",
        "it was stopped or killed, it ended by itself, or the machine was started again", "no work is done, and no timer fires", UP,
        _running, ("engine_health", "docker"),
        ("engine.binaries", "engine.message-queue", *_POSTGRES_AWAY, *_CONTAINER_AWAY, *_PORT_TAKEN, "platform.disk"), fixable=True,
    ),
    Check(
        "engine.database", "the engine reaches its database", "`invalid auth token` for every token; `api repository is not healthy`",
        "PostgreSQL went away, or lets the engine's login in no more: its password was changed since the engine started",
        "it refuses every token, and does no work", UP, _database, ("engine_health", "stack"),
        ("engine.running", *_POSTGRES_AWAY, *_CONTAINER_AWAY), fixable=True,
    ),
    Check(
        "engine.health", "the engine says that it is ready", "its health port says 503, or nothing",
        "its database or its queue is away, or it hangs", "it takes no work", UP, _ready, ("engine_health",),
        ("engine.running", "engine.database", "engine.message-queue", *_POSTGRES_AWAY, "port.inner"), fixable=True,
    ),
    Check(
        "engine.api", "the engine's API answers", "HTTP 502; a page where JSON should be; `Connection refused`",
        "the API behind the dashboard's port did not come up, or another server answers there",
        "dashboard, schedules and lists do not work", UP, _api, ("engine_health", "tokens"),
        ("engine.running", "engine.health", "engine.database", "network.names", *_PORT_TAKEN), fixable=True,
    ),
    Check(
        "engine.grpc", "the engine's gRPC answers where programs dial",
        "`failed to connect to all addresses`; `Name resolution failed`; `WRONG_VERSION_NUMBER`",
        "the engine does not listen there, or the variables lead elsewhere", "no worker connects, and no run is triggered", UP,
        _grpc, ("engine_health", "tokens"), ("engine.running", "network.names", "sdk.tls", *_PORT_TAKEN), fixable=True,
    ),
    Check(
        "engine.version", "the engine that runs is the one on record",
        "tasks behave as with another version; `migrations go one way`",
        "binaries or image were replaced under it, or an older engine was named for a newer database",
        "an older engine does not understand what a newer one wrote", UP, _version, ("engine_health", "engines"),
        ("engine.binaries",),
    ),
    Check(
        "engine.authentication", "the engine asks for a token", "every program is let in, with any token or none",
        "it was built without authentication, as images with `-dev` in their tag are", "whoever reaches its ports runs tasks here",
        "another engine", _authentication, ("engine_health",),
    ),
    Check(
        "engine.exposed", "who reaches a native engine's ports", "the dashboard opens from another machine",
        "Hatchet opens dashboard, API, frontend and health port on every interface, and has no option for that",
        "others on your network reach its login", "a firewall", _exposed, ("engine_health",),
    ),
    Check(
        "engine.password", "the dashboard's admin has a password of its own", "`Admin123!!` lets in",
        "`admin_password` was set to it, or the compose files were lifted by hand", "everybody knows it",
        "change it in the dashboard", _password, ("engine_health",),
    ),
)  # fmt: skip
