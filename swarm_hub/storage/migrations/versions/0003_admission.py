"""Who may join and who may not: invitations, admission, bans, drained nodes, signing keys."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_TABLE = {"sqlite_strict": True, "sqlite_with_rowid": False}
_DOUBLE: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Add tables and columns; nodes that were met before stay admitted."""
    op.add_column("nodes", sa.Column("admission", sa.Text()))
    # Until now every node was admitted, so those with a pinned key were.
    op.execute("UPDATE nodes SET admission = 'approved' WHERE public_key IS NOT NULL")
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
        sa.Column("revoked_at", _DOUBLE, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        **_TABLE,
    )
    op.create_table(
        "key_rotations",
        sa.Column("kid", sa.Text(), primary_key=True),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        **_TABLE,
    )
