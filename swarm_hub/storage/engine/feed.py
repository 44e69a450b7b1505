"""The stream of committed events, in the order of their numbers, whoever committed them."""

from collections.abc import Callable, Sequence
from typing import Final

from swarm_hub.models.event import DurableEvent
from swarm_hub.storage.engine.database import Database
from swarm_hub.storage.queries import events

_PAGE: Final = 500


class EventFeed:
    """Hands each durable event to the hub once.

    If several gateways share a store, the events of the others are read in between our own.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hand_over: Callable[[DurableEvent], None] = lambda _event: None
        self.last_seq = 0

    async def open(self) -> None:
        """Begin after the newest event there is."""
        self.last_seq = await self._database.read(events.last_seq)

    def on_committed(self, hand_over: Callable[[DurableEvent], None]) -> None:
        """Have each event handed to `hand_over` once it is on disk."""
        self._hand_over = hand_over

    async def publish(self, fired: Sequence[DurableEvent]) -> None:
        """Hand over what was just committed, preceded by what others committed."""
        if fired and fired[0].seq != self.last_seq + 1:
            await self.catch_up()
        self._pass_on(fired)

    async def catch_up(self) -> None:
        """Hand over what others committed since the last event."""
        while True:
            page = await self._database.read(
                lambda connection: events.since(connection, self.last_seq, _PAGE)
            )
            self._pass_on(page)
            if len(page) < _PAGE:
                return

    def _pass_on(self, fired: Sequence[DurableEvent]) -> None:
        for event in fired:
            # Two callers may have read the same page.
            if event.seq > self.last_seq:
                self.last_seq = event.seq
                self._hand_over(event)
