"""What gateways that share a store look for again and again is found by an index."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_DOUBLE: Final[sa.types.TypeEngine[float]] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Add a column and three indexes."""
    op.add_column("nodes", sa.Column("standing_at", _DOUBLE))
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
