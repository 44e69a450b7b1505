"""Commands on the database of a hub."""

import asyncio
from pathlib import Path

import click

from swarm_hub.cli.options import config_option, echo, json_option, print_json, working_dir
from swarm_hub.exceptions import HubError


@click.group()
def store() -> None:
    """Upgrade the database that gateways share."""


@store.command()
@config_option
@click.option("--url", metavar="URL", help="Of the owner of the tables; else that of storage: url.")
@json_option
def upgrade(config_dir: Path, url: str | None, as_json: bool) -> None:
    """Make or upgrade the tables on PostgreSQL; gateways may run meanwhile, and lack the rights."""
    from swarm_hub.cli.backup import with_storage
    from swarm_hub.storage.store import POSTGRES_URL, upgrade_shared

    if url is None:
        url = with_storage(working_dir(config_dir)).storage.url
    if not url.startswith(POSTGRES_URL):
        raise HubError(
            "only a database on PostgreSQL is upgraded by hand; a hub upgrades its own at its start"
        )
    revision = asyncio.run(upgrade_shared(url))
    if as_json:
        print_json({"schema": revision})
    else:
        echo(f"The database has schema {revision}")
