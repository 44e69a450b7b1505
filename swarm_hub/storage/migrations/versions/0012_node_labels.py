"""Labels that administrators give nodes."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add a column."""
    op.add_column("nodes", sa.Column("labels", sa.Text()))
