"""Facts about the database itself."""

from sqlalchemy import Connection, insert, select
from ulid_transform import ulid_now

from swarm_hub.storage import schema

_T = schema.meta


def database_id(connection: Connection) -> str:
    """Return the id this database got when it was made; another file has another id."""
    known = connection.execute(select(_T.c.value).where(_T.c.key == "db_id")).scalar_one_or_none()
    if known is not None:
        return str(known)
    fresh: str = ulid_now()
    connection.execute(insert(_T).values(key="db_id", value=fresh))
    return fresh
