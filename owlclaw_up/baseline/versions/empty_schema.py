"""An empty schema, put under version.

It makes no table: what an application needs, its own migrations make. The version table alone says that the database is
there and was migrated, and is handed over to the project's own migrations when there are some.
"""

from __future__ import annotations

revision = "owlclaw_up_baseline"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing."""


def downgrade() -> None:
    """Nothing."""
