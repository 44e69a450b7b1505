"""What a platform of `gc` decides: which finished jobs go, and when their events follow."""

from collections.abc import Sequence
from typing import Final, Protocol

from swarm_hub.core import Hub

# For platforms that don't say it themselves: whoever waited for a job can still read it, and events
# outlast a night without a connection.
YOUNG_S: Final = 60.0
EVENTS_KEPT_S: Final = 86400.0


class RetentionPolicy(Protocol):
    """A platform, created from its keys; the collector does everything else."""

    @property
    def events_kept_s(self) -> float:
        """How old an event of no job may become, in seconds; so long `job_pruned` is told too."""

    @property
    def job_events_kept_s(self) -> float:
        """How old an event of a job must be to go with it, in seconds; a younger one follows.

        While the job is there its events are, however old they are.
        """

    async def choose(self, hub: Hub, limit: int) -> Sequence[str]:
        """Return up to `limit` finished jobs that are to go now; none when enough have gone.

        It is asked again once these are gone. Jobs that have not ended are left alone, even if they
        are returned here.
        """
