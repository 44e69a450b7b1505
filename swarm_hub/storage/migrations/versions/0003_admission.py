"""Who may join and who may not: invitations, admission, drained nodes, banned networks."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_TABLE = {"sqlite_strict": True, "sqlite_with_rowid": False}
_DOUBLE: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Add tables and columns; nothing that is there changes."""
    op.add_column("nodes", sa.Column("admission", sa.Text()))
    op.add_column("nodes", sa.Column("drain_reason", sa.Text()))
    op.create_table(
        "invites",
        sa.Column("token_sha", sa.Text(), primary_key=True),
        sa.Column("created_at", _DOUBLE, nullable=False),
        sa.Column("expires_at", _DOUBLE, nullable=False),
        sa.Column("used_at", _DOUBLE),
        sa.Column("used_by", sa.Text()),
        **_TABLE,
    )
    op.create_table(
        "banned_networks",
        sa.Column("cidr", sa.Text(), primary_key=True),
        sa.Column("banned_at", _DOUBLE, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("until", _DOUBLE),
        **_TABLE,
    )
    op.create_table(
        "revoked_keys",
        sa.Column("kid", sa.Text(), primary_key=True),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("revoked_at", _DOUBLE, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        **_TABLE,
    )
