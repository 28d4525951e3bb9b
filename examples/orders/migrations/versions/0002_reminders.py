"""Reminders of orders, and what was sold by day."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute(
        """
        create table reminders (
            id bigint generated always as identity primary key,
            order_id uuid not null references orders on delete cascade,
            sent timestamptz not null default now()
        )
        """
    )
    op.execute("create table sales (day date primary key, orders integer not null, cents bigint not null)")


def downgrade() -> None:
    op.execute("drop table sales")
    op.execute("drop table reminders")
