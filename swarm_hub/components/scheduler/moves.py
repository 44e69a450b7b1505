"""Which state may follow which, of jobs, shards and assignments; there are no other transitions."""

from typing import Final

from swarm_hub.models.job import JobState
from swarm_hub.models.shard import AssignmentState, ShardState


class ImpossibleTransitionError(Exception):
    """A transition outside the tables, which is a bug; carries the history of the shard or job."""


JOB_MOVES: Final = frozenset(
    {
        (JobState.QUEUED, JobState.RUNNING),
        (JobState.QUEUED, JobState.FAILED),
        (JobState.QUEUED, JobState.CANCELLED),
        (JobState.RUNNING, JobState.COMPLETED),
        (JobState.RUNNING, JobState.FAILED),
        (JobState.RUNNING, JobState.CANCELLED),
    }
)

SHARD_MOVES: Final = frozenset(
    {
        (ShardState.QUEUED, ShardState.ASSIGNED),
        (ShardState.QUEUED, ShardState.SPLIT),
        (ShardState.QUEUED, ShardState.SKIPPED),
        (ShardState.QUEUED, ShardState.DEAD),
        (ShardState.QUEUED, ShardState.CANCELLED),
        (ShardState.ASSIGNED, ShardState.QUEUED),
        (ShardState.ASSIGNED, ShardState.DONE),
        (ShardState.ASSIGNED, ShardState.SPLIT),
        (ShardState.ASSIGNED, ShardState.SKIPPED),
        (ShardState.ASSIGNED, ShardState.DEAD),
        (ShardState.ASSIGNED, ShardState.CANCELLED),
    }
)

# Attempts whose result could still count.
LIVE: Final = (AssignmentState.OFFERED, AssignmentState.ACCEPTED, AssignmentState.EXPIRED)
# Those of them whose deadline has not passed.
OPEN: Final = (AssignmentState.OFFERED, AssignmentState.ACCEPTED)

ASSIGNMENT_MOVES: Final = frozenset(
    {
        (AssignmentState.OFFERED, AssignmentState.ACCEPTED),
        (AssignmentState.OFFERED, AssignmentState.REJECTED),
        (AssignmentState.ACCEPTED, AssignmentState.REJECTED),
        (AssignmentState.EXPIRED, AssignmentState.REJECTED),
        (AssignmentState.OFFERED, AssignmentState.EXPIRED),
        (AssignmentState.ACCEPTED, AssignmentState.EXPIRED),
        *((live, AssignmentState.FINISHED) for live in LIVE),
        *((live, AssignmentState.SUPERSEDED) for live in LIVE),
        *((live, AssignmentState.CANCELLED) for live in LIVE),
    }
)
