"""Folding results with the job's own module, in the sandbox."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import ExitStack
from itertools import pairwise
from typing import Final, Self

from swarm_hub.components.gateway.results.reduce import ReduceError
from swarm_hub.components.gateway.submission.module_call import module_call
from swarm_hub.components.sandbox import OK, STOPPED, Call, SandboxError, SandboxService
from swarm_hub.core import Hub
from swarm_hub.exceptions import HubError, StoreError
from swarm_hub.models.blob import Readable
from swarm_hub.models.job import Job
from swarm_hub.storage import GrowingBlob
from swarm_hub.storage.blobs.spool import Spool
from swarm_hub.storage.blobs.store import BlobStore

# Enough calls queued at the sandbox for it to hand them over in batches.
_AT_ONCE: Final = 16
# What those calls may take in all, unless it is a single one.
_AT_ONCE_BYTES: Final = 4 * 1024 * 1024
# The results of a level that take less stay in memory.
_KEPT_MAX_BYTES: Final = 1024 * 1024
_PART_BYTES: Final = 1024 * 1024
_SIZE_BYTES: Final = 4


class ModuleReducer:
    """Calls a module's `reduce` on neighbouring results until one is left.

    Pairs are folded level by level, so `reduce` has to be associative; it sees its operands in
    item order, each in a fresh instance. A level's results are in a file unless they are small: in
    memory are only those that are being folded, which the module needs whole.
    """

    def __init__(
        self, hub: Hub, service: SandboxService, gateway_id: str, owner_key: bytes
    ) -> None:
        self._hub = hub
        self._service = service
        self._gateway_id = gateway_id
        self._owner_key = owner_key

    async def fold(self, job: Job, results: AsyncIterator[Readable], whole: GrowingBlob) -> None:
        """Write the job's result into `whole`; a result is read before the next one is asked for.

        Raises ReduceError when the module fails, SandboxError when the hub is stopping.
        """
        mapped = module_call(job, self._owner_key)
        requested = dataclasses.replace(mapped, abi="fold", entry="reduce")
        # As the worker of this hub has it, so that both use the same children.
        call = self._service.bounded(requested, self._gateway_id, job.id)
        blobs = self._hub.store.blobs
        with ExitStack() as left:
            level = left.enter_context(_Level(blobs))
            await self._fold_level(call, results, level)
            while len(level) > 1:
                above = left.enter_context(_Level(blobs))
                await self._fold_level(call, level.results(), above)
                level.close()
                level = above
            async for result in level.results():
                for start in range(0, len(result), _PART_BYTES):
                    await whole.write(await _read(result, start, _PART_BYTES))

    async def _fold_level(
        self, call: Call, results: AsyncIterator[Readable], above: "_Level"
    ) -> None:
        """Fold neighbours, a few at once; the last of an odd number goes up as it is."""
        operands: list[bytearray] = []
        operands_bytes = 0
        # One call first: what it gives tells how many can be held at once.
        largest_bytes = call.limits.output_bytes
        pair: bytearray | None = None
        first_bytes = 0
        async for result in results:
            if pair is None:
                first_bytes = len(result)
                pair = bytearray(first_bytes.to_bytes(_SIZE_BYTES, "little"))
                if first_bytes > call.limits.memory_bytes:
                    # No call can take it, but it may be the only one.
                    await above.add(result)
                else:
                    await _append(pair, result)
                continue
            _check_size(call, first_bytes, len(result))
            await _append(pair, result)
            operands.append(pair)
            operands_bytes += len(pair) + largest_bytes
            pair = None
            if len(operands) == _AT_ONCE or operands_bytes >= _AT_ONCE_BYTES:
                largest_bytes = await self._fold_pairs(call, operands, above)
                operands_bytes = 0
        await self._fold_pairs(call, operands, above)
        if pair is not None and first_bytes <= call.limits.memory_bytes:
            await above.add(bytes(memoryview(pair)[_SIZE_BYTES:]))

    async def _fold_pairs(self, call: Call, operands: list[bytearray], above: "_Level") -> int:
        """Fold pairs at once, and empty their list; returns the size of the largest result."""
        try:
            async with asyncio.TaskGroup() as group:
                calls = [group.create_task(self._pair(call, each)) for each in operands]
        except* (HubError, OSError) as failures:
            raise failures.exceptions[0] from None
        operands.clear()
        for each in calls:
            await above.add(each.result())
        return max((len(each.result()) for each in calls), default=0)

    async def _pair(self, call: Call, operands: bytearray) -> bytes:
        async def load_wasm() -> bytes:
            wasm = await self._hub.store.blobs.get(call.module_sha)
            if wasm is None:
                raise StoreError("the job's module is gone from the store")
            return wasm

        try:
            outcome = await self._service.sandbox.run(call, operands, load_wasm)
        except SandboxError as error:
            if error.code == STOPPED:
                raise
            raise ReduceError(f"the module's reduce could not be run: {error}") from error
        if outcome.code != OK:
            raise ReduceError(f"the module's reduce failed: {outcome.code}: {outcome.text}")
        return outcome.output


class _Level:
    """Results in item order, one behind the other: in memory while they are few, then in a file."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._ends = [0]
        self._kept = bytearray()
        self._spool: Spool | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def close(self) -> None:
        """Delete the file, if there is one; safe to repeat."""
        self._open.close()

    async def add(self, result: Readable) -> None:
        """Add a result; raises StoreError when it can't be written."""
        self._ends.append(self._ends[-1] + len(result))
        if self._spool is None and self._ends[-1] <= _KEPT_MAX_BYTES:
            self._kept += result[:]
            return
        if self._spool is None:
            self._spool = self._open.enter_context(self._blobs.spool())
            await self._spool.write(bytes(self._kept))
            self._kept.clear()
        for start in range(0, len(result), _PART_BYTES):
            await self._spool.write(await _read(result, start, _PART_BYTES))

    async def results(self) -> AsyncIterator[Readable]:
        """Yield the results, when all of them were added."""
        if self._spool is not None:
            await self._spool.finish()
        for start, end in pairwise(self._ends):
            if self._spool is None:
                yield bytes(self._kept[start:end])
            else:
                yield _SpooledResult(self._spool, start, end - start)


@dataclasses.dataclass(frozen=True, slots=True)
class _SpooledResult:
    """A result in the file of its level; see `Readable`."""

    spool: Spool
    start: int
    size_bytes: int

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self.size_bytes)
        return self.spool.read(self.start + start, max(0, stop - start))

    def __len__(self) -> int:
        return self.size_bytes


async def _read(result: Readable, start: int, size_bytes: int) -> bytes:
    """Return a part of a result, read in a thread unless it is in memory."""
    part = slice(start, start + size_bytes)
    if isinstance(result, bytes):
        return result[part]
    return await asyncio.to_thread(result.__getitem__, part)


async def _append(operands: bytearray, result: Readable) -> None:
    """Add a result in parts: as a whole it would stay with the heap of the thread that read it."""
    for start in range(0, len(result), _PART_BYTES):
        operands += await _read(result, start, _PART_BYTES)


def _check_size(call: Call, first_bytes: int, second_bytes: int) -> None:
    """Refuse, before they are read, results that the module's memory can't hold; ReduceError."""
    if first_bytes + second_bytes > call.limits.memory_bytes:
        raise ReduceError(
            f"the module's reduce can't take results of {first_bytes} and {second_bytes} bytes: "
            f"they don't fit into its memory of {call.limits.memory_bytes} bytes; use smaller "
            "shards, or raise limits: memory of the job and sandbox: memory of the gateway"
        )
