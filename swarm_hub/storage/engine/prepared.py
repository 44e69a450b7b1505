"""Statements that run many times: compiled once by SQLAlchemy, executed by the driver.

A `Connection.execute` costs about 100 µs of CPU around 10 µs of work in SQLite; a hub writes some
twenty statements per job (docs/measurements.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Executable
from sqlalchemy.sql.compiler import SQLCompiler

from swarm_hub.storage.write import Write


@dataclass(frozen=True, slots=True)
class _Prepared:
    sql: str
    parameters: Callable[[Mapping[str, Any]], tuple[Any, ...]]


class PreparedStatements:
    """The compiled form of each statement, for one database."""

    def __init__(self) -> None:
        # The statement is kept with its compiled form, so that its `id()` can't be reused.
        self._known: dict[tuple[int, tuple[str, ...]], tuple[Executable, _Prepared]] = {}

    def execute(self, connection: Connection, writes: Sequence[Write]) -> None:
        """Run statements in their order, each once for each row; its rows have the same keys."""
        for write in writes:
            self._execute(connection, write.statement, write.rows)

    def _execute(
        self, connection: Connection, statement: Executable, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        keys = tuple(rows[0])
        known = self._known.get((id(statement), keys))
        if known is None:
            known = (statement, _prepare(connection, statement, keys))
            self._known[id(statement), keys] = known
        prepared = known[1]
        cursor = connection.connection.cursor()
        try:
            cursor.executemany(prepared.sql, [prepared.parameters(row) for row in rows])
        finally:
            cursor.close()


def compiled(connection: Connection, statement: Executable, keys: tuple[str, ...]) -> SQLCompiler:
    """Return a statement as the database takes it; its parameters are among `keys`."""
    found = statement.compile(  # type: ignore[attr-defined]
        dialect=connection.dialect, column_keys=list(keys)
    )
    assert isinstance(found, SQLCompiler)
    unknown = [name for name in found.positiontup or () if name not in keys]
    if unknown:
        raise ValueError(f"a stored statement takes only row parameters, not {unknown}")
    return found


def _prepare(connection: Connection, statement: Executable, keys: tuple[str, ...]) -> _Prepared:
    found = compiled(connection, statement, keys)
    order = found.positiontup or []
    if not order:
        return _Prepared(str(found), lambda _row: ())
    if len(order) == 1:
        only = order[0]
        return _Prepared(str(found), lambda row: (row[only],))
    return _Prepared(str(found), itemgetter(*order))
