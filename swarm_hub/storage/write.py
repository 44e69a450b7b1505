"""What a caller hands to the writer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.sql.dml import UpdateBase


@dataclass(frozen=True, slots=True)
class Write:
    """One statement with its parameter rows.

    It reads no table but its own, so that the writer may move it ahead of writes to other tables.
    """

    statement: UpdateBase
    rows: Sequence[Mapping[str, Any]]
