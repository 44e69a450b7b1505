"""`ttl`: a job goes some time after its result was read, or after it ended if nobody read it."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import voluptuous as vol

from swarm_hub.core import Hub
from swarm_hub.helpers import config_validation as cv
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.storage import events, pruning

_LOGGER = logging.getLogger(__name__)

# Small rounds keep the writer free for jobs.
_JOBS_A_ROUND: Final = 20
_BLOBS_A_ROUND: Final = 100
_EVENTS_A_ROUND: Final = 2000
# A blob is put before the job that refers to it commits.
_BLOB_GRACE_S: Final = 60.0
# A crash between a file and its row leaves an orphan; looking for them reads the directory.
_SWEEP_EVERY_S: Final = 3600.0
_ORPHAN_AFTER_S: Final = 600.0

PLATFORM_SCHEMA: Final = {
    vol.Optional("completed_after", default=300): cv.duration,
    vol.Optional("unread_after", default="24h"): cv.duration,
}


def create(completed_after: float, unread_after: float) -> Callable[[Hub], Awaitable[None]]:
    """Return the collector; both in seconds."""
    swept_at: float | None = None

    async def collect(hub: Hub) -> None:
        nonlocal swept_at
        now = hub.clock.time()
        finished = await hub.store.read(
            pruning.prunable, now - completed_after, now - unread_after, _JOBS_A_ROUND
        )
        if finished:
            pruned = [
                NewEvent(EventType.JOB_PRUNED, {"job_id": job_id}, job_id) for job_id in finished
            ]
            await hub.store.commit(pruning.prune(finished, now), pruned)
            _LOGGER.info("Pruned %d finished jobs", len(finished))
        await _drop_blobs(hub, now - _BLOB_GRACE_S)
        # Events outlive the jobs they tell of by as long as an unread job would be kept.
        old = await hub.store.read(events.prune, now - unread_after, _EVENTS_A_ROUND)
        if old:
            await hub.store.commit(old)
        if swept_at is None or now - swept_at >= _SWEEP_EVERY_S:
            swept_at = now
            known = await hub.store.read(pruning.blob_files)
            await hub.store.blobs.sweep(known, _ORPHAN_AFTER_S)

    return collect


async def _drop_blobs(hub: Hub, unused_since: float) -> None:
    unused = await hub.store.read(pruning.unreferenced_blobs, unused_since, _BLOBS_A_ROUND)
    if unused:
        await hub.store.commit([pruning.drop_blobs(unused, unused_since)])
        await hub.store.blobs.remove_files(unused)
