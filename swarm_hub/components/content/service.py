"""Bytes by their hash, from this hub's store or else from another hub."""

import asyncio
import contextlib
import logging
import mmap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from swarm_hub.components.content.search import Search
from swarm_hub.core import Hub
from swarm_hub.exceptions import Busy, NotFound, RequestError, StoreError
from swarm_hub.storage.queries import content

_LOGGER = logging.getLogger(__name__)

_SEARCHES_AT_ONCE: Final = 16
_RETRY_AFTER_S: Final = 5
_FETCHED_MAX: Final = 1000


class ContentService:
    """Reads result blobs and fetches those of others, which are cached until gc removes them."""

    def __init__(self, hub: Hub, search: Search) -> None:
        self._hub = hub
        self._search = search
        # Searches under way, for everybody who waits for the same blob.
        self._running: dict[str, asyncio.Task[bytes | RequestError]] = {}
        # Of all blobs in the store only results, and blobs fetched as results, are given out.
        self._fetched: dict[str, None] = {}

    @asynccontextmanager
    async def reading(self, sha: str) -> AsyncIterator[bytes | mmap.mmap]:
        """Give the bytes to read from; raises NotFound or Busy."""
        async with contextlib.AsyncExitStack() as stack:
            body = await self._local(sha, stack)
            yield await self._from_others(sha) if body is None else body

    async def _local(self, sha: str, stack: contextlib.AsyncExitStack) -> bytes | mmap.mmap | None:
        store = self._hub.store
        if sha not in self._fetched and await store.read(content.result_size, sha) is None:
            return None
        try:
            return await stack.enter_async_context(store.blobs.reading(sha))
        except StoreError as error:
            _LOGGER.warning("Asking others for %s: %s", sha[:12], error)
            return None

    async def _from_others(self, sha: str) -> bytes:
        task = self._running.get(sha)
        if task is None:
            if len(self._running) >= _SEARCHES_AT_ONCE:
                raise Busy("busy", "too many blobs are looked for; try again", None, _RETRY_AFTER_S)
            task = self._running[sha] = self._hub.tasks.spawn(self._fetch(sha), "fetch data")
            task.add_done_callback(lambda _task: self._running.pop(sha))
        # A client that waits may leave; the others, and the cache, still get the blob.
        outcome = await asyncio.shield(task)
        if isinstance(outcome, RequestError):
            raise outcome
        return outcome

    async def _fetch(self, sha: str) -> bytes | RequestError:
        try:
            data = await self._search.fetch(sha)
        except NotFound as error:
            return error
        await self._cache(sha, data)
        return data

    async def _cache(self, sha: str, data: bytes) -> None:
        store = self._hub.store
        if store.full is not None:
            return
        try:
            _, row = await store.blobs.put(data, self._hub.clock.time(), durable=False)
            await store.commit([row])
        except StoreError as error:
            _LOGGER.warning("%s was fetched and is not kept: %s", sha[:12], error)
            return
        self._fetched[sha] = None
        if len(self._fetched) > _FETCHED_MAX:
            del self._fetched[next(iter(self._fetched))]
