"""A module that never ends fails soon with its reason, and holds nobody up meanwhile."""

import asyncio
from datetime import datetime
from typing import Any

from swarm_hub.client import SwarmClient
from tests.conftest import Swarm, until, up_nodes

Modules = dict[str, bytes]

WALL_S = 4.0
ENDLESS = {"split": "range", "reduce": "sum", "limits": {"wall_time": WALL_S}}


async def states(client: SwarmClient, job_id: str) -> list[str]:
    return [each["state"] for each in await client.shards(job_id)]


async def test_beside_an_endless_module_others_run_and_it_fails_with_its_reason(
    swarm: Swarm, modules: Modules
) -> None:
    """On the only slot there is."""
    gateway = await swarm.gateway()
    await swarm.worker("worker", extra="worker: {slots: 1, charging_only: false, min_battery: 0}\n")
    async with SwarmClient(gateway.url, gateway.token) as client:
        await until(lambda: up_nodes(client), lambda nodes: nodes == 1)
        # Shards that begin at 1 never end.
        endless = await client.submit(modules["maybe_endless"], range(1, 2), **ENDLESS)
        await until(lambda: states(client, endless), bool)
        small = client.map(modules["primes"], range(20_000))
        urgent = client.map(modules["count"], range(3), priority=100)
        assert await asyncio.gather(small, urgent) == [2262, 3]
        # It was held up by them, not ended.
        assert (await client.status(endless))["state"] == "running"
        end = await client.wait(endless)
        assert end["state"] == "failed"
        assert end["failures"][0].startswith(
            "it does not end: 3 attempts took all of their wall time of 4 s"
        )
        story = await client.story(endless)
    assigned = [each for each in story if each["event_type"] == "shard_assigned"]
    assert [each["data"]["attempt"] for each in assigned] == [1, 2, 3]
    at = {
        each["event_type"]: datetime.fromisoformat(each["time_fired"]).timestamp() for each in story
    }
    # Its time stood still while it gave way, so the attempts took their whole time.
    assert at["job_failed"] - at["job_running"] >= 3 * WALL_S


async def test_an_honest_shard_that_takes_long_counts_on_its_first_attempt(
    swarm: Swarm, modules: Modules
) -> None:
    """Its deadline passes long before its wall time; that would only start a copy elsewhere."""
    gateway = await swarm.gateway(extra="sla: {initial: 0.2}\n")
    await swarm.worker("one")
    async with SwarmClient(gateway.url, gateway.token) as client:
        await until(lambda: up_nodes(client), lambda nodes: nodes == 1)
        spec: dict[str, Any] = {"shard_size": 8000, "limits": {"wall_time": 60}}
        job_id = await client.submit(modules["spin"], range(8000), **spec)
        assert (await client.wait(job_id))["state"] == "completed"
        (shard,) = await client.shards(job_id)
        story = await client.story(job_id)
    (attempt,) = shard["attempts"]
    assert (attempt["attempt"], attempt["state"], attempt["reason"]) == (1, "finished", None)
    # It was given up in between.
    assert "shard_returned" in {each["event_type"] for each in story}
