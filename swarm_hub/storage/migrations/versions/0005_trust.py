"""Results that wait for others to confirm them, and how far each node may be trusted alone."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add columns; every existing result counted at once."""
    op.add_column(
        "results", sa.Column("counted", sa.Integer(), nullable=False, server_default=sa.text("1"))
    )
    for name in ("agreements", "contradictions"):
        op.add_column(
            "nodes", sa.Column(name, sa.Integer(), nullable=False, server_default=sa.text("0"))
        )
    op.add_column("nodes", sa.Column("owner", sa.Text()))
    op.add_column("invites", sa.Column("owner", sa.Text()))
