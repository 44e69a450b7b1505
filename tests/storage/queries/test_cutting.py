"""How far a job is, counted from small indexes, is what a look at every shard would say."""

import random
from collections.abc import Iterator
from pathlib import Path

from swarm_hub.models.shard import Cutting, Shard, ShardState, outermost
from swarm_hub.storage import Store
from swarm_hub.storage.queries import jobs, recovery, takeover
from swarm_hub.util.clock import Clock
from tests.helpers.stored import put_job

_JOBS = 60


def cut_at_random(job_id: str, chance: random.Random) -> list[Shard]:
    """Return shards as a scheduler makes them: cut from the front, or halves of one that failed."""
    shards: list[Shard] = []
    first_uncut = 0

    def make(first_item: int, n_items: int) -> Shard:
        states = [state for state in ShardState if n_items > 1 or state is not ShardState.SPLIT]
        attempts = chance.choice((1, 1, 1, 2, 3))
        state = chance.choice(states)
        shards.append(Shard(job_id, len(shards), state, first_item, n_items, attempts))
        return shards[-1]

    def parts_of(whole: Shard) -> Iterator[Shard]:
        half = whole.n_items // 2
        yield make(whole.first_item, half)
        yield make(whole.first_item + half, whole.n_items - half)

    for _ in range(chance.randrange(12)):
        split = [make(first_uncut, chance.randint(1, 9))]
        first_uncut += split[0].n_items
        while split:
            whole = split.pop()
            if whole.state is ShardState.SPLIT:
                split += parts_of(whole)
    return shards


def counted_one_by_one(shards: list[Shard]) -> Cutting:
    done = [shard for shard in shards if shard.state is ShardState.DONE]
    skipped = [shard for shard in shards if shard.state is ShardState.SKIPPED]
    split = [shard for shard in shards if shard.state is ShardState.SPLIT]
    return Cutting(
        n_shards=len(shards),
        n_items=max((shard.first_item + shard.n_items for shard in shards), default=0),
        n_done_shards=len(done),
        n_done_items=sum(shard.n_items for shard in done),
        n_failed_items=sum(shard.n_items for shard in skipped),
        splits=outermost((shard.first_item, shard.n_items) for shard in split),
        n_found_items=sum(
            shard.n_items == 1 and shard.index > split[0].index for shard in skipped if split
        ),
    )


async def check_jobs(store: Store) -> None:
    seen: set[ShardState] = set()
    expected: dict[str, Cutting] = {}
    for number in range(_JOBS):
        job_id = f"job-{number}"
        await put_job(store, job_id, ended_at=None, n_shards=0)
        shards = cut_at_random(job_id, random.Random(number))
        await store.commit([jobs.put_shards((shard, None) for shard in shards)])
        expected[job_id] = counted_one_by_one(shards)
        assert await store.read(recovery.cutting_of, job_id) == expected[job_id]
        seen.update(shard.state for shard in shards)
    assert seen == set(ShardState)
    # Of many at once, as of one after the other.
    left = await store.read(takeover.left_jobs, list(expected))
    assert {job_id: each.cutting for job_id, each in left.items()} == expected
    for job_id, each in left.items():
        assert each == await store.read(takeover.left_job, job_id)


async def test_what_is_counted_is_what_the_shards_say(store: Store) -> None:
    await check_jobs(store)


async def test_postgresql_counts_the_same(tmp_path: Path, postgres_url: str) -> None:
    store = Store.at(postgres_url, tmp_path, Clock())
    await store.open()
    try:
        await check_jobs(store)
    finally:
        await store.close()


async def test_parts_that_are_many_are_passed_over(store: Store) -> None:
    """They are newer than the last shard that was cut, and more than are read at once."""
    await put_job(store, "job", ended_at=None, n_shards=0)
    whole = Shard("job", 0, ShardState.SPLIT, 0, 1000, 3)
    last = Shard("job", 1, ShardState.DONE, 1000, 5, 1)
    parts = [Shard("job", 2 + item, ShardState.DONE, item, 1, 1) for item in range(1000)]
    shards = [whole, last, *parts]
    await store.commit([jobs.put_shards((shard, None) for shard in shards)])
    assert await store.read(recovery.cutting_of, "job") == counted_one_by_one(shards)
