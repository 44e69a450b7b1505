"""A client of two gateways on one PostgreSQL sees a job through while one is killed or frozen."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import AsyncSwarm
from tests.conftest import until
from tests.helpers.postgres import PostgresServer
from tests.helpers.swarms import local_swarm

pytestmark = [
    pytest.mark.timeout(300), pytest.mark.nightly, pytest.mark.usefixtures("warm_hubs"),
]  # fmt: skip
N_SHARDS = 40
ITEMS_A_SHARD = 150
SPEC: dict[str, Any] = {"shard_size": ITEMS_A_SHARD, "reduce": "sum"}
# What the client may take to leave a gateway, and a busy machine for the rest.
DEAD_S, FROZEN_S, SLACK_S = 3.0, 10.0, 5.0


@pytest.fixture
async def hubs(
    tmp_path: Path, postgres_url: str
) -> AsyncIterator[tuple[LocalSwarm, LocalHub, LocalHub]]:
    swarm = local_swarm(tmp_path)
    extra = f"storage: {{url: '{postgres_url}'}}\n"
    first, second = (swarm.start_gateway(name, extra) for name in ("first", "second"))
    for name in ("amber", "birch"):
        swarm.start_worker(name, first, second)
    try:
        for hub in (first, second):
            async with AsyncSwarm(hub.url, hub.token) as client:
                await swarm.wait_for_workers(client, 2)
        yield swarm, first, second
    finally:
        for hub in (first, second):
            if hub.process is not None and hub.process.poll() is None:
                os.kill(hub.pid, signal.SIGCONT)
        await asyncio.to_thread(swarm.stop)


async def under_way(client: AsyncSwarm, job_id: str) -> None:
    async def done() -> int:
        return (await client.status(job_id)).progress.shards_done

    await until(done, lambda count: count >= 3, 60)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_map_results_and_progress_go_on_with_the_other_gateway(
    hubs: tuple[LocalSwarm, LocalHub, LocalHub], modules: dict[str, bytes], how: signal.Signals,
    postgres_server: PostgresServer, postgres_url: str,
) -> None:  # fmt: skip
    _, first, second = hubs
    items = range(N_SHARDS * ITEMS_A_SHARD)
    async with AsyncSwarm({first.url: first.token, second.url: second.token}) as client:
        told: list[int] = []
        job = await client.submit(modules["spin"], items, **SPEC)
        waiting = [
            asyncio.create_task(job.result(timeout=120)),
            asyncio.create_task(
                client.wait(job.id, progress=lambda status: told.append(status.progress.items_done))
            ),
            asyncio.create_task(_values(client, job.id)),
            asyncio.create_task(client.map(modules["spin"], items, timeout=120, **SPEC)),
        ]
        await under_way(client, job)
        os.kill(first.pid, how)
        began = time.monotonic()
        # Whatever is asked now is answered by the other.
        assert (await client.status(job)).job_id == job
        left_s = time.monotonic() - began
        print(f"left after {left_s:.2f} s ({how.name})")
        assert left_s < (DEAD_S if how is signal.SIGKILL else FROZEN_S) + SLACK_S
        again = await client.submit(modules["primes"], range(100), reduce="sum")
        assert await again.result(timeout=120) == 25
        result, status, values, mapped = await asyncio.gather(*waiting)
    assert result == mapped == len(items)
    assert status.state == "completed"
    assert told == sorted(told)
    assert told[-1] == len(items)
    assert Counter(values) == Counter(range(N_SHARDS))
    with postgres_server.connect(postgres_url.rpartition("/")[2]) as database:
        rows = database.execute("SELECT idx FROM results WHERE job_id = %s", [job.id])
        assert Counter(index for (index,) in rows) == Counter(range(N_SHARDS))
        # Three jobs were wanted, and there are three.
        assert database.execute("SELECT count(*) FROM jobs").fetchone() == (3,)


async def _values(client: AsyncSwarm, job_id: str) -> list[int]:
    found = [each async for each in client.results(job_id)]
    assert sum(each.value for each in found) == N_SHARDS * ITEMS_A_SHARD
    return [each.index for each in found]


async def test_many_submissions_while_gateways_die_are_one_job_each(
    hubs: tuple[LocalSwarm, LocalHub, LocalHub], modules: dict[str, bytes],
    postgres_server: PostgresServer, postgres_url: str,
) -> None:  # fmt: skip
    _, first, second = hubs
    async with AsyncSwarm([first.url, second.url], [first.token, second.token]) as client:
        await client.health()

        async def submit(number: int) -> str:
            return await client.submit(modules["primes"], range(number + 1), reduce="sum")

        submitting = [asyncio.create_task(submit(number)) for number in range(60)]
        await asyncio.wait(submitting, return_when=asyncio.FIRST_COMPLETED)
        first.kill()
        first.start()
        jobs = await asyncio.gather(*submitting)
        assert len(set(jobs)) == 60
        async with asyncio.timeout(120):
            await client.gather(*jobs)
    with postgres_server.connect(postgres_url.rpartition("/")[2]) as database:
        assert database.execute("SELECT count(*) FROM jobs").fetchone() == (60,)


async def test_one_gateway_that_restarts_keeps_results_and_progress_going(
    tmp_path: Path, modules: dict[str, bytes]
) -> None:
    swarm = local_swarm(tmp_path)
    gateway = swarm.start_gateway()
    swarm.start_worker("amber", gateway)
    try:
        async with AsyncSwarm(gateway.url, gateway.token) as client:
            await swarm.wait_for_workers(client, 1)
            job = await client.submit(modules["spin"], range(20 * ITEMS_A_SHARD), **SPEC)
            collecting = asyncio.create_task(_indexes(client, job))
            waiting = asyncio.create_task(client.wait(job, progress=lambda status: None))
            await under_way(client, job)
            gateway.kill()
            gateway.start()
            # A client that died has all of them, too.
            assert sorted(await _indexes(client, job.id)) == list(range(20))
            assert sorted(await collecting) == list(range(20))
            assert (await waiting).result == 20 * ITEMS_A_SHARD
    finally:
        await asyncio.to_thread(swarm.stop)


async def _indexes(client: AsyncSwarm, job_id: str) -> list[int]:
    return [each.index async for each in client.results(job_id)]
