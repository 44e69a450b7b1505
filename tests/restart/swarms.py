"""A gateway and workers as processes, and what the gateway stored of a job."""

import sqlite3
from collections import Counter
from contextlib import closing

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient


async def started(
    local: LocalSwarm, workers: int, extra: str = ""
) -> tuple[LocalHub, list[LocalHub], SwarmClient]:
    """Return a gateway, its workers and a client that is not entered yet."""
    gateway = local.start_gateway(extra=extra)
    made = [local.start_worker(f"worker-{number}", gateway) for number in range(workers)]
    client = SwarmClient(gateway.url, gateway.token)
    async with client:
        await local.wait_for_workers(client, workers)
    return gateway, made, client


def results_of(hub: LocalHub, job_id: str) -> Counter[int]:
    """Count the results a gateway stored, by shard."""
    with closing(sqlite3.connect(hub.folder / "swarm_hub.db")) as database:
        rows = database.execute("SELECT idx FROM results WHERE job_id = ?", (job_id,))
        return Counter(index for (index,) in rows)
