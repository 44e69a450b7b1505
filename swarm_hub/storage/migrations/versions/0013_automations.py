"""Automations: how far they have followed the events, what they know, and their outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_BIGINT: sa.types.TypeEngine[int] = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_DOUBLE: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Add three tables and an index."""
    op.create_table(
        "automation_reader",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("seq", _BIGINT, nullable=False),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.create_table(
        "automations",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("enabled", sa.Integer(), nullable=False, server_default=sa.text("1")),
        sa.Column("memory", sa.Text(), nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "automation_runs",
        sa.Column("automation", sa.Text()),
        sa.Column("id", sa.Text()),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", _DOUBLE, nullable=False),
        sa.Column("next_at", _DOUBLE, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("automation", "id"),
        sqlite_strict=True,
    )
    where = sa.text("state = 'open'")
    op.create_index(
        "automation_runs_open",
        "automation_runs",
        ["next_at"],
        sqlite_where=where,
        postgresql_where=where,
    )
