"""The stream of committed events, in the order of their numbers, whoever committed them."""

from collections.abc import Callable, Sequence
from typing import Final

from swarm_hub.models.event import CommittedEvents, DurableEvent
from swarm_hub.storage.engine.database import Database
from swarm_hub.storage.queries import events

_PAGE: Final = 500


class EventFeed:
    """Hands each durable event to the hub once.

    If several gateways share a store, all events are read from it, since a gateway's own are
    numbered among those of the others.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hand_over: Callable[[DurableEvent], None] = lambda _event: None
        self._tell_own: Callable[[CommittedEvents], None] = lambda _events: None
        self.last_seq = 0

    async def open(self) -> None:
        """Begin after the newest event there is."""
        self.last_seq = await self._database.read(events.last_seq)

    def on_committed(self, hand_over: Callable[[DurableEvent], None]) -> None:
        """Have each event handed to `hand_over` once it is on disk."""
        self._hand_over = hand_over

    def on_own_commit(self, tell: Callable[[CommittedEvents], None]) -> None:
        """Have the events of each commit of this hub told to `tell`, before its callers know."""
        self._tell_own = tell

    def committed(self, own: CommittedEvents) -> None:
        """Tell what this hub has just committed; its numbers may not be known yet."""
        self._tell_own(own)

    async def catch_up(self) -> None:
        """Hand over what is numbered in the store after the last event."""
        while True:
            page = await self._database.ask(
                lambda connection: events.since(connection, self.last_seq, _PAGE)
            )
            self.publish(page)
            if len(page) < _PAGE:
                return

    def publish(self, fired: Sequence[DurableEvent]) -> None:
        """Hand over events that are on disk, in the order of their numbers."""
        for event in fired:
            # Two callers may have read the same page.
            if event.seq > self.last_seq:
                self.last_seq = event.seq
                self._hand_over(event)
