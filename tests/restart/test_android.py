"""Hubs as Android treats them: killed without a warning, again and again, in the middle of work."""

import asyncio
import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient, UnreachableError
from tests.conftest import until
from tests.helpers.invariants import broken_gateway, broken_worker, undelivered

# Two hundred starts.
pytestmark = pytest.mark.usefixtures("warm_hubs")

# A later run can be given the seed that a failure printed.
SEED = int(os.environ.get("SWARM_HUB_TEST_SEED") or int.from_bytes(os.urandom(4), "big"))
# A hub that is forked (tests/helpers/warm.py) needs 0.1 to 0.2 s to be ready, so kills strike it
# while it opens its store, while it greets, and at work.
LIFE_S = (0.02, 0.3)
ITEMS_A_SHARD = 10  # `spin` needs some ten milliseconds for them
SPEC: dict[str, Any] = {"shard_size": ITEMS_A_SHARD, "reduce": "sum"}
# script/nightly has those, script/test fewer.
WORKER_KILLS = [14, pytest.param(50, marks=pytest.mark.nightly)]
# Every so many lives comes as far as working; the others end where they happen to be.
AT_WORK_EVERY = 7
# More than each of those lives can do.
WORKER_SHARDS_A_KILL = 24
SWARM_KILLS = [36, pytest.param(100, marks=pytest.mark.nightly)]
SWARM_WORKERS = 6
# More than the swarm can do while it is killed.
SWARM_SHARDS_A_KILL = 5
# Of the kills one in so many strikes the gateway, and one in so many a worker that had the time
# to work; most strike one that was started a moment ago.
GATEWAY_EVERY = 12
ELDER_EVERY = 8
N_ELDERS = 2
DONE_WITHIN_S = 60.0


def database_of(hub: LocalHub) -> Path:
    return hub.folder / "swarm_hub.db"


async def assert_counted_once(
    client: SwarmClient, gateway: LocalHub, workers: list[LocalHub], jobs: Mapping[str, int]
) -> None:
    """Wait for every job; nothing is lost, nothing is counted twice."""
    for job_id, n_items in jobs.items():
        async with asyncio.timeout(DONE_WITHIN_S):
            status = await client.wait(job_id)
        found = (status["state"], status["result"])
        assert found == ("completed", n_items), f"seed {SEED}: {status}"

    async def left() -> int:
        return await asyncio.to_thread(undelivered, map(database_of, workers))

    await until(left, lambda count: count == 0, 40)
    broken = broken_gateway(database_of(gateway), jobs)
    broken += [each for worker in workers for each in broken_worker(database_of(worker))]
    assert broken == [], f"seed {SEED}"


async def shards_done(client: SwarmClient, jobs: Mapping[str, int]) -> int | None:
    """Return how many shards of all jobs are done; None while the gateway starts."""
    try:
        found = [(await client.status(job_id))["progress"]["shards_done"] for job_id in jobs]
    except UnreachableError:
        return None
    return sum(found)


# Beside other tests a start takes several times as long.
@pytest.mark.timeout(240)
@pytest.mark.parametrize("n_kills", WORKER_KILLS)
async def test_a_phone_that_is_killed_again_and_again_during_a_job_finishes_it(
    local: LocalSwarm, modules: dict[str, bytes], n_kills: int
) -> None:
    """Killed soon after it was seen working, or, as Android may, while it starts."""
    rng = random.Random(SEED)
    gateway = local.start_gateway()
    phone = local.start_worker("phone", gateway)
    started = time.monotonic()
    kills = kills_at_work = 0
    async with SwarmClient(gateway.url, gateway.token) as client:
        await local.wait_for_workers(client, 1)
        n_shards = WORKER_SHARDS_A_KILL * n_kills
        n_items = n_shards * ITEMS_A_SHARD
        job_id = await client.submit(modules["spin"], range(n_items), **SPEC)

        async def at_work() -> bool:
            (node,) = await client.nodes()
            return bool(node["state"] == "up" and node["assignments"])

        while kills < n_kills:
            if kills % AT_WORK_EVERY == 0:
                await until(at_work, bool, 30)
                kills_at_work += 1
            await asyncio.sleep(rng.uniform(*LIFE_S))
            phone.kill()
            kills += 1
            phone.start()
        assert (await client.status(job_id))["state"] == "running", "the job was too small"
        await assert_counted_once(client, gateway, [phone], {job_id: n_items})
        retries = (await client.status(job_id))["progress"]["retries"]
    total_s = time.monotonic() - started
    print(
        f"\nseed {SEED}: {kills} kills of one worker ({kills_at_work} at work), 1 job of "
        f"{n_shards} shards, {retries} retries, 0 lost, 0 double, {total_s:.0f} s"
    )


@pytest.mark.timeout(240)
@pytest.mark.parametrize("n_kills", SWARM_KILLS)
async def test_many_kills_of_gateway_and_workers_lose_and_double_nothing(
    local: LocalSwarm, modules: dict[str, bytes], n_kills: int
) -> None:
    rng = random.Random(SEED)
    gateway = local.start_gateway()
    workers = [local.start_worker(f"phone-{number}", gateway) for number in range(SWARM_WORKERS)]
    n_shards = SWARM_SHARDS_A_KILL * n_kills
    n_items = n_shards * ITEMS_A_SHARD
    jobs: dict[str, int] = {}
    kills = gateway_kills = 0
    async with SwarmClient(gateway.url, gateway.token) as client:
        await local.wait_for_workers(client, SWARM_WORKERS)
        started = time.monotonic()

        async def submitted(number: int) -> None:
            """Submit under one key until there is an answer, as a careful client does."""
            while True:
                try:
                    job_id = await client.submit(
                        modules["spin"], range(n_items), idempotency_key=f"job-{number}", **SPEC
                    )
                except UnreachableError:
                    await asyncio.sleep(0.05)
                else:
                    jobs[job_id] = n_items
                    return

        submitting = [asyncio.create_task(submitted(number)) for number in range(3)]
        while kills < n_kills:
            if kills % GATEWAY_EVERY == GATEWAY_EVERY - 1:
                victim, gateway_kills = gateway, gateway_kills + 1
            elif kills % ELDER_EVERY == 0:
                victim = workers[kills // ELDER_EVERY % N_ELDERS]
            else:
                victim = rng.choice(workers[N_ELDERS:])
            await asyncio.sleep(rng.uniform(*LIFE_S))
            victim.kill()
            victim.start()
            kills += 1
        killing_s = time.monotonic() - started
        await asyncio.gather(*submitting)
        done = await until(lambda: shards_done(client, jobs), lambda done: done is not None)
        await assert_counted_once(client, gateway, workers, jobs)
    total_s = time.monotonic() - started
    print(
        f"\nseed {SEED}: {kills} kills ({gateway_kills} of the gateway) in {killing_s:.0f} s, "
        f"{len(jobs)} jobs of {n_shards} shards, {done} done by then, 0 lost, 0 double, "
        f"{total_s:.0f} s"
    )
    assert killing_s < DONE_WITHIN_S
