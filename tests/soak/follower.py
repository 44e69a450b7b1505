"""A client that follows all events, through one gateway after the other, and misses none."""

import asyncio
import random
from contextlib import aclosing

import aiohttp

from swarm_hub.client import ApiError, ClientError, UnreachableError
from tests.soak.part import Part

# A frozen gateway says nothing, and one without work has nothing to say.
_QUIET_S = 8.0
_STAYS_S = (5.0, 40.0)
_PAUSE_S = 0.3


class Follower:
    """Hears the durable events of a part; each must have the number after that of the last one."""

    def __init__(self, part: Part, rng: random.Random) -> None:
        self._part = part
        self._rng = rng
        self._moved = asyncio.Event()
        self.last_seq = 0

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            client = self._rng.choice(self._part.clients)
            try:
                async with (
                    asyncio.timeout(self._rng.uniform(*_STAYS_S)),
                    aclosing(client.events(since=self.last_seq)) as events,
                ):
                    while True:
                        async with asyncio.timeout(_QUIET_S):
                            event = await anext(events)
                        self.heard(event.seq)
            except (ApiError, UnreachableError, aiohttp.ClientError, TimeoutError):
                pass
            except StopAsyncIteration:
                pass
            except ClientError as error:
                self._part.problem(f"a follower was told: {error}")
            self._part.counts["subscriptions"] += 1
            await asyncio.sleep(_PAUSE_S)

    def heard(self, seq: int | None) -> None:
        """Note the number of an event; passing ones have none."""
        if seq is None:
            return
        if seq != self.last_seq + 1:
            self._part.problem(f"a follower heard event {seq} after {self.last_seq}")
        self.last_seq = seq
        self._moved.set()

    async def reach(self, seq: int, within_s: float) -> None:
        """Wait until an event that is stored has been heard."""
        try:
            async with asyncio.timeout(within_s):
                while self.last_seq < seq:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            self._part.problem(
                f"a follower heard events up to {self.last_seq} of {seq} within {within_s:.0f} s"
            )
        self._part.counts["followed"] = self.last_seq
