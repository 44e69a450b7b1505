"""The bytes of shards: read from the stored dataset, small ones sent along, large ones by hash."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from swarm_hub.components.gateway.submission.dataset import Bytes, Dataset
from swarm_hub.components.gateway.submission.module_call import module_call
from swarm_hub.components.mesh import Readable
from swarm_hub.const import INLINE_MAX_BYTES
from swarm_hub.core import Hub
from swarm_hub.exceptions import StoreError
from swarm_hub.models.job import Job
from swarm_hub.models.shard import job_of
from swarm_hub.util.hashing import sha256_hex

# Inputs up to this size travel inside the envelope; larger ones are asked for by their hash.
_ALONG_MAX_BYTES: Final = 32 * 1024
_HASHED_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Prepared:
    """A shard's input; `inline` is None when it is fetched by its hash."""

    sha: str
    size_bytes: int
    inline: bytes | None


@dataclass(slots=True)
class _Open:
    """The dataset of an unfinished job, mapped while it is used."""

    dataset: Dataset
    files: contextlib.ExitStack
    shas: set[str] = field(default_factory=set)
    ended: bool = False
    readers: int = 0

    @contextlib.contextmanager
    def reading(self) -> Iterator[Dataset]:
        """Give the dataset to read in a thread; it stays mapped, also if its job ends meanwhile."""
        self.readers += 1
        try:
            yield self.dataset
        finally:
            self.readers -= 1
            self.dataset.let_go()
            self._unmap()

    def end(self) -> None:
        """Unmap the dataset as soon as nobody reads it."""
        self.ended = True
        self._unmap()

    def _unmap(self) -> None:
        if self.ended and not self.readers:
            self.files.close()


class Inputs:
    """Reads shards of the datasets of unfinished jobs; `jobs` are these jobs, by id.

    `assignments_on(node id)` gives the assignments that a node holds: it gets what they name, and
    nothing else.
    """

    def __init__(
        self, hub: Hub, jobs: Mapping[str, Job], assignments_on: Callable[[str], Collection[str]]
    ) -> None:
        self._hub = hub
        self._jobs = jobs
        self._assignments_on = assignments_on
        self._open: dict[str, _Open] = {}
        self._opening = asyncio.Lock()
        self._expected: dict[str, str] = {}
        self._served: dict[str, tuple[str, int, int]] = {}
        self._calls: dict[str, str] = {}

    async def prepare(
        self, job: Job, assignment_id: str, first_item: int, n_items: int
    ) -> Prepared:
        """Return the input of one assignment and remember its hash until `drop`."""
        opened = await self._opened(job)
        size = n_items * max(1, job.dataset_bytes // job.n_items)
        with opened.reading() as dataset:
            if size > INLINE_MAX_BYTES:
                prepared = await asyncio.to_thread(_prepared, dataset, first_item, n_items)
            else:
                prepared = _prepared(dataset, first_item, n_items)
        if opened.ended:
            # Nobody would drop what is noted for a job that has ended.
            return prepared
        self._expected[assignment_id] = prepared.sha
        if prepared.inline is None:
            self._served[prepared.sha] = (job.id, first_item, n_items)
            opened.shas.add(prepared.sha)
        return prepared

    def keep(self, job: Job, body: bytes | None) -> None:
        """Keep a new job's dataset in memory if it is small; a large one is read when needed."""
        if body is not None and len(body) <= INLINE_MAX_BYTES:
            self._open[job.id] = _Open(Dataset(job, body), contextlib.ExitStack())

    @contextlib.asynccontextmanager
    async def serve(self, node_id: str, sha: str) -> AsyncIterator[Readable | None]:
        """Give a node the input, the module or the script of an assignment of its, by the hash."""
        own = self._assignments_on(node_id)
        place = self._served.get(sha)
        if place is not None and any(self._expected.get(each) == sha for each in own):
            job_id, first_item, n_items = place
            with self._open[job_id].reading() as dataset:
                yield dataset.part(first_item, n_items)
        elif any(self._is_code(sha, job_of(each)) for each in own):
            async with self._hub.store.blobs.reading(sha) as blob:
                yield blob
        else:
            yield None

    def _is_code(self, sha: str, job_id: str) -> bool:
        job = self._jobs.get(job_id)
        return job is not None and sha in (job.module_sha, job.script_sha)

    def sha(self, assignment_id: str) -> str | None:
        """Return the input hash of an assignment sent since the hub started."""
        return self._expected.get(assignment_id)

    def call_sha(self, job: Job) -> str:
        """Return what nodes sign of the call that a job's results are of."""
        if job.id not in self._calls:
            self._calls[job.id] = module_call(job, None).sha
        return self._calls[job.id]

    def drop(self, assignment_id: str) -> None:
        """Forget an assignment that was answered."""
        self._expected.pop(assignment_id, None)

    def close(self, job_id: str) -> None:
        """Forget an ended job."""
        self._calls.pop(job_id, None)
        if (opened := self._open.pop(job_id, None)) is None:
            return
        opened.end()
        for sha in opened.shas:
            self._served.pop(sha, None)
        for assignment_id in [
            assignment_id
            for assignment_id in self._expected
            if assignment_id.startswith(f"{job_id}.")
        ]:
            del self._expected[assignment_id]

    async def _opened(self, job: Job) -> _Open:
        # One at a time: after a restart many results ask for the same dataset at once.
        async with self._opening:
            if (known := self._open.get(job.id)) is not None:
                return known
            blobs = self._hub.store.blobs
            files = contextlib.ExitStack()
            body: Bytes
            if job.dataset_bytes <= INLINE_MAX_BYTES:
                stored = await blobs.get(job.dataset_sha)
                if stored is None:
                    raise StoreError(f"the dataset of job {job.id} is gone from the store")
                body = stored
            else:
                await blobs.at_hand(job.dataset_sha)
                body = files.enter_context(blobs.mapped(job.dataset_sha))
            dataset = await asyncio.to_thread(Dataset, job, body)
            opened = self._open[job.id] = _Open(dataset, files)
            return opened


def _prepared(dataset: Dataset, first_item: int, n_items: int) -> Prepared:
    part = dataset.part(first_item, n_items)
    if len(part) <= _ALONG_MAX_BYTES:
        data = part[:]
        return Prepared(sha256_hex(data), len(data), data)
    # In pieces, which reuse the same memory: fresh memory costs more than the hash.
    digest = hashlib.sha256()
    for start in range(0, len(part), _HASHED_BYTES):
        digest.update(part[start : start + _HASHED_BYTES])
    return Prepared(digest.hexdigest(), len(part), None)
