"""The bridge between the two loops at its end."""

import asyncio
import time

import pytest

from swarm_hub.components.mesh.transports.libp2p.trio_thread import TrioThread
from swarm_hub.exceptions import MeshError


async def test_a_call_that_comes_while_the_thread_ends_is_refused() -> None:
    async def main(bridge: TrioThread) -> None:
        bridge.ready()
        assert bridge.stopping is not None
        await bridge.stopping.wait()
        # What is posted now is run by trio after `main` has returned.
        time.sleep(0.2)  # noqa: ASYNC251

    async def nothing() -> None: ...

    ends: list[BaseException | None] = []
    bridge = TrioThread(main, ends.append)
    await bridge.start(5)
    stopping = asyncio.create_task(bridge.stop(5))
    await asyncio.sleep(0.05)
    with pytest.raises(MeshError, match="stopping"):
        async with asyncio.timeout(2):
            await bridge.call(nothing)
    assert await stopping
    assert ends == [None]
