"""SQLite as SQLAlchemy Core sees it: one writing connection, a pool of reading ones.

Work on the database is a plain function of a `Connection`, run whole in a thread: one hand-over
to the thread a transaction instead of one a statement (docs/adr/002-storage-threads.md).
"""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import NullPool

from swarm_hub.exceptions import StoreError
from swarm_hub.storage.schema import SCHEMA_VERSION, metadata

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

_READERS: Final = 2
_WRITER_PRAGMAS: Final = (
    "auto_vacuum=INCREMENTAL",
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "busy_timeout=5000",
    "wal_autocheckpoint=1000",
    "temp_store=MEMORY",
    "cache_size=-8192",
    "trusted_schema=OFF",
    "cell_size_check=ON",
)
_READER_PRAGMAS: Final = (
    "query_only=ON",
    "busy_timeout=5000",
    "temp_store=MEMORY",
    "cache_size=-2048",
    "trusted_schema=OFF",
)
# https://sqlite.org/wal.html#the_wal_reset_bug: two connections can corrupt the WAL.
_WAL_RESET_FIXED: Final = ((3, 51, 3), (3, 50, 7), (3, 44, 6))


class SqliteDatabase:
    """A database file with the schema in it.

    `write` and `read` take a function of a connection; `write` runs it in one transaction and
    returns once that is on disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="store-reader")
        self._local = threading.local()
        self._connections: list[Connection] = []

    async def open(self) -> None:
        """Open the file, make or check its schema; raises StoreError with what to do."""
        await asyncio.get_running_loop().run_in_executor(self._writer, self._open)

    async def write(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` in one immediate transaction and commit it."""

        def transaction() -> _T:
            with self._write_connection.begin():
                return work(self._write_connection)

        return await asyncio.get_running_loop().run_in_executor(self._writer, transaction)

    async def read(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` on a reading connection; it sees one consistent snapshot."""

        def snapshot() -> _T:
            connection = self._reading_connection()
            with connection.begin():
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._readers, snapshot)

    async def close(self) -> None:
        """Close every connection; the last one folds the WAL into the database file."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._readers.shutdown)
        await loop.run_in_executor(self._writer, self._close_connections)
        await loop.run_in_executor(None, self._writer.shutdown)

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._write_connection = self._connect(_WRITER_PRAGMAS, "BEGIN IMMEDIATE")
            found = self._write_connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            self._write_connection.commit()
        except Exception as error:
            raise StoreError(
                f"{self._path}: the database can't be opened ({_cause(error)}); check that the "
                "directory exists, is writable and has free space"
            ) from error
        if found > SCHEMA_VERSION:
            raise StoreError(
                f"{self._path}: the database has schema {found}, this swarm_hub knows up to "
                f"{SCHEMA_VERSION}; upgrade swarm_hub or restore an older backup"
            )
        if found == 0:
            with self._write_connection.begin():
                metadata.create_all(self._write_connection)
                self._write_connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")
        if not _has_wal_reset_fix(sqlite3.sqlite_version_info):
            _LOGGER.info(
                "SQLite %s has the WAL-reset bug; only one connection writes here, "
                "don't open the database with other programs while the hub runs",
                sqlite3.sqlite_version,
            )

    def _connect(self, pragmas: tuple[str, ...], begin: str) -> Connection:
        engine = create_engine(
            f"sqlite:///{self._path}",
            poolclass=NullPool,
            connect_args={"isolation_level": None, "check_same_thread": False},
        )

        @event.listens_for(engine, "connect")
        def configure(connection: sqlite3.Connection, _record: object) -> None:
            for pragma in pragmas:
                connection.execute(f"PRAGMA {pragma}")

        # pysqlite's own transactions start too late and deferred (SQLITE_BUSY_SNAPSHOT).
        @event.listens_for(engine, "begin")
        def begin_transaction(connection: Connection) -> None:
            connection.connection.cursor().execute(begin)

        connection = engine.connect()
        self._connections.append(connection)
        return connection

    def _reading_connection(self) -> Connection:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect(_READER_PRAGMAS, "BEGIN")
        return connection

    def _close_connections(self) -> None:
        for connection in reversed(self._connections):
            connection.close()
        self._connections.clear()


def _has_wal_reset_fix(version: tuple[int, ...]) -> bool:
    return version >= _WAL_RESET_FIXED[0] or any(
        version[:2] == fixed[:2] and version >= fixed for fixed in _WAL_RESET_FIXED
    )


def _cause(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error)
