"""What one test session has of owlclaw-up: each part is made when it is first wanted."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from owlclaw_up.receipts import STATE_DIR
from owlclaw_up.settings import find_project
from owlclaw_up.testing.owner import session_folder

if TYPE_CHECKING:
    from owlclaw_up.host.base import ServerLogin
    from owlclaw_up.project import Project
    from owlclaw_up.testing.databases import Databases
    from owlclaw_up.testing.engine import Verdict
    from owlclaw_up.testing.environments import Environments


class Session:
    """The session of one process.

    Args:
        rootdir: pytest's.
        owner: the process that controls it, as text; the controller's under pytest-xdist.
        migrate: whether test databases get the project's migrations.
    """

    def __init__(self, rootdir: Path, owner: str, migrate: bool) -> None:
        self.rootdir, self.folder, self.migrate = rootdir, session_folder(owner), migrate

    @cached_property
    def verdict(self) -> Verdict:
        """Whether an engine answers; asked once."""
        from owlclaw_up.testing.engine import ask

        return ask(os.environ)

    @cached_property
    def project(self) -> Project:
        """The project under test.

        Raises:
            UpError: its settings or its state cannot be used.
        """
        from owlclaw_up.project import open_project

        return open_project(project_of(self.rootdir))

    @cached_property
    def environments(self) -> Environments:
        from owlclaw_up.testing.environments import Environments

        return Environments(self.folder, self.project)

    @contextlib.contextmanager
    def databases(self) -> Iterator[Databases]:
        """The test databases of this process; gone afterwards."""
        from owlclaw_up import dotenv_text
        from owlclaw_up.testing.databases import Databases, find_server
        from owlclaw_up.testing.environments import DOTENV

        server = find_server(self.project, os.environ)
        if server is None:
            throwaway = self.environments.shared_server()
            server = find_server(throwaway, dotenv_text.values((throwaway.root / DOTENV).read_bytes()))
            assert server is not None, "a server of ours has an admin of ours"
        made = Databases(server, self.project.host.postgres, self._migrate)
        try:
            yield made
        finally:
            made.close()

    def _migrate(self, login: ServerLogin, admin: ServerLogin) -> None:
        """Run the project's migrations, if it has any and they are wanted.

        Raises:
            UpError: they cannot be used, or one failed.
        """
        from owlclaw_up.host.base import Deadline
        from owlclaw_up.host.migrations import Migrations
        from owlclaw_up.testing.environments import make_folder

        settings, clock = self.project.settings, self.project.host.clock
        migrations = Migrations.of(settings.alembic_config.value, self.project.root)
        if not self.migrate or migrations.config is None:
            return
        make_folder(self.folder)
        migrations.run(
            login, admin, migrations.graph().route((), "heads"), settings.env_names.value,
            Deadline(settings.timeout.value, clock), self.folder / f"migrations-{os.getpid()}.log", lambda text: None,
        )  # fmt: skip


def project_of(rootdir: Path) -> Path:
    """The project of a root: the nearest folder with an environment, else as for the command."""
    with_state = (folder for folder in (rootdir, *rootdir.parents) if (folder / STATE_DIR / "state.json").is_file())
    return next(with_state, None) or find_project(rootdir, None)
