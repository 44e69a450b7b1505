"""Waiting for an event, or so long."""

import asyncio

import pytest

from swarm_hub.util.within import within


async def test_what_came_is_told_from_what_took_too_long() -> None:
    event = asyncio.Event()
    assert not await within(0.01, event.wait())
    event.set()
    assert await within(0.01, event.wait())


async def test_what_is_there_already_came_even_when_there_is_no_time_left() -> None:
    event = asyncio.Event()
    event.set()
    assert await within(-1, event.wait())


async def test_without_a_time_it_waits_until_it_comes() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await within(None, event.wait())


async def test_another_failure_and_a_cancellation_go_through() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await within(1, fail())
    waiting = asyncio.ensure_future(within(None, asyncio.Event().wait()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
