"""What each shard used besides time, and what its command said on stderr."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_BIGINT: sa.types.TypeEngine[int] = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add columns; of results that are there already nothing is known."""
    for table in ("results", "outbox"):
        op.add_column(table, sa.Column("peak_memory_bytes", _BIGINT))
        op.add_column(table, sa.Column("fuel", _BIGINT))
    op.add_column("results", sa.Column("stderr", sa.Text(), nullable=False, server_default=""))
