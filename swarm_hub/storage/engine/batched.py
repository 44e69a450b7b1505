"""Many rows in one statement of PostgreSQL: the values of each column go as one array.

It is the statement that SQLite runs row by row (ADR 102); SQLAlchemy writes it anew, with the rows
of `unnest` in the place of its parameters. What can't be written so runs row by row here, too.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection, LargeBinary, Select, String, bindparam, column, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.sqlite.dml import OnConflictDoUpdate
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.dml import Insert, UpdateBase
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, BooleanClauseList
from sqlalchemy.types import TypeEngine

from swarm_hub.storage.engine.prepared import PreparedStatements, compiled
from swarm_hub.storage.write import Write

_Row = Mapping[str, Any]

# Of one statement, which is in memory several times while it is sent and read.
_ROWS_AT_ONCE: Final = 1000
_BYTES_AT_ONCE: Final = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Batched:
    """A statement that takes one array for each of `columns`, and how a value is written there."""

    sql: str
    columns: tuple[tuple[str, Callable[[Any], str]], ...]
    # Those of bytes, which may be large.
    large: tuple[str, ...]
    # The primary key of the row that is touched; None if the database makes it, row after row.
    key: Callable[[_Row], Any] | None


class BatchedStatements:
    """The compiled form of each statement, for one database."""

    def __init__(self) -> None:
        self._one_by_one = PreparedStatements()
        # The statement is kept with its compiled form, so that its `id()` can't be reused.
        self._known: dict[tuple[int, tuple[str, ...]], tuple[UpdateBase, _Batched | None]] = {}

    def execute(self, connection: Connection, writes: Sequence[Write]) -> None:
        """Run statements in their order, each for all of its rows, which have the same keys.

        Rows of a table are locked in the order of their keys, whatever order they come in: of two
        gateways that write the same ones, one then waits for the other, and never both.
        """
        driver: Any = connection.connection.driver_connection
        # Their answers are waited for together, which takes half the CPU.
        with driver.pipeline() if len(writes) > 1 else nullcontext():
            for write in writes:
                self._execute(connection, write)

    def _execute(self, connection: Connection, write: Write) -> None:
        statement, rows = write.statement, write.rows
        keys = tuple(rows[0])
        known = self._known.get((id(statement), keys))
        if known is None:
            known = (statement, _batched(connection, statement, keys))
            self._known[id(statement), keys] = known
        batched = known[1]
        if batched is None or len(rows) == 1:
            self._one_by_one.execute(connection, (write,))
            return
        cursor = connection.connection.cursor()
        try:
            for turn in (rows,) if batched.key is None else _turns(rows, batched.key):
                for part in _parts(turn, batched.large):
                    cursor.execute(
                        batched.sql,
                        tuple(
                            f"{{{','.join([written(row[name]) for row in part])}}}"
                            for name, written in batched.columns
                        ),
                    )
        finally:
            cursor.close()


def _turns(rows: Sequence[_Row], key: Callable[[_Row], Any]) -> Sequence[Sequence[_Row]]:
    """Sort rows by their keys, and part them so that none of the parts has two of the same.

    PostgreSQL refuses an upsert that meets a row twice, and of two updates it drops one.
    """
    rows = sorted(rows, key=key)
    if len(set(map(key, rows))) == len(rows):
        return (rows,)
    turns: list[list[_Row]] = []
    met: dict[Any, int] = {}
    for row in rows:
        nth = met[key(row)] = met.get(key(row), -1) + 1
        if nth == len(turns):
            turns.append([])
        turns[nth].append(row)
    return turns


def _parts(rows: Sequence[_Row], large: Sequence[str]) -> Iterator[Sequence[_Row]]:
    """Part rows so that no statement has too many or too large ones."""
    start = n_bytes = 0
    for at, row in enumerate(rows) if large or len(rows) > _ROWS_AT_ONCE else ():
        size = sum(len(row[name] or b"") for name in large)
        if at - start == _ROWS_AT_ONCE or (at > start and n_bytes + size > _BYTES_AT_ONCE):
            yield rows[start:at]
            start, n_bytes = at, 0
        n_bytes += size
    yield rows[start:]


def _batched(
    connection: Connection, statement: UpdateBase, keys: tuple[str, ...]
) -> _Batched | None:
    """Return the form of a statement for many rows, None if it has none."""
    by_row = compiled(connection, statement, keys)
    types = {name: by_row.binds[name].type for name in by_row.positiontup or ()}
    key = _key(statement, types)
    if (key is not None and not key) or any(
        isinstance(part, Select) for part in visitors.iterate(statement)
    ):
        return None
    given = (
        func.unnest(*(bindparam(name, type_=ARRAY(kind)) for name, kind in types.items()))
        .table_valued(*(column(name, kind) for name, kind in types.items()))
        .render_derived("given")
    )
    many: UpdateBase
    if isinstance(statement, Insert):
        many = statement.from_select(list(types), select(*given.c))
    else:

        def in_its_place(part: Any, **_options: Any) -> Any:
            return given.c[part.key] if isinstance(part, BindParameter) else None

        many = visitors.replacement_traverse(statement, {}, in_its_place)  # type: ignore[call-overload]
    by_batch = compiled(connection, many, tuple(types))
    return _Batched(
        str(by_batch),
        tuple((name, _writer(types[name])) for name in by_batch.positiontup or ()),
        tuple(name for name, kind in types.items() if isinstance(kind, LargeBinary)),
        None if key is None else itemgetter(*key),
    )


def _key(statement: UpdateBase, names: Collection[str]) -> Sequence[str] | None:
    """Return the parameters that say which row is touched; none if they do not say it.

    There is one for each column of the table's primary key. Without that key, None, a row is new.
    """
    columns = [each.name for each in statement.table.primary_key]
    said: Mapping[str, str] = {name: name for name in names}
    if isinstance(statement, Insert):
        if not set(columns) & set(names):
            return None
        for part in visitors.iterate(statement):
            if isinstance(part, OnConflictDoUpdate) and part.inferred_target_elements != columns:
                return ()
    else:
        said = dict(_equal(statement.whereclause))  # type: ignore[attr-defined]
    return [said[name] for name in columns] if said.keys() >= set(columns) else ()


def _equal(condition: Any) -> Iterator[tuple[str, str]]:
    """Yield the columns that must be equal to a parameter, with its name."""
    if isinstance(condition, BooleanClauseList) and condition.operator is operators.and_:
        for part in condition.clauses:
            yield from _equal(part)
    elif (
        isinstance(condition, BinaryExpression)
        and condition.operator is operators.eq
        and isinstance(condition.right, BindParameter)
    ):
        yield condition.left.name, condition.right.key


def _writer(kind: TypeEngine[Any]) -> Callable[[Any], str]:
    """Return how a value of a column is written in an array.

    The driver looks at each value to find out, which takes it ten times as long.
    """
    if isinstance(kind, LargeBinary):
        return _bytes
    return _text if isinstance(kind, String) else _number


def _number(value: float | None) -> str:
    return "NULL" if value is None else str(value)


def _text(value: str | None) -> str:
    if value is None:
        return "NULL"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _bytes(value: bytes | None) -> str:
    return "NULL" if value is None else f'"\\\\x{value.hex()}"'
