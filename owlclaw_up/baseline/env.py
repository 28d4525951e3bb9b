"""Run by Alembic: the revisions here, on the URL that it was given."""

from __future__ import annotations


def _run() -> None:
    from alembic import context
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    url = context.config.get_main_option("sqlalchemy.url") or ""
    if context.is_offline_mode():
        context.configure(url=url, literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    with create_engine(url, poolclass=NullPool).connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()


_run()
