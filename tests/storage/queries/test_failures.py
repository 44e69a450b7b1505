"""What failed of a job, as the store has it, on SQLite and on PostgreSQL alike."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarm_hub.models.shard import Assignment, AssignmentState, Shard, ShardState
from swarm_hub.storage import Store
from swarm_hub.storage.queries import failures, jobs, nodes
from swarm_hub.util.clock import Clock

JOB = "job"


@pytest.fixture(params=["sqlite", "postgres"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "sqlite":
        opened = Store.on_file(tmp_path / "swarm_hub.db", Clock())
    else:
        opened = Store.at(request.getfixturevalue("postgres_url"), tmp_path, Clock())
    await opened.open()
    yield opened
    await opened.close()


async def put(
    store: Store, index: int, state: ShardState, first_item: int, *ends: tuple[str, str | None]
) -> None:
    """Store a shard of two items with finished attempts, each of a node with its reason."""
    shard = Shard(JOB, index, state, first_item, 2, len(ends))
    attempts = [
        Assignment(f"{JOB}.{index}.{n}", JOB, index, n, node_id, AssignmentState.FINISHED)
        for n, (node_id, _) in enumerate(ends, 1)
    ]
    reasons = [reason for _, reason in ends]
    await store.commit(
        [
            jobs.put_shards([(shard, None)]),
            jobs.offer(attempts, 1.0),
            jobs.end_assignments(zip(attempts, reasons, strict=True), 2.0),
        ]
    )


async def test_they_are_of_shards_without_a_result_in_item_order(either: Store) -> None:
    await put(either, 0, ShardState.DONE, 0, ("a", "no"), ("b", None))
    await put(either, 1, ShardState.SPLIT, 2, ("a", "no"), ("b", "no"), ("c", "no"))
    await put(either, 2, ShardState.DEAD, 12, ("c", "no"))
    await put(either, 3, ShardState.QUEUED, 4, ("a", "once"), ("b", "no"))
    await put(either, 4, ShardState.ASSIGNED, 6, ("a", None))
    await put(either, 5, ShardState.SKIPPED, 8, ("a", "no"))
    await put(either, 6, ShardState.CANCELLED, 10, ("b", "no"))
    await put(either, 7, ShardState.QUEUED, 14)
    found = await either.read(failures.page, JOB, -1, 3)
    assert [(each.shard.index, each.failures, each.n_failures) for each in found] == [
        (3, (("b", "no"), ("a", "once")), 2),
        (5, (("a", "no"),), 1),
        (6, (("b", "no"),), 1),
    ]
    assert [each.shard.index for each in await either.read(failures.page, JOB, 10, 3)] == [2]
    assert await either.read(failures.page, "other", -1, 3) == []


async def test_of_many_attempts_the_newest_are_given_and_all_are_counted(either: Store) -> None:
    await put(either, 0, ShardState.QUEUED, 0, *((f"n{n}", f"no {n}") for n in range(120)))
    (found,) = await either.read(failures.page, JOB, -1, 10)
    assert (found.n_failures, len(found.failures)) == (120, 50)
    assert found.failures[0] == ("n119", "no 119")


async def test_the_names_of_nodes_are_read_together(either: Store) -> None:
    await either.commit([nodes.see(f"id-{name}", name, None, None, 1.0) for name in "abc"])
    found = await either.read(nodes.names_of, ["id-a", "id-c", "id-x"])
    assert found == {"id-a": "a", "id-c": "c"}
    assert await either.read(nodes.names_of, []) == {}
