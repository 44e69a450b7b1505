"""The bridge between the two loops at its end."""

import asyncio
import threading

import pytest

from swarm_hub.components.mesh.transports.libp2p.trio_thread import TrioThread
from swarm_hub.exceptions import MeshError


async def test_a_call_that_comes_while_the_thread_ends_is_refused() -> None:
    ending, posted = threading.Event(), threading.Event()

    async def main(bridge: TrioThread) -> None:
        bridge.ready()
        assert bridge.stopping is not None
        await bridge.stopping.wait()
        # What is posted now is run by trio after `main` has returned.
        ending.set()
        assert posted.wait(10)

    async def nothing() -> None: ...

    ends: list[BaseException | None] = []
    bridge = TrioThread(main, ends.append)
    await bridge.start(5)
    stopping = asyncio.create_task(bridge.stop(5))
    assert await asyncio.to_thread(ending.wait, 10)
    calling = asyncio.create_task(bridge.call(nothing))
    await asyncio.sleep(0)
    # Behind the call on its way to the thread.
    asyncio.get_running_loop().call_soon(posted.set)
    with pytest.raises(MeshError, match="stopping"):
        async with asyncio.timeout(10):
            await calling
    assert await stopping
    assert ends == [None]
