"""What a job's status shows: the job, its results, and what each node did for it."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, func, select

from swarm_hub.models.job import Job
from swarm_hub.models.shard import ShardResult
from swarm_hub.storage import schema
from swarm_hub.storage.queries import shard_results
from swarm_hub.storage.queries.jobs import get

_A = schema.assignments
_R = schema.results

_COUNT_ATTEMPTS: Final = (
    select(_A.c.node_id, func.count())
    .where(_A.c.job_id == bindparam("b_id"))
    .group_by(_A.c.node_id)
)
_SUM_RESULTS: Final = (
    select(
        _R.c.node_id,
        func.count(),
        func.sum(_R.c.wall_s),
        func.sum(_R.c.cpu_s),
        func.max(_R.c.peak_memory_bytes),
    )
    .where(_R.c.job_id == bindparam("b_id"), _R.c.counted == 1)
    .group_by(_R.c.node_id)
)


@dataclass(frozen=True, slots=True)
class NodeShare:
    """What one node did for a job; times are in seconds, the peak is that of its largest shard."""

    node_id: str
    shards: int
    attempts: int
    wall_s: float
    cpu_s: float
    peak_memory_bytes: int | None


def shares_of(connection: Connection, job_id: str) -> list[NodeShare]:
    """Return per node what it did for a job, busiest first."""
    done = {
        node_id: (shards, wall_s, cpu_s, peak)
        for node_id, shards, wall_s, cpu_s, peak in connection.execute(
            _SUM_RESULTS, {"b_id": job_id}
        )
    }
    found = [
        NodeShare(node_id, shards, attempts, wall_s, cpu_s, peak)
        for node_id, attempts in connection.execute(_COUNT_ATTEMPTS, {"b_id": job_id})
        for shards, wall_s, cpu_s, peak in [done.get(node_id, (0, 0.0, 0.0, None))]
    ]
    return sorted(found, key=lambda share: share.shards, reverse=True)


def overview(
    connection: Connection, job_id: str, results_limit: int
) -> tuple[Job, list[ShardResult], list[NodeShare]] | None:
    """Return a job with its results and what each node did for it, in one read."""
    job = get(connection, job_id)
    if job is None:
        return None
    return (
        job,
        shard_results.of_job(connection, job_id, results_limit),
        shares_of(connection, job_id),
    )
