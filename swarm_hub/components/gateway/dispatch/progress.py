"""`job_progress` events, at most four per second and job."""

from typing import Final

from swarm_hub.components.scheduler import JobEntry
from swarm_hub.core import Hub
from swarm_hub.models.event import EphemeralEvent

_EVERY_S: Final = 0.25


class Progress:
    """Tells dashboards how far along jobs are."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._told_at: dict[str, float] = {}

    def tell(self, entry: JobEntry | None) -> None:
        """Fire the progress of a job, unless that was done a moment ago or the job has ended."""
        now = self._hub.clock.monotonic()
        if entry is None or now - self._told_at.get(entry.plan.job_id, 0.0) < _EVERY_S:
            return
        self._told_at[entry.plan.job_id] = now
        progress = {
            "job_id": entry.plan.job_id,
            "items_done": entry.n_done_items,
            "items": entry.plan.n_items,
            "shards_done": entry.n_done_shards,
            "retries": entry.n_retries,
        }
        self._hub.bus.fire(EphemeralEvent("job_progress", progress))

    def forget(self, job_id: str) -> None:
        """Forget an ended job."""
        self._told_at.pop(job_id, None)
