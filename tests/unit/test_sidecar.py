"""Hatchet's embedded engine as a value: which platform gets it, what it is told and never told, what its start would do."""

from __future__ import annotations

import dataclasses
import urllib.error
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from owlclaw_up.cluster_design import refuse_sidecars
from owlclaw_up.design import design
from owlclaw_up.errors import BadSetting, UpError
from owlclaw_up.facts import DatabasesLook, DotenvLook, Facts, PlatformLook, PortChoice, SdkLook, SidecarLook, StackLook
from owlclaw_up.facts.machine import DEFAULT_PORTS
from owlclaw_up.facts.place import engine_place, serves_by_sidecar
from owlclaw_up.facts.sidecar import look_for_sidecar
from owlclaw_up.host import sidecars
from owlclaw_up.host.base import Deadline, PortLook, ProcessId
from owlclaw_up.host.engines import EngineRefused
from owlclaw_up.model import Absent, Action, Found, Mode
from owlclaw_up.modes import choose
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import DEFAULT_SIDECAR_VERSION, Settings, load
from owlclaw_up.sidecar_keeper import kind_of
from owlclaw_up.spec import HANDSHAKE, Sidecar, SidecarEngine, StackSpec
from owlclaw_up.steps import build
from owlclaw_up.steps.base import Run
from owlclaw_up.steps.engine_env import IDENTITY, sidecar_env, sidecar_fingerprint
from owlclaw_up.steps.sidecar import StartSidecar
from tests.unit.fakes import make_engine, make_engine_spec, make_facts, make_host, make_ledger, make_spec

KEEPER = ProcessId(77, 1000.0)
MAC, LINUX = ("Darwin", "arm64"), ("Linux", "x86_64")
HERE = Sidecar(DEFAULT_SIDECAR_VERSION, "/home/u/.hatchet", "hatchet-embedded-sidecar_darwin_arm64")
TO_FETCH = dataclasses.replace(HERE, here=False, source=sidecars.RELEASES)
NAMED = Sidecar("", "OWLCLAW_UP_SIDECAR_BINARY", "mine", Path("/opt/mine"), named=True)
OFFLINE = EngineRefused(
    Path("/x"), sidecars.RELEASES, "sidecar-offline", "it is not here, and offline is set", "bring it"
)


def machine(project: Path, at: tuple[str, str], found: Sidecar | EngineRefused, **values: Any) -> Facts:
    look = PlatformLook(*at, "3.12.1", 1000, 4000, 20000)
    look_at = SidecarLook(found, values.pop("serves", False))
    ports = {p: PortChoice(PortLook(n, "free"), n) for p, n in DEFAULT_PORTS.items()}
    usual = {
        "platform": Found(look),
        "sidecar": Found(look_at),
        "ports": Found(ports),
        "dotenv": Found(DotenvLook(project / ".env", "missing")),
        "sdk": Found(SdkLook("1.43.1", "v0.78.23")),
    }
    return make_facts(project, **{**usual, **values})


def settings(project: Path, **values: Any) -> Settings:
    return load(project, {}, values)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = make_ledger(tmp_path)
    made.prepare()
    return made


@pytest.fixture
def spec(tmp_path: Path) -> StackSpec:
    return of_sidecar(tmp_path, HERE)


def of_sidecar(project: Path, sidecar: Sidecar) -> StackSpec:
    native = make_engine_spec()
    told = {
        f.name: getattr(native, f.name) for f in dataclasses.fields(native) if f.name not in ("binaries", "fellows")
    }
    return dataclasses.replace(make_spec(project), engine=SidecarEngine(**told, sidecar=sidecar))


# Which machine gets it

ENGINE = Found((make_engine(),))
BROKEN = Found(
    (EngineRefused(Path("/e"), "PATH", "engine-architecture", "it is built for aarch64 Linux", "take another"),)
)
CHOICES: dict[str, tuple[tuple[str, str], dict[str, Any], dict[str, Any], str]] = {
    "a Mac": (MAC, {}, {}, "sidecar"),
    "a Mac with binaries of its own": (MAC, {"engines": ENGINE}, {}, "binaries"),
    "a Mac with binaries of Linux": (MAC, {"engines": BROKEN}, {}, "sidecar"),
    "a Mac, binaries asked for": (MAC, {}, {"native_engine": "binaries"}, "mock"),
    "a Mac, a folder of binaries named": (MAC, {"engines": BROKEN}, {"engine_dir": "/e"}, "mock"),
    "Linux": (LINUX, {"engines": ENGINE}, {}, "binaries"),
    "Linux without binaries": (LINUX, {}, {}, "mock"),
    "Linux, asked for": (LINUX, {"engines": ENGINE}, {"native_engine": "sidecar"}, "sidecar"),
    "Linux, where one served last": (LINUX, {"engines": ENGINE, "serves": True}, {}, "sidecar"),
    "the same, binaries asked for": (LINUX, {"engines": ENGINE, "serves": True}, {"native_engine": "binaries"}, "binaries"),
    "arm64 Linux, asked for": (("Linux", "aarch64"), {}, {"native_engine": "sidecar"}, "sidecar"),
    "without a PostgreSQL": (MAC, {"postgres_binaries": Absent("none")}, {"mode": "mock"}, "blocked"),
}  # fmt: skip


@pytest.mark.parametrize(("at", "facts", "wanted", "comes"), CHOICES.values(), ids=CHOICES.keys())
def test_which_engine_comes(
    at: tuple[str, str], facts: dict[str, Any], wanted: dict[str, Any], comes: str, tmp_path: Path, ledger: Ledger
) -> None:
    seen, asked = machine(tmp_path, at, HERE, **facts), settings(tmp_path, **wanted)
    if comes == "blocked":
        with pytest.raises(UpError, match="no PostgreSQL"):
            choose(seen, asked, ledger)
        return
    decision = choose(seen, asked, ledger)
    made = design(seen, decision, None, DatabasesLook(), asked, ledger).engine if decision.mode is Mode.NATIVE else None
    kinds = {"SidecarEngine": "sidecar", "NativeEngine": "binaries", "NoneType": "mock"}
    assert kinds[type(made).__name__] == comes


def test_why_it_comes(tmp_path: Path, ledger: Ledger) -> None:
    blocked = choose(machine(tmp_path, MAC, HERE), settings(tmp_path), ledger)
    assert "Hatchet's embedded engine v0" in blocked.why and "is at hand" in blocked.why
    fetched = choose(machine(tmp_path, MAC, TO_FETCH), settings(tmp_path), ledger)
    assert f"can be fetched from {sidecars.RELEASES}" in fetched.why


def test_one_that_cannot_be_had_is_refused_by_its_code(tmp_path: Path, ledger: Ledger) -> None:
    seen = machine(tmp_path, MAC, OFFLINE)
    assert choose(seen, settings(tmp_path), ledger).mode is Mode.MOCK
    for wanted in ({"mode": "native"}, {"mode": "native", "native_engine": "sidecar"}):
        with pytest.raises(UpError) as refused:
            choose(seen, settings(tmp_path, **wanted), ledger)
        assert (refused.value.code, refused.value.hint) == ("sidecar-offline", "bring it")
    nowhere = make_facts(tmp_path, sidecar=Absent("the look failed"))
    with pytest.raises(UpError, match="the look failed"):
        choose(nowhere, settings(tmp_path, mode="native", native_engine="sidecar"), ledger)
    old = machine(tmp_path, MAC, dataclasses.replace(HERE, version="v0.70.0"))
    with pytest.raises(UpError) as too_old:
        choose(old, settings(tmp_path, mode="native"), ledger)
    assert too_old.value.code == "engine-too-old"


@pytest.mark.parametrize(
    ("wanted", "code"),
    [({"engines": 2}, "sidecar-engines"), ({"rabbitmq_url": "amqp://a:b@h:5672/"}, "sidecar-rabbitmq")],
)
def test_what_it_cannot_do_is_refused(wanted: dict[str, Any], code: str, tmp_path: Path) -> None:
    with pytest.raises(UpError) as refused:
        refuse_sidecars(settings(tmp_path, **wanted))
    assert (refused.value.code, refused.value.exit_code) == (code, 3)
    assert "OWLCLAW_UP_NATIVE_ENGINE=binaries" in refused.value.hint
    refuse_sidecars(settings(tmp_path))


# Its settings, and where it is looked for


@pytest.mark.parametrize(
    ("variable", "value", "word"),
    [
        ("HATCHET_CLIENT_EMBEDDED_VERSION", "latest", "any start upgrade"),
        ("OWLCLAW_UP_SIDECAR_VERSION", "0.110", "such as v1.2.3"),
        ("HATCHET_CLIENT_EMBEDDED_CHECKSUM", "abc", "64 hexadecimal"),
        ("OWLCLAW_UP_NATIVE_ENGINE", "docker", "auto, binaries, sidecar"),
    ],
)
def test_a_setting_that_cannot_be_used(variable: str, value: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=word) as refused:
        load(tmp_path, {variable: value}, {})
    assert variable in refused.value.message


def test_the_variables_of_hatchet_sdk_are_read_and_give_way(tmp_path: Path) -> None:
    environ = {"HATCHET_CLIENT_EMBEDDED_VERSION": "v0.110.0", "HATCHET_CLIENT_EMBEDDED_BINARY_PATH": "/s/car"}
    loaded = load(tmp_path, environ, {})
    assert (loaded.sidecar_version.value, loaded.sidecar_binary.value) == ("v0.110.0", Path("/s/car"))
    assert loaded.sidecar_binary.origin == "HATCHET_CLIENT_EMBEDDED_BINARY_PATH"
    assert (
        load(tmp_path, {**environ, "OWLCLAW_UP_SIDECAR_VERSION": "v0.111.0-1"}, {}).sidecar_version.value
        == "v0.111.0-1"
    )


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_named_program(tmp_path: Path) -> None:
    missing = sidecars.named(tmp_path / "none", "", "", "--flag")
    assert isinstance(missing, EngineRefused) and missing.code == "sidecar-missing"
    mine = program(tmp_path / "mine")
    assert sidecars.named(mine, "v0.1.2", "", "--flag") == Sidecar("v0.1.2", "--flag", "mine", mine, "", named=True)
    mine.chmod(0o600)
    closed = sidecars.named(mine, "", "", "--flag")
    assert isinstance(closed, EngineRefused) and (closed.code, closed.hint) == (
        "sidecar-not-executable",
        f"chmod +x {mine}",
    )


def test_a_release(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    away = sidecars.of_release("v0.1.2", "", environ, offline=True)
    assert isinstance(away, EngineRefused) and away.code == "sidecar-offline" and sidecars.asset() in away.hint
    fetched = sidecars.of_release("v0.1.2", "", environ, offline=False)
    assert isinstance(fetched, Sidecar) and not fetched.here and fetched.binary is None
    kept = program(tmp_path / ".hatchet/embedded/v0.1.2" / sidecars.asset())
    here = sidecars.of_release("v0.1.2", "", environ, offline=False)
    # With a network hatchet-sdk looks for it, and asks for its checksum anew.
    assert isinstance(here, Sidecar) and here.here and here.binary is None
    kept.with_name(f"{kept.name}.sha256").write_text("ab" * 32 + "\n")
    offline = sidecars.of_release("v0.1.2", "", environ, offline=True)
    assert isinstance(offline, Sidecar) and (offline.binary, offline.checksum) == (kept, "ab" * 32)
    assert here.identity == fetched.identity == offline.identity


def test_the_one_that_served_last_goes_on(tmp_path: Path, ledger: Ledger) -> None:
    host, mine = make_host({"HOME": str(tmp_path)}), program(tmp_path / "mine")
    # One that was started and never came up is not what served last.
    ledger.keep("sidecar", program="other", pid=None)
    ledger.keep("engine", sidecar=True)
    look = look_for_sidecar(host, settings(tmp_path), ledger)
    assert not look.serves and isinstance(look.found, Sidecar) and look.found.version == DEFAULT_SIDECAR_VERSION
    ledger.keep("sidecar", binary=str(mine), version="", checksum="", program="mine")
    ledger.keep("engine", sidecar=True, container=None)
    look = look_for_sidecar(host, settings(tmp_path), ledger)
    assert (
        look.serves and isinstance(look.found, Sidecar) and (look.found.binary, look.found.source) == (mine, "last run")
    )
    ledger.keep("sidecar", binary="", version="v0.1.2")
    look = look_for_sidecar(host, settings(tmp_path), ledger)
    assert isinstance(look.found, Sidecar) and look.found.version == "v0.1.2"
    look = look_for_sidecar(host, settings(tmp_path, sidecar_version="v0.2.0"), ledger)
    assert isinstance(look.found, Sidecar) and look.found.version == "v0.2.0"
    # What a container serves is no sidecar.
    ledger.keep("engine", container="abc")
    assert not serves_by_sidecar(ledger)


def test_its_addresses_are_those_of_its_tokens(spec: StackSpec, ledger: Ledger) -> None:
    ledger.state.ports = {"dashboard": 8888, "grpc": 17077}
    assert spec.grpc_address == "127.0.0.1:17077"
    ledger.keep("engine", sidecar=True)
    place = engine_place(ledger)
    assert place is not None and place.grpc_address == "127.0.0.1:17077"


# What it is told


def test_the_password_is_beside_the_command_line(spec: StackSpec) -> None:
    assert isinstance(spec.engine, SidecarEngine)
    env = sidecar_env(spec, spec.engine, {}, {"PATH": "/bin", "HATCHET_CLIENT_TOKEN": "theirs"})
    assert [name for name, value in env.items() if "hatchet-password" in value] == ["PGPASSWORD"]
    assert env["HATCHET_CLIENT_EMBEDDED_DATABASE_URL"].startswith("postgresql://hatchet@127.0.0.1:5432/hatchet")
    assert (env["HATCHET_CLIENT_EMBEDDED_API_PORT"], env["HATCHET_CLIENT_EMBEDDED_GRPC_PORT"]) == ("8888", "17077")
    assert env["ADMIN_PASSWORD"] == "Dashboard-password-1"
    assert "HATCHET_CLIENT_TOKEN" not in env and "DATABASE_URL" not in env
    assert not [name for name in env if name.startswith("LITE_")]


def test_keys_are_passed_as_a_whole_or_not_at_all(spec: StackSpec) -> None:
    assert isinstance(spec.engine, SidecarEngine)
    keys = {name: f"text of {name}" for name in IDENTITY}
    assert sidecar_env(spec, spec.engine, keys, {}).items() >= keys.items()
    half = {IDENTITY[0]: "text"}
    assert not set(IDENTITY) & set(sidecar_env(spec, spec.engine, half, {}))


def test_having_been_fetched_is_no_other_setting(tmp_path: Path) -> None:
    def of(sidecar: Sidecar) -> str:
        spec = of_sidecar(tmp_path, sidecar)
        assert isinstance(spec.engine, SidecarEngine)
        return sidecar_fingerprint(sidecar_env(spec, spec.engine, {}, {}), sidecar.identity)

    cached = dataclasses.replace(HERE, binary=Path("/home/u/.hatchet/x"), checksum="ab" * 32)
    assert of(HERE) == of(TO_FETCH) == of(cached)
    assert len({of(HERE), of(NAMED), of(dataclasses.replace(HERE, version="v0.111.0"))}) == 3


# What its start would do


def test_its_place_in_the_plan(spec: StackSpec, ledger: Ledger) -> None:
    ids = [step.id for step in build(spec, ledger)]
    assert ids[-4:] == ["engine.server", "token", "env_file", "smoke"]
    assert not {"engine.keys", "engine.migrate", "engine.seed"} & set(ids)


def standing(ledger: Ledger, spec: StackSpec, **kept: Any) -> None:
    ledger.keep("engine", version="v0.110.5", fingerprint=StartSidecar(spec, ledger)._fingerprint(), sidecar=True)
    ledger.keep("sidecar", **{"pid": 78, "started": 1001.0, **kept})


def test_a_start(tmp_path: Path, ledger: Ledger) -> None:
    for sidecar, words in ((HERE, "by hatchet-sdk"), (TO_FETCH, f"fetched from {sidecars.RELEASES}")):
        change = StartSidecar(of_sidecar(tmp_path, sidecar), ledger).check(make_facts(tmp_path))
        assert change.action is Action.CREATE and words in change.summary
        assert change.touches == ("port 8888", "port 17077")


def test_one_that_answers_is_left_alone(spec: StackSpec, ledger: Ledger, tmp_path: Path) -> None:
    standing(ledger, spec)
    ready = make_facts(tmp_path, stack=StackLook(engine_process=KEEPER, engine_ready=True))
    assert StartSidecar(spec, ledger).check(ready).summary == "v0.110.5 answers, pid 77"
    silent = make_facts(tmp_path, stack=StackLook(engine_process=KEEPER, engine_answers="/api/ready says 500"))
    change = StartSidecar(spec, ledger).check(silent)
    assert (change.action, change.reason) == (Action.UPDATE, "/api/ready says 500")
    other = of_sidecar(tmp_path, dataclasses.replace(HERE, version="v0.111.0"))
    change = StartSidecar(other, ledger).check(ready)
    assert (change.action, change.summary, change.reason) == (
        Action.UPDATE,
        "restart v0.111.0",
        "it was started with other settings",
    )
    # An `up` that was killed while it waited.
    standing(ledger, spec, pid=None)
    assert StartSidecar(spec, ledger).check(ready).action is Action.UPDATE


# What the keeper says of hatchet-sdk's failures

_404 = urllib.error.HTTPError("https://github.com/x", 404, "Not Found", Message(), None)
FAILURES: list[tuple[Exception, str]] = [
    (_404, "release"),
    (urllib.error.HTTPError("https://github.com/x", 503, "Unavailable", Message(), None), "unreachable"),
    (urllib.error.URLError("Name or service not known"), "unreachable"),
    (TimeoutError("timed out"), "unreachable"),
    (urllib.error.ContentTooShortError("the download was cut off", ("", Message())), "unreachable"),
    (ConnectionResetError(104, "reset"), "unreachable"),
    (TimeoutError("hatchet embedded sidecar did not become ready within 5s"), "late"),
    (RuntimeError("checksum mismatch for /x: expected a, got b"), "checksum"),
    (RuntimeError("hatchet embedded sidecar exited with code 1 before becoming ready"), "died"),
    (RuntimeError("no checksum for hatchet-embedded-sidecar_darwin_arm64 in https://x"), "release"),
    (OSError(8, "Exec format error", "/opt/mine"), "not-runnable"),
    (PermissionError(13, "Permission denied", "/h/.hatchet/embedded/v1/hatchet-embedded-sidecar_darwin_arm64"), "not-runnable"),
    (PermissionError(13, "Permission denied", "/h/.hatchet"), "other"),
    (ValueError("something else"), "other"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "kind"), FAILURES, ids=lambda v: v if isinstance(v, str) else type(v).__name__)
def test_what_hatchet_sdk_failed_at(error: Exception, kind: str) -> None:
    assert kind_of(error, "/opt/mine") == kind


def test_what_a_keeper_hands_over_is_believed_only_where_it_is_one(
    spec: StackSpec, ledger: Ledger, tmp_path: Path
) -> None:
    host = make_host({"HOME": str(tmp_path)})
    run = Run(host, Deadline(5.0, host.clock), lambda text: None)
    ledger.keep("engine", pid=77, started=1000.0)
    step = StartSidecar(spec, ledger)
    assert step.read_handshake(run) is None
    step.home.mkdir(parents=True)
    (step.home / HANDSHAKE).write_text('{"failed": "unreachable", "words": "URLError: no"}')
    with pytest.raises(UpError, match="GitHub cannot be reached") as failed:
        step.read_handshake(run)
    assert failed.value.code == "sidecar-unreachable" and "URLError: no" in failed.value.detail
    for text in ("garbage", "[]", '{"token": "x"}'):
        (step.home / HANDSHAKE).write_text(text)
        with pytest.raises(UpError) as garbage:
            step.read_handshake(run)
        assert garbage.value.code == "sidecar-handshake"
