"""Which gateways of a shared store live, and what each tells the others of itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Double, bindparam, select, text, update

from swarm_hub.models.presence import Presence
from swarm_hub.storage import schema
from swarm_hub.storage.queries.leases import IS_ALIVE, STORE_TIME, session_of

_G = schema.gateways
# More than that share no store.
_GATEWAYS_MAX: Final = 64

_KEEP: Final = (
    update(_G)
    .where(_G.c.name == bindparam("b_name"))
    .values(
        alive_until=STORE_TIME + bindparam("b_lease_s", type_=Double()),
        presence=bindparam("b_presence"),
    )
)
_LIVING: Final = (
    select(
        _G.c.name, _G.c.presence, _G.c.alive_until, (_G.c.alive_until - STORE_TIME).label("left_s")
    )
    .where(IS_ALIVE)
    .order_by(_G.c.name)
    .limit(_GATEWAYS_MAX)
)


# The session of a gateway, and since when the server runs.
_SESSIONS: Final = text(
    "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() "
    "AND usename = current_user AND application_name = ANY(:names)"
)
_UP_S: Final = text(
    "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::double precision"
)
_END_LEASE: Final = (
    update(_G)
    .where(_G.c.name == bindparam("b_name"), _G.c.alive_until == bindparam("b_until"))
    .values(alive_until=STORE_TIME)
)


@dataclass(frozen=True, slots=True)
class Kept:
    """The gateways that live, and of those that did not renew their lease lately until when.

    `held` says whether this one still held its own.
    """

    living: list[Presence]
    quiet: Mapping[str, float]
    held: bool


def keep(connection: Connection, presence: Presence, lease_s: float, quiet_s: float) -> Kept:
    """Renew a gateway's lease and what it tells of itself; returns which gateways live.

    One that has not renewed its own for `quiet_s` is quiet. Runs inside a write.
    """
    rows = connection.execute(_LIVING).all()
    told = {"b_lease_s": lease_s, "b_presence": presence.to_json()}
    connection.execute(_KEEP, {"b_name": presence.peer_id, **told})
    others = [row for row in rows if row.name != presence.peer_id]
    return Kept(
        [presence, *(Presence.from_json(row.name, row.presence) for row in others)],
        {row.name: row.alive_until for row in others if row.left_s < lease_s - quiet_s},
        held=len(others) < len(rows),
    )


def end_leases(
    connection: Connection, gateway: str, quiet: Mapping[str, float], lease_s: float
) -> list[str]:
    """End the leases of quiet gateways whose writing session is gone, too; returns which.

    The server ends the session of a process that was killed at once. A server that began itself a
    moment ago has no sessions of those that live, and one behind a pool names none: there only the
    lease counts. Runs inside a write.
    """
    if connection.dialect.name != "postgresql" or connection.execute(_UP_S).scalar_one() < lease_s:
        return []
    names = {name: session_of(name) for name in (gateway, *quiet)}
    found = set(connection.execute(_SESSIONS, {"names": list(names.values())}).scalars())
    if names[gateway] not in found:
        return []
    gone = [name for name in quiet if names[name] not in found]
    for name in gone:
        connection.execute(_END_LEASE, {"b_name": name, "b_until": quiet[name]})
    return gone


def living(connection: Connection) -> list[Presence]:
    """Return the gateways whose lease has not run out, by peer id."""
    rows = connection.execute(_LIVING)
    return [Presence.from_json(row.name, row.presence) for row in rows]
