"""`keep_last`: the newest finished jobs stay, however old they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from swarm_hub.components.gc.policy import EVENTS_KEPT_S, YOUNG_S
from swarm_hub.core import Hub
from swarm_hub.helpers import config_validation as cv
from swarm_hub.storage.queries import pruning

PLATFORM_SCHEMA: Final = {
    cv.Key("jobs", default=100, reloadable=True): cv.integer(1, 1_000_000),
}


@dataclass(frozen=True, slots=True)
class KeepLast:
    """Chooses by the order of the jobs' ends."""

    jobs: int
    events_kept_s: float = EVENTS_KEPT_S
    job_events_kept_s: float = EVENTS_KEPT_S

    async def choose(self, hub: Hub, limit: int) -> Sequence[str]:
        """Return jobs that are to go now."""
        ended_before = hub.clock.time() - YOUNG_S
        return await hub.store.read(pruning.beyond_newest, self.jobs, ended_before, limit)


def create(jobs: int) -> KeepLast:
    """Return the policy."""
    return KeepLast(jobs)
