"""What stands of an environment: services, ports, since when, the token; the command `status`. Reads only."""

from __future__ import annotations

from owlclaw_up.checks.shadows import shadow_findings
from owlclaw_up.facts import EnvPlaces, Facts, gather
from owlclaw_up.facts.containers import DATABASE, ENGINE
from owlclaw_up.facts.place import REMOTE, engine_place, serves_by_sidecar
from owlclaw_up.host.docker_base import ContainerLook
from owlclaw_up.model import Absent, Finding, Mode, Outcome, Service, TokenInfo, Unknown, found
from owlclaw_up.modes import MODES
from owlclaw_up.project import NoEnvironment, Project, application, relative
from owlclaw_up.spec import engine_key
from owlclaw_up.steps.smoke import kept_smoke
from owlclaw_up.token_claims import Claims


def status(project: Project) -> Outcome:
    """What runs, where, since when; `exit_code` 0 only if the environment is up and answers."""
    begun = project.host.clock.monotonic()
    probes = ("stack", "shadows", *(("docker",) if project.ledger.recall("compose") else ()))
    facts = gather(project.host, project.settings, project.ledger, only=probes)
    state = project.ledger.state
    mode = Mode(state.mode) if state.mode else None
    if mode is None:
        half_made = "nothing was set up here yet"
        if project.ledger.exists:
            # Ports come with an environment, and not with its databases alone.
            half_made = "an `up` has begun and not ended" if state.ports else "`db init` was here, and no `up` yet"
        error = NoEnvironment(project.root)
        finding = Finding("environment", "fail", half_made, hint="owlclaw-up", command="owlclaw-up")
        return Outcome(
            "status", "failed", 1, findings=(finding,), error=error, project=project.root,
            services=_services(project, facts), seconds=project.host.clock.monotonic() - begun,
        )  # fmt: skip
    services = _services(project, facts)
    token = _token_info(project, facts)
    durable = MODES[mode].durable
    bad = [s for s in services if s.state != "running"]
    # An engine that is not well, or whose database is away, refuses every token.
    if durable and not bad and (token is None or not token.accepted):
        bad.append(
            Service("token", "refused", "the engine does not accept the kept token; why: owlclaw-up token check")
        )
    env_path = project.root / project.settings.env_file.value
    # What is wrong with a server elsewhere, no `up` mends.
    ways = dict.fromkeys(("hatchet", "token"), "owlclaw-up doctor") if mode is Mode.REMOTE else {}
    findings = tuple(
        Finding(f"status.{s.id}", "fail", f"{s.id} is {s.state}", s.detail, way, way)
        for s in bad
        for way in [ways.get(s.id, "owlclaw-up")]
    ) + shadow_findings(found(facts.shadows) or EnvPlaces(), env_path)
    findings += _first_is_away(project, services)
    kept = state.ports
    urls = {}
    place = engine_place(project.ledger)
    if durable and place is not None:
        name = "rest" if serves_by_sidecar(project.ledger) else "dashboard"
        urls = {name: place.server_url, "grpc": place.grpc_address}
    own = application(project)
    urls["postgres"] = f"postgresql://{own.role}@{_host_of(project)}:{kept['postgres']}/{own.name}"
    return Outcome(
        "status", "failed" if bad else "ok" if durable else "degraded", 1 if bad else 0, mode,
        endpoints=urls, env_file=relative(project, env_path),
        seconds=project.host.clock.monotonic() - begun, smoke=kept_smoke(project.ledger), findings=findings,
        services=services, token=token, project=project.root, data=engines_data(project, services),
    )  # fmt: skip


def engine_count(project: Project) -> int:
    """How many engines the last `up` was asked for; 1 where the one there is runs in a container."""
    ledger = project.ledger
    return int(ledger.recall("engines").get("count", 1)) if ledger.state.mode == Mode.NATIVE.value else 1


def engines_data(project: Project, services: tuple[Service, ...]) -> dict[str, object]:
    """Every engine of a small cluster with its addresses, for an outcome; empty where there is one engine."""
    states = {s.id: s for s in services}
    rows = []
    for number in range(1, engine_count(project) + 1):
        ports = project.ledger.recall(engine_key(number)).get("ports") or project.ledger.state.ports
        service = states.get(_service_name(number))
        rows.append({
            "number": number, "state": service.state if service else "unknown", "pid": service.pid if service else None,
            "dashboard": f"http://localhost:{ports.get('dashboard')}", "grpc": f"localhost:{ports.get('grpc')}",
        })  # fmt: skip
    return {"engines": rows} if len(rows) > 1 else {}


def _service_name(number: int) -> str:
    return "hatchet" if number == 1 else f"hatchet-{number}"


def _first_is_away(project: Project, services: tuple[Service, ...]) -> tuple[Finding, ...]:
    """The addresses in tokens and dotenv files are those of one engine, whatever the others do."""
    states = {s.id: s.state for s in services}
    others = [n for n in range(2, engine_count(project) + 1) if states.get(_service_name(n)) == "running"]
    if not others or states.get("hatchet") == "running":
        return ()
    ports = project.ledger.recall(engine_key(others[0]))["ports"]
    return (
        Finding(
            "status.engines", "warn", "every address that programs have is that of engine 1, and it does not answer",
            f"engine {others[0]} works on: gRPC localhost:{ports['grpc']}, REST http://localhost:{ports['dashboard']}; a "
            "program comes to it by HATCHET_CLIENT_HOST_PORT and HATCHET_CLIENT_SERVER_URL, with the same token",
            "owlclaw-up starts engine 1 again", "owlclaw-up",
        ),
    )  # fmt: skip


def _host_of(project: Project) -> str:
    kept = project.ledger.recall("postgres")
    return "localhost" if kept.get("kind") != "local" else str(kept.get("where", "localhost")).rpartition(":")[0]


def _services(project: Project, facts: Facts) -> tuple[Service, ...]:
    services = [_database(project, facts)] if project.ledger.recall("postgres").get("kind") else []
    mode = project.ledger.state.mode
    if mode and MODES[Mode(mode)].durable:
        services.append(_engine(project, facts))
        services += [_fellow(project, facts, number) for number in range(2, engine_count(project) + 1)]
    return tuple(services)


def _database(project: Project, facts: Facts) -> Service:
    ledger, stack, kept = project.ledger, facts.our_stack, project.ledger.recall("postgres")
    server = stack.on_server.server
    look = found(server)
    role = application(project).role
    login = stack.on_server.logins.get(role)
    if look is not None and login is not None and login.password:
        state, detail = "running", f"{kept['kind']}, answers role {role} on {kept.get('where')}"
    elif look is not None:
        state, detail = "incomplete", f"the server answers; database or role {role} is missing"
    else:
        state = "stopped" if isinstance(server, Absent) else "unreachable"
        detail = server.why if isinstance(server, (Absent, Unknown)) else ""
    version, port = look.version if look else "", ledger.state.ports.get("postgres")
    container = facts.containers.get(DATABASE) if kept["kind"] == "container" else None
    if container is not None:
        return _in_container("postgres", container, state, detail, port, version)
    process = stack.server_process
    return Service(
        "postgres", state, detail, port, process.pid if process else None,
        kept.get("started_at", "") if process else "", version,
    )  # fmt: skip


def _engine(project: Project, facts: Facts) -> Service:
    ledger, stack, kept = project.ledger, facts.our_stack, project.ledger.recall("engine")
    if ledger.state.mode == Mode.REMOTE.value:
        return _elsewhere(project, facts)
    port, version = ledger.state.ports.get("dashboard"), str(kept.get("version", ""))
    if kept.get("container"):
        container = facts.containers.get(ENGINE)
        if container is None:
            why = facts.docker.why if isinstance(facts.docker, (Absent, Unknown)) else "its container is gone"
            return Service("hatchet", "stopped", why, port, version=version)
        state = "running" if stack.engine_ready else "not ready"
        return _in_container("hatchet", container, state, stack.engine_answers, port, version)
    process = stack.engine_process
    state = "running" if stack.engine_ready else "not ready" if process else "stopped"
    return Service(
        "hatchet", state, stack.engine_answers or "not running", port, process.pid if process else None,
        kept.get("started_at", "") if process else "", version,
    )  # fmt: skip


def _fellow(project: Project, facts: Facts, number: int) -> Service:
    look, kept = facts.our_stack.engine(number), project.ledger.recall(engine_key(number))
    state = "running" if look.ready else "not ready" if look.process else "stopped"
    return Service(
        _service_name(number), state, look.answers, kept.get("ports", {}).get("dashboard"),
        look.process.pid if look.process else None, kept.get("started_at", "") if look.process else "",
        str(kept.get("version", "")),
    )  # fmt: skip


def _elsewhere(project: Project, facts: Facts) -> Service:
    """An engine that is none of ours: both of its addresses count."""
    kept, stack = project.ledger.recall(REMOTE), facts.our_stack
    grpc = stack.token.grpc if stack.token else None
    state, detail = "running", f"{kept.get('server_url')}, gRPC {kept.get('grpc_address')}"
    if grpc is not None and grpc.state == "unavailable":
        state, detail = "unreachable", f"gRPC breaks at {grpc.hop}: {grpc.detail}"
    elif not stack.engine_ready:
        state, detail = "unreachable", stack.engine_answers or "no answer"
    version = grpc.version if grpc and grpc.version else str(kept.get("version", ""))
    return Service("hatchet", state, detail, version=version)


def _in_container(
    name: str, container: ContainerLook, state: str, detail: str, port: int | None, version: str
) -> Service:  # fmt: skip
    """A service by its container: what Docker says of it counts where it does not run."""
    if not container.running:
        state, detail = container.state, f"container {container.name} is {container.state}"
        if container.state in ("exited", "dead"):
            state, detail = "stopped", f"container {container.name} ended {container.how_it_ended}"
    since = container.started_at[:19] + "+00:00" if container.running and container.started_at else ""
    return Service(name, state, detail, port, None, since, version, container.name)


def _token_info(project: Project, facts: Facts) -> TokenInfo | None:
    look = facts.our_stack.token
    if look is None:
        return None
    asked = look.grpc is not None and facts.our_stack.engine_ready
    accepted = look.grpc.state == "ok" if asked and look.grpc else None
    return token_info(look.claims, project.host.clock.now(), accepted)


def token_info(claims: Claims, now: float, accepted: bool | None) -> TokenInfo:
    """What a token says of itself, for an outcome.

    Args:
        accepted: whether the engine takes it; None where it was not asked.
    """
    return TokenInfo(
        claims.tenant, claims.server_url, claims.grpc_address, claims.expires_text, claims.days_left(now), accepted,
        claims.issued_text, claims.token_id,
    )  # fmt: skip
