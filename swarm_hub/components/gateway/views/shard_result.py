"""The view of one shard's result, which is there before the job has ended."""

import mmap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from swarm_hub.components.gateway.service import JobService
from swarm_hub.core import Hub
from swarm_hub.endpoints import Blob, Request, Scope, View
from swarm_hub.exceptions import Gone, Lost, NotFound
from swarm_hub.models.shard import ShardResult
from swarm_hub.storage.queries import shard_results

_DIGITS_MAX: Final = 9


def view(hub: Hub, service: JobService) -> View:
    """Return the view."""

    @asynccontextmanager
    async def reading(result: ShardResult) -> AsyncIterator[bytes | mmap.mmap]:
        if result.body is not None:
            yield result.body
            return
        async with hub.store.blobs.reading(result.sha) as body:
            if body is None:
                raise Lost("result_lost", f"the result of {result.assignment_id} is gone")
            yield body

    async def answer(request: Request) -> Blob:
        """Return the bytes that a shard gave, as soon as they count; folded they are the job's."""
        job_id, index, caller = request.path["job_id"], request.path["index"], request.caller
        assert caller is not None, "the scope asks for a token"
        if not caller.sees_all:
            await service.check_owner(job_id, caller.account)
        result = None
        if index.isascii() and index.isdigit() and len(index) <= _DIGITS_MAX:
            result = await hub.store.read(shard_results.of_shard, job_id, int(index))
        if result is None:
            # For a job that there is not, this says so.
            await service.status(job_id, 0)
            raise NotFound("no_result", f"shard {index} of job {job_id} has no result that counts")
        return Blob(await request.enter(reading(result)), etag=result.sha)

    path = "/jobs/{job_id}/shards/{index}/result"
    return View("GET", path, answer, Scope.READ, bytes, errors=(Gone,), versioned=True)
