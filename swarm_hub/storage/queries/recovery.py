"""What a gateway needs to continue a job: its progress, and its open shards."""

from dataclasses import replace
from typing import Final

from sqlalchemy import Connection, and_, bindparam, case, exists, func, or_, select, text

from swarm_hub.models.job import Job
from swarm_hub.models.messages import GAVE_WAY, TIMED_OUT
from swarm_hub.models.shard import (
    Assignment,
    AssignmentState,
    Cutting,
    Shard,
    ShardState,
    outermost,
)
from swarm_hub.storage import schema
from swarm_hub.storage.queries.jobs import SHARD_COLUMNS, as_assignment, as_shards, get

_A = schema.assignments
_R = schema.results
_S = schema.shards

# The condition of the partial index, as a literal: PostgreSQL's generic plan needs it so.
_IS_OPEN: Final = text("shards.state IN ('queued', 'assigned')")
_IS_DONE: Final = _S.c.state == ShardState.DONE.value
_IS_SKIPPED: Final = _S.c.state == ShardState.SKIPPED.value
_IS_SPLIT: Final = _S.c.state == ShardState.SPLIT.value
_SPLITS: Final = (
    select(_S.c.idx, _S.c.first_item, _S.c.n_items)
    .where(_S.c.job_id == bindparam("b_id"), _IS_SPLIT)
    .order_by(_S.c.idx)
)
_FOUND: Final = (
    select(func.count())
    .select_from(_S)
    .where(
        _S.c.job_id == bindparam("b_id"),
        _S.c.idx > bindparam("b_idx"),
        _IS_SKIPPED,
        _S.c.n_items == 1,
    )
)
# The parts of the first shard that was split, and of all after it, have higher indexes.
_FAILED_LATER: Final = (
    select(_S.c.first_item, _A.c.reason.startswith(TIMED_OUT).label("timed_out"))
    .join_from(_A, _S, and_(_S.c.job_id == _A.c.job_id, _S.c.idx == _A.c.idx))
    .where(
        _A.c.job_id == bindparam("b_id"),
        _A.c.idx > bindparam("b_idx"),
        _A.c.state == AssignmentState.FINISHED.value,
        _A.c.reason.is_not(None),
    )
)
_CUTTING: Final = select(
    func.count(),
    func.coalesce(func.max(_S.c.first_item + _S.c.n_items), 0),
    func.coalesce(func.sum(case((_IS_DONE, 1), else_=0)), 0),
    func.coalesce(func.sum(case((_IS_DONE, _S.c.n_items), else_=0)), 0),
    # A part of a shard that was split may have none yet.
    func.coalesce(func.sum(case((_S.c.attempts > 1, _S.c.attempts - 1), else_=0)), 0),
    func.coalesce(func.sum(case((_IS_SKIPPED, _S.c.n_items), else_=0)), 0),
    func.coalesce(func.sum(case((_IS_SPLIT, 1), else_=0)), 0),
).where(_S.c.job_id == bindparam("b_id"))
# An attempt beside an open one is a copy, and one after a result confirms it: neither is a retry,
# nor is one after an attempt that gave way. What is on its way to the disk together has the same
# time.
_BEFORE: Final = _A.alias("before")
_RETRIES: Final = (
    select(func.count())
    .select_from(_A)
    .where(
        _A.c.job_id == bindparam("b_id"),
        _A.c.attempt > 1,
        ~exists().where(
            _BEFORE.c.job_id == _A.c.job_id,
            _BEFORE.c.idx == _A.c.idx,
            _BEFORE.c.attempt < _A.c.attempt,
            or_(
                _BEFORE.c.ended_at.is_(None),
                _BEFORE.c.ended_at > _A.c.offered_at,
                and_(_BEFORE.c.state == AssignmentState.FINISHED.value, _BEFORE.c.reason.is_(None)),
                and_(
                    _BEFORE.c.attempt == _A.c.attempt - 1,
                    _BEFORE.c.reason.startswith(GAVE_WAY),
                ),
            ),
        ),
    )
)
# SQLite's planner would take the primary key and walk through every shard of the job.
_BY_OPEN: Final = "INDEXED BY shards_open"
_OPEN_SHARDS: Final = (
    select(*SHARD_COLUMNS)
    .with_hint(_S, _BY_OPEN, "sqlite")
    .where(_S.c.job_id == bindparam("b_id"), _IS_OPEN)
    .order_by(_S.c.idx)
)
_OPEN_INDEXES: Final = (
    select(_S.c.idx)
    .with_hint(_S, _BY_OPEN, "sqlite")
    .where(_S.c.job_id == bindparam("b_id"), _IS_OPEN)
)
_OPEN_ASSIGNMENTS: Final = (
    select(_A)
    .where(_A.c.job_id == bindparam("b_id"), _A.c.idx.in_(_OPEN_INDEXES))
    .order_by(_A.c.idx, _A.c.attempt)
)
_UNCOUNTED: Final = select(_R.c.assignment_id, _R.c.node_id, _R.c.sha).where(
    _R.c.job_id == bindparam("b_id"), _R.c.counted == 0, _R.c.idx.in_(_OPEN_INDEXES)
)


def unfinished(
    connection: Connection, job_id: str
) -> tuple[Job, Cutting, list[Shard], list[tuple[Assignment, str | None]]]:
    """Return what a gateway needs to continue a job; finished shards are only counted."""
    job = get(connection, job_id)
    assert job is not None
    return (
        job,
        cutting_of(connection, job_id),
        open_shards_of(connection, job_id),
        open_assignments_of(connection, job_id),
    )


def cutting_of(connection: Connection, job_id: str) -> Cutting:
    """Return how far a job has been cut and done."""
    given = {"b_id": job_id}
    numbers = [int(each) for each in connection.execute(_CUTTING, given).one()]
    n_splits = numbers.pop()
    cut = Cutting(*numbers)  # type: ignore[arg-type]
    # Few jobs have any, and to count them every attempt is looked at.
    if cut.n_retries:
        cut = replace(cut, n_retries=int(connection.execute(_RETRIES, given).scalar_one()))
    return _with_splits(connection, job_id, cut) if n_splits else cut


def _with_splits(connection: Connection, job_id: str, cut: Cutting) -> Cutting:
    """Add what the search for items that fail has cost.

    Attempts that did not take all of their wall time count as none: between their times in the
    store the gateway may have been away, and its clock may have jumped.
    """
    job = get(connection, job_id)
    assert job is not None
    rows = connection.execute(_SPLITS, {"b_id": job_id}).all()
    cut = replace(cut, splits=outermost((row.first_item, row.n_items) for row in rows))
    timed_out = [
        bool(row.timed_out)
        for row in connection.execute(_FAILED_LATER, {"b_id": job_id, "b_idx": rows[0].idx})
        if cut.was_split(row.first_item)
    ]
    found = connection.execute(_FOUND, {"b_id": job_id, "b_idx": rows[0].idx}).scalar_one()
    isolating_s = sum(timed_out) * (job.spec.limits.wall_time or 0.0)
    return replace(
        cut, n_found_items=int(found), n_isolating=len(timed_out), isolating_s=isolating_s
    )


def open_shards_of(connection: Connection, job_id: str) -> list[Shard]:
    """Return the shards of a job that are queued or assigned, in the order of cutting."""
    return as_shards(connection.execute(_OPEN_SHARDS, {"b_id": job_id}).all())


def unconfirmed_of(connection: Connection, job_id: str) -> list[tuple[str, str, str]]:
    """Return (assignment id, node id, hash) of the results that wait for others to confirm them."""
    rows = connection.execute(_UNCOUNTED, {"b_id": job_id})
    return [(row.assignment_id, row.node_id, row.sha) for row in rows]


def open_assignments_of(connection: Connection, job_id: str) -> list[tuple[Assignment, str | None]]:
    """Return every attempt at a job's open shards with the reason of its end."""
    return [as_assignment(row) for row in connection.execute(_OPEN_ASSIGNMENTS, {"b_id": job_id})]
