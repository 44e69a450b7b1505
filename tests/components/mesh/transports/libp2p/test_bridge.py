"""The bridge between the two loops at its end."""

import asyncio
import sys
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
        assert posted.wait(30)

    async def nothing() -> None: ...

    ends: list[BaseException | None] = []
    bridge = TrioThread(main, ends.append)
    await bridge.start(5)
    stopping = asyncio.create_task(bridge.stop(5))
    assert await asyncio.to_thread(ending.wait, 30)
    calling = asyncio.create_task(bridge.call(nothing))
    await asyncio.sleep(0)
    # Behind the call on its way to the thread.
    asyncio.get_running_loop().call_soon(posted.set)
    with pytest.raises(MeshError, match="stopping"):
        async with asyncio.timeout(30):
            await calling
    assert await stopping
    assert ends == [None]


async def test_a_start_that_gets_on_may_take_as_long_as_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    goes_on, looks = threading.Event(), 0

    async def main(bridge: TrioThread) -> None:
        while not goes_on.wait(0.001):
            bridge.begins(f"taking step {looks}")
        bridge.ready()
        assert bridge.stopping is not None
        await bridge.stopping.wait()

    bridge = TrioThread(main, lambda _error: None)
    progress = bridge._progress

    def looked() -> tuple[str, int]:
        # Far more looks than a stall of this length has: one, as none may be without progress.
        nonlocal looks
        looks += 1
        if looks == 20:
            goes_on.set()
        return (progress()[0], looks)

    monkeypatch.setattr(bridge, "_progress", looked)
    await bridge.start(0.01)
    assert looks >= 20
    assert await bridge.stop(5)


async def test_a_start_that_stalls_says_where() -> None:
    goes_on = threading.Event()

    async def main(bridge: TrioThread) -> None:
        bridge.begins("importing a library")
        goes_on.wait(30)

    bridge = TrioThread(main, lambda _error: None)
    with pytest.raises(MeshError, match=r"nothing has happened for .* was importing a library"):
        await bridge.start(0.05)
    goes_on.set()
    assert await bridge.stop(5)


async def test_modules_that_are_imported_are_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = TrioThread(lambda _bridge: asyncio.sleep(0), lambda _error: None)
    before = bridge._progress()
    monkeypatch.setitem(sys.modules, "a_module_of_this_test", sys)
    assert bridge._progress() != before


async def test_a_thread_that_can_not_be_started_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    bridge = TrioThread(lambda _bridge: asyncio.sleep(0), lambda _error: None)
    with pytest.raises(RuntimeError):
        await bridge.start(5)
    # Nothing is waited for.
    assert await bridge.stop(0)


async def test_a_thread_that_ends_by_itself_is_an_error() -> None:
    async def main(bridge: TrioThread) -> None:
        bridge.ready()

    ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    bridge = TrioThread(main, ended.set_result)
    await bridge.start(5)
    async with asyncio.timeout(30):
        assert "ended by itself" in str(await ended)
    assert await bridge.stop(5)
