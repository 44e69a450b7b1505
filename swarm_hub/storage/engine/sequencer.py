"""The events of a store that gateways share, from their commit to the hub: numbered and in order.

Nobody who commits waits for it. Which gateway numbers an event does not matter: those of a gateway
that died are numbered by the next one that looks.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from swarm_hub.exceptions import StoreError, StoreUnavailableError
from swarm_hub.storage.engine.database import SharedDatabase
from swarm_hub.storage.engine.feed import EventFeed
from swarm_hub.storage.engine.hints import Hint

_LOGGER = logging.getLogger(__name__)

# After a turn this long nothing is numbered or read, so that the next one has more to do.
_CALM_S: Final = 0.03
# While another gateway numbers, for whoever waits for it.
_AGAIN_S: Final = 0.005
_PATIENCE_S: Final = 10.0


class Sequencer:
    """Has committed events numbered, and hands them over with those of the other gateways."""

    def __init__(self, database: SharedDatabase, feed: EventFeed) -> None:
        self._database = database
        self._feed = feed
        self._wake = asyncio.Event()
        # Whether this gateway has committed events that may not be numbered yet.
        self._to_number = False
        self._wanted: list[Callable[[], bool]] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; like the writer it outlives the tasks of the hub."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(), name="store sequencer")

    def follow_while(self, wanted: Callable[[], bool]) -> None:
        """Hand over events of other gateways at once while `wanted()`, else at the next look."""
        self._wanted.append(wanted)

    def committed(self) -> None:
        """Number what was just committed here."""
        self._to_number = True
        self._wake.set()

    def heard(self, hint: Hint) -> None:
        """Read what another gateway told of, if somebody here wants to know."""
        if hint.last_seq is not None and hint.last_seq <= self._feed.last_seq:
            return
        if any(wanted() for wanted in self._wanted):
            self._wake.set()

    async def catch_up(self) -> None:
        """Return when all that was committed before the call is numbered and was handed over.

        Raises StoreError.
        """
        give_up_at = time.monotonic() + _PATIENCE_S
        while not (await self._database.number_events()).complete:
            if time.monotonic() > give_up_at:
                raise StoreUnavailableError("another gateway does not get done numbering events")
            await asyncio.sleep(_AGAIN_S)
        await self._feed.catch_up()

    async def close(self) -> None:
        """End it once all that was committed here is numbered, if the server allows that."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._to_number:
            with suppress(StoreError):
                await self.catch_up()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._turn()
            except StoreError as error:
                _LOGGER.debug("Events are told later: %s", error)
                self._wake.set()
            await asyncio.sleep(_CALM_S)

    async def _turn(self) -> None:
        if self._to_number:
            complete = self._to_number = False
            try:
                complete = (await self._database.number_events()).complete
            finally:
                if not complete:
                    self.committed()
        await self._feed.catch_up()
