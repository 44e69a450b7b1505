"""A worker that was told of one gateway joins the others of its store by itself, and keeps them."""

import asyncio
from pathlib import Path

import pytest

from swarm_hub.client import SwarmClient
from tests.conftest import until
from tests.helpers.swarms import local_swarm

pytestmark = [
    pytest.mark.timeout(180), pytest.mark.nightly, pytest.mark.usefixtures("warm_hubs"),
]  # fmt: skip


async def test_it_works_for_the_second_when_the_first_is_killed_and_after_its_own_restart(
    tmp_path: Path, postgres_url: str, modules: dict[str, bytes]
) -> None:
    swarm = local_swarm(tmp_path)
    extra = f"storage: {{url: '{postgres_url}'}}\n"
    first, second = (swarm.start_gateway(name, extra) for name in ("first", "second"))
    worker = swarm.start_worker("amber", first)
    spec = {"abi": "range", "split": "range", "reduce": "sum"}
    (tmp_path / "primes.wasm").write_bytes(modules["primes"])
    try:
        async with SwarmClient(second.url, second.token) as client:
            await swarm.wait_for_workers(client, 1)
            first.kill()
            job = await client.submit(tmp_path / "primes.wasm", b"0 100\n", **spec)
            assert (await client.wait(job, timeout=60)).state == "completed"
            assert await client.result(job) == b"25"
            # It is all that leads there: its configuration names the first alone.
            worker.kill()

            async def up() -> int:
                return sum(node["state"] == "up" for node in await client.nodes())

            await until(up, lambda count: count == 0, 30)
            worker.start()
            await until(up, lambda count: count == 1, 30)
    finally:
        await asyncio.to_thread(swarm.stop)
