"""Reductions that take a while: jobs whose shards are done and whose results are in the store."""

import asyncio
import dataclasses
import logging
from collections.abc import Callable

from swarm_hub.components.gateway.results import endings
from swarm_hub.components.gateway.results.reduce import ReduceError
from swarm_hub.components.gateway.results.result_cache import ResultCache
from swarm_hub.components.sandbox import SandboxError
from swarm_hub.core import Hub
from swarm_hub.exceptions import HubError, StoreError, StoreFencedError
from swarm_hub.models.job import Job, JobState
from swarm_hub.storage import Fence, Write
from swarm_hub.storage.queries import jobs
from swarm_hub.storage.queries.jobs import Finish

_LOGGER = logging.getLogger(__name__)

_Ending = tuple[Finish, list[Write]]


class Reductions:
    """Folds jobs beside the dispatcher and commits their ends; `over` is called for each."""

    def __init__(self, hub: Hub, result_cache: ResultCache, over: Callable[[str], None]) -> None:
        self._hub = hub
        self._result_cache = result_cache
        self._over = over
        self._running: dict[str, asyncio.Task[_Ending | None]] = {}
        self._unwanted: set[str] = set()

    def start(self, job: Job, base: Finish, fence: Fence) -> None:
        """Begin to fold a job whose results are all in the store."""
        work = self._hub.tasks.spawn(self._ending(job, base), f"fold {job.id}")
        self._running[job.id] = work
        self._hub.tasks.spawn(self._finish(job, base, fence, work), f"finish {job.id}")
        if job.id in self._unwanted:
            work.cancel()

    def cancel(self, job_id: str) -> None:
        """Cancel a job whose shards are done, unless its fold is done too."""
        if (work := self._running.get(job_id)) is not None:
            work.cancel()
        else:
            # The job's last results are on their way to the disk.
            self._unwanted.add(job_id)

    def forget(self, job_id: str) -> None:
        """Stop the fold, if any, of a job that has ended or now belongs to another gateway."""
        self._unwanted.discard(job_id)
        if (work := self._running.pop(job_id, None)) is not None:
            work.cancel()

    async def _finish(
        self, job: Job, base: Finish, fence: Fence, work: asyncio.Task[_Ending | None]
    ) -> None:
        await asyncio.wait([work])
        if self._running.get(job.id) is not work:
            return
        if work.cancelled():
            ending: _Ending | None = (dataclasses.replace(base, state=JobState.CANCELLED), [])
        else:
            ending = work.result()
        if ending is None:
            return
        finish, writes = ending
        try:
            await self._hub.store.commit_when_possible(
                [*writes, jobs.finish([finish])], [endings.ended(finish)], fence
            )
        except StoreFencedError:
            _LOGGER.warning("Job %s was taken over while it was folded", job.id)
        self._over(job.id)

    async def _ending(self, job: Job, base: Finish) -> _Ending | None:
        """Fold a job; None when the hub is stopping, so that the next start folds it."""
        try:
            return await self._result_cache.fold_stored(job, base)
        except SandboxError:
            return None
        except (ReduceError, StoreError) as error:
            return endings.fold_failed(base, error), []
        except Exception as error:
            # Whatever went wrong, a job ends, and its owner is told.
            _LOGGER.exception("The results of job %s can't be folded", job.id)
            failure = HubError(f"its results can't be folded: {type(error).__name__}: {error}")
            return endings.fold_failed(base, failure), []
