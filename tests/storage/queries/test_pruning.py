"""Removal from a store that several gateways share, on a real PostgreSQL server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert

from swarm_hub.components.gc import budget, keep_last, ttl
from swarm_hub.components.gc.collector import Collector
from swarm_hub.const import INLINE_MAX_BYTES
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.storage import Store, schema
from swarm_hub.storage.queries import events, jobs, leases, pruning
from tests.conftest import MovableClock
from tests.helpers.postgres import PostgresServer
from tests.helpers.stored import (
    collect,
    events_of,
    hub_on,
    job_ids,
    pruned,
    put_job,
    put_jobs,
    receipts_of,
    rows_of,
    tell_of_job,
    tombstones,
)

DAY_S = 86400.0
NEVER = 10**12


def register(connection: Connection, gateway: str) -> None:
    row = {"name": gateway, "epoch": 1, "alive_until": NEVER}
    connection.execute(insert(schema.gateways), row)


@pytest.fixture
async def opened(
    postgres_server: PostgresServer, tmp_path: Path
) -> AsyncIterator[Callable[[], Awaitable[Store]]]:
    """Return a way to open the same new database once more."""
    url = postgres_server.new_database()
    async with AsyncExitStack() as stack:

        async def open_store() -> Store:
            store = Store.at(url, tmp_path, MovableClock())
            await store.open()
            stack.push_async_callback(store.close)
            return store

        yield open_store


async def test_a_job_goes_with_all_its_rows_and_blobs(
    opened: Callable[[], Awaitable[Store]], tmp_path: Path
) -> None:
    store, clock = await opened(), MovableClock()
    await put_job(store, "large", ended_at=10.0, n_shards=3000)
    await put_job(
        store, "heavy", ended_at=10.0, n_shards=20, body=bytes(60_000), envelope=bytes(500_000)
    )
    await put_job(store, "file", ended_at=10.0, dataset=bytes(INLINE_MAX_BYTES * 40))
    await put_job(store, "running", ended_at=None, n_shards=5)
    file = await store.read(jobs.get, "file")
    assert file is not None
    await collect(hub_on(store, tmp_path, clock), ttl.create(300, DAY_S))
    assert await store.read(job_ids) == ["running"]
    assert await store.read(tombstones) == dict.fromkeys(("large", "heavy", "file"), 0)
    assert sorted(await store.read(pruned)) == ["file", "heavy", "large"]
    for job_id in ("large", "heavy", "file"):
        assert await store.read(rows_of, job_id) == (0, 0, 0)
        assert await store.read(receipts_of, job_id) == 0
    assert await store.read(rows_of, "running") == (5, 5, 5)
    assert await store.blobs.get(file.dataset_sha) is None
    clock.offset_s += 40 * DAY_S
    await store.commit([], [NewEvent(EventType.COMPONENT_FAILED, {})])
    await collect(hub_on(store, tmp_path, clock), ttl.create(300, DAY_S))
    assert await store.read(tombstones) == {}
    assert len(await store.read(events.since, 0, 10)) == 1


async def test_events_go_with_their_job_and_the_last_a_day_later(
    opened: Callable[[], Awaitable[Store]], tmp_path: Path
) -> None:
    store, clock = await opened(), MovableClock()
    hub = hub_on(store, tmp_path, clock)
    for job_id, ended_at in (("old", 10.0), ("kept", clock.time())):
        await put_job(store, job_id, ended_at=ended_at, n_shards=100)
        await tell_of_job(store, job_id, 100)
    policy = budget.create(7 * DAY_S, NEVER, NEVER)
    await store.commit([], [NewEvent(EventType.COMPONENT_FAILED, {})] * 2)
    await collect(hub, policy)
    assert await store.read(events_of, "old") == ["job_pruned"]
    assert await store.read(events.complete_after) == 203
    clock.offset_s += 2 * DAY_S
    await store.commit([], [NewEvent(EventType.COMPONENT_FAILED, {})])
    await collect(hub, policy)
    assert await store.read(events_of, "old") == []
    assert len(await store.read(events_of, "kept")) == 203
    assert len(await store.read(events.since, 0, 1000)) == 204
    assert await store.read(events.complete_after) == store.last_seq - 1


@pytest.mark.parametrize("policy", [keep_last.create(2), budget.create(None, NEVER, 18)])
async def test_the_other_platforms_choose_there_too(
    opened: Callable[[], Awaitable[Store]],
    tmp_path: Path,
    policy: keep_last.KeepLast | budget.Budget,
) -> None:
    store = await opened()
    await put_jobs(store, [10.0, 30.0, 20.0, 40.0])
    await collect(hub_on(store, tmp_path, MovableClock()), policy)
    assert await store.read(job_ids) == ["job-01", "job-03"]


async def test_two_that_collect_at_once_prune_a_job_once(
    opened: Callable[[], Awaitable[Store]], tmp_path: Path
) -> None:
    """Neither knows of the other, as when both leases look expired."""
    stores = [await opened(), await opened()]
    made = await put_jobs(stores[0], [float(n) for n in range(60)])
    await put_job(stores[0], "large", ended_at=100.0, n_shards=2000)
    await asyncio.gather(
        *(
            collect(hub_on(store, tmp_path, MovableClock()), ttl.create(300, DAY_S))
            for store in stores
        )
    )
    assert sorted(await stores[0].read(pruned)) == [*made, "large"]
    assert await stores[0].read(tombstones) == dict.fromkeys([*made, "large"], 0)
    assert await stores[0].read(rows_of, "large") == (0, 0, 0)


async def test_of_gateways_that_live_the_first_by_name_collects(
    opened: Callable[[], Awaitable[Store]], tmp_path: Path
) -> None:
    store, clock = await opened(), MovableClock()
    hub = hub_on(store, tmp_path, clock)
    await store.change(register, "a")
    await store.change(register, "b")
    await put_jobs(store, [10.0])
    await Collector(hub, ttl.create(300, DAY_S), "b").collect()
    assert len(await store.read(job_ids)) == 1
    # The first gave its lease up: the next one collects, whoever owned the jobs.
    await store.commit([leases.resign("a")])
    await Collector(hub, ttl.create(300, DAY_S), "b").collect()
    assert await store.read(job_ids) == []
    assert await store.read(pruning.collects, "a")
