"""The schema of swarm_hub 0.1.0, which was made without a migration."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Do nothing: a database of this revision exists already."""
