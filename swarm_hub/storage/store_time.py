"""The time of the store itself, for statements: gateways that share one may have other clocks."""

from typing import Any, Final

from sqlalchemy import ColumnElement, Double, literal_column
from sqlalchemy.sql.functions import GenericFunction


class JulianDay(GenericFunction[float]):
    """SQLite's way to tell the time; `engine/postgres_dialect.py` has PostgreSQL's."""

    type: Any = Double()
    name = "julianday"
    inherit_cache = True


# In seconds since the epoch; in PostgreSQL those at which the transaction began.
STORE_TIME: Final[ColumnElement[float]] = (
    JulianDay(literal_column("'now'")) - literal_column("2440587.5", Double())
) * literal_column("86400.0", Double())
