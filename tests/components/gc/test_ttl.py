"""Garbage collection of what nobody refers to."""

import os
import random
import time

from swarm_hub.components.gc.collector import Collector
from swarm_hub.components.gc.ttl import create
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.storage.queries import events
from tests.conftest import Swarm
from tests.helpers.rest import call, submit


async def test_blobs_that_nothing_refers_to_go_and_fresh_ones_stay(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    blobs, now = gateway.hub.store.blobs, gateway.clock.time()
    old, row = await blobs.put(b"small and old", now - 100)
    fresh, fresh_row = await blobs.put(b"small and fresh", now)
    await gateway.hub.store.commit([row, fresh_row])
    await Collector(gateway.hub, create(300, 86400), "").collect()
    assert await blobs.get(old) is None
    assert await blobs.get(fresh) == b"small and fresh"


async def test_a_file_that_a_crash_left_without_its_row_is_swept(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    blobs = gateway.hub.store.blobs
    body = random.Random(1).randbytes(100_000)
    kept, row = await blobs.put(body, gateway.clock.time())
    await gateway.hub.store.commit([row])
    orphan = blobs.path("ab" * 32)
    young = blobs.path("ab" * 31 + "cd")
    for path in (orphan, young):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    hour_ago = time.time() - 3600
    for path in (orphan, blobs.path(kept)):
        os.utime(path, (hour_ago, hour_ago))
    await Collector(gateway.hub, create(300, 86400), "").collect()
    assert not orphan.exists()
    assert young.exists()
    assert await blobs.get(kept) == body


async def test_old_events_go_and_the_newest_stays(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    store = gateway.hub.store
    for number in range(5):
        await store.commit([], [NewEvent(EventType.COMPONENT_FAILED, {"number": number})])
    newest = store.last_seq
    gateway.clock.offset_s += 90_000
    await Collector(gateway.hub, create(300, 86400), "").collect()
    assert [event.seq for event in await store.read(events.since, 0, 10)] == [newest]


async def test_a_job_that_runs_is_never_pruned(swarm: Swarm, modules: dict[str, bytes]) -> None:
    gateway = await swarm.gateway()
    _, body = await submit(gateway, modules["primes"], b"0:10")
    gateway.clock.offset_s += 10**7
    await Collector(gateway.hub, create(0, 0), "").collect()
    code, _ = await call(gateway, "GET", f"/jobs/{body['job_id']}")
    assert code == 202
