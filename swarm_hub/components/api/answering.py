"""Requests that are being answered: when the store goes away, nobody waits for its return."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from swarm_hub.components.api.errors import RETRY_AFTER_S
from swarm_hub.const import STORE_AWAY
from swarm_hub.exceptions import Busy
from swarm_hub.storage import Store

_T = TypeVar("_T")


class Answering:
    """Ends what waits for a shared store, in the moment in which that is found to be away."""

    def __init__(self, store: Store) -> None:
        self._can_be_away = store.shared
        self._open: set[asyncio.Timeout] = set()
        store.on_away(self._end_all)

    async def within_reach(self, work: Awaitable[_T]) -> _T:
        """Return what `work` gives; raises Busy if the store goes away meanwhile."""
        if not self._can_be_away:
            return await work
        until = asyncio.timeout(None)
        self._open.add(until)
        try:
            async with until:
                return await work
        except TimeoutError as error:
            if not until.expired():
                raise
            raise Busy(
                STORE_AWAY,
                "the store does not answer; whether this took effect is not known: ask for it, or "
                "send it again with the same Idempotency-Key",
                retry_after_s=RETRY_AFTER_S,
            ) from error
        finally:
            self._open.discard(until)

    def _end_all(self) -> None:
        now = asyncio.get_running_loop().time()
        ended, self._open = self._open, set()
        for until in ended:
            until.reschedule(now)
