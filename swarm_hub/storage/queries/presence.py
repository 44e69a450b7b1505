"""Which gateways of a shared store live, and what each tells the others of itself."""

from typing import Final

from sqlalchemy import Connection, bindparam, select, update

from swarm_hub.models.presence import Presence
from swarm_hub.storage import schema
from swarm_hub.storage.queries.leases import store_now

_G = schema.gateways
# More than that share no store.
_GATEWAYS_MAX: Final = 64

_KEEP: Final = (
    update(_G)
    .where(_G.c.name == bindparam("b_name"))
    .values(alive_until=bindparam("b_until"), presence=bindparam("b_presence"))
)
_LIVING: Final = (
    select(_G.c.name, _G.c.presence)
    .where(_G.c.alive_until > bindparam("b_now"))
    .order_by(_G.c.name)
    .limit(_GATEWAYS_MAX)
)


def keep(connection: Connection, presence: Presence, lease_s: float) -> list[Presence]:
    """Renew a gateway's lease and what it tells of itself; returns the gateways that live.

    Runs inside a write.
    """
    now = store_now(connection)
    connection.execute(
        _KEEP,
        {
            "b_name": presence.peer_id,
            "b_until": now + lease_s,
            "b_presence": presence.to_json(),
        },
    )
    return _living(connection, now)


def living(connection: Connection) -> list[Presence]:
    """Return the gateways whose lease has not run out, by peer id."""
    return _living(connection, store_now(connection))


def _living(connection: Connection, now: float) -> list[Presence]:
    return [
        Presence.from_json(row.name, row.presence)
        for row in connection.execute(_LIVING, {"b_now": now})
    ]
