"""The results of unfinished jobs: small ones in memory, so that the last one folds at once."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, aclosing
from typing import Final

from swarm_hub.components.gateway.results import endings
from swarm_hub.components.gateway.results.module_reduce import ModuleReducer
from swarm_hub.components.gateway.results.reduce import ReduceError, fold, start_fold
from swarm_hub.core import Hub
from swarm_hub.exceptions import StoreError
from swarm_hub.models.blob import Readable
from swarm_hub.models.job import REDUCE_MODULE, Job
from swarm_hub.models.shard import ShardResult
from swarm_hub.storage import GrowingBlob, Write
from swarm_hub.storage.queries import shard_results
from swarm_hub.storage.queries.jobs import Finish
from swarm_hub.util.hashing import sha256_hex

# Per job; beyond this the results are read back from the store when the job is done.
_KEPT_MAX: Final = 256
_KEPT_MAX_BYTES: Final = 256 * 1024
# How many are read back at once: rows hold at most 64 KiB each, so this bounds a fold's memory.
_PAGE: Final = 256
_PAGE_BYTES: Final = 4 * 1024 * 1024
_WRITE_BYTES: Final = 1024 * 1024


class ResultCache:
    """Folds results into a job's result."""

    def __init__(self, hub: Hub, by_module: ModuleReducer) -> None:
        self._hub = hub
        self._by_module = by_module
        self._kept: dict[str, list[ShardResult]] = {}
        self._bytes: dict[str, int] = {}

    def open(self, job: Job) -> None:
        """Keep the results of a job that has none yet, if it can be folded in one step."""
        if job.spec.reduce != REDUCE_MODULE:
            self._kept[job.id] = []
            self._bytes[job.id] = 0

    def add(self, result: ShardResult) -> None:
        """Keep a counted result while the job's results are few and small."""
        kept = self._kept.get(result.job_id)
        if kept is None:
            return
        kept.append(result)
        self._bytes[result.job_id] += result.size_bytes
        too_large = result.body is None or self._bytes[result.job_id] > _KEPT_MAX_BYTES
        if too_large or len(kept) > _KEPT_MAX:
            self.close(result.job_id)

    def is_whole(self, job_id: str, n_results: int) -> bool:
        """Whether every result of a job is in memory."""
        return len(self._kept.get(job_id, ())) == n_results

    def kept(self, job_id: str) -> list[ShardResult]:
        """Return those of a job's results that are in memory."""
        return self._kept.get(job_id, [])

    def close(self, job_id: str) -> None:
        """Forget a job's results."""
        self._kept.pop(job_id, None)
        self._bytes.pop(job_id, None)

    def fold(self, job: Job, base: Finish) -> Finish:
        """Fold a job whose results are all in memory; returns how it ended."""
        results = sorted(self._kept[job.id], key=lambda result: result.first_item)
        try:
            body = fold(job.spec.reduce, [(result, result.body or b"") for result in results])
        except ReduceError as error:
            return endings.fold_failed(base, error)
        # At most 256 KiB of results: their fold goes into the job's row in any case.
        return dataclasses.replace(
            base, result_sha=sha256_hex(body), result_bytes=len(body), result_inline=body
        )

    async def fold_stored(self, job: Job, base: Finish) -> tuple[Finish, list[Write]]:
        """Fold a job; returns how it ended and a large result's blob row. Raises ReduceError.

        A large fold is written to a file of its own, which waits on a full disk like any other
        write. Raises SandboxError when the hub stops while the job's module folds.
        """
        return await self._hub.store.when_possible(lambda: self._fold_stored(job, base))

    async def _fold_stored(self, job: Job, base: Finish) -> tuple[Finish, list[Write]]:
        with GrowingBlob(self._hub.store.blobs) as whole:
            await self.fold_into(job, whole)
            sha, size_bytes, inline, rows = await whole.finish(self._hub.clock.time())
        finish = dataclasses.replace(
            base, result_sha=sha, result_bytes=size_bytes, result_inline=inline
        )
        return finish, rows

    async def fold_into(self, job: Job, whole: GrowingBlob) -> int:
        """Write the fold of a job's results in the store; returns of how many items they are.

        Raises ReduceError, and SandboxError when the hub stops while the job's module folds.
        """
        n_items = 0
        async with aclosing(self._pages(job.id)) as pages:
            if job.spec.reduce == REDUCE_MODULE:

                async def bodies() -> AsyncGenerator[Readable]:
                    nonlocal n_items
                    async for page in pages:
                        for result, body in page:
                            n_items += result.n_items
                            yield body

                await self._by_module.fold(job, bodies(), whole)
                return n_items
            fold = start_fold(job.spec.reduce)
            async for page in pages:
                n_items += sum(result.n_items for result, _ in page)
                chunks = (each for result, body in page for each in fold.add(result, body))
                # With a hundred thousand results this takes a while, and the hub must keep
                # answering.
                while taken := await asyncio.to_thread(_take, chunks):
                    await whole.write(taken)
            await whole.write(await asyncio.to_thread(fold.end))
        return n_items

    async def _pages(self, job_id: str) -> AsyncGenerator[list[tuple[ShardResult, Readable]]]:
        """Yield a job's results in item order, a few MiB at a time, with their bodies to read.

        A body can be read until the next page is asked for.
        """
        after = -1
        while rows := await self._hub.store.read(shard_results.page, job_id, after, _PAGE):
            after = rows[-1].first_item
            page: list[tuple[ShardResult, Readable]] = []
            size_bytes = 0
            async with AsyncExitStack() as bodies:
                for result in rows:
                    page.append((result, await self._body(result, bodies)))
                    size_bytes += result.size_bytes
                    if size_bytes >= _PAGE_BYTES:
                        yield page
                        page, size_bytes = [], 0
                        await bodies.aclose()
                if page:
                    yield page

    async def _body(self, result: ShardResult, bodies: AsyncExitStack) -> Readable:
        if result.body is not None:
            return result.body
        body = await bodies.enter_async_context(self._hub.store.blobs.reading(result.sha))
        if body is None:
            raise StoreError(f"the result of {result.assignment_id} is gone from the store")
        return body


def _take(chunks: Iterator[bytes]) -> bytes:
    """Return the next chunks joined, just large enough to be written; empty at the end."""
    taken: list[bytes] = []
    size_bytes = 0
    for chunk in chunks:
        taken.append(chunk)
        size_bytes += len(chunk)
        if size_bytes >= _WRITE_BYTES:
            break
    return b"".join(taken)
