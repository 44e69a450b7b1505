"""Queries on durable events."""

import json
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, func, select

from swarm_hub.models.event import DurableEvent, EventType
from swarm_hub.storage import schema
from swarm_hub.storage.write import Write

_T = schema.events
_DELETE_UPTO: Final = delete(_T).where(_T.c.seq <= bindparam("b_upto"))
_COLUMNS: Final = select(_T.c.seq, _T.c.event_type, _T.c.time_fired, _T.c.data, _T.c.job_id)


def last_seq(connection: Connection) -> int:
    """Return the highest sequence number ever stored, 0 before the first event."""
    return int(connection.execute(select(func.coalesce(func.max(_T.c.seq), 0))).scalar_one())


def first_seq(connection: Connection) -> int:
    """Return the lowest sequence number still stored, 0 where there is none."""
    return int(connection.execute(select(func.coalesce(func.min(_T.c.seq), 0))).scalar_one())


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


def prune(connection: Connection, older_than: float, limit: int) -> list[Write]:
    """Return the deletion of up to `limit` events fired before `older_than`, never the newest."""
    rows = connection.execute(
        select(_T.c.seq).where(_T.c.time_fired < older_than).order_by(_T.c.seq).limit(limit)
    ).scalars()
    seqs = list(rows)
    newest = last_seq(connection)
    upto = max((seq for seq in seqs if seq < newest), default=None)
    return [] if upto is None else [Write(_DELETE_UPTO, [{"b_upto": upto}])]


def _event(row: Any) -> DurableEvent:
    return DurableEvent(
        row.seq, EventType(row.event_type), row.time_fired, json.loads(row.data), row.job_id
    )
