"""Jobs for the labs, and what must hold of them at the end."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any

import psutil

from swarm_hub.client import SwarmClient, UnreachableError
from tests.conftest import until
from tests.helpers.invariants import broken_gateway, broken_worker, undelivered
from tests.helpers.promises import look
from tests.networks.lab import Lab, NetworkHub

START_TIMEOUT_S = 120.0


async def listening(hub: NetworkHub) -> None:
    """Wait until a hub's mesh is up."""

    async def log() -> str:
        return hub.log()

    await until(log, lambda text: "Listening on" in text, START_TIMEOUT_S)


async def started(lab: Lab, gateway: NetworkHub, *workers: NetworkHub) -> SwarmClient:
    """Start a gateway, then its workers; returns a client when they are connected."""
    gateway.start()
    await listening(gateway)
    for worker in workers:
        worker.start()
    client = await lab.client(gateway)
    await up(client, *workers)
    return client


async def up(client: SwarmClient, *workers: NetworkHub, within_s: float = START_TIMEOUT_S) -> None:
    """Wait until these workers are connected."""
    wanted = {worker.peer_id for worker in workers}

    async def seen() -> set[str]:
        return await in_state(client, "up")

    await until(seen, lambda found: wanted <= found, within_s)


async def down(client: SwarmClient, worker: NetworkHub, within_s: float) -> None:
    """Wait until a worker is taken for gone."""
    await until(lambda: in_state(client, "down"), lambda found: worker.peer_id in found, within_s)


async def in_state(client: SwarmClient, state: str) -> set[str]:
    """Return the nodes in a state; none while the gateway does not answer."""
    try:
        return {node["node_id"] for node in await client.nodes() if node["state"] == state}
    except UnreachableError:
        return set()


async def shards_done(client: SwarmClient, job_id: str) -> int:
    """Return how many shards of a job are done."""
    return int((await client.status(job_id))["progress"]["shards_done"])


async def shards_in_inbox(worker: NetworkHub, job_id: str) -> list[int]:
    """Return the shards of a job that a worker has on its disk and has not finished."""

    def read() -> list[int]:
        with closing(look(worker.database)) as database:
            rows = database.execute("SELECT assignment_id FROM inbox").fetchall()
        ids = [assignment_id.split(".") for (assignment_id,) in rows]
        return [int(index) for job, index, *_ in ids if job == job_id]

    return await asyncio.to_thread(read)


async def computing(worker: NetworkHub) -> None:
    """Wait until a worker's sandbox is in the middle of a shard."""

    first_seen_s: dict[int, float] = {}

    async def busiest_s() -> float:
        """Return the most CPU time that one child used since this began to look."""
        most = 0.0
        for child in psutil.Process(worker.pid).children(recursive=True):
            # The sandbox keeps spare children, and ends them.
            with suppress(psutil.NoSuchProcess):
                used_s = sum(child.cpu_times()[:2])
                most = max(most, used_s - first_seen_s.setdefault(child.pid, used_s))
        return most

    await until(busiest_s, lambda most: most > 0.2)


async def attempts(client: SwarmClient, job_id: str, index: int) -> list[tuple[str, str]]:
    """Return (node, state) of each attempt at a shard."""
    shard = next(each for each in await client.shards(job_id) if each["index"] == index)
    return [(attempt["node_id"], attempt["state"]) for attempt in shard["attempts"]]


async def completed(client: SwarmClient, job_id: str, n_items: int, within_s: float = 60) -> None:
    """Wait for a job that counts its items; its result is their number."""
    async with asyncio.timeout(within_s):
        status = await client.wait(job_id)
    assert (status["state"], status["result"]) == ("completed", n_items), status


async def nothing_lost_or_doubled(
    gateway: NetworkHub, jobs: dict[str, int], workers: Sequence[NetworkHub]
) -> None:
    """Check the stores: each job once, each shard once, and nothing waits to be delivered."""

    async def left() -> int:
        return await asyncio.to_thread(undelivered, [worker.database for worker in workers])

    await until(left, lambda count: count == 0, 30)
    assert broken_gateway(gateway.database, jobs) == []
    for worker in workers:
        assert broken_worker(worker.database) == []


async def finished_by(client: SwarmClient, job_id: str) -> Counter[str]:
    """Count the attempts that gave the results of a job, by node."""
    return Counter(
        attempt["node_id"]
        for shard in await client.shards(job_id)
        for attempt in shard["attempts"]
        if attempt["state"] == "finished"
    )


def spin(seconds: float) -> dict[str, Any]:
    """Return the spec of shards that take about that long, of the module `spin`."""
    return {"shard_size": max(1, round(seconds * 1400)), "reduce": "sum"}
