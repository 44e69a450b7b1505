"""What a PostgreSQL server counts of a database, and what CPU the server takes.

Statements are the calls of pg_stat_statements: each execution of an `executemany` counts, as do
BEGIN, COMMIT and SET. Rows are those that scans read from tables and that indexes led to. Both are
of the whole database; who asks here is connected to another one.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from machine import tree_cpu_s

if TYPE_CHECKING:
    from tests.helpers.postgres import PostgresServer

_SETTINGS: Final = """
max_connections = 120
shared_preload_libraries = 'pg_stat_statements'
pg_stat_statements.track_planning = off
"""
_STATEMENTS: Final = """
SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements
JOIN pg_database ON oid = dbid WHERE datname = %s
"""
_ROWS: Final = """
SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint FROM pg_stat_user_tables
"""
_WAL: Final = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"
_SIZE: Final = "SELECT pg_database_size(%s)"
_COMMITS: Final = "SELECT xact_commit FROM pg_stat_database WHERE datname = %s"
# A backend tells its counts at most once a second, when it has nothing to do.
TOLD_AFTER_S: Final = 1.2


@contextmanager
def counting_server() -> "Iterator[PostgresServer]":
    """Run a server of one's own that counts statements; only a checkout has it."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.helpers.postgres import running_server

    with running_server(_SETTINGS) as server:
        with server.connect("postgres") as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
        yield server


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted until a time, or between two."""

    at: float
    statements: int
    commits: int
    server_cpu_s: float
    wal_bytes: int
    size_bytes: int

    def since(self, before: "Counted") -> "Counted":
        """Return what was counted since another look."""
        return Counted(
            self.at - before.at,
            self.statements - before.statements,
            self.commits - before.commits,
            self.server_cpu_s - before.server_cpu_s,
            self.wal_bytes - before.wal_bytes,
            self.size_bytes - before.size_bytes,
        )


def counted(server: "PostgresServer", database: str) -> Counted:
    """Look at what the server has counted of a database."""
    with server.connect("postgres") as connection:
        return Counted(
            time.monotonic(),
            _number(connection, _STATEMENTS, database),
            _number(connection, _COMMITS, database),
            tree_cpu_s([server.pid]),
            _number(connection, _WAL),
            _number(connection, _SIZE, database),
        )


def rows_read(server: "PostgresServer", database: str) -> int:
    """Return how many rows of its tables were read so far; the look itself reads none of them."""
    with server.connect(database) as connection:
        return _number(connection, _ROWS)


def most_called(server: "PostgresServer", database: str, jobs: int, count: int) -> list[str]:
    """Return the statements that are called most, with how often a job."""
    query = f"""
        SELECT calls, left(regexp_replace(query, '\\s+', ' ', 'g'), 90) FROM pg_stat_statements
        JOIN pg_database ON oid = dbid WHERE datname = %s ORDER BY calls DESC LIMIT {count}
    """
    with server.connect("postgres") as connection:
        found = connection.execute(query, [database]).fetchall()  # type: ignore[arg-type]
    return [f"{calls / jobs:7.2f}  {text}" for calls, text in found]


def forget(server: "PostgresServer") -> None:
    """Begin to count statements anew."""
    with server.connect("postgres") as connection:
        connection.execute("SELECT pg_stat_statements_reset()")


def _number(connection: Any, query: str, *values: str) -> int:
    return int(connection.execute(query, values or None).fetchone()[0])
