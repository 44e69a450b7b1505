"""Facts about the database itself."""

from typing import Final

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert
from ulid_transform import ulid_now

from swarm_hub.storage import schema

_T = schema.meta
_DB_ID: Final = "db_id"


def database_id(connection: Connection) -> str:
    """Return the id this database got when it was made; another file has another id."""
    known = select(_T.c.value).where(_T.c.key == _DB_ID)
    if (found := connection.execute(known).scalar_one_or_none()) is not None:
        return str(found)
    # Two gateways may meet a new database at the same time; the first one names it.
    fresh = {"key": _DB_ID, "value": ulid_now()}
    connection.execute(insert(_T).on_conflict_do_nothing(), fresh)
    return str(connection.execute(known).scalar_one())
