"""What a job got done before it failed or was cancelled, folded when somebody asks for it."""

import asyncio
import mmap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from swarm_hub.components.gateway.results.reduce import ReduceError
from swarm_hub.components.gateway.results.result_cache import ResultCache
from swarm_hub.components.sandbox import SandboxError
from swarm_hub.core import Hub
from swarm_hub.exceptions import Busy, Conflict, StoreError
from swarm_hub.models.job import Job, JobState
from swarm_hub.storage import GrowingBlob

# Nothing of such a fold is kept, so whoever asks twice has it done twice.
_AT_ONCE: Final = 2
_TURN_WITHIN_S: Final = 30.0


class PartialResults:
    """Folds the results that count of jobs that have ended without a result of their own."""

    def __init__(self, hub: Hub, result_cache: ResultCache) -> None:
        self._hub = hub
        self._result_cache = result_cache
        self._turns = asyncio.Semaphore(_AT_ONCE)

    @asynccontextmanager
    async def folded(self, job: Job) -> AsyncIterator[bytes | mmap.mmap]:
        """Give the bytes to read; raises Conflict or Busy, StoreError if the job went meanwhile."""
        with GrowingBlob(self._hub.store.blobs) as whole:
            await self._take_turn()
            try:
                n_items = await self._result_cache.fold_into(job, whole)
            except ReduceError as error:
                raise Conflict(
                    "no_result", f"job {job.id}: what was done can't be folded: {error}"
                ) from error
            except SandboxError as error:
                raise Busy("busy", f"the hub is stopping: {error}") from error
            finally:
                self._turns.release()
            if n_items != job.n_done_items:
                raise StoreError(
                    f"job {job.id}: results of {n_items} items are there, expected "
                    f"{job.n_done_items}"
                )
            yield await whole.finish_apart()

    async def _take_turn(self) -> None:
        try:
            async with asyncio.timeout(_TURN_WITHIN_S):
                await self._turns.acquire()
        except TimeoutError:
            raise Busy("busy", "other partial results are being folded; try again") from None


def why_no_result(job: Job, partial: bool) -> str | None:
    """Return why there is nothing to give of a job, None if there is."""
    if job.state is JobState.COMPLETED:
        return None
    if not job.state.finished:
        if partial:
            return "a partial result is there once it has failed or was cancelled"
        return "only a completed job has a result"
    if not job.n_done_items:
        return f"only a completed job has a result, and none of its {job.n_items} items was done"
    if partial:
        return None
    return (
        "only a completed job has a result; --partial (?partial=true) gives that of the "
        f"{job.n_done_items} of {job.n_items} items that were done"
    )
