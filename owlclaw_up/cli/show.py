"""Commands that only show: logs, variables, the dashboard, engines at hand."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from owlclaw_up.cli.terminal import Ui
from owlclaw_up.errors import UsageError
from owlclaw_up.model import Listener, Outcome, StepProgress, StepStarted

if TYPE_CHECKING:
    from owlclaw_up.environment import Project
    from owlclaw_up.host.engines import EngineRefused
    from owlclaw_up.spec import EngineBinaries, Sidecar

_DEFAULT_TAIL = 40
_MASK = "***"


def show_logs(ui: Ui, project: Project, name: str | None, follow: bool, since: str | None, tail: int | None) -> Outcome:
    """Print log lines, redacted; with `follow`, until interrupted."""
    from datetime import datetime, timezone

    from owlclaw_up import logs
    from owlclaw_up.facts.containers import log_containers

    if name is not None and name not in logs.FILES:
        raise UsageError(f"there is no log {name!r}", hint=f"one of {', '.join(logs.FILES)}")
    moment = logs.parse_since(since, datetime.now(timezone.utc)) if since else None
    limit = tail if tail is not None else None if since else _DEFAULT_TAIL
    files = logs.paths(project.ledger.logs, name)
    containers = [c for c in log_containers(project.ledger) if name in (None, c.label)]
    lines = [
        {"log": label, "line": project.redact(line)} for label, path in files for line in logs.read(path, limit, moment)
    ]
    for container in containers:
        read = container.docker.logs(container.name, limit, moment.timestamp() if moment else None)
        lines += [{"log": container.label, "line": project.redact(line)} for line in read]
    labels = {label for label, _ in files} | {c.label for c in containers}
    width = 0 if name and len(labels) < 2 else max(8, *map(len, labels), 0)
    if not ui.json:
        for entry in lines:
            print(_labelled(entry["log"], entry["line"], width))
        if follow:
            sys.stdout.flush()
            for label, line in logs.follow(files, [(c.label, c.docker.follow(c.name)) for c in containers]):
                print(_labelled(label, project.redact(line), width), flush=True)
    return Outcome("logs", "ok", 0, project=project.root, data={"lines": lines})


def _labelled(label: str, line: str, width: int) -> str:
    return f"{label:<{width}} | {line}" if width else line


def show_env(ui: Ui, project: Project, export: bool, diff: bool, reveal: bool) -> Outcome:
    """Print the variables; secret values only with `reveal`.

    `export` prints no secret either: it has the shell take those from the dotenv file.
    """
    from owlclaw_up import dotenv_text, environment
    from owlclaw_up.checks.shadows import shadow_findings
    from owlclaw_up.facts.dotenv import look_for_shadows
    from owlclaw_up.steps.dotenv import SECRET_KEYS

    wanted = environment.variables(project)
    path = project.root / project.settings.env_file.value
    names = {project.settings.env_names.value.get(k, k) for k in SECRET_KEYS}

    def shown(key: str, value: str) -> str:
        return value if reveal or key not in names else _MASK

    in_file = dotenv_text.values(project.host.files.read(path) or b"")
    differs = {k: "missing" if k not in in_file else "differs" for k, v in wanted.items() if in_file.get(k) != v}
    data: dict[str, Any] = {"variables": {k: shown(k, v) for k, v in wanted.items()}, "differences": differs}
    if not ui.json:
        if diff:
            for key, how in differs.items():
                print(f"{key}: {how} in {path.name}")
            if not differs:
                print(f"{path.name} has every variable as it should be")
        else:
            for key, value in wanted.items():
                if export and key in names and not reveal:
                    print(f'export {key}="$({_from_file(key, path)})"')
                else:
                    print(f"{'export ' if export else ''}{key}={shown(key, value)}")
    places = look_for_shadows(project.host, project.settings, project.root) if diff else None
    findings = shadow_findings(places, path, wanted) if places else ()
    return Outcome("env", "ok", 1 if diff and differs else 0, findings=findings, project=project.root, data=data)


def _from_file(key: str, path: Path) -> str:
    """A shell command that reads a value of the dotenv file: the last one counts, quotes and comments do not."""
    quoted = "'" + str(path).replace("'", "'\\''") + "'"
    return f"sed -n -E 's/^(export +)?{key} *= *[\"'\\'']?([^\"'\\'' #]*).*$/\\2/p' {quoted} | tail -n 1 | tr -d '\\r'"


def show_dashboard(ui: Ui, project: Project, reveal: bool, *, browser: bool) -> Outcome:
    """Print the dashboard's URL and login, and open it where there is a browser to open it in."""
    from owlclaw_up.environment import NoEnvironment
    from owlclaw_up.errors import PreconditionError, SidecarRefused
    from owlclaw_up.facts.place import engine_place, serves_by_sidecar
    from owlclaw_up.model import Mode
    from owlclaw_up.modes import MODES
    from owlclaw_up.spec import ADMIN_EMAIL

    state = project.ledger.state
    if not state.mode:
        raise NoEnvironment(project.root)
    if not MODES[Mode(state.mode)].durable:
        raise PreconditionError(f"there is no dashboard in mode {state.mode}", hint="owlclaw-up --mode native")
    if serves_by_sidecar(project.ledger):
        raise SidecarRefused(
            "sidecar-dashboard", "Hatchet's embedded engine has no dashboard, only REST: HATCHET_SERVER_URL",
            hint="owlclaw-up --mode full, with Docker",
        )  # fmt: skip
    place = engine_place(project.ledger)
    url = place.server_url if place else ""
    if place is not None and place.elsewhere:
        # Its people have logins of their own.
        if not ui.json:
            print(url)
            _browse(url, wanted=browser)
        return Outcome("open", "ok", 0, project=project.root, endpoints={"dashboard": url}, data={"url": url})
    password = project.ledger.vault.passwords.get("dashboard", "")
    shown = password if reveal else f"{_MASK}   (owlclaw-up open --reveal shows it)"
    if not ui.json:
        print(f"{url}\nlogin     {ADMIN_EMAIL}\npassword  {shown}")
        _browse(url, wanted=browser)
    data = {"url": url, "email": ADMIN_EMAIL, "password": password if reveal else _MASK}
    return Outcome("open", "ok", 0, project=project.root, endpoints={"dashboard": url}, data=data)


def _browse(url: str, *, wanted: bool) -> None:
    if wanted and sys.stdout.isatty():
        import webbrowser

        webbrowser.open(url)


def show_engines(ui: Ui, project: Project) -> Outcome:
    """Every engine that `up` would consider, in its order."""
    from owlclaw_up.facts.sidecar import look_for_sidecar
    from owlclaw_up.host import engines
    from owlclaw_up.modes import may_be_sidecar

    settings = project.settings
    looked = engines.find(settings.engine_dir.value, None, project.host.environ, project.host.processes)
    rows = [_engine_row(each) for each in looked] if settings.native_engine.value != "sidecar" else []
    sidecar = look_for_sidecar(project.host, settings, project.ledger)
    if may_be_sidecar(settings, sidecar, platform.system()):
        rows.insert(0 if sidecar.serves else len(rows), _engine_row(sidecar.found))
    if not ui.json:
        for row in rows:
            what = (row["version"] or "?") if row["usable"] else f"unusable: {row['why']}"
            print(f"{what:<12} {row['directory']}  ({row['source']})")
        if not rows:
            print(f"none; owlclaw-up engine import DIR puts one into {engines.cache_dir()}")
    return Outcome("engine list", "ok", 0, data={"engines": rows, "cache": str(engines.cache_dir())})


def _engine_row(engine: EngineBinaries | Sidecar | EngineRefused) -> dict[str, Any]:
    from owlclaw_up.host.engines import EngineRefused
    from owlclaw_up.spec import Sidecar

    if isinstance(engine, EngineRefused):
        return {
            "directory": str(engine.directory), "source": engine.source, "version": None, "usable": False,
            "sidecar": engine.code.startswith("sidecar-"), "why": engine.why,
        }  # fmt: skip
    if isinstance(engine, Sidecar):
        source = "Hatchet's embedded engine" if engine.here else "Hatchet's embedded engine, not fetched yet"
        where, is_sidecar = str(engine.binary or f"{engine.source}/{engine.program}"), True
    else:
        source, where, is_sidecar = engine.source, str(engine.directory), False
    return {
        "directory": where, "source": source, "version": engine.version or None, "usable": True, "sidecar": is_sidecar,
        "why": "",
    }  # fmt: skip


def import_engine(ui: Ui, project: Project, directory: Path) -> Outcome:
    """Copy an engine into the user's cache."""
    from owlclaw_up.host import engines

    kept, new = engines.import_engine(directory, project.host.processes)
    if not ui.json and not ui.quiet:
        print(f"{kept.version} {'is now' if new else 'was already'} in {kept.directory}")
    data = {"version": kept.version, "directory": str(kept.directory), "new": new}
    return Outcome("engine import", "ok", 0, data=data)


def pull_engine(ui: Ui, project: Project, listener: Listener) -> Outcome:
    """Take the engine out of the image that the settings name, into the user's cache."""
    from owlclaw_up.steps.engine_fetch import FetchEngine

    fetch = FetchEngine(project.settings)
    listener(StepStarted(fetch.id, f"Engine from {fetch.image}"))
    pulled = fetch.pull(project.host, lambda text: listener(StepProgress(fetch.id, text)), listener)
    engine = pulled.engine
    if not ui.json and not ui.quiet:
        print(f"{engine.version} {'is now' if pulled.new else 'was already'} in {engine.directory}")
        by = {"registry": "from the registry", "docker": "out of Docker", "docker-store": "out of Docker's store"}
        parts = (
            by.get(pulled.source, ""),
            "dashboard included" if engine.assets else "without a dashboard",
            pulled.digest,
        )
        print("; ".join(filter(None, parts)))
    data = {
        "version": engine.version, "directory": str(engine.directory), "new": pulled.new, "image": fetch.image,
        "digest": pulled.digest, "dashboard": engine.assets is not None, "source": pulled.source,
        "image_id": pulled.image_id,
    }  # fmt: skip
    return Outcome("engine pull", "ok", 0, data=data)
