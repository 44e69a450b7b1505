"""Gateways that share a store, pruning in chunks, results that another gateway may take."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TABLE = {"sqlite_strict": True, "sqlite_with_rowid": False}


def upgrade() -> None:
    """Add tables, columns and partial indexes; existing rows do not change."""
    op.create_table(
        "gateways",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("alive_until", sa.REAL(), nullable=False),
        **_TABLE,
    )
    op.create_table(
        "blob_chunks",
        sa.Column("sha", sa.Text(), primary_key=True),
        sa.Column("n", sa.Integer(), primary_key=True),
        sa.Column("put_at", sa.REAL(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        **_TABLE,
    )
    _add("jobs", "cancel_asked", sa.Integer(), "0")
    _add("tombstones", "rows_left", sa.Integer(), "0")
    _add("inbox", "store_id", sa.Text(), "''")
    _add("outbox", "store_id", sa.Text(), "''")
    op.create_index(
        "tombstones_unswept", "tombstones", ["job_id"], sqlite_where=sa.text("rows_left = 1")
    )
    op.create_index("tombstones_age", "tombstones", ["pruned_at"])
    op.create_index("jobs_read", "jobs", ["read_at"], sqlite_where=sa.text("read_at IS NOT NULL"))
    op.create_index("jobs_by_module", "jobs", ["module_sha"])
    op.create_index("jobs_by_dataset", "jobs", ["dataset_sha"])
    op.create_index(
        "jobs_by_result", "jobs", ["result_sha"], sqlite_where=sa.text("result_inline IS NULL")
    )
    op.create_index("results_by_blob", "results", ["sha"], sqlite_where=sa.text("body IS NULL"))
    op.create_index(
        "shards_open",
        "shards",
        ["job_id", "idx"],
        sqlite_where=sa.text("state IN ('queued', 'assigned')"),
    )


def _add(table: str, column: str, kind: sa.types.TypeEngine[Any], default: str) -> None:
    op.add_column(table, sa.Column(column, kind, nullable=False, server_default=sa.text(default)))
