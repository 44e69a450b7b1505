"""Deadlines: how long an attempt may take before its shard is given to another node too."""

from collections.abc import Callable
from typing import Final

from swarm_hub.core import Hub, HubKey, SimpleReloader
from swarm_hub.helpers.platforms import Platform, platform_schema

__all__ = ["SLA", "DeadlineRule"]

# deadline_s(expected seconds or None before any rate is known, attempt from 1) -> seconds
DeadlineRule = Callable[[float | None, int], float]

SLA: Final = HubKey[DeadlineRule]("sla")

CONFIG_SCHEMA = platform_schema("sla", default="expected")


async def async_setup(hub: Hub, config: Platform[DeadlineRule]) -> bool:
    """Offer the chosen rule to the gateway."""
    hub.services[SLA] = config.create()

    def apply(new: Platform[DeadlineRule]) -> None:
        hub.services[SLA] = new.create()

    # The gateway, which is set up after this, takes it from there.
    hub.reloaders["sla"] = SimpleReloader(apply, check=lambda new: new.create())
    return True
