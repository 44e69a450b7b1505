"""A process that collects until it is killed: `python -m tests.components.gc.collecting DIR`."""

import asyncio
import sys
from pathlib import Path

from swarm_hub.components.gc.ttl import create
from swarm_hub.storage import Store
from tests.components.gc.stored import collect, hub_on
from tests.conftest import MovableClock


async def main(folder: Path) -> None:
    """Collect what is old."""
    clock = MovableClock()
    store = Store.on_file(folder / "swarm_hub.db", clock)
    await store.open()
    await collect(hub_on(store, folder, clock), create(300, 86400))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
