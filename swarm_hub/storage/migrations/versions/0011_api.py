"""What is asked of another gateway's job, jobs that did not complete, and blobs sent beforehand."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_BIGINT: sa.types.TypeEngine[int] = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_DOUBLE: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Add a column with an index, and a table with one."""
    op.add_column("jobs", sa.Column("change_asked", sa.Text()))
    where = sa.text("state IN ('failed', 'cancelled')")
    op.create_index("jobs_given_up", "jobs", ["id"], sqlite_where=where, postgresql_where=where)
    op.create_table(
        "uploads",
        sa.Column("owner", sa.Text(), primary_key=True),
        sa.Column("sha", sa.Text(), primary_key=True),
        sa.Column("size_bytes", _BIGINT, nullable=False),
        sa.Column("expires_at", _DOUBLE, nullable=False),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.create_index("uploads_by_blob", "uploads", ["sha"])
