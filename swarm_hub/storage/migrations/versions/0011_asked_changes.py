"""What is asked of another gateway's job; an index of the jobs that did not complete."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add a column and an index."""
    op.add_column("jobs", sa.Column("change_asked", sa.Text()))
    where = sa.text("state IN ('failed', 'cancelled')")
    op.create_index("jobs_given_up", "jobs", ["id"], sqlite_where=where, postgresql_where=where)
