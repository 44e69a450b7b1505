"""The signed envelopes in which results came, kept as their receipts."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_DOUBLE: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Add a table and a column; existing results have no receipt."""
    op.add_column("results", sa.Column("receipt", sa.Text()))
    op.create_table(
        "receipts",
        sa.Column("job_id", sa.Text(), primary_key=True),
        sa.Column("sha", sa.Text(), primary_key=True),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("kid", sa.Text(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("header", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", _DOUBLE, nullable=False),
        sqlite_strict=True,
    )
