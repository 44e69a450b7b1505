"""What a gateway needs to continue a job: its progress, and its open shards."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

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

_INDEX_MAX: Final = 2**31 - 1
# Of a job with shards that were split, whose parts may be the newest.
_NEWEST_AT_ONCE: Final = 256

# The conditions of the partial indexes, as literals: PostgreSQL's generic plan needs them so.
# SQLite's planner would take the primary key and walk through every shard of the job.
IS_OPEN: Final = text("shards.state IN ('queued', 'assigned')")
BY_OPEN: Final = "INDEXED BY shards_open"
IS_GIVEN_UP: Final = text("shards.state IN ('skipped', 'dead', 'cancelled')")
BY_GIVEN_UP: Final = "INDEXED BY shards_given_up"
IS_RETRIED: Final = text("(shards.attempts > 1 OR shards.state = 'split')")
BY_RETRIED: Final = "INDEXED BY shards_retried"
IS_SKIPPED: Final = _S.c.state == ShardState.SKIPPED.value
_IS_SPLIT: Final = _S.c.state == ShardState.SPLIT.value
_SPLITS: Final = (
    select(_S.c.idx, _S.c.first_item, _S.c.n_items)
    .with_hint(_S, BY_RETRIED, "sqlite")
    .where(_S.c.job_id == bindparam("b_id"), IS_RETRIED, _IS_SPLIT)
    .order_by(_S.c.idx)
)
_FOUND: Final = (
    select(func.count())
    .select_from(_S)
    .with_hint(_S, BY_GIVEN_UP, "sqlite")
    .where(
        _S.c.job_id == bindparam("b_id"),
        _S.c.idx > bindparam("b_idx"),
        IS_GIVEN_UP,
        IS_SKIPPED,
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
_NEWEST: Final = (
    select(_S.c.idx, _S.c.first_item, _S.c.n_items)
    .where(_S.c.job_id == bindparam("b_id"), _S.c.idx < bindparam("b_before"))
    .order_by(_S.c.idx.desc())
    .limit(bindparam("b_limit"))
)
_COUNT_OPEN: Final = (
    select(func.count(), func.coalesce(func.sum(_S.c.n_items), 0))
    .with_hint(_S, BY_OPEN, "sqlite")
    .where(_S.c.job_id == bindparam("b_id"), IS_OPEN)
)
_COUNT_GIVEN_UP: Final = (
    select(
        func.count(),
        func.coalesce(func.sum(_S.c.n_items), 0),
        func.coalesce(func.sum(case((IS_SKIPPED, _S.c.n_items), else_=0)), 0),
    )
    .with_hint(_S, BY_GIVEN_UP, "sqlite")
    .where(_S.c.job_id == bindparam("b_id"), IS_GIVEN_UP)
)
_COUNT_RETRIED: Final = (
    select(func.count(), func.coalesce(func.sum(case((_IS_SPLIT, 1), else_=0)), 0))
    .with_hint(_S, BY_RETRIED, "sqlite")
    .where(_S.c.job_id == bindparam("b_id"), IS_RETRIED)
)
_RETRIED_INDEXES: Final = (
    select(_S.c.idx)
    .with_hint(_S, BY_RETRIED, "sqlite")
    .where(_S.c.job_id == bindparam("b_id"), IS_RETRIED)
)
# An attempt beside an open one is a copy, and one after a result confirms it: neither is a retry,
# nor is one after an attempt that gave way. What is on its way to the disk together has the same
# time.
_BEFORE: Final = _A.alias("before")
_RETRIES: Final = (
    select(func.count())
    .select_from(_A)
    .where(
        _A.c.job_id == bindparam("b_id"),
        _A.c.idx.in_(_RETRIED_INDEXES),
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
_OPEN_SHARDS: Final = (
    select(*SHARD_COLUMNS)
    .with_hint(_S, BY_OPEN, "sqlite")
    .where(_S.c.job_id == bindparam("b_id"), IS_OPEN)
    .order_by(_S.c.idx)
)
_OPEN_INDEXES: Final = (
    select(_S.c.idx)
    .with_hint(_S, BY_OPEN, "sqlite")
    .where(_S.c.job_id == bindparam("b_id"), IS_OPEN)
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
    """Return how far a job has been cut and done.

    Of a million shards nearly all are done, so those are not counted: each item of the job that was
    cut is in one shard that is done, open or given up, and all others have small indexes.
    """
    given = {"b_id": job_id}
    n_retried, n_splits = connection.execute(_COUNT_RETRIED, given).one()
    cut = Cutting()
    if n_splits:
        rows = connection.execute(_SPLITS, given).all()
        cut = _with_splits(connection, job_id, rows)
    n_open, n_open_items = connection.execute(_COUNT_OPEN, given).one()
    n_given_up, n_given_up_items, n_skipped_items = connection.execute(_COUNT_GIVEN_UP, given).one()
    n_shards, n_items = _cut_so_far(connection, job_id, cut)
    # Few jobs have any.
    n_retries = connection.execute(_RETRIES, given).scalar_one() if n_retried else 0
    return replace(
        cut,
        n_shards=n_shards,
        n_items=n_items,
        n_done_shards=n_shards - int(n_open) - int(n_given_up) - int(n_splits),
        n_done_items=n_items - int(n_open_items) - int(n_given_up_items),
        n_retries=int(n_retries),
        n_failed_items=int(n_skipped_items),
    )


def _cut_so_far(connection: Connection, job_id: str, cut: Cutting) -> tuple[int, int]:
    """Return how many shards there are, and how many items they hold together.

    Items are cut from the front, and indexes given in turn; only the parts of a shard that was
    split lie before the end of those that were cut earlier.
    """
    n_shards, before = 0, _INDEX_MAX
    limit = _NEWEST_AT_ONCE if cut.splits else 1
    while True:
        given = {"b_id": job_id, "b_before": before, "b_limit": limit}
        rows = connection.execute(_NEWEST, given).all()
        if not rows:
            return n_shards, 0
        n_shards = n_shards or rows[0].idx + 1
        for row in rows:
            was_cut_first = (row.first_item, row.n_items) in cut.splits
            if was_cut_first or not cut.was_split(row.first_item):
                return n_shards, row.first_item + row.n_items
        before = rows[-1].idx


def _with_splits(connection: Connection, job_id: str, rows: Sequence[Any]) -> Cutting:
    """Return which shards were split, and what the search for items that fail has cost.

    Attempts that did not take all of their wall time count as none: between their times in the
    store the gateway may have been away, and its clock may have jumped.
    """
    job = get(connection, job_id)
    assert job is not None
    cut = Cutting(splits=outermost((row.first_item, row.n_items) for row in rows))
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
