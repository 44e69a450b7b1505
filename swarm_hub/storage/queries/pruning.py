"""Statements that choose finished jobs for removal, and remove what they leave in chunks.

A job goes in one short transaction, which leaves its tombstone; its results, receipts, assignments,
shards and old events follow, one chunk per transaction, until the tombstone says that none is left.
Its other events follow when they are old. So whatever a kill leaves behind at any time is removed
later. It is long because what is removed, and in which order, should be read in one place.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Delete,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal_column,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from swarm_hub.storage import schema
from swarm_hub.storage.engine.database import Chunk
from swarm_hub.storage.queries import events, leases
from swarm_hub.storage.write import Write

_J = schema.jobs
_S = schema.shards
_A = schema.assignments
_R = schema.results
_E = schema.receipts
_T = schema.tombstones
_B = schema.blobs
_G = schema.gateways
_V = schema.events

# Many small jobs share the commit of a chunk, until it has taken this long.
_CHUNK_S: Final = 0.02
# Freeing the pages of a body costs as much as a row for each of these bytes: 1.2 ms for 60 KB,
# 15 µs for a row.
_BYTES_LIKE_A_ROW: Final = 800
# How many bytes of results in their rows the jobs removed together may have, beyond the first job.
_INLINE_AT_ONCE_BYTES: Final = 512 * 1024
# Roughly what one row of a job takes in the database; only `budget` uses it, until it measures
# again.
_ROW_BYTES: Final = 200

_DELETE_JOB: Final = delete(_J).where(_J.c.id == bindparam("b_id"), _J.c.finished_at.is_not(None))
_ENTOMB: Final = insert(_T).on_conflict_do_nothing()
# Another gateway may be removing one of them at this moment: take the next.
_UNSWEPT: Final = (
    select(_T.c.job_id, _T.c.pruned_at)
    .where(_T.c.rows_left == literal_column("1"))
    .order_by(_T.c.job_id)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_SWEPT: Final = update(_T).where(_T.c.job_id == bindparam("b_id")).values(rows_left=0)
# The newest event of all stays, and with it the tombstone's note.
_EVENTS_LEFT: Final = (
    select(_T.c.job_id)
    .where(
        _T.c.events_left == literal_column("1"),
        _T.c.rows_left == 0,
        _T.c.pruned_at < bindparam("b_before"),
        _T.c.job_id.is_distinct_from(
            select(_V.c.job_id).order_by(_V.c.seq.desc()).limit(1).scalar_subquery()
        ),
    )
    .order_by(_T.c.pruned_at)
    .limit(1)
)
_NEXT_EVENTS_LEFT: Final = _EVENTS_LEFT.with_for_update(skip_locked=True)
_EVENTS_SWEPT: Final = update(_T).where(_T.c.job_id == bindparam("b_id")).values(events_left=0)
# The remaining rows with a body, in the order of their removal, and the removal of the first.
_RESULTS_LEFT: Final = (
    select(_R.c.first_item, case((_R.c.body.is_(None), 0), else_=_R.c.size_bytes))
    .where(_R.c.job_id == bindparam("b_id"))
    .order_by(_R.c.first_item)
    .limit(bindparam("b_limit"))
)
_DELETE_RESULTS: Final = delete(_R).where(
    _R.c.job_id == bindparam("b_id"), _R.c.first_item <= bindparam("b_upto")
)
_RECEIPTS_LEFT: Final = (
    select(_E.c.sha, func.length(_E.c.body))
    .where(_E.c.job_id == bindparam("b_id"))
    .order_by(_E.c.sha)
    .limit(bindparam("b_limit"))
)
_DELETE_RECEIPTS: Final = delete(_E).where(
    _E.c.job_id == bindparam("b_id"), _E.c.sha <= bindparam("b_upto")
)
_SWEEP_BODIES: Final = ((_RESULTS_LEFT, _DELETE_RESULTS), (_RECEIPTS_LEFT, _DELETE_RECEIPTS))
_SWEEP: Final = tuple(
    delete(key[0].table).where(
        tuple_(*key).in_(
            select(*key)
            .where(key[0] == bindparam("b_id"))
            .order_by(*key)
            .limit(bindparam("b_limit"))
        )
    )
    for key in ((_A.c.job_id, _A.c.idx, _A.c.attempt), (_S.c.job_id, _S.c.idx))
)
_NOTHING_LEFT: Final = (_T.c.rows_left == 0, _T.c.events_left == 0)
_FORGET: Final = delete(_T).where(
    _T.c.job_id.in_(
        select(_T.c.job_id)
        .where(_T.c.pruned_at < bindparam("b_before"), *_NOTHING_LEFT)
        .order_by(_T.c.pruned_at)
        .limit(bindparam("b_limit"))
    )
)
_DROP_BLOB: Final = delete(_B).where(
    _B.c.sha == bindparam("b_sha"), _B.c.last_ref < bindparam("b_before")
)
# What refers to a blob. The first seven have an index of their own; the last two are short.
_UNUSED: Final = and_(
    ~exists().where(_J.c.module_sha == _B.c.sha),
    ~exists().where(_J.c.script_sha == _B.c.sha),
    ~exists().where(_J.c.dataset_sha == _B.c.sha),
    ~exists().where(_J.c.parts_sha == _B.c.sha),
    ~exists().where(_J.c.result_sha == _B.c.sha, _J.c.result_inline.is_(None)),
    ~exists().where(_R.c.sha == _B.c.sha, _R.c.body.is_(None)),
    ~exists().where(schema.uploads.c.sha == _B.c.sha),
    _B.c.sha.not_in(select(schema.outbox.c.sha).where(schema.outbox.c.body.is_(None))),
    _B.c.sha.not_in(select(schema.inbox.c.input_sha).where(schema.inbox.c.input.is_(None))),
)


_SIZES: Final = select(
    _J.c.id, _J.c.dataset_bytes, _J.c.result_bytes, _J.c.n_shards, _J.c.n_retries
).where(_J.c.finished_at.is_not(None))


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished job, and the epoch by which its gateway owned it."""

    job_id: str
    gateway: str
    epoch: int


@dataclass(frozen=True, slots=True)
class JobSize:
    """What is removed with a finished job: rows, and about how many bytes (its module stays)."""

    job_id: str
    rows: int
    size_bytes: int


def collects(connection: Connection, gateway: str) -> bool:
    """Return whether this gateway collects: among those sharing a store, the first by name does."""
    before = select(_G.c.name).where(_G.c.name < gateway, leases.IS_ALIVE)
    return connection.execute(before.limit(1)).first() is None


def read_or_ended(
    connection: Connection, read_before: float, ended_before: float, limit: int
) -> list[str]:
    """Return finished jobs that ended, or whose result was read, long enough ago."""
    ended = (
        select(_J.c.id)
        .where(_J.c.finished_at.is_not(None), _J.c.finished_at < ended_before)
        .order_by(_J.c.finished_at)
    )
    read = (
        select(_J.c.id)
        .where(_J.c.read_at.is_not(None), _J.c.read_at < read_before)
        .order_by(_J.c.read_at)
    )
    # Each has an index of its own; a single condition with OR could use none.
    found = [connection.execute(query.limit(limit)).scalars().all() for query in (ended, read)]
    return list(dict.fromkeys([*found[0], *found[1]]))[:limit]


def beyond_newest(connection: Connection, count: int, ended_before: float, limit: int) -> list[str]:
    """Return finished jobs that aren't among the newest `count` and ended before that time."""
    others = (
        select(_J.c.id, _J.c.finished_at)
        .where(_J.c.finished_at.is_not(None))
        .order_by(_J.c.finished_at.desc(), _J.c.id.desc())
        .offset(count)
        .subquery()
    )
    rows = connection.execute(
        select(others.c.id).where(others.c.finished_at < ended_before).limit(limit)
    )
    return list(rows.scalars())


def ended(connection: Connection, ended_before: float, limit: int) -> list[JobSize]:
    """Return finished jobs that ended before that time, oldest first."""
    query = _SIZES.where(_J.c.finished_at < ended_before).order_by(_J.c.finished_at).limit(limit)
    return [_size(row) for row in connection.execute(query)]


def oldest(connection: Connection, ended_before: float, limit: int) -> list[JobSize]:
    """Return finished jobs, oldest first; those whose result was read precede all others."""
    found: list[JobSize] = []
    for unread in (_J.c.read_at.is_not(None), _J.c.read_at.is_(None)):
        rows = connection.execute(
            _SIZES.where(_J.c.finished_at < ended_before, unread)
            .order_by(_J.c.finished_at)
            .limit(limit - len(found))
        )
        found += map(_size, rows)
    return found


def _size(row: Any) -> JobSize:
    n_rows = _n_rows(1, row.n_shards, row.n_retries)
    size_bytes = row.dataset_bytes + (row.result_bytes or 0) + n_rows * _ROW_BYTES
    return JobSize(row.id, n_rows, size_bytes)


def _n_rows(n_jobs: int, n_shards: int, n_retries: int) -> int:
    """Return about how many rows jobs have, by what their own rows count.

    A job has its row and three events; a shard its row, one for its result, and for each attempt
    one with the two events of its begin and its end.
    """
    return 4 * n_jobs + 5 * n_shards + 3 * n_retries


def rows_of_finished(connection: Connection) -> int:
    """Return how many rows finished jobs have, as counted in their own; reads the whole table."""
    n_jobs, n_shards, n_retries = connection.execute(
        select(func.count(), func.sum(_J.c.n_shards), func.sum(_J.c.n_retries)).where(
            _J.c.finished_at.is_not(None)
        )
    ).one()
    return _n_rows(int(n_jobs), int(n_shards or 0), int(n_retries or 0))


def finished(connection: Connection, job_ids: Sequence[str]) -> list[Finished]:
    """Return which of these jobs exist and are finished, no more than one commit may free."""
    rows = connection.execute(
        select(_J.c.id, _J.c.gateway, _J.c.epoch, func.length(_J.c.result_inline)).where(
            _J.c.id.in_(job_ids), _J.c.finished_at.is_not(None)
        )
    )
    found: list[Finished] = []
    inline_bytes = 0
    for job_id, gateway, epoch, size_bytes in rows:
        inline_bytes += size_bytes or 0
        if found and inline_bytes > _INLINE_AT_ONCE_BYTES:
            break
        found.append(Finished(job_id, gateway, epoch))
    return found


def prune(job_id: str, now: float) -> list[Write]:
    """Return the writes that remove a finished job and leave its tombstone."""
    return [
        Write(_ENTOMB, [{"job_id": job_id, "pruned_at": now, "rows_left": 1, "events_left": 1}]),
        Write(_DELETE_JOB, [{"b_id": job_id}]),
    ]


def any_unswept(connection: Connection) -> bool:
    """Return whether rows of pruned jobs are left."""
    query = select(_T.c.job_id).where(_T.c.rows_left == literal_column("1")).limit(1)
    return connection.execute(query).first() is not None


def sweep(connection: Connection, fired_before: float, limit: int) -> Chunk:
    """Remove up to `limit` rows that pruned jobs left, fewer if large; call it in a write.

    Of their events those go that were fired before then; `job_pruned` never does.
    """
    began = time.monotonic()
    left = limit
    while left > 0 and time.monotonic() - began < _CHUNK_S:
        tombstone = connection.execute(_UNSWEPT).one_or_none()
        if tombstone is None:
            return Chunk(limit - left, False, began)
        job_id = tombstone.job_id
        for rows_left, removal in _SWEEP_BODIES:
            if left > 0:
                left -= _sweep_bodies(connection, rows_left, removal, job_id, left)
        for statement in _SWEEP:
            if left <= 0:
                break
            left -= connection.execute(statement, {"b_id": job_id, "b_limit": left}).rowcount
        if left > 0:
            before = min(fired_before, tombstone.pruned_at)
            left -= events.prune_of_job(connection, job_id, before, left)
        if left > 0:
            connection.execute(_SWEPT, {"b_id": job_id})
    return Chunk(limit - left, True, began)


def any_left_events(connection: Connection, pruned_before: float) -> bool:
    """Return whether a job that was pruned before then has left events."""
    return connection.execute(_EVENTS_LEFT, {"b_before": pruned_before}).first() is not None


def sweep_events(connection: Connection, pruned_before: float, limit: int) -> Chunk:
    """Remove up to `limit` events of jobs that were pruned before then; call it in a write."""
    began = time.monotonic()
    left = limit
    while left > 0 and time.monotonic() - began < _CHUNK_S:
        given = {"b_before": pruned_before}
        job_id = connection.execute(_NEXT_EVENTS_LEFT, given).scalar_one_or_none()
        if job_id is None:
            return Chunk(limit - left, False, began)
        left -= events.prune_of_job(connection, job_id, math.inf, left)
        if left > 0:
            connection.execute(_EVENTS_SWEPT, {"b_id": job_id})
    return Chunk(limit - left, True, began)


def _sweep_bodies(
    connection: Connection, rows_left: Select[Any], removal: Delete, job_id: str, limit: int
) -> int:
    """Remove rows of a job that cost up to as much as `limit` small ones; returns their cost."""
    cost, upto = 0, None
    for place, size_bytes in connection.execute(rows_left, {"b_id": job_id, "b_limit": limit}):
        cost += 1 + size_bytes // _BYTES_LIKE_A_ROW
        upto = place
        if cost >= limit:
            break
    if upto is not None:
        connection.execute(removal, {"b_id": job_id, "b_upto": upto})
    return cost


def any_tombstone(connection: Connection, pruned_before: float) -> bool:
    """Return whether there is a tombstone of that age."""
    query = select(_T.c.job_id).where(_T.c.pruned_at < pruned_before, *_NOTHING_LEFT)
    return connection.execute(query.limit(1)).first() is not None


def forget(connection: Connection, pruned_before: float, limit: int) -> Chunk:
    """Remove up to `limit` tombstones of that age; call it in a write."""
    began = time.monotonic()
    values = {"b_before": pruned_before, "b_limit": limit}
    removed = connection.execute(_FORGET, values).rowcount
    return Chunk(removed, removed == limit, began)


def unused_blobs(
    connection: Connection, after: str, unused_since: float, limit: int
) -> tuple[list[str], str | None]:
    """Look at `limit` blobs after that hash; returns the unused ones, and where to continue.

    A blob is unused when nothing refers to it and nothing has touched it since that time.
    """
    window = select(_B.c.sha).where(_B.c.sha > after).order_by(_B.c.sha).limit(limit).subquery()
    count, last = connection.execute(select(func.count(), func.max(window.c.sha))).one()
    if last is None:
        return [], None
    unused = select(_B.c.sha).where(
        _B.c.sha > after, _B.c.sha <= last, _B.c.last_ref < unused_since, _UNUSED
    )
    return list(connection.execute(unused).scalars()), last if count == limit else None


def drop_blobs(shas: Sequence[str], unused_since: float) -> Write:
    """Return the removal of blob rows untouched since then; delete their files after the commit."""
    return Write(_DROP_BLOB, [{"b_sha": sha, "b_before": unused_since} for sha in shas])


def blob_files(connection: Connection, prefix: str) -> set[str]:
    """Return the hashes that begin with `prefix` (hex) of the blobs that lie outside their row."""
    # "g" comes after every hex digit.
    query = select(_B.c.sha).where(_B.c.sha >= prefix, _B.c.sha < f"{prefix}g", _B.c.body.is_(None))
    return set(connection.execute(query).scalars())


def blob_files_bytes(connection: Connection) -> int:
    """Return how many bytes lie in blob files; reads the whole table."""
    total = select(func.coalesce(func.sum(_B.c.size_bytes), 0)).where(_B.c.body.is_(None))
    return int(connection.execute(total).scalar_one())


def is_quiet(connection: Connection, since: float) -> bool:
    """Return whether there is no unfinished work and no durable event since that time."""
    newest = select(_V.c.time_fired).order_by(_V.c.seq.desc()).limit(1)
    at_hand = select(schema.inbox.c.assignment_id).where(
        schema.inbox.c.state == literal_column("'accepted'")
    )
    happened = connection.execute(newest).scalar_one_or_none()
    if happened is not None and happened >= since:
        return False
    return connection.execute(at_hand.limit(1)).first() is None
