"""A job as the scheduler needs it; pure."""

import dataclasses
from typing import Final

from swarm_hub.components.scheduler import JobPlan
from swarm_hub.models.job import Constraints, Job, JobSpec

# A shard's input travels as one message or one blob, and is in memory on both sides.
_SHARD_MAX_BYTES: Final = 16 * 1024 * 1024


def plan_of(job: Job, now: float) -> JobPlan:
    """Return the plan of a new job; `now` in seconds since the epoch."""
    spec = job.spec
    per_item = max(1, job.dataset_bytes // job.n_items)
    return JobPlan(
        job.id,
        job.program,
        job.n_items,
        spec.shard_size,
        max(1, _SHARD_MAX_BYTES // per_item),
        spec.priority,
        job.owner,
        _constraints(spec),
        deadline_in_s=None if spec.deadline_s is None else job.created_at + spec.deadline_s - now,
    )


def _constraints(spec: JobSpec) -> Constraints | None:
    """Return what a node must have: what is asked for, and the memory the module may take."""
    wanted, limit = spec.constraints, spec.limits.memory
    if limit is None:
        return wanted
    wanted = wanted or Constraints()
    return dataclasses.replace(wanted, memory=max(limit, wanted.memory or 0))
