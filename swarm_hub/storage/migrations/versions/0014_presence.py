"""What a gateway tells the others of itself, and to which of them a job is offered."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add two columns."""
    op.add_column("gateways", sa.Column("presence", sa.Text()))
    op.add_column("jobs", sa.Column("offered_to", sa.Text()))
