"""A job that has just ended is described from memory, and not otherwise than from the store."""

from typing import Any

import pytest

from swarm_hub.components.gateway import JOBS
from swarm_hub.components.gateway.results.recent_jobs import RecentJobs
from swarm_hub.storage import Write
from swarm_hub.storage.queries import jobs, overview
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]


def recent(gateway: RunningHub) -> RecentJobs:
    return gateway.hub.services[JOBS]._dispatcher.recent


async def run(gateway: RunningHub, module: bytes, spec: Any) -> str:
    _, body = await submit(gateway, module, b"0:100", spec)
    assert (await finished(gateway, body["job_id"]))["result"] == 25
    return str(body["job_id"])


async def test_memory_and_store_say_the_same(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    await swarm.worker("two")
    job_id = await run(gateway, modules["primes"], {"shard_size": 20})
    assert recent(gateway).get(job_id) is not None
    _, remembered = await call(gateway, "GET", f"/jobs/{job_id}")
    recent(gateway)._jobs.clear()
    _, stored = await call(gateway, "GET", f"/jobs/{job_id}")
    assert remembered == stored
    assert sum(share["shards"] for share in stored["nodes"]) == 5


async def test_a_short_job_is_not_read_from_the_store(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    read: list[object] = []
    monkeypatch.setattr(overview, "overview", lambda *arguments: read.append(arguments))
    marked: list[str] = []
    mark_read = jobs.mark_read

    def noted(job_id: str, at: float) -> Write:
        marked.append(job_id)
        return mark_read(job_id, at)

    monkeypatch.setattr(jobs, "mark_read", noted)
    job_id = await run(gateway, modules["primes"], {"shard_size": 20})
    # It is written down once that somebody has the result, however often it is asked for.
    for _ in range(3):
        await call(gateway, "GET", f"/jobs/{job_id}")
    assert read == []
    assert marked == [job_id]


async def test_what_took_more_than_one_attempt_a_shard_is(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    await swarm.worker("two")
    job_id = await run(gateway, modules["primes"], {"shard_size": 20, "redundancy": 2})
    assert recent(gateway).get(job_id) is None
    _, status = await call(gateway, "GET", f"/jobs/{job_id}")
    assert sum(share["attempts"] for share in status["nodes"]) == 10


async def test_a_job_that_was_removed_is_gone(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway(extra="gc: {platform: ttl, completed_after: 0}\n")
    await swarm.worker("one")
    job_id = await run(gateway, modules["primes"], {"shard_size": 20})

    async def code() -> int:
        return (await call(gateway, "GET", f"/jobs/{job_id}"))[0]

    await until(code, lambda found: found == 410, 30)


async def test_only_the_newest_are_kept(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    first = await run(gateway, modules["primes"], {"shard_size": 20})
    kept = recent(gateway)
    (known,) = kept._jobs.values()
    kept._jobs |= {f"other {number}": known for number in range(63)}
    await run(gateway, modules["primes"], {"shard_size": 20})
    assert kept.get(first) is None
    assert len(kept._jobs) == 64
