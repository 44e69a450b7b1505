"""Jobs put straight into a store, as a gateway leaves them: far more than a test could run."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import Connection, func, select

from swarm_hub.components.gc.collector import Collector
from swarm_hub.components.gc.policy import RetentionPolicy
from swarm_hub.core import Hub
from swarm_hub.models.call import Script
from swarm_hub.models.envelope import Envelope
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.models.job import Job, JobSpec, JobState, Split
from swarm_hub.models.receipt import Receipt
from swarm_hub.models.shard import Assignment, AssignmentState, Shard, ShardResult, ShardState
from swarm_hub.storage import Store, schema
from swarm_hub.storage.queries import jobs, receipts, shard_results
from swarm_hub.storage.queries.jobs import Finish
from tests.conftest import MovableClock

_AT_ONCE = 10_000
_SPEC = JobSpec("core", "map", Split.RANGE, 0, "sum")


def hub_on(store: Store, folder: Path, clock: MovableClock) -> Hub:
    """Return a hub that is nothing but its store."""
    return Hub(folder, "hub", store, clock)


async def collect(hub: Hub, policy: RetentionPolicy, gateway: str = "") -> Collector:
    """Do one round, and have its events told."""
    collector = Collector(hub, policy, gateway)
    await collector.collect()
    await hub.store.catch_up()
    return collector


async def put_job(
    store: Store,
    job_id: str,
    *,
    ended_at: float | None,
    read_at: float | None = None,
    n_shards: int = 1,
    gateway: str = "gateway",
    body: bytes = b"8 bytes.",
    dataset: bytes = b"",
    envelope: bytes | None = None,
) -> None:
    """Store a job with its shards, an assignment and a result for each, ended or running.

    With `envelope` each result has a receipt of its own with that body. Nothing is told of it: see
    `tell_of_job`.
    """
    module, module_row = await store.blobs.put(b"a module", 0.0)
    data, data_row = await store.blobs.put(dataset or job_id.encode(), 0.0)
    script, script_row = await store.blobs.put(b"a script", 0.0)
    parts, parts_row = await store.blobs.put(b"its files", 0.0)
    size_bytes = len(dataset) or len(job_id)
    spec = dataclasses.replace(_SPEC, script=Script("a.js", script, 8))
    job = Job(
        job_id, JobState.RUNNING, spec, module, 8, data, n_shards, size_bytes, 0, 0.0, "owner",
        parts_sha=parts,
    )  # fmt: skip
    await store.commit(
        [
            module_row,
            script_row,
            data_row,
            parts_row,
            jobs.submit(job, gateway, 1, None, ""),
            jobs.start([job_id], 0.0),
        ]
    )
    for start in range(0, n_shards, _AT_ONCE):
        indexes = range(start, min(start + _AT_ONCE, n_shards))
        signed = {n: made_receipt(n, envelope) for n in indexes} if envelope is not None else {}
        await store.commit(
            [
                jobs.put_shards(
                    (Shard(job_id, n, ShardState.DONE, n, 1, 1), f"{job_id}.{n}.1") for n in indexes
                ),
                jobs.offer(
                    (
                        Assignment(
                            f"{job_id}.{n}.1", job_id, n, 1, "node", AssignmentState.FINISHED
                        )
                        for n in indexes
                    ),
                    0.0,
                ),
                shard_results.put(
                    ShardResult(
                        f"{job_id}.{n}.1",
                        job_id,
                        n,
                        n,
                        1,
                        "node",
                        "sha",
                        len(body),
                        body,
                        0.1,
                        0.1,
                        receipt=signed[n].sha if signed else None,
                    )
                    for n in indexes
                ),
                receipts.keep((job_id, each) for each in signed.values()),
            ]
        )
    if ended_at is not None:
        end = Finish(
            job_id, JobState.COMPLETED, ended_at, (), "sha", 2, b"42",
            n_shards, 0, n_shards, n_shards,
        )  # fmt: skip
        await store.commit([jobs.finish([end])])
    if read_at is not None:
        await store.commit([jobs.mark_read(job_id, read_at)])


async def tell_of_job(store: Store, job_id: str, n_shards: int = 1) -> None:
    """Commit the events of a job that completed, as a gateway does; they were fired now."""
    data = {"job_id": job_id}
    about_shards = [
        NewEvent(kind, {**data, "index": index}, job_id)
        for index in range(n_shards)
        for kind in (EventType.SHARD_ASSIGNED, EventType.SHARD_DONE)
    ]
    begun = [NewEvent(kind, data, job_id) for kind in (EventType.JOB_QUEUED, EventType.JOB_RUNNING)]
    ended = NewEvent(EventType.JOB_COMPLETED, data, job_id)
    await store.commit([], [*begun, *about_shards, ended])


def events_of(connection: Connection, job_id: str) -> list[str]:
    """Return the kinds of a job's events, in order."""
    query = select(schema.events.c.event_type).where(schema.events.c.job_id == job_id)
    return list(connection.execute(query.order_by(schema.events.c.seq)).scalars())


def made_receipt(number: int, body: bytes, node_id: str = "node") -> Receipt:
    """Return a receipt that differs by its number; nothing is signed."""
    envelope = Envelope(b"header %d" % number, bytes(64), body)
    return Receipt(node_id, "kid", b"key", envelope, float(number))


def job_ids(connection: Connection) -> list[str]:
    """Return the jobs that are there."""
    return list(connection.execute(select(schema.jobs.c.id).order_by(schema.jobs.c.id)).scalars())


def rows_of(connection: Connection, job_id: str) -> tuple[int, int, int]:
    """Return how many shards, assignments and results a job has."""
    shards, assignments, results = (
        connection.execute(
            select(func.count()).select_from(table).where(table.c.job_id == job_id)
        ).scalar_one()
        for table in (schema.shards, schema.assignments, schema.results)
    )
    return shards, assignments, results


def receipts_of(connection: Connection, job_id: str) -> int:
    """Return how many receipts a job has."""
    table = schema.receipts
    query = select(func.count()).select_from(table).where(table.c.job_id == job_id)
    return int(connection.execute(query).scalar_one())


def tombstones(connection: Connection) -> dict[str, int]:
    """Return the pruned jobs, each with whether rows of it are left."""
    rows = connection.execute(select(schema.tombstones.c.job_id, schema.tombstones.c.rows_left))
    return {row.job_id: row.rows_left for row in rows}


def pruned(connection: Connection) -> list[str]:
    """Return the jobs whose pruning was told, once for each time."""
    query = select(schema.events.c.job_id).where(schema.events.c.event_type == "job_pruned")
    return list(connection.execute(query.order_by(schema.events.c.seq)).scalars())


async def put_jobs(store: Store, ended_at: Iterable[float]) -> list[str]:
    """Store small finished jobs; returns their ids."""
    made = []
    for number, at in enumerate(ended_at):
        made.append(f"job-{number:02}")
        await put_job(store, made[-1], ended_at=at)
    return made
