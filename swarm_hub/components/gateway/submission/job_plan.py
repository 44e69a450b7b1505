"""A job as the scheduler needs it; pure."""

import dataclasses
from collections.abc import Callable, Iterable

from swarm_hub.components.gateway.submission.dataset import SHARD_MAX_BYTES
from swarm_hub.components.gateway.submission.module_call import needs_of
from swarm_hub.components.scheduler import (
    WALL_TIME_S,
    JobPlan,
    Redundancy,
    Vote,
    adaptive_redundancy,
)
from swarm_hub.models.job import ADAPTIVE, ON_ERROR_SKIP, Constraints, Job, JobSpec


def plan_of(job: Job, now: float, secret: bytes) -> JobPlan:
    """Return the plan of a new job; `now` in seconds since the epoch.

    `secret` decides which shards of an adaptive job are checked.
    """
    spec = job.spec
    return JobPlan(
        job.id,
        job.program,
        job.n_items,
        spec.shard_size,
        shard_items_max(job.dataset_bytes, job.n_items),
        spec.priority,
        job.owner,
        _constraints(spec),
        _redundancy(spec, secret),
        known=spec.known_answers,
        needs=frozenset(needs_of(spec)),
        wall_s=WALL_TIME_S if spec.limits.wall_time is None else spec.limits.wall_time,
        isolates=spec.isolate,
        skips=spec.on_error == ON_ERROR_SKIP,
        failed_items_max=spec.max_failures,
        runtime=spec.runtime,
        deadline_in_s=None if spec.deadline_s is None else job.created_at + spec.deadline_s - now,
    )


def shard_items_max(dataset_bytes: int, n_items: int) -> int:
    """Return how many items of a dataset a shard may have at most."""
    return max(1, SHARD_MAX_BYTES // max(1, dataset_bytes // n_items))


def votes_of(
    unconfirmed: Iterable[tuple[str, str, str]], owner: Callable[[str], str]
) -> tuple[Vote, ...]:
    """Return rows of (assignment id, node id, hash) as votes."""
    return tuple(
        Vote(assignment_id, node_id, owner(node_id), sha)
        for assignment_id, node_id, sha in unconfirmed
    )


def _redundancy(spec: JobSpec, secret: bytes) -> Redundancy:
    if spec.redundancy == ADAPTIVE:
        return adaptive_redundancy(secret)
    return Redundancy(int(spec.redundancy))


def _constraints(spec: JobSpec) -> Constraints | None:
    """Return what a node must have: what the job asks for, and the memory the module may take."""
    wanted, limit = spec.constraints, spec.limits.memory
    if limit is None:
        return wanted
    wanted = wanted or Constraints()
    return dataclasses.replace(wanted, memory=max(limit, wanted.memory or 0))
