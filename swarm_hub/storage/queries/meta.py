"""Facts under a key: about the database itself, and what is small and known of few nodes."""

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, select
from sqlalchemy.dialects.sqlite import insert
from ulid_transform import ulid_now

from swarm_hub.storage import schema
from swarm_hub.storage.write import Write

_T = schema.meta
_DB_ID: Final = "db_id"
_SECRET: Final = "secret"
_LAST_REMOVED_EVENT: Final = "last_removed_event"
_QUARANTINES: Final = "quarantines/"
_KNOWN_GATEWAYS: Final = "known_gateways"
_INSERT = insert(_T)
_PUT: Final = _INSERT.on_conflict_do_update(
    index_elements=["key"], set_={"value": _INSERT.excluded.value}
)
_DROP: Final = delete(_T).where(_T.c.key == bindparam("b_key"))


def database_id(connection: Connection) -> str:
    """Return the id this database got when it was made; another file has another id."""
    return _made_once(connection, _DB_ID, ulid_now())


def secret(connection: Connection) -> bytes:
    """Return the secret of those who use this database, made with it."""
    return bytes.fromhex(_made_once(connection, _SECRET, secrets.token_hex(32)))


def _made_once(connection: Connection, key: str, fresh: str) -> str:
    known = select(_T.c.value).where(_T.c.key == key)
    if (found := connection.execute(known).scalar_one_or_none()) is not None:
        return str(found)
    # Two gateways may meet a new database at the same time; the first one names it.
    connection.execute(insert(_T).on_conflict_do_nothing(), {"key": key, "value": fresh})
    return str(connection.execute(known).scalar_one())


def last_removed_event(connection: Connection) -> int:
    """Return the highest number of an event that was removed, 0 if none was."""
    known = select(_T.c.value).where(_T.c.key == _LAST_REMOVED_EVENT)
    return int(connection.execute(known).scalar_one_or_none() or 0)


def note_removed_event(connection: Connection, seq: int) -> None:
    """Note that an event of this number was removed; call it in the same write."""
    if seq > last_removed_event(connection):
        connection.execute(_PUT, {"key": _LAST_REMOVED_EVENT, "value": str(seq)})


def put_quarantines(peer_id: str, quarantines: Sequence[Mapping[str, Any]]) -> Write:
    """Return the write that replaces what a node is kept from; none is no row."""
    key = f"{_QUARANTINES}{peer_id}"
    if not quarantines:
        return Write(_DROP, [{"b_key": key}])
    return Write(_PUT, [{"key": key, "value": json.dumps(quarantines)}])


def quarantines(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """Return what each node is kept from, by peer id."""
    rows = connection.execute(select(_T).where(_T.c.key.startswith(_QUARANTINES)))
    return {row.key.removeprefix(_QUARANTINES): json.loads(row.value) for row in rows}


def put_known_gateways(gateways: Sequence[Mapping[str, Any]]) -> Write:
    """Return the write that replaces the gateways that this worker was told of."""
    return Write(_PUT, [{"key": _KNOWN_GATEWAYS, "value": json.dumps(gateways)}])


def known_gateways(connection: Connection) -> list[dict[str, Any]]:
    """Return the gateways that this worker was told of."""
    known = select(_T.c.value).where(_T.c.key == _KNOWN_GATEWAYS)
    found: list[dict[str, Any]] = json.loads(connection.execute(known).scalar_one_or_none() or "[]")
    return found
