"""Queries on banned networks."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select
from sqlalchemy.dialects.sqlite import insert

from swarm_hub.storage import schema
from swarm_hub.storage.write import Write

_T = schema.banned_networks
_INSERT = insert(_T)
_BAN: Final = _INSERT.on_conflict_do_update(
    index_elements=["cidr"],
    set_={
        "banned_at": _INSERT.excluded.banned_at,
        "reason": _INSERT.excluded.reason,
        "until": _INSERT.excluded.until,
    },
)
_UNBAN: Final = delete(_T).where(_T.c.cidr == bindparam("b_cidr"))


@dataclass(frozen=True, slots=True)
class BannedNetwork:
    """A network that is refused; times are seconds since the epoch."""

    cidr: str
    banned_at: float
    reason: str
    until: float | None


def ban(cidr: str, reason: str, now: float, until: float | None) -> Write:
    """Return the write that bans a network, or renews its ban."""
    return Write(_BAN, [{"cidr": cidr, "banned_at": now, "reason": reason, "until": until}])


def unban(cidr: str) -> Write:
    """Return the write that lifts a ban."""
    return Write(_UNBAN, [{"b_cidr": cidr}])


def all_banned(connection: Connection) -> list[BannedNetwork]:
    """Return every network that was banned and not unbanned, the oldest ban first."""
    rows = connection.execute(select(_T).order_by(_T.c.banned_at))
    return [BannedNetwork(**row._mapping) for row in rows]
