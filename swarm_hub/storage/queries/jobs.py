"""Queries on jobs, their shards and assignments."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Row,
    bindparam,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.sqlite import insert as upsert

from swarm_hub.models.job import Job, JobSpec, JobState
from swarm_hub.models.shard import (
    Assignment,
    AssignmentState,
    Shard,
    ShardState,
    assignment_id,
)
from swarm_hub.storage import schema
from swarm_hub.storage.write import Write

_J = schema.jobs
_S = schema.shards
_A = schema.assignments

SHARD_COLUMNS: Final = (
    _S.c.job_id, _S.c.idx, _S.c.state, _S.c.first_item, _S.c.n_items, _S.c.attempts,
)  # fmt: skip
_SHARD_STATES: Final = {state.value: state for state in ShardState}

# Built once: building a select costs more than running it.
_GET_JOB: Final = select(_J).where(_J.c.id == bindparam("b_id"))
_INSERT_JOB: Final = insert(_J)
_START_JOB: Final = (
    update(_J)
    .where(_J.c.id == bindparam("b_id"))
    .values(state=bindparam("b_state"), started_at=bindparam("b_at"))
)
_FINISH_JOB: Final = (
    update(_J)
    .where(_J.c.id == bindparam("b_id"))
    .values(
        state=bindparam("b_state"),
        finished_at=bindparam("b_at"),
        failures=bindparam("b_failures"),
        result_sha=bindparam("b_sha"),
        result_bytes=bindparam("b_bytes"),
        result_inline=bindparam("b_inline"),
        n_shards=bindparam("b_shards"),
        n_retries=bindparam("b_retries"),
        n_done_items=bindparam("b_done_items"),
        n_done_shards=bindparam("b_done_shards"),
        n_failed_items=bindparam("b_failed_items"),
    )
)
_CHANGE_JOB: Final = update(_J).where(_J.c.id == bindparam("b_id")).values(spec=bindparam("b_spec"))
_READ_JOB: Final = (
    update(_J)
    .where(_J.c.id == bindparam("b_id"), _J.c.read_at.is_(None))
    .values(read_at=bindparam("b_at"))
)
_UPSERT_SHARD_BASE = upsert(_S)
_UPSERT_SHARD: Final = _UPSERT_SHARD_BASE.on_conflict_do_update(
    index_elements=["job_id", "idx"],
    set_={
        "state": _UPSERT_SHARD_BASE.excluded.state,
        "attempts": _UPSERT_SHARD_BASE.excluded.attempts,
        "accepted_assignment": _UPSERT_SHARD_BASE.excluded.accepted_assignment,
    },
)
_INSERT_ASSIGNMENT: Final = insert(_A)
_UPDATE_ASSIGNMENT: Final = (
    update(_A)
    .where(
        _A.c.job_id == bindparam("b_job_id"),
        _A.c.idx == bindparam("b_idx"),
        _A.c.attempt == bindparam("b_attempt"),
    )
    .values(state=bindparam("b_state"), reason=bindparam("b_reason"), ended_at=bindparam("b_at"))
)
_ABANDON_ASSIGNMENTS: Final = (
    update(_A)
    .where(_A.c.job_id == bindparam("b_job_id"), text("state IN ('offered', 'accepted')"))
    .values(state=bindparam("b_state"), reason=bindparam("b_reason"), ended_at=bindparam("b_at"))
)
_ABANDON_SHARDS: Final = (
    update(_S)
    .where(_S.c.job_id == bindparam("b_job_id"), text("state IN ('queued', 'assigned')"))
    .values(state=bindparam("b_state"))
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt at a shard, when it was offered, and when and why it ended, if that is known."""

    assignment: Assignment
    reason: str | None
    offered_at: float
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class Finish:
    """How a job ended; the result is inline or, with `result_inline` None, a blob.

    `n_done_items` are those whose results count, `n_failed_items` those that were left out.
    """

    job_id: str
    state: JobState
    at: float
    failures: tuple[str, ...]
    result_sha: str | None
    result_bytes: int | None
    result_inline: bytes | None
    n_shards: int
    n_retries: int
    n_done_items: int
    n_done_shards: int
    n_failed_items: int = 0


def submit(job: Job, gateway: str, epoch: int, idem_key: str | None, idem_sha: str) -> Write:
    """Return the row that makes a job durable."""
    return Write(
        _INSERT_JOB,
        [
            {
                "id": job.id,
                "state": job.state.value,
                "gateway": gateway,
                "epoch": epoch,
                "idem_key": idem_key,
                "idem_sha": idem_sha,
                "owner": job.owner,
                "spec": _written(job.spec),
                "module_sha": job.module_sha,
                "module_bytes": job.module_bytes,
                "script_sha": job.script_sha,
                "parts_sha": job.parts_sha,
                "dataset_sha": job.dataset_sha,
                "dataset_bytes": job.dataset_bytes,
                "n_items": job.n_items,
                "range_start": job.range_start,
                "created_at": job.created_at,
                "n_shards": 0,
                "n_retries": 0,
            }
        ],
    )


def start(job_ids: Iterable[str], now: float) -> Write:
    """Return the change of jobs from queued to running."""
    return Write(
        _START_JOB,
        [{"b_id": job_id, "b_state": JobState.RUNNING.value, "b_at": now} for job_id in job_ids],
    )


def finish(ends: Iterable[Finish]) -> Write:
    """Return the change of jobs to their last state."""
    return Write(
        _FINISH_JOB,
        [
            {
                "b_id": end.job_id,
                "b_state": end.state.value,
                "b_at": end.at,
                "b_failures": json.dumps(end.failures),
                "b_sha": end.result_sha,
                "b_bytes": end.result_bytes,
                "b_inline": end.result_inline,
                "b_shards": end.n_shards,
                "b_retries": end.n_retries,
                "b_done_items": end.n_done_items,
                "b_done_shards": end.n_done_shards,
                "b_failed_items": end.n_failed_items,
            }
            for end in ends
        ],
    )


def change(job_id: str, spec: JobSpec) -> Write:
    """Return the change of an unfinished job's spec."""
    return Write(_CHANGE_JOB, [{"b_id": job_id, "b_spec": _written(spec)}])


def mark_read(job_id: str, now: float) -> Write:
    """Return the write that notes when a result was first read."""
    return Write(_READ_JOB, [{"b_id": job_id, "b_at": now}])


def put_shards(shards: Iterable[tuple[Shard, str | None]]) -> Write:
    """Return new or changed shards, each with its accepted assignment."""
    return Write(
        _UPSERT_SHARD,
        [
            {
                "job_id": shard.job_id,
                "idx": shard.index,
                "state": shard.state.value,
                "first_item": shard.first_item,
                "n_items": shard.n_items,
                "attempts": shard.attempts,
                "accepted_assignment": accepted,
            }
            for shard, accepted in shards
        ],
    )


def offer(assignments: Iterable[Assignment], now: float) -> Write:
    """Return the rows of new assignments."""
    return Write(
        _INSERT_ASSIGNMENT,
        [
            {
                "job_id": assignment.job_id,
                "idx": assignment.index,
                "attempt": assignment.attempt,
                "node_id": assignment.node_id,
                "state": assignment.state.value,
                "offered_at": now,
            }
            for assignment in assignments
        ],
    )


def end_assignments(changes: Iterable[tuple[Assignment, str | None]], now: float) -> Write:
    """Return changed assignments, each with the reason of its end."""
    return Write(
        _UPDATE_ASSIGNMENT,
        [
            {
                "b_job_id": assignment.job_id,
                "b_idx": assignment.index,
                "b_attempt": assignment.attempt,
                "b_state": assignment.state.value,
                "b_reason": reason,
                "b_at": now,
            }
            for assignment, reason in changes
        ],
    )


def abandon(job_id: str, reason: str, now: float) -> list[Write]:
    """Return the end of whatever is open of a job, for one that the scheduler does not know."""
    cancelled, dead = AssignmentState.CANCELLED.value, ShardState.DEAD.value
    return [
        Write(
            _ABANDON_ASSIGNMENTS,
            [{"b_job_id": job_id, "b_state": cancelled, "b_reason": reason, "b_at": now}],
        ),
        Write(_ABANDON_SHARDS, [{"b_job_id": job_id, "b_state": dead}]),
    ]


def get(connection: Connection, job_id: str) -> Job | None:
    """Return a job, None if there is none (pruned or never submitted)."""
    row = connection.execute(_GET_JOB, {"b_id": job_id}).one_or_none()
    return None if row is None else as_job(row)


def was_pruned(connection: Connection, job_id: str) -> bool:
    """Return whether a job of that id was finished and pruned."""
    tomb = schema.tombstones
    return (
        connection.execute(select(tomb.c.job_id).where(tomb.c.job_id == job_id)).one_or_none()
        is not None
    )


def ended_at(connection: Connection, job_id: str) -> float | None:
    """Return when a job ended, None if it has not, or if there is none."""
    query = select(_J.c.finished_at).where(_J.c.id == job_id)
    return connection.execute(query).scalar_one_or_none()


def states_of(connection: Connection, job_ids: Sequence[str]) -> dict[str, JobState]:
    """Return the states of the jobs that exist, by id."""
    rows = connection.execute(select(_J.c.id, _J.c.state).where(_J.c.id.in_(job_ids)))
    return {row.id: JobState(row.state) for row in rows}


def pruned_among(connection: Connection, job_ids: Sequence[str]) -> set[str]:
    """Return those of these jobs that were finished and pruned."""
    tomb = schema.tombstones
    return set(
        connection.execute(select(tomb.c.job_id).where(tomb.c.job_id.in_(job_ids))).scalars()
    )


def by_idempotency_key(connection: Connection, key: str) -> tuple[str, str] | None:
    """Return (job id, hash of the request) of the job submitted under that key."""
    row = connection.execute(
        select(_J.c.id, _J.c.idem_sha).where(_J.c.idem_key == key)
    ).one_or_none()
    return None if row is None else (row.id, row.idem_sha)


def owners_of(connection: Connection, job_ids: Sequence[str]) -> dict[str, str]:
    """Return the owners of the jobs that exist, by id."""
    rows = connection.execute(select(_J.c.id, _J.c.owner).where(_J.c.id.in_(job_ids)))
    return {row.id: row.owner for row in rows}


def owners_and_labels(
    connection: Connection, job_ids: Sequence[str]
) -> dict[str, tuple[str, tuple[tuple[str, str], ...]]]:
    """Return the owners and the labels of the jobs that exist, by id."""
    rows = connection.execute(select(_J.c.id, _J.c.owner, _J.c.spec).where(_J.c.id.in_(job_ids)))
    return {row.id: (row.owner, JobSpec.from_json(json.loads(row.spec)).labels) for row in rows}


def assignments_of(connection: Connection, job_id: str, indexes: Sequence[int]) -> list[Attempt]:
    """Return every attempt at some of a job's shards."""
    rows = connection.execute(
        select(_A)
        .where(_A.c.job_id == job_id, _A.c.idx.in_(indexes))
        .order_by(_A.c.idx, _A.c.attempt)
    )
    return [Attempt(*as_assignment(row), row.offered_at, row.ended_at) for row in rows]


def as_shards(rows: Sequence[Any]) -> list[Shard]:
    """Return the shards in rows of `SHARD_COLUMNS`."""
    # There may be a million; reading a row's attributes by name would cost more than all the rest.
    return [
        Shard(job_id, index, _SHARD_STATES[state], first_item, n_items, attempts)
        for job_id, index, state, first_item, n_items, attempts in rows
    ]


def as_assignment(row: Row[Any]) -> tuple[Assignment, str | None]:
    """Return the attempt in a row, with the reason of its end."""
    state = AssignmentState(row.state)
    return Assignment(
        assignment_id(row.job_id, row.idx, row.attempt),
        row.job_id,
        row.idx,
        row.attempt,
        row.node_id,
        state,
    ), row.reason


def _written(spec: JobSpec) -> str:
    return json.dumps(spec.to_json(), separators=(",", ":"))


def as_job(row: Row[Any]) -> Job:
    """Return the job in a whole row."""
    return Job(
        id=row.id,
        state=JobState(row.state),
        spec=JobSpec.from_json(json.loads(row.spec)),
        module_sha=row.module_sha,
        module_bytes=row.module_bytes,
        dataset_sha=row.dataset_sha,
        n_items=row.n_items,
        dataset_bytes=row.dataset_bytes,
        range_start=row.range_start,
        created_at=row.created_at,
        owner=row.owner,
        started_at=row.started_at,
        finished_at=row.finished_at,
        read_at=row.read_at,
        failures=tuple(json.loads(row.failures or "[]")),
        result_sha=row.result_sha,
        result_bytes=row.result_bytes,
        result_inline=row.result_inline,
        n_shards=row.n_shards,
        n_retries=row.n_retries,
        n_done_items=row.n_done_items,
        n_done_shards=row.n_done_shards,
        n_failed_items=row.n_failed_items,
        parts_sha=row.parts_sha,
    )
