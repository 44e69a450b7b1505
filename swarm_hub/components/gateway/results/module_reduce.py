"""Folding results with the job's own module, in the sandbox."""

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Final

from swarm_hub.components.gateway.results.reduce import ReduceError
from swarm_hub.components.gateway.submission.module_call import module_call
from swarm_hub.components.sandbox import OK, STOPPED, Call, SandboxError, SandboxService
from swarm_hub.core import Hub
from swarm_hub.exceptions import HubError, StoreError
from swarm_hub.models.job import Job

# Enough calls queued at the sandbox for it to hand them over in batches.
_AT_ONCE: Final = 16


class ModuleReducer:
    """Calls a module's `reduce` on neighbouring results until one is left.

    Pairs are folded level by level, so `reduce` has to be associative; it sees its operands in
    item order, each in a fresh instance.
    """

    def __init__(self, hub: Hub, service: SandboxService) -> None:
        self._hub = hub
        self._service = service

    async def fold(self, job: Job, bodies: Sequence[bytes]) -> bytes:
        """Return the job's result.

        Raises ReduceError when the module fails, SandboxError when the hub is stopping.
        """
        requested = dataclasses.replace(module_call(job), abi="fold", entry="reduce")
        call = self._service.bounded(requested)
        turns = asyncio.Semaphore(_AT_ONCE)
        level = list(bodies)
        while len(level) > 1:
            try:
                async with asyncio.TaskGroup() as group:
                    pairs = [
                        group.create_task(self._pair(call, first, second, turns))
                        for first, second in zip(level[::2], level[1::2], strict=False)
                    ]
            except* (HubError, OSError) as failures:
                raise failures.exceptions[0] from None
            folded = [pair.result() for pair in pairs]
            level = folded + level[len(level) & ~1 :]
        return level[0]

    async def _pair(
        self, call: Call, first: bytes, second: bytes, turns: asyncio.Semaphore
    ) -> bytes:
        async def load_wasm() -> bytes:
            wasm = await self._hub.store.blobs.get(call.module_sha)
            if wasm is None:
                raise StoreError("the job's module is gone from the store")
            return wasm

        body = b"".join((len(first).to_bytes(4, "little"), first, second))
        try:
            async with turns:
                outcome = await self._service.sandbox.run(call, body, load_wasm)
        except SandboxError as error:
            if error.code == STOPPED:
                raise
            raise ReduceError(f"the module's reduce could not be run: {error}") from error
        if outcome.code != OK:
            raise ReduceError(f"the module's reduce failed: {outcome.code}: {outcome.text}")
        return outcome.output
