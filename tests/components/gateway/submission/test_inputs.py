"""The bytes of shards, while jobs end under those who read them."""

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from swarm_hub.components.gateway.submission.dataset import Dataset
from swarm_hub.components.gateway.submission.inputs import Inputs
from swarm_hub.const import INLINE_MAX_BYTES
from swarm_hub.models.blob import Slice
from swarm_hub.models.job import Job, JobSpec, JobState, Split
from swarm_hub.storage import Store
from swarm_hub.util.hashing import sha256_hex

BODY = bytes(range(256)) * (2 * INLINE_MAX_BYTES // 256)


class SlowReads:
    """Datasets whose reads begin only when they are let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began = threading.Event()
        self.let = threading.Event()
        part = Dataset.part

        def slow(dataset: Dataset, first_item: int, n_items: int) -> Slice:
            self.began.set()
            assert self.let.wait(30)
            return part(dataset, first_item, n_items)

        monkeypatch.setattr(Dataset, "part", slow)


async def stored_job(store: Store) -> Job:
    sha, row = await store.blobs.put(BODY, time.time())
    await store.commit([row])
    spec = JobSpec("bytes", "map", Split.RECORDS, 1, "concat")
    return Job(
        "job", JobState.RUNNING, spec, "", 0, sha, len(BODY), len(BODY), 0, time.time(), "owner"
    )


def inputs_of(store: Store) -> Inputs:
    hub: Any = SimpleNamespace(store=store)
    return Inputs(hub, {}, lambda _node_id: ("job.0.1",))


async def served(inputs: Inputs, sha: str) -> bytes | None:
    async with inputs.serve("peer", sha) as data:
        return None if data is None else data[:]


async def test_a_job_may_end_while_a_shard_of_it_is_prepared(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, inputs, slow = await stored_job(store), inputs_of(store), SlowReads(monkeypatch)
    preparing = asyncio.create_task(inputs.prepare(job, "job.0.1", 0, len(BODY)))
    await asyncio.to_thread(slow.began.wait, 30)
    inputs.close(job.id)
    slow.let.set()
    assert (await preparing).sha == sha256_hex(BODY)
    assert inputs.sha("job.0.1") is None
    assert await served(inputs, sha256_hex(BODY)) is None


async def test_a_job_may_end_while_a_shard_of_it_is_sent(store: Store) -> None:
    job, inputs = await stored_job(store), inputs_of(store)
    prepared = await inputs.prepare(job, "job.0.1", 0, len(BODY))
    async with inputs.serve("peer", prepared.sha) as data:
        assert data is not None
        begun = data[:1000]
        inputs.close(job.id)
        assert begun + data[1000:] == BODY
        assert len(data) == len(BODY)
    assert await served(inputs, prepared.sha) is None
