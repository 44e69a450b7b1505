"""Supervised background tasks: each has a name and an owner and is cancelled at stop.

What a phone pays for at rest is how often it is woken, so nothing here polls that can be told when
to look, and what has to look all the same does so on a common tick.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from swarm_hub.exceptions import StoreAwayError
from swarm_hub.util.back_off import back_off_s
from swarm_hub.util.exhaustion import end_if_exhausted
from swarm_hub.util.within import within

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

_RESTART_FIRST_S = 0.1
_RESTART_MAX_S = 30.0
_STORE_AGAIN_S = 1.0
# A task that ran this long before it failed is restarted with the shortest back-off.
_HEALTHY_AFTER_S = 60.0
# What failed once or twice may have been bad luck.
_KEEPS_FAILING = 3
_FAILED_MAX = 256


class TaskSupervisor:
    """Owns every background task of a hub."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False
        # Of the common tick, in the time of the loop; each hub of a device has its own.
        self._ticks_since: float | None = None
        # Of each task that failed: when, how often in a row, and of what at last.
        self._failed: dict[str, tuple[float, int, str]] = {}

    def spawn(self, work: Coroutine[Any, Any, _T], name: str) -> asyncio.Task[_T]:
        """Start a task that may end; a failure nobody awaited is logged with its name."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def supervise(self, work: Callable[[], Awaitable[None]], name: str) -> asyncio.Task[None]:
        """Keep `work` running: when it fails it is restarted, with a back-off up to 30 s.

        A failure for want of memory or threads ends the hub's process: a restart would only fail in
        the same way.
        """
        return self.spawn(self._keep_running(work, name), name)

    def failing(self) -> dict[str, tuple[int, str]]:
        """Return the supervised tasks that keep failing, how often in a row and the last error."""
        recent = asyncio.get_running_loop().time() - _RESTART_MAX_S - _HEALTHY_AFTER_S
        self._failed = {name: each for name, each in self._failed.items() if each[0] > recent}
        return {
            name: (times, error)
            for name, (_at, times, error) in self._failed.items()
            if times >= _KEEPS_FAILING
        }

    def every(
        self, interval_s: float, work: Callable[[], Awaitable[None]], name: str
    ) -> asyncio.Task[None]:
        """Call `work` every `interval_s` seconds, starting about one interval from now.

        It is called at whole multiples of the interval: work whose intervals are multiples of each
        other shares its wake-ups.
        """

        async def beat() -> None:
            while True:
                await self._tick(interval_s)
                await work()

        return self.supervise(beat, name)

    def after(
        self,
        sign: asyncio.Event,
        work: Callable[[], Awaitable[None]],
        name: str,
        *,
        pause_s: float,
        at_least_every_s: float,
    ) -> asyncio.Task[None]:
        """Call `work` about `pause_s` after `sign` is set, and without it every so often."""

        async def follow() -> None:
            while True:
                await self._tick(at_least_every_s, sooner=sign)
                if sign.is_set():
                    await self._tick(pause_s)
                    # Before the work, which may be what sets it again.
                    sign.clear()
                await work()

        return self.supervise(follow, name)

    def when_due(
        self,
        left_s: Callable[[], float | None],
        work: Callable[[], Awaitable[None]],
        name: str,
        *,
        pause_s: float,
    ) -> asyncio.Event:
        """Call `work` when `left_s()` seconds are over, at most every `pause_s`; None is never.

        Set the event that is returned when the time may have come nearer.
        """
        nearer = asyncio.Event()

        async def watch() -> None:
            while True:
                nearer.clear()
                left = left_s()
                if left is None or left > 0:
                    await within(left, nearer.wait())
                else:
                    await work()
                    await asyncio.sleep(pause_s)

        self.supervise(watch, name)
        return nearer

    async def _tick(self, interval_s: float, sooner: asyncio.Event | None = None) -> None:
        """Sleep until the next multiple of an interval that is not too near, or until `sooner`."""
        loop = asyncio.get_running_loop()
        if self._ticks_since is None:
            self._ticks_since = loop.time()
        passed = (loop.time() - self._ticks_since) / interval_s
        due = self._ticks_since + (round(passed) + 1) * interval_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                await (sooner or asyncio.Event()).wait()

    async def stop(self, timeout_s: float) -> None:
        """Cancel every task and wait for them; name those that do not end in time."""
        self._stopping = True
        tasks = {task for task in self._tasks if task is not asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        for task in late:
            _LOGGER.warning("Task %s did not stop within %.1f s", task.get_name(), timeout_s)

    async def _keep_running(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._stopping:
            started = loop.time()
            try:
                await work()
            except StoreAwayError:
                # That is told where it was found, and no fault of the task.
                _LOGGER.debug("Task %s waits for the store", name)
                await asyncio.sleep(_STORE_AGAIN_S)
            except Exception as error:
                end_if_exhausted(error)
                if loop.time() - started > _HEALTHY_AFTER_S:
                    failures = 0
                backoff_s = back_off_s(_RESTART_FIRST_S, failures, _RESTART_MAX_S)
                _LOGGER.exception("Task %s failed; it restarts in %.1f s", name, backoff_s)
                failures += 1
                if len(self._failed) > _FAILED_MAX:
                    del self._failed[next(iter(self._failed))]
                self._failed[name] = loop.time(), failures, repr(error)
                await asyncio.sleep(backoff_s)
            else:
                return

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOGGER.error("Task %s failed: %s", task.get_name(), error, exc_info=error)
