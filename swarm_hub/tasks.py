"""Supervised background tasks: each has a name and an owner and is cancelled at stop."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from swarm_hub.util.back_off import back_off_s
from swarm_hub.util.exhaustion import end_if_exhausted

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

_RESTART_FIRST_S = 0.1
_RESTART_MAX_S = 30.0
# A task that ran this long before it failed is restarted with the shortest back-off.
_HEALTHY_AFTER_S = 60.0


class TaskSupervisor:
    """Owns every background task of a hub."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False

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

    def every(
        self, interval_s: float, work: Callable[[], Awaitable[None]], name: str
    ) -> asyncio.Task[None]:
        """Call `work` every `interval_s` seconds, starting one interval from now."""

        async def beat() -> None:
            while True:
                await asyncio.sleep(interval_s)
                await work()

        return self.supervise(beat, name)

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
            except Exception as error:
                end_if_exhausted(error)
                if loop.time() - started > _HEALTHY_AFTER_S:
                    failures = 0
                backoff_s = back_off_s(_RESTART_FIRST_S, failures, _RESTART_MAX_S)
                _LOGGER.exception("Task %s failed; it restarts in %.1f s", name, backoff_s)
                await asyncio.sleep(backoff_s)
                failures += 1
            else:
                return

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOGGER.error("Task %s failed: %s", task.get_name(), error, exc_info=error)
