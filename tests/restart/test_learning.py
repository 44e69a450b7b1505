"""A client that knows one of three gateways follows a job while that one and the next are lost."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.cli.swarm import LocalHub
from swarm_hub.client import AsyncSwarm
from tests.conftest import until
from tests.helpers.postgres import PostgresServer
from tests.helpers.swarms import local_swarm

pytestmark = [
    pytest.mark.timeout(300), pytest.mark.nightly, pytest.mark.usefixtures("warm_hubs"),
]  # fmt: skip
N_SHARDS, ITEMS_A_SHARD = 60, 200
SPEC: dict[str, Any] = {"reduce": "sum", "shard_size": ITEMS_A_SHARD}
FROZEN_S, SLACK_S = 10.0, 5.0


@pytest.fixture
async def hubs(tmp_path: Path, postgres_url: str) -> AsyncIterator[list[LocalHub]]:
    swarm = local_swarm(tmp_path)
    extra = f"storage: {{url: '{postgres_url}'}}\n"
    made = [swarm.start_gateway(name, extra) for name in ("first", "second", "third")]
    for name in ("amber", "birch"):
        swarm.start_worker(name, *made)
    try:
        for hub in made:
            # The token of one is good at each.
            async with AsyncSwarm(hub.url, made[0].token) as client:
                await swarm.wait_for_workers(client, 2)
        yield made
    finally:
        for hub in made:
            if hub.process is not None and hub.process.poll() is None:
                os.kill(hub.pid, signal.SIGCONT)
        await asyncio.to_thread(swarm.stop)


async def test_a_job_is_followed_from_one_address_through_two_losses(
    hubs: list[LocalHub], modules: dict[str, bytes], postgres_server: PostgresServer,
    postgres_url: str,
) -> None:  # fmt: skip
    first, second, _ = hubs
    items = range(N_SHARDS * ITEMS_A_SHARD)
    async with AsyncSwarm(first.url, first.token) as client:
        seen: list[int] = []

        async def events() -> None:
            async for event in client.events(since=0):
                if "seq" in event:
                    seen.append(event["seq"])
                if event.event_type == "job_completed":
                    return

        waiting = [asyncio.create_task(events())]
        job = await client.submit(modules["spin"], items, idempotency_key="k", **SPEC)
        waiting += [
            asyncio.create_task(job.result(timeout=200)),
            asyncio.create_task(client.map(modules["spin"], items, idempotency_key="k", **SPEC)),
        ]

        async def known() -> int:
            return len(client._hub)

        await until(known, lambda count: count == 3, 60)

        async def done() -> int:
            return (await client.status(job)).progress.shards_done

        for lost, how in ((first, signal.SIGKILL), (second, signal.SIGSTOP)):
            before = await done()
            await until(done, lambda count, least=before + 3: count >= least, 60)
            os.kill(lost.pid, how)
            began = time.monotonic()
            await client.health()
            left_s = time.monotonic() - began
            print(f"{how.name}: answered by another after {left_s:.2f} s")
            assert left_s < FROZEN_S + SLACK_S
        _, result, mapped = await asyncio.gather(*waiting)
        assert result == mapped == len(items)
    assert seen == list(range(1, len(seen) + 1))
    with postgres_server.connect(postgres_url.rpartition("/")[2]) as database:
        assert database.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
        rows = database.execute("SELECT idx FROM results WHERE job_id = %s", [job.id])
        assert Counter(index for (index,) in rows) == Counter(range(N_SHARDS))
