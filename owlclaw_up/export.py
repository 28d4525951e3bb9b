"""`export helm`: what a cluster needs to go on with this environment's keys, as files for Hatchet's own charts."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from owlclaw_up.environment import prepare
from owlclaw_up.errors import ExportRefused, UsageError
from owlclaw_up.facts.dotenv import look_at_dotenv
from owlclaw_up.facts.place import serves_by_sidecar
from owlclaw_up.helm_values import CHARTS, HelmExport, secret, values
from owlclaw_up.host.postgres_url import url_of
from owlclaw_up.model import Finding, Mode, Outcome
from owlclaw_up.project import NoEnvironment, Project, relative
from owlclaw_up.spec import HATCHET_DATABASE, EngineSpec, StackSpec
from owlclaw_up.steps.engine_env import IDENTITY

_FOLDER = "helm"
_ADDRESS = re.compile(r"[A-Za-z0-9.-]+:[0-9]{1,5}")
_RELEASE = re.compile(r"v[0-9]+\.[0-9]+\.[0-9]+")
# What a build says that nobody stamped with a version.
_UNSTAMPED = "v0.1.0"


@dataclasses.dataclass(frozen=True)
class HelmWish:
    """What was asked for.

    Attributes:
        values, secret: where to; None for the state directory, `-` for the caller, who prints it.
        over: whether files that are there may be replaced.
    """

    chart: str = CHARTS[0]
    server_url: str | None = None
    grpc_address: str | None = None
    values: str | None = None
    secret: str | None = None
    over: bool = False

    def check(self) -> None:
        """See that it can be used.

        Raises:
            UsageError: it cannot.
        """
        if self.chart not in CHARTS:
            raise UsageError(
                f"there is no chart {self.chart!r} to write values for", hint=f"one of {', '.join(CHARTS)}"
            )
        if self.server_url is not None:
            parts = urlsplit(self.server_url)
            more = parts.path.strip("/") or parts.query or parts.fragment or parts.username
            if parts.scheme not in ("http", "https") or not parts.hostname or more or not _has_port(parts):
                raise UsageError(f"--server-url {self.server_url!r} is no address", hint="https://hatchet.example.com")
        grpc = self.grpc_address
        if grpc is not None and not (_ADDRESS.fullmatch(grpc) and _has_port(urlsplit(f"//{grpc}"))):
            raise UsageError(f"--grpc-address {self.grpc_address!r} is no address", hint="engine.example.com:443")


def _has_port(parts: SplitResult) -> bool:
    """Whether the port of an address, if it names one, is one that there can be."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def export_helm(project: Project, wish: HelmWish) -> tuple[Outcome, dict[str, str]]:
    """Write values and Secret, or give them to be printed.

    Returns:
        The outcome, and the texts that were asked for by `-`, as `values` and `secret`.

    Raises:
        UpError: the environment has no keys to hand over, or a file is in the way.
    """
    wish.check()
    begun = project.host.clock.monotonic()
    export = _export(project, wish)
    project.redact.add(*export.secrets.values())
    paths: dict[str, str | None] = {}
    printed: dict[str, str] = {}
    texts = {"values": values(export), "secret": secret(export)}
    places = {name: _place(project, getattr(wish, name), name) for name in texts}
    for name, path in places.items():
        if path is not None:
            _refuse(project, path, texts[name], over=wish.over, private=name == "secret")
    for name, path in places.items():
        if path is None:
            printed[name] = texts[name]
        else:
            project.host.files.write_private(path, texts[name].encode())
        paths[name] = relative(project, path) if path else None
    findings = tuple(
        Finding(f"export.{n}", "warn", what) for n, what in enumerate((*export.to_change, *_token_words(export)), 1)
    )
    data: dict[str, Any] = {
        "chart": export.chart, "values": paths["values"], "secret": paths["secret"], "image_tag": export.tag,
        "server_url": export.server_url, "grpc_address": export.grpc_address, "tokens_stay_good": not export.moved,
        "pods": export.pods, "connections": export.connections,
    }  # fmt: skip
    seconds = project.host.clock.monotonic() - begun
    mode = Mode(project.ledger.state.mode)
    outcome = Outcome("export helm", "ok", 0, mode, findings=findings, seconds=seconds, project=project.root, data=data)
    return outcome, printed


def _export(project: Project, wish: HelmWish) -> HelmExport:
    state, identity = project.ledger.state, project.ledger.vault.engine
    if not state.mode:
        raise NoEnvironment(project.root)
    missing = [name for name in IDENTITY if not identity.get(name)]
    no_engine = {Mode.MOCK.value: "mode mock has no engine", Mode.REMOTE.value: "the engine runs elsewhere"}
    embedded = serves_by_sidecar(project.ledger)
    if state.mode in no_engine or missing or embedded:
        inside = "Hatchet's embedded engine keeps its keys in its database"
        why = no_engine.get(state.mode, inside if embedded else "its keys are not kept here")
        elsewhere = state.mode == Mode.REMOTE.value
        hint = "in the project that brought it up: owlclaw-up export helm" if elsewhere else "owlclaw-up --mode native"
        hint = "OWLCLAW_UP_NATIVE_ENGINE=binaries owlclaw-up --mode native" if embedded else hint
        raise ExportRefused(f"there is nothing to hand over to a cluster: {why}", hint)
    kept = dataclasses.replace(project.settings.mode, value=Mode(state.mode))
    spec = prepare(dataclasses.replace(project, settings=dataclasses.replace(project.settings, mode=kept))).spec
    assert isinstance(spec.engine, EngineSpec)
    login = spec.login(spec.database(HATCHET_DATABASE))
    secrets = {
        "DATABASE_URL": url_of(login).reveal(),
        **{name: identity[name] for name in IDENTITY},
        "ADMIN_PASSWORD": spec.engine.admin_password.reveal(),
    }
    rabbitmq = spec.engine.rabbitmq
    if rabbitmq is not None:
        secrets["SERVER_MSGQUEUE_RABBITMQ_URL"] = rabbitmq.reveal()
    server_url = wish.server_url.rstrip("/") if wish.server_url else spec.server_url
    return HelmExport(
        chart=wish.chart, tag=_tag(project, spec), server_url=server_url,
        grpc_address=wish.grpc_address or spec.grpc_address, moved=server_url != spec.server_url,
        admin_email=spec.engine.admin_email, tenant=spec.engine.tenant,
        rabbitmq_host=urlsplit(rabbitmq.reveal()).hostname or "" if rabbitmq is not None else None,
        database_host=login.host or "localhost", secrets=secrets,
    )  # fmt: skip


def _tag(project: Project, spec: StackSpec) -> str:
    """The images' tag: the engine's own version, else that of the image in the settings."""
    version = spec.engine.version if isinstance(spec.engine, EngineSpec) else ""
    if _RELEASE.fullmatch(version) and version != _UNSTAMPED:
        return version
    return project.settings.hatchet_image.value.rpartition(":")[2]


def _place(project: Project, asked: str | None, name: str) -> Path | None:
    if asked == "-":
        return None
    if asked is not None:
        return project.root / Path(asked).expanduser()
    folder = project.ledger.directory / _FOLDER
    project.host.files.make_dir(folder)
    return folder / f"{name}.yaml"


def _refuse(project: Project, path: Path, text: str, *, over: bool, private: bool) -> None:
    """See that a file may be written.

    Raises:
        ExportRefused: something else is there, or git would take the keys.
    """
    look = look_at_dotenv(project.host, path)
    if look.kind in ("directory", "unreadable"):
        raise ExportRefused(f"{path} cannot be written: {look.error or 'it is a folder'}", f"ls -ld {path}")
    if private and (look.tracked or look.ignored is False):
        raise ExportRefused(
            f"{path} would hold keys, and git does not ignore it",
            f"echo {path.name} >> .gitignore; or leave --secret out",
        )
    there = project.host.files.read(path)
    if there is not None and there != text.encode() and not over:
        raise ExportRefused(f"{path} is there already, and reads otherwise", "owlclaw-up export helm --yes replaces it")


def _token_words(export: HelmExport) -> tuple[str, ...]:
    if not export.moved:
        return ()
    return (
        "tokens of this environment are refused under another server URL; the chart makes one: Secret hatchet-client-config",
    )
