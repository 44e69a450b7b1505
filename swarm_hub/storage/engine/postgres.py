"""PostgreSQL as a store that several gateways share: one writing connection, two reading ones.

A backend may be killed at any time. Each transaction leaves a mark in a row of this writer; by that
mark we know whether a COMMIT whose answer was lost happened, so that none is lost or done twice.
The server's own function for this, pg_xact_status, is of no use after a crash: ids of transactions
that were not on its disk are given out again.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar

import psycopg
from psycopg import errors as pg
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool
from ulid_transform import ulid_at_time, ulid_now

from swarm_hub.exceptions import (
    StoreConflictError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from swarm_hub.storage import migrations, schema
from swarm_hub.storage.engine.batched import BatchedStatements
from swarm_hub.storage.engine.database import Chunk, DiskUse
from swarm_hub.storage.engine.postgres_dialect import add_conditions
from swarm_hub.storage.queries.leases import session_of
from swarm_hub.util.back_off import back_off_s
from swarm_hub.util.thread_names import show_name

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

_READERS: Final = 2
# How long one call tries to get past a lost connection, in seconds.
_PATIENCE_S: Final = 10.0
_RETRY_FIRST_S: Final = 0.05
_RETRY_MAX_S: Final = 1.0
_LISTEN_POLL_S: Final = 0.5
_CHANNEL: Final = "swarm_hub"
_PROGRAM: Final = "swarm_hub"
_OLDEST_SERVER: Final = (13,)  # older ones are not maintained any more
# Marks are ULIDs, which sort by time. Those of dead writers are removed after a day.
_MARKS_KEPT_S: Final = 86_400.0
_SET_MARK: Final = (
    "INSERT INTO meta (key, value) VALUES (%s, %s) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
_READ_MARK: Final = text("SELECT value FROM meta WHERE key = :key FOR UPDATE")
_DROP_OLD_MARKS: Final = text("DELETE FROM meta WHERE key LIKE 'writer:%' AND value < :before")
# Advisory locks of this program: one for the schema, one for the order of events.
_SCHEMA_LOCK: Final = 0x5A4B0001
_EVENTS_LOCK: Final = 0x5A4B0002
# A hub that freezes in a transaction must not hold its locks against the other gateways. The server
# by itself only ends it between answered statements; the driver sends many at once, and a hub that
# freezes among those counts as active. So it is ended by whoever waits for its locks, or takes its
# jobs over (leases.end_sessions).
_OPTIONS: Final = (
    "-c idle_in_transaction_session_timeout=5000 -c statement_timeout=60000 "
    "-c lock_timeout=5000 -c synchronous_commit=on"
)
_END_FROZEN: Final = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE datname = current_database() AND usename = current_user "
    "AND application_name LIKE 'swarm\\_hub%' AND pid <> pg_backend_pid() "
    "AND state = 'active' AND wait_event = 'ClientRead' "
    "AND query_start < clock_timestamp() - interval '4 seconds'"
)
_AGAIN: Final = (pg.SerializationFailure, pg.DeadlockDetected, pg.LockNotAvailable)
_LOST: Final = (pg.AdminShutdown, pg.CrashShutdown, pg.CannotConnectNow, pg.TooManyConnections)


def _cannot_open(error: StoreError) -> StoreError:
    return StoreError(f"{error}; check that the server runs and that storage: url is right")


class PostgresDatabase:
    """A PostgreSQL database with the schema in it; implements `Database`."""

    shared = True

    def __init__(self, url: str) -> None:
        parsed = make_url(url).set(drivername="postgresql+psycopg")
        self.place = make_url(url).render_as_string(hide_password=True)
        # The statements of `prepared` hand their values over by position.
        self._engine = create_engine(
            parsed,
            poolclass=NullPool,
            paramstyle="format",
            connect_args={
                "connect_timeout": 5,
                "application_name": _PROGRAM,
                "options": _OPTIONS,
                "keepalives_idle": 10,
                "tcp_user_timeout": 10_000,
            },
        )
        add_conditions(schema.metadata)
        self._reading = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._writer = ThreadPoolExecutor(1, "store-writer", initializer=show_name)
        self._readers = ThreadPoolExecutor(_READERS, "store-reader", initializer=show_name)
        self._local = threading.local()
        self._connections: set[Connection] = set()
        self._session = _PROGRAM
        self._mark_key = f"writer:{ulid_now()}"
        self._closing = threading.Event()
        self._listener: threading.Thread | None = None
        self.execute = BatchedStatements().execute

    def look(self) -> None:
        """Raise what `open` would raise, without changing anything; it is tried once."""
        try:
            with self._engine.connect() as connection:
                self._refuse_old(connection)
                migrations.refuse_newer(migrations.stored_revision(connection), self.place)
        except DBAPIError as error:
            failure = self._error(error.orig or error)
            if isinstance(failure, StoreUnavailableError):
                raise _cannot_open(failure) from error
            raise failure from error

    def _refuse_old(self, connection: Connection) -> None:
        found = connection.dialect.server_version_info or ()
        if found < _OLDEST_SERVER:
            raise StoreError(
                f"{self.place}: PostgreSQL {'.'.join(map(str, found))} is too old; "
                f"{_OLDEST_SERVER[0]} or newer is needed"
            )

    async def open(self) -> None:
        """Connect, make or upgrade the schema; raises StoreError with what to do."""

        def prepare(connection: Connection) -> None:
            self._refuse_old(connection)
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})"))
            migrations.bring_to_head(connection, self.place, self._warn_before_upgrade)
            before = ulid_at_time(time.time() - _MARKS_KEPT_S)
            connection.execute(_DROP_OLD_MARKS, {"before": before})
            # Committed before the first transaction that relies on it; see `_committed`.
            self._mark(connection)

        def transaction() -> None:
            # Without a mark of its own, since done twice it does no harm.
            connection = self._mine(self._engine, self._name_session)
            with connection.begin():
                prepare(connection)

        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._writer, self._patiently, transaction)
        except StoreUnavailableError as error:
            raise _cannot_open(error) from error

    async def write(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` in one transaction, and again after a lost connection unless it committed."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, self._write, work)

    async def read(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` on a reading connection; it sees one consistent snapshot."""

        def snapshot(connection: Connection) -> _T:
            with connection.begin():
                return work(connection)

        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._readers, lambda: self._patiently(lambda: snapshot(self._mine(self._reading)))
        )

    def next_seq(self, connection: Connection, _last_known: int) -> int:
        """Return the number of the next event, in the order of commits over all gateways.

        The lock is held until the commit, so no number is missing below a visible one.
        """
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_EVENTS_LOCK})"))
        highest = text("SELECT coalesce(max(seq), 0), pg_notify(:channel, '') FROM events")
        return int(connection.execute(highest, {"channel": _CHANNEL}).one()[0]) + 1

    async def introduce(self, gateway: str) -> None:
        """Name the session of the writer, also after a reconnect."""
        self._session = session_of(gateway)
        await self.write(self._name_session)

    def listen(self, heard: Callable[[], None]) -> None:
        """Have `heard` called when another gateway committed events; a hint, which may be lost."""
        loop = asyncio.get_running_loop()

        def hear() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(heard)

        self._listener = threading.Thread(
            target=self._listen, args=(hear,), name="store-listener", daemon=True
        )
        self._listener.start()

    def on_damage(self, damaged: Callable[[StoreDamagedError], None]) -> None:
        """Do nothing: the server looks after its files."""

    async def check(self) -> None:
        """Do nothing: the server looks after its files."""

    async def disk_use(self) -> DiskUse:
        """Return how much space the database takes; how much it could reuse is not known."""
        size = text("SELECT pg_database_size(current_database())")
        used = await self.read(lambda connection: int(connection.execute(size).scalar_one()))
        return DiskUse(used, 0)

    async def give_back(self, _pages: int) -> Chunk:
        """Do nothing: the server's autovacuum takes care of its files."""
        return Chunk(0, False, time.monotonic())

    async def close(self) -> None:
        """Close every connection."""
        self._closing.set()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._readers.shutdown)
        await loop.run_in_executor(None, self._writer.shutdown)
        if self._listener is not None:
            await loop.run_in_executor(None, self._listener.join)
        for connection in tuple(self._connections):
            self._drop(connection)
        self._engine.dispose()

    def _write(self, work: Callable[[Connection], _T]) -> _T:
        sent: tuple[str, _T] | None = None

        def transaction() -> _T:
            nonlocal sent
            connection = self._mine(self._engine, self._name_session)
            if sent is not None and self._committed(connection, sent[0]):
                return sent[1]
            sent = None
            with connection.begin():
                mark = self._mark(connection)
                result = work(connection)
                sent = mark, result
            return result

        return self._patiently(transaction, in_doubt=lambda: sent is not None)

    def _mark(self, connection: Connection) -> str:
        mark: str = ulid_now()
        driver: Any = connection.connection.driver_connection
        # With the BEGIN, which the driver else sends and waits for first.
        with driver.pipeline():
            driver.execute(_SET_MARK, (self._mark_key, mark))
        return mark

    def _committed(self, connection: Connection, mark: str) -> bool:
        """Tell whether the transaction that set a mark, and got no answer, was committed.

        Its backend may still be running: then it holds the row, and this waits for its end.
        """
        with connection.begin():
            found = connection.execute(_READ_MARK, {"key": self._mark_key}).scalar_one_or_none()
        return bool(found == mark)

    def _patiently(
        self, attempt: Callable[[], _T], in_doubt: Callable[[], bool] = lambda: False
    ) -> _T:
        """Try again while the server is unreachable, without limit if a commit is in doubt."""
        give_up: float | None = None
        failures = 0
        while True:
            try:
                return attempt()
            except (DBAPIError, psycopg.Error) as error:
                cause = error.orig if isinstance(error, DBAPIError) else error
                failure = self._error(cause or error)
                if not isinstance(failure, StoreUnavailableError):
                    raise failure from error
                if isinstance(cause, pg.LockNotAvailable):
                    self._end_frozen()
                elif not isinstance(cause, _AGAIN):
                    self._forget()
                # Counted from the first failure: this process may have been frozen until then.
                give_up = give_up or time.monotonic() + _PATIENCE_S
                delay_s = back_off_s(_RETRY_FIRST_S, failures, _RETRY_MAX_S)
                patient = in_doubt() or time.monotonic() + delay_s < give_up
                if self._closing.is_set() or not patient:
                    raise failure from error
                time.sleep(delay_s)
                failures += 1

    def _error(self, cause: BaseException) -> StoreError:
        message = str(cause).strip().partition("\n")[0]
        if isinstance(cause, pg.UniqueViolation):
            return StoreConflictError(message)
        if isinstance(cause, pg.DiskFull):
            return StoreFullError(f"{self.place}: {message}")
        # An operational error without a code means that the connection broke or was never made.
        broken = isinstance(cause, psycopg.OperationalError) and cause.sqlstate is None
        if broken or isinstance(cause, (*_LOST, *_AGAIN, psycopg.InterfaceError)):
            return StoreUnavailableError(f"{self.place}: {message}")
        if isinstance(cause, pg.IdleInTransactionSessionTimeout):
            return StoreUnavailableError(f"{self.place}: {message}")
        return StoreError(f"a write failed: {message}")

    def _mine(
        self, engine: Engine, prepare: Callable[[Connection], None] = lambda _connection: None
    ) -> Connection:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = engine.connect()
            self._connections.add(connection)
            with connection.begin():
                prepare(connection)
        return connection

    def _name_session(self, connection: Connection) -> None:
        name = text("SELECT set_config('application_name', :name, false)")
        connection.execute(name, {"name": self._session})

    def _forget(self) -> None:
        """Give up this thread's connection, which is broken."""
        connection: Connection | None = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            self._drop(connection)

    def _end_frozen(self) -> None:
        """End the transactions of frozen hubs for which others wait."""
        with suppress(DBAPIError, psycopg.Error), self._engine.connect() as connection:
            if ended := connection.execute(_END_FROZEN).scalar_one():
                _LOGGER.warning("Ended %d transactions of a gateway that does not move", ended)

    def _drop(self, connection: Connection) -> None:
        self._connections.discard(connection)
        with suppress(DBAPIError, psycopg.Error):
            connection.invalidate()
            connection.close()

    def _listen(self, heard: Callable[[], None]) -> None:
        while not self._closing.is_set():
            connection: Connection | None = None
            try:
                connection = self._engine.connect()
                driver: Any = connection.connection.driver_connection
                driver.autocommit = True
                driver.execute(f"LISTEN {_CHANNEL}")
                # Notifications sent while nobody listened are made up for by looking at once.
                heard()
                while not self._closing.is_set():
                    for _ in driver.notifies(timeout=_LISTEN_POLL_S, stop_after=1):
                        heard()
            except (DBAPIError, psycopg.Error) as error:
                _LOGGER.debug("Listening to the store was interrupted: %s", error)
                self._closing.wait(_RETRY_MAX_S)
            finally:
                # Closing it as if it still worked would log a traceback for each lost one.
                if connection is not None:
                    self._drop(connection)

    def _warn_before_upgrade(self, revision: str) -> None:
        _LOGGER.warning(
            "%s is upgraded from schema %s in place; a copy is yours to make (pg_dump)",
            self.place,
            revision,
        )
