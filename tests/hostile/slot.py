"""A sandbox of one slot that compiles within the bounds of these tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from swarm_hub.components.sandbox.pool import Sandbox
from tests.helpers.sandboxes import MIB, Bench, Tasks

COMPILE_S = 1.0


@asynccontextmanager
async def one_slot(directory: Path, compile_s: float = COMPILE_S) -> AsyncIterator[Bench]:
    tasks = Tasks()
    sandbox = Sandbox(
        cache_dir=directory,
        slots=1,
        spawn=tasks.spawn,
        compile_time_s=compile_s,
        compile_memory_bytes=256 * MIB,
    )
    await sandbox.start()
    await sandbox.warm()
    try:
        yield Bench(sandbox)
    finally:
        await sandbox.stop()
        await tasks.settle()
    assert tasks.failures == []
