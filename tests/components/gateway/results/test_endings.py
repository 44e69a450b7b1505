"""A job that has ended says what it got done, whichever way it ended."""

from typing import Any

import pytest

from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]


async def done(gateway: RunningHub, job_id: str) -> tuple[int, int]:
    """Return how many shards and items of a job are in shards that are done."""
    _, found = await call(gateway, "GET", f"/jobs/{job_id}/shards")
    sizes = [shard["n_items"] for shard in found["shards"] if shard["state"] == "done"]
    return len(sizes), sum(sizes)


async def told(gateway: RunningHub, job_id: str) -> list[tuple[int, int]]:
    """Return the progress of a job as its status and the list of all jobs tell it."""
    _, status = await call(gateway, "GET", f"/jobs/{job_id}")
    _, page = await call(gateway, "GET", "/jobs")
    (listed,) = [job for job in page["jobs"] if job["job_id"] == job_id]
    return [
        (each["progress"]["shards_done"], each["progress"]["items_done"])
        for each in (status, listed)
    ]


async def test_a_failed_job_keeps_its_progress(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    _, body = await submit(gateway, modules["unlucky"], b"0:8", {"shard_size": 1})
    status = await finished(gateway, body["job_id"])
    assert (status["state"], status["progress"]["items_done"]) == ("failed", 7)
    assert await told(gateway, body["job_id"]) == [(7, 7), (7, 7)]
    await swarm.stop(gateway)
    assert await told(await swarm.gateway(), body["job_id"]) == [(7, 7), (7, 7)]


async def test_a_cancelled_job_keeps_its_progress(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    _, body = await submit(gateway, modules["spin"], b"0:100000", {"shard_size": 50})
    job_id = body["job_id"]

    async def progress() -> Any:
        return (await call(gateway, "GET", f"/jobs/{job_id}"))[1]["progress"]

    before = await until(progress, lambda found: found["shards_done"] >= 2)
    _, status = await call(gateway, "DELETE", f"/jobs/{job_id}")
    assert status["state"] == "cancelled"
    assert status["progress"]["shards_done"] >= before["shards_done"]
    shards, items = await done(gateway, job_id)
    assert items == 50 * shards
    assert await told(gateway, job_id) == [(shards, items)] * 2


@pytest.mark.parametrize("reduce", ["sum", "list"])
async def test_a_completed_job_has_done_everything(
    swarm: Swarm, modules: Modules, reduce: str
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    spec = {"shard_size": 30, "reduce": reduce}
    _, body = await submit(gateway, modules["count"], b"0:100", spec)
    await finished(gateway, body["job_id"])
    assert await told(gateway, body["job_id"]) == [(4, 100), (4, 100)]


async def test_a_job_whose_results_can_not_be_folded_has_done_its_items_all_the_same(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    spec = {"split": "lines", "reduce": "sum", "shard_size": 1}
    _, body = await submit(gateway, modules["echo"], b"1\nno number\n3\n", spec)
    status = await finished(gateway, body["job_id"])
    assert status["state"] == "failed"
    assert await told(gateway, body["job_id"]) == [(3, 3), (3, 3)]


async def test_a_job_that_was_cancelled_before_anything_was_done_has_done_nothing(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    _, body = await submit(gateway, modules["count"], b"0:100")
    await call(gateway, "DELETE", f"/jobs/{body['job_id']}")
    assert await told(gateway, body["job_id"]) == [(0, 0), (0, 0)]
