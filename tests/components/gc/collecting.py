"""A process that dies while it collects: `python -m tests.components.gc.collecting DIR`."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from sqlalchemy import Connection

from swarm_hub.components.gc.ttl import create
from swarm_hub.storage import Store
from swarm_hub.storage.engine.database import Chunk
from swarm_hub.storage.queries import pruning
from tests.conftest import MovableClock
from tests.helpers.stored import collect, hub_on

_CHUNKS = 3
_sweep = pruning.sweep
_swept = 0


def dying_sweep(connection: Connection, fired_before: float, limit: int) -> Chunk:
    """Remove a chunk; the third is removed and not committed."""
    global _swept
    chunk = _sweep(connection, fired_before, limit)
    _swept += 1
    if _swept == _CHUNKS:
        os.kill(os.getpid(), signal.SIGKILL)
    return chunk


async def main(folder: Path) -> None:
    """Collect what is old."""
    pruning.sweep = dying_sweep
    clock = MovableClock()
    store = Store.on_file(folder / "swarm_hub.db", clock)
    await store.open()
    await collect(hub_on(store, folder, clock), create(300, 86400))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
