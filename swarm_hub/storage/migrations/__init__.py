"""Bringing an older database to the current schema; Alembic is imported only when one is behind.

Checking a database that is at head costs one query; importing Alembic costs 0.3 s and 8 MB.
"""

import logging
from collections.abc import Callable

from sqlalchemy import Connection, inspect, text

from swarm_hub.exceptions import StoreError
from swarm_hub.storage.schema import HEAD, REVISIONS, metadata

_LOGGER = logging.getLogger(__name__)


def stored_revision(connection: Connection) -> str | None:
    """Return the schema revision of a database, None for an empty one."""
    if inspect(connection).has_table("alembic_version"):
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        return str(found)
    # Revision 0001 was written before there were migrations; only SQLite had it.
    if connection.dialect.name == "sqlite":
        version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        return f"{version:04}" if version else None
    return None


def bring_to_head(connection: Connection, place: str, copy_first: Callable[[str], None]) -> None:
    """Make the schema, or upgrade an older one, inside the caller's transaction.

    `copy_first(revision)` is called before an upgrade. Raises StoreError for a newer schema.
    """
    found = stored_revision(connection)
    if found == HEAD:
        return
    if found is None:
        metadata.create_all(connection)
        _stamp(connection)
        return
    refuse_newer(found, place)
    _LOGGER.info("Upgrading the database from schema %s to %s", found, HEAD)
    copy_first(found)
    from swarm_hub.storage.migrations import runner

    runner.upgrade(connection, found)
    _note_for_older_programs(connection)


def refuse_newer(found: str | None, place: str) -> None:
    """Raise StoreError for a schema that this version does not know."""
    if found is not None and found not in REVISIONS:
        raise StoreError(
            f"{place}: the database has schema {found}, this swarm_hub knows up to {HEAD}; "
            "upgrade swarm_hub, or restore a backup that this version made"
        )


def _stamp(connection: Connection) -> None:
    connection.execute(
        text(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
    )
    connection.execute(
        text("INSERT INTO alembic_version (version_num) VALUES (:head)"), {"head": HEAD}
    )
    _note_for_older_programs(connection)


def _note_for_older_programs(connection: Connection) -> None:
    # swarm_hub 0.1.0 looks here, and refuses a number that it does not know.
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA user_version={int(HEAD)}")
