"""The durable store of a hub: one writer with group commit, readers beside it, blobs.

The sub-modules jobs, nodes, inbox, events and seen hold the statements; SQL appears nowhere else.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from swarm_hub.exceptions import StoreError
from swarm_hub.models.event import DurableEvent, NewEvent
from swarm_hub.storage import events, meta
from swarm_hub.storage.blobs import BlobStore
from swarm_hub.storage.engine import SqliteDatabase
from swarm_hub.storage.writer import Write, Writer
from swarm_hub.util.clock import Clock

__all__ = ["Store", "Write"]

_LOGGER = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Store:
    """What components use of the database; nothing is acknowledged before `commit` returned."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._database = SqliteDatabase(path)
        self._clock = clock
        self._publish: Callable[[DurableEvent], None] = lambda _event: None
        self.db_id = ""
        self._writer_task: asyncio.Task[None] | None = None
        self.blobs = BlobStore(path.parent / "blobs", self._database)

    async def open(self) -> None:
        """Open the database and start the writer; raises StoreError with what to do."""
        try:
            await self._database.open()
            self.db_id = await self._database.write(meta.database_id)
            last_seq = await self._database.read(events.last_seq)
        except BaseException:
            # A damaged file is moved aside by its owner: nothing of ours may hold it open.
            await self._database.close()
            raise
        self._writer = Writer(
            self._database, self._clock, last_seq, lambda event: self._publish(event)
        )
        # The writer outlives the hub's task supervisor: stop hooks still write.
        self._writer_task = asyncio.get_running_loop().create_task(
            self._writer.run(), name="store writer"
        )

    def on_committed(self, publish: Callable[[DurableEvent], None]) -> None:
        """Have durable events handed to `publish` once they are on disk, in order."""
        self._publish = publish

    @property
    def busy(self) -> bool:
        """Whether so much waits for the disk that new jobs should be refused for now."""
        return self._writer.busy

    @property
    def last_seq(self) -> int:
        """The sequence number of the newest durable event."""
        return self._writer.last_seq

    def commit(self, writes: Sequence[Write], events: Sequence[NewEvent] = ()) -> Awaitable[None]:
        """Write a unit atomically; the awaitable is done when it is on disk.

        Units commit in the order of the calls, also when nobody awaits them yet.
        """
        return self._writer.submit(writes, events)

    def note(self, writes: Sequence[Write]) -> None:
        """Write what nobody waits for and a restart could do without; a failure is logged."""
        try:
            self._writer.submit(writes).add_done_callback(_log_failure)
        except StoreError as error:
            _LOGGER.warning("A note was not written: %s", error)

    async def read(
        self,
        query: Callable[Concatenate[Connection, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Run a query function of this package on a consistent snapshot."""
        return await self._database.read(lambda connection: query(connection, *args, **kwargs))

    async def close(self) -> None:
        """Write what is left and close the files; a closed store stays closed."""
        writing, self._writer_task = self._writer_task, None
        if writing is None:
            return
        self._writer.close()
        await writing
        await self._database.close()


def _log_failure(written: "asyncio.Future[None]") -> None:
    if not written.cancelled() and (error := written.exception()) is not None:
        _LOGGER.warning("A note was not written: %s", error)
