"""What each shard used besides time, what its command wrote to stderr, and jobs' scripts."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_BIGINT: sa.types.TypeEngine[int] = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add columns; for existing results they are unknown."""
    for table in ("results", "outbox"):
        op.add_column(table, sa.Column("peak_memory_bytes", _BIGINT))
        op.add_column(table, sa.Column("fuel", _BIGINT))
    op.add_column("results", sa.Column("stderr", sa.Text(), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("script_sha", sa.Text()))
    where = sa.text("script_sha IS NOT NULL")
    op.create_index(
        "jobs_by_script", "jobs", ["script_sha"], sqlite_where=where, postgresql_where=where
    )
