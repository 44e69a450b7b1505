"""A subscription to events from its beginning over what it missed to its end."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from swarm_hub.components.api.live import messages, replay
from swarm_hub.components.api.live.event import LiveEvent
from swarm_hub.components.api.live.fanout import Audience, Fanout, Subscription
from swarm_hub.components.api.live.outbox import Outbox
from swarm_hub.core import Hub
from swarm_hub.endpoints import EventStream, StreamBegins

_LOGGER = logging.getLogger(__name__)

_CANNOT_GO_ON: Final = "the hub can't go on with a subscription; see its log, and resume"


class Stream:
    """An `EventStream` as one connection gets it; `account` is whose jobs alone it may see."""

    def __init__(
        self,
        hub: Hub,
        fanout: Fanout,
        outbox: Outbox,
        turns: asyncio.Semaphore,
        call_id: int,
        asked: EventStream,
        account: str | None,
    ) -> None:
        self._hub = hub
        self._fanout = fanout
        self._outbox = outbox
        self._turns = turns
        self._call_id = call_id
        self._asked = asked
        self._subscription = Subscription(
            Audience(asked.wanted, account), self._give, outbox.let_go
        )
        self._running: asyncio.Task[None] | None = None
        self._ended: Callable[[], None] = lambda: None

    @property
    def seen(self) -> int:
        """The durable event up to which it was given what it wants."""
        return self._fanout.seen(self._subscription)

    def begin(self, refuse: Callable[[Exception], object], ended: Callable[[], None]) -> None:
        """Answer and go on, or `refuse`; `ended` is called when it has ended by itself."""
        self._ended = ended
        self._fanout.add(self._subscription)
        self._running = self._hub.tasks.spawn(self._run(refuse), "websocket subscription")

    def leave(self) -> None:
        """Be given nothing more."""
        self._fanout.discard(self._subscription)

    def stop(self) -> None:
        """End it, whatever it is doing."""
        self.leave()
        if self._running is not None:
            self._running.cancel()

    async def _run(self, refuse: Callable[[Exception], object]) -> None:
        try:
            begins = await self._begins()
        except Exception as error:
            self._ended()
            refuse(error)
            return
        self._outbox.put(messages.result(self._call_id, begins))
        try:
            if self._asked.first is not None:
                for event in await self._asked.first():
                    self._outbox.put(messages.event(self._call_id, event))
            async with self._turns:
                await replay.catch_up(self._hub, self._subscription, self._outbox)
            await self._end()
        except Exception:
            _LOGGER.exception("A subscription to events failed")
            self._outbox.let_go(_CANNOT_GO_ON)

    async def _begins(self) -> StreamBegins:
        # A client may have been connected to another gateway of the store, which knew later events.
        await self._hub.store.catch_up()
        newest, since = self._hub.store.last_seq, self._asked.since
        lost = False
        if since is not None:
            lost = await replay.are_lost(self._hub, self._asked.wanted.job_id, since)
        # Those of a store that had more are of no use here: it gets all that there are.
        self._subscription.sent = newest if since is None else since if since <= newest else 0
        return {"last_seq": newest, "events_lost": lost}

    async def _end(self) -> None:
        """Send the last event when it is time, once what it is about has ended."""
        end, subscription = self._asked.end, self._subscription
        if end is None:
            return
        if not subscription.over.is_set():
            at = await end.ended_at()
            if at is None or at > subscription.sent:
                await subscription.over.wait()
        self._outbox.put(messages.event(self._call_id, await end.last()))
        self._ended()

    def _give(self, event: LiveEvent) -> None:
        self._outbox.put(event.message(self._call_id))
        end = self._asked.end
        if end is not None and event.event_type in end.event_types:
            self._subscription.over.set()
