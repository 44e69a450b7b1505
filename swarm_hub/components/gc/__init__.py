"""Garbage collection: finished jobs, their blobs and old events leave the store."""

from typing import Final

from swarm_hub.components.gc.collector import Collector
from swarm_hub.components.gc.policy import RetentionPolicy
from swarm_hub.components.mesh import MESH
from swarm_hub.core import Hub
from swarm_hub.helpers.platforms import Platform, platform_schema

_EVERY_S: Final = 5.0
# Of a store that nothing was written to, only time makes something superfluous.
_AT_REST_TIMES: Final = 60

CONFIG_SCHEMA = platform_schema("gc", default="budget")


async def async_setup(hub: Hub, config: Platform[RetentionPolicy]) -> bool:
    """Collect while the store is used; a round with nothing to do costs a few short queries."""
    mesh = hub.services.get(MESH)
    collector = Collector(hub, config.create(), "" if mesh is None else mesh.peer_id)
    hub.reloaders["gc"] = collector
    hub.tasks.after(
        hub.store.sign_of_use(),
        collector.collect,
        "gc",
        pause_s=_EVERY_S,
        at_least_every_s=_EVERY_S * _AT_REST_TIMES,
    )
    return True
