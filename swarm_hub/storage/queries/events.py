"""Queries on durable events."""

import json
import time
from itertools import takewhile
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, func, select

from swarm_hub.models.event import DurableEvent, EventType
from swarm_hub.storage import schema
from swarm_hub.storage.engine.database import Chunk

_T = schema.events
_DELETE_UPTO: Final = delete(_T).where(_T.c.seq <= bindparam("b_upto"))
_COLUMNS: Final = select(_T.c.seq, _T.c.event_type, _T.c.time_fired, _T.c.data, _T.c.job_id)


def last_seq(connection: Connection) -> int:
    """Return the highest sequence number ever stored, 0 before the first event."""
    return int(connection.execute(select(func.coalesce(func.max(_T.c.seq), 0))).scalar_one())


def first_seq(connection: Connection) -> int:
    """Return the lowest sequence number still stored, 0 if there is none."""
    return int(connection.execute(select(func.coalesce(func.min(_T.c.seq), 0))).scalar_one())


def newest_time(connection: Connection) -> float | None:
    """Return when the newest event was fired, None if there is none."""
    query = select(_T.c.time_fired).order_by(_T.c.seq.desc()).limit(1)
    return connection.execute(query).scalar_one_or_none()


def since(connection: Connection, seq: int, limit: int) -> list[DurableEvent]:
    """Return up to `limit` events after `seq`, in order."""
    rows = connection.execute(_COLUMNS.where(_T.c.seq > seq).order_by(_T.c.seq).limit(limit))
    return [_event(row) for row in rows]


def story(connection: Connection, job_id: str, after: int, limit: int) -> list[DurableEvent]:
    """Return up to `limit` events of one job after sequence number `after`, in order."""
    rows = connection.execute(
        _COLUMNS.where(_T.c.job_id == job_id, _T.c.seq > after).order_by(_T.c.seq).limit(limit)
    )
    return [_event(row) for row in rows]


def any_older(connection: Connection, fired_before: float) -> bool:
    """Return whether the oldest event was fired before that time and isn't also the newest."""
    rows = connection.execute(select(_T.c.time_fired).order_by(_T.c.seq).limit(2)).scalars().all()
    return len(rows) == 2 and rows[0] < fired_before


def prune(connection: Connection, fired_before: float, limit: int) -> Chunk:
    """Remove up to `limit` events fired before that time, never the newest; call it in a write."""
    began = time.monotonic()
    rows = connection.execute(
        select(_T.c.seq, _T.c.time_fired).order_by(_T.c.seq).limit(limit + 1)
    ).all()
    # The last row is either the newest event or one that this chunk leaves.
    old = list(takewhile(lambda row: row.time_fired < fired_before, rows[:-1]))
    if not old:
        return Chunk(0, False, began)
    connection.execute(_DELETE_UPTO, {"b_upto": old[-1].seq})
    return Chunk(len(old), len(old) == limit, began)


def _event(row: Any) -> DurableEvent:
    return DurableEvent(
        row.seq, EventType(row.event_type), row.time_fired, json.loads(row.data), row.job_id
    )
