"""The names of the files that datasets were made of; an index of what failed."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add a column and indexes; of jobs from before, the names are not known."""
    op.add_column("jobs", sa.Column("parts_sha", sa.Text()))
    where = sa.text("parts_sha IS NOT NULL")
    op.create_index(
        "jobs_by_parts", "jobs", ["parts_sha"], sqlite_where=where, postgresql_where=where
    )
    where = sa.text("state IN ('skipped', 'dead', 'cancelled')")
    op.create_index(
        "shards_given_up",
        "shards",
        ["job_id", "first_item"],
        sqlite_where=where,
        postgresql_where=where,
    )
