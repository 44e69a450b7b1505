"""A shard of which the worker's own process dies, in real processes."""

import asyncio
from pathlib import Path

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.components.worker.deaths import RUNNING_FILE
from swarm_hub.const import STORAGE_DIR
from tests.conftest import until
from tests.restart.swarms import started


def running_on(worker: LocalHub) -> Path:
    return worker.folder / STORAGE_DIR / RUNNING_FILE


async def killed_while_it_runs(worker: LocalHub) -> None:
    """Kill a worker once a shard has begun there, and start it again."""

    async def noted() -> bytes:
        path = running_on(worker)
        return path.read_bytes().rstrip(b"\0") if path.exists() else b""

    async def lives() -> int:
        return (worker.folder / "hub.log").read_text().count("is ready")

    await until(noted, bool, 60)
    before = await lives()
    worker.kill()
    worker.start()
    # By then it has counted what is in the file, and emptied it.
    await until(lives, lambda found: found > before, 60)


async def test_a_shard_of_which_the_worker_dies_three_times_is_told_to_its_gateway(
    local: LocalSwarm, modules: dict[str, bytes]
) -> None:
    _, (worker,), client = await started(local, 1)
    async with client:
        job_id = await client.submit(modules["maybe_endless"], range(1, 2))
        for _ in range(3):
            await killed_while_it_runs(worker)

        async def texts() -> str:
            return str(await client.status(job_id))

        await until(
            texts, lambda found: "the worker died three times while it ran this" in found, 60
        )
        await client.cancel(job_id)


async def test_shards_that_happened_to_run_when_a_worker_was_killed_are_done(
    local: LocalSwarm, modules: dict[str, bytes]
) -> None:
    _, (worker,), client = await started(local, 1)
    async with client:
        # Some tenths of a second each: in two lives of the worker the same may run, in three not.
        job_id = await client.submit(modules["spin"], range(9 * 500), shard_size=500, reduce="sum")
        done = 0
        for _ in range(4):
            await killed_while_it_runs(worker)

            async def more(before: int = done) -> bool:
                now = (await client.status(job_id))["progress"]["shards_done"]
                return bool(now > before)

            await until(more, bool, 60)
            done = (await client.status(job_id))["progress"]["shards_done"]
        async with asyncio.timeout(60):
            status = await client.wait(job_id)
        assert (status["state"], status["result"]) == ("completed", 9 * 500), status
        assert "the worker died" not in str(status)
