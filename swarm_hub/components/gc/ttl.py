"""`ttl`: a job goes some time after its result was read, or after it ended if nobody read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from swarm_hub.core import Hub
from swarm_hub.helpers import config_validation as cv
from swarm_hub.storage.queries import pruning

PLATFORM_SCHEMA: Final = {
    cv.Key("completed_after", default=300, reloadable=True, field="completed_after_s"): cv.duration,
    cv.Key("unread_after", default="24h", reloadable=True, field="unread_after_s"): cv.duration,
}


@dataclass(frozen=True, slots=True)
class Ttl:
    """Chooses by the time since a job's result was read or the job ended."""

    completed_after_s: float
    events_kept_s: float

    @property
    def job_events_kept_s(self) -> float:
        """As old as any other, for a job may go within minutes."""
        return self.events_kept_s

    async def choose(self, hub: Hub, limit: int) -> Sequence[str]:
        """Return jobs that are to go now."""
        now = hub.clock.time()
        return await hub.store.read(
            pruning.read_or_ended, now - self.completed_after_s, now - self.events_kept_s, limit
        )


def create(completed_after_s: float, unread_after_s: float) -> Ttl:
    """Return the policy. Events are kept as long as a job whose result nobody read."""
    return Ttl(completed_after_s, unread_after_s)
