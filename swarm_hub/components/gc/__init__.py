"""Garbage collection: finished jobs, their blobs and old events leave the store."""

from collections.abc import Awaitable, Callable
from typing import Final

from swarm_hub.core import Hub
from swarm_hub.helpers.platforms import Platform, platform_schema

_EVERY_S: Final = 5.0

Collector = Callable[[Hub], Awaitable[None]]

CONFIG_SCHEMA = platform_schema("gc", default="ttl")


async def async_setup(hub: Hub, config: Platform[Collector]) -> bool:
    """Collect every few seconds; a round with nothing to do costs one query."""
    collect = config.create()
    hub.tasks.every(_EVERY_S, lambda: collect(hub), "gc")
    return True
