"""A worker's inbox and outbox: what it accepted and what it still has to deliver."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.dialects.sqlite import insert

from swarm_hub.models.messages import Result
from swarm_hub.storage import schema
from swarm_hub.storage.write import Write
from swarm_hub.util.plain import shallow

_IN = schema.inbox
_OUT = schema.outbox
_ACCEPT: Final = insert(_IN).on_conflict_do_nothing()
_DROP_IN: Final = delete(_IN).where(_IN.c.assignment_id == bindparam("b_id"))
_DROP_OUT: Final = delete(_OUT).where(_OUT.c.assignment_id == bindparam("b_id"))
_TO_OTHER: Final = tuple(
    update(table)
    .where(table.c.assignment_id == bindparam("b_id"))
    .values(gateway=bindparam("b_gateway"))
    for table in (_IN, _OUT)
)
_FINISH_OUT: Final = insert(_OUT).on_conflict_do_nothing()


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """An accepted assignment; `call` is JSON; `input` is None when it is fetched by its hash."""

    assignment_id: str
    gateway: str
    call: str
    input_sha: str
    size_bytes: int
    input: bytes | None
    received_at: float
    # The id of the gateway's store: another gateway on that store may take the result.
    store_id: str


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A result on its way to its gateway.

    It is signed together with those of the same `apart` only; None leaves it to the connection.
    """

    result: Result
    gateway: str
    created_at: float
    store_id: str
    apart: str | None = None


def accept(entries: Iterable[InboxEntry]) -> Write:
    """Return the rows that must be on disk before the assignments are ACKed."""
    return Write(
        _ACCEPT,
        [
            {
                "assignment_id": entry.assignment_id,
                "gateway": entry.gateway,
                "call": entry.call,
                "input_sha": entry.input_sha,
                "size_bytes": entry.size_bytes,
                "input": entry.input,
                "state": "accepted",
                "received_at": entry.received_at,
                "store_id": entry.store_id,
            }
            for entry in entries
        ],
    )


def finish(entries: Sequence[OutboxEntry], accepted: Iterable[str]) -> list[Write]:
    """Return the writes that bring outcomes to the outbox, and take `accepted` off the inbox."""
    rows = [
        {
            **shallow(entry.result),
            "gateway": entry.gateway,
            "created_at": entry.created_at,
            "store_id": entry.store_id,
        }
        for entry in entries
    ]
    done = [{"b_id": assignment_id} for assignment_id in accepted]
    return [Write(_FINISH_OUT, rows), Write(_DROP_IN, done)]


def delivered(assignment_ids: Iterable[str]) -> Write:
    """Return the removal of results the gateway has acknowledged."""
    return Write(_DROP_OUT, [{"b_id": assignment_id} for assignment_id in assignment_ids])


def drop(assignment_ids: Sequence[str]) -> list[Write]:
    """Return the removal of assignments the gateway no longer wants, from inbox or outbox."""
    rows = [{"b_id": assignment_id} for assignment_id in assignment_ids]
    return [Write(_DROP_IN, rows), Write(_DROP_OUT, rows)]


def hand_over(assignment_ids: Iterable[str], gateway: str) -> list[Write]:
    """Return the writes noting that another gateway took over assignments, in inbox or outbox."""
    rows = [{"b_id": assignment_id, "b_gateway": gateway} for assignment_id in assignment_ids]
    return [Write(statement, rows) for statement in _TO_OTHER]


def open_entries(connection: Connection) -> list[InboxEntry]:
    """Return the accepted, unfinished assignments, oldest first."""
    rows = connection.execute(
        select(
            _IN.c.assignment_id, _IN.c.gateway, _IN.c.call, _IN.c.input_sha,
            _IN.c.size_bytes, _IN.c.input,
            _IN.c.received_at, _IN.c.store_id,
        ).order_by(_IN.c.received_at)
    )  # fmt: skip
    return [InboxEntry(**row._mapping) for row in rows]


def undelivered(connection: Connection) -> list[OutboxEntry]:
    """Return the results that still wait for the gateway's ACK, oldest first."""
    entries = []
    for row in connection.execute(select(_OUT).order_by(_OUT.c.created_at)):
        fields = dict(row._mapping)
        gateway, created_at = fields.pop("gateway"), fields.pop("created_at")
        store_id = fields.pop("store_id")
        entries.append(OutboxEntry(Result(**fields), gateway, created_at, store_id))
    return entries
