"""Probe of the application's migrations: where its database stands, by reading scripts and one table."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from owlclaw_up.facts.servers import admin_login
from owlclaw_up.host.base import ServerLogin
from owlclaw_up.host.migrations import MigrationsLook, look_at_migrations
from owlclaw_up.model import Absent, Fact, Found, Secret
from owlclaw_up.receipts import Ledger
from owlclaw_up.settings import Settings, application_database


def look_at_application_migrations(settings: Settings, ledger: Ledger) -> Fact[MigrationsLook]:
    """As the application's role, with the kept password."""
    admin = admin_login(ledger)
    wanted = application_database(settings)
    password = ledger.vault.passwords.get(wanted.role)
    if admin is None or password is None:
        return Absent("nothing was set up here yet")
    login = ServerLogin(admin.host, admin.port, wanted.role, Secret(password), wanted.name, admin.options)
    with _no_bytecode():
        return Found(look_at_migrations(settings.alembic_config.value, ledger.project, login))


@contextlib.contextmanager
def _no_bytecode() -> Iterator[None]:
    """A look leaves nothing in the project: reading its revisions imports them."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
