"""Facts about the database itself."""

import secrets
from typing import Final

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert
from ulid_transform import ulid_now

from swarm_hub.storage import schema

_T = schema.meta
_DB_ID: Final = "db_id"
_SECRET: Final = "secret"


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
