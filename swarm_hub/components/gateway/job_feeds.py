"""The events of one job, followed by a client from wherever it left off to the job's last."""

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from swarm_hub.core import Hub
from swarm_hub.exceptions import LimitReached, Unavailable
from swarm_hub.models.event import (
    LAST_OF_JOBS,
    DurableEvent,
    EphemeralEvent,
    EventShape,
    PassingShape,
)
from swarm_hub.storage.queries import events
from swarm_hub.util.within import within

_FOLLOWERS_MAX: Final = 256
# What waits for a follower; one that is slower reads the store again from where it is.
_WAITING_MAX: Final = 1024
_PAGE: Final = 500
_SIGN_EVERY_S: Final = 15.0
_RETRY_AFTER_S: Final = 5


class JobFeed:
    """What happens to a job from now on, as far as it waits to be read."""

    def __init__(self) -> None:
        self._waiting: deque[DurableEvent | EphemeralEvent] = deque()
        self._changed = asyncio.Event()
        self.behind = False
        self.closed = False

    def add(self, event: DurableEvent | EphemeralEvent) -> None:
        """Take an event; what waits is dropped if it is too much, and `behind` says so."""
        if len(self._waiting) >= _WAITING_MAX:
            self._waiting.clear()
            self.behind = True
        if not self.behind:
            self._waiting.append(event)
        self._changed.set()

    def close(self) -> None:
        """End it: the hub is stopping."""
        self.closed = True
        self._changed.set()

    async def take(self) -> list[DurableEvent | EphemeralEvent]:
        """Return what has happened, nothing if that is nothing for a while."""
        if not self._waiting and not self.behind and not self.closed:
            await within(_SIGN_EVERY_S, self._changed.wait())
        self._changed.clear()
        taken = list(self._waiting)
        self._waiting.clear()
        return taken


class JobFeeds:
    """The feeds of every job that somebody follows."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._feeds: dict[str, set[JobFeed]] = defaultdict(set)
        self._n_followers = 0
        self._closed = False
        hub.bus.listen(DurableEvent, self._on_durable)
        hub.bus.listen(EphemeralEvent, self._on_ephemeral)
        hub.store.follow_while(lambda: bool(self._feeds))

    @contextlib.asynccontextmanager
    async def following(self, job_id: str) -> AsyncIterator[JobFeed]:
        """Give a feed of a job; raises LimitReached."""
        if self._n_followers >= _FOLLOWERS_MAX:
            raise LimitReached(
                "too_many_followers",
                f"{_FOLLOWERS_MAX} clients follow jobs already; use the websocket for many jobs",
                retry_after_s=_RETRY_AFTER_S,
            )
        feed = JobFeed()
        feed.closed = self._closed
        self._feeds[job_id].add(feed)
        self._n_followers += 1
        try:
            yield feed
        finally:
            self._n_followers -= 1
            self._feeds[job_id].discard(feed)
            if not self._feeds[job_id]:
                del self._feeds[job_id]

    async def events(
        self, job_id: str, feed: JobFeed, after: int, *, ended: bool
    ) -> AsyncGenerator[EventShape | PassingShape | None, None]:
        """Yield a job's events after that `seq` up to its last; None where there is none for long.

        The first comes at once. Raises Unavailable when the hub stops.
        """
        sent = after
        while True:
            # What is committed meanwhile is in the feed, too.
            feed.behind = False
            more = True
            while more:
                page = await self._hub.store.read(events.story, job_id, sent, _PAGE)
                for event in page:
                    sent = event.seq
                    yield event.shape()
                    if event.event_type in LAST_OF_JOBS:
                        return
                more = len(page) == _PAGE
            if ended:
                return
            yield None
            while not feed.behind:
                taken = await feed.take()
                if feed.closed:
                    raise Unavailable("stopping", "the hub is stopping")
                for live in taken:
                    if isinstance(live, EphemeralEvent):
                        yield live.shape(self._hub.clock.time())
                    elif live.seq > sent:
                        sent = live.seq
                        yield live.shape()
                        if live.event_type in LAST_OF_JOBS:
                            return
                if not taken and not feed.behind:
                    yield None

    def _on_durable(self, event: DurableEvent) -> None:
        if event.job_id is not None and event.job_id in self._feeds:
            for feed in self._feeds[event.job_id]:
                feed.add(event)

    def _on_ephemeral(self, event: EphemeralEvent) -> None:
        if (job_id := event.data.get("job_id")) in self._feeds:
            for feed in self._feeds[job_id]:
                feed.add(event)

    def close(self) -> None:
        """End every feed, and those that are still begun: the hub is stopping."""
        self._closed = True
        for feeds in self._feeds.values():
            for feed in feeds:
                feed.close()
