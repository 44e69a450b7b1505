"""Finished jobs go in small transactions, whatever platform chose them, and nothing else goes."""

import asyncio
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine
from sqlalchemy.event import listen, remove

from swarm_hub.components.gc import budget, keep_last, ttl
from swarm_hub.components.gc.collector import Collector, Pace
from swarm_hub.components.gc.policy import RetentionPolicy
from swarm_hub.core import Hub, HubState
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.storage import Store
from swarm_hub.storage.queries import events, jobs, pruning, replay_cache
from tests.conftest import MovableClock
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

pytestmark = pytest.mark.slow

DAY_S = 86400.0
ROOT = Path(__file__).parents[3]


class Everything:
    """A platform that names every job there is, also those that run."""

    events_kept_s = job_events_kept_s = DAY_S

    async def choose(self, hub: Hub, _limit: int) -> Sequence[str]:
        return await hub.store.read(job_ids)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def hub(store: Store, tmp_path: Path, clock: MovableClock) -> Hub:
    return hub_on(store, tmp_path, clock)


def policies() -> st.SearchStrategy[RetentionPolicy]:
    return st.one_of(
        st.builds(ttl.create, st.sampled_from([0.0, 1000.0]), st.sampled_from([300.0, 1000.0])),
        st.builds(keep_last.create, st.integers(1, 3)),
        st.builds(
            budget.create,
            st.sampled_from([None, 0.0, 1000.0]),
            st.sampled_from([1, 2**40]),
            st.integers(0, 10),
        ),
        st.builds(Everything),
    )


@settings(max_examples=20)
@given(
    policy=policies(),
    ends=st.lists(st.none() | st.sampled_from([10.0, 500.0, 2000.0]), max_size=6),
    read=st.sets(st.integers(0, 5)),
)
def test_a_job_that_runs_is_never_touched_and_one_that_goes_goes_whole(
    policy: RetentionPolicy, ends: list[float | None], read: set[int]
) -> None:
    """`ends` are the ages of the jobs, None for one that runs."""

    async def check(folder: Path) -> None:
        clock = MovableClock()
        store = Store.on_file(folder / "swarm_hub.db", clock)
        await store.open()
        try:
            await check_on(store, hub_on(store, folder, clock))
        finally:
            await store.close()

    async def check_on(store: Store, hub: Hub) -> None:
        now = hub.clock.time()
        names = {}
        for number, age_s in enumerate(ends):
            names[f"job-{number}"] = age_s
            ended_at = None if age_s is None else now - age_s
            read_at = ended_at if number in read else None
            await put_job(
                store, f"job-{number}", ended_at=ended_at, read_at=read_at, n_shards=3,
                envelope=b"envelope" if number % 2 else None,
            )  # fmt: skip
        await collect(hub, policy)
        left = await store.read(job_ids)
        assert {name for name, age_s in names.items() if age_s is None} <= set(left)
        for name in left:
            assert await store.read(rows_of, name) == (3, 3, 3)
            assert await store.read(receipts_of, name) == (3 if name[-1] in "135" else 0)
            job = await store.read(jobs.get, name)
            assert job is not None
            assert await store.blobs.get(job.dataset_sha) == name.encode()
            assert await store.blobs.get(job.module_sha) == b"a module"
            assert await store.blobs.get(str(job.script_sha)) == b"a script"
            assert await store.blobs.get(str(job.parts_sha)) == b"its files"
        gone = sorted(names.keys() - set(left))
        assert await store.read(tombstones) == dict.fromkeys(gone, 0)
        assert sorted(await store.read(pruned)) == gone
        for name in gone:
            assert await store.read(rows_of, name) == (0, 0, 0)
            assert await store.read(receipts_of, name) == 0

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(Path(folder)))


async def test_other_commits_hardly_wait_while_a_large_job_is_removed(
    store: Store, hub: Hub
) -> None:
    await put_job(store, "large", ended_at=10.0, n_shards=100_000)
    numbers = iter(range(10**6))

    async def commit() -> float:
        began = time.monotonic()
        await store.commit(
            [replay_cache.remember(next(numbers).to_bytes(8, "big"), "p", b"", 10**12)]
        )
        return time.monotonic() - began

    alone = [await commit() for _ in range(100)]
    removal = asyncio.create_task(collect(hub, ttl.create(300, DAY_S)))
    beside = []
    while not removal.done():
        beside.append(await commit())
    collector = await removal
    assert await store.read(rows_of, "large") == (0, 0, 0)
    figures = {
        "commits": len(beside),
        "median_alone_ms": statistics.median(alone) * 1000,
        "median_beside_ms": statistics.median(beside) * 1000,
        "p95_beside_ms": statistics.quantiles(beside, n=20)[-1] * 1000,
        "longest_ms": max(beside) * 1000,
        "longest_chunk_ms": collector._rows.longest_s * 1000,
    }
    print({name: round(value, 1) for name, value in figures.items()})
    assert len(beside) > 50
    assert figures["median_beside_ms"] - figures["median_alone_ms"] < 50


async def test_a_killed_hub_goes_on_where_it_was(tmp_path: Path) -> None:
    clock = MovableClock()
    path = tmp_path / "swarm_hub.db"
    store = Store.on_file(path, clock)
    await store.open()
    await put_job(store, "large", ended_at=10.0, n_shards=40_000)
    await put_job(store, "running", ended_at=None, n_shards=5)
    await store.close()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.components.gc.collecting", str(tmp_path), cwd=ROOT
    )
    # Results go first, so it dies between two of their chunks.
    async with asyncio.timeout(60):
        assert await child.wait() == -signal.SIGKILL
    store = Store.on_file(path, clock)
    await store.open()
    assert await store.read(job_ids) == ["running"]
    assert await store.read(tombstones) == {"large": 1}
    shards, assignments, results = await store.read(rows_of, "large")
    assert 0 < shards + assignments + results < 120_000
    assert await store.read(jobs.was_pruned, "large")
    await collect(hub_on(store, tmp_path, clock), ttl.create(300, DAY_S))
    assert await store.read(tombstones) == {"large": 0}
    assert await store.read(rows_of, "large") == (0, 0, 0)
    assert await store.read(rows_of, "running") == (5, 5, 5)
    assert await store.read(pruned) == ["large"]
    await store.close()


async def test_a_hub_that_stops_removes_no_more(store: Store, hub: Hub) -> None:
    await put_jobs(store, [10.0] * 30)
    hub.state = HubState.STOPPING
    await collect(hub, ttl.create(0, 0))
    assert len(await store.read(job_ids)) == 30


async def test_a_tombstone_is_kept_for_thirty_days(
    store: Store, hub: Hub, clock: MovableClock
) -> None:
    (gone,) = await put_jobs(store, [10.0])
    await collect(hub, ttl.create(300, DAY_S))
    clock.offset_s += 29 * DAY_S
    await collect(hub, ttl.create(300, DAY_S))
    assert await store.read(jobs.was_pruned, gone)
    clock.offset_s += 2 * DAY_S
    # The newest event stays, and the tombstone with it.
    await collect(hub, ttl.create(300, DAY_S))
    assert await store.read(events_of, gone) == ["job_pruned"]
    await store.commit([], [NewEvent(EventType.COMPONENT_FAILED, {})])
    await collect(hub, ttl.create(300, DAY_S))
    assert await store.read(events_of, gone) == []
    assert not await store.read(jobs.was_pruned, gone)


async def test_many_old_events_go_in_chunks_and_the_newest_stays(
    store: Store, hub: Hub, clock: MovableClock
) -> None:
    await store.commit([], [NewEvent(EventType.COMPONENT_FAILED, {"n": n}) for n in range(4000)])
    fresh_after = store.last_seq
    clock.offset_s += 2 * DAY_S
    await collect(hub, ttl.create(300, DAY_S))
    assert [event.seq for event in await store.read(events.since, 0, 10)] == [fresh_after]


async def test_old_events_of_jobs_stay_while_their_job_does(
    store: Store, hub: Hub, clock: MovableClock
) -> None:
    await put_job(store, "done", ended_at=clock.time() - 60)
    await tell_of_job(store, "done")
    await store.commit([], [NewEvent(EventType.COMPONENT_FAILED, {"n": n}) for n in range(2)])
    clock.offset_s += 2 * DAY_S
    await collect(hub, budget.create(7 * DAY_S, 2**40, 10**6))
    kinds = [each.event_type for each in await store.read(events.since, 0, 10)]
    assert kinds[:5] == [
        "job_queued", "job_running", "shard_assigned", "shard_done", "job_completed",
    ]  # fmt: skip
    assert kinds[5:] == ["component_failed"]


async def test_removed_events_are_known_to_be_lost_also_between_others(
    store: Store, hub: Hub, clock: MovableClock
) -> None:
    await put_job(store, "kept", ended_at=clock.time())
    await put_job(store, "old", ended_at=10.0)
    await tell_of_job(store, "kept")
    assert await store.read(events.complete_after) == 0
    await tell_of_job(store, "old")
    newest_of_old = store.last_seq
    await collect(hub, budget.create(7 * DAY_S, 2**40, 10**6))
    assert await store.read(events.complete_after) == newest_of_old
    # So `job_pruned` itself is not lost to one who had seen all that was before.
    (pruning_told,) = await store.read(events.since, newest_of_old, 10)
    assert pruning_told.event_type == "job_pruned"


async def test_the_events_of_a_large_job_go_in_chunks(store: Store, hub: Hub) -> None:
    await put_job(store, "large", ended_at=10.0, n_shards=2000)
    await tell_of_job(store, "large", 2000)
    collector = await collect(hub, budget.create(7 * DAY_S, 2**40, 10**6))
    assert await store.read(events_of, "large") == ["job_pruned"]
    assert await store.read(tombstones) == {"large": 0}
    assert collector._rows.longest_s < 1


async def test_a_blob_goes_with_the_last_job_that_needs_it(store: Store, hub: Hub) -> None:
    await put_job(store, "old", ended_at=10.0, dataset=b"shared")
    await put_job(store, "other", ended_at=hub.clock.time(), dataset=b"shared")
    job = await store.read(jobs.get, "old")
    assert job is not None
    await collect(hub, ttl.create(300, DAY_S))
    assert await store.read(job_ids) == ["other"]
    assert await store.blobs.get(job.dataset_sha) == b"shared"
    await collect(hub, ttl.create(300, 0))
    assert await store.blobs.get(job.dataset_sha) is None
    assert await store.blobs.get(job.module_sha) is None
    assert await store.blobs.get(str(job.script_sha)) is None
    assert await store.blobs.get(str(job.parts_sha)) is None


async def test_more_blobs_than_one_look_takes(store: Store, hub: Hub) -> None:
    shas = []
    for number in range(250):
        sha, row = await store.blobs.put(number.to_bytes(8, "big"), 10.0)
        shas.append(sha)
        await store.commit([row])
    found, last = await store.read(pruning.unused_blobs, "", 20.0, 100)
    assert (found, last) == (sorted(shas)[:100], sorted(shas)[99])
    await collect(hub, ttl.create(300, DAY_S))
    assert await store.read(pruning.unused_blobs, "", 20.0, 100) == ([], None)


async def test_a_quiet_hub_gives_free_pages_back(
    store: Store, hub: Hub, tmp_path: Path, clock: MovableClock
) -> None:
    await put_job(store, "large", ended_at=10.0, n_shards=3000, body=bytes(4000))
    policy = ttl.create(300, DAY_S)
    file = tmp_path / "swarm_hub.db"
    # However long collecting takes, it is no rest.
    clock.stop()
    await collect(hub, policy)
    # The job_pruned event was a moment ago: somebody may be at work.
    before = file.stat().st_size
    free_bytes, _ = await store.free_share()
    assert free_bytes > 10_000_000
    clock.offset_s += 3600
    collector = await collect(hub, policy)
    print(f"longest step {collector._pages.longest_s * 1000:.1f} ms")
    assert await store.free_share() == (0, 0.0)
    assert file.stat().st_size <= before - free_bytes


async def test_free_pages_stay_while_they_are_few(
    store: Store, hub: Hub, clock: MovableClock
) -> None:
    await put_job(store, "small", ended_at=10.0, n_shards=200, body=bytes(4000))
    await collect(hub, ttl.create(300, DAY_S))
    clock.offset_s += 3600
    await collect(hub, ttl.create(300, DAY_S))
    assert (await store.free_share())[0] > 0


@given(st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 10))))
def test_a_pace_stays_within_its_bounds(steps: list[tuple[int, float]]) -> None:
    pace = Pace(first=500, low=50, high=5000)
    for removed, took_s in steps:
        pace.learn(removed, took_s)
        assert 50 <= pace.size <= 5000


def test_a_pace_falls_at_once_and_rises_with_full_chunks_only() -> None:
    pace = Pace(first=500, low=50, high=5000)
    pace.learn(500, 0.06)
    assert pace.size == 125
    pace.learn(10, 0.001)
    assert pace.size == 125
    pace.learn(125, 0.001)
    assert pace.size == 187


@pytest.mark.parametrize(
    "policy",
    [ttl.create(300, DAY_S), keep_last.create(5), budget.create(7 * DAY_S, 2**40, 10**6)],
    ids=lambda policy: type(policy).__name__,
)
async def test_a_round_with_nothing_to_do_is_a_few_short_queries(
    store: Store, hub: Hub, policy: RetentionPolicy
) -> None:
    def changes(connection: Connection) -> int:
        return int(connection.exec_driver_sql("SELECT total_changes()").scalar_one())

    await put_job(store, "kept", ended_at=hub.clock.time())
    await tell_of_job(store, "kept", 1000)
    collector = Collector(hub, policy, "")
    await collector.collect()
    before, statements = await store.change(changes), []

    def seen(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    listen(Engine, "before_cursor_execute", seen)
    try:
        await collector.collect()
    finally:
        remove(Engine, "before_cursor_execute", seen)
    print(len(statements), "statements")
    assert len(statements) <= 12
    assert await store.change(changes) == before
