"""A map of 10,000 items whose worker and gateway are killed gives what plain Python gives."""

import asyncio
import shutil
from pathlib import Path

import pytest

from swarm_hub.cli.swarm import LocalSwarm
from swarm_hub.client import SwarmClient, UnreachableError
from tests.client.functions import job
from tests.conftest import until
from tests.helpers.runtimes import PYTHON, give, prepared

pytestmark = [pytest.mark.usefixtures("warm_hubs"), pytest.mark.nightly]
N_ITEMS = 10_000


async def test_a_map_survives_the_deaths_of_a_worker_and_of_the_gateway(
    local: LocalSwarm, tmp_path: Path
) -> None:
    ahead = await prepared("python", tmp_path)
    gateway = local.start_gateway(extra=PYTHON)
    workers = [local.start_worker(f"worker-{number}", gateway) for number in range(2)]
    for worker in workers:
        # It begins with what was compiled.
        worker.kill()
        shutil.rmtree(worker.folder / ".storage" / "wasm-cache" / "ahead", ignore_errors=True)
        give(ahead, worker.folder)
        worker.start()
    async with SwarmClient(gateway.url, gateway.token) as client:
        await local.wait_for_workers(client, 2)
        submitted = await client.submit(job.scaled, range(N_ITEMS), shard_size=100)

        async def done() -> int:
            try:
                return (await client.status(submitted)).progress.shards_done
            except UnreachableError:
                return -1

        await until(done, lambda count: count >= 2)
        workers[0].kill()
        gateway.kill()
        gateway.start()
        async with asyncio.timeout(90):
            found = await client.job(submitted).result()
        assert found == [job.scaled(item) for item in range(N_ITEMS)]
