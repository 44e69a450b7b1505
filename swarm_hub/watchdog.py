"""Whether the parts of a hub make their rounds: its writer, and what components add.

A part is asked for a sign, and is stuck once it has not given one for as long as its bound. A hub
looks regularly if one of its parts can be restarted, or if systemd wants to hear from it
(WatchdogSec=), which then also notices a loop that does not get to this; else it looks only when it
is asked for its health, which costs a phone nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from swarm_hub.tasks import TaskSupervisor
from swarm_hub.util import systemd
from swarm_hub.util.clock import Clock

_LOGGER = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 15.0
# A part that does well answers at once.
_ANSWER_WITHIN_S: Final = 0.25


@dataclass(slots=True)
class _Part:
    name: str
    sign: Callable[[], Awaitable[None]]
    bound_s: float
    restart: Callable[[], None] | None
    asked: "asyncio.Task[None] | None" = None
    waited_s: float = 0.0
    restarted: bool = False


class Watchdog:
    """Asks each part for a sign of life."""

    def __init__(self, tasks: TaskSupervisor, clock: Clock) -> None:
        self._tasks = tasks
        self._clock = clock
        self._parts: list[_Part] = []
        self._looked_at = clock.monotonic()

    def watch(
        self,
        name: str,
        sign: Callable[[], Awaitable[None]],
        bound_s: float,
        restart: Callable[[], None] | None = None,
    ) -> None:
        """Watch a part: `sign()` returns when it has made its round, which takes at most `bound_s`.

        `restart` is called once for a part that is stuck, if that can help.
        """
        self._parts.append(_Part(name, sign, bound_s, restart))

    def start(self) -> None:
        """Look regularly, if anybody has a use for it."""
        wanted_s = systemd.watchdog_s()
        restartable = any(part.restart is not None for part in self._parts)
        if wanted_s is None and not restartable:
            return
        every_s = min(_LOOK_EVERY_S, _LOOK_EVERY_S if wanted_s is None else wanted_s / 2)
        self._tasks.supervise(lambda: self._look_regularly(every_s), "watchdog")

    async def problems(self) -> list[str]:
        """Ask every part, and say in words which are stuck; [] if all is well."""
        return [
            f"{name} has given no sign for {waited_s:.0f} s"
            for name, waited_s in (await self.stuck()).items()
        ]

    async def stuck(self) -> dict[str, float]:
        """Ask every part; return which are stuck, and for how many seconds."""
        await self._ask()
        return {part.name: part.waited_s for part in self._parts if _is_stuck(part)}

    async def _look_regularly(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            problems = await self.problems()
            for problem in problems:
                _LOGGER.error("The watchdog found: %s", problem)
            if not problems:
                systemd.notify("WATCHDOG=1")
            for part in self._parts:
                if _is_stuck(part) and part.restart is not None and not part.restarted:
                    part.restarted = True
                    _LOGGER.error("Restarting %s", part.name)
                    part.restart()

    async def _ask(self) -> None:
        now = self._clock.monotonic()
        # A process that was frozen, as phones do, waited no longer than it would have looked.
        passed_s = min(now - self._looked_at, _LOOK_EVERY_S)
        self._looked_at = now
        for part in self._parts:
            part.waited_s += passed_s
            if part.asked is None or part.asked.done():
                part.waited_s, part.restarted = 0.0, False
                part.asked = self._tasks.spawn(self._wait(part), f"sign of {part.name}")
        waiting = [part.asked for part in self._parts if part.asked is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=_ANSWER_WITHIN_S)

    async def _wait(self, part: _Part) -> None:
        try:
            await part.sign()
        except Exception as error:
            # It answered, and what is wrong with it is told elsewhere.
            _LOGGER.debug("The sign of %s failed: %s", part.name, error)


def _is_stuck(part: _Part) -> bool:
    return part.asked is not None and not part.asked.done() and part.waited_s > part.bound_s
