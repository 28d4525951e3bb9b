"""One project, open: its settings, its state, the doors to its machine; and the outcome of a command that an error ended."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from owlclaw_up.errors import PreconditionError, UpError
from owlclaw_up.host.machine import Host
from owlclaw_up.model import Login, Outcome, Secret
from owlclaw_up.receipts import Ledger
from owlclaw_up.redaction import Redactor
from owlclaw_up.remote_settings import with_remote
from owlclaw_up.setting_values import DatabaseSetting
from owlclaw_up.settings import SECRETS, Settings, application_database, find_project, load
from owlclaw_up.spec import ADMIN_EMAIL, SidecarEngine, StackSpec


class NoEnvironment(PreconditionError):
    code = "no-environment"

    def __init__(self, project: Path) -> None:
        super().__init__(f"nothing was set up in {project} yet", hint="owlclaw-up")


@dataclasses.dataclass(frozen=True)
class Project:
    """One project, with everything a command needs to work on it."""

    root: Path
    host: Host
    settings: Settings
    ledger: Ledger
    redact: Redactor

    def learn_secrets(self) -> None:
        """Have every secret of this run masked from now on."""
        settings = self.settings
        given = (getattr(settings, name).value for name in SECRETS)
        self.redact.add(*self.ledger.vault.texts(), *(s.reveal() for s in given if s))


def open_project(
    project_dir: Path | None = None, flags: Mapping[str, Any] | None = None, host: Host | None = None
) -> Project:
    """Find the project, resolve settings, read state.

    Raises:
        UpError: the project, a setting or the state cannot be used.
    """
    host = host or Host()
    root = find_project(Path.cwd(), project_dir)
    ledger = Ledger(root, host.files, host.clock)
    settings = with_remote(load(root, host.environ, flags or {}), ledger, host)
    opened = Project(root, host, settings, ledger, Redactor())
    opened.learn_secrets()
    return opened


def failure(project: Project | None, command: str, error: UpError, seconds: float) -> Outcome:
    """The outcome of a command that an error ended."""
    if project is not None:
        project.learn_secrets()
        for name in ("message", "hint", "detail"):
            setattr(error, name, project.redact(getattr(error, name)))
    return Outcome(
        command, "failed", error.exit_code, error=error, seconds=seconds, project=project.root if project else None
    )


def dashboard_login(project: Project) -> Login | None:
    """The login of the dashboard, where one was made."""
    password = project.ledger.vault.passwords.get("dashboard")
    return Login(ADMIN_EMAIL, Secret(password)) if password else None


def endpoints(spec: StackSpec) -> dict[str, str]:
    """Where things answer; no passwords."""
    host = "localhost" if spec.postgres.ours else spec.postgres.admin.host or "localhost"
    application = spec.application
    urls = {"postgres": f"postgresql://{application.role}@{host}:{spec.ports.postgres}/{application.name}"}
    if spec.engine is None:
        return urls
    return {
        "rest" if isinstance(spec.engine, SidecarEngine) else "dashboard": spec.server_url,
        "grpc": spec.grpc_address,
        **urls,
    }


def relative(project: Project, path: Path) -> str:
    """A path for the reader: from the project where it lies in it."""
    return os.path.relpath(path, project.root) if path.is_relative_to(project.root) else str(path)


def application(project: Project) -> DatabaseSetting:
    """The application's database, as it is wanted."""
    return application_database(project.settings)
