"""Alembic projects as people have them: an ini, an env.py of either kind, revisions written by the test."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

INI = """[alembic]
script_location = migrations
path_separator = os

[loggers]
keys = root,alembic
[handlers]
keys = console
[formatters]
keys = generic
[logger_root]
level = WARNING
handlers = console
qualname =
[logger_alembic]
level = INFO
handlers =
qualname = alembic
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = generic
[formatter_generic]
format = %(levelname)s %(message)s
"""
# As `alembic init` writes it, with the words that people add.
SYNC_ENV = """
from logging.config import fileConfig
from alembic import context
from sqlalchemy import engine_from_config, pool

config = context.config
fileConfig(config.config_file_name)
print("env.py says something on stdout")

def run_migrations_offline():
    context.configure(url=config.get_main_option("sqlalchemy.url"), literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()

def run_migrations_online():
    engine = engine_from_config(config.get_section(config.config_ini_section, {}), prefix="sqlalchemy.", poolclass=pool.NullPool)
    print("connecting to", engine.url.render_as_string(hide_password=False))
    with engine.connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()

run_migrations_offline() if context.is_offline_mode() else run_migrations_online()
"""
# As `alembic init -t async` writes it; the URL from the environment, and the models from the project's own package.
ASYNC_ENV = """
import asyncio
import os
from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine
from app_package import metadata

def work(connection):
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()

async def main():
    engine = create_async_engine(os.environ["OWLCLAW_DATABASE_URL"])
    async with engine.connect() as connection:
        await connection.run_sync(work)
    await engine.dispose()

asyncio.run(main())
"""
AGENTS = """op.execute("create table agents (id serial primary key, name text)")
    op.execute("insert into agents (name) values ('first')")"""


class AlembicProject:
    """The Alembic side of a project."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def clear(self) -> None:
        (self.root / "alembic.ini").unlink(missing_ok=True)
        for folder in ("migrations", "app_package"):
            shutil.rmtree(self.root / folder, ignore_errors=True)

    def begin(self, env: str = SYNC_ENV) -> AlembicProject:
        """A project with nothing but two revisions, `a1` and `b2`."""
        self.clear()
        (self.root / "alembic.ini").write_text(INI)
        (self.root / "migrations/versions").mkdir(parents=True)
        (self.root / "migrations/env.py").write_text(env)
        (self.root / "app_package").mkdir()
        (self.root / "app_package/__init__.py").write_text("metadata = None\n")
        self.revision("a1", None, AGENTS, 'op.execute("drop table agents")')
        self.revision("b2", "a1", 'op.execute("create table runs (id int)")', 'op.execute("drop table runs")')
        return self

    def revision(self, name: str, below: str | None, up: str, down: str = "pass") -> None:
        text = (
            f'"""makes {name}"""\nfrom alembic import op\n'
            f"revision = {name!r}\ndown_revision = {below!r}\nbranch_labels = None\ndepends_on = None\n"
            f"def upgrade():\n    {up}\ndef downgrade():\n    {down}\n"
        )
        path = self.root / f"migrations/versions/{name}.py"
        path.write_text(text)
        # Python may keep the bytecode of an older text of the same second and size.
        os.utime(path, ns=(path.stat().st_mtime_ns, path.stat().st_mtime_ns + 10**9 * len(text)))
