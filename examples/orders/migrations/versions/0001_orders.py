"""Orders."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute(
        """
        create table orders (
            id uuid primary key default gen_random_uuid(),
            customer text not null,
            cents integer not null check (cents > 0),
            status text not null default 'new' check (status in ('new', 'confirmed')),
            created timestamptz not null default now()
        )
        """
    )


def downgrade() -> None:
    op.execute("drop table orders")
