"""Empty databases for tests: on the project's own server where a login there may make some, else on a throwaway one.

A template is made once, with the application's extensions and migrations; each database is a copy of it. Names say whose
they are (`owner`), so the next session drops what a killed one left, and leaves alone what a living one uses.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from owlclaw_up.errors import UpError
from owlclaw_up.facts.servers import admin_login
from owlclaw_up.host.base import Postgres, ServerLogin, ServerLook, on_this_machine
from owlclaw_up.host.postgres import in_database
from owlclaw_up.host.postgres_url import asyncpg_url, parse_url, url_of
from owlclaw_up.project import Project, application
from owlclaw_up.testing.owner import Owner

if TYPE_CHECKING:
    import psycopg

PREFIX = "owlclaw_test_"
_URLS = ("OWLCLAW_DATABASE_URL", "DATABASE_URL")


@dataclass(frozen=True)
class Server:
    """Where test databases are made.

    Attributes:
        admin: a login that may make databases.
        owner: the role that they belong to, and that tests connect as: the application's where it is known.
        extensions: of the application.
    """

    admin: ServerLogin
    owner: ServerLogin
    extensions: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class Database:
    """A database of its own.

    Attributes:
        name: its name on the server.
        login: of the role that owns it.
    """

    name: str
    login: ServerLogin

    @property
    def url(self) -> str:
        """For psycopg, and for whatever else takes a plain `postgresql://`."""
        return url_of(self.login).reveal()

    @property
    def async_url(self) -> str:
        """For SQLAlchemy with asyncpg, as `DATABASE_URL` in the dotenv file."""
        return asyncpg_url(self.login).reveal()

    def connect(self) -> psycopg.Connection[Any]:
        """A new psycopg connection; use it as a context manager, or close it."""
        import psycopg

        return psycopg.connect(self.url)

    def __repr__(self) -> str:
        return f"<database {self.name} on {self.login.where}>"


def find_server(project: Project, environ: Mapping[str, str]) -> Server | None:
    """The server of a project: that of its state, of `admin_url`, or of the database URL in the environment.

    Returns:
        The first where a login may make databases; None where there is none.
    """
    app = _application_login(project, environ)
    candidates = [admin_login(project.ledger)]
    if project.settings.admin_url.value:
        with contextlib.suppress(ValueError):
            candidates.append(parse_url(project.settings.admin_url.value.reveal()))
    for candidate in (*candidates, app):
        look = project.host.postgres.look(candidate, "tests", 2.0) if candidate else None
        if not isinstance(look, ServerLook) or not (look.superuser or look.createdb):
            continue
        admin = look.login
        gives = app is not None and _same_server(app, admin) and _can_own(project.host.postgres, admin, app)
        return Server(admin, app if app is not None and gives else admin, application(project).extensions)
    return None


def _can_own(postgres: Postgres, admin: ServerLogin, role: ServerLogin) -> bool:
    """Whether a role's login works, and the admin may give it databases as things are: nobody is made a member of it."""
    return postgres.login_works(role) is None and postgres.has_role(admin, role.user)


def _application_login(project: Project, environ: Mapping[str, str]) -> ServerLogin | None:
    """The application's login from its URL in the environment."""
    names = project.settings.env_names.value
    for key in _URLS:
        with contextlib.suppress(ValueError):
            return parse_url(environ.get(names.get(key, key), ""))
    return None


def _same_server(one: ServerLogin, other: ServerLogin) -> bool:
    same_host = one.host == other.host or (on_this_machine(one.host) and on_this_machine(other.host))
    return same_host and (one.port or 5432) == (other.port or 5432)


class Databases:
    """The databases of one process.

    Args:
        server: where they are made.
        migrate: brings the template up to date; called once with its owner's login, and the admin's.
    """

    def __init__(self, server: Server, postgres: Postgres, migrate: Callable[[ServerLogin, ServerLogin], None]) -> None:
        self.server, self._postgres, self._migrate = server, postgres, migrate
        self._numbers = itertools.count(1)
        self._template = ""

    @contextlib.contextmanager
    def make(self) -> Iterator[Database]:
        """A database, dropped at the end whoever is still connected."""
        template = self._template or self._make_template()
        name = f"{PREFIX}{Owner.me()}_{next(self._numbers)}"
        self._postgres.clone_database(self.server.admin, name, template, self.server.owner.user)
        try:
            yield Database(name, self._login(name))
        finally:
            self._postgres.drop_database(self.server.admin, name)

    def close(self) -> None:
        """Drop the template."""
        if self._template:
            self._postgres.drop_database(self.server.admin, self._template)
            self._template = ""

    def _make_template(self) -> str:
        self._sweep()
        admin, postgres = self.server.admin, self._postgres
        name = f"{PREFIX}{Owner.me()}_template"
        postgres.create_database(admin, name, self.server.owner.user)
        try:
            for extension in self.server.extensions:
                # One that the server has not is missing in the environment itself as well, which says so.
                postgres.create_extension(admin, name, extension)
            self._migrate(self._login(name), in_database(admin, name))
        except BaseException:
            postgres.drop_database(admin, name)
            raise
        self._template = name
        return name

    def _sweep(self) -> None:
        for name in self._postgres.database_names(self.server.admin, PREFIX):
            owner = Owner.named_in(name)
            if owner is not None and owner.gone:
                # Another worker may be at it.
                with contextlib.suppress(UpError):
                    self._postgres.drop_database(self.server.admin, name)

    def _login(self, database: str) -> ServerLogin:
        return in_database(self.server.owner, database)
