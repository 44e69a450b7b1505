"""The rounds of the collector, whatever platform chooses the jobs.

Everything goes in short transactions between those of others: the writer is never held for longer
than one chunk takes.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from swarm_hub.components.gc.policy import RetentionPolicy
from swarm_hub.core import Hub, HubState
from swarm_hub.exceptions import PASSING_ERRORS, StoreFencedError
from swarm_hub.helpers.platforms import Platform
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.storage import Fence
from swarm_hub.storage.blobs.chunks import START, Place
from swarm_hub.storage.engine.database import Chunk
from swarm_hub.storage.queries import events, pruning, uploads

_LOGGER = logging.getLogger(__name__)

_JOBS_AT_ONCE: Final = 20
# How many are looked at in one read, and removed in one commit: small blobs' bytes are in their
# rows.
_BLOBS_LOOKED_AT: Final = 200
_BLOBS_AT_ONCE: Final = 10
# A blob is stored before the job that refers to it commits.
_BLOB_GRACE_S: Final = 60.0
# Looking at all blobs takes 5 % of a core at most, however many there are.
_BLOBS_SHARE: Final = 20.0
# A crash between a file and its row leaves an orphan; looking for them reads the directories.
_SWEEP_EVERY_S: Final = 3600.0
_ORPHAN_AFTER_S: Final = 600.0
# How many files are looked for in one round, and as how many a read counts that finds none.
_FILES_LOOKED_AT: Final = 2000
_FILES_A_READ: Final = 100
_TOMBSTONES_KEPT_S: Final = 30 * 86400.0
# Giving pages back is worth its writes only if there are many and nobody waits for the disk.
_FREE_MIN_BYTES: Final = 4 * 1024 * 1024
_FREE_MIN_SHARE: Final = 0.1
_QUIET_S: Final = 10.0
# Of one transaction. Now and then a commit has a checkpoint of SQLite's log to do, which takes
# another 20 to 40 ms.
_TARGET_S: Final = 0.015
_GROWTH_MAX: Final = 1.5


class Pace:
    """How much to remove in one transaction, learnt from how long the last one took.

    A slow disk makes it small at once.
    """

    def __init__(self, first: int, low: int, high: int) -> None:
        self.size = first
        self.longest_s = 0.0
        self._low = low
        self._high = high

    def learn(self, removed: int, took_s: float) -> None:
        """Note that a transaction that removed so many took so long."""
        self.longest_s = max(self.longest_s, took_s)
        fitting = self.size * min(_GROWTH_MAX, _TARGET_S / max(took_s, 1e-6))
        # A transaction that had little to remove tells nothing about a larger one.
        if fitting < self.size or removed >= self.size:
            self.size = max(self._low, min(self._high, int(fitting)))


class Collector:
    """Removes what is no longer needed, for one hub."""

    def __init__(self, hub: Hub, policy: RetentionPolicy, gateway: str) -> None:
        self._hub = hub
        self._policy = policy
        self._gateway = gateway
        self._rows = Pace(first=500, low=50, high=5000)
        self._pages = Pace(first=100, low=10, high=500)
        self._blobs_at = self._files_at = self._chunks_at = float("-inf")
        # Of the look at all files, or chunks, that is under way: what is left, and how far it got.
        self._beginnings: list[str] = []
        self._chunk: Place | None = None
        self._prepared = policy

    async def prepare(self, config: Platform[RetentionPolicy]) -> None:
        """Make the policy that `apply` puts in force; raises SetupError."""
        self._prepared = config.create()

    def apply(self) -> None:
        """Choose by the prepared policy from the next round on."""
        self._policy = self._prepared

    async def collect(self) -> None:
        """Do one round: remove as long as there is something to remove and the hub runs.

        After the clock jumped nothing is removed: what looks old may not be.
        """
        self._hub.clock.time()
        if not self._hub.clock.is_settled:
            return
        try:
            if await self._hub.store.ask(pruning.collects, self._gateway):
                await self._collect_jobs()
                await self._expire_uploads()
                await self._collect_blobs()
                await self._collect_events()
                await self._collect_tombstones()
                if self._hub.store.shared:
                    await self._collect_chunks()
            await self._collect_files()
            await self._give_back()
        except PASSING_ERRORS as error:
            _LOGGER.debug("Collecting goes on later: %s", error)

    @property
    def _stopping(self) -> bool:
        return self._hub.state in (HubState.STOPPING, HubState.STOPPED)

    async def _collect_jobs(self) -> None:
        await self._sweep()  # what a kill left
        n_pruned = 0
        while not self._stopping:
            pruned = await self._prune(await self._policy.choose(self._hub, _JOBS_AT_ONCE))
            if not pruned:
                break
            n_pruned += pruned
            await self._sweep()
        if n_pruned:
            _LOGGER.info("Pruned %d finished jobs", n_pruned)

    async def _prune(self, job_ids: Sequence[str]) -> int:
        """Remove those jobs that are there and have ended; returns how many."""
        if not job_ids:
            return 0
        now = self._hub.clock.time()
        units = [
            self._hub.store.commit(
                pruning.prune(job.job_id, now),
                [NewEvent(EventType.JOB_PRUNED, {"job_id": job.job_id}, job.job_id)],
                # Refused if another gateway has pruned the job meanwhile.
                Fence(job.gateway, {job.job_id: job.epoch}),
            )
            for job in await self._hub.store.read(pruning.finished, job_ids)
        ]
        outcomes = await asyncio.gather(*units, return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None and not isinstance(outcome, StoreFencedError):
                raise outcome
        return outcomes.count(None)

    async def _sweep(self) -> None:
        store = self._hub.store
        if await store.ask(pruning.any_unswept):
            before = self._hub.clock.time() - self._policy.job_events_kept_s
            await self._in_chunks(
                self._rows, lambda size: store.change(pruning.sweep, before, size)
            )

    async def _expire_uploads(self) -> None:
        store, now = self._hub.store, self._hub.clock.time()
        if await store.ask(uploads.any_expired, now):
            await store.commit([uploads.expire(now)])

    async def _collect_blobs(self) -> None:
        began = self._hub.clock.monotonic()
        if began < self._blobs_at:
            return
        store = self._hub.store
        unused_since = self._hub.clock.time() - _BLOB_GRACE_S
        after: str | None = ""
        while after is not None and not self._stopping:
            unused, after = await store.read(
                pruning.unused_blobs, after, unused_since, _BLOBS_LOOKED_AT
            )
            for start in range(0, len(unused), _BLOBS_AT_ONCE):
                going = unused[start : start + _BLOBS_AT_ONCE]
                await store.commit([pruning.drop_blobs(going, unused_since)])
                await store.blobs.remove_files(going)
        now = self._hub.clock.monotonic()
        self._blobs_at = now + _BLOBS_SHARE * (now - began)

    async def _collect_events(self) -> None:
        store = self._hub.store
        before = self._hub.clock.time() - self._policy.events_kept_s
        if await store.ask(events.any_older, before):
            await self._in_chunks(self._rows, lambda size: store.change(events.prune, before, size))
        if await store.ask(pruning.any_left_events, before):
            # One that gets its number only after its job was swept would stay for ever.
            await store.catch_up()
            await self._in_chunks(
                self._rows, lambda size: store.change(pruning.sweep_events, before, size)
            )

    async def _collect_tombstones(self) -> None:
        store = self._hub.store
        before = self._hub.clock.time() - _TOMBSTONES_KEPT_S
        if await store.ask(pruning.any_tombstone, before):
            await self._in_chunks(
                self._rows, lambda size: store.change(pruning.forget, before, size)
            )

    async def _collect_files(self) -> None:
        """Look for files without a row: once an hour at all, in each round at some."""
        now = self._hub.clock.monotonic()
        blobs = self._hub.store.blobs
        if not self._beginnings and now >= self._files_at:
            self._files_at = now + _SWEEP_EVERY_S
            self._beginnings = list(await blobs.beginnings())
        looked_at = 0
        while self._beginnings and looked_at < _FILES_LOOKED_AT and not self._stopping:
            prefix = self._beginnings.pop()
            known = await self._hub.store.read(pruning.blob_files, prefix)
            await blobs.sweep(prefix, known, _ORPHAN_AFTER_S)
            looked_at += _FILES_A_READ + len(known)

    async def _collect_chunks(self) -> None:
        """Look for chunks without a row, which only a shared store has, likewise."""
        now = self._hub.clock.monotonic()
        if self._chunk is None and now >= self._chunks_at:
            self._chunks_at = now + _SWEEP_EVERY_S
            self._chunk = START
        if self._chunk is not None:
            self._chunk = await self._hub.store.blobs.sweep_chunks(self._chunk, _ORPHAN_AFTER_S)

    async def _give_back(self) -> None:
        store = self._hub.store
        free_bytes, free_share = await store.free_share()
        if free_bytes < _FREE_MIN_BYTES or free_share < _FREE_MIN_SHARE:
            return
        if await store.read(pruning.is_quiet, self._hub.clock.time() - _QUIET_S):
            await self._in_chunks(self._pages, self._give_back_when_idle)

    async def _give_back_when_idle(self, pages: int) -> Chunk:
        if not self._hub.store.idle:
            return Chunk(0, False, time.monotonic())
        return await self._hub.store.give_back(pages)

    async def _in_chunks(self, pace: Pace, remove: Callable[[int], Awaitable[Chunk]]) -> None:
        """Remove until nothing is left or the hub stops, with room for others in between."""
        while not self._stopping:
            chunk = await remove(pace.size)
            took_s = time.monotonic() - chunk.began
            pace.learn(chunk.removed, took_s)
            if not chunk.more:
                return
            # Those who waited for this chunk now get the disk for as long as it took.
            await asyncio.sleep(0 if self._hub.store.idle else took_s)
