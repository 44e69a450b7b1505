"""Group commit: whatever is waiting is written in one transaction, then everybody is told.

There is no timer: while one transaction is on its way to the disk, the next batch gathers.
"""

import asyncio
import functools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Executable, insert

from swarm_hub.exceptions import StoreBusyError, StoreError
from swarm_hub.models.event import DurableEvent, NewEvent
from swarm_hub.storage import schema
from swarm_hub.storage.engine import SqliteDatabase
from swarm_hub.storage.prepared import PreparedStatements
from swarm_hub.util.clock import Clock

_LOGGER = logging.getLogger(__name__)

# Rows in one transaction; more would hold readers' checkpoints and the loop's futures too long.
BATCH_ROWS_MAX: Final = 4096
# Rows waiting for the writer, beyond which new work is refused instead of remembered.
PENDING_ROWS_MAX: Final = 65_536

_INSERT_EVENTS: Final = insert(schema.events)


@dataclass(frozen=True, slots=True)
class Write:
    """One statement with its parameter rows (executemany)."""

    statement: Executable
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Unit:
    """Writes and events that commit together or not at all."""

    writes: Sequence[Write]
    events: Sequence[NewEvent]
    n_rows: int
    committed: "asyncio.Future[None]"


class Writer:
    """The only task that writes to the database."""

    def __init__(
        self,
        database: SqliteDatabase,
        clock: Clock,
        last_seq: int,
        publish: Callable[[DurableEvent], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._given_seq = last_seq
        self._last_seq = last_seq
        self._publish = publish
        self._statements = PreparedStatements()
        self._pending: list[_Unit] = []
        self._pending_rows = 0
        self._wake = asyncio.Event()
        self._closed = False

    @property
    def last_seq(self) -> int:
        """The sequence number of the newest event on disk."""
        return self._last_seq

    @property
    def busy(self) -> bool:
        """Whether new work should be refused for now."""
        return self._pending_rows >= PENDING_ROWS_MAX

    def submit(
        self, writes: Sequence[Write], events: Sequence[NewEvent] = ()
    ) -> "asyncio.Future[None]":
        """Queue a unit; the future is done when it is on disk, in the order of submission.

        Raises StoreBusyError when the queue is full and StoreError when the store is closed.
        """
        if self._closed:
            raise StoreError("the store is closed")
        if self.busy:
            raise StoreBusyError("the store can't keep up; try again in a moment")
        unit = _Unit(
            [write for write in writes if write.rows],
            events,
            sum(len(write.rows) for write in writes) + len(events),
            asyncio.get_running_loop().create_future(),
        )
        self._pending.append(unit)
        self._pending_rows += unit.n_rows
        self._wake.set()
        return unit.committed

    async def run(self) -> None:
        """Write until `close` was called and nothing is left."""
        while self._pending or not self._closed:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                await self._commit(self._take_batch())

    def close(self) -> None:
        """Let `run` end once everything that was submitted is on disk."""
        self._closed = True
        self._wake.set()

    def _take_batch(self) -> list[_Unit]:
        n_rows = 0
        for count, unit in enumerate(self._pending):
            n_rows += unit.n_rows
            if count and n_rows > BATCH_ROWS_MAX:
                batch, self._pending = self._pending[:count], self._pending[count:]
                break
        else:
            batch, self._pending = self._pending, []
        self._pending_rows -= sum(unit.n_rows for unit in batch)
        return batch

    async def _commit(self, batch: list[_Unit]) -> None:
        try:
            writes, fired = self._prepare(batch)
            await self._database.write(functools.partial(self._execute, writes))
        except Exception as error:
            if len(batch) == 1:
                _settle(batch[0].committed, StoreError(f"a write failed: {error}"))
                return
            _LOGGER.warning("A batch of %d writes failed, replaying one by one", len(batch))
            for unit in batch:
                await self._commit([unit])
            return
        for event in fired:
            self._last_seq = event.seq
            self._publish(event)
        for unit in batch:
            _settle(unit.committed, None)

    def _execute(self, writes: Sequence[Write], connection: Connection) -> None:
        for write in writes:
            self._statements.execute(connection, write.statement, write.rows)

    def _prepare(self, batch: list[_Unit]) -> tuple[list[Write], list[DurableEvent]]:
        fired: list[DurableEvent] = []
        now = self._clock.time()
        writes: list[Write] = []
        for unit in batch:
            for write in unit.writes:
                # Neighbours of the same statement become one executemany.
                if writes and writes[-1].statement is write.statement:
                    writes[-1] = Write(write.statement, [*writes[-1].rows, *write.rows])
                else:
                    writes.append(write)
            for event in unit.events:
                self._given_seq += 1
                fired.append(
                    DurableEvent(self._given_seq, event.event_type, now, event.data, event.job_id)
                )
        if fired:
            writes.append(Write(_INSERT_EVENTS, [_event_row(event) for event in fired]))
        return writes, fired


def _event_row(event: DurableEvent) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "event_type": event.event_type.value,
        "job_id": event.job_id,
        "time_fired": event.time_fired,
        "data": json.dumps(event.data, separators=(",", ":")),
    }


def _settle(future: "asyncio.Future[None]", error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
