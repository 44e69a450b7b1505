"""How far ended jobs got, how fast nodes are, and events that live as long as their jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_BIGINT: sa.types.TypeEngine[int] = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_COUNT_DONE = """
UPDATE jobs SET
    n_done_items = (SELECT COALESCE(SUM(shards.n_items), 0) FROM shards
                    WHERE shards.job_id = jobs.id AND shards.state = 'done'),
    n_done_shards = (SELECT COUNT(*) FROM shards
                     WHERE shards.job_id = jobs.id AND shards.state = 'done')
WHERE finished_at IS NOT NULL
"""


def upgrade() -> None:
    """Add columns; what jobs that have ended got done is counted in their shards."""
    zero = sa.text("0")
    for name, type_ in (
        ("n_done_items", _BIGINT),
        ("n_done_shards", sa.Integer()),
        ("n_failed_items", _BIGINT),
    ):
        op.add_column("jobs", sa.Column(name, type_, nullable=False, server_default=zero))
    op.execute(_COUNT_DONE)
    op.add_column("nodes", sa.Column("speeds", sa.Text()))
    op.add_column(
        "tombstones", sa.Column("events_left", sa.Integer(), nullable=False, server_default=zero)
    )
    op.execute(
        "UPDATE tombstones SET events_left = 1 "
        "WHERE EXISTS (SELECT 1 FROM events WHERE events.job_id = tombstones.job_id)"
    )
    for name, table, column, condition in (
        ("tombstones_with_events", "tombstones", "pruned_at", "events_left = 1"),
        ("events_of_no_job", "events", "seq", "job_id IS NULL"),
    ):
        where = sa.text(condition)
        op.create_index(name, table, [column], sqlite_where=where, postgresql_where=where)
