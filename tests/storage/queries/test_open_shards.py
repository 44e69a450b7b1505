"""What a gateway reads of a large job costs what is open of it, not what is done."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection

from swarm_hub.models.shard import Assignment, AssignmentState, Shard, ShardState, assignment_id
from swarm_hub.storage import Store
from swarm_hub.storage.queries import jobs, recovery
from tests.helpers.stored import put_job


def plan(connection: Connection, query: Callable[[Connection, str], object]) -> list[str]:
    """Return how SQLite runs a query."""
    driver: Any = connection.connection.driver_connection
    said: list[str] = []
    driver.set_trace_callback(said.append)
    query(connection, "job")
    driver.set_trace_callback(None)
    return [row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {said[-1]}")]


@pytest.mark.parametrize("query", [recovery.open_shards_of, recovery.open_assignments_of])
async def test_open_shards_are_found_by_the_index_of_open_ones(
    store: Store, query: Callable[[Connection, str], object]
) -> None:
    steps = await store.read(plan, query)
    assert "SEARCH shards USING INDEX shards_open (job_id=?)" in steps
    assert not [step for step in steps if step.endswith("PRIMARY KEY (job_id=?)")]


async def test_only_open_shards_and_their_attempts_are_read(store: Store) -> None:
    states = [ShardState.DONE, ShardState.ASSIGNED, ShardState.QUEUED, ShardState.DEAD]
    shards = [Shard("job", index, state, index, 1, 2) for index, state in enumerate(states)]
    attempts = [
        Assignment(
            assignment_id("job", shard.index, attempt), "job", shard.index, attempt, "node",
            AssignmentState.OFFERED,
        )
        for shard in shards
        for attempt in (1, 2)
    ]  # fmt: skip
    await store.commit([jobs.put_shards((each, None) for each in shards), jobs.offer(attempts, 1)])
    assert await store.read(recovery.open_shards_of, "job") == shards[1:3]
    found = await store.read(recovery.open_assignments_of, "job")
    assert [each for each, _ in found] == attempts[2:6]


async def test_only_attempts_with_nothing_open_or_answered_before_them_are_retries(
    store: Store,
) -> None:
    """Copies and confirmations are attempts, too."""
    expired, finished = AssignmentState.EXPIRED, AssignmentState.FINISHED
    # Of each shard: when each attempt began and ended, and how.
    told: list[list[tuple[int, int | None, AssignmentState, str | None]]] = [
        [(1, 5, expired, "lost"), (5, 9, finished, None)],
        [(1, 5, finished, "trap"), (7, 8, expired, "late"), (8, None, finished, None)],
        # A copy of a straggler, which came first.
        [(1, 9, AssignmentState.SUPERSEDED, "another"), (5, 9, finished, None)],
        # Two at once, and a third that decides.
        [(1, 3, finished, None), (1, 4, finished, None), (4, 9, finished, None)],
        [(1, None, finished, None)],
    ]
    await store.commit(
        [
            jobs.put_shards(
                (Shard("job", index, ShardState.DONE, index, 1, len(attempts)), None)
                for index, attempts in enumerate(told)
            )
        ]
    )
    for index, attempts in enumerate(told):
        for attempt, (began, ended, state, reason) in enumerate(attempts, 1):
            key = assignment_id("job", index, attempt)
            one = Assignment(key, "job", index, attempt, "node", state)
            await store.commit([jobs.offer([one], began)])
            if ended is not None:
                await store.commit([jobs.end_assignments([(one, reason)], ended)])
    assert (await store.read(recovery.cutting_of, "job")).n_retries == 3


async def test_a_search_for_failing_items_costs_no_time_in_which_the_gateway_was_away(
    store: Store,
) -> None:
    """Nor does a clock that jumped, forwards or back."""
    await put_job(store, "other", ended_at=None, n_shards=0)
    other = await store.read(jobs.get, "other")
    assert other is not None
    limits = dataclasses.replace(other.spec.limits, wall_time=6.0)
    spec = dataclasses.replace(other.spec, limits=limits)
    job = dataclasses.replace(other, id="job", spec=spec, n_items=4)
    # Item 3 takes too long.
    states = [(ShardState.SPLIT, 0, 4), (ShardState.QUEUED, 0, 2), (ShardState.QUEUED, 2, 2)]
    shards = [
        Shard("job", index, state, first_item, n_items, 1)
        for index, (state, first_item, n_items) in enumerate(states)
    ]
    await store.commit(
        [jobs.submit(job, "g", 1, None, ""), jobs.put_shards((each, None) for each in shards)]
    )
    ends = [(1, 1, "trap: bad", 86_400), (1, 2, "trap: bad", -600), (2, 1, "wall_time: slow", 31)]
    for index, attempt, reason, ended_at in ends:
        key = assignment_id("job", index, attempt)
        one = Assignment(key, "job", index, attempt, "node", AssignmentState.FINISHED)
        await store.commit([jobs.offer([one], 0)])
        await store.commit([jobs.end_assignments([(one, reason)], ended_at)])
    cut = await store.read(recovery.cutting_of, "job")
    assert (cut.n_isolating, cut.isolating_s) == (3, 6.0)
