"""Events of a shared store get their numbers after the commit that wrote them."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_BIGINT: sa.types.TypeEngine[int] = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_DOUBLE: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Add the table of events that wait for their numbers."""
    op.create_table(
        "event_queue",
        sa.Column("id", _BIGINT, primary_key=True),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text()),
        sa.Column("time_fired", _DOUBLE, nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sqlite_strict=True,
    )
