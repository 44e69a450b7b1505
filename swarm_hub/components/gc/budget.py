"""`budget`: finished jobs stay for a while, unless the store takes too much of the disk.

The same goes for too many rows: what is looked up slows down with them.
"""

import logging
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import voluptuous as vol

from swarm_hub.components.gc.policy import EVENTS_KEPT_S, YOUNG_S
from swarm_hub.core import Hub
from swarm_hub.helpers import config_validation as cv
from swarm_hub.storage.queries import pruning
from swarm_hub.storage.queries.pruning import JobSize
from swarm_hub.util.bounds import shown
from swarm_hub.util.described import stands_for
from swarm_hub.util.units import format_size

_LOGGER = logging.getLogger(__name__)

_DISK_MIN_BYTES: Final = 1024 * 1024
# Measuring reads the tables of jobs and blobs, so it is done rarely and takes 2 % of a core at
# most; what is chosen meanwhile is subtracted.
_MEASURE_EVERY_S: Final = 60.0
_MEASURE_SHARE: Final = 50.0
# After this long a removed job's space is really free: its rows go in chunks, its files after two
# minutes.
_SETTLED_AFTER_S: Final = 180.0
# Of the volume that the store is on: a hub is not the only one that needs space there.
_VOLUME_SHARE: Final = 0.1


@stands_for(cv.size)
def _disk(value: Any) -> int:
    size_bytes = cv.size(value)
    if size_bytes < _DISK_MIN_BYTES:
        raise vol.Invalid(f"expected at least 1MiB, got {shown(value)}")
    return size_bytes


PLATFORM_SCHEMA: Final = {
    cv.Key("keep", default="7d", reloadable=True, field="keep_s"): cv.optional(cv.duration),
    cv.Key("disk", default="2GiB", reloadable=True, field="disk_bytes"): _disk,
    cv.Key("rows", default=1_000_000, reloadable=True): cv.integer(1, 10**12),
}


class Budget:
    """Chooses by the time since a job ended, and by what space and how many rows the store takes.

    A job's events go with it: they may be as large as all its other rows.
    """

    events_kept_s = EVENTS_KEPT_S
    job_events_kept_s = 0.0

    def __init__(self, keep_s: float | None, disk_bytes: int, rows: int) -> None:
        self._keep_s = keep_s
        self._disk_bytes = disk_bytes
        self._rows = rows
        self._told_of_volume = False
        self._measure_at = float("-inf")
        self._used_bytes = 0
        # The excess, according to the last measurement and the choices since.
        self._surplus_bytes = 0
        self._surplus_rows = 0
        # (when, bytes) of what was chosen but may still have been on the disk when it was measured.
        self._leaving: deque[tuple[float, int]] = deque()
        # What a shared store took when jobs were last chosen: it does not shrink when rows go.
        self._acted_at_bytes = 0

    async def choose(self, hub: Hub, limit: int) -> Sequence[str]:
        """Return jobs that are to go now."""
        now = hub.clock.time()
        if self._keep_s is not None:
            expired = await hub.store.ask(pruning.ended, now - max(self._keep_s, YOUNG_S), limit)
            if expired:
                return [self._leave(hub, job) for job in expired]
        if hub.clock.monotonic() >= self._measure_at:
            await self._measure(hub)
        if self._surplus_bytes <= 0 and self._surplus_rows <= 0:
            return []
        chosen: list[str] = []
        for job in await hub.store.read(pruning.oldest, now - YOUNG_S, limit):
            if self._surplus_bytes <= 0 and self._surplus_rows <= 0:
                break
            if self._surplus_bytes > 0:
                self._acted_at_bytes = self._used_bytes
            chosen.append(self._leave(hub, job))
        return chosen

    def _leave(self, hub: Hub, job: JobSize) -> str:
        """Count a job as gone; returns its id."""
        self._surplus_bytes -= job.size_bytes
        self._surplus_rows -= job.rows
        at, leaving_bytes = self._leaving.pop() if self._leaving else (hub.clock.monotonic(), 0)
        self._leaving.append((at, leaving_bytes + job.size_bytes))
        return job.job_id

    async def _measure(self, hub: Hub) -> None:
        began = hub.clock.monotonic()
        self._used_bytes = await hub.store.disk_bytes()
        rows = await hub.store.read(pruning.rows_of_finished)
        now = hub.clock.monotonic()
        self._measure_at = now + max(_MEASURE_EVERY_S, _MEASURE_SHARE * (now - began))
        while self._leaving and self._leaving[0][0] <= now - _SETTLED_AFTER_S:
            self._leaving.popleft()
        leaving_bytes = sum(size_bytes for _, size_bytes in self._leaving)
        self._leaving.append((now, 0))
        self._surplus_rows = rows - self._rows
        allowed_bytes = await self._allowed_bytes(hub)
        self._surplus_bytes = self._used_bytes - leaving_bytes - allowed_bytes
        if hub.store.shared and self._used_bytes <= self._acted_at_bytes:
            self._surplus_bytes = 0

    async def _allowed_bytes(self, hub: Hub) -> int:
        """Return how much the store may take: what is configured, or a share of its volume."""
        volume_bytes = await hub.store.volume_bytes()
        if volume_bytes is None:
            return self._disk_bytes
        share_bytes = int(volume_bytes * _VOLUME_SHARE)
        if share_bytes < self._disk_bytes and not self._told_of_volume:
            self._told_of_volume = True
            _LOGGER.info(
                "The store may take %s, which is %.0f %% of its volume, instead of gc: disk (%s)",
                format_size(share_bytes), _VOLUME_SHARE * 100, format_size(self._disk_bytes),
            )  # fmt: skip
        return min(share_bytes, self._disk_bytes)


def create(keep_s: float | None, disk_bytes: int, rows: int) -> Budget:
    """Return the policy."""
    return Budget(keep_s, disk_bytes, rows)
