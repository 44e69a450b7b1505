"""SQLite as SQLAlchemy Core sees it: one writing connection, a pool of reading ones."""

import asyncio
import logging
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, FromClause, create_engine, event
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from swarm_hub.exceptions import (
    StoreConflictError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from swarm_hub.storage import migrations
from swarm_hub.storage.engine import damage
from swarm_hub.storage.engine.database import Chunk, DiskUse
from swarm_hub.storage.engine.prepared import PreparedStatements
from swarm_hub.util.files import keep_private, refuse_unwritable, sync_directory
from swarm_hub.util.thread_names import show_name

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


# After an unclean stop a file up to this size is checked before anything is written to it, in
# about a quarter of a second; a larger one is checked while the hub already runs.
_CHECK_FIRST_MAX_BYTES: Final = 16 * 1024 * 1024
_GONE: Final = "it was made before, and is now gone or empty"
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# Errors that may vanish on another try: the disk's, a lock, a directory that became read-only.
_PASSING: Final = (
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
)


class _Compiler(SQLiteCompiler):
    """Writes a select's hints, such as INDEXED BY, which SQLAlchemy's own leaves out."""

    def get_from_hint_text(self, _table: FromClause, text: str | None) -> str | None:
        return text


class SqliteDatabase:
    """A database file with the schema in it; implements `Database`."""

    shared = None
    outage = None

    def __init__(self, path: Path, *, was_made: bool = False) -> None:
        """With `was_made` an empty or missing file counts as damaged: its content was lost."""
        self._path = path
        self._was_made = was_made
        self._damaged: Callable[[StoreDamagedError], None] = lambda _error: None
        self._unchecked = False
        self._writer = ThreadPoolExecutor(1, "store-writer", initializer=show_name)
        self._readers = ThreadPoolExecutor(_READERS, "store-reader", initializer=show_name)
        self._local = threading.local()
        self._connections: list[Connection] = []
        # The writer's; for SQLite a statement a row costs nothing more.
        self.execute = PreparedStatements().execute

    async def open(self) -> None:
        """Open the file, make or upgrade its schema; raises StoreError with what to do."""
        await asyncio.get_running_loop().run_in_executor(self._writer, self._open)

    async def write(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` in one immediate transaction and commit it."""

        def transaction() -> _T:
            with self._translated():
                return self._transaction(work)

        return await self._run(self._writer, transaction)

    async def read(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` on a reading connection; it sees one consistent snapshot."""

        def snapshot() -> _T:
            with self._translated():
                connection = self._reading_connection()
                with connection.begin():
                    return work(connection)

        return await self._run(self._readers, snapshot)

    async def ask(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` as `read` does: there is no server."""
        return await self.read(work)

    def on_damage(self, damaged: Callable[[StoreDamagedError], None]) -> None:
        """Have `damaged` called when any call meets a damaged file."""
        self._damaged = damaged

    async def check(self) -> None:
        """Check every page if the last stop was unclean; takes some 15 ms per megabyte."""
        if self._unchecked:
            await self.read(self._check)
            self._unchecked = False

    async def disk_use(self) -> DiskUse:
        """Return the size of the file, its log and its volume; free pages count as free."""

        def look(connection: Connection) -> DiskUse:
            pages, free, page_bytes = (
                int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                for name in ("page_count", "freelist_count", "page_size")
            )
            log_bytes = _size(wal_of(self._path))
            volume_bytes = shutil.disk_usage(self._path.parent).total
            used_bytes = (pages - free) * page_bytes + log_bytes
            return DiskUse(used_bytes, free * page_bytes, volume_bytes)

        return await self.read(look)

    async def give_back(self, pages: int) -> Chunk:
        """Move up to that many free pages to the end of the file and cut them off."""
        return await self._run(self._writer, lambda: self._give_back(pages))

    async def close(self) -> None:
        """Close every connection; the last one folds the WAL into the database file."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._readers.shutdown)
        await loop.run_in_executor(self._writer, self._close_connections)
        await loop.run_in_executor(None, self._writer.shutdown)

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, work)
        except StoreDamagedError as error:
            self._damaged(error)
            raise

    def look(self, *, in_use: bool) -> None:
        """Raise what `open` would raise, without changing anything.

        One that is `in_use` by a hub is not checked for damage.
        """
        try:
            self._refuse_lost()
            refuse_unwritable(self._path.parent)
        except OSError as error:
            raise self._cannot_open(error.strerror or str(error)) from error
        if _size(self._path) == 0:
            return
        with self._translated(), closing(self._connect_to_look()) as connection:
            unclean = _size(wal_of(self._path)) > 0 and not in_use
            if unclean and _size(self._path) <= _CHECK_FIRST_MAX_BYTES:
                self._check(connection)
            self._refuse_schema(connection)

    def _connect_to_look(self) -> Connection:
        # Without a log nobody has it open, and reading it makes no files beside it then.
        unused = "" if wal_of(self._path).exists() else "&immutable=1"
        uri = f"{self._path.absolute().as_uri()}?mode=ro{unused}"
        engine = create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(uri, uri=True, timeout=5.0),
            poolclass=NullPool,
        )
        return engine.connect()

    def _refuse_lost(self) -> None:
        damage.raise_if_marked(self._path)
        if self._was_made and _size(self._path) == 0:
            # To SQLite it would be a new database, and a log beside it worthless.
            raise StoreDamagedError(str(self._path), _GONE)

    def _refuse_schema(self, connection: Connection) -> None:
        found = migrations.stored_revision(connection)
        if self._was_made and found is None:
            raise StoreDamagedError(str(self._path), _GONE)
        migrations.refuse_newer(found, str(self._path))

    def _open(self) -> None:
        try:
            self._refuse_lost()
            refuse_unwritable(self._path.parent)
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._keep_private()
            unclean = _size(wal_of(self._path)) > 0
            with self._translated():
                self._write_connection = self._connect(_WRITER_PRAGMAS)
                self._driver: Any = self._write_connection.connection.driver_connection
                if unclean and _size(self._path) <= _CHECK_FIRST_MAX_BYTES:
                    self._check(self._write_connection)
                    self._write_connection.rollback()
                self._unchecked = unclean and _size(self._path) > _CHECK_FIRST_MAX_BYTES
                self._transaction(self._bring_to_head)
            self._keep_private()
        except (StoreUnavailableError, StoreFullError) as error:
            raise self._cannot_open(str(error).removeprefix(f"{self._path}: ")) from error
        except OSError as error:
            raise self._cannot_open(error.strerror or str(error)) from error
        if not has_wal_reset_fix(sqlite3.sqlite_version_info):
            _LOGGER.warning(
                "SQLite %s has the WAL-reset bug (fixed in 3.51.3, 3.50.7 and 3.44.6); only one "
                "connection writes here, so don't open the database with other programs that "
                "write while the hub runs",
                sqlite3.sqlite_version,
            )

    def _bring_to_head(self, connection: Connection) -> None:
        self._refuse_schema(connection)
        migrations.bring_to_head(connection, str(self._path), self._copy_before_upgrade)

    def _transaction(self, work: Callable[[Connection], _T]) -> _T:
        # The driver begins and commits: SQLAlchemy's own transaction costs twice as much CPU as
        # both, and is left out unless `work` uses the connection for more than its cursor.
        connection, driver = self._write_connection, self._driver
        driver.execute("BEGIN IMMEDIATE")
        try:
            done = work(connection)
            driver.execute("COMMIT")
        except BaseException:
            driver.rollback()
            raise
        finally:
            if connection.in_transaction():
                connection.rollback()
        return done

    def _keep_private(self) -> None:
        # Earlier versions left it readable by all; a log gets the mode of its database.
        for suffix in ("", "-wal", "-shm"):
            keep_private(self._path.with_name(self._path.name + suffix))

    def _cannot_open(self, why: str) -> StoreError:
        return StoreError(
            f"{self._path}: the database can't be opened ({why}); check that the directory "
            "exists, is writable and has free space"
        )

    def _give_back(self, pages: int) -> Chunk:
        began = time.monotonic()
        # Bypasses SQLAlchemy: this is a transaction of its own, and each step of the statement
        # frees one page; of the driver's methods only `executescript` runs every step.
        driver = self._driver
        with self._translated():
            (before,) = driver.execute("PRAGMA freelist_count").fetchone()
            driver.executescript(f"PRAGMA incremental_vacuum({pages:d})")
            (after,) = driver.execute("PRAGMA freelist_count").fetchone()
            if after == 0:
                # Until a checkpoint the file keeps its old length.
                driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return Chunk(before - after, 0 < after < before, began)

    def _check(self, connection: Connection) -> None:
        finding = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
        if finding != "ok":
            raise StoreDamagedError(str(self._path), str(finding).partition("\n")[0])

    def _copy_before_upgrade(self, revision: str) -> None:
        copy = self._path.with_name(f"{self._path.name}.schema-{revision}")
        unfinished = copy.with_name(f"{copy.name}.tmp")
        unfinished.unlink(missing_ok=True)
        with (
            closing(sqlite3.connect(self._path)) as source,
            closing(sqlite3.connect(unfinished)) as target,
        ):
            source.backup(target)
        unfinished.replace(copy)
        sync_directory(copy.parent)
        _LOGGER.info("The database as it was before the upgrade is kept in %s", copy)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise the store's own errors instead of the driver's."""
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise self._error(cause or error) from error

    def _error(self, cause: BaseException) -> StoreError:
        # Extended codes keep the primary one in their low byte.
        code = (getattr(cause, "sqlite_errorcode", None) or 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return StoreFullError(f"{self._path}: no space left on the disk")
        if code in _DAMAGED:
            return StoreDamagedError(str(self._path), str(cause))
        if code in _PASSING:
            return StoreUnavailableError(f"{self._path}: {cause}")
        if code == sqlite3.SQLITE_CONSTRAINT and "UNIQUE" in str(cause):
            return StoreConflictError(str(cause))
        return StoreError(f"a write failed: {cause}")

    def _connect(self, pragmas: tuple[str, ...], begin: str | None = None) -> Connection:
        engine = create_engine(
            f"sqlite:///{self._path}",
            poolclass=NullPool,
            connect_args={"isolation_level": None, "check_same_thread": False},
        )

        engine.dialect.statement_compiler = _Compiler

        @event.listens_for(engine, "connect")
        def configure(connection: sqlite3.Connection, _record: object) -> None:
            for pragma in pragmas:
                connection.execute(f"PRAGMA {pragma}")

        # pysqlite's own transactions start too late and deferred (SQLITE_BUSY_SNAPSHOT).
        if begin is not None:

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


def wal_of(path: Path) -> Path:
    """Return the path of a database's write-ahead log; a clean stop leaves none."""
    return path.with_name(f"{path.name}-wal")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def has_wal_reset_fix(version: tuple[int, ...]) -> bool:
    """Whether a version of SQLite is safe with several writing connections."""
    return version >= _WAL_RESET_FIXED[0] or any(
        version[:2] == fixed[:2] and version >= fixed for fixed in _WAL_RESET_FIXED
    )
