"""What gateways that share a store tell each other, their tokens, events that wait for numbers."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_BIGINT: Final[sa.types.TypeEngine[int]] = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_DOUBLE: Final[sa.types.TypeEngine[float]] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Add columns, two tables and indexes."""
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
    op.add_column("nodes", sa.Column("standing_at", _DOUBLE))
    if op.get_bind().dialect.name == "postgresql":
        _index("jobs_by_gateway", ["gateway", "id"], "finished_at IS NULL")
        _index(
            "jobs_asked",
            ["gateway", "cancel_asked"],
            "finished_at IS NULL AND (cancel_asked = 1 OR change_asked IS NOT NULL)",
        )
    _index("nodes_by_standing", ["standing_at"], "standing_at IS NOT NULL")


def _index(name: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    table = name.partition("_")[0]
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)
