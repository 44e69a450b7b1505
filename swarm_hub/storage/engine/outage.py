"""Whether the server of a shared store answers: while it does not, nobody waits for it.

The first calls that meet a lost connection try for a while to make a new one. From then on a call
is refused at once, and one task asks whether the server is back.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from swarm_hub.exceptions import StoreAwayError, StoreError

_LOGGER = logging.getLogger(__name__)

_ASK_EVERY_S: Final = 0.5


class Outage:
    """The time in which a server is away; `answers` returns once it has answered, or raises."""

    def __init__(self, answers: Callable[[], Awaitable[None]]) -> None:
        self._answers = answers
        self._error: StoreAwayError | None = None
        self._began_at = 0.0
        self._tell: list[Callable[[], None]] = []
        self._asking: asyncio.Task[None] | None = None

    @property
    def lasts_s(self) -> float | None:
        """For how many seconds it has lasted, None while the server answers."""
        return None if self._error is None else time.monotonic() - self._began_at

    def on_begin(self, began: Callable[[], None]) -> None:
        """Have `began` called on the loop whenever the server goes away."""
        self._tell.append(began)

    def refuse(self) -> None:
        """Raise StoreAwayError while the server is away."""
        if self._error is not None:
            raise StoreAwayError(str(self._error))

    def begin(self, error: StoreAwayError) -> None:
        """Note that a call gave up, and ask from now on whether the server is back."""
        if self._error is not None:
            return
        _LOGGER.warning("Requests are refused until the store answers again: %s", error)
        self._error, self._began_at = error, time.monotonic()
        self._asking = asyncio.get_running_loop().create_task(self._ask(), name="store outage")
        for began in self._tell:
            began()

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self) -> None:
        while True:
            await asyncio.sleep(_ASK_EVERY_S)
            try:
                await self._answers()
            except StoreError as error:
                _LOGGER.debug("The store is still away: %s", error)
            else:
                _LOGGER.info("The store answers again after %.1f s", self.lasts_s)
                self._error = None
                return
