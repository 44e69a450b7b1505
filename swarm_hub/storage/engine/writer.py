"""Group commit: all that is waiting is written in one transaction, then all callers are told.

There is no timer: while one transaction is on its way to the disk, the next batch gathers. In a
database of its own the writer numbers the events, in a shared one the sequencer does so afterwards.
"""

import asyncio
import functools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, insert
from sqlalchemy.sql.dml import UpdateBase

from swarm_hub.exceptions import PASSING_ERRORS, StoreBusyError, StoreError
from swarm_hub.models.event import CommittedEvents, DurableEvent, NewEvent
from swarm_hub.storage import schema
from swarm_hub.storage.engine.database import Database
from swarm_hub.storage.engine.feed import EventFeed
from swarm_hub.storage.queries import leases
from swarm_hub.storage.queries.leases import Fence
from swarm_hub.storage.write import Write
from swarm_hub.util.clock import Clock
from swarm_hub.util.metrics import Histogram

if TYPE_CHECKING:
    from swarm_hub.storage.engine.sequencer import Sequencer

_LOGGER = logging.getLogger(__name__)

# Rows in one transaction; more would hold readers' checkpoints and the loop's futures too long.
BATCH_ROWS_MAX: Final = 4096
# Rows waiting for the writer, beyond which new work is refused instead of remembered.
PENDING_ROWS_MAX: Final = 65_536

_INSERT_EVENTS: Final = insert(schema.events)
_QUEUE_EVENTS: Final = insert(schema.event_queue)
_PLACES: Final[dict[object, int]] = {
    table: place for place, table in enumerate(schema.metadata.tables.values())
}
# `json.dumps` with separators builds an encoder for each event, which costs more than encoding.
_ENCODE: Final = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class _Unit:
    """Writes and events that commit together or not at all."""

    writes: Sequence[Write]
    events: Sequence[NewEvent]
    fence: Fence | None
    n_rows: int
    committed: "asyncio.Future[None]"


class Writer:
    """The only task that writes to the database."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        feed: EventFeed,
        trouble: Callable[[StoreError], None],
        sequencer: "Sequencer | None" = None,
    ) -> None:
        self._database = database
        self._trouble = trouble
        self._clock = clock
        self._feed = feed
        self._sequencer = sequencer
        self._pending: list[_Unit] = []
        self._pending_rows = 0
        self._wake = asyncio.Event()
        self._closed = False
        self._at_work = False
        self._round = asyncio.Event()
        # How long transactions took until they were on disk.
        self.commit_s = Histogram()

    @property
    def pending_rows(self) -> int:
        """How many rows wait for the disk."""
        return self._pending_rows

    @property
    def idle(self) -> bool:
        """Whether nothing waits for the disk."""
        return not self._at_work and not self._pending

    @property
    def busy(self) -> bool:
        """Whether new work should be refused for now."""
        return self._pending_rows >= PENDING_ROWS_MAX

    def submit(
        self, writes: Sequence[Write], events: Sequence[NewEvent] = (), fence: Fence | None = None
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
            fence,
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
            self._at_work = True
            while self._pending:
                await self._commit(self._take_batch())
                made, self._round = self._round, asyncio.Event()
                made.set()
            self._at_work = False

    async def round(self) -> None:
        """Return when the transaction that is under way has ended, at once without one."""
        if not self.idle:
            await self._round.wait()

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
        if not any(unit.n_rows or unit.fence for unit in batch):
            for unit in batch:
                _settle(unit.committed, None)
            return
        now = self._clock.time()
        try:
            # The rows are made here, so that an event that isn't valid JSON fails with its unit.
            rows = [_event_row(event, now) for unit in batch for event in unit.events]
            work = functools.partial(self._execute, batch, rows)
            began = self._clock.monotonic()
            await self._database.write(work)
            self.commit_s.observe(self._clock.monotonic() - began)
        except Exception as error:
            if isinstance(error, PASSING_ERRORS):
                # Trying the units one by one would fail on the same disk or server.
                self._trouble(error)
                for unit in batch:
                    _settle(unit.committed, error)
            elif len(batch) == 1:
                _settle(batch[0].committed, _as_store_error(error))
            else:
                _LOGGER.warning("A batch of %d writes failed, replaying one by one", len(batch))
                for unit in batch:
                    await self._commit([unit])
            return
        if rows:
            self._tell([event for unit in batch for event in unit.events], now)
        for unit in batch:
            _settle(unit.committed, None)

    def _tell(self, events: Sequence[NewEvent], now: float) -> None:
        self._feed.committed(CommittedEvents(now, events))
        if self._sequencer is not None:
            self._sequencer.committed()
            return
        first_seq = self._feed.last_seq + 1
        self._feed.publish(
            [
                DurableEvent(seq, event.event_type, now, event.data, event.job_id)
                for seq, event in enumerate(events, first_seq)
            ]
        )

    def _execute(
        self, batch: Sequence[_Unit], event_rows: list[dict[str, Any]], connection: Connection
    ) -> None:
        """Write a batch in the caller's transaction."""
        writes = _grouped(batch)
        if self._sequencer is not None:
            leases.verify(connection, [unit.fence for unit in batch if unit.fence is not None])
            # Gateways that lock rows in one order never wait for each other in a circle.
            writes.sort(key=lambda write: _PLACES[write.statement.table])
            if event_rows:
                writes.append(Write(_QUEUE_EVENTS, event_rows))
        elif event_rows:
            # Nobody else writes here.
            first_seq = self._feed.last_seq + 1
            numbered = [{"seq": seq, **row} for seq, row in enumerate(event_rows, first_seq)]
            writes.append(Write(_INSERT_EVENTS, numbered))
        self._database.execute(connection, writes)


def _grouped(batch: Sequence[_Unit]) -> list[Write]:
    """Gather rows of the same statement, each table's statements in the order of the calls."""
    groups: list[tuple[UpdateBase, list[Mapping[str, Any]]]] = []
    # For each table the group that was opened last: only that one may still grow.
    newest: dict[object, int] = {}
    for unit in batch:
        for write in unit.writes:
            table = write.statement.table
            place = newest.get(table)
            if place is not None and groups[place][0] is write.statement:
                groups[place][1].extend(write.rows)
            else:
                newest[table] = len(groups)
                groups.append((write.statement, list(write.rows)))
    return [Write(statement, rows) for statement, rows in groups]


def _event_row(event: NewEvent, now: float) -> dict[str, Any]:
    return {
        "event_type": event.event_type.value,
        "job_id": event.job_id,
        "time_fired": now,
        "data": _ENCODE(event.data),
    }


def _as_store_error(error: Exception) -> StoreError:
    return error if isinstance(error, StoreError) else StoreError(f"a write failed: {error}")


def _settle(future: "asyncio.Future[None]", error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
