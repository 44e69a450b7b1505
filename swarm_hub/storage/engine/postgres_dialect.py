"""The schema and the statements, which are written in SQLite's dialect, for PostgreSQL.

SQLAlchemy's dialect for PostgreSQL takes a tenth of the CPU of a start, so only a hub that uses
PostgreSQL imports it.
"""

from typing import Any

from sqlalchemy import MetaData
from sqlalchemy.dialects.sqlite.dml import OnConflictDoNothing, OnConflictDoUpdate
from sqlalchemy.ext.compiler import compiles

from swarm_hub.storage.queries.leases import JulianDay


def add_conditions(metadata: MetaData) -> None:
    """Have the partial indexes of a schema be partial in PostgreSQL too."""
    for table in metadata.tables.values():
        for index in table.indexes:
            if (where := index.dialect_options["sqlite"]["where"]) is not None:
                index.dialect_kwargs["postgresql_where"] = where


# Both dialects write these clauses alike; PostgreSQL's could name a constraint besides.
class _Target:
    constraint_target = None

    def __init__(self, clause: Any) -> None:
        self._clause = clause

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clause, name)


@compiles(OnConflictDoNothing, "postgresql")
def _do_nothing(clause: OnConflictDoNothing, compiler: Any, **kw: Any) -> str:
    text: str = compiler.visit_on_conflict_do_nothing(_Target(clause), **kw)
    return text


@compiles(OnConflictDoUpdate, "postgresql")
def _do_update(clause: OnConflictDoUpdate, compiler: Any, **kw: Any) -> str:
    text: str = compiler.visit_on_conflict_do_update(_Target(clause), **kw)
    return text


@compiles(JulianDay, "postgresql")
def _julian_day(_function: JulianDay, _compiler: Any, **_kw: Any) -> str:
    # Not the clock's time: only what stays the same in a statement can be looked up in an index.
    return "(extract(epoch FROM transaction_timestamp())::double precision / 86400.0 + 2440587.5)"
