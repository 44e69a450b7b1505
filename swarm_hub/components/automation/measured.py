"""The values that thresholds compare: of the gateway's nodes and jobs, and of the disk."""

import asyncio
from collections.abc import Mapping
from typing import Final

from swarm_hub.components.gateway import FLEET, JOB_METRICS
from swarm_hub.core import Hub
from swarm_hub.util.files import free_at

VALUES: Final = (
    "nodes_up", "nodes_working", "slots", "queue_shards", "jobs_queued", "jobs_running",
    "disk_free",
)  # fmt: skip


async def measure(hub: Hub) -> Mapping[str, float]:
    """Return what the values are now."""
    activity = hub.services[FLEET].activity()
    unfinished = hub.services[JOB_METRICS].unfinished()
    return {
        "nodes_up": activity.up,
        "nodes_working": activity.working,
        "slots": activity.slots,
        "queue_shards": unfinished.shards_queued,
        "jobs_queued": unfinished.queued,
        "jobs_running": unfinished.running,
        "disk_free": await asyncio.to_thread(free_at, hub.config_dir),
    }
