"""PostgreSQL as a store that several gateways share: one writing connection, two reading ones.

One more numbers events and notifies, and one listens. Neither the numbering nor a notification is
in a transaction of the writer: both are done by one gateway at a time, until its commit.

A backend may be killed at any time. Each transaction leaves a mark in a row of this writer; by that
mark we know whether a COMMIT whose answer was lost happened, so that none is lost or done twice.
The server's own function for this, pg_xact_status, is of no use after a crash: ids of transactions
that were not on its disk are given out again.

It is long because what to do about a lost connection depends on all of them: each forgets and makes
its own, and together they tell whether the server is away.
"""

import asyncio
import functools
import logging
import select
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, Self, TypeVar

import psycopg
from psycopg import errors as pg
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError
from ulid_transform import ulid_at_time, ulid_now

from swarm_hub.exceptions import (
    StoreAwayError,
    StoreConflictError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from swarm_hub.storage import migrations, schema
from swarm_hub.storage.engine import hints
from swarm_hub.storage.engine.batched import BatchedStatements
from swarm_hub.storage.engine.database import Chunk, DiskUse
from swarm_hub.storage.engine.hints import Hint
from swarm_hub.storage.engine.outage import Outage
from swarm_hub.storage.engine.postgres_connection import (
    PROGRAM,
    SESSIONS,
    engine_of,
    place_of,
    read_url,
    refuse_pooler,
)
from swarm_hub.storage.engine.postgres_dialect import add_conditions
from swarm_hub.storage.queries import event_numbers
from swarm_hub.storage.queries.event_numbers import Numbered
from swarm_hub.storage.queries.leases import session_of
from swarm_hub.util.back_off import back_off_s
from swarm_hub.util.thread_names import show_name

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

_READERS: Final = 2
# How long calls try to get past a lost connection, counted from the first of them that met it: a
# server that crashed is back by then. Whoever comes later is told at once that it is away.
_PATIENCE_S: Final = 2.0
# At the start of a hub, and for what others hold against a call: locks and deadlocks.
_LONG_PATIENCE_S: Final = 10.0
_RETRY_FIRST_S: Final = 0.05
_RETRY_MAX_S: Final = 1.0
_LISTEN_POLL_S: Final = 0.5
# What others tell within it is joined.
_CALM_S: Final = 0.02
_CHANNEL: Final = "swarm_hub"
_OLDEST_SERVER: Final = (13,)  # older ones are not maintained any more
# Marks are ULIDs, which sort by time. Those of dead writers are removed after a day.
_MARKS_KEPT_S: Final = 86_400.0
_SET_MARK: Final = (
    "INSERT INTO meta (key, value) VALUES (%s, %s) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
_READ_MARK: Final = text("SELECT value FROM meta WHERE key = :key FOR UPDATE")
_DROP_OLD_MARKS: Final = text("DELETE FROM meta WHERE key LIKE 'writer:%' AND value < :before")
# The advisory lock of this program.
_SCHEMA_LOCK: Final = 0x5A4B0001
_END_FROZEN: Final = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE datname = current_database() AND usename = current_user "
    "AND application_name LIKE 'swarm\\_hub%' AND pid <> pg_backend_pid() "
    "AND state = 'active' AND wait_event = 'ClientRead' "
    "AND query_start < clock_timestamp() - interval '4 seconds'"
)
_AGAIN: Final = (pg.SerializationFailure, pg.DeadlockDetected, pg.LockNotAvailable)
# A server that became a standby refuses writes: the next connection finds the one that takes them.
_LOST: Final = (
    pg.AdminShutdown,
    pg.CrashShutdown,
    pg.CannotConnectNow,
    pg.TooManyConnections,
    pg.ReadOnlySqlTransaction,
)


def _cannot_open(error: StoreError) -> StoreError:
    return StoreError(f"{error}; check that the server runs and that storage: url is right")


class PostgresDatabase:
    """A PostgreSQL database with the schema in it; implements `Database`."""

    def __init__(self, url: str) -> None:
        self.place = place_of(read_url(url))
        self._engine = engine_of(url)
        add_conditions(schema.metadata)
        self._reading = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._writer = ThreadPoolExecutor(1, "store-writer", initializer=show_name)
        self._readers = ThreadPoolExecutor(_READERS, "store-reader", initializer=show_name)
        # Each statement is a transaction of its own, so that the server needs nothing more of us.
        self._single = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._sequencer = ThreadPoolExecutor(1, "store-sequencer", initializer=show_name)
        self._local = threading.local()
        self._connections: set[Connection] = set()
        self._session = PROGRAM
        self._gateway = ulid_now()
        self._mark_key = f"writer:{ulid_now()}"
        self._closing = threading.Event()
        # When a connection was lost and none has worked since, by the monotonic clock.
        self._lost_at: float | None = None
        self.outage = Outage(self._probe)
        self._listener: threading.Thread | None = None
        self.execute = BatchedStatements().execute

    @property
    def shared(self) -> Self:
        """What gateways that share it need is here, too."""
        return self

    def look(self, *, as_it_is: bool = False) -> None:
        """Raise what `open` would raise, without changing anything; it is tried once.

        With `as_it_is` an older schema is refused too: gateways may be using it.
        """
        try:
            with self._engine.connect() as connection:
                self._refuse_old(connection)
                found = migrations.stored_revision(connection)
                migrations.refuse_newer(found, self.place)
                if as_it_is and found not in (None, schema.HEAD):
                    raise StoreError(
                        f"{self.place}: the database has schema {found} of an earlier swarm_hub; "
                        "start the hub, which upgrades it, then try again"
                    )
                connection.commit()
                refuse_pooler(self._engine, connection, self.place)
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
            event_numbers.make_counter(connection)
            # Committed before the first transaction that relies on it; see `_committed`.
            self._mark(connection)

        def transaction() -> None:
            # Without a mark of its own, since done twice it does no harm.
            connection = self._mine(self._engine, self._name_session)
            refuse_pooler(self._engine, connection, self.place)
            with connection.begin():
                prepare(connection)

        try:
            loop = asyncio.get_running_loop()
            opening = functools.partial(self._patiently, transaction, patience_s=_LONG_PATIENCE_S)
            await loop.run_in_executor(self._writer, opening)
        except StoreUnavailableError as error:
            raise _cannot_open(error) from error

    async def write(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` in one transaction, and again after a lost connection unless it committed."""
        return await self._answered(self._writer, functools.partial(self._write, work))

    async def read(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work` on a reading connection; it sees one consistent snapshot."""

        def snapshot(connection: Connection) -> _T:
            with connection.begin():
                return work(connection)

        return await self._answered(
            self._readers, lambda: self._patiently(lambda: snapshot(self._mine(self._reading)))
        )

    async def _answered(self, threads: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
        """Have one of these threads do `work`; while the server is away that is refused at once."""
        self.outage.refuse()
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, work)
        except StoreAwayError as error:
            self.outage.begin(error)
            raise

    async def _probe(self) -> None:
        """Return once the server answers a question; raises StoreError."""

        def ask() -> None:
            connection = self._mine(self._reading)
            with connection.begin():
                connection.execute(text("SELECT 1"))

        loop = asyncio.get_running_loop()
        await loop.run_in_executor(
            self._readers, functools.partial(self._patiently, ask, patience_s=0.0)
        )

    async def ask(self, work: Callable[[Connection], _T]) -> _T:
        """Run `work`, which is one statement, on a reading connection: a snapshot by itself."""

        def single(connection: Connection) -> _T:
            driver: Any = connection.connection.driver_connection
            driver.autocommit = True
            try:
                with connection.begin():
                    return work(connection)
            finally:
                if not driver.closed:
                    driver.autocommit = False

        return await self._answered(
            self._readers, lambda: self._patiently(lambda: single(self._mine(self._reading)))
        )

    async def number_events(self) -> Numbered:
        """Number what was committed, unless another gateway does so now; tell the others of it."""

        def work() -> Numbered:
            connection = self._mine(self._single)
            numbered = event_numbers.number(connection)
            if numbered.seqs is not None:
                told = hints.of_events(self._gateway, numbered.seqs)
                event_numbers.notify(connection, _CHANNEL, told)
            return numbered

        return await self._sequenced(work)

    async def hint_request(self) -> None:
        """Tell the others that the owner of a job is asked for something."""

        def work() -> None:
            told = hints.of_request(self._gateway)
            event_numbers.notify(self._mine(self._single), _CHANNEL, told)

        await self._sequenced(work)

    async def _sequenced(self, work: Callable[[], _T]) -> _T:
        return await self._answered(self._sequencer, lambda: self._patiently(work))

    async def introduce(self, gateway: str) -> None:
        """Name the session of the writer, also after a reconnect."""
        self._gateway, self._session = gateway, session_of(gateway)
        await self.write(self._name_session)

    def listen(self, heard: Callable[[Hint], None]) -> None:
        """Have `heard` called with what another gateway tells; it may be lost."""
        loop = asyncio.get_running_loop()

        def hear(hint: Hint) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(heard, hint)

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
        used = await self.ask(lambda connection: int(connection.execute(size).scalar_one()))
        return DiskUse(used, 0)

    async def give_back(self, _pages: int) -> Chunk:
        """Do nothing: the server's autovacuum takes care of its files."""
        return Chunk(0, False, time.monotonic())

    async def close(self) -> None:
        """Close every connection."""
        self._closing.set()
        await self.outage.close()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._readers.shutdown)
        await loop.run_in_executor(None, self._writer.shutdown)
        await loop.run_in_executor(None, self._sequencer.shutdown)
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
        self,
        attempt: Callable[[], _T],
        in_doubt: Callable[[], bool] = lambda: False,
        patience_s: float | None = None,
    ) -> _T:
        """Try again while the server is unreachable, without limit if a commit is in doubt."""
        began: float | None = None
        failures = 0
        while True:
            try:
                done = attempt()
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
                began = began or time.monotonic()
                give_up = began + _LONG_PATIENCE_S
                if isinstance(failure, StoreAwayError):
                    # Where another connection works meanwhile, the server is not away.
                    self._lost_at = self._lost_at or time.monotonic()
                    lost_for_s = _PATIENCE_S if patience_s is None else patience_s
                    give_up = min(give_up, self._lost_at + lost_for_s)
                delay_s = back_off_s(_RETRY_FIRST_S, failures, _RETRY_MAX_S)
                patient = in_doubt() or time.monotonic() + delay_s < give_up
                if self._closing.is_set() or not patient:
                    raise failure from error
                time.sleep(delay_s)
                failures += 1
            else:
                self._lost_at = None
                return done

    def _error(self, cause: BaseException) -> StoreError:
        message = str(cause).strip().partition("\n")[0]
        if isinstance(cause, pg.UniqueViolation):
            return StoreConflictError(message)
        if isinstance(cause, pg.DiskFull):
            return StoreFullError(f"{self.place}: {message}")
        # An operational error without a code means that the connection broke or was never made.
        broken = isinstance(cause, psycopg.OperationalError) and cause.sqlstate is None
        if broken or isinstance(cause, (*_LOST, psycopg.InterfaceError)):
            return StoreAwayError(f"{self.place}: {message}")
        if isinstance(cause, pg.ProtocolViolation):
            return StoreError(f"{self.place}: {message} (is that a connection pooler?); {SESSIONS}")
        if isinstance(cause, pg.InsufficientPrivilege):
            return StoreError(
                f"{self.place}: {message}; a gateway needs the rights to the tables that "
                "docs/postgresql.md names, their owner makes and upgrades them: "
                "swarm-hub store upgrade --url URL"
            )
        if isinstance(cause, (*_AGAIN, pg.IdleInTransactionSessionTimeout)):
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

    def _listen(self, heard: Callable[[Hint], None]) -> None:
        while not self._closing.is_set():
            connection: Connection | None = None
            try:
                connection = self._engine.connect()
                driver: Any = connection.connection.driver_connection
                driver.autocommit = True
                driver.execute(f"LISTEN {_CHANNEL}")
                # Notifications sent while nobody listened are made up for by looking at once.
                heard(hints.UNKNOWN)
                while not self._closing.is_set():
                    if (hint := self._next_hint(driver.pgconn)) is not None:
                        heard(hint)
            except (DBAPIError, psycopg.Error) as error:
                _LOGGER.debug("Listening to the store was interrupted: %s", error)
                self._closing.wait(_RETRY_MAX_S)
            finally:
                # Closing it as if it still worked would log a traceback for each lost one.
                if connection is not None:
                    self._drop(connection)

    def _next_hint(self, driver: Any) -> Hint | None:
        """Return what was told within a moment, joined; None if that is nothing, after a while.

        The driver's own way of waiting takes several times the CPU.
        """
        ready, _, _ = select.select([driver.socket], [], [], _LISTEN_POLL_S)
        if ready:
            self._closing.wait(_CALM_S)
        driver.consume_input()
        found = None
        while (told := driver.notifies()) is not None:
            hint = hints.read(told.extra.decode(errors="replace"), self._gateway)
            if hint is not None:
                found = hint if found is None else hints.joined(found, hint)
        return found

    def _warn_before_upgrade(self, revision: str) -> None:
        _LOGGER.warning(
            "%s is upgraded from schema %s in place; a copy is yours to make (pg_dump)",
            self.place,
            revision,
        )
