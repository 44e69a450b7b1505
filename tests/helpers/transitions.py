"""A hub's life on a store, told word by word: what it is about to write and what is on disk.

Fault tests run it in a process that dies, keep the words, and hold the store to them with
tests/helpers/promises.py. Everything goes through the functions that the components use.
"""

import asyncio
import itertools
import random
from collections.abc import Iterator
from typing import Final, Protocol

from swarm_hub.const import INLINE_MAX_BYTES
from swarm_hub.models.envelope import Envelope
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.models.job import Job, JobSpec, JobState, Split
from swarm_hub.models.messages import Result
from swarm_hub.models.receipt import Receipt
from swarm_hub.models.shard import (
    Assignment,
    AssignmentState,
    Shard,
    ShardResult,
    ShardState,
    assignment_id,
)
from swarm_hub.storage import Store, Write
from swarm_hub.storage.queries import (
    inbox,
    jobs,
    leases,
    listing,
    receipts,
    recovery,
    replay_cache,
    shard_results,
)
from swarm_hub.storage.queries.inbox import InboxEntry, OutboxEntry
from swarm_hub.util.hashing import sha256_hex

N_SHARDS: Final = 3
ITEMS_A_SHARD: Final = 10
# Lanes write beside each other, so that commits are group commits.
LANES: Final = 6
_SPEC: Final = JobSpec("range", "map", Split.RANGE, 0, "sum")
_NOW: Final = 1_000_000.0
_NODE: Final = "node"


class Say(Protocol):
    """Tells the test a word about an id; it has arrived when the call returns."""

    def __call__(self, word: str, about: str, *more: str) -> None: ...


async def live(
    store: Store, say: Say, name: str, rng: random.Random, turns: int | None = None
) -> None:
    """Go on with what a former life left, then do `turns` turns in each lane (None: for ever).

    `name` is a life's own; ids are made of it.
    """
    owned = await store.change(leases.adopt, "gateway", starting=True)
    left = [(await store.read(recovery.unfinished, job_id))[0] for job_id in sorted(owned)]
    taken = await store.read(inbox.open_entries)
    waiting = await store.read(inbox.undelivered)
    for entry in waiting:
        say("finished", entry.result.assignment_id, entry.result.sha)
    async with asyncio.TaskGroup() as group:
        for lane in range(LANES):
            ids = _ids(f"{name}-{lane}", turns)
            own = random.Random(rng.random())
            if lane % 2:
                mine = [entry.assignment_id for entry in taken[lane // 2 :: LANES // 2]]
                done = [entry.result.assignment_id for entry in waiting[lane // 2 :: LANES // 2]]
                group.create_task(_work(store, say, own, ids, mine, done))
            else:
                group.create_task(_direct(store, say, own, ids, left[lane // 2 :: LANES // 2]))


def _ids(prefix: str, turns: int | None) -> Iterator[str]:
    for number in itertools.count() if turns is None else range(turns):
        yield f"{prefix}-{number}"


async def _direct(
    store: Store, say: Say, rng: random.Random, ids: Iterator[str], left: list[Job]
) -> None:
    """Do what a gateway does: submit, offer, take results, finish."""
    for job in left:
        await _run(store, say, rng, job)
    for job_id in ids:
        await _run(store, say, rng, await _submit(store, say, rng, job_id))


async def _submit(store: Store, say: Say, rng: random.Random, job_id: str) -> Job:
    dataset = _body(rng)
    sha, blob_row = await store.blobs.put(dataset, _NOW)
    job = Job(
        job_id, JobState.QUEUED, _SPEC, sha, len(dataset), sha, N_SHARDS * ITEMS_A_SHARD,
        len(dataset), 0, _NOW, "owner",
    )  # fmt: skip
    queued = NewEvent(EventType.JOB_QUEUED, {"job_id": job_id}, job_id)
    await store.commit([blob_row, jobs.submit(job, "gateway", 1, job_id, sha)], [queued])
    say("submitted", job_id, sha)
    return job


async def _run(store: Store, say: Say, rng: random.Random, job: Job) -> None:
    cut, _ = await store.read(listing.shards, job.id, frozenset(), None, -1, N_SHARDS)
    shards = {shard.index: shard for shard in cut}
    attempts = {}
    for index in range(N_SHARDS):
        before = shards.get(index)
        if before is None or before.state is not ShardState.DONE:
            attempts[index] = 1 if before is None else before.attempts + 1
    expired = [
        (_assignment(job.id, index, attempt - 1, AssignmentState.EXPIRED), "restart")
        for index, attempt in attempts.items()
        if attempt > 1
    ]
    await store.commit(
        [
            jobs.start([job.id], _NOW),
            jobs.put_shards(
                (_shard(job.id, index, attempt, ShardState.ASSIGNED), None)
                for index, attempt in attempts.items()
            ),
            jobs.end_assignments(expired, _NOW),
            jobs.offer(
                (
                    _assignment(job.id, index, attempt, AssignmentState.OFFERED)
                    for index, attempt in attempts.items()
                ),
                _NOW,
            ),
        ]
    )
    for index, attempt in attempts.items():
        say("offered", assignment_id(job.id, index, attempt))
    for index, attempt in attempts.items():
        last = index == max(attempts)
        await _take_result(store, say, rng, job, index, attempt, last)
    say("completed", job.id)


async def _take_result(
    store: Store, say: Say, rng: random.Random, job: Job, index: int, attempt: int, last: bool
) -> None:
    """Store a result; the last one finishes its job in the same transaction."""
    result, rows = await _result(store, rng, job.id, index, attempt)
    writes = [
        *rows,
        jobs.put_shards([(_shard(job.id, index, attempt, ShardState.DONE), result.assignment_id)]),
        jobs.end_assignments(
            [(_assignment(job.id, index, attempt, AssignmentState.FINISHED), None)], _NOW
        ),
        shard_results.put([result]),
    ]
    told = [NewEvent(EventType.SHARD_DONE, {"job_id": job.id, "index": index}, job.id)]
    if last:
        end = jobs.Finish(
            job.id, JobState.COMPLETED, _NOW, (), result.sha, result.size_bytes, result.body,
            N_SHARDS, attempt - 1, job.n_items, N_SHARDS,
        )  # fmt: skip
        writes.append(jobs.finish([end]))
        told.append(NewEvent(EventType.JOB_COMPLETED, {"job_id": job.id}, job.id))
    await store.commit(writes, told)
    say("counted", result.assignment_id, result.sha)
    if rng.random() < 0.2:
        # The same assignment again, with other bytes: the first stays.
        again, rows = await _result(store, rng, job.id, index, attempt)
        await store.commit([*rows, shard_results.put([again])])


async def _work(
    store: Store,
    say: Say,
    rng: random.Random,
    ids: Iterator[str],
    taken: list[str],
    waiting: list[str],
) -> None:
    """Do what a worker does: accept, finish, deliver."""
    for assigned in taken:
        await _finish(store, say, rng, assigned)
    await _deliver(store, say, waiting + taken)
    for name in ids:
        batch = [f"{name}.{number}" for number in range(rng.randint(1, 4))]
        entries = [
            InboxEntry(assigned, "gateway", "{}", sha256_hex(b""), 0, b"", _NOW, "")
            for assigned in batch
        ]
        jti = replay_cache.remember(name.encode(), "gateway", b"hash", _NOW)
        await store.commit([inbox.accept(entries), jti])
        for assigned in batch:
            say("accepted", assigned, name)
        if rng.random() < 0.5:
            await asyncio.gather(*(_finish(store, say, rng, assigned) for assigned in batch))
        else:
            for assigned in batch:
                await _finish(store, say, rng, assigned)
        await _deliver(store, say, batch)


async def _finish(store: Store, say: Say, rng: random.Random, assigned: str) -> None:
    body = _body(rng)
    sha, blob_row = await store.blobs.put(body, _NOW)
    inline = body if len(body) <= INLINE_MAX_BYTES else None
    result = Result(assigned, "ok", "", sha256_hex(b""), sha, len(body), inline, 0.1, 0.1)
    rows = [] if inline is not None else [blob_row]
    say("finishing", assigned)
    await store.commit(
        [*rows, *inbox.finish([OutboxEntry(result, "gateway", _NOW, "")], [result.assignment_id])]
    )
    say("finished", assigned, sha)


async def _deliver(store: Store, say: Say, batch: list[str]) -> None:
    if not batch:
        return
    for assigned in batch:
        say("delivering", assigned)
    await store.commit([inbox.delivered(batch)])
    for assigned in batch:
        say("delivered", assigned)


async def _result(
    store: Store, rng: random.Random, job_id: str, index: int, attempt: int
) -> tuple[ShardResult, list[Write]]:
    body = _body(rng)
    sha, blob_row = await store.blobs.put(body, _NOW)
    inline = body if len(body) <= INLINE_MAX_BYTES else None
    envelope = Envelope(rng.randbytes(150), rng.randbytes(64), body[:INLINE_MAX_BYTES])
    receipt = Receipt(_NODE, "kid", b"key", envelope, _NOW) if rng.random() < 0.3 else None
    result = ShardResult(
        assignment_id(job_id, index, attempt), job_id, index, index * ITEMS_A_SHARD,
        ITEMS_A_SHARD, _NODE, sha, len(body), inline, 0.1, 0.1,
        receipt=None if receipt is None else receipt.sha,
    )  # fmt: skip
    rows = [] if inline is not None else [blob_row]
    if receipt is not None:
        rows.append(receipts.keep([(job_id, receipt)]))
    return result, rows


def _body(rng: random.Random) -> bytes:
    """Return mostly small bytes, now and then so many that they become a file."""
    large = rng.random() < 0.02
    return rng.randbytes(INLINE_MAX_BYTES + rng.randint(1, 5000) if large else rng.randint(1, 300))


def _shard(job_id: str, index: int, attempt: int, state: ShardState) -> Shard:
    return Shard(job_id, index, state, index * ITEMS_A_SHARD, ITEMS_A_SHARD, attempt)


def _assignment(job_id: str, index: int, attempt: int, state: AssignmentState) -> Assignment:
    return Assignment(assignment_id(job_id, index, attempt), job_id, index, attempt, _NODE, state)
