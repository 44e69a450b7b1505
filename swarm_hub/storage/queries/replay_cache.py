"""The replay cache: the ids of envelopes that took effect."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select
from sqlalchemy.dialects.sqlite import insert

from swarm_hub.storage import schema
from swarm_hub.storage.write import Write

_T = schema.seen
_FLOORS = schema.replay_floors
_INSERT: Final = insert(_T).on_conflict_do_nothing()
_DELETE_EXPIRED: Final = delete(_T).where(_T.c.exp < bindparam("before"))
_DELETE_OLDER: Final = delete(_T).where(
    _T.c.iss == bindparam("b_iss"), _T.c.valid_until <= bindparam("b_until")
)
_INSERT_FLOOR = insert(_FLOORS)
_RAISE: Final = _INSERT_FLOOR.on_conflict_do_update(
    index_elements=["iss"],
    set_={"valid_until": _INSERT_FLOOR.excluded.valid_until},
    where=_FLOORS.c.valid_until < _INSERT_FLOOR.excluded.valid_until,
)


@dataclass(frozen=True, slots=True)
class Seen:
    """An envelope that took effect.

    `keep_until` is in the time of this hub; `valid_until`, when the envelope itself expires, in
    that of its issuer, None if it is not known.
    """

    iss: str
    body_hash: bytes
    keep_until: float
    valid_until: float | None = None


def remember(
    jti: bytes, iss: str, body_hash: bytes, keep_until: float, valid_until: float | None = None
) -> Write:
    """Return the row by which a later replay of envelope `jti` is recognised."""
    row = {
        "jti": jti,
        "iss": iss,
        "body_hash": body_hash,
        "exp": keep_until,
        "valid_until": valid_until,
    }
    return Write(_INSERT, [row])


def forget_expired(before: float) -> Write:
    """Return the deletion of ids whose envelopes expired before that time anyway."""
    return Write(_DELETE_EXPIRED, [{"before": before}])


def raise_floor(iss: str, valid_until: float) -> list[Write]:
    """Return the writes that forget an issuer's envelopes which expire by then, all refused now."""
    return [
        Write(_RAISE, [{"iss": iss, "valid_until": valid_until}]),
        Write(_DELETE_OLDER, [{"b_iss": iss, "b_until": valid_until}]),
    ]


def unexpired(connection: Connection, now: float) -> dict[bytes, Seen]:
    """Return by jti every envelope that could still be replayed."""
    # Of an id that two gateways on one store have kept, the last is kept longest.
    rows = connection.execute(select(_T).where(_T.c.exp >= now).order_by(_T.c.exp))
    return {row.jti: Seen(row.iss, row.body_hash, row.exp, row.valid_until) for row in rows}


def floors(connection: Connection) -> dict[str, float]:
    """Return issuer → the time up to which envelopes of its that expire by then are refused."""
    rows = connection.execute(select(_FLOORS))
    return {row.iss: row.valid_until for row in rows}
