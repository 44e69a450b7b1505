"""What gateways that share a store tell each other, their tokens, events that wait for numbers."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_BIGINT: Final[sa.types.TypeEngine[int]] = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_DOUBLE: Final[sa.types.TypeEngine[float]] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Add two columns and two tables."""
    op.add_column("gateways", sa.Column("presence", sa.Text()))
    op.add_column("jobs", sa.Column("offered_to", sa.Text()))
    op.create_table(
        "event_queue",
        sa.Column("id", _BIGINT, primary_key=True),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text()),
        sa.Column("time_fired", _DOUBLE, nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text()),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("created_at", _DOUBLE, nullable=False),
        sa.Column("expires_at", _DOUBLE),
        sa.Column("session", sa.Integer(), nullable=False),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
