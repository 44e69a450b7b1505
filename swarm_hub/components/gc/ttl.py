"""`ttl`: a job goes some time after its result was read, or after it ended if nobody read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import voluptuous as vol

from swarm_hub.core import Hub
from swarm_hub.helpers import config_validation as cv
from swarm_hub.storage.queries import pruning

PLATFORM_SCHEMA: Final = {
    vol.Optional("completed_after", default=300): cv.duration,
    vol.Optional("unread_after", default="24h"): cv.duration,
}


@dataclass(frozen=True, slots=True)
class Ttl:
    """Chooses by the time since the reading or the end."""

    completed_after_s: float
    events_kept_s: float

    async def choose(self, hub: Hub, limit: int) -> Sequence[str]:
        """Return jobs that are to go now."""
        now = hub.clock.time()
        return await hub.store.read(
            pruning.read_or_ended, now - self.completed_after_s, now - self.events_kept_s, limit
        )


def create(completed_after: float, unread_after: float) -> Ttl:
    """Return the policy; both in seconds. Events are kept as long as a job that nobody read."""
    return Ttl(completed_after, unread_after)
