"""Repairs: tells clients what a person should do about this hub, and does it for them."""

from dataclasses import dataclass

from swarm_hub.components.repairs.views import views
from swarm_hub.core import Hub
from swarm_hub.helpers import config_validation as cv
from swarm_hub.repairs import GONE, RAISED

# With the replay cache, so that it wakes nobody up.
_LOOK_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class RepairsConfig:
    """`repairs:`: it has no keys; `repairs: false` switches the views and events off."""


CONFIG_SCHEMA = cv.section({}, RepairsConfig)


async def async_setup(hub: Hub, _config: RepairsConfig) -> bool:
    """Have the views served, and look regularly for what is raised or gone."""
    for event_type in (RAISED, GONE):
        hub.endpoints.add_event_type(event_type)
    for view in views(hub.repairs):
        hub.endpoints.add_view(view)

    async def look() -> None:
        await hub.repairs.look()

    hub.tasks.every(_LOOK_EVERY_S, look, "repairs")
    return True
