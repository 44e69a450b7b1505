"""Queries on durable events."""

import json
import time
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, Final

from sqlalchemy import Connection, Delete, bindparam, delete, func, select

from swarm_hub.models.event import ENDS_OF_JOBS, DurableEvent, EventType
from swarm_hub.storage import schema
from swarm_hub.storage.engine.database import Chunk
from swarm_hub.storage.queries import meta

_T = schema.events
# The newest event stays: the next one gets the number after it.
_NOT_NEWEST: Final = _T.c.seq < select(func.max(_T.c.seq)).scalar_subquery()
# SQLite's planner would walk through the events of jobs too, however many those are.
_OF_NO_JOB: Final = (
    select(_T.c.seq, _T.c.time_fired)
    .with_hint(_T, "INDEXED BY events_of_no_job", "sqlite")
    .where(_T.c.job_id.is_(None), _NOT_NEWEST)
    .order_by(_T.c.seq)
    .limit(bindparam("b_limit"))
)
_DELETE_OF_NO_JOB: Final = delete(_T).where(_T.c.job_id.is_(None), _T.c.seq <= bindparam("b_upto"))
_OF_JOB: Final = (
    select(_T.c.seq, _T.c.time_fired)
    .where(_T.c.job_id == bindparam("b_job_id"), _NOT_NEWEST)
    .order_by(_T.c.seq)
    .limit(bindparam("b_limit"))
)
_DELETE_OF_JOB: Final = delete(_T).where(
    _T.c.job_id == bindparam("b_job_id"), _T.c.seq <= bindparam("b_upto")
)
_COLUMNS: Final = select(_T.c.seq, _T.c.event_type, _T.c.time_fired, _T.c.data, _T.c.job_id)


_SINCE: Final = (
    _COLUMNS.where(_T.c.seq > bindparam("b_after")).order_by(_T.c.seq).limit(bindparam("b_limit"))
)


def last_seq(connection: Connection) -> int:
    """Return the highest sequence number ever stored, 0 before the first event."""
    return int(connection.execute(select(func.coalesce(func.max(_T.c.seq), 0))).scalar_one())


def complete_after(connection: Connection) -> int:
    """Return a sequence number after which no event was ever removed."""
    first = connection.execute(select(func.coalesce(func.min(_T.c.seq), 1))).scalar_one()
    return max(int(first) - 1, meta.last_removed_event(connection))


def newest_time(connection: Connection) -> float | None:
    """Return when the newest event was fired, None if there is none."""
    query = select(_T.c.time_fired).order_by(_T.c.seq.desc()).limit(1)
    return connection.execute(query).scalar_one_or_none()


def since(connection: Connection, seq: int, limit: int) -> list[DurableEvent]:
    """Return up to `limit` events after `seq`, in order."""
    rows = connection.execute(_SINCE, {"b_after": seq, "b_limit": limit})
    return [_event(row) for row in rows]


def story(connection: Connection, job_id: str, after: int, limit: int) -> list[DurableEvent]:
    """Return up to `limit` events of one job after sequence number `after`, in order."""
    rows = connection.execute(
        _COLUMNS.where(_T.c.job_id == job_id, _T.c.seq > after).order_by(_T.c.seq).limit(limit)
    )
    return [_event(row) for row in rows]


def end_seq(connection: Connection, job_id: str) -> int | None:
    """Return the sequence number of the event that a job ended with, None if it has none."""
    query = select(_T.c.seq).where(_T.c.job_id == job_id, _T.c.event_type.in_(ENDS_OF_JOBS))
    return connection.execute(query.order_by(_T.c.seq.desc()).limit(1)).scalar_one_or_none()


def any_older(connection: Connection, fired_before: float) -> bool:
    """Return whether the oldest event of no job was fired before then and isn't the newest."""
    row = connection.execute(_OF_NO_JOB, {"b_limit": 1}).one_or_none()
    return row is not None and row.time_fired < fired_before


def prune(connection: Connection, fired_before: float, limit: int) -> Chunk:
    """Remove up to `limit` events of no job fired before then, never the newest of all.

    Those of a job stay as long as it does. Call it in a write.
    """
    began = time.monotonic()
    rows = connection.execute(_OF_NO_JOB, {"b_limit": limit}).all()
    removed = _remove(connection, rows, fired_before, _DELETE_OF_NO_JOB, {})
    return Chunk(removed, removed == limit, began)


def prune_of_job(connection: Connection, job_id: str, fired_before: float, limit: int) -> int:
    """Remove up to `limit` events of a job fired before then, never the newest of all.

    Returns how many; call it in a write.
    """
    of_job = {"b_job_id": job_id}
    rows = connection.execute(_OF_JOB, {**of_job, "b_limit": limit}).all()
    return _remove(connection, rows, fired_before, _DELETE_OF_JOB, of_job)


def _remove(
    connection: Connection,
    rows: Sequence[Any],
    fired_before: float,
    removal: Delete,
    of: dict[str, str],
) -> int:
    """Remove those of the oldest rows that were fired before then, and note that some are gone."""
    old = list(takewhile(lambda row: row.time_fired < fired_before, rows))
    if old:
        connection.execute(removal, {**of, "b_upto": old[-1].seq})
        meta.note_removed_event(connection, old[-1].seq)
    return len(old)


def _event(row: Any) -> DurableEvent:
    return DurableEvent(
        row.seq, EventType(row.event_type), row.time_fired, json.loads(row.data), row.job_id
    )
