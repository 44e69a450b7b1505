"""Runs Alembic's scripts of `versions/` on an open connection."""

from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from swarm_hub.storage.schema import HEAD, metadata


def upgrade(connection: Connection, found: str) -> None:
    """Upgrade from revision `found` to the newest, inside the caller's transaction."""
    config = Config()
    config.set_main_option("script_location", "swarm_hub.storage:migrations")
    script = ScriptDirectory.from_config(config)

    def steps(_revision: Any, _context: Any) -> list[Any]:
        # The database of revision 0001 has no version table yet, so the start is given here.
        return script._upgrade_revs(HEAD, found)

    with EnvironmentContext(config, script, fn=steps, destination_rev=HEAD) as environment:
        environment.configure(
            connection=connection,
            target_metadata=metadata,
            render_as_batch=True,
            transactional_ddl=True,
        )
        environment.run_migrations()
