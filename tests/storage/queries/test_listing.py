"""Pages of jobs and shards that are looked for, on SQLite and on PostgreSQL alike."""

import dataclasses
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from ulid_transform import ulid_at_time

from swarm_hub.models.job import Job, JobSpec, JobState, Split
from swarm_hub.models.shard import Assignment, AssignmentState, Shard, ShardState
from swarm_hub.storage import Store
from swarm_hub.storage.queries import jobs, listing
from swarm_hub.storage.queries.jobs import Finish
from swarm_hub.storage.queries.listing import JobFilter
from swarm_hub.util.clock import Clock

BEGAN = 1_700_000_000.0
SPEC = JobSpec("range", "map", Split.RANGE, 0, "sum")
ENDED = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


FOUND: list[tuple[JobFilter, Iterable[int]]] = [
    (JobFilter(), range(10)),
    (JobFilter(states=frozenset({JobState.RUNNING})), [3, 8]),
    (JobFilter(states=frozenset({JobState.RUNNING, JobState.QUEUED})), [3, 4, 8, 9]),
    (JobFilter(states=frozenset({JobState.FAILED})), [1, 6]),
    (JobFilter(states=frozenset({JobState.COMPLETED, JobState.QUEUED})), [0, 4, 5, 9]),
    (JobFilter(owners=frozenset({"ada"})), [0, 2, 4, 6, 8]),
    (JobFilter(owners=frozenset({"ada", "bob"})), []),
    (JobFilter(submitted_since=BEGAN + 7), [7, 8, 9]),
    (JobFilter(submitted_since=0.0), range(10)),
    (JobFilter(labels={"batch": "50%_1"}), [5, 6, 7, 8, 9]),
    (JobFilter(labels={"batch": "50%_1", "team": 'ä"b'}), [5, 6, 7, 8, 9]),
    (JobFilter(labels={"batch": "50__1"}), []),
    (JobFilter(labels={"team": "env is no label"}), []),
    (JobFilter(text="nightly"), range(5)),
    (JobFilter(text='ä"B'), range(10)),
    (JobFilter(text="env is no"), []),
    (
        JobFilter(
            frozenset({JobState.FAILED}), {"batch": "50%_1"}, frozenset({"ada"}), BEGAN, "50%"
        ),
        [6],
    ),
]


@pytest.fixture(params=["sqlite", "postgres"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "sqlite":
        opened = Store.on_file(tmp_path / "swarm_hub.db", Clock())
    else:
        opened = Store.at(request.getfixturevalue("postgres_url"), tmp_path, Clock())
    await opened.open()
    yield opened
    await opened.close()


async def put(store: Store, number: int, state: JobState, owner: str, spec: JobSpec) -> str:
    """Store a job that was submitted so many seconds after the first."""
    at = BEGAN + number
    job_id = ulid_at_time(at)
    job = Job(job_id, JobState.QUEUED, spec, "m", 1, "d", 1, 1, 0, at, owner)
    writes = [jobs.submit(job, "gateway", 1, None, "")]
    if state is not JobState.QUEUED:
        writes.append(jobs.start([job_id], at))
    if state.finished:
        writes.append(jobs.finish([Finish(job_id, state, at, (), None, None, None, 1, 0, 0, 0)]))
    await store.commit(writes)
    return job_id


async def put_ten(store: Store) -> list[str]:
    """Store ten jobs, each second one of ada's."""
    states = [*ENDED, JobState.RUNNING, JobState.QUEUED] * 2
    return [
        await put(
            store, number, state, "bob" if number % 2 else "ada",
            dataclasses.replace(
                SPEC, name=f"Nightly {number}" if number < 5 else None,
                labels=(("batch", f"50%_{number // 5}"), ("team", 'ä"b')),
                env=(("team", "env is no label"), ("batch", "50%_0")),
            ),
        )
        for number, state in enumerate(states)
    ]  # fmt: skip


async def test_jobs_are_found(either: Store) -> None:
    ids = await put_ten(either)
    for wanted, numbers in FOUND:
        found, cursor = await either.read(listing.page, wanted, None, 100)
        newest_first = [ids[number] for number in sorted(numbers, reverse=True)]
        assert ([job.id for job in found], cursor) == (newest_first, None), wanted


async def test_a_page_looks_at_so_many_jobs_and_leads_on(
    either: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await put_ten(either)
    monkeypatch.setattr(listing, "LOOKED_AT_MAX", 3)
    wanted, found, cursors, cursor = JobFilter(text=ids[0]), [], [], None
    while True:
        page, cursor = await either.read(listing.page, wanted, cursor, 10)
        found += page
        if cursor is None:
            break
        cursors.append(cursor)
    assert [job.id for job in found] == [ids[0]]
    assert cursors == [ids[7], ids[4], ids[1]]
    # Those that an index has are four, and the others are not looked at.
    monkeypatch.setattr(listing, "LOOKED_AT_MAX", 5)
    running = JobFilter(states=frozenset({JobState.RUNNING}))
    page, cursor = await either.read(listing.page, running, None, 10)
    assert ([job.id for job in page], cursor) == ([ids[8], ids[3]], None)
    page, cursor = await either.read(listing.page, running, None, 1)
    assert ([job.id for job in page], cursor) == ([ids[8]], ids[8])


async def test_what_only_looks_right_to_the_database_is_bounded_too(
    either: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await put_ten(either)
    monkeypatch.setattr(listing, "_CHECKED_AT_ONCE", 2)
    # Each spec has this word, but the last alone has it where it counts.
    await put(either, -1, JobState.QUEUED, "ada", dataclasses.replace(SPEC, name="fuel"))
    found, cursor = await either.read(listing.page, JobFilter(text="fuel"), None, 1)
    assert ([job.spec.name for job in found], cursor is None) == (
        ["fuel"], False,
    )  # fmt: skip
    monkeypatch.setattr(listing, "_ROUNDS", 3)
    found, cursor = await either.read(listing.page, JobFilter(text="fuel"), None, 1)
    assert (found, cursor) == ([], ids[4])


async def test_shards_are_found_by_state_and_node(
    either: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = [ShardState.DONE, ShardState.QUEUED, ShardState.DONE, ShardState.DEAD]
    cut = [Shard("job", n, state, 10 * n, 10, 1) for n, state in enumerate(states)]
    given = [
        Assignment(f"job.{n}.1", "job", n, 1, f"node-{n % 2}", AssignmentState.FINISHED)
        for n in range(4)
    ]
    await either.commit([jobs.put_shards((shard, None) for shard in cut), jobs.offer(given, 1.0)])

    async def found(
        *which: str, node: str | None = None, after: int = -1, limit: int = 9
    ) -> object:
        chosen = frozenset(map(ShardState, which))
        page, cursor = await either.read(listing.shards, "job", chosen, node, after, limit)
        return [shard.index for shard in page], cursor

    assert await found() == ([0, 1, 2, 3], None)
    assert await found(limit=2) == ([0, 1], 1)
    assert await found(after=1, limit=2) == ([2, 3], None)
    assert await found("done", "dead") == ([0, 2, 3], None)
    assert await found(node="node-1") == ([1, 3], None)
    assert await found("dead", node="node-0") == ([], None)
    monkeypatch.setattr(listing, "LOOKED_AT_MAX", 3)
    assert await found("dead") == ([], 2)
    assert await found("dead", after=2) == ([3], None)
    assert await either.read(listing.shards, "none", frozenset(), None, -1, 9) == ([], None)


async def test_a_page_of_many_jobs_costs_what_it_looks_at(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured in steps of SQLite's machine, which are the same each time."""
    monkeypatch.setattr(listing, "LOOKED_AT_MAX", 100)
    many = [
        Job(ulid_at_time(BEGAN + n), JobState.QUEUED, SPEC, "m", 1, "d", 1, 1, 0, BEGAN, "ada")
        for n in range(3000)
    ]
    await store.commit([jobs.submit(job, "gateway", 1, None, "") for job in many])

    def hundreds_of_steps(connection: Connection, wanted: JobFilter, before: str | None) -> int:
        steps = 0

        def count() -> None:
            nonlocal steps
            steps += 1

        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(count, 100)
        found, cursor = listing.page(connection, wanted, before, 10)
        driver.set_progress_handler(None, 0)
        assert (found, cursor is None) == ([], False)
        return steps

    nobody = frozenset({"nobody"})
    for before in (None, many[1500].id):
        steps = [
            await store.read(hundreds_of_steps, wanted, before)
            for wanted in (
                JobFilter(owners=nobody),
                JobFilter(owners=nobody, submitted_since=BEGAN),
                JobFilter(owners=nobody, submitted_since=BEGAN, labels={"a": "b"}, text="zzzz"),
            )
        ]
        assert max(steps) < 60, steps
