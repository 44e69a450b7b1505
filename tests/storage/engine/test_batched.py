"""PostgreSQL takes the rows of many callers in one statement, and keeps what SQLite would keep."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, select

from swarm_hub.exceptions import StoreError
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.models.shard import Assignment, AssignmentState, Shard, ShardResult, ShardState
from swarm_hub.storage import Store, Write, schema
from swarm_hub.storage.engine import batched
from swarm_hub.storage.queries import jobs, meta, nodes, shard_results, uploads
from swarm_hub.util.clock import Clock

# What an array of PostgreSQL has a meaning for.
ODD = ["", "NULL", '"', "\\", '\\"', "{a,b}", "a\nb\t ", "it's %s {} $1", "žluťoučký 🐝", " "]
OFFERED = AssignmentState.OFFERED
TABLES = (
    schema.shards, schema.assignments, schema.results, schema.blobs, schema.nodes, schema.meta,
    schema.uploads,
)  # fmt: skip


@pytest.fixture
async def shared(tmp_path: Path, postgres_url: str) -> AsyncIterator[Store]:
    """Return an open store on PostgreSQL."""
    opened = Store.at(postgres_url, tmp_path / "shared", Clock())
    await opened.open()
    yield opened
    await opened.close()


async def units(draw: random.Random, store: Store, first: int) -> list[list[Write]]:
    """Return what callers want written at the same time; the same rows come again and again."""
    found = []
    for number in range(first, first + 60):

        def attempt(attempt: int, state: AssignmentState) -> Assignment:
            return Assignment(f"job.0.{attempt}", "job", 0, attempt, draw.choice(ODD), state)

        shard = Shard("job", draw.randrange(4), draw.choice(list(ShardState)), 2**40, 7, number)
        accepted = draw.choice([None, *ODD])
        result = ShardResult(
            f"job.{draw.randrange(9)}.1", "job", 1, draw.randrange(3), 5, draw.choice(ODD), "sha",
            number, draw.choice([None, b"", b"\x00\xff\\", draw.randbytes(9)]), draw.random(),
            1e-300, draw.choice([None, 2**50]), None, draw.choice(ODD),
        )  # fmt: skip
        node = f"node {draw.randrange(3)}"
        ends = [
            (attempt(draw.randrange(number + 1), AssignmentState.REJECTED), draw.choice(ODD))
            for _ in range(3)
        ]
        _, blob = await store.blobs.put(draw.choice([b"", b"\\x", b"\x00" * 9]), float(number))
        found.append(
            [
                jobs.put_shards([(shard, accepted)]),
                jobs.offer([attempt(number, OFFERED)], number),
                jobs.end_assignments(ends, draw.random() * 1e9),
                shard_results.put([result]),
                blob,
                nodes.see(node, draw.choice(ODD), None, draw.randbytes(3), number),
                nodes.judge([(node, draw.random() < 0.7) for _ in range(2)]),
                meta.put_quarantines(node, [{"n": n} for n in range(draw.randrange(2))]),
                uploads.keep("owner", draw.choice(ODD), 1, number),
                uploads.forget("owner", draw.choice(ODD)),
            ]
        )
        draw.shuffle(found[-1])
    return found


def contents(connection: Connection) -> dict[str, list[Any]]:
    """Return all rows of the tables, but for keys and times that each store has of its own."""
    found = {}
    for table in TABLES:
        query = select(*(each for each in table.c if each.name != "standing_at"))
        if table is schema.meta:
            query = query.where(table.c.key.startswith("quarantines/"))
        found[table.name] = sorted(tuple(row) for row in connection.execute(query))
    return found


@pytest.mark.parametrize("at_once", [1000, 7])
async def test_a_batch_leaves_the_rows_that_one_by_one_would(
    store: Store, shared: Store, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(batched, "_ROWS_AT_ONCE", at_once)
    monkeypatch.setattr(batched, "_BYTES_AT_ONCE", at_once)
    written = set()
    for seed in range(3):
        wanted = await units(random.Random(seed), store, 60 * seed)
        for each in (store, shared):
            await asyncio.gather(*(each.commit(unit) for unit in wanted))
        kept = await store.read(contents)
        assert await shared.read(contents) == kept
        written |= {name for name, rows in kept.items() if rows}
    assert written == {table.name for table in TABLES}


async def test_a_bad_row_of_many_fails_alone(shared: Store) -> None:
    """It is found when all are tried again, one by one."""
    good = [shared.commit([nodes.see(f"node {n}", "name", None, None, 1.0)]) for n in range(5)]
    broken = shared.commit([nodes.see("bad", "a\x00b", None, None, 1.0)])
    with pytest.raises(StoreError, match="NUL"):
        await broken
    await asyncio.gather(*good)
    assert len(await shared.read(nodes.all_nodes)) == 5


async def test_many_rows_are_one_statement(shared: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [
        Shard(f"job {number}", index, ShardState.ASSIGNED, index, 1, 1)
        for number in range(50)
        for index in range(4)
    ]
    given = [
        Assignment(f"{each.job_id}.{each.index}.1", each.job_id, each.index, 1, "node", OFFERED)
        for each in shards
    ]
    results = [
        ShardResult(each.id, each.job_id, each.index, each.index, 1, "node", "sha", 1, b"1", 0, 0)
        for each in given
    ]
    done = [NewEvent(EventType.SHARD_DONE, {"index": n}) for n in range(200)]
    sent = sent_by(monkeypatch)
    await shared.commit([jobs.put_shards((each, None) for each in shards), jobs.offer(given, 1.0)])
    units: list[tuple[Sequence[Write], Sequence[NewEvent]]] = [
        (
            [
                jobs.put_shards((each, "accepted") for each in shards),
                jobs.end_assignments(((each, None) for each in given), 2.0),
                shard_results.put(results),
            ],
            done,
        ),
        *(([jobs.mark_read(f"job {number}", 3.0)], ()) for number in range(50)),
    ]
    await asyncio.gather(*(shared.commit(*unit) for unit in units))
    changed = [query.split()[1 + query.startswith("INSERT")] for query in sent]
    assert sorted(changed) == [
        "assignments", "assignments", "event_queue", "jobs", "meta", "meta", "results", "shards",
        "shards",
    ]  # fmt: skip


def sent_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which each statement is added that changes something, once for each run."""
    sent: list[str] = []
    run, run_many = psycopg.Cursor.execute, psycopg.Cursor.executemany

    def execute(cursor: Any, query: str, *arguments: Any, **named: Any) -> Any:
        sent.extend([query] * query.startswith(("INSERT", "UPDATE")))
        return run(cursor, query, *arguments, **named)

    def executemany(cursor: Any, query: str, rows: Sequence[Any], **named: Any) -> None:
        sent.extend([query] * len(rows))
        run_many(cursor, query, rows, **named)

    monkeypatch.setattr(psycopg.Cursor, "execute", execute)
    monkeypatch.setattr(psycopg.Cursor, "executemany", executemany)
    return sent
