"""What a gateway needs to continue many jobs, in a few statements for all of them.

`recovery` reads one job, whose shards may have been split; here those are left to it.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import BindParameter, Connection, and_, bindparam, case, func, select

from swarm_hub.models.job import Job
from swarm_hub.models.shard import Assignment, Cutting, Shard
from swarm_hub.storage import schema
from swarm_hub.storage.queries import recovery
from swarm_hub.storage.queries.jobs import SHARD_COLUMNS, as_assignment, as_job, as_shards

_A = schema.assignments
_J = schema.jobs
_R = schema.results
_S = schema.shards
_NEWEST = _S.alias("newest")

# How many jobs are read, or taken from a gateway that is gone, at once.
BATCH: Final = 50

_IDS: Final[BindParameter[list[str]]] = bindparam("b_ids", expanding=True)
_OF_THESE: Final = _S.c.job_id.in_(_IDS)
_JOBS: Final = select(_J).where(_J.c.id.in_(_IDS))
_RETRIED: Final = (
    select(_S.c.job_id)
    .with_hint(_S, recovery.BY_RETRIED, "sqlite")
    .where(_OF_THESE, recovery.IS_RETRIED)
    .distinct()
)
_GIVEN_UP: Final = (
    select(
        _S.c.job_id,
        func.count().label("n_shards"),
        func.sum(_S.c.n_items).label("n_items"),
        func.sum(case((recovery.IS_SKIPPED, _S.c.n_items), else_=0)).label("n_skipped"),
    )
    .with_hint(_S, recovery.BY_GIVEN_UP, "sqlite")
    .where(_OF_THESE, recovery.IS_GIVEN_UP)
    .group_by(_S.c.job_id)
)
# By the primary key: the newest of a job, not a walk through all its shards.
_LAST_CUT: Final = (
    select(_S.c.job_id, _S.c.idx, (_S.c.first_item + _S.c.n_items).label("n_items"))
    .select_from(_J)
    .join(
        _S,
        and_(
            _S.c.job_id == _J.c.id,
            _S.c.idx
            == select(func.max(_NEWEST.c.idx))
            .where(_NEWEST.c.job_id == _J.c.id)
            .correlate(_J)
            .scalar_subquery(),
        ),
    )
    .where(_J.c.id.in_(_IDS))
)
_OPEN: Final = (
    select(*SHARD_COLUMNS)
    .with_hint(_S, recovery.BY_OPEN, "sqlite")
    .where(_OF_THESE, recovery.IS_OPEN)
    .order_by(_S.c.job_id, _S.c.idx)
)
_ATTEMPTS: Final = (
    select(_A)
    .join(_S, and_(_S.c.job_id == _A.c.job_id, _S.c.idx == _A.c.idx))
    .with_hint(_S, recovery.BY_OPEN, "sqlite")
    .where(_OF_THESE, recovery.IS_OPEN)
    .order_by(_A.c.job_id, _A.c.idx, _A.c.attempt)
)
_UNCONFIRMED: Final = (
    select(_R.c.job_id, _R.c.assignment_id, _R.c.node_id, _R.c.sha)
    .join(_S, and_(_S.c.job_id == _R.c.job_id, _S.c.idx == _R.c.idx))
    .with_hint(_S, recovery.BY_OPEN, "sqlite")
    .where(_OF_THESE, recovery.IS_OPEN, _R.c.counted == 0)
)


@dataclass(slots=True)
class LeftJob:
    """An unfinished job as it is in the store; finished shards are only counted."""

    job: Job
    cutting: Cutting = field(default_factory=Cutting)
    shards: list[Shard] = field(default_factory=list)
    assignments: list[tuple[Assignment, str | None]] = field(default_factory=list)
    # Assignment id, node id and hash of the results that wait for others to confirm them.
    unconfirmed: list[tuple[str, str, str]] = field(default_factory=list)


def left_job(connection: Connection, job_id: str) -> LeftJob:
    """Return one job to be continued, whatever became of its shards."""
    left = recovery.unfinished(connection, job_id)
    return LeftJob(*left, recovery.unconfirmed_of(connection, job_id))


def left_jobs(connection: Connection, job_ids: Sequence[str]) -> dict[str, LeftJob]:
    """Return jobs to be continued, by id, in as many statements as for one.

    Only jobs with shards that were retried or split take statements of their own.
    """
    given = {"b_ids": list(job_ids)}
    left = {row.id: LeftJob(as_job(row)) for row in connection.execute(_JOBS, given)}
    for shard in as_shards(connection.execute(_OPEN, given).all()):
        left[shard.job_id].shards.append(shard)
    for row in connection.execute(_ATTEMPTS, given):
        left[row.job_id].assignments.append(as_assignment(row))
    for row in connection.execute(_UNCONFIRMED, given):
        left[row.job_id].unconfirmed.append((row.assignment_id, row.node_id, row.sha))
    given_up: dict[str, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))
    for row in connection.execute(_GIVEN_UP, given):
        given_up[row.job_id] = int(row.n_shards), int(row.n_items), int(row.n_skipped)
    for row in connection.execute(_LAST_CUT, given):
        n_given_up, n_given_up_items, n_skipped = given_up[row.job_id]
        n_shards, shards = row.idx + 1, left[row.job_id].shards
        left[row.job_id].cutting = Cutting(
            n_shards=n_shards,
            n_items=row.n_items,
            n_done_shards=n_shards - len(shards) - n_given_up,
            n_done_items=row.n_items - sum(each.n_items for each in shards) - n_given_up_items,
            n_failed_items=n_skipped,
        )
    for job_id in connection.execute(_RETRIED, given).scalars():
        left[job_id].cutting = recovery.cutting_of(connection, job_id)
    return left
