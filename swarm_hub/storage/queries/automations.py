"""The outbox of automations: what they were triggered by, what is to be done, what became of it.

Of the gateways that share a store one follows the events, the one whose name is in
`automation_reader`. It writes its position in the same transaction as the runs that it starts, so
that no event is missed and none starts a run twice.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    func,
    literal_column,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from swarm_hub.models.event import DurableEvent, EventType
from swarm_hub.storage import schema
from swarm_hub.storage.queries import events
from swarm_hub.storage.queries.leases import store_now
from swarm_hub.storage.write import Write

OPEN: Final = "open"
TRACES_KEPT: Final = 20
_EVENTS: Final = "events"
_P = schema.automation_reader
_A = schema.automations
_R = schema.automation_runs
_E = schema.events
_EVENT: Final = select(_E.c.seq, _E.c.event_type, _E.c.time_fired, _E.c.data, _E.c.job_id)
_NOTICES_AMONG: Final = 20_000
_IS_OPEN: Final = text("state = 'open'")
_INSERT_MEMORY = insert(_A)
_PUT_MEMORY: Final = _INSERT_MEMORY.on_conflict_do_update(
    index_elements=["id"], set_={"memory": _INSERT_MEMORY.excluded.memory}
)
_PUT_ENABLED: Final = _INSERT_MEMORY.on_conflict_do_update(
    index_elements=["id"], set_={"enabled": _INSERT_MEMORY.excluded.enabled}
)
_SAVE: Final = (
    update(_R)
    .where(
        _R.c.automation == bindparam("b_automation"),
        _R.c.id == bindparam("b_id"),
        _R.c.state == literal_column("'open'"),
    )
    .values(state=bindparam("b_state"), next_at=bindparam("b_next_at"), body=bindparam("b_body"))
)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of an automation: an entry of the outbox while its state is `open`, then a trace."""

    automation: str
    id: str
    state: str
    created_at: float
    next_at: float
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """Whether an automation is enabled, and what its triggers remember."""

    enabled: bool
    memory: dict[str, Any]


def claim(connection: Connection, gateway: str, *, shared: bool) -> int | None:
    """Make this gateway the one that follows the events, unless another one lives that does.

    Returns the position, None when another one does. Whoever is first begins with the events that
    come from then on. Call it in a write.
    """
    connection.execute(
        insert(_P).on_conflict_do_nothing(),
        {"name": _EVENTS, "gateway": gateway, "seq": events.last_seq(connection)},
    )
    mine = _P.c.gateway == gateway
    if shared:
        alive = select(schema.gateways.c.name).where(
            schema.gateways.c.alive_until > store_now(connection)
        )
        mine = or_(mine, _P.c.gateway.not_in(alive))
    else:
        # A restored hub may have another identity; nobody else is on this store.
        mine = or_(mine, _P.c.name == _EVENTS)
    taken = update(_P).where(_P.c.name == _EVENTS, mine).values(gateway=gateway)
    return connection.execute(taken.returning(_P.c.seq)).scalar_one_or_none()


def leader(connection: Connection) -> str | None:
    """Return the gateway that follows the events, None before the first."""
    query = select(_P.c.gateway).where(_P.c.name == _EVENTS)
    return connection.execute(query).scalar_one_or_none()


def after(
    connection: Connection, seq: int, kinds: Sequence[str], limit: int
) -> tuple[list[DurableEvent], int]:
    """Return up to `limit` events of some types after `seq`, and up to where all are known."""
    newest = events.last_seq(connection)
    if not kinds:
        return [], max(seq, newest)
    query = _EVENT.where(_E.c.seq > seq, _E.c.event_type.in_(kinds))
    found = [_event(row) for row in connection.execute(query.order_by(_E.c.seq).limit(limit))]
    last = found[-1].seq if found else seq
    return found, last if len(found) == limit else max(last, newest)


def advance(
    connection: Connection,
    gateway: str,
    seq: int,
    runs: Sequence[Run],
    memories: Mapping[str, Mapping[str, Any]],
) -> bool:
    """Write the position with the runs that start and what is to be remembered.

    Returns False, and writes nothing, when another gateway follows the events by now. Call it in a
    write.
    """
    moved = update(_P).where(_P.c.name == _EVENTS, _P.c.gateway == gateway).values(seq=seq)
    if connection.execute(moved.returning(_P.c.seq)).scalar_one_or_none() is None:
        return False
    for run in runs:
        connection.execute(insert(_R).on_conflict_do_nothing(), _row(run))
    for automation, memory in memories.items():
        connection.execute(_PUT_MEMORY, {"id": automation, "memory": json.dumps(memory)})
    for automation in {run.automation for run in runs if run.state != OPEN}:
        prune(connection, automation)
    return True


def add(connection: Connection, run: Run) -> None:
    """Write a run that a person asked for; call it in a write."""
    connection.execute(insert(_R).on_conflict_do_nothing(), _row(run))


def save(run: Run) -> Write:
    """Return the write of what became of an open run so far; one that has ended stays as it is."""
    values = {
        "b_automation": run.automation, "b_id": run.id, "b_state": run.state,
        "b_next_at": run.next_at, "b_body": json.dumps(run.body),
    }  # fmt: skip
    return Write(_SAVE, [values])


def prune(connection: Connection, automation: str) -> None:
    """Remove the traces of an automation but the newest; call it in a write."""
    of_it = select(_R.c.id).where(_R.c.automation == automation, _R.c.state != OPEN)
    newest = of_it.order_by(_R.c.created_at.desc(), _R.c.id.desc()).limit(TRACES_KEPT)
    kept = list(connection.execute(newest).scalars())
    connection.execute(
        delete(_R).where(_R.c.automation == automation, _R.c.state != OPEN, _R.c.id.not_in(kept))
    )


def forget(connection: Connection, known: Sequence[str]) -> None:
    """Remove what is left of automations that are no longer configured; call it in a write."""
    connection.execute(delete(_R).where(_R.c.automation.not_in(known), _R.c.state != OPEN))
    connection.execute(delete(_A).where(_A.c.id.not_in(known)))


def due(connection: Connection, now: float, limit: int) -> list[Run]:
    """Return open runs whose time has come, those that wait longest first."""
    query = select(_R).where(_IS_OPEN, _R.c.next_at <= now).order_by(_R.c.next_at).limit(limit)
    return [_run(row) for row in connection.execute(query)]


def next_due(connection: Connection, after_at: float) -> float | None:
    """Return when the next open run after that time is due, None if none is."""
    query = select(func.min(_R.c.next_at)).where(_IS_OPEN, _R.c.next_at > after_at)
    found = connection.execute(query).scalar_one_or_none()
    return None if found is None else float(found)


def n_open(connection: Connection) -> dict[str, int]:
    """Return how many runs of each automation have not ended."""
    query = select(_R.c.automation, func.count().label("n")).where(_IS_OPEN)
    rows = connection.execute(query.group_by(_R.c.automation))
    return {row.automation: row.n for row in rows}


def traces(connection: Connection, automation: str, limit: int) -> list[Run]:
    """Return the newest runs of an automation, newest first."""
    query = select(_R).where(_R.c.automation == automation)
    ordered = query.order_by(_R.c.created_at.desc(), _R.c.id.desc()).limit(limit)
    return [_run(row) for row in connection.execute(ordered)]


def notices(connection: Connection, limit: int) -> list[DurableEvent]:
    """Return the newest of what automations told, newest first; it looks at recent events alone."""
    query = _EVENT.where(
        _E.c.seq > events.last_seq(connection) - _NOTICES_AMONG,
        _E.c.event_type == EventType.AUTOMATION_NOTIFIED.value,
    )
    return [_event(row) for row in connection.execute(query.order_by(_E.c.seq.desc()).limit(limit))]


def known(connection: Connection) -> dict[str, Known]:
    """Return what is kept of each automation, by id."""
    return {
        row.id: Known(bool(row.enabled), json.loads(row.memory))
        for row in connection.execute(select(_A))
    }


def enable(connection: Connection, automation: str, *, enabled: bool) -> None:
    """Enable an automation, or disable it until it is enabled; call it in a write."""
    connection.execute(_PUT_ENABLED, {"id": automation, "enabled": int(enabled), "memory": "{}"})


def _row(run: Run) -> dict[str, Any]:
    return {
        "automation": run.automation, "id": run.id, "state": run.state,
        "created_at": run.created_at, "next_at": run.next_at, "body": json.dumps(run.body),
    }  # fmt: skip


def _run(row: Any) -> Run:
    return Run(row.automation, row.id, row.state, row.created_at, row.next_at, json.loads(row.body))


def _event(row: Any) -> DurableEvent:
    return DurableEvent(
        row.seq, EventType(row.event_type), row.time_fired, json.loads(row.data), row.job_id
    )
