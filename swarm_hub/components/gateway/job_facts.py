"""Whose a job is and how it is labelled: what decides who hears of its events."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from swarm_hub.core import Hub
from swarm_hub.endpoints import JobFacts
from swarm_hub.models.job import Job
from swarm_hub.storage.queries import jobs

_KEPT_MAX: Final = 10_000
# Another gateway of the store may give a job other labels.
_TRUE_FOR_S: Final = 10.0


class KnownJobs:
    """Knows the jobs of this gateway at once, and keeps a while what it read of others."""

    def __init__(self, hub: Hub, job: Callable[[str], Job | None]) -> None:
        self._hub = hub
        self._job = job
        self._facts: dict[str, tuple[float, JobFacts]] = {}

    def known(self, job_id: str) -> JobFacts | None:
        """Return the facts of a job at once, None if they have to be read."""
        now = self._hub.clock.monotonic()
        read_at, facts = self._facts.get(job_id, (now, None))
        job = self._job(job_id)
        if job is None:
            return None if now - read_at > _TRUE_FOR_S else facts
        if facts is None or (facts.owner, facts.labels) != (job.owner, job.spec.labels):
            facts = JobFacts(job.owner, job.spec.labels)
        # Its last event comes when this gateway has forgotten it.
        self._keep(job_id, facts, now)
        return facts

    async def find(self, job_ids: Sequence[str]) -> Mapping[str, JobFacts]:
        """Return the facts of jobs by id; those of unknown ones are left out."""
        found = {job_id: facts for job_id in job_ids if (facts := self.known(job_id)) is not None}
        rest = [job_id for job_id in job_ids if job_id not in found]
        if rest:
            read = await self._hub.store.read(jobs.owners_and_labels, rest)
            now = self._hub.clock.monotonic()
            for job_id, (owner, labels) in read.items():
                found[job_id] = JobFacts(owner, labels)
                self._keep(job_id, found[job_id], now)
        return found

    def _keep(self, job_id: str, facts: JobFacts, now: float) -> None:
        self._facts[job_id] = now, facts
        if len(self._facts) > _KEPT_MAX:
            del self._facts[next(iter(self._facts))]
