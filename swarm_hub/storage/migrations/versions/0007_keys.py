"""Who ordered a revocation, which envelopes are all refused, whose a key is, what was called."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_DOUBLE: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Add a table and columns; existing revocations count as this hub's own."""
    op.add_column("revoked_keys", sa.Column("issuer", sa.Text()))
    op.add_column("seen", sa.Column("valid_until", _DOUBLE))
    op.add_column("receipts", sa.Column("certificate", sa.LargeBinary()))
    op.add_column("outbox", sa.Column("call_sha", sa.Text()))
    op.create_table(
        "replay_floors",
        sa.Column("iss", sa.Text(), primary_key=True),
        sa.Column("valid_until", _DOUBLE, nullable=False),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
