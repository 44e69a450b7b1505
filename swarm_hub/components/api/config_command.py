"""`get_config`: what a dashboard asks first of a hub that it is connected to."""

from typing import TypedDict

from swarm_hub.const import __version__
from swarm_hub.core import Hub
from swarm_hub.endpoints import Command, CommandCall, Scope


class ConfigShape(TypedDict):
    """A hub as its dashboards see it.

    `boot_id` changes with each start. `event_types` are those that `subscribe_events` takes,
    `commands` those beside the protocol's own.
    """

    name: str
    version: str
    state: str
    boot_id: str
    roles: list[str]
    components: list[str]
    event_types: list[str]
    commands: list[str]


def get_config(hub: Hub) -> Command:
    """Return the command."""

    async def answer(_call: CommandCall) -> ConfigShape:
        """Return the hub's name and version, its parts, and what it can be asked."""
        return {
            "name": hub.name,
            "version": __version__,
            "state": hub.state,
            "boot_id": hub.boot_id,
            "roles": sorted(hub.roles),
            "components": sorted(hub.components),
            "event_types": sorted(hub.endpoints.event_types),
            "commands": sorted(command.name for command in hub.endpoints.commands),
        }

    return Command("get_config", answer, Scope.READ, {}, ConfigShape)
