"""Termux's wake lock: taken while shards run here, so that a phone with the screen off goes on.

Without work the device may sleep. It is one lock for all of Termux: who holds it for other reasons
loses it when this worker lets go of it.
"""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from typing import Final

from swarm_hub.core import Hub, StopStage
from swarm_hub.exceptions import HubError
from swarm_hub.util.programs import said_by
from swarm_hub.util.within import within

_LOGGER = logging.getLogger(__name__)

_TAKE: Final = "termux-wake-lock"
_LET_GO: Final = "termux-wake-unlock"
# Between the shards of a job there are pauses, and each change starts a program.
LINGER_S: Final = 60.0
# They ask the app Termux, which answers a busy phone late.
_ANSWER_WITHIN_S: Final = 10.0


class WakeLock:
    """Holds the lock from the begin of a shard until a minute after the end of the last.

    `until_busy` and `until_idle` return when something runs here, and when nothing does.
    """

    def __init__(
        self,
        hub: Hub,
        until_busy: Callable[[], Awaitable[None]],
        until_idle: Callable[[], Awaitable[None]],
    ) -> None:
        self._hub = hub
        self._until_busy = until_busy
        self._until_idle = until_idle
        self._held = False
        self._failing = False
        # A stop may come while the lock is being taken; who lets go has to be the last.
        self._calling = asyncio.Lock()

    def start(self) -> None:
        """Hold it while there is work; does nothing where there is no such lock."""
        if shutil.which(_TAKE) is None or shutil.which(_LET_GO) is None:
            return
        self._hub.tasks.supervise(self._follow, "wake lock")
        self._hub.on_stop(StopStage.DISCONNECT, "wake lock", self._release, 2 * _ANSWER_WITHIN_S)

    async def _follow(self) -> None:
        while True:
            await self._until_busy()
            self._held = True
            await self._call(_TAKE)
            await self._until_idle()
            while await within(LINGER_S, self._until_busy()):
                await self._until_idle()
            await self._release()

    async def _release(self) -> None:
        if self._held:
            self._held = False
            await self._call(_LET_GO)

    async def _call(self, program: str) -> None:
        async with self._calling:
            await self._run(program)

    async def _run(self, program: str) -> None:
        """Run one of the two; the first failure in a row is logged."""
        try:
            await said_by((program,), _ANSWER_WITHIN_S)
        except HubError as error:
            if not self._failing:
                _LOGGER.warning("%s; the device may sleep while it works", error)
            self._failing = True
        else:
            self._failing = False
